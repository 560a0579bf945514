"""The graph hands out what may run, keeps to limits, and says at once what can never run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import pack
from epsilon_lab.topologies.graph import Graph
from epsilon_lab.topologies.plan import Add


def task(name, *depends_on, kind="item"):
    return TaskSpec(task_id=name, kind=kind, lane="process", entry="code:x", payload=pack(None), depends_on=depends_on)


def ended(name, status="completed"):
    return TaskOutcome(run_id="r", task_id=name, status=status)


def names(tasks):
    return [t.task_id for t in tasks]


def test_a_task_is_ready_once_everything_it_depends_on_is_completed():
    graph = Graph({})
    step = graph.add("r", Add((task("a"), task("b"), task("c", "a", "b"))))
    assert names(step.ready) == ["a", "b"]
    assert names(step.waiting) == ["c"]
    assert names(graph.settle(ended("a")).ready) == []
    assert names(graph.settle(ended("b")).ready) == ["c"]


def test_dependents_of_a_failed_task_are_reported_at_once_to_the_last():
    graph = Graph({})
    graph.add("r", Add((task("a"), task("b", "a"), task("c", "b"), task("d"))))
    step = graph.settle(ended("a", "failed"))
    assert [outcome.task_id for outcome in step.settled] == ["b", "c"]
    assert all("depends on" in outcome.failure.error for outcome in step.settled)
    late = graph.add("r", Add((task("e", "c"),)))
    assert [outcome.task_id for outcome in late.settled] == ["e"]


def test_a_kind_s_limit_is_never_exceeded_and_nobody_is_forgotten():
    graph = Graph({"propose": 2})
    step = graph.add("r", Add(tuple(task(str(i), kind="propose") for i in range(5))))
    out = names(step.ready)
    seen = list(out)
    while out:
        step = graph.settle(ended(out.pop(0)))
        out += names(step.ready)
        seen += names(step.ready)
        assert len(out) <= 2
    assert seen == ["0", "1", "2", "3", "4"]


def test_an_unknown_dependency_and_a_taken_id_are_refused():
    graph = Graph({})
    graph.add("r", Add((task("a"),)))
    with pytest.raises(InvalidInput, match="'x'"):
        graph.add("r", Add((task("b", "x"),)))
    with pytest.raises(InvalidInput, match="'a'"):
        graph.add("r", Add((task("a"),)))


@given(st.data())
def test_whatever_fails_every_task_is_handed_out_or_blocked_exactly_once(data):
    count = data.draw(st.integers(1, 12))
    tasks = [
        task(str(i), *(str(j) for j in data.draw(st.sets(st.integers(0, i - 1), max_size=3)) if i) if i else ())
        for i in range(count)
    ]
    graph = Graph({"item": data.draw(st.integers(1, 4))})
    step = graph.add("r", Add(tuple(tasks)))
    out, settled = names(step.ready), []
    while out:
        name = out.pop(data.draw(st.integers(0, len(out) - 1)))
        settled.append(name)
        step = graph.settle(ended(name, data.draw(st.sampled_from(["completed", "failed"]))))
        out += names(step.ready)
        settled += [outcome.task_id for outcome in step.settled]
    assert sorted(settled) == sorted(t.task_id for t in tasks)
    assert graph.out == ()
    assert graph.held == ()
