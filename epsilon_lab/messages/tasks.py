"""A unit of work and what becomes of it.

A task names *where* it runs (`lane`), *what* runs (`entry`) and *on what* (`payload`); nothing in it knows a topology.

There are hundreds of thousands of these at a time, none part of a cycle: the cyclic garbage collector, which would walk
over all of them again and again, is kept out (`gc=False`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from epsilon_lab.arguments import number, text, whole
from epsilon_lab.messages.values import Value

if TYPE_CHECKING:
    from epsilon_lab.messages.events import CaseFlagged, CasesAsked

Lane = Literal["process", "async"]
"""Who executes: `process`, a child process, one task at a time; `async`, the `lab-leaves` loop, many at once."""

TaskStatus = Literal["waiting", "queued", "running", "completed", "failed", "dead", "cancelled"]

AttemptOutcome = Literal["completed", "failed", "timeout", "memory", "crashed", "lost", "expired", "stale", "cancelled"]


class Event(msgspec.Struct, frozen=True, array_like=True):
    """One journal line in the making: what happened, and the facts."""

    type: str
    """`room.verb`, such as `usage.llm_call`; the types are listed in events/__init__.py."""

    body: dict[str, object]
    """JSON-able facts; their names are those of the struct of that type in events/."""


class Retry(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """Whether, and when, a failed attempt is made again; lost workers are counted apart.

    The wait is drawn evenly from 0 to `base_s` seconds after the first failure, twice as much after the second, and so
    on up to `cap_s` ("full jitter": M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), so that
    tasks that failed together do not come back together.

    Args:
        limit: Most failed attempts that are made again.
        base_s: Seconds, the longest wait after the first failure; 0 for none at all.
        cap_s: Seconds that no wait exceeds.
        final: Names of exception classes, without their modules, that another attempt cannot help; their subclasses
            too.

    Raises:
        InvalidInput: A field has a wrong type or value.
    """

    limit: int = 0
    base_s: float = 1.0
    cap_s: float = 60.0
    final: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "limit", whole("Retry limit", self.limit, least=0))
        for name in ("base_s", "cap_s"):
            msgspec.structs.force_setattr(self, name, number(f"Retry {name}", getattr(self, name), least=0))
        given: object = self.final
        names = given if isinstance(given, list | tuple) else (given,)
        msgspec.structs.force_setattr(self, "final", tuple(text("Retry final", name) for name in names))


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A unit of work, as submitted."""

    task_id: str
    kind: str
    """What it is for, in a word a reader of the tables understands: `item`, `propose`, `evaluate`, `brief`."""

    lane: Lane
    entry: str
    """`module:function` of epsilon_lab, called with (payload, leaf); or `code:<sha256>`, a pickled function in the
    run directory, called with (payload) alone."""

    payload: Value
    depends_on: tuple[str, ...] = ()
    priority: int = 0
    """Larger runs first; waiting makes up for it in time (`BrokerSettings.aging`)."""

    time_limit_s: float | None = None
    """Seconds from start to end of one attempt; its child process is killed then."""

    retry: Retry | None = None
    """Which failures are tried again, and when; None for none."""

    prefetch: bool = True
    """Whether it may wait in a worker's hands behind another task. False for work that may run to its time limit, so
    that nothing waits behind it while another worker is idle."""

    delay_s: float = 0.0
    """Seconds after its submission before which it is not begun."""

    start_within_s: float | None = None
    """Seconds from its submission to the start of its first attempt; after that it is not begun any more."""

    finish_within_s: float | None = None
    """Seconds from its submission to its end, all attempts and waits included; after that it is of no use."""

    beat_within_s: float | None = None
    """Seconds that an attempt may go on without a sign of progress (`Beat`, or a note)."""

    memory_mb: float | None = None
    """MiB of address space that an attempt may take on top of its worker's own; each process it starts has as much."""


class Assignment(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A task in a worker's hands."""

    run_id: str
    run_dir: str
    """Absolute path of the run directory on this machine."""

    task: TaskSpec
    attempt: int
    """1 for the first."""

    fence: int
    """Larger than that of any earlier assignment of any task; answers that carry an older one are stale."""

    env: dict[str, str] | None = None
    """Environment variables that the run's tasks were granted, which may be keys: they reach no disk."""

    def __repr__(self) -> str:
        return f"<Assignment of {self.task.task_id} of {self.run_id}, attempt {self.attempt}, fence {self.fence}>"


class Result(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A task done, as its worker reports it."""

    task_id: str
    run_id: str
    fence: int
    output: Value
    started_at: float
    """Wall seconds since the epoch, on the worker's clock."""

    ended_at: float
    events: tuple[Event, ...] = ()
    """Journal lines the leaf emitted; recorded together with the result."""

    files: str = ""
    """Reference of the files it made, `leaves/<task id>/<fence>`; empty where it made none."""

    further: tuple[Value, ...] = ()
    """Items of further tasks that it asked for, which count with the result."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """An attempt that gave no output."""

    task_id: str
    run_id: str
    fence: int
    outcome: AttemptOutcome
    error: str
    """One line: type and message."""

    traceback: str = ""
    stdout_tail: str = ""
    stderr_tail: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    retryable: bool = True
    events: tuple[Event, ...] = ()
    error_types: tuple[str, ...] = ()
    """Names of the exception's class and of its bases, without their modules."""


class TaskOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a submitter is told once a task is settled."""

    run_id: str
    task_id: str
    status: Literal["completed", "failed", "dead", "cancelled"]
    output: Value | None = None
    failure: Failure | None = None
    files: str = ""
    """Reference of the files that the accepted attempt made, `leaves/<task id>/<fence>`."""

    paths: tuple[str, ...] = ()
    """Which files these are, for rules that look into outputs."""

    further: tuple[Value, ...] = ()
    """Items of further tasks that the accepted attempt asked for."""

    flags: tuple[CaseFlagged | CasesAsked, ...] = ()
    """Cases that the accepted attempt flagged, as they are on record with its result."""
