"""Tasks and cells talk: on topics, to each other's addresses, with the truth about what was missed."""

import asyncio
import threading
from itertools import islice

import pytest

from epsilon_lab import Lab, WorkQueue, current_task, ids
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.testing.census import wait_until


def identity(_):
    task = current_task()
    return [task.run_id, task.task_id, task.attempt, task.fence, task.idempotency_key, task.traceparent]


async def identity_in_the_lane(_):
    return identity(_)


@pytest.mark.parametrize("function", [identity, identity_in_the_lane])
def test_a_running_task_knows_who_it_is(lab, function):
    run = lab.start(WorkQueue([1], function)).wait(60)
    [[run_id, task_id, attempt, fence, key, traceparent]] = run.results()
    [row] = run.frame("attempts").itertuples()
    assert (run_id, task_id, attempt, fence) == (run.run_id, row.task_id, 1, row.fence)
    assert key == f"{run_id}/{task_id}"
    assert traceparent == f"00-{row.trace_id}-{row.span_id}-01" == ids.traceparent(run_id, task_id, 1)


def test_outside_a_task_there_is_none():
    with pytest.raises(LabError, match="no task runs here"):
        current_task()


def test_what_a_task_publishes_is_heard_in_a_cell(lab):
    def announce(item):
        current_task().publish("squares", item * item)

    squares = lab.subscribe("squares", timeout_s=20)
    run = lab.start(WorkQueue([1, 2, 3], announce))
    heard = {message.sender: message.value for message in islice(squares, 3)}
    run.wait(60)
    assert heard == {f"{run.run_id}/item-{n:06d}": (n + 1) ** 2 for n in range(3)}
    assert squares.missed == 0


def test_an_async_task_talks_as_well(lab):
    async def announce(item):
        task = current_task()
        await task.publish("squares", item * item)
        await task.send("lab", "done")
        subscription = await task.subscribe("squares")
        return (await subscription.next(timeout_s=20)).value

    inbox = lab.inbox()
    run = lab.start(WorkQueue([3], announce)).wait(60)
    assert run.results() == [9]
    assert inbox.next(20).value == "done"


def test_a_newcomer_gets_the_last_value_and_then_all(lab):
    for n in range(5):
        lab.publish("n", n)
    late = lab.subscribe("n")
    lab.publish("n", 5)
    lab.publish("n", 6)
    assert [late.next(20).value for _ in range(3)] == [4, 5, 6]
    assert late.next(0.01) is None
    assert late.latest.value == 6
    assert late.missed == 0
    lab.publish("n", 7)
    assert late.latest.seq == 8


def test_one_who_does_not_read_is_told_how_much_it_missed(lab):
    slow = lab.subscribe("n")
    for n in range(1100):
        lab.publish("n", n)
    message = slow.next(20)
    assert (message.value, slow.missed) == (1099, 1099)


def test_a_cell_steers_a_running_task(lab):
    def work(_):
        task = current_task()
        task.send("lab", "ready")
        [order] = task.messages(timeout_s=60)
        assert not task.messages()
        return [order.value, order.sender]

    inbox = lab.inbox(timeout_s=20)
    run = lab.start(WorkQueue([1], work))
    ready = inbox.next(20)
    assert ready.sender == f"{run.run_id}/item-000000"
    lab.send(ready.sender, {"stop_at": 3})
    assert run.wait(60).results() == [[{"stop_at": 3}, "lab"]]


def test_tasks_of_a_run_write_to_each_other(lab):
    def work(item):
        task = current_task()
        if item == 0:
            task.send("item-000001", "from zero")
            return None
        return [message.value for message in task.messages(timeout_s=60)]

    assert lab.start(WorkQueue([0, 1], work)).wait(60).results() == [None, ["from zero"]]


def test_a_message_to_nobody_is_an_error(lab):
    def work(_):
        current_task().send("nobody", 1)

    with pytest.raises(LabError, match="there is no 'nobody'"):
        lab.send("nobody", 1)
    run = lab.start(WorkQueue([1], work))
    with pytest.raises(LabError):
        run.wait(60)
    assert "there is no 'nobody'" in run.failures["error"][0]


@pytest.mark.parametrize("value", [float("nan"), (1, 2), {1: 2}, object(), "\ud800", "x" * 70_000])
def test_a_value_that_cannot_travel_is_refused_with_the_topics_name(lab, value):
    with pytest.raises(InvalidInput, match="topic 'scores'"):
        lab.publish("scores", value)


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\nb", None, 3, "\ud800"])
def test_a_name_that_is_none_is_refused(lab, name):
    with pytest.raises(InvalidInput, match="topic"):
        lab.publish(name, 1)
    with pytest.raises(InvalidInput, match="topic"):
        lab.subscribe(name)


def test_a_coroutine_of_the_kernel_listens(lab):
    async def main():
        heard = []
        async for message in lab.subscribe("n", timeout_s=20):
            heard.append(message.value)
            if message.value == 3:
                return heard
            await asyncio.to_thread(lab.publish, "n", message.value + 1)
        return heard

    lab.publish("n", 0)
    assert asyncio.run(main()) == [0, 1, 2, 3]


def test_a_thread_that_a_task_started_is_not_the_task(lab):
    def work(_):
        said = []
        task = current_task()

        def ask(what):
            try:
                what()
            except LabError as error:
                said.append(str(error))

        for what in (current_task, lambda: task.publish("n", 1), task.messages):
            thread = threading.Thread(target=ask, args=(what,))
            thread.start()
            thread.join()
        return said

    [said] = lab.start(WorkQueue([1], work)).wait(60).results()
    assert len(said) == 3
    assert all("thread" in each for each in said)


def test_what_was_said_is_a_table(lab):
    def work(_):
        current_task().publish("topic-1", {"a": [1, None]})
        current_task().send("item-000000", "to myself")

    run = lab.start(WorkQueue([1], work)).wait(60)
    me = f"{run.run_id}/item-000000"
    [said] = lab.sql("select * from messages where topic is not null").itertuples()
    assert (said.topic, said.seq, said.sender, said.value) == ("topic-1", 1, me, '{"a":[1,null]}')
    [letter] = run.frame("messages").itertuples()
    assert (letter.recipient, letter.seq, letter.sender, letter.value) == (me, 1, me, "to myself")
    assert said.trace_id == letter.trace_id == ids.trace_id(run.run_id)


def test_a_topic_keeps_its_last_value_and_its_numbers_through_a_restart(tmp_path):
    with Lab(tmp_path, workers=1) as lab:
        for n in range(3):
            lab.publish("n", n)
        lab.publish("other", "x")
    with Lab(tmp_path, workers=1) as lab:
        again = lab.subscribe("n")
        assert (again.latest.value, again.latest.seq) == (2, 3)
        lab.publish("n", 3)
        assert [(again.next(20).value, again.latest.seq) for _ in range(2)] == [(2, 4), (3, 4)]
        assert lab.subscribe("other").latest.value == "x"
        assert lab.subscribe("new").latest is None


def test_whoever_waits_when_the_lab_closes_is_told(tmp_path):
    lab = Lab(tmp_path, workers=1)
    subscription = lab.subscribe("silence")
    said = []

    def wait():
        try:
            subscription.next()
        except LabError as error:
            said.append(str(error))

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert wait_until(waiter.is_alive, within_s=10)
    lab.close()
    waiter.join(10)
    assert "the lab was closed" in said[0]
    with pytest.raises(LabError, match="closed"):
        subscription.latest  # noqa: B018
    with pytest.raises(LabError, match="closed"):
        lab.publish("n", 1)


def test_a_lab_that_only_looks_on_does_not_talk(lab):
    with Lab(lab.path, read_only=True) as looking, pytest.raises(LabError, match="only looks on"):
        looking.publish("n", 1)
