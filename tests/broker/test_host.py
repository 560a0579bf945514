"""The broker at work: real frames over both transports, real journals, one loop."""

from functools import partial

import anyio
import msgspec
import pytest

from epsilon_lab.broker import host as host_module
from epsilon_lab.broker.host import BrokerHost
from epsilon_lab.broker.ledger import Ledger
from epsilon_lab.clock import ManualClock
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import ArtifactSaved, LlmCall, RunBorn, RunEnded, event
from epsilon_lab.messages.frames import Denied, Recorded, Stale, Tasks, Welcome
from epsilon_lab.messages.values import pack
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.transport import memory
from epsilon_lab.workspace.journal import Journal, read_journal
from tests.broker.scene import CALL, PAID, Worker


def test_tasks_go_out_and_results_come_back(play, specs):
    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        assert worker.peer.welcome == Welcome(epoch=5, lease_s=10.0, beat_s=2.0)
        home.host.submit("r", specs(300))
        await worker.work_until(lambda: len(run.outcomes) == 300)
        assert sorted(o.task_id for o in run.outcomes) == sorted(f"t{n}" for n in range(300))
        assert {o.output for o in run.outcomes} == {pack(f"t{n}") for n in range(300)}

    play(scene)


def test_nothing_is_sent_or_told_before_it_is_on_record(play, specs):
    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        run.reaction = lambda outcomes: run.seen.append(run.types())
        run.seen = []
        home.host.submit("r", specs(1))
        taken = await worker.take()
        assert run.types() == ["task.submitted", "task.assigned"]
        worker.answer(taken)
        await run.until(lambda: run.outcomes)
        assert run.seen == [["task.submitted", "task.assigned", "task.completed"]]

    play(scene)


def test_a_note_is_answered_once_it_is_on_record(play, specs):
    async def scene(home):
        run = home.run()
        lane = await Worker(home, "s/leaves", lanes=("async",), slots=8).join()
        home.host.submit("r", specs(1, lane="async"))
        await lane.take()
        note_id = lane.peer.note("r", "t0", (PAID,))
        assert await lane.expect(Recorded) == Recorded(note_id=note_id)
        assert run.types()[-1] == "usage.llm_call"

    play(scene)


def test_a_request_over_the_budget_is_denied_once_that_is_on_record(play, specs):
    async def scene(home):
        run = home.run(ledger=Ledger(Budget(calls=1)))
        lane = await Worker(home, "s/leaves", lanes=("async",), slots=8).join()
        home.host.submit("r", specs(2, lane="async"))
        for taken in await lane.take():  # both: they were submitted in one turn
            line = msgspec.structs.replace(CALL, task_id=taken.task.task_id, outcome="unknown", request="1.0")
            lane.peer.note("r", line.task_id, (event(line),), taken.fence)
        assert (await lane.expect(Denied)).note_id == 2
        rows = [record for record in read_journal(run.path).records if record.type == "usage.llm_call"]
        outcomes = [msgspec.json.decode(row.body, type=LlmCall).outcome for row in rows]
        assert outcomes == ["unknown", "refused"]
        home.host.close_budget("r", "the time is over")

    play(scene)


def test_a_turn_is_one_write_a_run(play, specs):
    """What came together leaves together: hundreds of tasks, a handful of commits."""

    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        for spec in specs(500):
            home.host.submit("r", [spec])
        await worker.work_until(lambda: len(run.outcomes) == 500)
        commits = run.path.read_bytes().count(b'{"commit":')
        assert commits < 60
        assert run.types().count("task.submitted") == 500

    play(scene)


def test_submitters_may_go_on_when_they_are_told(play, specs):
    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        chain = specs(50)

        def next_one(outcomes):
            home.host.record("r", ArtifactSaved(path="x", kind="k", sha256="0", bytes=0))
            if chain:
                home.host.submit("r", [chain.pop(0)])
                home.host.flush()

        run.reaction = next_one
        home.host.submit("r", [chain.pop(0)])
        await worker.work_until(lambda: len(run.outcomes) == 50)
        assert run.types().count("artifact.saved") == 50
        assert run.types()[-2:] == ["task.completed", "artifact.saved"]

    play(scene)


def test_a_submitter_is_not_told_more_while_it_is_being_told(play, specs):
    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        telling = []

        def cancel_the_rest(outcomes):
            assert not telling
            telling.append(True)
            home.host.cancel("r", None, "one is enough")
            home.host.flush()
            telling.pop()

        run.reaction = cancel_the_rest
        home.host.submit("r", specs(5, prefetch=False))
        worker.answer(await worker.take())
        await run.until(lambda: len(run.outcomes) == 5)
        assert run.failures == []

    play(scene)


def test_what_is_submitted_does_not_wait_for_the_next_tick(play, specs):
    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        await anyio.wait_all_tasks_blocked()
        home.host.submit("r", specs(1))
        worker.answer(await worker.take())
        await run.until(lambda: run.outcomes)

    play(scene, tick_s=3600.0)


def test_lines_stand_in_the_order_of_the_calls(play, specs):
    async def scene(home):
        run = home.run()
        home.host.record("r", RunBorn(run_id="first"))
        home.host.submit("r", specs(2))
        home.host.cancel("r", None, "enough")
        home.host.record("r", RunEnded(status="stopped", reason="enough"))
        home.host.record(None, RunBorn(run_id="r"))
        home.host.flush()
        assert run.types() == ["lab.run", "task.submitted", "task.cancelled", "run.ended"]
        assert [o.status for o in run.outcomes] == ["cancelled", "cancelled"]
        assert [r.type for r in read_journal(home.directory / "lab").records] == ["lab.run"]

    play(scene)


def test_flush_needs_no_loop(tmp_path):
    with memory.private_address() as address, memory.listen(address) as listener:
        lab, journal = Journal.open(tmp_path / "lab"), Journal.open(tmp_path / "r")
        host = BrokerHost(listener, lab_journal=lab, settings=BrokerSettings(), clock=ManualClock(), epoch=1)
        host.open_run("r", str(tmp_path), journal, print)
        host.record("r", RunBorn(run_id="r"))
        assert read_journal(tmp_path / "r").records == []
        host.flush()
        assert len(read_journal(tmp_path / "r").records) == 1
        journal.close()
        lab.close()


def test_a_run_that_is_not_open_or_open_already_is_named(play, specs):
    async def scene(home):
        run = home.run()
        with pytest.raises(InvalidInput, match="run r: is open already"):
            home.host.open_run("r", "", run.journal, print)
        for call in (partial(home.host.submit, "q", specs(1)), partial(home.host.record, "q", RunBorn(run_id="q"))):
            with pytest.raises(InvalidInput, match="run q"):
                call()
        home.host.close_run("q")
        home.host.cancel("q")

    play(scene)


def test_a_paused_run_waits_until_it_is_resumed(play, specs):
    async def scene(home):
        run, other = home.run("r"), home.run("q")
        worker = await Worker(home, "s/w1").join()
        home.host.pause("r")
        home.host.submit("r", specs(1))
        home.host.submit("q", specs(1))
        taken = await worker.take()
        assert [each.run_id for each in taken] == ["q"]
        worker.answer(taken)
        await other.until(lambda: other.outcomes)
        home.host.resume("r")
        worker.answer(await worker.take())
        await run.until(lambda: run.outcomes)

    play(scene)


def test_a_closed_run_hears_nothing_more(play, specs):
    async def scene(home):
        run, worker = home.run(), await Worker(home, "s/w1").join()
        home.host.submit("r", specs(1))
        taken = await worker.take()
        home.host.close_run("r")
        run.journal.close()
        worker.answer(taken)
        await worker.expect(Stale)
        assert (run.outcomes, run.failures) == ([], [])
        assert run.types() == ["task.submitted", "task.assigned"]

    play(scene)


# -- size -------------------------------------------------------------------------------------------------------------


def test_a_batch_too_large_for_a_frame_travels_in_several(play, specs, monkeypatch):
    monkeypatch.setattr(host_module, "MAX_FRAME", 400)

    async def scene(home):
        run = home.run()
        lane = await Worker(home, "s/leaves", lanes=("async",), slots=64).join()
        home.host.submit("r", specs(20, lane="async"))
        first = await lane.expect(Tasks)
        assert 0 < len(first.assignments) < 20
        await lane.work_until(lambda: len(run.outcomes) == 20)

    play(scene)


def test_work_for_a_peer_that_went_without_a_word_goes_to_the_next(play, specs):
    async def scene(home):
        run = home.run()
        gone = await Worker(home, "a/w1").join()
        gone.dialer.close()
        home.host.submit("r", specs(1))
        worker = await Worker(home, "b/w1").join()
        worker.answer(await worker.take())
        await run.until(lambda: run.outcomes)
        assert [o.status for o in run.outcomes] == ["completed"]

    play(scene, lease_s=0.5, tick_s=0.05)
