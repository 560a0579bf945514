"""What is taken, once, and what is refused whole."""

import pytest

from epsilon_lab.broker.stimuli import (
    CancelTasks,
    CloseRun,
    OpenRun,
    OpenTask,
    Receipt,
    Submit,
)
from epsilon_lab.errors import InvalidInput, QueueFull
from epsilon_lab.messages.events import (
    TasksSubmitted,
)
from epsilon_lab.messages.values import Value, pack

# -- submitting -------------------------------------------------------------------------------------------------------


def test_a_submission_is_one_record(table):
    [record] = table.submit("a", "b").records()
    assert isinstance(record, TasksSubmitted)
    assert [line.task_id for line in record.tasks] == ["a", "b"]


def test_another_task_under_a_known_id_is_refused_with_all_that_came_with_it(table, make_spec):
    table.join()
    table.submit("a")
    other = make_spec("a", payload=pack("another"))
    for _ in range(2):
        with pytest.raises(InvalidInput, match="task a: was submitted to run r before, as another"):
            table.step(Submit("r", (make_spec("b"), other)))
        table.turn()
        table.done("s/w1", "a")
    with pytest.raises(InvalidInput):
        table.step(Submit("r", (make_spec("c"), make_spec("c", priority=1))))
    [record] = table.submit("b", "c").records()
    assert [line.task_id for line in record.tasks] == ["b", "c"]


def test_the_same_task_again_is_answered_again_and_executed_once(table):
    table.join()
    table.submit("a", "b", "b")
    again = table.submit("a", "c")
    assert [[line.task_id for line in record.tasks] for record in again.records()] == [["c"]]
    assert [receipt.task_id for receipt in again.receipts] == ["a", "c"]
    assert table.assigned() == {"s/w1": ["a", "b"]}
    table.done("s/w1", "a", "b")
    assert table.submit("a").records() == []
    assert table.assigned() == {"s/w1": ["c"]}


def test_where_nobody_submits_twice_nothing_of_a_settled_task_stays_in_memory(make_table):
    table = make_table(key_lifetime_s=1e6, lease_s=1e6)
    table.step(OpenRun("b", "/runs/b", remembers=False))
    table.join()
    for _ in range(2):
        table.submit("one", run_id="b")
        table.turn()
        table.done("s/w1", "one")
    run = table.state.board.runs["b"]
    assert (run.tasks, run.settled, run.settled_before) == ({}, {}, {})
    assert table.state.board.counts.settled["completed"] == 2


def test_a_settled_id_is_remembered_for_its_lifetime_and_no_longer_than_twice_that(make_table, make_spec):
    table = make_table(key_lifetime_s=100.0, lease_s=1e6)
    table.join()
    table.submit("a")
    table.turn()
    table.later(99.0)
    table.done("s/w1", "a")
    table.later(99.0)
    with pytest.raises(InvalidInput):
        table.step(Submit("r", (make_spec("a", priority=3),)))
    for _ in range(3):
        table.later(100.0)
    assert table.state.board.runs["r"].settled == table.state.board.runs["r"].settled_before == {}
    assert table.submit("a").records() != []


def test_receipts_say_where_tasks_stand_and_when_they_may_begin(table):
    table.join("s/w1")
    table.join("s/w2")
    assert table.submit("a", "b").receipts == [Receipt("a", 0, None), Receipt("b", 1, None)]
    table.turn()
    table.done("s/w1", "a", started_at=0.0, ended_at=6.0)
    table.submit("c", "d", "e")
    assert table.submit("f").receipts == [Receipt("f", 3, 9.0)], "three tasks of 6 s before it, two workers"
    assert table.submit("late", delay_s=60.0).receipts == [Receipt("late", None, 60.0)]
    assert table.submit("a", "b").receipts == [Receipt("a", None, None), Receipt("b", None, None)]
    assert table.submit("f").receipts == [Receipt("f", 3, 9.0)]


# -- marks ------------------------------------------------------------------------------------------------------------


def test_what_exceeds_the_marks_is_refused_whole_and_nothing_is_dropped(make_table):
    table = make_table(queue_tasks=4)
    table.join()
    table.submit("a", "b", "c")
    with pytest.raises(QueueFull, match=r"2 tasks of run r, .* has room for 1 more tasks") as refused:
        table.submit("d", "e")
    assert refused.value.tasks == table.state.room.tasks == 1
    table.submit("d", "a")
    with pytest.raises(QueueFull):
        table.submit("e")
    table.turn()
    table.done("s/w1", "a")
    table.submit("e")
    table.step(CancelTasks("r", None, ""))
    assert table.state.room.tasks == 4


def test_bytes_are_counted_too(make_table, make_spec):
    table = make_table(queue_bytes=1000)
    heavy = [make_spec(name, payload=Value("json", b"x" * 400)) for name in "abc"]
    table.step(Submit("r", tuple(heavy[:2])))
    with pytest.raises(QueueFull, match="200 more bytes of payload"):
        table.step(Submit("r", (heavy[2],)))
    table.step(CloseRun("r"))
    assert table.state.room == (1_000_000, 1000)
    table.step(OpenRun("r", "/runs/r"))
    table.step(Submit("r", (heavy[2],)))


def test_what_another_broker_had_taken_is_taken_whatever_the_marks(make_table, make_spec):
    table = make_table(queue_tasks=1)
    table.step(OpenRun("q", "/runs/q", tuple(OpenTask(make_spec(name)) for name in "abc")))
    assert table.state.room.tasks == 0
    table.join()
    assert table.assigned() == {"s/w1": ["a", "b"]}


def test_a_run_that_is_not_open_is_refused(table):
    with pytest.raises(InvalidInput, match="run q"):
        table.submit("a", run_id="q")


def test_an_unknown_lane_and_a_huge_payload_are_refused(table, make_spec):
    with pytest.raises(InvalidInput, match="lane 'gpu'"):
        table.submit(make_spec("a", lane="gpu"))
    with pytest.raises(InvalidInput, match="file of the run directory"):
        table.submit(make_spec("a", payload=Value("json", bytes(33 * 2**20))))
    assert table.submit("a").records() != []
