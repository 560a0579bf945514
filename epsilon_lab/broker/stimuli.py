"""What can happen to the broker, and what it can want done about it: the two sides of `BrokerState.step`, as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from epsilon_lab.broker.ledger import Ledger
from epsilon_lab.messages.events import Body, CaseFlagged, CasesAsked
from epsilon_lab.messages.frames import Fetch, Keep, ToBroker, ToPeer
from epsilon_lab.messages.post import Message
from epsilon_lab.messages.tasks import Event, TaskOutcome, TaskSpec

Abridge = Callable[[Sequence[CaseFlagged]], tuple[CaseFlagged | CasesAsked, ...]]
"""Says by which lines the cases that a task flags go on record, where some are there already."""


class _Stimulus(msgspec.Struct, frozen=True):
    """Something happened."""


class OpenTask(msgspec.Struct, frozen=True):
    """A task on record that was never settled, with what it has behind it."""

    spec: TaskSpec
    attempt: int = 0
    """Attempts so far; the next one is one more."""

    lost: int = 0
    """Workers it took down with it."""

    failed: int = 0
    """Failures of its own."""

    age_s: float = 0.0
    """Seconds since its submission, while someone was at the run."""

    delay_s: float = 0.0
    """Seconds from now before which it is not begun."""

    worker_id: str = ""
    """Who was given it last; empty for nobody."""

    fence: int = 0
    """Of that assignment; 0 where it has ended, or there was none."""

    priority: int | None = None
    """As someone set it since its submission; None where nobody did."""

    messages: tuple[Message, ...] = ()
    """What was said to it."""


class OpenRun(_Stimulus, frozen=True):
    """Tasks of this run will come; those that another broker left are queued at once, and not recorded again."""

    run_id: str
    run_dir: str
    tasks: tuple[OpenTask, ...] = ()
    epoch: int = 0
    """The largest that any broker of this run had; from now on this broker's is larger."""
    ledger: Ledger | None = None
    """What it has spent and may spend; None for a new run without a budget. It is the broker's from now on."""
    weight: float = 1.0
    """How many turns it gets for one of a run of weight 1."""
    dead: tuple[OpenTask, ...] = ()
    """Its dead letters, which can be requeued."""
    remembers: bool = True
    """Whether ids of settled tasks are remembered; not where its submitter never submits one twice."""
    env: dict[str, str] = {}
    """Environment variables that its tasks in child processes are granted."""
    abridge: Abridge = tuple


class Submit(_Stimulus, frozen=True):
    """Tasks to be executed; all of them are taken, or none. A task that was submitted before, just so, is not taken
    again, but answered again. Answered by `Accepted`.
    """

    run_id: str
    tasks: tuple[TaskSpec, ...]


class DrainSession(_Stimulus, frozen=True):
    """Give a session nothing more; what it has begun, it finishes, and then it may go."""

    session: str


class CancelTasks(_Stimulus, frozen=True):
    """These tasks (None: all of the run) are no longer wanted; settled ones are passed over."""

    run_id: str
    task_ids: tuple[str, ...] | None
    reason: str


class Reprioritise(_Stimulus, frozen=True):
    """Someone puts a task before or behind others of its run; one that is settled or unknown is passed over."""

    run_id: str
    task_id: str
    priority: int


class Requeue(_Stimulus, frozen=True):
    """Dead tasks are to be tried again, with nothing behind them; all of them, or none."""

    run_id: str
    task_ids: tuple[str, ...]


class PauseRun(_Stimulus, frozen=True):
    """Assign nothing more of this run; what is assigned, finishes."""

    run_id: str


class ResumeRun(_Stimulus, frozen=True):
    """Assign tasks of this run again."""

    run_id: str


class CloseBudget(_Stimulus, frozen=True):
    """Admit no more requests of this run to models; what is in flight is finished."""

    run_id: str
    reason: str


class CloseRun(_Stimulus, frozen=True):
    """Forget this run; what it still has is given up without a record."""

    run_id: str


class RestoreTopics(_Stimulus, frozen=True):
    """An earlier broker of this lab had these topics, and this was last said on them."""

    last: dict[str, Message]


class Received(_Stimulus, frozen=True):
    """A peer said something."""

    peer: str
    message: ToBroker


class Undelivered(_Stimulus, frozen=True):
    """A message was not sent."""

    peer: str
    message: ToPeer
    is_gone: bool = True
    """Because its peer is not connected, or takes no more."""


class Assign(_Stimulus, frozen=True):
    """A turn is over: hand out what is ready, one batch a member."""


class Tick(_Stimulus, frozen=True):
    """Look at who was silent for too long, and at whatever else time alone brings about."""


class Due(_Stimulus, frozen=True):
    """A limit or a deadline of a task has passed (`BrokerState.due_at`); a `Tick` sees to these as well."""


class DiskShort(_Stimulus, frozen=True):
    """The disk is nearly full, or has room again: while it is, what is assigned finishes, and nothing more is begun."""

    is_short: bool


class Stalled(_Stimulus, frozen=True):
    """The broker itself was late by so many seconds."""

    by: float


Stimulus = (
    OpenRun
    | Submit
    | CancelTasks
    | Reprioritise
    | Requeue
    | DrainSession
    | PauseRun
    | ResumeRun
    | CloseBudget
    | CloseRun
    | RestoreTopics
    | Received
    | Undelivered
    | Assign
    | Tick
    | Due
    | DiskShort
    | Stalled
)


class Send(msgspec.Struct, frozen=True):
    """Send this once everything recorded so far is as safe as durability says."""

    peer: str
    message: ToPeer
    run_id: str | None = None
    """The run whose records this acknowledges; `Tasks` name their runs themselves."""

    is_promise: bool = False
    """Whether somebody waits for just this word: it is kept back for the lab's own records where it names no run, and
    is a `Denied` where they cannot be written."""


class Record(msgspec.Struct, frozen=True):
    """Put this into a run's journal (None: the lab's)."""

    run_id: str | None
    body: Body | Event


class Abandon(msgspec.Struct, frozen=True):
    """Let go of a run that cannot go on here, once what is known of it is recorded; it can be resumed."""

    run_id: str
    reason: str


class Settle(msgspec.Struct, frozen=True, gc=False):
    """Tell the submitter, once it is recorded."""

    outcome: TaskOutcome


class Serve(msgspec.Struct, frozen=True):
    """Read or write a part of a file of a run, and answer the peer that asked; it may."""

    peer: str
    run_dir: str
    request: Fetch | Keep


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What a submitter is told of a task that was taken."""

    task_id: str
    position: int | None
    """Tasks of its lane that are ahead of it, at most: its priority and its run's turns may bring it forward. None
    where it does not stand in the queue: put off, in a worker's hands, or settled."""

    starts_in_s: float | None
    """Seconds until it may be begun, by what tasks of its kind took so far; None where nobody knows."""


class Accepted(msgspec.Struct, frozen=True):
    """A submission was taken, and is safe once what was recorded so far is."""

    receipts: tuple[Receipt, ...]


Effect = Send | Record | Settle | Abandon | Accepted | Serve
