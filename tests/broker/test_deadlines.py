"""Deadlines: expired work is never begun, and what shows progress is left alone."""

import pytest

from epsilon_lab.broker.members import Held, Member
from epsilon_lab.broker.stimuli import CancelTasks, OpenRun, OpenTask, PauseRun, Stalled, Undelivered
from epsilon_lab.messages.events import LlmCall, TasksExpired, event
from epsilon_lab.messages.frames import Beat, Cancel, Note, Renew, Tasks


def test_what_has_not_begun_in_time_fails_unbegun_and_on_record(table):
    table.submit("a", start_within_s=5.0)
    table.submit("b")
    assert table.later(5.0) == []
    answer = table.later(0.1)
    why = "not begun within 5 s of its submission"
    assert answer.records() == [TasksExpired(tasks=(("a", why),))]
    [outcome] = answer.outcomes
    assert (outcome.status, outcome.failure.outcome, outcome.failure.error) == ("failed", "expired", why)
    table.join()
    assert table.assigned() == {"s/w1": ["b"]}


def test_expired_work_is_not_begun_even_before_a_look_at_deadlines(table):
    table.submit("a", finish_within_s=5.0)
    table.submit("b")
    table.now += 5.0
    table.join()
    assert table.assigned() == {"s/w1": ["b"]}
    assert [o.task_id for o in table.later(0.1).outcomes] == ["a"]


def test_a_late_broker_expires_no_task(table):
    table.submit("a", start_within_s=5.0)
    table.submit("b", finish_within_s=5.0)
    table.now += 60.0
    table.join()
    table.turn()
    table.step(Stalled(60.0))
    assert table.later(0.0).outcomes == []
    table.now += 1.0
    assert table.assigned() == {"s/w1": ["a", "b"]}
    table.done("s/w1", "a")
    assert [o.task_id for o in table.later(4.1).outcomes] == ["b"], "a stall moves a deadline, and no more than that"


def test_a_deadline_is_never_moved_beyond_its_full_length(table):
    table.submit("a", start_within_s=5.0)
    table.step(Stalled(60.0))
    assert [o.task_id for o in table.later(5.1).outcomes] == ["a"]


def test_what_waits_in_a_workers_hands_expires_too(table):
    table.join()
    table.submit("long")
    table.submit("a", start_within_s=5.0)
    assert table.assigned() == {"s/w1": ["long", "a"]}
    fence = table.given["s/w1"]["a"].fence
    answer = table.later(5.1)
    assert [type(body).__name__ for body in answer.records()] == ["TasksReleased", "TasksExpired"]
    assert answer.sent(Cancel) == [Cancel(fences=(fence,))]
    assert [(o.task_id, o.status) for o in answer.outcomes] == [("a", "failed")]
    assert table.assigned() == {}


def test_begun_in_time_is_in_time_also_if_it_must_be_begun_again(table):
    table.boss()
    table.join()
    table.submit("a", start_within_s=5.0)
    table.turn()
    table.lose()
    assert table.later(9.0).outcomes == []
    table.join()
    assert table.assigned() == {"s/w1": ["a"]}


def test_the_total_counts_all_attempts_and_ends_the_one_under_way(table):
    table.boss()
    table.join()
    table.submit("a", finish_within_s=5.0, retries=9)
    table.turn()
    table.now += 3.0
    table.fail("s/w1", "a")
    table.turn()
    answer = table.later(2.1)
    [line] = answer.records()[0].tasks
    assert (line.attempt, line.outcome, line.then) == (2, "timeout", "failed")
    assert "not done within 5 s of its submission" in line.error
    assert answer.kills == ["s/w1"]
    assert [o.status for o in answer.outcomes] == ["failed"]


def test_an_expired_async_leaf_is_cancelled(table):
    table.join("s/leaves", lanes=("async",), slots=2)
    table.submit("a", lane="async", finish_within_s=5.0)
    table.turn()
    answer = table.later(5.1)
    assert answer.sent(Cancel) == [Cancel(fences=(table.given["s/leaves"]["a"].fence,))]
    assert table.later(9.0).sent() == []


def test_a_delayed_task_may_expire_before_it_wakes(table):
    table.submit("a", delay_s=60.0, finish_within_s=5.0)
    assert [o.status for o in table.later(5.1).outcomes] == ["failed"]
    assert table.state.wakes_at is None


def test_silence_beyond_the_beat_ends_an_attempt_and_progress_does_not(table):
    table.boss()
    table.join()
    table.submit("a", beat_within_s=2.0)
    table.turn()
    fence = table.given["s/w1"]["a"].fence
    for _ in range(5):
        table.now += 1.9
        table.say("s/w1", Beat(fences=(fence, 12345)))
        assert table.later(0.0).outcomes == []
    assert table.later(1.9).outcomes == []
    answer = table.later(0.2)
    [line] = answer.records()[0].tasks
    assert (line.outcome, line.error) == ("timeout", "no sign of progress within 2 s")
    assert answer.kills == ["s/w1"]


def test_a_session_that_lives_is_no_sign_of_progress(table):
    table.boss()
    table.join()
    table.submit("a", beat_within_s=2.0)
    table.turn()
    table.now += 1.9
    table.say("s/boss", Renew())
    assert table.later(0.2).kills == ["s/w1"]


def test_a_note_is_a_sign_of_progress(table):
    table.join("s/leaves", lanes=("async",), slots=2)
    table.submit("a", lane="async", beat_within_s=2.0)
    table.turn()
    table.now += 1.5
    line = event(LlmCall(task_id="a", call=0, model="m", outcome="ok", prompt_ref="p", prompt_sha256="0"))
    table.say("s/leaves", Note(run_id="r", task_id="a", note_id=1, events=(line,)))
    assert table.later(1.0).outcomes == []


def test_a_beat_under_a_fence_of_others_counts_for_nothing(table):
    table.boss()
    table.join("s/w1")
    table.join("s/w2")
    table.submit("a", beat_within_s=2.0)
    table.turn()
    table.now += 1.9
    table.say("s/w2", Beat(fences=(table.given["s/w1"]["a"].fence,)))
    assert table.later(0.2).kills == ["s/w1"]


def test_the_time_limit_stands_beside_the_beat(table):
    table.boss()
    table.join()
    table.submit("a", beat_within_s=2.0, time_limit_s=3.0)
    table.turn()
    for _ in range(3):
        table.now += 1.0
        table.say("s/w1", Beat(fences=(table.given["s/w1"]["a"].fence,)))
    [line] = table.later(0.1).records()[0].tasks
    assert line.error == "not done within its time limit of 3 s"


def test_deadlines_go_on_where_another_broker_left_them(table, make_spec):
    left = (
        OpenTask(make_spec("late", finish_within_s=5.0), age_s=4.0),
        OpenTask(make_spec("begun", start_within_s=5.0), attempt=1, age_s=9.0),
    )
    table.step(OpenRun("q", "/runs/q", left))
    assert table.later(1.0).outcomes == []
    assert [o.task_id for o in table.later(0.1).outcomes] == ["late"]


@pytest.mark.parametrize("end", ["done", "cancel"])
def test_a_deadline_of_a_day_keeps_nothing_in_memory(table, end):
    table.join()
    for n in range(300):
        table.submit(f"t{n}", finish_within_s=86_400.0, time_limit_s=3600.0)
        table.turn()
        if end == "done":
            table.done("s/w1", f"t{n}")
        else:
            table.step(CancelTasks("r", None, ""))
            table.done("s/w1", f"t{n}")
    board = table.state.board
    assert (len(board.deadlines), len(board.limits), len(board.delayed)) == (0, 0, 0)


def test_a_look_costs_what_is_due_and_not_what_there_is(make_table, monkeypatch):
    """The sweep at 100,000 leases takes less than 0.1 ms, and most of that for the members."""
    looked = []
    monkeypatch.setattr(Member, "started", lambda member: looked.append(member) or [])
    over_at = Held.over_at.fget
    monkeypatch.setattr(Held, "over_at", property(lambda held: looked.append(held) or over_at(held)))
    table = make_table()
    table.join("s/leaves", lanes=("async",), slots=1000)
    table.submit(*[f"t{n}" for n in range(999)], lane="async", time_limit_s=3600.0, finish_within_s=7200.0)
    table.submit("short", lane="async", time_limit_s=1.0)
    table.turn()
    looked.clear()
    assert table.later(0.9) == []
    assert looked == []
    assert len(table.later(0.2).outcomes) == 1
    assert len(looked) == 1


def test_what_was_answered_was_begun_although_nobody_saw_it_at_the_head_of_its_line(table, make_spec):
    table.join()
    table.submit(*(make_spec(name, start_within_s=5.0, retries=1) for name in ("a", "b")))
    assert table.assigned() == {"s/w1": ["a", "b"]}
    table.step(PauseRun("r"))
    table.fail("s/w1", "a", "b")
    assert table.later(9.0).outcomes == []


def test_what_comes_to_the_head_of_a_line_is_worked_on_from_then(table, make_spec):
    table.join()
    table.submit("a")
    table.submit(make_spec("b", start_within_s=5.0))
    assert table.assigned() == {"s/w1": ["a", "b"]}
    table.done("s/w1", "a")
    assert table.later(9.0).outcomes == []


def test_what_comes_to_the_head_because_others_never_arrived_is_worked_on_too(table, make_spec):
    table.join()
    table.submit("a")
    [lost] = table.turn().sent(Tasks)
    table.submit(make_spec("b", start_within_s=5.0))
    assert table.assigned() == {"s/w1": ["b"]}
    table.step(Undelivered("s/w1", lost, is_gone=False))
    assert table.later(9.0).outcomes == []
