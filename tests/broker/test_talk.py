"""Talk over real frames: the same promises on both transports, also where brokers, peers and disks fail."""

import errno
import os
import threading
from contextlib import ExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path

import anyio
import pytest

from epsilon_lab.broker.client import Peer
from epsilon_lab.broker.host import BrokerHost
from epsilon_lab.broker.subscription import AsyncSubscription, Reading, Subscription
from epsilon_lab.broker.topics import KEPT
from epsilon_lab.clock import SystemClock
from epsilon_lab.errors import LabError
from epsilon_lab.messages.frames import Denied, Direct, Hello, News, Publish, Read, Recorded, Subscribe
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.transport import memory, zeromq
from epsilon_lab.workspace import journal as journal_module
from epsilon_lab.workspace.journal import Journal, read_journal
from epsilon_lab.workspace.register import Register

PATIENCE_S = 30.0


@pytest.fixture(params=[memory, zeromq], ids=["memory", "zeromq"])
def transport(request):
    return request.param


@pytest.fixture
def anyio_backend():
    return "asyncio"


pytestmark = pytest.mark.anyio


class Lab:
    """A workspace's journal, and the address at which its brokers follow each other."""

    def __init__(self, transport, directory, address):
        self.transport, self.path, self.address = transport, directory / "lab.ndjson", address
        self.epoch = 0

    @asynccontextmanager
    async def broker(self, **settings):
        self.epoch += 1
        remove_socket(self.address)
        with ExitStack() as stack:
            listener = stack.enter_context(self.transport.listen(self.address))
            self.journal = Journal.open(self.path)
            stack.callback(self.journal.close)
            host = BrokerHost(
                listener,
                lab_journal=self.journal,
                settings=BrokerSettings(**settings),
                clock=SystemClock(),
                epoch=self.epoch,
            )
            past = Register()
            past.take(read_journal(self.path).records)
            host.restore_topics(past.last_values)
            async with anyio.create_task_group() as group:
                group.start_soon(host.serve)
                with anyio.fail_after(PATIENCE_S):
                    yield host
                group.cancel_scope.cancel()

    @asynccontextmanager
    async def peer(self, name="s/desk"):
        """A peer whose answers are received for it."""
        with self.transport.dial(self.address, name) as dialer:
            peer = Peer(dialer, Hello(pid=os.getpid(), host="h"))
            peer.greet()

            async def receive():
                async for _ in peer:
                    pass

            async with anyio.create_task_group() as group:
                group.start_soon(receive)
                yield peer
                group.cancel_scope.cancel()


def remove_socket(address):
    """As after a process that died, which leaves it lying there."""
    Path(address.removeprefix("ipc://")).unlink(missing_ok=True)


@pytest.fixture
def lab(transport, tmp_path):
    with transport.private_address() as address:
        yield Lab(transport, tmp_path, address)


def publish(value, topic="t"):
    return Publish(note_id=0, topic=topic, data=str(value).encode(), sent_at=1.0)


async def subscription(peer, topic="t"):
    reader = AsyncSubscription(Reading(Subscribe(note_id=0, topic=topic)), peer.answer)
    await reader.look()
    return reader


async def test_a_reader_that_keeps_up_hears_all_in_order(lab):
    async with lab.broker(), lab.peer("s/a") as one, lab.peer("s/b") as other, lab.peer("s/c") as reader:
        heard = await subscription(reader)

        async def speak(peer, first):
            for n in range(first, first + 200):
                assert isinstance(await peer.answer(publish(n)), Recorded)

        async with anyio.create_task_group() as group:
            group.start_soon(speak, one, 1000)
            group.start_soon(speak, other, 2000)
            messages = [await heard.next() for _ in range(400)]
        assert [message.seq for message in messages] == list(range(1, 401))
        assert [m.value for m in messages if m.value < 2000] == list(range(1000, 1200))
        assert heard.missed == 0
        assert await heard.next(timeout_s=0.01) is None


async def test_a_reader_that_sleeps_through_a_flood_delays_nobody_and_is_told(lab):
    async with lab.broker(), lab.peer("s/a") as speaker, lab.peer("s/b") as sleeper:
        heard = await subscription(sleeper)
        pending = []
        for n in range(3 * KEPT):
            speaker.ask(publish(n), pending.append)
            if n % 100 == 0:
                await speaker.answer(publish(n))
        await speaker.answer(publish(-1))
        message = await heard.next()
        assert message.value == -1
        assert heard.missed == message.seq - 1 > 3 * KEPT


async def test_a_broker_that_follows_another_goes_on_with_numbers_readers_and_what_was_not_answered(lab):
    async with lab.peer("s/a") as speaker, lab.peer("s/b") as reader:
        async with lab.broker():
            heard = await subscription(reader)
            for n in range(3):
                await speaker.answer(publish(n))
            assert [(await heard.next()).value for _ in range(3)] == [0, 1, 2]
        answers = {}
        both = anyio.Event()

        async def wait_for(name, answer):
            answers[name] = await answer
            if len(answers) == 2:
                both.set()

        async with anyio.create_task_group() as group:
            group.start_soon(wait_for, "heard", heard.next())
            group.start_soon(wait_for, "said", speaker.answer(publish(3)))
            await anyio.wait_all_tasks_blocked()
            reader.renew()  # as every peer does now and then: so it hears that nobody knows it
            async with lab.broker():
                await both.wait()
        assert isinstance(answers["said"], Recorded)
        message = answers["heard"]
        assert (message.value, message.seq, message.epoch) == (3, 4, 2)


async def test_a_full_disk_is_said_to_who_speaks(lab, monkeypatch):
    async with lab.broker(), lab.peer() as peer:
        await peer.answer(Read(note_id=0, inbox="lab", wait=False))
        write = os.write

        def refuse(handle, data):
            if handle == lab.journal._handle:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(handle, data)

        with monkeypatch.context() as patch:
            patch.setattr(journal_module.os, "write", refuse)
            for said in (publish(1), Direct(note_id=0, to="lab", data=b"1", sent_at=1.0)):
                answer = await peer.answer(said)
                assert isinstance(answer, Denied)
                assert "No space left" in answer.reason
        assert isinstance(await peer.answer(publish(2)), Recorded)


async def test_a_question_cut_short_loses_nothing_and_doubles_nothing(lab):
    async with lab.broker(), lab.peer("s/a") as speaker, lab.peer("s/b") as reader:
        heard = await subscription(reader)
        values = []
        for n in range(50):
            with anyio.move_on_after(0.0005 * (n % 3)):
                message = await heard.next()
                values.append(message.value)
            await speaker.answer(publish(n))
        while (message := await heard.next(timeout_s=0.2)) is not None:
            values.append(message.value)
        assert values == list(range(50))


async def test_a_thread_that_blocks_hears_as_well(lab):
    """As children do: one thread, one line, which it reads itself."""
    done = []

    def live():
        with lab.transport.dial(lab.address, "s/child") as dialer:
            peer = Peer(dialer, Hello(pid=os.getpid(), host="h"))
            peer.greet()
            assert peer.request(Subscribe(note_id=0, topic="t", after=(0, 0)), timeout_s=0.01) is None
            reader = Subscription(Reading(Subscribe(note_id=0, topic="t")), peer.request, timeout_s=PATIENCE_S)
            peer.request(publish("0", topic="ready"))
            done.extend(message.value for message in islice(reader, 3))
            assert isinstance(peer.request(Direct(note_id=0, to="nobody", data=b"1", sent_at=1.0)), Denied)
            with pytest.raises(LabError, match="cannot be read: an inbox's name"):
                Subscription(Reading(Read(note_id=0, inbox="a/b")), peer.request)

    async with lab.broker(), lab.peer("s/a") as speaker:
        thread = threading.Thread(target=live)
        thread.start()
        assert (await (await subscription(speaker, "ready")).next()).value == 0
        for n in range(3):
            await speaker.answer(publish(n))
        await anyio.to_thread.run_sync(thread.join)
    assert done == [0, 1, 2]


async def test_what_nobody_waits_for_leaves_no_question_behind(lab):
    async with lab.broker() as host, lab.peer("s/a") as peer:
        heard = await subscription(peer)
        for _ in range(20):
            assert await heard.next(timeout_s=0.001) is None
        await peer.answer(publish(1, topic="other"))
        assert not host._state.board.post._wants
        assert not peer._notes
        assert isinstance(await peer.answer(Subscribe(note_id=0, topic="t", wait=False)), News)
