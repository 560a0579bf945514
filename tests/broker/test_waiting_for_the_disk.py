"""Durability `disk`: work goes out while the disk is waited for, and nothing is told before it is safe."""

import contextlib
import errno
import os
import threading

import anyio
import pytest

from epsilon_lab.errors import WorkspaceError
from epsilon_lab.messages.events import RunBorn
from epsilon_lab.messages.frames import Recorded
from epsilon_lab.workspace import journal as journal_module
from tests.broker.scene import PAID, Worker, seen


class SlowDisk:
    """A disk that has nothing before it is told to go on.

    Attributes:
        began: How many syncs were begun.
        bad: A file that it then cannot take.
    """

    def __init__(self):
        self.began = 0
        self.bad = None
        self._turns = threading.Semaphore(0)
        self._sync = os.fdatasync

    def fdatasync(self, handle):
        self.began += 1
        self._turns.acquire()
        if handle == self.bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._sync(handle)

    def go_on(self, syncs=1_000_000):
        self._turns.release(syncs)

    async def until(self, began):
        await seen(lambda: self.began >= began)


@pytest.fixture
def slow_disk():
    """A context in which syncs wait for the test."""

    @contextlib.contextmanager
    def disk():
        slow = SlowDisk()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(journal_module.os, "fdatasync", slow.fdatasync)
            try:
                yield slow
            finally:
                slow.go_on()

    return disk


def test_work_goes_out_while_the_disk_is_waited_for_and_nothing_is_told_before_it_is_safe(
    play_at_once, specs, slow_disk
):
    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        with slow_disk() as disk:
            home.host.submit("r", specs(3))
            first = await worker.take()
            assert first, "handed out before it was on disk"
            await disk.until(1)
            worker.answer(first)
            second = await worker.take()
            assert second, "and heard, and handed out again"
            lane = await Worker(home, "s/leaves", lanes=("async",), slots=1).join()
            lane.peer.note("r", "t0", (PAID,))
            await seen(lambda: "usage.llm_call" in run.types())
            assert (run.outcomes, lane.peer.receive()) == ([], [])
            disk.go_on()
            await run.until(lambda: run.outcomes)
            assert await lane.expect(Recorded)
            assert [o.task_id for o in run.outcomes] == [each.task.task_id for each in first]

    play_at_once(scene, durability="disk")


def test_what_comes_together_while_the_disk_is_busy_is_one_sync(play_at_once, specs, slow_disk):
    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        with slow_disk() as disk:
            home.host.submit("r", specs(40))
            await disk.until(1)
            done = 0
            while done < 40:
                taken = await worker.take()
                worker.answer(taken)
                done += len(taken)
            await seen(lambda: run.completed() == 40)
            assert disk.began == 1
            disk.go_on()
            await run.until(lambda: len(run.outcomes) == 40)
            assert disk.began <= 3
            assert not run.journal.is_behind

    play_at_once(scene, durability="disk")


def test_who_cannot_wait_waits_for_the_disk_and_order_is_kept(play_at_once, specs, slow_disk):
    """What a sync under way will make safe is told before what came after it."""

    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        first, second = specs(2)
        with slow_disk() as disk:
            home.host.submit("r", [first])
            await disk.until(1)  # a sync that began later would take the answer along, and none would follow
            worker.answer(await worker.take())
            await seen(lambda: run.completed() == 1)
            disk.go_on(1)
            await disk.until(2)
            home.host.submit("r", [second])
            worker.answer(await worker.take())
            await seen(lambda: run.completed() == 2)
            disk.go_on()
            home.host.record("r", RunBorn(run_id="x"))
            home.host.flush()
            assert not run.journal.is_behind
            assert [o.task_id for o in run.outcomes] == ["t0", "t1"]
        await anyio.wait_all_tasks_blocked()
        assert [o.task_id for o in run.outcomes] == ["t0", "t1"], "and once"

    play_at_once(scene, durability="disk")


def test_a_disk_that_fails_ends_the_run_and_nothing_of_it_is_told(play_at_once, specs, slow_disk):
    async def scene(home):
        sick, well = home.run("sick"), home.run("well")
        worker = await Worker(home, "s/w1").join()
        home.host.submit("sick", specs(1))
        taken = await worker.take()
        with slow_disk() as disk:
            disk.bad = sick.journal._handle
            disk.go_on()
            worker.answer(taken)
            await sick.until(lambda: sick.failures)
            assert "could not be put on disk" in sick.failures[0]
            home.host.submit("well", specs(1))
            await worker.work_until(lambda: well.outcomes)
        assert sick.outcomes == []
        assert len(sick.failures) == 1
        with pytest.raises(WorkspaceError, match="broke earlier"):
            home.host.record("sick", RunBorn(run_id="more"))

    play_at_once(scene, durability="disk")


def test_a_run_that_is_closed_meanwhile_is_told_nothing_nor_is_its_successor(play_at_once, specs, slow_disk):
    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        home.host.submit("r", specs(1))
        taken = await worker.take()
        with slow_disk() as disk:
            worker.answer(taken)
            await disk.until(1)
            home.host.close_run("r")
            disk.go_on()
            run.journal.close()
            again = home.run()
            await anyio.to_thread.run_sync(lambda: None)
            await anyio.wait_all_tasks_blocked()
        assert (run.outcomes, again.outcomes) == ([], [])

    play_at_once(scene, durability="disk")


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_a_line_may_ask_for_the_disk_whatever_the_durability(play_at_once, slow_disk, durability):
    """A person's verdict is always on disk before it is said to be."""

    async def scene(home):
        run = home.run()
        with slow_disk() as disk:
            disk.go_on()
            home.host.record("r", RunBorn(run_id="x"), to_disk=True)
            home.host.flush()
            assert disk.began == 1
            assert not run.journal.is_behind

    play_at_once(scene, durability=durability)
