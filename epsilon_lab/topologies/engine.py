"""A run's state, for every topology: plan and graph together, running, paused, ended.

Pure: `step(stimulus, now)` gives effects, and the shell (runner.py) carries them out in order. A run's own clock stands
still while it is paused, so that a wall-time limit counts time in which work could be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec

from epsilon_lab.cases.asked import Asked
from epsilon_lab.cases.docket import Docket, Heard
from epsilon_lab.messages.cases import Decide, Finalise, Flag, Rank, Retract, Take, Unsure
from epsilon_lab.messages.events import (
    Body,
    CaseWithdrawn,
    RunEnded,
    RunExhausted,
    RunPaused,
    RunResumed,
    RunStopping,
    TaskPrioritised,
    TasksCancelled,
    TasksWaiting,
    task_line,
)
from epsilon_lab.messages.tasks import Failure, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value, stored
from epsilon_lab.topologies.graph import NOTHING, Graph, Step
from epsilon_lab.topologies.plan import (
    Add,
    Cancel,
    Copy,
    Deliver,
    Emit,
    Export,
    Finish,
    Plan,
    PlanEffect,
    Prioritise,
    Requeue,
    Revise,
    Write,
)
from epsilon_lab.topologies.rulings import Rule


class Start(msgspec.Struct, frozen=True):
    """Begin the run."""


class Settled(msgspec.Struct, frozen=True):
    """Tasks were settled, in this order."""

    outcomes: tuple[TaskOutcome, ...]


class Pause(msgspec.Struct, frozen=True, tag=True):
    """Assign nothing more; what runs, finishes."""


class Resume(msgspec.Struct, frozen=True, tag=True):
    """Go on."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End early with what there is."""

    reason: str


class Tick(msgspec.Struct, frozen=True):
    """Time went by."""


class Tell(msgspec.Struct, frozen=True):
    """Someone says something about the run's cases, or tells the plan what only plans of its topology understand."""

    news: object


class Exhaust(msgspec.Struct, frozen=True):
    """The budget of seconds was used up, as a line on record says of a run that is resumed."""

    reason: str


class Break(msgspec.Struct, frozen=True):
    """The run cannot go on, or cannot end as it should: its rules or its disk failed."""

    reason: str


Stimulus = Start | Settled | Pause | Resume | Stop | Tick | Tell | Prioritise | Cancel | Exhaust | Break


class Submit(msgspec.Struct, frozen=True):
    """Hand these to the broker."""

    tasks: tuple[TaskSpec, ...]


class Hold(msgspec.Struct, frozen=True):
    """Have the broker stop, or go on, assigning tasks of this run."""

    paused: bool


class CloseBudget(msgspec.Struct, frozen=True):
    """Have the broker admit no more requests to models."""

    reason: str


class Reprioritise(msgspec.Struct, frozen=True):
    """Have the broker put a task before or behind others."""

    task_id: str
    priority: int


class CancelTasks(msgspec.Struct, frozen=True):
    """Have the broker cancel tasks that it was given."""

    task_ids: tuple[str, ...]
    reason: str


class CancelAll(msgspec.Struct, frozen=True):
    """Have the broker cancel what it still has of this run."""

    reason: str


class End(msgspec.Struct, frozen=True):
    """The run is over; its last line is on its way."""

    status: str
    reason: str
    output: Value | None


EngineEffect = (
    Submit
    | Emit
    | Write
    | Copy
    | Export
    | Deliver
    | Hold
    | CloseBudget
    | Reprioritise
    | Requeue
    | CancelTasks
    | CancelAll
    | End
)


class RunState:
    """One run.

    Args:
        run_id: The run.
        plan: Its topology's rules.
        seconds: How long it may work, on its own clock; None for no limit.
    """

    def __init__(self, run_id: str, plan: Plan, seconds: float | None = None) -> None:
        self.run_id = run_id
        self.status = "running"
        self.reason = ""
        self.docket = Docket(run_id)
        self._told: dict[str, int | None] = {}
        """Case -> the number of the verdict that its rules know of."""

        self._turned: dict[str, None] = {}
        """Cases whose verdict may be another by now."""

        self._asked = Asked()
        self._finalised = 0
        """How often its verdicts were written down for tasks to go by."""

        self._is_finalising = False
        """Whether all that it does, or did last, was to make again what goes by its verdicts."""

        self._stopped = ""
        """Why it was ended early, and its work not gone on with; empty where it was not. To be finalised is no work."""

        self._plan = plan
        self._seconds = seconds
        self._graph = Graph(plan.limits)
        self._paused_at: float | None = None
        self._paused_for = 0.0

    def forget(self) -> None:
        """Let its tasks leave memory, as nothing will be asked of the run any more."""
        self._graph, self._plan, self.docket, self._asked = Graph({}), _Over(), Docket(self.run_id), Asked()

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.status not in ("running", "paused")

    def reads(self, task_id: str) -> bool:
        """Whether its rules look into this task's output."""
        return self._plan.reads_outputs and self._plan.reads(task_id)

    def step(self, stimulus: Stimulus, now: float) -> list[EngineEffect]:
        """Say what follows from a stimulus.

        Nothing does once the run is over, unless its end could not be carried out, or its plan takes something up
        again: then it goes on. What is said about its cases is always heard, and reopens nothing.

        Args:
            stimulus: What happened.
            now: Seconds since the run began, on a clock that never goes back.
        """
        effects = self.replay(stimulus, now)
        return [*self.tidy(), *effects] if effects and isinstance(effects[-1], End) else effects

    def replay(self, stimulus: Stimulus, now: float) -> list[EngineEffect]:
        """The same for a stimulus that is on record, as are the cases that were withdrawn when the run was over: what
        was said about them meanwhile decided which.
        """
        own = self._own(now)
        match stimulus:
            case Tell(news=Decide() | Take() | Retract() | Unsure() | Flag() | Rank() as news):
                return self._heard(self.docket.hear(news), now)
            case Tell(news=Finalise()):
                return self._finalise(now)
            case _ if self.ended and not isinstance(stimulus, Break):
                return self._reopen(stimulus.news, now) if isinstance(stimulus, Tell) else []
            case Settled(outcomes=outcomes):
                return self._settle(outcomes, own)
            case Start():
                return self._carry(self._plan.start(own), own)
            case Tick():
                return [] if self._paused_at is not None else self._carry(self._plan.tick(own), own) + self._time(own)
            case Stop(reason=reason):
                return [Emit(RunStopping(reason=reason)), *self._carry(self._plan.stop(reason, own), own)]
            case Tell(news=news):
                return self._carry(self._plan.told(news, own), own)
            case Prioritise():
                return self._prioritise(stimulus, own)
            case Cancel():
                return self._cancel(stimulus, own)
            case Exhaust(reason=reason):
                return self._exhaust(reason, own)
            case Break(reason=reason):
                self._stopped = ""  # that it is broken is worse
                return self._finish(Finish("failed", reason))
            case Pause():
                if self._paused_at is not None:
                    return []
                self._paused_at, self.status = now, "paused"
                return [Emit(RunPaused()), Hold(paused=True)]
            case Resume():
                if self._paused_at is None:
                    return []
                self._paused_for += now - self._paused_at
                self._paused_at, self.status = None, "running"
                return [Emit(RunResumed()), Hold(paused=False)]

    def on_record(self, line: Body) -> None:
        """Take in a line about cases that is on record, whoever wrote it. The rules are told before the next line that
        is about something else: of what was decided while nobody was at the run, they hear what it came to.
        """
        self._turned.update((each.case_id, None) for each in self.docket.take(line))

    def catch_up(self) -> list[EngineEffect]:
        """Say what follows from such lines for other cases, and is not on record."""
        heard = self.docket.settle()
        self._turned.update((each.case_id, None) for each in heard.turned)
        return [Emit(line) for line in heard.lines]

    def tidy(self) -> list[EngineEffect]:
        """Withdraw, once the run is over, the cases that nobody asks any more; those that are decided stay."""
        return [Emit(line) for line in self.docket.drop(self._asked.cases())] if self.ended else []

    @property
    def has_turned(self) -> bool:
        """Whether the rules may have something to be told."""
        return bool(self._turned)

    def tell(self, now: float) -> list[EngineEffect]:
        """Tell the rules of cases whose verdict is another than they have been told; say what follows."""
        turned, self._turned = self._turned, {}
        own, effects = self._own(now), list[EngineEffect]()
        for case_id in turned:
            case = self.docket[case_id]
            if self.ended or self._told.get(case_id) == case.number:
                continue
            self._told[case_id] = case.number
            effects += self._carry(self._plan.told(case.speaks or case.verdicts[-1], own), own)
        if turned and not self.ended and (rule := self._plan.rulings(self.docket.cases())) is not None:
            effects += self._carry(self._plan.told(rule, own), own)
        return effects

    def _heard(self, heard: Heard, now: float) -> list[EngineEffect]:
        self._turned.update((each.case_id, None) for each in heard.turned)
        return [*map(Emit, heard.lines), *self.tell(now)]

    def _own(self, now: float) -> float:
        """Seconds in which work could be done."""
        return (self._paused_at if self._paused_at is not None else now) - self._paused_for

    def again(self) -> dict[str, str]:
        """What a `Finalise` would have done again, as `Plan.again` says it."""
        return self._plan.again(self._asked.outdated(self.docket.verdicts()))

    def _finalise(self, now: float) -> list[EngineEffect]:
        """Have a run that is over made again from what is decided by now, as far as that is another."""
        if self.ended and (rule := self._plan.rulings(self.docket.cases())) is not None:
            return self._reopen(rule, now)
        again = self.again() if self.ended else {}
        if not again:
            return []
        names = [name for name in self._asked.outdated(self.docket.verdicts()) if name in again]
        return self._reopen(Revise(dict.fromkeys(names, ()), f"verdicts/{self._finalised + 1:04d}.json"), now)

    def _reopen(self, news: object, now: float) -> list[EngineEffect]:
        if not isinstance(news, Requeue | Revise | Rule):
            return []
        if self._paused_at is not None:
            self._paused_for += now - self._paused_at
            self._paused_at = None
        over, self.status, self.reason = (self.status, self.reason), "running", ""
        was_finalising, self._is_finalising = self._is_finalising, isinstance(news, Revise) and bool(news.verdicts)
        own = now - self._paused_for
        effects = self._carry(self._plan.told(news, own), own)
        if not effects:
            (self.status, self.reason), self._is_finalising = over, was_finalising
        elif isinstance(news, Rule) and not self.ended:  # its own rules did not end it
            effects += self._finish(Finish(*over))
        elif isinstance(news, Revise) and news.verdicts:
            self._finalised += 1
            self._asked.begin(news.feedback)
            verdicts = msgspec.json.encode(self.docket.verdicts(), order="sorted")
            effects.insert(0, Write(news.verdicts, verdicts.decode(), "verdicts"))
        return effects

    def _time(self, own: float) -> list[EngineEffect]:
        """Tell the plan, once, that the budget of seconds was used up; what is made again for its verdicts is not cut
        short by it, since it is no more work, and what it is made of would be lost.
        """
        if self._seconds is None or own < self._seconds or self.ended or self._is_finalising:
            return []
        return self._exhaust(f"the budget of {self._seconds:g} s was used up", own)

    def _exhaust(self, reason: str, own: float) -> list[EngineEffect]:
        self._seconds = None
        effects: list[EngineEffect] = [CloseBudget(reason), Emit(RunExhausted(reason=reason))]
        return effects + self._carry(self._plan.exhausted(reason, own), own)

    def _prioritise(self, wanted: Prioritise, now: float) -> list[EngineEffect]:
        line = Emit(TaskPrioritised(task_id=wanted.task_id, priority=wanted.priority))
        if self._graph.is_out(wanted.task_id):
            return [line, Reprioritise(wanted.task_id, wanted.priority)]
        if self._graph.prioritise(wanted.task_id, wanted.priority):
            return [line]
        return self._carry(self._plan.told(wanted, now), now)

    def _cancel(self, wanted: Cancel, now: float) -> list[EngineEffect]:
        """Settle what the graph holds; the broker tells of what it has, and the plan settles what it keeps back."""
        task_ids = tuple(dict.fromkeys(wanted.task_ids))
        out = tuple(filter(self._graph.is_out, task_ids))
        held = tuple(filter(self._graph.withdraw, task_ids))
        rest = tuple(task_id for task_id in task_ids if task_id not in {*out, *held})
        effects: list[EngineEffect] = []
        if held:
            effects.append(Emit(TasksCancelled(task_ids=held, reason=wanted.reason)))
            effects += self._settle([cancelled_outcome(self.run_id, task_id, wanted.reason) for task_id in held], now)
        if rest and not self.ended:
            effects += self._carry(self._plan.told(Cancel(rest, wanted.reason), now), now)
        if out and not self.ended:
            effects.append(CancelTasks(out, wanted.reason))
        return effects

    def _settle(self, outcomes: Sequence[TaskOutcome], now: float) -> list[EngineEffect]:
        """Settle one after the other, each with all that follows it: how many came together must not matter."""
        effects: list[EngineEffect] = []
        for outcome in outcomes:
            if self.ended:
                break
            for flag in outcome.flags:
                self.docket.take(flag)
            if outcome.status == "completed":
                self._asked.take(outcome.task_id, outcome.flags)
            step = self._graph.settle(outcome)
            if step is not NOTHING:
                effects += _spread(step)
            for settled in (outcome, *step.settled):
                if not self.ended and (planned := self._plan.settled(settled, now)):
                    effects += self._carry(planned, now)
        return effects

    def _carry(self, plan_effects: list[PlanEffect], now: float) -> list[EngineEffect]:
        effects: list[EngineEffect] = []
        settled: list[TaskOutcome] = []
        for effect in plan_effects:
            match effect:
                case Add():
                    step = self._graph.add(self.run_id, effect)
                    effects += _spread(step)
                    settled += step.settled
                case Emit(body=CaseWithdrawn(case_id=case_id)) if not self.docket.is_open(case_id):
                    pass
                case Emit(body=body):
                    self.docket.take(body)
                    effects.append(effect)
                case Write() | Copy() | Export() | Deliver():
                    effects.append(effect)
                case Requeue(task_ids=task_ids):
                    for task_id in task_ids:
                        self._graph.reopen(task_id)
                    effects.append(effect)
                case Cancel():
                    effects += self._cancel(effect, now)
                case Finish():
                    return effects + self._finish(effect)
        for outcome in settled:
            if not self.ended:
                effects += self._carry(self._plan.settled(outcome, now), now)
        return effects

    def _finish(self, finish: Finish) -> list[EngineEffect]:
        if not self._is_finalising:
            self._stopped = finish.reason if finish.status == "stopped" else ""
        elif self._stopped and finish.status != "stopped":
            finish = msgspec.structs.replace(
                finish, status="stopped", reason=f"{self._stopped}; finalised: {finish.reason}"
            )
        self.status, self.reason = finish.status, finish.reason
        effects: list[EngineEffect] = []
        if self._graph.held:
            effects.append(Emit(TasksCancelled(task_ids=self._graph.held, reason=finish.reason)))
        if self._graph.out:
            effects.append(CancelAll(finish.reason))
        self._graph.clear(f"cancelled: {finish.reason}")
        last: Body = RunEnded(
            status=finish.status,
            reason=finish.reason,
            output=None if finish.output is None else stored(finish.output),
        )
        return [*effects, Emit(last), End(finish.status, finish.reason, finish.output)]


class _Over(Plan):
    """The rules of a run that is over: nothing follows from anything."""

    def start(self, now: float) -> list[PlanEffect]:  # noqa: ARG002
        return []

    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:  # noqa: ARG002
        return []


def _spread(step: Step) -> list[EngineEffect]:
    """What a change of the graph comes to: lines on what waits and on what never starts, and tasks for the broker."""
    effects: list[EngineEffect] = []
    if step.waiting:
        effects.append(Emit(TasksWaiting(tasks=tuple(map(task_line, step.waiting)))))
    effects += step.inputs
    for reason, outcomes in groupby(step.settled, lambda outcome: outcome.failure.error if outcome.failure else ""):
        effects.append(Emit(TasksCancelled(task_ids=tuple(each.task_id for each in outcomes), reason=reason)))
    if step.ready:
        effects.append(Submit(step.ready))
    return effects


def cancelled_outcome(run_id: str, task_id: str, reason: str) -> TaskOutcome:
    """What becomes of a task that is cancelled before the broker has it."""
    failure = Failure(task_id=task_id, run_id=run_id, fence=0, outcome="cancelled", error=reason, retryable=False)
    return TaskOutcome(run_id=run_id, task_id=task_id, status="cancelled", failure=failure)
