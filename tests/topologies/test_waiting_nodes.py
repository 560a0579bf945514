"""Nodes that wait for others are nobody's yet: they can be given up and put before others all the same."""

from __future__ import annotations

import pytest

from epsilon_lab import Dag
from epsilon_lab.messages.events import TaskPrioritised, TasksCancelled
from epsilon_lab.topologies.plan import Cancel, Prioritise, Revise
from tests.topologies.test_judged_plan import Play


def work(inputs):
    return inputs


PLAN = [
    {"id": "a", "task": work},
    {"id": "b", "task": work, "depends_on": ["a"]},
    {"id": "c", "task": work, "depends_on": ["b"]},
    {"id": "d", "task": work, "depends_on": ["a"]},
    {"id": "e", "task": work, "depends_on": ["b", "d"], "quorum": 0.5},
]


@pytest.fixture
def play(tmp_path):
    return Play(Dag(PLAN), tmp_path / "run", lambda task: task.task_id)


def said(play, stimulus):
    play.do(play.state.step(stimulus, 0))


def test_a_node_that_waits_is_given_up_with_what_cannot_do_without_it(play):
    said(play, Cancel(("b", "nobody", "b"), "no need"))
    first, second = play.told(TasksCancelled)
    assert (first.task_ids, first.reason) == (("b",), "no need")
    assert (second.task_ids, second.reason) == (("c",), "not started: it depends on b, which was cancelled")
    play.play()
    assert play.ran == ["a", "d", "e"], "what has a quorum goes on without it"
    assert (play.state.status, "b: no need" in play.state.reason) == ("failed", True)


def test_what_is_out_or_over_is_not_given_up_twice(play):
    said(play, Cancel(("a",), "stop it"))
    assert play.told(TasksCancelled) == [], "the broker has it, and says so when it is done"
    play.turn()
    said(play, Cancel(("a",), "too late"))
    assert play.told(TasksCancelled) == []


def test_nothing_that_was_given_up_begins(play):
    play.turn()
    said(play, Cancel(("c", "d", "e"), "enough"))
    assert play.told(TasksCancelled)[0].task_ids == ("c", "e"), "the broker has d"
    play.play()
    assert play.ran == ["a", "b", "d"]
    assert "c: enough" in play.state.reason


def test_a_node_that_waits_is_put_before_others_when_it_begins(play):
    said(play, Prioritise("d", 7))
    said(play, Prioritise("nobody", 7))
    assert play.told(TaskPrioritised) == [TaskPrioritised(task_id="d", priority=7)]
    play.turn()
    assert {name: task.priority for name, task in play.tasks.items()} == {"b": 0, "d": 7}


def test_what_was_given_up_and_put_first_is_so_after_a_crash_anywhere(play):
    said(play, Prioritise("d", 7))
    said(play, Cancel(("b",), "no need"))
    cut_from = len(play.records)
    play.play()
    for place in range(cut_from, len(play.records)):
        again = play.cut(place)
        again.play()
        assert (again.state.status, again.state.reason) == (play.state.status, play.state.reason)
    early = play.cut(cut_from - 1)
    assert early.told(TasksCancelled)[-1].task_ids == ("c",), "what a crash cut off is said again"


def test_given_up_nodes_can_be_done_again(play):
    said(play, Cancel(("b",), "no need"))
    play.play()
    play.tell(Revise({"b": ()}))
    play.play()
    assert play.state.status == "completed"
    assert {"b~2", "c~2"} <= set(play.ran)
