"""What became of an attempt: answers, notes, failures, and who is to blame."""

import pytest

from epsilon_lab.broker.stimuli import (
    CloseRun,
)
from epsilon_lab.ids import leaf_ref
from epsilon_lab.messages.events import (
    LlmCall,
    TasksCompleted,
    TasksFailed,
    TasksStale,
    WorkerLeft,
    event,
)
from epsilon_lab.messages.frames import (
    Bye,
    Done,
    Lost,
    Note,
    Recorded,
    Refused,
    Stale,
)
from epsilon_lab.messages.tasks import Event
from epsilon_lab.messages.values import Value, pack, restored


def kinds(records):
    return [type(body).__name__ for body in records]


def paid(number=0):
    return event(LlmCall(task_id="a", call=number, model="m", outcome="ok", prompt_ref="p", prompt_sha256="0"))


# -- answers ----------------------------------------------------------------------------------------------------------


def test_a_result_is_recorded_with_its_events_and_then_told(table):
    table.join()
    table.submit("a")
    table.turn()
    answer = table.done("s/w1", "a", events=(paid(),))
    assert [e if isinstance(e, Event) else type(e) for e in answer.records()] == [paid(), TasksCompleted]
    line = answer.records()[1].tasks[0]
    assert (line.task_id, line.attempt, bytes(line.output.json)) == ("a", 1, b'"a done"')
    [outcome] = answer.outcomes
    assert (outcome.status, outcome.output) == ("completed", pack("a done"))
    assert answer.sent() == []


def test_results_that_came_together_are_one_record(make_table):
    table = make_table(prefetch=9)
    table.join()
    table.submit(*"abc")
    table.turn()
    answer = table.done("s/w1", *"abc")
    assert kinds(answer.records()) == ["TasksCompleted"]
    assert len(answer.outcomes) == 3


def test_the_same_answer_twice_counts_once(table):
    table.join()
    table.submit("a")
    table.turn()
    table.done("s/w1", "a")
    again = table.done("s/w1", "a")
    fence = table.given["s/w1"]["a"].fence
    assert again.outcomes == []
    assert again.records() == [TasksStale(worker_id="s/w1", tasks=(("a", fence),))]
    assert again.sent() == [Stale(fences=(fence,))]


def test_an_answer_of_someone_who_holds_nothing_is_stale(table):
    table.join("s/w1")
    table.join("s/w2")
    table.submit("a")
    table.turn()
    stolen = table.say("s/w2", Done(results=(table.result("s/w1", "a"),)))
    assert stolen.outcomes == []
    assert kinds(stolen.sent()) == ["Stale"]
    assert len(table.done("s/w1", "a").outcomes) == 1


@pytest.mark.parametrize("change", [{"task_id": "b"}, {"run_id": "q"}])
def test_a_fence_answers_for_its_own_task_only(table, change):
    table.join()
    table.submit("a")
    table.turn()
    assert table.done("s/w1", "a", **change).outcomes == []
    assert len(table.done("s/w1", "a").outcomes) == 1


def test_a_stale_answer_still_says_what_was_paid_for(table):
    table.join()
    table.submit("a")
    table.turn()
    table.done("s/w1", "a")
    other = Event("artifact.saved", {"path": "x"})
    again = table.done("s/w1", "a", events=(other, paid(1)))
    assert again.records()[0] == paid(1)
    assert other not in again.records()


def test_an_answer_for_a_closed_run_is_stale_and_not_on_record(table):
    table.join()
    table.submit("a")
    table.turn()
    table.step(CloseRun("r"))
    answer = table.done("s/w1", "a", events=(paid(),))
    assert kinds(answer) == ["Send"]
    assert kinds(answer.sent()) == ["Stale"]


@pytest.mark.parametrize(
    "output", [Value("json", b"{"), Value("json", b'"\xff"'), Value("json", b"[1,\n2]"), Value("file", b"\xff")]
)
def test_a_result_that_would_break_the_journal_is_a_failure(table, output):
    table.join()
    table.submit("a", retries=3)
    table.turn()
    answer = table.done("s/w1", "a", output=output)
    assert kinds(answer.records()) == ["TasksFailed"]
    [outcome] = answer.outcomes
    assert outcome.status == "failed"
    assert "cannot be recorded" in outcome.failure.error


def test_a_result_publishes_the_files_of_its_own_attempt_and_no_other(table):
    table.join()
    table.submit("a", "b")
    table.turn()
    own = leaf_ref("a", table.given["s/w1"]["a"].fence)
    [outcome] = table.done("s/w1", "a", files=own).outcomes
    assert (outcome.status, outcome.files) == ("completed", own)
    table.turn()
    [outcome] = table.done("s/w1", "b", files=own).outcomes
    assert (outcome.status, outcome.files) == ("failed", "")
    assert f"its files, '{own}', are not those of this attempt" in outcome.failure.error


def test_further_tasks_that_a_result_asks_for_count_with_it(table):
    table.join()
    table.submit("a")
    table.turn()
    further = (Value("json", b"1"), Value("pickle", b"2"))
    answer = table.done("s/w1", "a", further=further)
    assert answer.outcomes[0].further == further
    [completed] = answer.records()
    [line] = completed.tasks
    assert tuple(map(restored, line.further)) == further


@pytest.mark.parametrize(
    "further",
    [(Value("json", b"1"),) * 101, (Value("file", b"x"),), (Value("json", b" " * 65_537),), (Value("json", b"{"),)],
    ids=["too many", "a file", "too large", "no JSON"],
)
def test_further_tasks_that_cannot_be_taken_fail_the_attempt(table, further):
    table.join()
    table.submit("a")
    table.turn()
    [outcome] = table.done("s/w1", "a", further=further).outcomes
    assert (outcome.status, outcome.further) == ("failed", ())
    assert "cannot be recorded" in outcome.failure.error


def test_an_event_that_would_break_the_journal_is_refused_by_name(table):
    table.join()
    table.submit("a")
    table.turn()
    answer = table.done("s/w1", "a", events=(Event("usage.odd", {"x": object()}),))
    assert kinds(answer.records()) == ["TasksCompleted"]
    assert "usage.odd" in answer.sent(Refused)[0].problem


def test_a_note_is_recorded_and_then_answered_with_its_run(table):
    table.join("s/leaves", lanes=("async",), slots=3)
    table.submit("a", lane="async")
    table.turn()
    answer = table.say("s/leaves", Note(run_id="r", task_id="a", note_id=4, events=(paid(),)))
    assert answer.records() == [paid()]
    assert (answer[-1].message, answer[-1].run_id) == (Recorded(note_id=4), "r")


def test_a_note_on_what_one_does_not_hold_counts_for_what_was_paid(table):
    table.join("s/leaves", lanes=("async",), slots=3)
    answer = table.say(
        "s/leaves", Note(run_id="r", task_id="a", note_id=4, events=(Event("artifact.saved", {}), paid()))
    )
    assert answer.records() == [paid()]


def test_a_note_for_a_closed_run_is_refused(table):
    table.join("s/leaves", lanes=("async",), slots=3)
    answer = table.say("s/leaves", Note(run_id="q", task_id="a", note_id=4, events=(paid(),)))
    assert "run q" in answer.sent(Refused)[0].problem


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_failure_is_tried_again_as_often_as_the_task_says(table):
    table.join()
    table.submit("a", retries=2)
    for attempt, then in enumerate(["queued", "queued", "failed"], 1):
        assert table.assigned() == {"s/w1": ["a"]}
        answer = table.fail("s/w1", "a", traceback="tb", stdout_tail="out")
        [line] = answer.records()[0].tasks
        assert (line.attempt, line.outcome, line.then, line.traceback) == (attempt, "failed", then, "tb")
    [outcome] = answer.outcomes
    assert (outcome.status, outcome.failure.error) == ("failed", "ValueError: no")


def test_a_failure_that_cannot_be_helped_is_not_tried_again(table):
    table.join()
    table.submit("a", retries=2)
    table.turn()
    assert [o.status for o in table.fail("s/w1", "a", retryable=False).outcomes] == ["failed"]


def test_a_task_that_takes_its_worker_down_is_dead_after_the_limit(table):
    table.boss()
    table.submit("a", retries=9)
    for attempt in (1, 2, 3):
        table.join()
        table.turn()
        answer = table.lose(stderr_tail="Segmentation fault")
        [failed] = [body for body in answer.records() if isinstance(body, TasksFailed)]
        [line] = failed.tasks
        assert (line.attempt, line.outcome, line.stderr_tail) == (attempt, "crashed", "Segmentation fault")
        assert line.then == ("dead" if attempt == 3 else "queued")
    [outcome] = answer.outcomes
    assert outcome.status == "dead"
    assert "killed by SIGSEGV" in outcome.failure.error


def test_only_the_first_of_the_line_is_blamed(table):
    table.boss()
    table.join()
    table.submit("guilty", "innocent")
    table.turn()
    answer = table.lose()
    failed, released = answer.records()
    assert [line.task_id for line in failed.tasks] == ["guilty"]
    assert [task[0] for task in released.tasks] == ["innocent"]
    assert answer.records(None) == [WorkerLeft(worker_id="s/w1", reason="killed by SIGSEGV")]


def test_who_knows_what_was_started_is_believed(table):
    table.boss()
    table.join()
    table.submit("a", "b")
    table.turn()
    failed, released = table.lose(fence=table.given["s/w1"]["b"].fence).records()
    assert [line.task_id for line in failed.tasks] == ["b"]
    assert [task[0] for task in released.tasks] == ["a"]


def test_a_worker_that_dies_between_two_tasks_leaves_nobody_to_blame(table):
    table.boss()
    table.join()
    table.submit("a", "b")
    table.turn()
    assert kinds(table.lose(fence=0).records()) == ["TasksReleased"]


def test_the_three_counters_are_apart(table):
    """Failures, losses and deliveries do not eat into each other's limits."""
    table.boss()
    table.submit("a", retries=1)
    for _ in range(2):
        table.join()
        table.turn()
        table.lose()
    table.join()
    table.turn()
    assert table.fail("s/w1", "a").records()[0].tasks[0].then == "queued"
    for _ in range(5):  # handed out, given back
        table.turn()
        table.say("s/w1", Bye())
        table.join()
    table.turn()
    [line] = table.fail("s/w1", "a").records()[0].tasks
    assert (line.then, line.attempt) == ("failed", 9)


def test_only_its_own_supervisor_may_declare_a_member_lost(table):
    table.boss("other")
    table.join("s/w1")
    table.join("s/w2")
    for liar in ("other/boss", "s/w2"):
        answer = table.say(liar, Lost(member="s/w1", reason="so I say"))
        assert "does not supervise" in answer.sent(Refused)[0].problem
    assert len(table.state.workers()) == 2


def test_an_outcome_nobody_knows_is_a_crash(table):
    table.boss()
    table.join()
    table.submit("a")
    table.turn()
    assert table.lose(outcome="exploded").records()[0].tasks[0].outcome == "crashed"


def test_the_loss_of_an_unknown_member_changes_nothing(table):
    table.boss()
    assert table.lose("s/w9") == []


def test_a_goodbye_gives_back_everything_and_blames_nobody(table):
    table.join("s/w1")
    table.submit("a", "b")
    table.turn()
    answer = table.say("s/w1", Bye())
    [released] = answer.records()
    assert [task[0] for task in released.tasks] == ["a", "b"]
    assert kinds(answer.records(None)) == ["WorkerLeft"]


def test_a_supervisor_takes_its_whole_session_with_it(table):
    table.boss()
    for name in ("s/w1", "s/w2", "t/w1"):
        table.join(name)
    answer = table.say("s/boss", Bye())
    assert [body.worker_id for body in answer.records(None)] == ["s/w1", "s/w2"]
    assert [row.worker_id for row in table.state.workers()] == ["t/w1"]
