"""Answers that travel together must not make the broker believe that their tasks are still running."""

import itertools

import pytest

from epsilon_lab.broker.client import Peer
from epsilon_lab.messages.frames import Done, Hello, Tasks, decode_from_peer, encode
from epsilon_lab.messages.tasks import Assignment, Failure, Result, TaskSpec
from epsilon_lab.messages.values import pack
from epsilon_lab.transport import memory
from epsilon_lab.workers.batch import Batch


class Scene:
    """A child's batch, and a broker that counts what it has heard."""

    def __init__(self, listener, peer):
        self.listener, self.peer, self.batch = listener, peer, Batch(peer)
        self.fences = itertools.count(1)

    def give(self, count, **fields):
        specs = [
            TaskSpec(task_id=f"t{n}", kind="k", lane="process", entry="e", payload=pack(n), **fields)
            for n in range(count)
        ]
        given = tuple(
            Assignment(run_id="r", run_dir="/r", task=spec, attempt=1, fence=next(self.fences)) for spec in specs
        )
        assert self.listener.send("s/w1", encode(Tasks(assignments=given)))
        self.peer.receive()

    def work(self, count):
        """Finish so many tasks in no time."""
        for _ in range(count):
            given = self.peer.tasks.popleft()
            result = Result(
                task_id=given.task.task_id, run_id="r", fence=given.fence, output=pack(1), started_at=5.0, ended_at=5.0
            )
            self.batch.add(result, given.task)

    def heard(self):
        messages = [decode_from_peer(frame) for _, frame in self.listener.receive()]
        return sum(len(message.results + message.failures) for message in messages if isinstance(message, Done))


@pytest.fixture
def scene():
    hello = Hello(pid=1, host="h", lanes=("process",), slots=1)
    with (
        memory.private_address() as address,
        memory.listen(address) as listener,
        memory.dial(address, "s/w1") as dialer,
    ):
        yield Scene(listener, Peer(dialer, hello))


def test_answers_of_quick_tasks_travel_together(scene):
    scene.give(30)
    scene.work(20)
    assert scene.heard() < 20
    scene.work(10)
    scene.batch.send()


def test_a_long_task_does_not_keep_the_answers_before_it(scene):
    """Some thread that is not busy with it sends them."""
    scene.give(30)
    scene.work(20)
    held = 20 - scene.heard()
    assert held > 0
    scene.batch.send_late()
    assert scene.heard() == held
    scene.batch.send_late()
    assert scene.heard() == 0


def test_a_failure_is_told_at_once(scene):
    scene.give(30)
    scene.work(20)
    held = 20 - scene.heard()
    given = scene.peer.tasks.popleft()
    failure = Failure(
        task_id=given.task.task_id, run_id="r", fence=given.fence, outcome="failed", error="x", started_at=5.0,
        ended_at=5.0,
    )  # fmt: skip
    scene.batch.add(failure, given.task)
    assert scene.heard() == held + 1


@pytest.mark.parametrize("limit", ["time_limit_s", "beat_within_s", "finish_within_s"])
def test_no_answer_is_held_back_while_a_task_with_a_limit_of_time_runs(scene, limit):
    """It would be taken for the one that is running, and be charged for the time the next one takes."""
    scene.give(30, **{limit: 2.0})
    scene.work(20)
    assert scene.heard() == 20


def test_no_answer_of_a_task_with_a_limit_of_time_is_held_back(scene):
    scene.give(20)
    scene.give(1, time_limit_s=2.0)
    scene.give(1)
    scene.work(21)
    assert scene.heard() == 21


def test_answers_held_back_go_before_a_task_waits_for_the_broker(scene):
    scene.peer.before_waiting = scene.batch.send
    scene.give(30)
    scene.work(20)
    scene.peer.poll(0.0)
    assert scene.heard() == 20
