"""A run's state: its clock stands still while paused, and its end is final."""

import weakref
from typing import ClassVar

from epsilon_lab.messages.events import RunEnded, RunExhausted, RunPaused, RunResumed, TasksCancelled
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import pack
from epsilon_lab.topologies.engine import (
    Break,
    CancelAll,
    CloseBudget,
    End,
    Hold,
    Pause,
    Resume,
    RunState,
    Settled,
    Start,
    Stop,
    Submit,
    Tick,
)
from epsilon_lab.topologies.plan import Add, Emit, Finish


def task(name, *depends_on):
    return TaskSpec(task_id=name, kind="item", lane="process", entry="x", payload=pack(1), depends_on=depends_on)


def ended(name, status="completed"):
    return TaskOutcome(run_id="r", task_id=name, status=status)


class TwoSteps:
    """a, then b; ends with b, or when its own clock reaches 10."""

    limits: ClassVar = {}
    reads_outputs = False
    runs_strangers = False

    def __init__(self, *, gives_up=True):
        self.seen = []
        self.gives_up = gives_up

    def start(self, now):
        return [Add((task("a"), task("b", "a")))]

    def settled(self, outcome, now):
        self.seen.append((outcome.task_id, outcome.status))
        return [Finish("completed", "done")] if outcome.task_id == "b" else []

    def tick(self, now):
        return [Finish("completed", "time is over")] if now >= 10 else []

    def told(self, news, now):
        return []

    def exhausted(self, reason, now):
        return [Finish("completed", f"{reason} at {now:g}")] if self.gives_up else []

    def stop(self, reason, now):
        return [Finish("stopped", reason)]


def bodies(effects):
    return [effect.body for effect in effects if isinstance(effect, Emit)]


def test_a_run_submits_what_is_ready_and_ends_with_its_plan():
    state = RunState("r", TwoSteps())
    first = state.step(Start(), 0)
    assert [e.tasks[0].task_id for e in first if isinstance(e, Submit)] == ["a"]
    second = state.step(Settled((ended("a"),)), 1)
    assert [e.tasks[0].task_id for e in second if isinstance(e, Submit)] == ["b"]
    last = state.step(Settled((ended("b"),)), 2)
    assert isinstance(bodies(last)[-1], RunEnded)
    assert isinstance(last[-1], End)
    assert state.status == "completed"
    assert state.step(Stop("late"), 3) == []


def test_a_failed_dependency_reaches_the_plan_in_the_same_step():
    plan = TwoSteps()
    state = RunState("r", plan)
    state.step(Start(), 0)
    state.step(Settled((ended("a", "dead"),)), 1)
    assert plan.seen == [("a", "dead"), ("b", "failed")]


def test_a_paused_run_s_clock_stands_still():
    state = RunState("r", TwoSteps())
    state.step(Start(), 0)
    paused = state.step(Pause(), 6)
    assert [type(b) for b in bodies(paused)] == [RunPaused]
    assert Hold(paused=True) in paused
    assert state.step(Pause(), 7) == []
    assert state.step(Tick(), 50) == []
    resumed = state.step(Resume(), 60)
    assert [type(b) for b in bodies(resumed)] == [RunResumed]
    assert state.step(Tick(), 63.9) == []
    assert state.step(Tick(), 64)[-1].reason == "time is over"


def test_the_budget_of_seconds_stands_still_while_paused_and_is_told_once():
    state = RunState("r", TwoSteps(gives_up=False), seconds=5)
    state.step(Start(), 0)
    assert state.step(Tick(), 4.9) == []
    state.step(Pause(), 4.9)
    assert state.step(Tick(), 50) == []
    state.step(Resume(), 60)
    assert state.step(Tick(), 60) == []
    reason = "the budget of 5 s was used up"
    assert state.step(Tick(), 60.1) == [CloseBudget(reason), Emit(RunExhausted(reason=reason))]
    assert state.step(Tick(), 61) == []


def test_a_plan_may_end_when_the_seconds_are_used_up():
    state = RunState("r", TwoSteps(), seconds=5)
    state.step(Start(), 0)
    effects = state.step(Tick(), 7)
    assert effects[0] == CloseBudget("the budget of 5 s was used up")
    assert (state.status, state.reason) == ("completed", "the budget of 5 s was used up at 7")
    assert CancelAll(state.reason) in effects


def test_stopping_cancels_what_is_out_and_what_is_held():
    state = RunState("r", TwoSteps())
    state.step(Start(), 0)
    effects = state.step(Stop("enough"), 1)
    assert CancelAll("enough") in effects
    assert [b.task_ids for b in bodies(effects) if isinstance(b, TasksCancelled)] == [("b",)]
    assert (state.status, state.reason) == ("stopped", "enough")


def test_a_broken_run_ends_as_failed_with_the_reason():
    state = RunState("r", TwoSteps())
    state.step(Start(), 0)
    state.step(Break("disk full"), 1)
    assert (state.status, state.reason) == ("failed", "disk full")


def test_an_end_that_could_not_be_carried_out_becomes_a_failure():
    state = RunState("r", TwoSteps())
    state.step(Start(), 0)
    state.step(Stop("enough"), 1)
    assert state.step(Stop("again"), 1) == []
    effects = state.step(Break("disk full"), 1)
    assert (state.status, state.reason) == ("failed", "disk full")
    assert isinstance(effects[-1], End)


def test_a_run_that_is_over_lets_go_of_its_tasks():
    state = RunState("r", TwoSteps())
    state.step(Start(), 0.0)
    state.step(Stop("enough"), 1.0)
    graph = weakref.ref(state._graph)
    state.forget()
    assert graph() is None
    assert (state.status, state.reason) == ("stopped", "enough")
