"""What is tried again, and when: never sooner than drawn, never later than the cap, the same in every replay."""

import msgspec
import pytest

from epsilon_lab.broker.retrying import pause_s
from epsilon_lab.broker.stimuli import CancelTasks, CloseRun, OpenRun, OpenTask, PauseRun, ResumeRun, Stalled
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import TasksFailed
from epsilon_lab.messages.tasks import Retry

RETRY = Retry(limit=9, base_s=4.0, cap_s=10.0)


def test_the_wait_is_drawn_evenly_and_grows_to_its_cap():
    for failed, most in [(1, 4.0), (2, 8.0), (3, 10.0), (2000, 10.0)]:
        drawn = [pause_s(RETRY, "r", f"t{n}", failed, failed) for n in range(2000)]
        assert all(0 <= each < most for each in drawn)
        for quarter in range(4):
            share = sum(quarter * most / 4 <= each < (quarter + 1) * most / 4 for each in drawn)
            assert 420 < share < 580, "full jitter: as many in each quarter, give or take four sigma"


def test_a_draw_is_repeatable_and_belongs_to_its_attempt():
    assert pause_s(RETRY, "r", "t", 1, 1) == pause_s(RETRY, "r", "t", 1, 1)
    assert len({pause_s(RETRY, *who, 1) for who in [("r", "t", 1), ("r", "t", 2), ("r", "u", 1), ("q", "t", 1)]}) == 4


def test_a_failure_waits_as_drawn_which_is_on_record(table):
    table.join()
    table.submit("a", "b", retry=RETRY)
    table.turn()
    [record] = table.fail("s/w1", "a").records()
    assert isinstance(record, TasksFailed)
    [line] = record.tasks
    assert (line.then, line.delay_s) == ("queued", pause_s(RETRY, "r", "a", 1, 1))
    assert table.state.wakes_at == table.now + line.delay_s
    table.done("s/w1", "b")
    table.now += line.delay_s - 0.001
    assert table.assigned() == {}
    table.now += 0.002
    assert table.assigned() == {"s/w1": ["a"]}
    assert table.state.wakes_at is None


@pytest.mark.parametrize("final", ["ValueError", "Exception"])
def test_a_final_exception_is_not_tried_again_nor_are_its_subclasses(table, final):
    table.join()
    table.submit("a", "b", retry=Retry(limit=3, base_s=0, final=(final,)))
    table.turn()
    kinds = ("JSONDecodeError", "ValueError", "Exception", "BaseException")
    assert [o.status for o in table.fail("s/w1", "a", error_types=kinds).outcomes] == ["failed"]
    assert table.fail("s/w1", "b", error_types=("KeyboardInterrupt", "BaseException")).outcomes == []


def test_a_lost_worker_is_no_failure_and_waits_for_nothing(table):
    table.boss()
    table.join()
    table.submit("a", retry=RETRY)
    table.turn()
    [failed, *_] = table.lose().records()
    assert (failed.tasks[0].then, failed.tasks[0].delay_s) == ("queued", 0.0)
    table.join()
    assert table.assigned() == {"s/w1": ["a"]}


def test_a_retry_that_would_come_too_late_is_none(table):
    table.join()
    table.submit("a", retry=Retry(limit=9, base_s=1e6, cap_s=1e6), finish_within_s=5.0)
    table.turn()
    assert [o.status for o in table.fail("s/w1", "a").outcomes] == ["failed"]


def test_a_delayed_task_is_not_begun_before_its_time(table):
    table.join()
    table.submit("a", delay_s=30.0)
    table.submit("b")
    assert table.assigned() == {"s/w1": ["b"]}
    table.done("s/w1", "b")
    table.now += 29.9
    assert table.assigned() == {}
    table.now += 0.1
    assert table.assigned() == {"s/w1": ["a"]}


def test_a_delayed_task_can_be_cancelled_and_its_run_closed_or_paused(table):
    table.join()
    table.submit("a", "b", delay_s=5.0)
    assert [o.status for o in table.step(CancelTasks("r", ("a",), "no")).outcomes] == ["cancelled"]
    table.step(PauseRun("r"))
    table.now += 6
    assert table.assigned() == {}
    table.step(ResumeRun("r"))
    assert table.assigned() == {"s/w1": ["b"]}
    table.submit("c", delay_s=5.0)
    table.step(CloseRun("r"))
    assert table.state.wakes_at is None
    table.now += 6
    assert table.turn() == []


def test_what_another_broker_put_off_stays_put_off(table, make_spec):
    table.join()
    table.step(OpenRun("q", "/runs/q", (OpenTask(make_spec("a"), attempt=1, failed=1, delay_s=3.0),)))
    assert table.assigned() == {}
    table.now += 3.0
    assert table.assigned() == {"s/w1": ["a"]}


def test_a_stall_moves_no_wait_which_nobody_was_late_for(table):
    table.join()
    table.submit("a", delay_s=60.0)
    table.now += 60
    table.step(Stalled(60.0))
    assert table.assigned() == {"s/w1": ["a"]}


@pytest.mark.parametrize(
    "bad", [{"limit": -1}, {"limit": True}, {"base_s": -1}, {"cap_s": float("nan")}, {"final": (1,)}]
)
def test_a_retry_that_makes_no_sense_is_refused_by_name(bad):
    with pytest.raises(InvalidInput, match=f"Retry {next(iter(bad))}"):
        Retry(**bad)


def test_a_retry_travels():
    retry = Retry(limit=2, final="ValueError")
    assert retry.final == ("ValueError",)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(retry), type=Retry) == retry
