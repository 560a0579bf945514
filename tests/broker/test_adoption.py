"""Workers outlive a broker, or a connection: what they still work on is left to them, and nothing is executed twice."""

import pytest

from epsilon_lab.broker.board import FENCE_BITS
from epsilon_lab.broker.stimuli import Assign, CloseRun, OpenRun, OpenTask
from epsilon_lab.messages.events import TasksAdopted, TasksAssigned, TasksReleased
from epsilon_lab.messages.frames import Cancel, Done, Hello, Stale
from epsilon_lab.messages.tasks import Result
from epsilon_lab.messages.values import Value

OLD = 2 << 40 | 17


def hello(*held, pid=7, lanes=("process",), slots=1):
    return Hello(pid=pid, host="h", lanes=lanes, slots=slots, held=held)


@pytest.fixture
def table(make_table, make_spec):
    """A broker that has opened what an earlier one left: `a` handed out, `b` not."""
    table = make_table(adoption_grace_s=5.0)
    left = (OpenTask(make_spec("a"), attempt=1, worker_id="s/w1", fence=OLD), OpenTask(make_spec("b")))
    table.step(OpenRun("q", "/runs/q", left, epoch=2))
    return table


def test_what_was_handed_out_is_left_for_the_grace_and_then_handed_out_again(table):
    table.join("s/w9")
    assert table.assigned() == {"s/w9": ["b"]}
    table.now += 4.9
    assert table.assigned() == {}
    table.now += 0.2
    assert table.assigned() == {"s/w9": ["a"]}


def test_a_worker_that_still_has_it_goes_on_with_it(table):
    answer = table.say("s/w1", hello(("q", "a", OLD)))
    assert answer.records("q") == [TasksAdopted(worker_id="s/w1", tasks=(("a", 1, OLD),))]
    assert table.assigned() == {"s/w1": ["b"]}
    table.given["s/w1"]["a"] = table.given["s/w1"]["b"]
    done = table.done("s/w1", "a", task_id="a", run_id="q", fence=OLD)
    assert [(o.task_id, o.status) for o in done.outcomes] == [("a", "completed")]
    table.now += 60
    assert table.assigned() == {}
    assert table.state.stats().adopted == 1


def test_an_adopted_task_has_a_limit_and_a_worker_to_blame(make_table, make_spec):
    table = make_table(adoption_grace_s=5.0)
    left = (OpenTask(make_spec("a", time_limit_s=3.0), attempt=1, fence=OLD),)
    table.step(OpenRun("q", "/runs/q", left))
    table.boss()
    table.say("s/w1", hello(("q", "a", OLD)))
    assert table.later(3.1).kills == ["s/w1"]


@pytest.mark.parametrize(
    "held", [("q", "a", OLD + 1), ("q", "a", OLD - 1), ("q", "b", OLD), ("r", "a", OLD), ("q", "a", 0)]
)
def test_what_it_does_not_hold_by_right_it_is_told_to_stop(table, held):
    answer = table.say("s/w1", hello(held))
    assert answer.records("q") == []
    assert answer.sent(Cancel) == [Cancel(fences=(held[2],))]


def test_what_it_has_of_a_run_that_nobody_opened_yet_waits_for_that(make_table, make_spec):
    table = make_table(adoption_grace_s=5.0)
    left = (OpenTask(make_spec("a"), attempt=1, worker_id="s/w1", fence=OLD), OpenTask(make_spec("b")))
    answer = table.say("s/w1", hello(("q", "a", OLD)))
    assert not answer.sent(Cancel)
    table.step(OpenRun("q", "/runs/q", left, epoch=1))
    assert table.assigned() == {"s/w1": ["b"]}
    assert table.state.stats().adopted == 1
    table.given["s/w1"]["a"] = table.given["s/w1"]["b"]
    done = table.done("s/w1", "a", task_id="a", run_id="q", fence=OLD)
    assert [(o.task_id, o.status) for o in done.outcomes] == [("a", "completed")]


def test_what_this_broker_gave_of_a_run_that_it_has_closed_is_waited_for_by_nobody(table):
    table.step(CloseRun("q"))
    fence = table.state.epoch << FENCE_BITS | 1
    assert table.say("s/w1", hello(("q", "a", fence))).sent(Cancel) == [Cancel(fences=(fence,))]


def test_an_answer_may_come_before_its_run_is_opened(make_table, make_spec):
    table = make_table(adoption_grace_s=5.0)
    table.boss()
    table.say("s/w1", hello(("q", "a", OLD)))
    result = Result(task_id="a", run_id="q", fence=OLD, output=Value("json", b"1"), started_at=1.0, ended_at=2.0)
    assert not table.say("s/w1", Done(results=(result,))).sent(Stale)
    table.step(OpenRun("q", "/runs/q", (OpenTask(make_spec("a"), attempt=1, worker_id="s/w1", fence=OLD),), epoch=1))
    opened = table.step(Assign())
    assert [(o.task_id, o.status) for o in opened.outcomes] == [("a", "completed")]
    assert table.assigned() == {}


def test_who_is_busy_with_what_it_brought_is_given_nothing_else(table, make_spec):
    table.say("s/w1", hello(("x", "a", OLD)))
    assert table.assigned() == {}
    table.say("s/w1", hello())
    assert table.assigned() == {"s/w1": ["b"]}


def test_who_hangs_in_what_is_not_its_own_any_more_is_given_nothing_else_and_is_killed(table):
    """Nobody waits for it, so no limit of its own would end it; what it were given would wait for ever."""
    table.boss()
    table.say("s/w1", hello(("q", "a", OLD - 1)))
    assert table.assigned() == {}
    assert table.later(1.1).kills == ["s/w1"]


def test_who_says_that_it_is_free_of_it_is_given_more(table):
    table.say("s/w1", hello(("q", "a", OLD - 1)))
    table.say("s/w1", Done(dropped=(OLD - 1,)))
    assert table.assigned() == {"s/w1": ["b"]}


def test_two_claims_to_the_same_attempt_are_one(table):
    table.say("s/w1", hello(("q", "a", OLD)))
    answer = table.say("s/w2", hello(("q", "a", OLD)))
    assert answer.records("q") == []
    assert answer.sent(Cancel) == [Cancel(fences=(OLD,))]


def test_too_late_is_too_late(table):
    table.join("s/w9")
    table.now += 6
    table.assigned()
    assert table.say("s/w1", hello(("q", "a", OLD))).sent(Cancel) == [Cancel(fences=(OLD,))]


def test_a_lane_it_does_not_serve_is_not_its_own(table):
    answer = table.say("s/leaves", hello(("q", "a", OLD), lanes=("async",), slots=3))
    assert answer.records("q") == []


def test_what_never_reached_a_worker_that_greets_again_goes_back(make_table):
    """Its frame was lost with the connection; beats would have kept the lease alive for ever."""
    table = make_table()
    table.join("s/w1")
    table.submit("a", "b")
    table.turn()
    fence = table.given["s/w1"]["a"].fence
    answer = table.say("s/w1", hello(("r", "a", fence)))
    [released] = answer.records()
    assert isinstance(released, TasksReleased)
    assert [each[0] for each in released.tasks] == ["b"]
    assert answer.sent(Cancel) == [Cancel(fences=(table.given["s/w1"]["b"].fence,))]
    table.drop("s/w1", "b")
    assert [type(body) for body in table.turn().records()] == [TasksAssigned]
    assert [o.task_id for o in table.done("s/w1", "a").outcomes] == ["a"]


def test_what_is_on_its_way_to_a_worker_that_greets_again_keeps_its_place(make_table):
    """The greeting crossed it: the worker begins what went back to the queue, and may hang in it."""
    table = make_table()
    table.boss()
    table.join("s/w1")
    table.submit("a")
    table.turn()
    table.say("s/w1", hello())
    table.submit("b")
    assert table.assigned() == {}, "it is busy as far as anyone knows"
    assert table.later(1.2).kills == ["s/w1"]


def test_a_worker_that_says_nothing_of_what_it_holds_keeps_it(make_table):
    table = make_table()
    table.join("s/w1")
    table.submit("a")
    table.turn()
    assert table.join("s/w1").records() == []
    assert [o.task_id for o in table.done("s/w1", "a").outcomes] == ["a"]


def test_a_session_that_expired_may_take_up_again_what_nobody_else_has(make_table):
    table = make_table()
    table.join("s/w1")
    table.submit("a")
    table.turn()
    fence = table.given["s/w1"]["a"].fence
    table.later(11.0)
    table.say("s/w1", hello(("r", "a", fence)))
    assert table.assigned() == {}
    assert [o.status for o in table.done("s/w1", "a").outcomes] == ["completed"]


@pytest.mark.parametrize("how", ["failed", "timeout"])
def test_an_attempt_that_has_failed_is_nobodys(make_table, how):
    table = make_table()
    table.boss()
    table.join("s/w1")
    table.submit("a", retries=3, time_limit_s=5.0)
    table.turn()
    fence = table.given["s/w1"]["a"].fence
    if how == "failed":
        table.fail("s/w1", "a")
    else:
        table.later(5.1)
    assert table.say("s/w2", hello(("r", "a", fence))).sent(Cancel) == [Cancel(fences=(fence,))]
