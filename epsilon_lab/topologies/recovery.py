"""From a run's journal back to its state: what resuming a run means.

Rules are deterministic in the order of their stimuli, and that order is on record: what became of tasks in the lines
`task.completed` and `task.failed`, what people said in lines of their own. So the recorded stimuli are put to fresh
rules once more, and the lines they give are held against those that follow: the same from first to last, or nothing is
resumed. What the rules give beyond the last line is what the crash cut off between a stimulus and its consequences;
it is carried out now. Nothing that was settled is executed again.

What people say about a run's cases may be put on record while nobody is at the run, so wherever its last lab was cut
off; such lines are taken in as they stand, and what they mean to the rules is carried out in its turn.

What the rules submit, a full broker may take in parts, and later than the lines that follow; so what is submitted has
to be what the rules gave, but the moment is the broker's. What it had not taken is submitted when the run is resumed.

A task that was submitted and not settled goes back to the broker with what it has behind it: its attempts, the workers
it took down, its own failures; dead letters do too, since they can be requeued. The attempt that was under way when the
lab ended is lost and counts as an attempt, but neither as a failure nor against the poison limit: the lab's end is
nobody's fault. A worker that outlived the lab goes on with it.

The run's own clock is read off the lines. Between a lab's last line and the `run.adopted` of the next one nobody was at
the run, and that time does not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from epsilon_lab.broker.board import FENCE_BITS
from epsilon_lab.broker.ledger import Ledger
from epsilon_lab.broker.stimuli import OpenTask
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.cases import Finalise
from epsilon_lab.messages.events import (
    BODIES,
    OF_CASES,
    TYPES,
    ArtifactSaved,
    Body,
    CaseFlagged,
    CasesAsked,
    CaseWithdrawn,
    FailedLine,
    MessagesSent,
    RunEnded,
    RunExhausted,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopping,
    TaskPrioritised,
    TasksAdopted,
    TasksAssigned,
    TasksCancelled,
    TasksCompleted,
    TasksExpired,
    TasksFailed,
    TasksReleased,
    TasksRequeued,
    TasksSubmitted,
    TasksWaiting,
    message_of,
    task_line,
    task_spec,
)
from epsilon_lab.messages.post import Message
from epsilon_lab.messages.tasks import Failure, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import restored
from epsilon_lab.topologies.divergence import difference, plain
from epsilon_lab.topologies.engine import (
    CloseBudget,
    End,
    EngineEffect,
    Exhaust,
    Hold,
    Pause,
    Reprioritise,
    Resume,
    RunState,
    Settled,
    Start,
    Stimulus,
    Stop,
    Submit,
    Tell,
)
from epsilon_lab.topologies.plan import Cancel, Copy, Deliver, Emit, Plan, Prioritise, Requeue, Revise, Write, unheard
from epsilon_lab.workspace.journal import Record

_LOSSES = ("crashed", "lost", "expired")
"""Outcomes of attempts that took their worker down, or went down with it."""


@dataclass
class Recovered:
    """A run as it stood when its lab ended."""

    state: RunState
    ledger: Ledger = field(default_factory=Ledger)
    """What it has spent, and may spend."""

    effects: list[EngineEffect] = field(default_factory=list)
    """What followed from the last stimuli on record and is not on record itself; to be carried out, in order."""

    deliveries: list[EngineEffect] = field(default_factory=list)
    """Verdicts for other runs that may have been delivered; to be delivered again."""

    files: dict[str, Write | Copy] = field(default_factory=dict)
    """Files of the run directory as the rules last wrote them, by reference."""

    artifacts: dict[str, tuple[int, ArtifactSaved]] = field(default_factory=dict)
    """The last line about each file, and its number, by reference."""

    left: dict[str, OpenTask] = field(default_factory=dict)
    """Tasks on record that were never settled, by id, in the order of their submission."""

    dead: dict[str, OpenTask] = field(default_factory=dict)
    """Dead letters, by id."""

    epoch: int = 0
    """The largest of any broker that was at this run."""

    elapsed_s: float = 0.0
    """Seconds on the run's own clock, pauses included."""

    @classmethod
    def new(cls, run_id: str, plan: Plan, budget: Budget | None = None) -> Recovered:
        """A run that nobody was at."""
        return cls(RunState(run_id, plan, None if budget is None else budget.seconds), Ledger(budget))

    def tell(self, news: Requeue | Revise | Finalise) -> None:
        """Take tasks up again, also where the run was over.

        Raises:
            UpToDate: It was to be finalised, and nothing is decided otherwise than it went by.
            LabError: Its rules have no use for that.
        """
        more = self.state.step(Tell(news), self.elapsed_s)
        if not more:
            raise unheard(self.state.run_id, news)
        self.effects = [*(effect for effect in self.effects if not isinstance(effect, End)), *more]


def beginning(run_id: str, records: Sequence[Record], *, over: bool = False) -> RunStarted:
    """Find how a run began that can be resumed.

    Args:
        run_id: The run.
        records: All of its journal.
        over: Also one that has ended.

    Raises:
        InvalidInput: It never began, or it has ended.
    """
    started = next((record for record in records if record.type == "run.started"), None)
    if started is None:
        raise InvalidInput(f"run {run_id}", "cannot be resumed: nothing of it is on record", "start it anew")
    turns = (record for record in reversed(records) if record.type in ("run.ended", "task.requeued", "task.revised"))
    ended = next(turns, None)
    if ended is not None and ended.type == "run.ended" and not over:
        last = msgspec.json.decode(ended.body, type=RunEnded)
        raise InvalidInput(
            f"run {run_id}",
            f"is {last.status} ({last.reason}), and there is nothing left of it to resume",
            "its results are where they were; start a new run to go further",
        )
    return msgspec.json.decode(started.body, type=RunStarted)


def recover(
    run_id: str,
    plan: Plan,
    records: Sequence[Record],
    *,
    read: Callable[[TaskOutcome], TaskOutcome] = lambda outcome: outcome,
) -> Recovered:
    """Put what is on record to fresh rules.

    Args:
        run_id: The run.
        plan: Its rules, as they were before it began.
        records: Its journal, without an end.
        read: Takes an output back from the disk, for rules that look into outputs.

    Raises:
        LabError: The rules give other lines than those on record; the message names the first that differs.
    """
    recovery = _Recovery(run_id, plan, read)
    recovery.take(records)
    return recovery.recovered()


class _Open:
    """A task on record that is not settled so far; times are on the run's own clock."""

    __slots__ = (
        "attempt", "delayed_until", "failed", "fence", "lost", "messages", "priority", "spec", "submitted", "worker_id"
    )  # fmt: skip

    def __init__(self, spec: TaskSpec, now: float, priority: int | None = None) -> None:
        self.spec, self.priority = spec, priority
        self.submitted, self.delayed_until = now, now + spec.delay_s
        self.attempt = self.lost = self.failed = self.fence = 0
        self.worker_id = ""
        self.messages: tuple[Message, ...] = ()

    def release(self) -> None:
        """Take it out of its worker's hands."""
        self.worker_id, self.fence = "", 0

    def left(self, now: float) -> OpenTask:
        """The task as a broker is given it."""
        return OpenTask(
            self.spec,
            attempt=self.attempt,
            lost=self.lost,
            failed=self.failed,
            age_s=now - self.submitted,
            delay_s=max(0.0, self.delayed_until - now),
            worker_id=self.worker_id,
            fence=self.fence,
            priority=self.priority,
            messages=self.messages,
        )


class _Recovery:
    """One pass over a journal; most lines are about tasks, a few each, so these are what it is quick with."""

    def __init__(self, run_id: str, plan: Plan, read: Callable[[TaskOutcome], TaskOutcome]) -> None:
        self._run_id = run_id
        self._plan = plan
        self._read = read if plan.reads_outputs else None
        self._found = Recovered.new(run_id, plan)
        self._open: dict[str, _Open] = {}
        self._pending: deque[EngineEffect] = deque()
        """What the rules gave, as far as it was not met in the journal yet."""

        self._untaken: dict[str, TaskSpec] = {}
        """What the rules have submitted, as far as the broker had not taken it."""

        self._raised: dict[str, int] = {}
        """Priorities that people gave to such tasks."""

        self._flags: dict[str, list[CaseFlagged | CasesAsked]] = {}
        """Cases that tasks have flagged whose results come next."""

        self._last_ts: float | None = None
        self._takes: dict[str, Callable[[Any, Record], None]] = {
            "run.started": self._begin,
            "run.adopted": lambda body, _: self._saw_epoch(body.epoch),
            "usage.llm_call": lambda body, _: self._found.ledger.take(body),
            "artifact.saved": self._keep_artifact,
            "message.sent": self._keep_messages,
            "task.submitted": self._submit,
            "task.waiting": self._wait,
            "task.assigned": self._assign,
            "task.adopted": self._adopt,
            "task.released": self._release,
            "task.completed": self._complete,
            "task.failed": self._fail,
            "task.expired": self._expire,
            "task.cancelled": self._cancel,
            "case.flagged": self._flag,
            "case.asked": lambda body, _: self._flags.setdefault(body.task_id, []).append(body),
            "case.withdrawn": self._withdraw,
            "case.unsure": self._rule,
            "case.authority": self._rule,
            "verdict.given": self._rule,
        }

    def recovered(self) -> Recovered:
        """The run, once all records are taken."""
        found, now = self._found, self._found.elapsed_s
        found.left = {task_id: task.left(now) for task_id, task in self._open.items()}
        # A broker that opens a run anew has not been told to hold it; whether it should be, the state says.
        untaken: list[EngineEffect] = [Submit(tuple(self._untaken.values()))] if self._untaken else []
        raised = [Reprioritise(*each) for each in self._raised.items()]
        cases = found.state.catch_up()
        self._tell()
        found.effects = [
            *found.deliveries,
            *cases,
            *found.state.tidy(),
            *untaken,
            *raised,
            *(effect for effect in self._pending if not isinstance(effect, Hold)),
        ]
        return found

    def take(self, records: Sequence[Record]) -> None:
        """Take lines, in order."""
        for record in records:
            name, last_ts = record.type, self._last_ts
            decoder = _DECODERS.get(name)
            if decoder is None:
                continue
            if not name.startswith(OF_CASES):
                if last_ts is not None and record.ts > last_ts and name != "run.adopted":
                    self._found.elapsed_s += record.ts - last_ts
                self._last_ts = record.ts
                self._tell()
            try:
                if take := self._takes.get(name):
                    take(decoder.decode(record.body), record)
                elif name.startswith(("run.", "stage.")) or name in _ENGINES:
                    self._match(decoder.decode(record.body), record)
            except LabError:
                raise
            except Exception as error:
                raise self._diverged(
                    record, f"the rules cannot take it in ({type(error).__name__}: {error})"
                ) from error

    def _saw_epoch(self, epoch: int) -> None:
        if epoch > self._found.epoch:
            self._found.epoch = epoch

    def _begin(self, body: RunStarted, _: Record) -> None:
        self._found = Recovered.new(self._run_id, self._plan, body.budget)
        self._saw_epoch(body.epoch)
        self._step(Start())

    def _keep_artifact(self, body: ArtifactSaved, record: Record) -> None:
        self._found.artifacts[body.path] = (record.seq, body)

    def _keep_messages(self, body: MessagesSent, _: Record) -> None:
        for task_id, line in body.messages:
            if task := self._open.get(task_id):
                task.messages = (*task.messages, message_of(line))

    # -- stimuli ------------------------------------------------------------------------------------------------------

    def _step(self, stimulus: Stimulus) -> None:
        self._pending += self._found.state.replay(stimulus, self._found.elapsed_s)

    def _assign(self, body: TasksAssigned, _: Record) -> None:
        for task_id, attempt, fence in body.tasks:
            task = self._open[task_id]
            task.attempt, task.worker_id, task.fence = attempt, body.worker_id, fence
            self._saw_epoch(fence >> FENCE_BITS)

    def _adopt(self, body: TasksAdopted, _: Record) -> None:
        for task_id, _attempt, fence in body.tasks:
            task = self._open[task_id]
            task.worker_id, task.fence = body.worker_id, fence

    def _release(self, body: TasksReleased, _: Record) -> None:
        for task_id, _attempt, _fence in body.tasks:
            self._open[task_id].release()

    def _complete(self, body: TasksCompleted, _: Record) -> None:
        outcomes = []
        for done in body.tasks:
            del self._open[done.task_id]
            outcome = TaskOutcome(
                run_id=self._run_id,
                task_id=done.task_id,
                status="completed",
                output=restored(done.output),
                files=done.files,
                further=tuple(map(restored, done.further)),
                flags=tuple(self._flags.pop(done.task_id, ())),
            )
            if self._read is not None and self._plan.reads(done.task_id):
                outcome = self._read(outcome)
            outcomes.append(outcome)
        self._step(Settled(tuple(outcomes)))

    def _settle(self, failure: Failure, status: Literal["failed", "dead", "cancelled"]) -> None:
        """End a task that gave no output."""
        task = self._open.pop(failure.task_id)
        if status == "dead":
            dead = OpenTask(task.spec, attempt=task.attempt, priority=task.priority)
            self._found.dead[failure.task_id] = dead
        self._step(
            Settled((TaskOutcome(run_id=self._run_id, task_id=failure.task_id, status=status, failure=failure),))
        )

    def _fail(self, body: TasksFailed, _: Record) -> None:
        """Failed attempts: their tasks' ends, or one more that these have behind them."""
        for line in body.tasks:
            if line.then != "queued":
                self._settle(_failure(self._run_id, line), "dead" if line.then == "dead" else "failed")
                continue
            task = self._open[line.task_id]
            if line.outcome != "expired":  # nobody can come back with it
                task.release()
            if line.delay_s:
                task.delayed_until = self._found.elapsed_s + line.delay_s
            if line.outcome in _LOSSES:
                task.lost += 1
            else:
                task.failed += 1

    def _expire(self, body: TasksExpired, _: Record) -> None:
        for task_id, error in body.tasks:
            fence = self._open[task_id].fence
            self._settle(_given_up(self._run_id, task_id, "expired", error, fence=fence), "failed")

    def _cancel(self, body: TasksCancelled, record: Record) -> None:
        if not self._is_brokers(body):
            self._match(body, record)
            return
        for task_id in body.task_ids:
            if task_id in self._untaken:
                self._open[task_id] = _Open(self._untaken.pop(task_id), self._found.elapsed_s)
            self._settle(_given_up(self._run_id, task_id, "cancelled", body.reason), "cancelled")

    def _wait(self, body: TasksWaiting, record: Record) -> None:
        if not self._is_held_back(body):
            self._match(body, record)

    def _flag(self, body: CaseFlagged, record: Record) -> None:
        if body.task_id:
            self._flags.setdefault(body.task_id, []).append(body)
        elif body.task_id is None and not self._found.state.docket.is_own(body):
            self._tell()
            self._match(body, record)
        else:
            self._rule(body, record)

    def _withdraw(self, body: CaseWithdrawn, record: Record) -> None:
        if not self._found.state.docket.is_own(body):
            self._tell()
            self._match(body, record)
        else:
            self._rule(body, record)

    def _rule(self, body: Body, _: Record) -> None:
        """Take in what is on record about cases, whoever put it there and whenever."""
        self._found.state.on_record(body)

    def _tell(self) -> None:
        if self._found.state.has_turned:
            self._pending += self._found.state.tell(self._found.elapsed_s)

    def _is_held_back(self, line: TasksWaiting) -> bool:
        """Whether tasks wait because the broker is full; of other reasons, the rules say so themselves."""
        while line.tasks[0].task_id not in self._untaken and self._pass_submit():
            pass
        return line.tasks[0].task_id in self._untaken

    def _is_brokers(self, line: TasksCancelled) -> bool:
        """Whether tasks were cancelled that the broker had, or was to have; of others, the rules say so themselves."""
        return all(task_id in self._open or task_id in self._untaken for task_id in line.task_ids)

    def _submit(self, line: TasksSubmitted, record: Record) -> None:
        """Hold tasks that the broker took against those that the rules gave, in this order but in parts of any size."""
        now = self._found.elapsed_s
        for place, task in enumerate(line.tasks):
            spec = self._untaken.pop(task.task_id, None)
            while spec is None and self._pass_submit():
                spec = self._untaken.pop(task.task_id, None)
            if spec is None:
                expected = self._next_line()
                how = "the rules give no such line there" if expected is None else difference(line, expected)
                raise self._diverged(record, how)
            if task_spec(task) != spec and plain(task) != plain(task_line(spec)):
                given = list(line.tasks)
                given[place] = task_line(spec)
                raise self._diverged(record, difference(line, TasksSubmitted(tasks=tuple(given))))
            self._open[task.task_id] = _Open(spec, now, self._raised.pop(task.task_id, None) if self._raised else None)

    def _pass_submit(self) -> bool:
        """Pass the next submission, if no line has to come first."""
        place = next(
            (n for n, effect in enumerate(self._pending) if isinstance(effect, Submit) or _in_place(effect)), None
        )
        if place is None or not isinstance(self._pending[place], Submit):
            return False
        for _ in range(place + 1):
            self._pass(self._pending.popleft())
        return True

    def _said(self, body: Body) -> Stimulus | None:
        """What someone must have said for this line to be there; None where the rules write such lines themselves."""
        match body:
            case RunPaused():
                return Pause()
            case RunResumed():
                return Resume()
            case RunExhausted():
                return Exhaust(body.reason)
            case RunStopping():
                return Stop(body.reason)
            case TaskPrioritised():
                return Prioritise(body.task_id, body.priority)
            case TasksCancelled():
                return Cancel(body.task_ids, body.reason)
            case _:
                news = self._plan.news_in(body)
                return None if news is None else Tell(news)

    # -- lines --------------------------------------------------------------------------------------------------------

    def _match(self, body: Body, record: Record) -> None:
        """Hold a line of the engine's against the next one that the rules give."""
        if self._next_line() is None and (stimulus := self._said(body)):
            self._step(stimulus)
        expected = self._next_line()
        if expected is None:
            raise self._diverged(record, "the rules give no such line there")
        if (TYPES[type(expected)], plain(expected)) != (record.type, plain(body)):
            raise self._diverged(record, difference(body, expected))
        self._pass_line()

    def _next_line(self) -> Body | None:
        return next((line for effect in self._pending if (line := _in_place(effect)) is not None), None)

    def _pass_line(self) -> None:
        """Strike off the effects up to the next line, which the journal has."""
        while self._pending:
            effect = self._pending.popleft()
            self._pass(effect)
            if _in_place(effect) is not None:
                return

    def _pass(self, effect: EngineEffect) -> None:
        """Take an effect for carried out."""
        match effect:
            case Write() | Copy():
                self._found.files.pop(effect.ref, None)
                self._found.files[effect.ref] = effect
            case Deliver():
                self._found.deliveries.append(effect)
            case Submit(tasks=tasks):
                self._untaken.update((task.task_id, task) for task in tasks)
            case CloseBudget(reason=reason):
                self._found.ledger.close(reason)
            case Reprioritise(task_id=task_id, priority=priority) if task_id in self._open:
                self._open[task_id].priority = priority
            case Reprioritise(task_id=task_id, priority=priority) if task_id in self._untaken:
                self._raised[task_id] = priority
            case Requeue(task_ids=task_ids):
                for task_id in task_ids:
                    dead = self._found.dead.pop(task_id)
                    again = self._open[task_id] = _Open(dead.spec, self._found.elapsed_s, dead.priority)
                    again.attempt, again.delayed_until = dead.attempt, again.submitted

    def _diverged(self, record: Record, how: str) -> LabError:
        return LabError(
            f"run {self._run_id} cannot be resumed: line {record.seq} of its journal, {record.type}, is not what its "
            f"rules make of the lines before it: {how}. Were its files edited, or does another version of epsilon_lab "
            f"have to resume it? Nothing was changed"
        )


_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(body) for name, body in BODIES.items()}

_ENGINES = ("task.prioritised", "task.requeued", "task.revised")
"""Lines about tasks that follow from the engine's own effects."""


def _line(effect: EngineEffect) -> Body | None:
    """The line an effect puts on record by itself; files describe themselves in lines that nothing depends on."""
    match effect:
        case Emit(body=body):
            return body
        case Submit(tasks=tasks):
            return TasksSubmitted(tasks=tuple(map(task_line, tasks)))
        case Requeue(task_ids=task_ids):
            return TasksRequeued(task_ids=task_ids)
        case _:
            return None


def _in_place(effect: EngineEffect) -> Body | None:
    """The line of an effect whose line has its place among the others."""
    return None if isinstance(effect, Submit) else _line(effect)


def _failure(run_id: str, line: FailedLine) -> Failure:
    return Failure(
        task_id=line.task_id,
        run_id=run_id,
        fence=line.fence,
        outcome=line.outcome,
        error=line.error,
        traceback=line.traceback,
        stdout_tail=line.stdout_tail,
        stderr_tail=line.stderr_tail,
        started_at=line.started_at,
        ended_at=line.ended_at,
    )


def _given_up(
    run_id: str, task_id: str, outcome: Literal["expired", "cancelled"], error: str, *, fence: int = 0
) -> Failure:
    return Failure(task_id=task_id, run_id=run_id, fence=fence, outcome=outcome, error=error, retryable=False)
