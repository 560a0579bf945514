"""A journal that cannot be written: what is not on record is told to nobody, and work elsewhere goes on."""

import msgspec
import pytest

from epsilon_lab.errors import InvalidInput, QueueFull, WorkspaceError
from epsilon_lab.messages.events import LabDisk, RunBorn, RunEnded
from epsilon_lab.messages.frames import Recorded, Welcome
from epsilon_lab.workspace.journal import Journal, read_journal
from tests.broker.scene import PAID, Worker, full_disk, seen


def test_a_full_disk_ends_one_run_and_no_other(play, specs):
    async def scene(home):
        sick, well = home.run("sick"), home.run("well")
        worker = await Worker(home, "s/w1").join()
        with full_disk(sick.journal):
            home.host.submit("sick", specs(3))
            home.host.submit("well", specs(3))
            taken = await worker.work_until(lambda: len(well.outcomes) == 3)
            assert {each.run_id for each in taken} == {"well"}, "what is not on record is not handed out"
            assert len(sick.failures) == 1, "it is told once"
            assert "No space left" in sick.failures[0]
            assert str(sick.path) in sick.failures[0]
            home.host.record("sick", RunEnded(status="failed", reason=sick.failures[0]))
            home.host.flush()
        assert sick.outcomes == []
        assert well.failures == []
        assert sick.types() == []
        home.host.cancel("sick", None, "it failed")
        home.host.record("sick", RunEnded(status="failed", reason=sick.failures[0]))
        home.host.flush()
        assert sick.types() == ["task.cancelled", "run.ended"], "space came back, and its end could be said"

    play(scene)


def test_a_note_that_is_not_on_record_is_not_answered(play, specs):
    async def scene(home):
        run = home.run()
        lane = await Worker(home, "s/leaves", lanes=("async",), slots=8).join()
        home.host.submit("r", specs(1, lane="async"))
        await lane.take()
        with full_disk(run.journal):
            lane.peer.note("r", "t0", (PAID,))
            await run.until(lambda: run.failures)
            lane.peer.greet()
            assert isinstance(await lane.expect((Recorded, Welcome)), Welcome)

    play(scene)


def test_a_result_that_is_not_on_record_is_not_told(play, specs):
    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        home.host.submit("r", specs(1))
        taken = await worker.take()
        with full_disk(run.journal):
            worker.answer(taken)
            await run.until(lambda: run.failures)
        assert run.outcomes == []

    play(scene)


def test_a_run_that_does_not_listen_is_closed(play, specs):
    async def scene(home):
        journal = Journal.open(home.directory / "deaf")
        home.host.open_run("deaf", "", journal, print)
        with full_disk(journal):
            home.host.submit("deaf", specs(1))
            home.host.flush()
        with pytest.raises(InvalidInput, match="run deaf"):
            home.host.submit("deaf", specs(1))
        journal.close()

    play(scene)


def test_a_submitter_that_raises_ends_its_own_run(play, specs):
    async def scene(home):
        run, other = home.run("r"), home.run("q")
        worker = await Worker(home, "s/w1").join()

        def raise_it(outcomes):
            raise KeyError("a rule's mistake")

        run.reaction = raise_it
        home.host.submit("r", specs(1))
        home.host.submit("q", specs(1))
        await worker.work_until(lambda: run.failures and other.outcomes)
        assert run.failures == ["KeyError in the run's own rules: \"a rule's mistake\""]

    play(scene)


def test_a_broken_lab_journal_is_said_and_work_goes_on(play, specs):
    async def scene(home):
        run = home.run()
        with full_disk(home.lab):
            worker = await Worker(home, "s/w1").join()
            home.host.submit("r", specs(1))
            worker.answer(await worker.take())
            await run.until(lambda: run.outcomes)
        assert "No space left" in home.host.lab_failure
        home.host.record(None, RunBorn(run_id="next"))
        home.host.flush()
        assert home.host.lab_failure is None
        assert read_journal(home.directory / "lab").records[-1].type == "lab.run"

    play(scene)


def test_a_lab_journal_that_takes_nothing_more_stays_said_and_ends_no_turn(play, specs):
    said = [""]

    async def scene(home):
        run = home.run()
        home.lab.refuse("fdatasync failed (Input/output error)")
        said[0] = "the disk is nearly full"
        await seen(lambda: home.host.lab_failure)
        said[0] = ""
        await seen(lambda: not home.host.shortage)
        with pytest.raises(WorkspaceError, match="broke earlier"):
            home.host.record(None, RunBorn(run_id="next"))
        home.host.submit("r", specs(1))
        worker = await Worker(home, "s/w1").join()
        worker.answer(await worker.take())
        await run.until(lambda: run.outcomes)
        assert "fdatasync failed" in home.host.lab_failure

    play(scene, space=lambda: said[0], tick_s=0.02)


def test_a_disk_that_is_nearly_full_holds_work_back_until_there_is_room_both_on_record(play, specs):
    said = ["the disk is nearly full"]

    async def scene(home):
        run = home.run()
        await seen(lambda: home.host.shortage)
        worker = await Worker(home, "s/w1").join()
        with pytest.raises(QueueFull):
            home.host.submit("r", specs(1))
        said[0] = ""
        await seen(lambda: not home.host.shortage)
        home.host.submit("r", specs(1))
        worker.answer(await worker.take())
        await run.until(lambda: run.outcomes)
        records = read_journal(home.directory / "lab").records
        told = [msgspec.json.decode(each.body, type=LabDisk) for each in records if each.type == "lab.disk"]
        assert told == [LabDisk(is_short=True, says="the disk is nearly full"), LabDisk(is_short=False, says="")]

    play(scene, space=lambda: said[0], tick_s=0.02)
