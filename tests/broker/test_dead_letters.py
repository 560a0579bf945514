"""A task that takes its workers down: suspected, tried alone, dead, and requeued by a person."""

import pytest

from epsilon_lab.broker.stimuli import OpenRun, OpenTask, Requeue
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import TasksFailed, TasksRequeued


def take_down(table, task_id="a"):
    """Have the task's worker die of it, and come back."""
    table.join()
    assert task_id in table.assigned()["s/w1"]
    return table.lose(fence=table.given["s/w1"][task_id].fence)


@pytest.fixture
def table(table):
    table.boss()
    return table


def test_before_the_verdict_it_runs_with_nothing_beside_or_behind_it(table):
    table.submit(*"abc")
    for n in range(3):
        table.join()
        given = table.assigned()["s/w1"]
        assert given == (["a"] if n == 2 else ["a", "b"])
        assert table.assigned() == {}
        table.lose()
    table.join()
    assert table.assigned() == {"s/w1": ["b", "c"]}


def test_it_waits_for_empty_hands(table):
    table.submit("a")
    for _ in range(2):
        take_down(table)
    table.submit("b", priority=9)
    table.join()
    assert table.assigned() == {"s/w1": ["b"]}
    table.done("s/w1", "b")
    assert table.assigned() == {"s/w1": ["a"]}


def test_many_at_once_means_alone_too(table):
    table.submit("a", lane="async")
    for _ in range(2):
        table.join("s/leaves", lanes=("async",), slots=4)
        table.turn()
        table.lose("s/leaves")
    table.join("s/leaves", lanes=("async",), slots=4)
    table.submit("b", lane="async", priority=9)
    table.submit("c", lane="async")
    assert table.assigned() == {"s/leaves": ["b"]}
    table.done("s/leaves", "b")
    assert table.assigned() == {"s/leaves": ["a"]}
    table.done("s/leaves", "a")
    assert table.assigned() == {"s/leaves": ["c"]}


def test_a_dead_letter_is_requeued_with_nothing_behind_it_and_on_record(table):
    table.submit("a", retries=1)
    for _ in range(3):
        answer = take_down(table)
    assert [o.status for o in answer.outcomes] == ["dead"]
    assert table.state.stats().dead == 1
    assert table.step(Requeue("r", ("a", "a"))).records() == [TasksRequeued(task_ids=("a",))]
    assert table.state.stats().dead == 0
    for n in range(3):
        [failed] = [body for body in take_down(table).records() if isinstance(body, TasksFailed)]
        assert (failed.tasks[0].attempt, failed.tasks[0].then) == (n + 4, "dead" if n == 2 else "queued")


def test_a_requeued_task_can_end_well(table):
    table.submit("a", finish_within_s=60.0)
    for _ in range(3):
        take_down(table)
    table.now += 1000
    table.step(Requeue("r", ("a",)))
    table.join()
    assert table.assigned() == {"s/w1": ["a"]}, "its deadline is ahead of it again"
    assert [o.status for o in table.done("s/w1", "a").outcomes] == ["completed"]


def test_what_is_not_dead_is_not_requeued_nor_what_came_with_it(table):
    table.submit("a", "b")
    for _ in range(3):
        take_down(table)
    for run_id, ids in [("r", ("a", "b")), ("r", ("x",)), ("q", ("a",))]:
        with pytest.raises(InvalidInput):
            table.step(Requeue(run_id, ids))
    assert table.state.stats().dead == 1


def test_dead_letters_outlive_their_broker(table, make_spec):
    table.step(OpenRun("q", "/runs/q", dead=(OpenTask(make_spec("a"), attempt=3, lost=3),)))
    table.join()
    assert table.assigned() == {}
    table.step(Requeue("q", ("a",)))
    assert table.assigned() == {"s/w1": ["a"]}
    assert table.given["s/w1"]["a"].attempt == 4


def test_a_dead_letter_is_known_by_its_id(table):
    table.submit("a")
    for _ in range(3):
        take_down(table)
    assert table.submit("a").records() == []
    with pytest.raises(InvalidInput):
        table.submit("a", priority=3)
