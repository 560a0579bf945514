"""Who is given what, how much of it waits there, and what is taken back for others."""

import pytest

from epsilon_lab.broker.board import FENCE_BITS
from epsilon_lab.broker.credit import RECALL_S
from epsilon_lab.broker.stimuli import (
    DrainSession,
    OpenRun,
    PauseRun,
    ResumeRun,
    Send,
    Undelivered,
)
from epsilon_lab.messages.events import (
    TasksAssigned,
    TasksReleased,
)
from epsilon_lab.messages.frames import (
    Cancel,
    Recall,
    Renew,
    Tasks,
)


def kinds(records):
    return [type(body).__name__ for body in records]


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
