"""The broker at work: real frames over both transports, real journals, one loop."""

import contextlib
import errno
import os
import threading
from functools import partial

import anyio
import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from epsilon_lab.broker import host as host_module
from epsilon_lab.broker.client import Peer
from epsilon_lab.broker.host import BrokerHost
from epsilon_lab.broker.ledger import Ledger
from epsilon_lab.clock import ManualClock, SystemClock
from epsilon_lab.errors import InvalidInput, QueueFull, WorkspaceError
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import ArtifactSaved, LabDisk, LlmCall, RunBorn, RunEnded, TasksCompleted, event
from epsilon_lab.messages.frames import PROTOCOL_VERSION, Denied, Hello, Recorded, Refused, Stale, Tasks, Welcome
from epsilon_lab.messages.tasks import Result
from epsilon_lab.messages.values import pack
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.transport import memory, zeromq
from epsilon_lab.workspace import journal as journal_module
from epsilon_lab.workspace.journal import Journal, read_journal

PATIENCE_S = 10.0
CALL = LlmCall(task_id="t0", call=0, model="m", outcome="ok", prompt_ref="p", prompt_sha256="0")
PAID = event(CALL)


@pytest.fixture(params=[memory, zeromq], ids=["memory", "zeromq"])
def transport(request):
    return request.param


class Submitter:
    """A run that remembers what it was told, and can be waited for."""

    def __init__(self, home, run_id, ledger=None):
        self.run_id = run_id
        self.path = home.directory / run_id
        self.journal = Journal.open(self.path, home.durability)
        self.outcomes = []
        self.failures = []
        self.home = home
        self.news = anyio.Event()
        self.reaction = None
        home.host.open_run(run_id, str(self.path), self.journal, self.told, self.broken, ledger=ledger)

    def told(self, outcomes):
        self.outcomes += outcomes
        self.wake()
        if self.reaction is not None:
            self.reaction(outcomes)

    def broken(self, reason):
        self.failures.append(reason)
        self.wake()

    def wake(self):
        self.news.set()
        self.news = anyio.Event()

    async def until(self, condition):
        with anyio.fail_after(PATIENCE_S):
            while not condition():
                await self.news.wait()

    def types(self):
        return [record.type for record in read_journal(self.path).records]

    def completed(self):
        """How many results are on record."""
        bodies = [record.body for record in read_journal(self.path).records if record.type == "task.completed"]
        return sum(len(msgspec.json.decode(body, type=TasksCompleted).tasks) for body in bodies)


class Worker:
    """A member on the test's own loop."""

    def __init__(self, home, name, *, lanes=("process",), slots=1):
        self.dialer = home.stack.enter_context(home.transport.dial(home.address, name))
        self.peer = Peer(self.dialer, Hello(pid=os.getpid(), host="h", lanes=lanes, slots=slots))

    async def expect(self, kind):
        """Wait for a message of this kind, passing over others."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                await self.peer.wait()
                for message in self.peer.receive():
                    if isinstance(message, kind):
                        return message

    async def join(self):
        self.peer.greet()
        await self.expect(Welcome)
        return self

    async def take(self):
        with anyio.fail_after(PATIENCE_S):
            while not self.peer.tasks:
                await self.peer.wait()
                self.peer.receive()
        taken = list(self.peer.tasks)
        self.peer.tasks.clear()
        return taken

    async def work_until(self, condition):
        """Answer whatever comes; what came."""
        taken = []
        with anyio.fail_after(PATIENCE_S):
            while not condition():
                with anyio.move_on_after(0.02):
                    await self.peer.wait()
                self.peer.receive()
                self.answer(self.peer.tasks)
                taken += self.peer.tasks
                self.peer.tasks.clear()
        return taken

    def answer(self, assignments, **fields):
        self.peer.done(
            results=tuple(
                Result(
                    **{
                        "task_id": each.task.task_id,
                        "run_id": each.run_id,
                        "fence": each.fence,
                        "output": each.task.payload,
                        "started_at": 1.0,
                        "ended_at": 1.0,
                    }
                    | fields
                )
                for each in assignments
            )
        )


class Home:
    """A host that is served, and what a test needs around it."""

    def __init__(self, transport, directory, *, clock=None, durability="process", space=lambda: "", **options):
        self.transport, self.directory = transport, directory
        self.clock = clock or SystemClock()
        self.durability = durability
        self.space = space
        self.options = options
        self.submitters = []

    async def __aenter__(self):
        self.stack = contextlib.ExitStack()
        self.address = self.stack.enter_context(self.transport.private_address())
        listener = self.stack.enter_context(self.transport.listen(self.address))
        self.lab = Journal.open(self.directory / "lab", self.durability)
        self.stack.callback(self.lab.close)
        self.host = BrokerHost(
            listener,
            lab_journal=self.lab,
            settings=BrokerSettings(**self.options),
            clock=self.clock,
            epoch=5,
            space=self.space,
        )
        self.group = anyio.create_task_group()
        await self.group.__aenter__()
        self.group.start_soon(self.host.serve)
        return self

    async def __aexit__(self, *error):
        self.group.cancel_scope.cancel()
        await self.group.__aexit__(*error)
        for submitter in self.submitters:
            self.host.close_run(submitter.run_id)
            with contextlib.suppress(Exception):
                submitter.journal.close()
        self.stack.close()

    def run(self, run_id="r", **options):
        self.submitters.append(Submitter(self, run_id, **options))
        return self.submitters[-1]


async def seen(condition):
    """Wait for something that tells nobody."""
    with anyio.fail_after(PATIENCE_S):
        while not condition():
            await anyio.lowlevel.checkpoint()


def perform(scene, transport, directory, **options):
    async def main():
        async with Home(transport, directory, **options) as home:
            await scene(home)

    anyio.run(main)


@pytest.fixture
def play(transport, tmp_path):
    """Run a scene on a host of its own, over either transport."""
    return lambda scene, **options: perform(scene, transport, tmp_path, **options)


@pytest.fixture
def play_at_once(tmp_path):
    """Run a scene over memory, where all that was sent has arrived when the next turn begins."""
    return lambda scene, **options: perform(scene, memory, tmp_path, **options)


@pytest.fixture
def specs(make_spec):
    return lambda count, **fields: [make_spec(f"t{n}", **fields) for n in range(count)]


@contextlib.contextmanager
def full_disk(journal):
    """No byte more for this journal."""
    write = os.write

    def refuse(handle, data):
        if handle == journal._handle:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module.os, "write", refuse)
        yield


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


# -- bad frames -------------------------------------------------------------------------------------------------------


def test_garbage_is_refused_by_name_and_touches_nobody(play, specs):
    garbage = [
        b"",
        b"\0",
        b"\xff" * 1000,
        bytes([PROTOCOL_VERSION]),
        bytes([PROTOCOL_VERSION + 1]) + msgspec.msgpack.encode(["bye"]),
        bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode(["hello", "pid", 3]),
        bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode(["nonsense"]),
        bytes([PROTOCOL_VERSION]) + b"\x91" * 5000,
        bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode({"type": "done"}),
    ]

    async def scene(home):
        run, worker, bad = home.run(), await Worker(home, "s/w1").join(), await Worker(home, "s/w2").join()
        for frame in garbage:
            bad.dialer.send(frame)
            await bad.expect(Refused)
        home.host.submit("r", specs(2, prefetch=False))
        for each in (worker, bad):
            each.answer(await each.take())
        await run.until(lambda: len(run.outcomes) == 2)

    play(scene)


@settings(max_examples=60)
@given(
    frames=st.lists(
        st.binary(max_size=40)
        | st.recursive(
            st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
            lambda inner: st.lists(inner, max_size=12),
        ).map(lambda body: bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode(body))
        | st.tuples(
            st.sampled_from(["hello", "done", "note", "renew", "lost", "bye"]),
            st.lists(
                st.integers(-1, 2**40)
                | st.text(max_size=5)
                | st.floats()
                | st.sampled_from([["async"], ["process"], [], None, [["t0", "r", 1, ["json", b"}{"], 0, 0, []]]]),
                max_size=8,
            ),
        ).map(lambda pair: bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode([pair[0], *pair[1]])),
        max_size=20,
    )
)
def test_no_frame_ends_the_loop(tmp_path_factory, frames):
    async def main():
        async with Home(memory, tmp_path_factory.mktemp("host")) as home:
            run = home.run()
            with memory.dial(home.address, "s/bad") as bad:
                for frame in frames:
                    bad.send(frame)
                worker = await Worker(home, "t/w1").join()
                home.host.cancel("r")
                home.host.record("r", RunBorn(run_id="alive"))
                home.host.flush()
                assert "lab.run" in run.types()
                worker.peer.bye()

    anyio.run(main)


# -- a journal that cannot be written ---------------------------------------------------------------------------------


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


# -- time -------------------------------------------------------------------------------------------------------------


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


# -- on disk ----------------------------------------------------------------------------------------------------------


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
