"""What any transport must do, as tests: subclass, give the fixture `transport`, done.

The rules of transport/base.py, one test each, driven from real threads and a real loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

import anyio
import pytest

from epsilon_lab.errors import BadFrame, InvalidInput, WorkspaceError
from epsilon_lab.messages import frames
from epsilon_lab.transport.base import Dialer, Listener

_PATIENCE_S = 60.0


class Transport(Protocol):
    """A module of the transport room."""

    def private_address(self) -> AbstractContextManager[str]:
        """Make an address nobody else has."""
        ...

    def listen(self, address: str) -> Listener:
        """Open the end that many peers reach."""
        ...

    def dial(self, address: str, peer_id: str) -> Dialer:
        """Open a peer's end."""
        ...


def _gather(listener: Listener, count: int) -> list[tuple[str, bytes]]:
    """Receive until `count` frames have come."""

    async def gather() -> list[tuple[str, bytes]]:
        got: list[tuple[str, bytes]] = []
        with anyio.fail_after(_PATIENCE_S):
            while len(got) < count:
                await listener.wait_readable()
                got += listener.receive()
        return got

    return anyio.run(gather)


def _gather_at(dialer: Dialer, count: int) -> list[bytes]:
    got: list[bytes] = []
    while len(got) < count:
        assert dialer.poll(_PATIENCE_S), f"{len(got)} of {count} frames came"
        got += dialer.receive()
    return got


def in_a_thread(live: Callable[[], None]) -> Future[None]:
    """Run a peer's life in a thread of its own; its result raises what went wrong there."""
    life: Future[None] = Future()

    def run() -> None:
        try:
            live()
            life.set_result(None)
        except BaseException as error:  # noqa: BLE001 - the test's to raise
            life.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # a peer that hangs fails its test, not the session's end
    return life


class TransportContract:
    """The tests; a subclass provides the fixture `transport`."""

    @pytest.fixture
    def address(self, transport: Transport) -> Iterator[str]:
        """Give an address of this test's own."""
        with transport.private_address() as address:
            yield address

    @pytest.fixture
    def listener(self, transport: Transport, address: str) -> Iterator[Listener]:
        """Give a listener at the address."""
        with transport.listen(address) as listener:
            yield listener

    @pytest.fixture
    def dialer(self, transport: Transport, address: str) -> Iterator[Dialer]:
        """Give a peer called s/a."""
        with transport.dial(address, "s/a") as dialer:
            yield dialer

    def test_frames_arrive_whole_in_order_and_named(self, listener: Listener, dialer: Dialer) -> None:
        """Sizes from nothing to a megabyte."""
        sent = [b"", b"\0", b"x" * 255, bytes(range(256)) * 4096]
        for frame in sent:
            dialer.send(frame)
        assert _gather(listener, 4) == [("s/a", frame) for frame in sent]

    def test_answers_reach_their_peer_and_no_other(
        self, transport: Transport, address: str, listener: Listener, dialer: Dialer
    ) -> None:
        """Each peer gets its own."""
        with transport.dial(address, "s/ä") as other:
            dialer.send(b"here")
            other.send(b"here")
            _gather(listener, 2)
            assert listener.send("s/a", b"for a")
            assert listener.send("s/ä", b"for the other")
            assert _gather_at(dialer, 1) == [b"for a"]
            assert _gather_at(other, 1) == [b"for the other"]

    def test_an_absent_peer_is_an_answer_not_a_silence(self, listener: Listener) -> None:
        """The sender is told at once."""
        assert listener.send("s/nobody", b"x") is False

    def test_a_peer_that_left_is_an_answer_too(self, listener: Listener, transport: Transport, address: str) -> None:
        """Sooner or later every send is refused."""
        with transport.dial(address, "s/b") as leaver:
            leaver.send(b"here")
            _gather(listener, 1)
        with transport.dial(address, "s/c") as witness:  # its frames come after the other's end
            tries = 0
            while listener.send("s/b", b"x"):
                witness.send(b"again")
                _gather(listener, 1)
                tries += 1
                assert tries < 3000, "a peer that left still takes frames"

    def test_a_limit_leaves_the_rest_for_later(self, listener: Listener, dialer: Dialer) -> None:
        """Nothing is dropped, and the rest keeps the listener readable."""
        for number in range(10):
            dialer.send(bytes([number]))
        first: list[tuple[str, bytes]] = []
        while len(first) < 3:
            anyio.run(listener.wait_readable)
            first += listener.receive(3 - len(first))
        assert [frame[0] for _, frame in first + _gather(listener, 7)] == list(range(10))

    def test_what_is_sent_before_the_listener_is_there_waits(self, transport: Transport, address: str) -> None:
        """Order of starting does not matter."""
        with transport.dial(address, "s/early") as dialer:
            dialer.send(b"early")
            with transport.listen(address) as listener:
                assert _gather(listener, 1) == [("s/early", b"early")]

    def test_a_name_is_taken_over_by_who_dials_last(
        self, transport: Transport, address: str, listener: Listener, dialer: Dialer
    ) -> None:
        """A restarted peer gets what is for it."""
        dialer.send(b"old")
        _gather(listener, 1)
        with transport.dial(address, "s/a") as again:
            again.send(b"new")
            assert _gather(listener, 1) == [("s/a", b"new")]
            assert listener.send("s/a", b"for the new one")
            assert _gather_at(again, 1) == [b"for the new one"]
            assert dialer.poll(0) is False

    def test_a_waiter_is_woken_even_if_someone_sends_meanwhile(self, listener: Listener, dialer: Dialer) -> None:
        """A send may swallow the edge that announces a frame: the waiter must not sleep on it."""
        dialer.send(b"here")
        _gather(listener, 1)
        rounds = 200

        async def wait_for_all() -> None:
            got = 0
            with anyio.fail_after(_PATIENCE_S):
                while got < rounds:
                    await listener.wait_readable()
                    got += len(listener.receive())

        async def both() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(wait_for_all)
                for number in range(rounds):
                    dialer.send(b"x")
                    listener.send("s/a", bytes([number]))
                    await anyio.lowlevel.checkpoint()

        anyio.run(both)
        assert len(_gather_at(dialer, rounds)) == rounds

    def test_a_dialer_waits_on_a_loop_as_well(self, listener: Listener, dialer: Dialer) -> None:
        """The async lane lives on one."""
        dialer.send(b"here")
        _gather(listener, 1)

        async def main() -> list[bytes]:
            listener.send("s/a", b"answer")
            with anyio.fail_after(_PATIENCE_S):
                await dialer.wait_readable()
            return dialer.receive()

        assert anyio.run(main) == [b"answer"]

    def test_poll_blocks_a_thread_until_a_frame_comes(
        self, transport: Transport, address: str, listener: Listener
    ) -> None:
        """Children live on one; each end belongs to its thread."""
        got: list[bytes] = []

        def live() -> None:
            with transport.dial(address, "s/thread") as dialer:
                assert dialer.poll(0) is False
                dialer.send(b"ready")
                got.extend(_gather_at(dialer, 1))

        peer = in_a_thread(live)
        try:
            assert _gather(listener, 1) == [("s/thread", b"ready")]
            assert listener.send("s/thread", b"go")
        finally:
            peer.result(_PATIENCE_S + 10)
        assert got == [b"go"]

    def test_many_peers_at_once_lose_nothing(self, transport: Transport, address: str, listener: Listener) -> None:
        """Eight threads, 200 frames each."""

        def live(name: str) -> None:
            with transport.dial(address, name) as dialer:
                for number in range(200):
                    dialer.send(f"{name} {number}".encode())
                _gather_at(dialer, 1)

        names = [f"s/{number}" for number in range(8)]
        peers = [in_a_thread(partial(live, name)) for name in names]
        frames_of: dict[str, list[bytes]] = {name: [] for name in names}
        try:
            for name, frame in _gather(listener, 8 * 200):
                frames_of[name].append(frame)
            for name in names:
                assert listener.send(name, b"end")
        finally:
            wait(peers, _PATIENCE_S + 10)
        for peer in peers:
            peer.result(0)
        assert frames_of == {name: [f"{name} {number}".encode() for number in range(200)] for name in names}

    def test_an_oversized_frame_is_refused_by_its_sender(self, dialer: Dialer) -> None:
        """The limit of the protocol holds before anything is sent."""
        with pytest.raises(BadFrame, match="put the value in a file"):
            dialer.send(bytes(frames.MAX_FRAME + 1))

    @pytest.mark.parametrize("name", ["", "x" * 256, "\0abc"])
    def test_a_name_that_cannot_travel_is_refused(self, transport: Transport, address: str, name: str) -> None:
        """An error names it."""
        with pytest.raises(InvalidInput, match="peer id"):
            transport.dial(address, name)

    @pytest.mark.usefixtures("listener")
    def test_two_listeners_at_one_address_are_refused(self, transport: Transport, address: str) -> None:
        """The first one stays."""
        with pytest.raises(WorkspaceError, match="fresh address"):
            transport.listen(address)

    def test_closing_twice_does_nothing(self, listener: Listener, dialer: Dialer) -> None:
        """Both ends."""
        for end in (listener, dialer):
            end.close()
            end.close()
