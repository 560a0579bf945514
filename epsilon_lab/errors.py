"""What can go wrong, as one tree, so that a caller can catch exactly as much as it means to.

Every message says what happened, to which id, and what to do next; the fields a program may want stay attributes.

    LabError
    ├── InvalidInput        a value was refused before anything was spent (also a ValueError)
    │   └── NoSuchCase          a run has no case of that id
    ├── NoSuchArtifact      a run has no file of that path (also a KeyError)
    ├── WorkspaceError      a directory cannot be used as asked
    │   ├── WorkspaceLocked     another process holds it
    │   ├── DiskFull            there is no room for a file of a run
    │   └── JournalDamaged      a journal is broken elsewhere than at its torn tail
    ├── QueueFull           the broker takes no more tasks for now; nothing was taken
    ├── SidecarLost         the process that does a lab's work has ended
    ├── BadFrame            bytes from a peer are not a message of this protocol
    ├── RunFailed           a run ended without an output
    ├── LeafFailed          a leaf says why it failed, in words meant for the row
    │   ├── ProposalFailed      a proposer gave no program
    │   ├── ModelRefused        a model cannot be used at all: a wrong key, an unknown name, an empty account
    │   ├── AgentExhausted      an agent used up its steps, tokens or seconds without an output
    │   ├── BudgetExhausted     the run's budget does not admit another request to a model
    │   └── ReplayMismatch      a recorded reply does not belong to this call
    └── Cheat               raised by a scorer: the output is an attempt to cheat
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from itertools import islice


class LabError(Exception):
    """Base of everything epsilon_lab raises on purpose."""


class InvalidInput(LabError, ValueError):
    """A value was refused before anything was spent.

    Attributes:
        what: The argument or field that was refused.
    """

    def __init__(self, what: str, problem: str, remedy: str = "") -> None:
        self.what = what
        joint = "\n" if "\n" in problem else "; "  # a database's message ends with a pointer into the query
        super().__init__(f"{what}: {problem}" + (joint + remedy if remedy else ""))


class NoSuchCase(InvalidInput):
    """A run has no case of that id; the message names some that it has."""

    def __init__(self, run_id: str, case_id: str, known: Iterable[str]) -> None:
        some = list(islice(known, 4))
        told = ", ".join(some[:3]) + " ..." * (len(some) > 3)
        super().__init__(f"case {case_id!r}", f"is not in run {run_id}", f"it has {told or 'none'}")


class NoSuchArtifact(LabError, KeyError):
    """A run has no file of that path on record.

    Attributes:
        path: What was asked for.
    """

    def __init__(self, run_id: str, path: str, like: tuple[str, ...]) -> None:
        self.path = path
        close = f"; close to it are {', '.join(map(repr, like))}" if like else ""
        super().__init__(f"run {run_id} has no artifact {path}{close}")

    __str__ = Exception.__str__  # a KeyError's would quote the sentence


class WorkspaceError(LabError):
    """A directory cannot be used as asked."""


class WorkspaceLocked(WorkspaceError):
    """Another process holds the workspace.

    Attributes:
        path: The workspace.
        pid: The holder's process id, as far as the lock file says.
        host: The holder's host name.
    """

    def __init__(
        self,
        path: str,
        pid: int | None,
        host: str | None,
        *,
        is_gone: bool = False,
        is_sidecar: bool = False,
        for_s: float | None = None,
    ) -> None:
        self.path, self.pid, self.host = path, pid, host
        holder = f"process {pid} on {host}" if pid is not None else "another process"
        if is_gone:
            what = f"is held by workers of {holder}, which is gone; end what it left (as `ps` shows)"
        elif is_sidecar:
            what = (
                f"has a sidecar, {holder}; attach to it: Lab({path!r}, broker='sidecar'), "
                f"or end it: python -m epsilon_lab broker {shlex.quote(path)} --stop"
            )
        else:
            what = f"is open in {holder}; close it there"
            if for_s is not None:
                what += f", or wait {for_s:.0f} s, if that process is known to be gone"
        super().__init__(f"workspace {path!r} {what}, or look on without a lock: Lab({path!r}, read_only=True)")


class JournalDamaged(WorkspaceError):
    """A journal is broken elsewhere than at its torn tail; nothing was changed.

    Attributes:
        path: The journal.
        offset: Byte offset of the damage.
    """

    def __init__(self, path: str, offset: int, problem: str) -> None:
        self.path, self.offset = path, offset
        super().__init__(
            f"journal {path} is damaged at byte {offset}: {problem}; "
            f"nothing was changed. Restore the file from a copy, or move the run directory out of the workspace"
        )


class DiskFull(WorkspaceError):
    """A worker found no room for a file of its run: nobody's failure, so the run is interrupted and can be resumed."""


class QueueFull(LabError):
    """The broker takes no more tasks for now; none of the submission was taken.

    Attributes:
        tasks: How many more it would take.
        payload_bytes: How many more bytes of payload it would take.
    """

    def __init__(self, what: str, *, tasks: int, payload_bytes: int) -> None:
        self.tasks, self.payload_bytes = tasks, payload_bytes
        super().__init__(
            f"{what} not taken: the broker has room for {tasks:,} more tasks and {payload_bytes:,} more bytes of "
            f"payload; submit fewer, wait until some are done, or raise EPSILON_QUEUE_TASKS or EPSILON_QUEUE_BYTES"
        )


class SidecarLost(LabError):
    """The process that does a lab's work has ended, or cannot be reached.

    Attributes:
        path: The workspace.
        pid: The process.
    """

    def __init__(self, path: str, pid: int | None) -> None:
        self.path, self.pid = path, pid
        super().__init__(
            f"the sidecar of workspace {path!r}, process {pid}, has ended (lab/sidecar.log says what it said); "
            f"what it had acknowledged is on disk: open Lab({path!r}, broker='sidecar') again, "
            f"and lab.resume(...) what is interrupted"
        )


class BadFrame(LabError):
    """Bytes from a peer are not a message of this protocol."""


class RunFailed(LabError):
    """A run ended without an output.

    Attributes:
        run_id: The run.
        status: The run's final status.
        reason: Why, in one sentence.
    """

    def __init__(self, run_id: str, status: str, reason: str) -> None:
        self.run_id, self.status, self.reason = run_id, status, reason
        super().__init__(f"run {run_id} {status}: {reason}")


class UpToDate(LabError):
    """A run has nothing to do again: it goes by what is decided."""


class LeafFailed(LabError):
    """A leaf says why it failed, in words meant for the row."""


class ProposalFailed(LeafFailed):
    """A proposer gave no program; the candidate's row says why."""


class ModelRefused(LeafFailed):
    """A model cannot be used at all, whatever it is asked; the run whose work needs it ends.

    Attributes:
        PREFIX: What its message begins with, by which it is known where only the message has travelled.
    """

    PREFIX = "model refused: "


class AgentExhausted(LeafFailed):
    """An agent used up one of its own budgets and gave no output.

    Attributes:
        budget: `steps`, `tokens` or `seconds`.
    """

    def __init__(self, budget: str, problem: str) -> None:
        self.budget = budget
        super().__init__(f"agent budget of {budget}: {problem}; raise {budget}=, or ask for less at once")


class BudgetExhausted(LeafFailed):
    """The run's budget does not admit another request to a model; nothing was sent.

    Attributes:
        PREFIX: What its message begins with, by which it is known where only the message has travelled.
    """

    PREFIX = "budget: "


class ReplayMismatch(LeafFailed):
    """A recorded reply does not belong to this candidate, call and prompt; the run that plays it ends.

    Attributes:
        PREFIX: What its message begins with, by which it is known where only the message has travelled.
    """

    PREFIX = "replay: "


def ends_run(message: str) -> bool:
    """Tell from a leaf's words whether any other leaf of its run would fail in the same way."""
    return message.startswith((ModelRefused.PREFIX, ReplayMismatch.PREFIX))


class Cheat(LabError):
    """Raise this in a scorer when the output is an attempt to cheat: the candidate's outcome becomes `cheat`."""
