"""The broker's rules, one by one."""

import sys

import pytest

from epsilon_lab.broker.board import FENCE_BITS
from epsilon_lab.broker.credit import RECALL_S
from epsilon_lab.broker.stimuli import (
    Abandon,
    CancelTasks,
    CloseRun,
    DiskShort,
    DrainSession,
    OpenRun,
    OpenTask,
    PauseRun,
    Receipt,
    ResumeRun,
    Send,
    Stalled,
    Submit,
    Undelivered,
)
from epsilon_lab.errors import InvalidInput, QueueFull
from epsilon_lab.ids import leaf_ref
from epsilon_lab.messages.events import (
    LlmCall,
    TasksAssigned,
    TasksCancelled,
    TasksCompleted,
    TasksFailed,
    TasksReleased,
    TasksStale,
    TasksSubmitted,
    WorkerJoined,
    WorkerLeft,
    event,
)
from epsilon_lab.messages.frames import (
    UNKNOWN_PEER,
    Bye,
    Cancel,
    Done,
    Hello,
    Interrupt,
    Kill,
    Lost,
    Note,
    Recall,
    Recorded,
    Refused,
    Renew,
    Stale,
    Tasks,
    Welcome,
)
from epsilon_lab.messages.tasks import Event
from epsilon_lab.messages.values import Value, pack, restored


def kinds(records):
    return [type(body).__name__ for body in records]


def paid(number=0):
    return event(LlmCall(task_id="a", call=number, model="m", outcome="ok", prompt_ref="p", prompt_sha256="0"))


# -- joining ----------------------------------------------------------------------------------------------------------


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


# -- handing out ------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_frame_and_one_record(make_table):
    table = make_table(prefetch=9)
    table.join()
    table.submit("a", "b", "c")
    answer = table.turn()
    [frame] = answer.sent(Tasks)
    [record] = answer.records()
    assert [each.task.task_id for each in frame.assignments] == ["a", "b", "c"]
    assert record == TasksAssigned(
        worker_id="s/w1", tasks=tuple((each.task.task_id, 1, each.fence) for each in frame.assignments)
    )
    assert frame.assignments[0].run_dir == "/runs/r"


def test_fences_grow_and_carry_the_epoch(table):
    table.join()
    table.submit("a", "b")
    table.turn()
    fences = [table.given["s/w1"][name].fence for name in "ab"]
    assert fences == [3 << FENCE_BITS | 1, 3 << FENCE_BITS | 2]


def test_the_least_loaded_comes_first(table):
    for name in ("s/w1", "s/w2"):
        table.join(name)
    table.submit("a", "b", "c")
    assert table.assigned() == {"s/w1": ["a", "c"], "s/w2": ["b"]}


def test_nobody_holds_more_than_slots_and_prefetch_while_nothing_is_known(table):
    table.join()
    table.submit(*"abcd")
    assert table.assigned() == {"s/w1": ["a", "b"]}
    assert table.assigned() == {}


@pytest.mark.parametrize(
    ("seconds", "held"), [(0.0, 256), (0.001, 20), (0.0099, 2), (0.02, 1), (30.0, 1)], ids=lambda each: str(each)
)
def test_the_window_follows_the_measured_duration(table, seconds, held):
    """As many as fit into 20 ms of work, between the slots and 256."""
    table.join()
    table.submit("first")
    table.turn()
    table.done("s/w1", "first", started_at=50.0, ended_at=50.0 + seconds)
    table.submit(*[f"t{n}" for n in range(400)])
    assert len(table.assigned()["s/w1"]) == held


def test_durations_are_known_by_run_and_kind(table):
    table.step(OpenRun("q", "/runs/q"))
    table.join()
    table.submit("first")
    table.turn()
    table.done("s/w1", "first", started_at=50.0, ended_at=50.0)
    table.submit(*[f"t{n}" for n in range(9)], run_id="q")
    table.submit(*[f"u{n}" for n in range(9)], kind="other")
    assert len(table.assigned()["s/w1"]) == 2


def test_one_long_task_closes_the_window(table):
    table.join()
    for n in range(5):
        table.submit(f"quick{n}")
        table.turn()
        table.done("s/w1", f"quick{n}", started_at=50.0, ended_at=50.0)
    table.submit("slow")
    table.turn()
    table.done("s/w1", "slow", started_at=50.0, ended_at=60.0)
    table.submit(*"ab")
    assert table.assigned() == {"s/w1": ["a"]}


def test_a_task_that_may_not_wait_waits_behind_nobody_and_nobody_behind_it(table):
    table.join()
    table.submit("a")
    table.submit("long", prefetch=False)
    table.submit("b", "c")
    assert table.assigned() == {"s/w1": ["a"]}
    table.done("s/w1", "a")
    assert table.assigned() == {"s/w1": ["long"]}
    table.done("s/w1", "long")
    assert table.assigned() == {"s/w1": ["b"]}


def test_the_async_lane_fills_its_slots_and_no_more(table):
    table.join("s/leaves", lanes=("async",), slots=3)
    table.submit(*"abcde", lane="async")
    assert table.assigned() == {"s/leaves": ["a", "b", "c"]}
    table.done("s/leaves", "b")
    assert table.assigned() == {"s/leaves": ["d"]}


def test_lanes_are_kept_apart(table):
    table.join("s/w1")
    table.join("s/leaves", lanes=("async",), slots=3)
    table.submit("a", lane="async")
    table.submit("b")
    assert table.assigned() == {"s/w1": ["b"], "s/leaves": ["a"]}


def test_a_paused_run_gets_nothing_and_what_runs_finishes(table):
    table.join()
    table.submit(*"abc")
    table.turn()
    table.step(PauseRun("r"))
    assert [o.status for o in table.done("s/w1", "a", "b").outcomes] == ["completed", "completed"]
    assert table.assigned() == {}
    table.step(ResumeRun("r"))
    assert table.assigned() == {"s/w1": ["c"]}


def test_what_waits_behind_a_long_task_is_recalled_for_an_idle_worker(table):
    table.join("s/w1")
    table.submit("long", "waiting")
    assert table.assigned() == {"s/w1": ["long", "waiting"]}
    table.join("s/w2")
    table.now += RECALL_S / 2
    assert table.assigned() == {}
    table.now += RECALL_S
    fence = table.given["s/w1"]["waiting"].fence
    assert table.turn() == [Send("s/w1", Recall(fences=(fence,)))]
    assert table.turn() == [], "asked once"
    [released] = table.drop("s/w1", "waiting").records()
    assert released == TasksReleased(
        worker_id="s/w1", reason="recalled for an idle worker", tasks=(("waiting", 1, fence),)
    )
    [assigned] = table.turn().records()
    assert [task[:2] for task in assigned.tasks] == [("waiting", 2)]
    assert table.given["s/w2"]["waiting"].fence > fence
    assert table.assigned() == {}
    assert [o.task_id for o in table.done("s/w2", "waiting").outcomes] == ["waiting"]
    assert [o.task_id for o in table.done("s/w1", "long").outcomes] == ["long"]


def test_what_was_begun_as_it_was_recalled_goes_on_and_is_executed_once(table):
    table.join("s/w1")
    table.submit("long", "recalled")
    table.turn()
    table.join("s/w2")
    table.now += 2 * RECALL_S
    assert table.turn().sent(Recall)
    table.done("s/w1", "long")
    assert table.later(5.0).records() == []
    assert [o.status for o in table.done("s/w1", "recalled").outcomes] == ["completed"]


def test_as_many_tasks_are_recalled_as_workers_are_idle(table):
    table.join("s/w1")
    table.submit("long", "a")
    table.turn()
    table.join("s/w2")
    table.submit("other", "b")
    table.turn()
    assert {peer: list(given) for peer, given in table.given.items()} == {"s/w1": ["long", "a"], "s/w2": ["other", "b"]}
    table.join("s/w3")
    table.now += 2 * RECALL_S
    assert [len(recall.fences) for recall in table.turn().sent(Recall)] == [1]
    assert table.turn() == []


def test_who_is_leaving_gives_back_what_it_has_not_begun(table):
    table.boss()
    table.join("s/w1")
    table.submit("long", "waiting")
    table.turn()
    table.step(DrainSession("s"))
    table.join("t/w1")
    assert table.assigned() == {}
    assert [body.reason for body in table.drop("s/w1", "waiting").records()] == ["its worker is leaving"]
    assert table.assigned() == {"t/w1": ["waiting"]}


def test_a_process_that_had_begun_what_was_recalled_is_not_believed_idle(table):
    """It hangs in it: whatever else it were given would wait for ever."""
    table.boss()
    table.join("s/w1")
    table.submit("long", "recalled")
    table.turn()
    table.join("s/w2")
    table.now += 2 * RECALL_S
    table.turn()
    assert table.later(table.settings.grace_s).sent(Cancel, to="s/w1"), "it is too busy to say whether it has"
    assert table.assigned() == {"s/w2": ["recalled"]}
    table.done("s/w1", "long")
    table.submit("next", prefetch=False)
    assert table.assigned() == {}, "both are busy as far as anyone knows"
    assert table.later(1.2).kills == ["s/w1"], "it did not say within its grace that it had not begun it"
    assert table.lose("s/w1").records() == [], "nobody is to blame"
    table.done("s/w2", "recalled")
    assert table.assigned() == {"s/w2": ["next"]}


def test_a_process_that_had_not_begun_what_was_recalled_is_given_more(table):
    table.boss()
    table.join("s/w1")
    table.submit("long", "recalled")
    table.turn()
    table.join("s/w2")
    table.now += 2 * RECALL_S
    table.turn()
    table.later(table.settings.grace_s)
    assert table.assigned() == {"s/w2": ["recalled"]}
    table.done("s/w1", "long")
    table.drop("s/w1", "recalled")
    table.submit("next", prefetch=False)
    assert table.assigned() == {"s/w1": ["next"]}
    assert table.later(5.0).kills == []


def test_nobody_drops_what_is_still_its_own(table):
    table.join()
    table.submit("a")
    table.turn()
    assert table.drop("s/w1", "a") == []
    assert [outcome.status for outcome in table.done("s/w1", "a").outcomes] == ["completed"]


def test_work_of_a_paused_run_is_not_recalled(table):
    table.join("s/w1")
    table.submit("long", "waiting")
    table.turn()
    table.join("s/w2")
    table.step(PauseRun("r"))
    table.now += 1
    assert table.turn() == []


def test_what_could_not_be_sent_goes_back_and_its_peer_waits_for_a_sign(table):
    table.join("s/w1")
    table.submit("a", "b")
    [frame] = table.turn().sent(Tasks)
    answer = table.step(Undelivered("s/w1", frame))
    assert kinds(answer.records()) == ["TasksReleased"]
    assert table.assigned() == {}
    table.say("s/w1", Renew())
    assert table.assigned() == {"s/w1": ["a", "b"]}


def test_a_peer_that_could_not_be_reached_is_tried_again_after_a_while(table):
    table.join("s/w1")
    table.submit("a")
    table.step(Undelivered("s/w1", table.turn().sent(Tasks)[0]))
    table.later(0.5)
    assert table.assigned() == {"s/w1": ["a"]}


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


# -- deadlines --------------------------------------------------------------------------------------------------------


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


# -- cancelling -------------------------------------------------------------------------------------------------------


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
