"""Cases that tasks flag: on record with the result that is accepted, in the task's own name, and with nothing else."""

import pytest

from epsilon_lab.broker.stimuli import OpenRun
from epsilon_lab.messages.events import CaseFlagged, CasesAsked, TasksCompleted, TasksFailed, TasksStale, event
from epsilon_lab.messages.frames import Note, Recorded, Refused
from epsilon_lab.messages.tasks import Event

FLAG = CaseFlagged(case_id="c-1", kind="pair", question="?", options=("same", "different"), key=["a", "b"], task_id="a")


@pytest.fixture
def begun(table):
    table.boss()
    table.join()
    table.submit("a")
    table.turn()
    return table


def test_they_are_on_record_before_the_result_and_are_told_with_it(begun):
    answer = begun.done("s/w1", "a", events=(event(FLAG),))
    assert [type(body) for body in answer.records()] == [CaseFlagged, TasksCompleted]
    [outcome] = answer.outcomes
    assert (answer.records()[0], outcome.flags) == (FLAG, (FLAG,))


def test_they_go_on_record_in_the_words_of_whoever_knows_what_is_there(begun):
    line = CasesAsked(task_id="a", told={"c-1": None})
    begun.step(OpenRun("known", "/runs/known", abridge=lambda flags: (line,) if flags == [FLAG] else ()))
    begun.submit("a", run_id="known")
    begun.done("s/w1", "a")
    begun.turn()
    answer = begun.done("s/w1", "a", events=(event(FLAG),))
    assert answer.records("known")[0] == line
    assert [outcome.flags for outcome in answer.outcomes] == [(line,)]


@pytest.mark.parametrize("claimed", [None, "", "another"])
def test_whatever_a_worker_says_it_is_its_own_task_that_flags(begun, claimed):
    """A line of the rules' own, task_id None, would keep the run from being resumed."""
    body = {**event(FLAG).body, "task_id": claimed}
    assert begun.done("s/w1", "a", events=(Event("case.flagged", body),)).records()[0].task_id == "a"


def test_an_attempt_that_failed_has_flagged_nothing(begun):
    answer = begun.fail("s/w1", "a", events=(event(FLAG),), retryable=False)
    assert [type(body) for body in answer.records()] == [TasksFailed]
    assert [outcome.flags for outcome in answer.outcomes] == [()]
    assert not answer.sent(Refused)


def test_a_stale_result_has_flagged_nothing(begun):
    begun.done("s/w1", "a")
    answer = begun.done("s/w1", "a", events=(event(FLAG),))
    assert [type(body) for body in answer.records()] == [TasksStale]


def test_what_is_no_case_fails_the_task_with_the_reason(begun):
    answer = begun.done("s/w1", "a", events=(Event("case.flagged", {"case_id": "c-1"}),))
    [failed] = answer.records()
    assert "cannot be recorded: a case that it flags" in failed.tasks[0].error
    assert "kind" in failed.tasks[0].error


def test_evidence_that_is_no_json_fails_the_task_and_not_the_run(begun):
    body = {**event(FLAG).body, "evidence": object()}
    [failed] = begun.done("s/w1", "a", events=(Event("case.flagged", body),)).records()
    assert "a case that it flags" in failed.tasks[0].error


@pytest.mark.parametrize("kind", ["verdict.given", "case.withdrawn", "case.asked"])
def test_a_task_decides_nothing(begun, kind):
    answer = begun.done("s/w1", "a", events=(Event(kind, {"case_id": "c-1", "task_id": "a"}),))
    assert [type(body) for body in answer.records()] == [TasksCompleted]
    assert "decides none" in answer.sent(Refused)[0].problem


def test_a_note_flags_nothing(begun):
    fence = begun.given["s/w1"]["a"].fence
    answer = begun.say("s/w1", Note(run_id="r", task_id="a", note_id=1, events=(event(FLAG),), fence=fence))
    assert answer.records() == []
    assert "counts with its task's result" in answer.sent(Refused)[0].problem
    assert answer.sent(Recorded)
