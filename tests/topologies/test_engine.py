"""A run's state: its clock stands still while paused, and its end is final."""

import weakref
from typing import ClassVar

import msgspec

from epsilon_lab.messages.call import Call
from epsilon_lab.messages.events import RunEnded, RunExhausted, RunPaused, RunResumed, TasksCancelled
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value, as_json, pack
from epsilon_lab.settings import INLINE_LIMIT
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
    Tell,
    Tick,
)
from epsilon_lab.topologies.plan import Add, Emit, Finish, Node, Revise, Write


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


class Wide(TwoSteps):
    """One task, and many behind it; and one that is given its large output."""

    def start(self, now):
        behind = tuple(task(f"b{i}", "a") for i in range(3))
        reader = TaskSpec(
            task_id="reader", kind="item", lane="process", entry="x", payload=as_json(Call(code="c")), depends_on=("a",)
        )
        return [Add((task("a"), *behind, task("last", "b0"), Node(task=reader, binds=True)))]


def test_what_never_starts_for_one_reason_is_one_line_and_the_plan_hears_of_each():
    plan = Wide()
    state = RunState("r", plan)
    state.step(Start(), 0)
    effects = state.step(Settled((ended("a", "failed"),)), 1)
    [line] = bodies(effects)
    assert line.task_ids == ("b0", "b1", "b2", "reader", "last")
    assert line.reason == "not started: it depends on task a, which has no output"
    assert plan.seen == [("a", "failed"), *((name, "failed") for name in line.task_ids)]


def test_inputs_are_written_before_their_task_is_handed_out():
    state = RunState("r", Wide())
    state.step(Start(), 0)
    output = pack("x" * INLINE_LIMIT)
    effects = state.step(Settled((msgspec.structs.replace(ended("a"), output=output),)), 1)
    assert [type(effect) for effect in effects] == [Write, Submit]
    assert effects[1].tasks[-1].payload == Value("file", effects[0].ref.encode())


def test_only_what_takes_tasks_up_again_is_heard_after_the_end():
    class Again(TwoSteps):
        def told(self, news, now):
            return [Add((task("a~2"),))] if news else []

    state = RunState("r", Again())
    state.step(Start(), 0)
    state.step(Stop("enough"), 1)
    assert state.step(Tell("anything"), 2) == []
    assert state.ended
    [again] = state.step(Tell(Revise({"a": ()})), 3)
    assert (again.tasks[0].task_id, state.status, state.reason) == ("a~2", "running", "")


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
    graph, plan = weakref.ref(state._graph), weakref.ref(state._plan)
    state.forget()
    assert graph() is plan() is None
    assert (state.status, state.reason) == ("stopped", "enough")
