"""Silence, and time limits: who loses what, and when."""

from epsilon_lab.broker.stimuli import (
    Stalled,
)
from epsilon_lab.messages.frames import (
    UNKNOWN_PEER,
    Cancel,
    Done,
    Kill,
    Refused,
    Renew,
)


def kinds(records):
    return [type(body).__name__ for body in records]


def test_a_silent_session_loses_everything_it_held(table):
    table.boss()
    table.join("s/w1")
    table.submit("a", "b")
    table.turn()
    assert table.later(10.0).records() == []
    answer = table.later(0.1)
    failed, released = answer.records()
    assert [(line.task_id, line.outcome, line.then) for line in failed.tasks] == [("a", "expired", "queued")]
    assert [task[0] for task in released.tasks] == ["b"]
    assert table.state.workers() == []
    assert table.done("s/w1", "a").sent(Refused)[0].problem.startswith(UNKNOWN_PEER)


def test_any_frame_of_any_member_renews_the_session(table):
    for name in ("s/boss", "s/w1", "s/w2"):
        table.join(name, lanes=() if name.endswith("boss") else ("process",))
    for speaker in ("s/boss", "s/w1", "s/w2", "s/boss"):
        table.later(9.0)
        table.say(speaker, Renew())
    assert len(table.state.workers()) == 2


def test_an_expired_worker_that_comes_back_starts_with_empty_hands_and_its_answer_is_stale(table):
    table.join("s/w1")
    table.submit("a")
    table.turn()
    old = table.result("s/w1", "a")
    table.later(11.0)
    table.join("s/w1")
    assert table.assigned() == {"s/w1": ["a"]}
    assert kinds(table.say("s/w1", Done(results=(old,))).sent()) == ["Stale"]
    assert len(table.done("s/w1", "a").outcomes) == 1


def test_a_late_broker_expires_nobody(table):
    """A minute's stall, a silent minute for everyone: all deadlines move."""
    table.boss()
    table.join()
    table.submit("a", time_limit_s=5.0)
    table.turn()
    table.now += 60.0
    table.step(Stalled(60.0))
    assert table.later(0.0) == []
    assert table.later(4.9) == []
    assert table.later(0.2).kills == ["s/w1"]
    assert table.later(5.0).records(None) != []


def test_a_stall_never_moves_a_deadline_beyond_a_full_lease(table):
    table.boss()
    table.join()
    table.now += 60.0
    table.say("s/boss", Renew())
    table.step(Stalled(60.0))
    assert len(table.later(10.1).records(None)) == 1


def test_a_task_beyond_its_limit_fails_and_its_process_is_killed(table):
    table.boss()
    table.join()
    table.submit("slow", "next", time_limit_s=5.0)
    table.turn()
    assert table.later(5.0) == []
    answer = table.later(0.1)
    [line] = answer.records()[0].tasks
    assert (line.task_id, line.outcome, line.then) == ("slow", "timeout", "failed")
    assert answer.sent(Kill, to="s/boss") == [Kill(member="s/w1", reason="task slow exceeded its time limit")]
    assert [(o.task_id, o.status) for o in answer.outcomes] == [("slow", "failed")]
    assert table.later(0.5).kills == [], "it is asked once"

    table.submit("more")
    assert table.assigned() == {}, "a condemned worker gets nothing"
    released = table.lose(outcome="timeout")
    assert kinds(released.records()) == ["TasksReleased"], "the others are not to blame"
    assert released.outcomes == []


def test_the_limit_counts_from_when_a_task_heads_the_line(table):
    table.boss()
    table.join()
    table.submit("a", "b", time_limit_s=5.0)
    table.turn()
    table.now += 4.0
    table.done("s/w1", "a")
    assert table.later(4.9).kills == []
    assert table.later(0.2).kills == ["s/w1"]


def test_an_innocent_that_moved_up_before_the_kill_is_not_blamed(table):
    table.boss()
    table.join()
    table.submit("slow", "next", time_limit_s=5.0)
    table.turn()
    table.later(6.0)
    assert kinds(table.done("s/w1", "slow").sent()) == ["Stale"]
    answer = table.lose(fence=table.given["s/w1"]["next"].fence)
    assert kinds(answer.records()) == ["TasksReleased"]


def test_a_condemned_worker_gets_nothing_even_if_its_hands_are_empty(table):
    table.boss()
    table.join()
    table.submit("slow", time_limit_s=5.0)
    table.turn()
    table.later(6.0)
    table.done("s/w1", "slow")
    table.submit("more")
    assert table.assigned() == {}


def test_a_condemned_worker_nobody_buries_is_let_go(table):
    table.boss()
    table.join()
    table.submit("slow", "next", time_limit_s=5.0)
    table.turn()
    table.later(6.0)
    for _ in range(3):
        table.say("s/boss", Renew())
        answer = table.later(4.0)
    assert kinds(answer.records()) == ["TasksReleased"]
    assert table.state.workers() == []


def test_time_limits_count_as_failures(table):
    table.boss()
    table.submit("a", time_limit_s=5.0, retries=1)
    for then in ("queued", "failed"):
        table.join()
        table.turn()
        [line] = table.later(6.0).records()[0].tasks
        assert line.then == then
        table.lose()
        table.say("s/boss", Renew())


def test_an_async_leaf_beyond_its_limit_is_cancelled_and_its_slot_is_free(table):
    table.join("s/leaves", lanes=("async",), slots=2)
    table.submit("a", "b", "c", lane="async", time_limit_s=5.0)
    table.turn()
    table.now += 1.0
    table.done("s/leaves", "b")
    table.turn()
    answer = table.later(4.5)
    assert answer.sent(Cancel) == [Cancel(fences=(table.given["s/leaves"]["a"].fence,))]
    assert [(o.task_id, o.status) for o in answer.outcomes] == [("a", "failed")]
    table.submit("d", lane="async")
    assert table.assigned() == {"s/leaves": ["d"]}
