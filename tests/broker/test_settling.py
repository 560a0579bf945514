"""Cancelling and closing, what another broker left, and a disk that is nearly full."""

import sys

import pytest

from epsilon_lab.broker.board import FENCE_BITS
from epsilon_lab.broker.stimuli import (
    Abandon,
    CancelTasks,
    CloseRun,
    DiskShort,
    OpenRun,
    OpenTask,
)
from epsilon_lab.errors import InvalidInput, QueueFull
from epsilon_lab.messages.events import (
    TasksCancelled,
    TasksReleased,
)
from epsilon_lab.messages.frames import (
    Cancel,
    Interrupt,
)


def kinds(records):
    return [type(body).__name__ for body in records]


def test_cancelled_tasks_are_settled_wherever_they_are(table):
    table.boss()
    table.join()
    table.submit("running", "held", "queued")
    table.turn()
    answer = table.step(CancelTasks("r", None, "enough"))
    assert answer.records() == [TasksCancelled(task_ids=("running", "held", "queued"), reason="enough")]
    assert [(o.task_id, o.status, o.failure.error) for o in answer.outcomes] == [
        (name, "cancelled", "enough") for name in ("running", "held", "queued")
    ]
    given = table.given["s/w1"]
    assert answer.sent(Cancel) == [Cancel(fences=(given["running"].fence, given["held"].fence))]
    assert table.assigned() == {}


def test_what_is_under_way_is_asked_to_stop(table):
    table.boss()
    table.join()
    table.join("s/leaves", lanes=("async",), slots=2)
    table.submit("running", "held")
    table.submit("leaf", lane="async")
    table.turn()
    answer = table.step(CancelTasks("r", None, ""))
    assert answer.sent(Interrupt, to="s/boss") == [Interrupt(member="s/w1", fence=table.given["s/w1"]["running"].fence)]
    assert len(answer.sent(Interrupt)) == 1


def test_a_process_gets_a_grace_and_then_is_killed(table):
    table.boss()
    table.join()
    table.submit("a")
    table.turn()
    table.step(CancelTasks("r", ("a",), ""))
    table.submit("b")
    assert table.assigned() == {}, "it is still busy"
    assert table.later(0.9).kills == []
    assert table.later(0.2).kills == ["s/w1"]
    assert table.later(0.5).kills == [], "it is asked once"
    assert table.lose().records() == []


def test_a_process_that_finishes_within_its_grace_lives(table):
    table.boss()
    table.join()
    table.submit("a", "b")
    table.turn()
    table.step(CancelTasks("r", ("a",), ""))
    assert kinds(table.done("s/w1", "a").sent()) == ["Stale"]
    assert table.later(5.0).kills == []
    assert [o.status for o in table.done("s/w1", "b").outcomes] == ["completed"]


@pytest.mark.parametrize("slots", [1, 3])
def test_an_async_leaf_is_cancelled_at_once(table, slots):
    table.join("s/leaves", lanes=("async",), slots=slots)
    table.submit("a", lane="async")
    table.turn()
    answer = table.step(CancelTasks("r", None, ""))
    assert answer.sent() == [Cancel(fences=(table.given["s/leaves"]["a"].fence,))]
    table.submit("b", lane="async")
    assert table.assigned() == {"s/leaves": ["b"]}


def test_settled_and_unknown_tasks_are_passed_over(table):
    table.join()
    table.submit("a")
    table.turn()
    table.done("s/w1", "a")
    assert table.step(CancelTasks("r", ("a", "x"), "")) == []
    assert table.step(CancelTasks("q", None, "")) == []


def test_a_closed_run_leaves_nothing_and_says_nothing(table):
    table.boss()
    table.join()
    table.step(OpenRun("q", "/runs/q"))
    table.submit("a", "b", "c")
    table.turn()
    table.submit("other", run_id="q")
    answer = table.step(CloseRun("r"))
    assert answer.records() == []
    assert answer.outcomes == []
    assert kinds(answer.sent()) == ["Interrupt", "Cancel"]
    table.done("s/w1", "a")
    table.drop("s/w1", "b")
    assert table.assigned() == {"s/w1": ["other"]}
    assert table.step(CloseRun("r")) == []


def test_settled_tasks_leave_memory(table):
    """A million finished tasks cost their ids, for a while."""
    table.join()
    for n in range(100):
        table.submit(f"t{n}")
        table.turn()
        table.done("s/w1", f"t{n}")
    board = table.state.board
    assert len(board.queue) == 0
    assert board.runs["r"].tasks == {}
    assert len(board.runs["r"].settled) == 100
    assert (board.tasks, board.payload_bytes) == (0, 0)
    assert all(not member.held and member.backlog == 0.0 for member in board.members())


def test_tasks_that_another_broker_left_are_queued_with_what_they_have_behind_them(make_table, make_spec):
    table = make_table(poison_limit=3)
    left = (OpenTask(make_spec("a", retries=1), attempt=4, lost=2, failed=1), OpenTask(make_spec("b")))
    opened = table.step(OpenRun("q", "/runs/q", left))
    assert opened.records("q") == [], "they are on record already"
    table.boss()
    table.join("s/w1")
    assert table.assigned() == {"s/w1": ["a"]}, "it is suspect, and runs alone"
    assert [outcome.status for outcome in table.fail("s/w1", "a").outcomes] == ["failed"], "its one retry is used up"
    assert table.assigned() == {"s/w1": ["b"]}
    assert [table.given["s/w1"][name].attempt for name in "ab"] == [5, 1]
    with pytest.raises(InvalidInput, match="was submitted to run q before"):
        table.submit("b", run_id="q", priority=1)


def test_a_task_that_another_broker_left_may_be_at_its_last_loss(make_table, make_spec):
    table = make_table(poison_limit=3)
    table.step(OpenRun("q", "/runs/q", (OpenTask(make_spec("a"), attempt=2, lost=2),)))
    table.boss()
    table.join("s/w1")
    table.assigned()
    assert [outcome.status for outcome in table.lose().outcomes] == ["dead"]


def test_fences_are_larger_than_any_of_a_run_that_is_opened_again(table, make_spec):
    table.step(OpenRun("q", "/runs/q", (OpenTask(make_spec("a")),), epoch=9))
    assert table.state.epoch == 10
    table.join("s/w1")
    table.assigned()
    assert table.given["s/w1"]["a"].fence >> FENCE_BITS == 10
    table.step(OpenRun("p", "/runs/p", epoch=2))
    assert table.state.epoch == 10, "it never goes back"


def test_a_worker_without_room_for_its_files_is_nobodys_failure_and_interrupts_the_run(table):
    table.join()
    table.submit("a", "b", retries=3)
    table.turn()
    answer = table.fail("s/w1", "a", error="replies/a.md cannot be written", error_types=("DiskFull", "LabError"))
    released = (("a", 1, table.given["s/w1"]["a"].fence),)
    assert answer.records() == [TasksReleased(worker_id="s/w1", reason="", tasks=released)]
    assert [effect for effect in answer if isinstance(effect, Abandon)] == [
        Abandon("r", "replies/a.md cannot be written")
    ]
    assert answer.outcomes == []
    assert table.assigned() == {}, "nothing more is handed out of it"


def test_a_closed_run_leaves_memory_although_the_collector_does_not_look_into_its_tasks(make_table):
    table = make_table(poison_limit=1)
    table.boss()
    table.join("s/w1")
    table.join("s/w2")
    table.submit("a", "b", "c", "d")
    table.submit("late", delay_s=60.0, finish_within_s=90.0)
    table.turn()
    table.lose("s/w1")
    run = table.state.board.runs["r"]
    assert run.dead
    assert run.tasks
    table.step(CloseRun("r"))
    table.turn()
    assert sys.getrefcount(run) == 2, "this name and the call"


def test_while_the_disk_is_nearly_full_nothing_is_begun_or_taken_and_what_is_under_way_ends(table):
    table.join()
    table.submit("a")
    assert table.assigned() == {"s/w1": ["a"]}
    table.submit("b")
    table.step(DiskShort(is_short=True))
    assert [(o.task_id, o.status) for o in table.done("s/w1", "a").outcomes] == [("a", "completed")]
    assert table.assigned() == {}
    with pytest.raises(QueueFull):
        table.submit("c")
    table.step(DiskShort(is_short=False))
    assert table.submit("c").receipts
    assert table.assigned() == {"s/w1": ["b"]}
