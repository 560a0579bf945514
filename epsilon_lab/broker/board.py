"""What the broker knows, laid open before its rules, and what the step under way has brought about so far.

One board, many rules: each file of rules changes it for one noun (submissions, membership, attempts ...), and what all
of them do, in one manner, is done here. Nothing here decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from epsilon_lab.broker.lines import Lines
from epsilon_lab.broker.members import Held, Member, Run, Session, Task
from epsilon_lab.broker.post import Post
from epsilon_lab.broker.queue import ReadyQueue
from epsilon_lab.broker.stats import Counts
from epsilon_lab.broker.stimuli import Effect, Record, Send, Settle
from epsilon_lab.broker.timers import Timers
from epsilon_lab.messages.events import Body, CaseFlagged, CasesAsked
from epsilon_lab.messages.frames import ToPeer
from epsilon_lab.messages.tasks import Event, Failure, Result, TaskOutcome, TaskSpec
from epsilon_lab.settings import BrokerSettings

FENCE_BITS = 40
"""A fence is `epoch << FENCE_BITS | counter`: a later broker's are larger than all of an earlier one's."""

Final = Literal["completed", "failed", "dead", "cancelled"]
"""What a settled task is."""


class Room(NamedTuple):
    """What a broker would still take."""

    tasks: int
    payload_bytes: int


class Board:
    """All that the broker knows.

    Args:
        settings: What the rules are tuned by.
        epoch: Larger than that of any broker that knew these runs before.

    Attributes:
        settings: As given.
        epoch: The highest part of its fences; it grows where a run is opened that has seen a larger one.
        queue: What is ready.
        delayed: Tasks put off, by ticket, at the time when they are queued.
        deadlines: Tasks with a deadline, by ticket.
        limits: Attempts under way that have a limit of their own, by fence.
        post: What agents said, and who waits to hear it.
        runs: Open runs, by id.
        opened: Those that were opened since tasks were last handed out.
        sessions: Supervisors and their members, by session.
        tasks: How many tasks are open.
        payload_bytes: What their payloads weigh.
        counts: What happened so far, in numbers.
        is_disk_short: Whether nothing more is begun, for want of room to record it.
        forgot_at: When ids of settled tasks were last let go.
        effects: What follows from the step under way.
    """

    __slots__ = (
        "_counter",
        "_tickets",
        "counts",
        "deadlines",
        "delayed",
        "effects",
        "epoch",
        "forgot_at",
        "is_disk_short",
        "limits",
        "opened",
        "payload_bytes",
        "post",
        "queue",
        "runs",
        "sessions",
        "settings",
        "tasks",
    )

    def __init__(self, settings: BrokerSettings, epoch: int) -> None:
        self.settings = settings
        self.epoch = epoch
        self.queue: ReadyQueue[Task] = ReadyQueue()
        self.delayed: Timers[Task] = Timers()
        self.deadlines: Timers[Task] = Timers()
        self.limits: Timers[Held] = Timers()
        self.post = Post()
        self.runs: dict[str, Run] = {}
        self.opened: list[Run] = []
        self.sessions: dict[str, Session] = {}
        self.effects: list[Effect] = []
        self.tasks = 0
        self.payload_bytes = 0
        self.counts = Counts()
        self.forgot_at = 0.0
        self.is_disk_short = False
        self._counter = 0
        self._tickets = 0

    @property
    def room(self) -> Room:
        """What may still be submitted."""
        if self.is_disk_short:
            return Room(0, 0)
        settings = self.settings
        return Room(max(0, settings.queue_tasks - self.tasks), max(0, settings.queue_bytes - self.payload_bytes))

    def members(self) -> Iterable[Member]:
        """All who said hello, supervisors too."""
        for session in self.sessions.values():
            yield from session.members.values()

    def member(self, peer: str) -> Member | None:
        """Who goes by this peer id; None where nobody does."""
        session = self.sessions.get(peer.partition("/")[0])
        return session.members.get(peer) if session is not None else None

    def next_fence(self) -> int:
        """A number larger than any before it."""
        self._counter += 1
        return self.epoch << FENCE_BITS | self._counter

    def take(self, run: Run, spec: TaskSpec, submitted: float) -> Task:
        """Let a new task into its run; it is not queued yet."""
        self.tasks += 1
        self.payload_bytes += len(spec.payload.data)
        self._tickets += 1
        task = run.tasks[spec.task_id] = Task.of(spec, run, self._tickets, submitted)
        if (expires := task.expires) is not None:
            self.deadlines.set(task.ticket, expires, task)
        return task

    def enqueue(self, task: Task) -> None:
        """Put a task into the queue, at its old place if it had one."""
        spec = task.spec
        task.holder = task.wake_at = None
        rank = self.settings.aging * task.submitted - task.priority
        self.queue.push(task, lane=spec.lane, run_id=task.run.run_id, rank=rank, ticket=task.ticket)

    def put_off(self, task: Task, until: float) -> None:
        """Keep a task out of the queue until then."""
        task.holder = None
        task.wake_at = until
        self.delayed.set(task.ticket, until, task)

    def forget(self, task: Task) -> None:
        """Let a task that is in nobody's hands leave memory."""
        del task.run.tasks[task.spec.task_id]
        self.tasks -= 1
        self.payload_bytes -= len(task.spec.payload.data)
        self.deadlines.forget(task.ticket)

    def withdraw(self, task: Task) -> None:
        """Take a task that nobody holds out of the queue, or from among what was put off."""
        if task.wake_at is None:
            self.queue.discard(task.ticket, lane=task.spec.lane)
        else:
            self.delayed.forget(task.ticket)

    def send(self, peer: str, message: ToPeer, run_id: str | None = None, *, is_promise: bool = False) -> None:
        """Say something to a peer; `run_id` names the run whose records it acknowledges."""
        self.effects.append(Send(peer, message, run_id, is_promise))

    def record(self, run_id: str | None, body: Body | Event) -> None:
        """Put a line into a run's journal (None: the lab's)."""
        self.effects.append(Record(run_id, body))

    def record_lines(self, lines: Lines, reason: str = "") -> None:
        """Put what became of tasks into the journals of the runs that are still open."""
        for run_id, body in lines.records(reason):
            if run_id in self.runs:
                self.record(run_id, body)

    def settle(
        self,
        task: Task,
        status: Final,
        *,
        result: Result | None = None,
        failure: Failure | None = None,
        flags: tuple[CaseFlagged | CasesAsked, ...] = (),
    ) -> None:
        """Forget a task and tell its submitter."""
        run_id, task_id = task.run.run_id, task.spec.task_id
        self.forget(task)
        if (box := task.run.mailboxes.pop(task_id, None)) is not None:
            self.post.close(self, box)
        if status == "dead":
            task.run.dead[task_id] = task
            task.holder = None
        elif task.run.remembers:
            task.run.settled[task_id] = hash(task.spec)
        self.counts.settled[status] += 1
        outcome = TaskOutcome(
            run_id=run_id,
            task_id=task_id,
            status=status,
            output=None if result is None else result.output,
            failure=failure,
            files="" if result is None else result.files,
            further=() if result is None else result.further,
            flags=flags,
        )
        self.effects.append(Settle(outcome))
