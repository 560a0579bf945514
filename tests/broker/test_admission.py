"""A request to a model goes out when the broker says so: within the budget, of an attempt that counts, on record."""

import msgspec
import pytest

from epsilon_lab import Budget
from epsilon_lab.broker.ledger import Ledger
from epsilon_lab.broker.stimuli import Assign, CloseBudget, OpenRun
from epsilon_lab.messages.events import Ceiling, LlmCall, event
from epsilon_lab.messages.frames import Cancel, Denied, Note, Recorded
from epsilon_lab.messages.tasks import Event

LANE = "s/leaves"
SAVED = Event("artifact.saved", {"path": "p"})


def asked(task_id, fence, number=0, *, tokens=100, reply=50):
    """The line of a request that has not gone out."""
    return LlmCall(
        task_id=task_id,
        call=0,
        model="m",
        outcome="unknown",
        prompt_ref="p",
        prompt_sha256="0",
        request=f"{fence}.{number}",
        most=Ceiling(prompt_tokens=tokens, reply_tokens=reply),
    )


def answered(call, prompt=0, reply=0, outcome="ok"):
    return msgspec.structs.replace(
        call, outcome=outcome, prompt_tokens=prompt, completion_tokens=reply, most=None, error=""
    )


@pytest.fixture
def desk(make_table):
    """A run `b` with tasks a to d in the async lane's hands, under the budget that a test opens it with."""

    def open_run(budget, **limits):
        table = make_table(lease_s=1000.0)
        table.step(OpenRun("b", "/runs/b", ledger=Ledger(budget)))
        table.join(LANE, lanes=("async",), slots=8)
        table.submit(*"abcd", run_id="b", lane="async", **limits)
        table.turn()
        return Desk(table)

    return open_run


class Desk:
    def __init__(self, table):
        self.table = table
        self.notes = 0

    def fence(self, task_id):
        return self.table.given[LANE][task_id].fence

    def ask(self, task_id, number=0, *before, fence=None, **tokens):
        """Ask; the line, and what is answered by the end of the turn."""
        fence = fence or self.fence(task_id)
        line = asked(task_id, fence, number, **tokens)
        return line, self.tell(task_id, *before, line, fence=fence)

    def tell(self, task_id, *lines, fence=None):
        """A note; what follows by the end of the turn."""
        self.notes += 1
        events = tuple(line if isinstance(line, Event) else event(line) for line in lines)
        note = Note(run_id="b", task_id=task_id, note_id=self.notes, events=events, fence=fence)
        return type(self.table.turn())([*self.table.say(LANE, note), *self.table.step(Assign())])


def rows(answer):
    return [body for body in answer.records("b") if isinstance(body, LlmCall)]


def test_a_request_is_answered_in_its_own_turn_behind_its_row(desk):
    desk = desk(Budget(calls=2))
    line, answer = desk.ask("a")
    assert answer.records("b") == [line]
    assert (answer[-1].message, answer[-1].run_id) == (Recorded(note_id=1), "b")


def test_a_request_over_the_budget_is_denied_and_a_row(desk):
    desk = desk(Budget(calls=1))
    desk.ask("a")
    line, answer = desk.ask("b", 0, SAVED)
    reason = "budget: the budget of 1 call was used up"
    assert answer.records("b") == [SAVED, msgspec.structs.replace(line, outcome="refused", error=reason)]
    assert (answer[-1].message, answer[-1].run_id) == (Denied(note_id=2, reason=reason), "b")


def test_what_a_note_tells_of_the_last_request_counts_for_the_next(desk):
    """A retry comes in one note with the failure before it."""
    desk = desk(Budget(tokens=200))
    first, _ = desk.ask("a")
    _, answer = desk.ask("a", 1, answered(first, outcome="error"))
    assert [row.outcome for row in answer.records("b")[1:]] == ["unknown"]
    assert answer.sent(Recorded)


def test_a_request_waits_until_one_in_flight_has_ended(desk):
    desk = desk(Budget(tokens=300))
    first, _ = desk.ask("a")
    desk.ask("b")
    waiting, answer = desk.ask("c", 0, SAVED)
    assert answer.records("b") == [SAVED]
    assert not answer.sent()
    answer = desk.tell("a", answered(first, 20, 10))
    assert not answer.sent(to=LANE)[1:]
    desk.table.done(LANE, "b", events=(event(answered(asked("b", desk.fence("b")), 20, 10)),))
    answer = desk.table.turn()
    assert rows(answer) == [waiting]
    assert answer.sent() == [Recorded(note_id=3)]


def test_a_request_whose_attempt_ended_without_a_word_is_waited_for_no_longer(desk):
    desk = desk(Budget(tokens=250))
    desk.ask("a")
    desk.ask("b", tokens=40, reply=20)
    desk.ask("c", tokens=40, reply=20)
    desk.table.fail(LANE, "a", retryable=False)
    desk.table.fail(LANE, "b", retryable=False)
    answer = desk.table.turn()
    assert [denied.reason for denied in answer.sent(Denied)] == [
        "budget: the budget of 250 tokens was used up (210 spent, and another request may take 60)"
    ]


def test_those_who_wait_are_served_in_their_order(desk):
    desk = desk(Budget(tokens=200))
    first, _ = desk.ask("a")
    desk.ask("b")
    desk.ask("c", tokens=1, reply=1)
    answer = desk.tell("a", answered(first, 10, 10))
    assert answer.sent() == [Recorded(note_id=4), Recorded(note_id=2), Recorded(note_id=3)]


def test_a_reply_s_limit_is_told_where_the_ledger_set_it(desk):
    desk = desk(Budget(tokens=1100))
    _, answer = desk.ask("a", reply=None)
    assert answer.sent() == [Recorded(note_id=1, reply_tokens=1000)]
    assert rows(answer)[0].most == Ceiling(prompt_tokens=100, reply_tokens=1000)


def test_an_attempt_that_no_longer_counts_sends_nothing(desk):
    """Its task was given to another; what it would pay for would be thrown away."""
    desk = desk(None)
    old = desk.fence("a")
    desk.table.fail(LANE, "a", retryable=True)
    _, answer = desk.ask("a", fence=old)
    assert [row.outcome for row in rows(answer)] == ["refused"]
    assert "in other hands" in answer.sent(Denied)[0].reason
    _, answer = desk.ask("zzz", fence=7)
    assert answer.sent(Denied)


def test_the_old_attempt_of_a_task_that_came_back_to_the_same_lane_sends_nothing(desk):
    desk = desk(None, retries=1)
    old = desk.fence("a")
    desk.table.fail(LANE, "a")
    desk.table.turn()
    assert desk.fence("a") != old
    _, answer = desk.ask("a", fence=old)
    assert answer.sent(Denied)
    _, answer = desk.ask("a")
    assert answer.sent() == [Recorded(note_id=2)]


def test_a_request_that_nobody_waits_for_any_more_is_forgotten(desk):
    desk = desk(Budget(tokens=200))
    desk.ask("a")
    desk.ask("b")
    desk.table.fail(LANE, "b", retryable=False)
    desk.table.fail(LANE, "a", retryable=False, events=(event(answered(asked("a", desk.fence("a")), 1, 1)),))
    assert not desk.table.turn().sent()
    line, answer = desk.ask("c")
    assert rows(answer) == [line]


def test_a_request_in_another_task_s_name_is_denied(desk):
    desk = desk(None)
    answer = desk.tell("a", asked("b", desk.fence("b")), fence=desk.fence("a"))
    assert answer.sent(Denied)


def test_a_note_that_comes_twice_is_one_request(desk):
    desk = desk(Budget(calls=1))
    desk.ask("a")
    _, answer = desk.ask("a")
    assert answer.sent() == [Recorded(note_id=2)]


def test_a_time_limit_does_not_count_the_wait(desk):
    desk = desk(Budget(tokens=160), time_limit_s=10.0)
    table = desk.table
    first, _ = desk.ask("a")
    desk.ask("b")
    table.now += 9
    desk.tell("a", first := answered(first, 5, 5))
    table.now += 9
    answer = table.later(0)
    assert {fence for cancel in answer.sent(Cancel) for fence in cancel.fences} == {
        desk.fence(task_id) for task_id in "acd"
    }
    answer = table.later(2)
    assert [cancel.fences for cancel in answer.sent(Cancel)] == [(desk.fence("b"),)]


def test_a_request_that_waits_is_not_cut_off_by_its_time_limit(desk):
    desk = desk(Budget(tokens=160), time_limit_s=10.0)
    desk.ask("a")
    desk.table.now += 5
    desk.ask("a", 1)
    answer = desk.table.later(20)
    assert {fence for cancel in answer.sent(Cancel) for fence in cancel.fences} == {
        desk.fence(task_id) for task_id in "bcd"
    }


def test_a_closed_budget_denies_those_who_wait_and_those_who_come(desk):
    desk = desk(Budget(tokens=160))
    desk.ask("a")
    desk.ask("b")
    desk.table.step(CloseBudget("b", "the time is over"))
    assert [denied.reason for denied in desk.table.turn().sent(Denied)] == ["budget: the time is over"]
    _, answer = desk.ask("c")
    assert answer.sent(Denied)
    desk.table.step(CloseBudget("unknown", "x"))
