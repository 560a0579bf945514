"""`lab.`, `worker.`: in the lab's own journal."""

from __future__ import annotations

from epsilon_lab.messages.events.body import Body


class LabOpened(Body, frozen=True, kw_only=True):
    """`lab.opened`: a new broker epoch."""

    epoch: int
    pid: int
    host: str
    born: int | None = None
    """When the process was started, in its system's ticks since boot: its id alone may be another's later."""

    torn: int = 0
    """Bytes of a group that was never committed, cut off the journal's end."""


class LabClosed(Body, frozen=True, kw_only=True):
    """`lab.closed`."""


class LabStalled(Body, frozen=True, kw_only=True):
    """`lab.stalled`: the broker could not take its turn; all deadlines moved by as much, so nothing expired of it."""

    by_s: float


class LabDisk(Body, frozen=True, kw_only=True):
    """`lab.disk`: the workspace's disk is nearly full, and nothing more is begun; or there is room again."""

    is_short: bool
    says: str = ""


class RunBorn(Body, frozen=True, kw_only=True):
    """`lab.run`: a run belongs to this workspace, so that its pickles are no stranger's."""

    run_id: str
    is_begun: bool = True
    """Whether the lab is at it; False for one that a kernel is about to hand over to its sidecar."""


class WorkerJoined(Body, frozen=True, kw_only=True):
    """`worker.joined`."""

    worker_id: str
    pid: int
    host: str
    slots: int
    lanes: tuple[str, ...] = ()


class WorkerLeft(Body, frozen=True, kw_only=True):
    """`worker.left`."""

    worker_id: str
    reason: str
