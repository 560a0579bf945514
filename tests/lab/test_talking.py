"""Tasks and cells talk: on topics, to each other's addresses, with the truth about what was missed."""

import asyncio
import os
import select
import signal
import threading
from itertools import islice
from pathlib import Path

import pytest

from epsilon_lab import Lab, WorkQueue, current_task, ids
from epsilon_lab.errors import InvalidInput, LabError, RunFailed
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


def test_what_a_task_publishes_is_heard_in_a_cell(own_lab):
    def announce(item):
        current_task().publish("squares", item * item)

    squares = own_lab.subscribe("squares", timeout_s=60)
    run = own_lab.start(WorkQueue([1, 2, 3], announce))
    heard = {message.sender: message.value for message in islice(squares, 3)}
    run.wait(60)
    assert heard == {f"{run.run_id}/item-{n:06d}": (n + 1) ** 2 for n in range(3)}
    assert squares.missed == 0


def test_an_async_task_talks_as_well(own_lab):
    async def announce(item):
        task = current_task()
        await task.publish("squares", item * item)
        await task.send("lab", "done")
        subscription = await task.subscribe("squares")
        return (await subscription.next(timeout_s=60)).value

    inbox = own_lab.inbox()
    run = own_lab.start(WorkQueue([3], announce)).wait(60)
    assert run.results() == [9]
    assert inbox.next(60).value == "done"


def test_a_newcomer_gets_the_last_value_and_then_all(own_lab):
    for n in range(5):
        own_lab.publish("n", n)
    late = own_lab.subscribe("n")
    own_lab.publish("n", 5)
    own_lab.publish("n", 6)
    assert [late.next(60).value for _ in range(3)] == [4, 5, 6]
    assert late.next(0.01) is None
    assert late.latest.value == 6
    assert late.missed == 0
    own_lab.publish("n", 7)
    assert late.latest.seq == 8


def test_one_who_does_not_read_is_told_how_much_it_missed(own_lab):
    slow = own_lab.subscribe("n")
    for n in range(1100):
        own_lab.publish("n", n)
    message = slow.next(60)
    assert (message.value, slow.missed) == (1099, 1099)


def test_a_cell_steers_a_running_task(own_lab):
    def work(_):
        task = current_task()
        task.send("lab", "ready")
        [order] = task.messages(timeout_s=60)
        assert not task.messages()
        return [order.value, order.sender]

    inbox = own_lab.inbox(timeout_s=60)
    run = own_lab.start(WorkQueue([1], work))
    ready = inbox.next(60)
    assert ready.sender == f"{run.run_id}/item-000000"
    own_lab.send(ready.sender, {"stop_at": 3})
    assert run.wait(60).results() == [[{"stop_at": 3}, "lab"]]


def test_tasks_of_a_run_write_to_each_other(own_lab):
    def work(item):
        task = current_task()
        if item == 0:
            task.send("item-000001", "from zero")
            return None
        return [message.value for message in task.messages(timeout_s=60)]

    assert own_lab.start(WorkQueue([0, 1], work)).wait(60).results() == [None, ["from zero"]]


def test_the_readmes_cell_can_be_run_again(own_lab):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    cell = readme.partition("## When work should talk")[2].split("```")[1].removeprefix("python")
    for _ in range(2):
        names = {"lab": own_lab, "current_task": current_task, "WorkQueue": WorkQueue}
        exec(compile(cell, "README.md", "exec"), names)
        assert names["run"].wait(60).results() == [["on"], ["on"]]


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


@pytest.mark.parametrize("seconds", ["3", -1, float("nan"), float("inf"), True])
def test_a_time_that_is_none_is_refused(lab, seconds):
    def work(_):
        return current_task().messages(timeout_s=seconds)

    async def work_in_the_lane(_):
        return await (await current_task().subscribe("n")).next(seconds)

    heard = lab.subscribe("n")
    for wait in (lambda: lab.subscribe("n", timeout_s=seconds), lambda: heard.next(seconds)):
        with pytest.raises(InvalidInput, match="timeout_s: must be a finite number of at least 0"):
            wait()
    for function in (work, work_in_the_lane):
        with pytest.raises(RunFailed, match="timeout_s: must be a finite number"):
            lab.start(WorkQueue([1], function)).wait(60)


def test_a_coroutine_of_the_kernel_listens(own_lab):
    async def main():
        heard = []
        async for message in own_lab.subscribe("n", timeout_s=60):
            heard.append(message.value)
            if message.value == 3:
                return heard
            await asyncio.to_thread(own_lab.publish, "n", message.value + 1)
        return heard

    own_lab.publish("n", 0)
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


def test_what_was_said_is_a_table(own_lab):
    def work(_):
        current_task().publish("topic-1", {"a": [1, None]})
        current_task().send("item-000000", "to myself")

    run = own_lab.start(WorkQueue([1], work)).wait(60)
    me = f"{run.run_id}/item-000000"
    [said] = own_lab.sql("select * from messages where topic is not null").itertuples()
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
        assert [(again.next(60).value, again.latest.seq) for _ in range(2)] == [(2, 4), (3, 4)]
        assert lab.subscribe("other").latest.value == "x"
        assert lab.subscribe("new").latest is None


def test_a_resumed_task_reads_what_was_sent_to_it_before(tmp_path):
    def work(_):
        task = current_task()
        heard = []
        while len(heard) < 2:
            heard += [message.value for message in task.messages(timeout_s=60)]
            task.publish("heard", heard)
        return [task.attempt, *heard]

    with Lab(tmp_path, workers=1) as lab:
        run = lab.start(WorkQueue([1], work))
        lab.send(f"{run.run_id}/item-000000", "one")
        assert lab.subscribe("heard").next(60).value == ["one"]
    with Lab(tmp_path, workers=1) as lab:
        run = lab.resume(run.run_id)
        lab.send(f"{run.run_id}/item-000000", "two")
        assert run.wait(60).results() == [[2, "one", "two"]]
        assert run.frame("messages")["seq"].tolist() == [1, 2]


def test_a_task_that_waits_keeps_no_answer_of_another_back(tmp_path):
    """Its neighbours' results were ready long ago, and what it waits for may come of them."""

    def work(item):
        return current_task().messages(timeout_s=60)[0].value if item == 40 else item

    with Lab(tmp_path, workers=1) as lab:
        run = lab.start(WorkQueue(range(41), work))
        assert wait_until(lambda: (run.frame("tasks")["status"] == "completed").sum() == 40, within_s=60)
        lab.send(f"{run.run_id}/item-000040", "go")
        assert run.wait(60).results() == [*range(40), "go"]


def test_a_task_that_beats_is_not_taken_for_stuck(lab, tmp_path):
    def work(is_lively):
        while not over.exists():
            if is_lively:
                current_task().beat()
            select.select([], [], [], 0.05)
        return "done"

    over = tmp_path / "over"
    run = lab.start(WorkQueue([True, False], work, beat_within_s=3.0))
    assert wait_until(lambda: len(run.failures) == 1, within_s=60)
    over.touch()
    assert run.wait(60).results(failed="none") == ["done", None]
    assert "progress" in run.failures["error"][0]


def test_a_fork_of_a_task_is_not_the_task(lab):
    def work(_):
        task = current_task()
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            try:
                task.publish("n", 1)
            except LabError as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        return os.read(reader, 1000).decode()

    [said] = lab.start(WorkQueue([1], work)).wait(60).results()
    assert "belongs to the thread that runs it" in said


def test_ctrl_c_ends_the_wait_and_loses_nothing(own_lab):
    heard = own_lab.subscribe("n")
    main = threading.get_ident()
    interrupt = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it may strike before the wait begins
            interrupt.start()
            heard.next(60)
    finally:
        signal.signal(signal.SIGINT, before)
        interrupt.join()
    own_lab.publish("n", 1)
    assert heard.next(60).value == 1


@pytest.mark.parametrize("function", ["publish", "subscribe", "send", "inbox"])
def test_a_lab_s_own_thread_is_not_made_to_wait_for_itself(lab, function):
    arguments = {"publish": ("n", 1), "subscribe": ("n",), "send": ("lab", 1), "inbox": ()}[function]
    with pytest.raises(LabError, match=f"lab.{function}.. would stop the lab"):
        lab._core.on_loop(getattr(lab, function), *arguments)


def test_what_a_user_holds_shows_itself_calmly(own_lab):
    own_lab.publish("<b>", "<script>" * 20)
    heard = own_lab.subscribe("<b>")
    assert repr(heard) == "<Subscription '<b>': 0 missed>"
    assert "<b>" not in heard._repr_html_().removeprefix("<code>").removesuffix("</code>")
    assert "\n" not in repr(heard.latest)
    assert len(repr(heard.latest)) < 120


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
    assert wait_until(waiter.is_alive, within_s=60)
    lab.close()
    waiter.join(60)
    assert "the lab was closed" in said[0]
    with pytest.raises(LabError, match="closed"):
        subscription.latest  # noqa: B018
    with pytest.raises(LabError, match="closed"):
        lab.publish("n", 1)


def test_a_lab_that_other_machines_reach_talks_as_well(tmp_path):
    with Lab(tmp_path / "runs", workers=1, bind="tcp://127.0.0.1:0") as lab:
        lab.publish("n", 1)
        assert lab.subscribe("n").latest.value == 1


def test_a_lab_that_only_looks_on_does_not_talk(lab):
    with Lab(lab.path, read_only=True) as looking, pytest.raises(LabError, match="only looks on"):
        looking.publish("n", 1)
