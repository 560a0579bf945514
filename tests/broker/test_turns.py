"""Time as the loop sees it: turns that come late, the order of what came meanwhile, limits that pass."""

import os

import pytest

from epsilon_lab.clock import ManualClock
from epsilon_lab.messages.frames import Refused, Welcome
from epsilon_lab.workspace.journal import read_journal
from tests.broker.scene import Worker


def test_a_minute_without_a_turn_expires_nobody(play, specs):
    """A cell that held the interpreter: the peers could not be heard, which is not their silence."""
    clock = ManualClock()

    async def scene(home):
        run = home.run()
        speaks, silent = await Worker(home, "a/w1").join(), await Worker(home, "b/w1").join()
        home.host.submit("r", specs(2, prefetch=False, time_limit_s=5.0))
        held, kept = await speaks.take(), await silent.take()
        clock.advance(60.0)
        speaks.answer(held)
        await run.until(lambda: run.outcomes)
        assert [row.worker_id for row in home.host.workers()] == ["a/w1", "b/w1"]
        silent.answer(kept)
        await run.until(lambda: len(run.outcomes) == 2)
        assert "task.failed" not in run.types()

    play(scene, clock=clock)


def test_the_socket_is_drained_before_deadlines_are_looked_at(play_at_once, specs):
    """More frames are waiting than a turn takes, and the last one is the answer in time."""
    clock = ManualClock()

    async def scene(home):
        run, worker = home.run(), await Worker(home, "a/w1").join()
        home.host.submit("r", specs(1, time_limit_s=5.0))
        taken = await worker.take()
        for _ in range(12):
            clock.advance(0.4)
            worker.peer.greet()
            await worker.expect(Welcome)
        for _ in range(600):
            worker.peer.renew()
        worker.answer(taken)
        clock.advance(60.0)
        await run.until(lambda: run.outcomes)
        assert run.outcomes[0].status == "completed"

    play_at_once(scene, clock=clock)


def test_silence_while_the_broker_was_awake_does_expire(play, specs):
    clock = ManualClock()

    async def scene(home):
        worker = await Worker(home, "a/w1").join()
        other = await Worker(home, "b/w1").join()
        for _ in range(30):
            clock.advance(0.5)
            other.peer.greet()
            await other.expect(Welcome)
        assert [row.worker_id for row in home.host.workers()] == ["b/w1"]
        worker.peer.renew()
        await worker.expect(Refused)
        await worker.expect(Welcome)
        assert [row.worker_id for row in home.host.workers()] == ["b/w1", "a/w1"]

    play(scene, clock=clock)


def test_word_of_a_death_comes_behind_what_the_dead_still_said(play_at_once, specs):
    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        boss = await Worker(home, "s/boss", lanes=(), slots=0).join()
        home.host.submit("r", specs(1))
        taken = await worker.take()
        boss.peer.lost("s/w1", "exit code 1")
        worker.answer(taken)
        await run.until(lambda: run.outcomes)
        assert [o.status for o in run.outcomes] == ["completed"]
        assert "task.failed" not in run.types()

    play_at_once(scene)


def test_what_waits_is_recalled_although_nothing_else_happens(play, specs):
    async def scene(home):
        run, busy = home.run(), await Worker(home, "a/w1").join()
        home.host.submit("r", specs(2))
        assert [each.task.task_id for each in await busy.take()] == ["t0", "t1"]
        idle = await Worker(home, "b/w1").join()
        idle.answer(await idle.take())
        await run.until(lambda: run.outcomes)
        assert run.outcomes[0].task_id == "t1"

    play(scene, tick_s=0.05)


@pytest.mark.parametrize("limit", ["time_limit_s", "start_within_s", "finish_within_s", "beat_within_s"])
def test_a_limit_is_kept_when_it_has_passed_and_not_when_members_are_looked_at(play, specs, make_spec, limit):
    async def scene(home):
        run, busy = home.run(), await Worker(home, "a/w1").join()
        home.host.submit("r", [make_spec("busy"), make_spec("limited", priority=-1, **{limit: 0.05})])
        busy_one, _ = await busy.take()
        if limit in ("time_limit_s", "beat_within_s"):  # these run from its beginning
            busy.answer([busy_one])
        await run.until(lambda: any(outcome.task_id == "limited" for outcome in run.outcomes))
        assert run.outcomes[-1].status == "failed"

    play(scene, tick_s=60.0)


def test_last_seen_is_a_time_of_day(play):
    class Shifted(ManualClock):
        def wall(self):
            return self.seconds + 5000.0

    clock = Shifted(100.0)

    async def scene(home):
        await Worker(home, "s/w1").join()
        clock.advance(0.2)
        assert home.host.workers() == [("s/w1", os.getpid(), "h", 1, 0, 5100.0)]

    play(scene, clock=clock)


def test_the_times_it_could_not_take_its_turn_are_counted_and_the_long_ones_put_on_record(play):
    clock = ManualClock()

    async def scene(home):
        worker = await Worker(home, "a/w1").join()
        seen = []
        for seconds in (0.5, 3.5, 1.4):
            clock.advance(seconds)
            seen.append(home.host.stood_still_s())
            worker.peer.greet()
            await worker.expect(Welcome)
        assert seen == pytest.approx([0.0, 3.0, 3.9]), "the turn that is overdue counts"
        stats = home.host.stats()
        assert (stats.stalls, stats.stalled_s) == (2, pytest.approx(3.9))
        assert [r.type for r in read_journal(home.directory / "lab").records].count("lab.stalled") == 1

    play(scene, clock=clock)
