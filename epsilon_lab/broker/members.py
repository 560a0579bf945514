"""What the broker knows of runs, tasks and members: plain records that only the broker's rules change."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import msgspec

from epsilon_lab.broker.ledger import Ledger
from epsilon_lab.broker.stimuli import Abridge
from epsilon_lab.broker.timers import Timers
from epsilon_lab.broker.topics import Mailbox
from epsilon_lab.messages.events import LlmCall
from epsilon_lab.messages.frames import Hello
from epsilon_lab.messages.secrets import conceal
from epsilon_lab.messages.tasks import Failure, Result, TaskSpec


class Ask(NamedTuple):
    """A request to a model that has not been answered whether it may go out."""

    peer: str
    note_id: int
    call: LlmCall
    since: float


_TOLD = ("error", "traceback", "stdout_tail", "stderr_tail")
"""What a failure tells of what went on."""


class Run:
    """A run: which tasks are open or dead, how long its kinds of task take, what it has spent.

    `asks` holds, by the fence of the attempt, the requests that wait for the ledger's word, oldest first. `mailboxes`
    holds, by task, what was said to those that are open. `settled` and `settled_before` hold hashes of the tasks that
    were settled lately, by id, where it `remembers` them. `env` is what its tasks in child processes are granted.
    `abridge` says by which lines the cases go on record that its tasks flag.
    """

    __slots__ = (
        "abridge",
        "asks",
        "dead",
        "durations",
        "env",
        "ledger",
        "mailboxes",
        "remembers",
        "run_dir",
        "run_id",
        "settled",
        "settled_before",
        "tasks",
    )

    def __init__(
        self,
        run_id: str,
        run_dir: str,
        ledger: Ledger | None = None,
        *,
        remembers: bool = True,
        env: dict[str, str] | None = None,
        abridge: Abridge = tuple,
    ) -> None:
        self.run_id = run_id
        self.env = env or None
        self.abridge = abridge
        self.remembers = remembers
        self.run_dir = run_dir
        self.ledger = ledger or Ledger()
        self.asks: dict[int, Ask] = {}
        self.tasks: dict[str, Task] = {}
        self.dead: dict[str, Task] = {}
        self.settled: dict[str, int] = {}
        self.settled_before: dict[str, int] = {}
        self.mailboxes: dict[str, Mailbox] = {}
        self.durations: dict[str, float] = {}

    def is_held(self, task_id: str, fence: int) -> bool:
        """Tell whether that attempt at a task is still in a worker's hands."""
        task = self.tasks.get(task_id)
        return task is not None and task.holder is not None and task.fence == fence

    def concealing(self, failure: Failure) -> Failure:
        """A failure as it may be recorded: without the values that its task was granted."""
        if not self.env:
            return failure
        texts = {name: conceal(getattr(failure, name), self.env) for name in _TOLD}
        return msgspec.structs.replace(failure, **texts)

    def knows(self, spec: TaskSpec) -> bool | None:
        """Tell whether this very task was submitted before; None where another one was under its id."""
        task_id = spec.task_id
        task = self.tasks.get(task_id) or self.dead.get(task_id)
        if task is not None:
            return True if task.spec == spec else None
        known = self.settled.get(task_id) or self.settled_before.get(task_id)
        return False if known is None else (known == hash(spec) or None)

    def forget_settled(self) -> None:
        """Forget what had been settled when this was called last."""
        self.settled_before, self.settled = self.settled, {}

    def learn(self, kind: str, seconds: float) -> None:
        """Follow a kind's duration, quickly upwards and slowly downwards: a long task must not be queued behind."""
        seconds = max(0.0, seconds)
        known = self.durations.get(kind, seconds)
        self.durations[kind] = known + (seconds - known) * (0.5 if seconds > known else 0.1)


class Task(msgspec.Struct, eq=False, gc=False):
    """An open task: queued while `holder` is None, or put off until `wake_at` where that is not None.

    `submitted`, `start_by` and `finish_by` are seconds on the clock of `now`; the latter None where there is no such
    limit, or not any more. There are hundreds of thousands of these, so the cyclic garbage collector is kept out: who
    forgets a task takes it from its run, and from its holder's line.
    """

    run: Run
    spec: TaskSpec
    ticket: int
    submitted: float
    priority: int
    start_by: float | None
    finish_by: float | None
    wake_at: float | None = None
    is_suspect: bool = False
    """Whether one more loss makes it a dead letter: then it is executed with nothing beside or behind it."""

    attempt: int = 0
    lost: int = 0
    failed: int = 0
    fence: int = 0
    holder: Member | None = None

    @classmethod
    def of(cls, spec: TaskSpec, run: Run, ticket: int, submitted: float) -> Task:
        """A task as it was submitted."""
        start_within_s, finish_within_s = spec.start_within_s, spec.finish_within_s
        return cls(
            run,
            spec,
            ticket,
            submitted,
            spec.priority,
            None if start_within_s is None else submitted + start_within_s,
            None if finish_within_s is None else submitted + finish_within_s,
        )

    @property
    def expires(self) -> float | None:
        """When it is not to be begun any more; None for never."""
        if self.start_by is None or self.finish_by is None:
            return self.finish_by if self.start_by is None else self.start_by
        return min(self.start_by, self.finish_by)


class Held(msgspec.Struct, eq=False, gc=False):
    """A place in a member's line. It outlives its task where the member is still busy with what was given up."""

    task: Task | None
    estimate: float
    started: float | None = None
    beat: float | None = None
    """When the attempt last showed progress."""

    asked_back: tuple[float, str] | None = None
    """Since when its member is to give the task back unless it has begun it, and why."""

    @property
    def over_at(self) -> float | None:
        """When its attempt exceeds a limit of its own; None where it has none, or was given up."""
        if self.task is None or self.started is None:
            return None
        spec = self.task.spec
        over = None if spec.time_limit_s is None else self.started + spec.time_limit_s
        if spec.beat_within_s is not None:
            silent = max(self.started, self.beat or self.started) + spec.beat_within_s
            over = silent if over is None else min(over, silent)
        return over


class Claim(NamedTuple):
    """An attempt that a worker has in its hands, of a run that is not open yet, and its answer once there is one."""

    run_id: str
    task_id: str
    answer: Result | Failure | None = None


class Member:
    """A peer that said hello, and its line of work by fence, oldest first.

    Args:
        peer: Its id.
        hello: What it said of itself.
        now: Seconds.
        limits: Where to note when an attempt exceeds a limit of its own.
    """

    __slots__ = (
        "_limits",
        "away",
        "backlog",
        "claims",
        "heard",
        "held",
        "hello",
        "is_wide",
        "killed_at",
        "peer",
        "slots",
    )

    def __init__(self, peer: str, hello: Hello, now: float, limits: Timers[Held]) -> None:
        self.peer = peer
        self._limits = limits
        self.greet(hello)
        self.heard = now
        self.held: dict[int, Held] = {}
        self.backlog = 0.0
        self.away = False
        self.killed_at: float | None = None

    def greet(self, hello: Hello) -> None:
        """Take in what it says of itself."""
        self.hello = hello
        self.claims: dict[int, Claim] = {}
        """By fence, what it brought from an earlier broker, of runs that nobody has opened here yet."""

        self.slots = hello.slots
        self.is_wide = hello.slots > 1 or "async" in hello.lanes
        """Whether it works on many tasks at once, each of which it can stop alone."""

    @property
    def row(self) -> WorkerRow:
        """How a table shows it."""
        hello = self.hello
        return WorkerRow(
            worker_id=self.peer,
            pid=hello.pid,
            host=hello.host,
            slots=hello.slots,
            running=min(len(self.held), hello.slots),
            last_seen=self.heard,
        )

    def started(self) -> list[tuple[int, Held]]:
        """The places it works on, as far as anyone can know."""
        return list(islice(self.held.items(), self.slots))

    def mark_started(self, now: float) -> None:
        """Note since when its first places are worked on."""
        for held in islice(self.held.values(), self.slots):
            if held.started is None:
                held.started = now
                if held.task is not None:
                    held.task.start_by = None
                    if (over_at := held.over_at) is not None:
                        self._limits.set(held.task.fence, over_at, held)

    def hold(self, task: Task, estimate: float) -> None:
        """Put a task, under its fence, at the end of its line."""
        self.held[task.fence] = Held(task, estimate)
        self.backlog += estimate

    def reserve(self, fence: int) -> None:
        """Keep a place for what it has in hand and nobody wants, until it says that it is free of it (`give_up`)."""
        if not self.is_wide:
            self.held[fence] = Held(None, 0.0)

    def drop(self, fence: int) -> None:
        """Take a place out of its line; when all of them are out, `mark_started` says what is worked on from then."""
        held = self.held.pop(fence)
        self._limits.forget(fence)
        self.backlog = self.backlog - held.estimate if self.held else 0.0

    def give_up(self, fence: int, now: float) -> None:
        """Take the task of a place away.

        The place stays until the member says that it is free of it, since it may have begun the task when word of this
        reaches it: a process that is believed idle while it hangs would keep whatever it is given next. A member that
        can stop each of its tasks is free of it at once.
        """
        if self.is_wide:
            self.drop(fence)
            self.mark_started(now)
            return
        held = self.held[fence]
        held.task = None
        held.started = None if held.started is None else now
        self._limits.forget(fence)

    @property
    def given_up_since(self) -> float | None:
        """Since when it may be busy with nothing but what was given up; who stops each task alone never is."""
        if self.is_wide:
            return None
        return next((held.started for _, held in self.started() if held.task is None), None)


class WorkerRow(NamedTuple):
    """Who is at work, as a table shows it."""

    worker_id: str
    pid: int
    host: str
    slots: int
    running: int
    last_seen: float
    """Seconds, on the clock of `now`."""


class Session:
    """A supervisor and its members: one lease.

    `draining` says that it gets nothing more, `drained` that it was told it may go.
    """

    __slots__ = ("drained", "draining", "heard", "members")

    def __init__(self, now: float) -> None:
        self.heard = now
        self.draining = False
        self.drained = False
        self.members: dict[str, Member] = {}
