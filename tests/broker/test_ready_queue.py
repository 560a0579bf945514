"""Whose turn it is."""

import pytest

from epsilon_lab.broker.queue import ReadyQueue


@pytest.fixture
def queue():
    return ReadyQueue()


def put(queue, *names, run_id="r", priority=0, lane="process"):
    for name in names:
        queue.push(name, lane=lane, run_id=run_id, rank=-priority, ticket=int(name[1:]))


def drain(queue, lane="process"):
    got = []
    while (item := queue.peek(lane)) is not None:
        assert queue.pop(lane) is item
        got.append(item)
    return got


def test_first_come_first_served(queue):
    put(queue, "t1", "t2", "t3")
    assert drain(queue) == ["t1", "t2", "t3"]


def test_larger_priority_first(queue):
    put(queue, "t1", "t2")
    put(queue, "t3", priority=5)
    put(queue, "t4", priority=-1)
    assert drain(queue) == ["t3", "t1", "t2", "t4"]


def test_runs_take_turns(queue):
    put(queue, "t1", "t2", "t3", "t4", run_id="long")
    put(queue, "t5", "t6", run_id="short")
    assert drain(queue) == ["t1", "t5", "t2", "t6", "t3", "t4"]


def test_what_comes_back_takes_its_old_place(queue):
    put(queue, "t1", "t2", "t3")
    assert queue.peek("process") == queue.pop("process") == "t1"
    put(queue, "t1")
    assert drain(queue) == ["t1", "t2", "t3"]


def test_looking_takes_nothing(queue):
    put(queue, "t1")
    assert queue.peek("process") == queue.peek("process") == "t1"
    assert len(queue) == 1


def test_lanes_do_not_mix(queue):
    put(queue, "t1")
    put(queue, "t2", lane="async")
    assert (drain(queue, "async"), drain(queue)) == (["t2"], ["t1"])


def test_a_discarded_item_never_comes(queue):
    put(queue, "t1", "t2")
    assert queue.discard(1, lane="process")
    assert not queue.discard(1, lane="process")
    assert len(queue) == 1
    assert drain(queue) == ["t2"]


def test_a_paused_run_waits_and_the_others_go_on(queue):
    put(queue, "t1", "t2", run_id="a")
    put(queue, "t3", run_id="b")
    queue.pause("a")
    assert drain(queue) == ["t3"]
    assert queue.is_paused("a")
    queue.resume("a")
    assert drain(queue) == ["t1", "t2"]


def test_a_dropped_run_is_gone(queue):
    put(queue, "t1", "t2", run_id="a")
    put(queue, "t3", run_id="b")
    queue.discard(1, lane="process")
    queue.drop("a")
    assert len(queue) == 1
    put(queue, "t4", run_id="a")
    assert drain(queue) == ["t3", "t4"]
    queue.drop("a")
    assert len(queue) == 0


def test_turns_follow_the_weights(queue):
    queue.weigh("heavy", 3.0)
    put(queue, *[f"t{n}" for n in range(100, 160)], run_id="heavy")
    put(queue, *[f"t{n}" for n in range(200, 260)], run_id="light")
    first = drain(queue)[:40]
    assert sum(name < "t200" for name in first) == 30
    assert max(map(len, "".join("h" if name < "t200" else " " for name in first).split())) <= 4, "in between, not after"


def test_a_weight_may_change_while_items_wait(queue):
    put(queue, *[f"t{n}" for n in range(100, 160)], run_id="a")
    put(queue, *[f"t{n}" for n in range(200, 260)], run_id="b")
    queue.weigh("b", 4.0)
    assert sum(name < "t200" for name in drain(queue)[:50]) in (10, 11)


def test_a_run_cannot_save_up_turns(queue):
    put(queue, *[f"t{n}" for n in range(100, 150)], run_id="early")
    for _ in range(40):
        queue.peek("process")
        queue.pop("process")
    put(queue, *[f"t{n}" for n in range(200, 250)], run_id="late")
    nexts = drain(queue)[:10]
    assert sum(name < "t200" for name in nexts) == 5


def test_an_item_that_is_put_elsewhere_comes_once(queue):
    put(queue, "t1", "t2", "t3")
    queue.discard(3, lane="process")
    put(queue, "t3", priority=2)
    assert queue.waiting("process") == 3
    assert drain(queue) == ["t3", "t1", "t2"]
    put(queue, "t3")
    assert drain(queue) == ["t3"]
    assert queue.waiting("process") == queue.waiting("async") == 0
