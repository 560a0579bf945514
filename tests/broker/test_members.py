"""Who is at work: a hello, an odd one, the same again."""

import pytest

from epsilon_lab.messages.events import (
    TasksFailed,
    WorkerJoined,
)
from epsilon_lab.messages.frames import (
    UNKNOWN_PEER,
    Bye,
    Done,
    Hello,
    Lost,
    Refused,
    Renew,
    Welcome,
)


def kinds(records):
    return [type(body).__name__ for body in records]


def test_a_worker_that_says_hello_is_welcome_and_on_record(table):
    answer = table.join("s/w1")
    assert answer.sent(Welcome) == [Welcome(epoch=3, lease_s=10.0, beat_s=2.0)]
    assert answer.records(None) == [WorkerJoined(worker_id="s/w1", pid=7, host="h", slots=1, lanes=("process",))]
    assert [row[:5] for row in table.state.workers()] == [("s/w1", 7, "h", 1, 0)]


def test_a_supervisor_is_no_worker(table):
    assert table.boss().records(None) == []
    assert table.state.workers() == []


@pytest.mark.parametrize("message", [Renew(), Bye(), Done(), Lost(member="s/w1", reason="")])
def test_a_stranger_is_asked_to_say_hello(table, message):
    [refused] = table.say("s/w1", message).sent(Refused)
    assert refused.problem.startswith(UNKNOWN_PEER)
    assert "s/w1" in refused.problem


@pytest.mark.parametrize("peer", ["w1", "/w1", "s/", "s/w\udcff", "s/w\n"])
def test_an_odd_name_is_refused(table, peer):
    answer = table.join(peer)
    assert kinds(answer.sent()) == ["Refused"]
    assert answer.records(None) == []


@pytest.mark.parametrize(("lanes", "slots"), [(("process",), 0), ((), 3), (("process",), -1), (("async",), 10**9)])
def test_impossible_slots_are_refused(table, lanes, slots):
    answer = table.say("s/w1", Hello(pid=1, host="h", lanes=lanes, slots=slots))
    assert kinds(answer.sent()) == ["Refused"]
    assert table.state.workers() == []


def test_hello_again_keeps_what_it_holds(table):
    table.join()
    table.submit("a")
    table.turn()
    answer = table.join()
    assert kinds(answer.sent()) == ["Welcome"]
    assert answer.records(None) == []
    assert [o.status for o in table.done("s/w1", "a").outcomes] == ["completed"]


def test_another_process_under_the_same_name_means_the_first_is_lost(table):
    table.join(pid=7)
    table.submit("a", "b")
    table.turn()
    answer = table.join(pid=8)
    [failed] = [body for body in answer.records() if isinstance(body, TasksFailed)]
    assert [(line.task_id, line.outcome, line.then) for line in failed.tasks] == [("a", "lost", "queued")]
    assert kinds(answer.records(None)) == ["WorkerLeft", "WorkerJoined"]
    assert table.assigned() == {"s/w1": ["a", "b"]}
