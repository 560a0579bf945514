"""TCP keeps the contract too, admits known keys alone, and says when a connection was cut."""

import contextlib
import re
import socket
import time
from types import SimpleNamespace

import anyio
import pytest
import zmq

from epsilon_lab.errors import InvalidInput, WorkspaceError
from epsilon_lab.messages.frames import MAX_FRAME
from epsilon_lab.testing.transport_contract import TransportContract
from epsilon_lab.transport import curve, zeromq
from epsilon_lab.transport.joined import JoinedListener
from epsilon_lab.transport.keys import WORKER_KEY, lab_keys, read_client_key


@contextlib.contextmanager
def unused_address(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    yield f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


@pytest.fixture
def keys(tmp_path):
    return lab_keys(tmp_path / "keys"), read_client_key(tmp_path / "keys" / WORKER_KEY)


class TestCurve(TransportContract):
    @pytest.fixture(params=["127.0.0.1", "::1"])
    def transport(self, request, keys):
        server, client = keys
        return SimpleNamespace(
            private_address=lambda: unused_address(request.param),
            listen=lambda address: curve.listen(address, server),
            dial=lambda address, peer_id: curve.dial(address, peer_id, client),
        )


class TestTheNearEndOfTwo(TransportContract):
    @pytest.fixture
    def transport(self, keys):
        server, _ = keys
        return SimpleNamespace(
            private_address=zeromq.private_address,
            listen=lambda address: JoinedListener(zeromq.listen(address), curve.listen("tcp://127.0.0.1:0", server)),
            dial=zeromq.dial,
        )


class TestTheFarEndOfTwo(TransportContract):
    @pytest.fixture
    def transport(self, keys):
        server, client = keys
        with zeromq.private_address() as near:

            def listen(address):
                far = curve.listen(address, server)
                return JoinedListener(zeromq.listen(near), far)

            yield _Renamed(listen, lambda address, peer_id: curve.dial(address, peer_id, client))


class _Renamed:
    """A transport whose peers all come from afar."""

    private_address = staticmethod(unused_address)

    def __init__(self, listen, dial):
        self._listen, self._dial = listen, dial

    def listen(self, address):
        listener = self._listen(address)
        receive, send = listener.receive, listener.send
        listener.receive = lambda limit=256: [(peer.removeprefix("remote-"), frame) for peer, frame in receive(limit)]
        listener.send = lambda peer, frame: send(f"remote-{peer}", frame)
        return listener

    def dial(self, address, peer_id):
        zeromq.checked_id(peer_id)
        return self._dial(address, f"remote-{peer_id}"[:255])


def _serve(listener, until):
    """Serve an end until something holds; give what came."""
    got = []

    async def serve():
        with anyio.fail_after(60):
            while not until(got):
                with anyio.move_on_after(0.05):
                    await listener.wait_readable()
                got.extend(listener.receive())

    anyio.run(serve)
    return got


def test_the_port_that_was_taken_is_told(keys):
    with curve.listen("tcp://127.0.0.1:0", keys[0]) as listener:
        assert re.fullmatch(r"tcp://127\.0\.0\.1:[1-9]\d*", listener.address)


def test_an_unknown_key_is_refused_and_counted_and_told(keys, tmp_path):
    _, client = keys
    (tmp_path / "keys" / WORKER_KEY).unlink()
    renewed = lab_keys(tmp_path / "keys")
    with (
        curve.listen("tcp://127.0.0.1:0", renewed) as listener,
        curve.dial(listener.address, "remote-a/w1", client) as stranger,
    ):
        stranger.send(b"let me in")
        assert not _serve(listener, lambda _: stranger.refusal)
        assert "does not admit this key" in stranger.refusal
        assert listener.strangers == 1
        assert not stranger.is_up
        with curve.dial(listener.address, "remote-b/w1", read_client_key(tmp_path / "keys" / WORKER_KEY)) as friend:
            friend.send(b"hello")
            assert _serve(listener, bool) == [("remote-b/w1", b"hello")]


def test_the_key_of_another_lab_is_told_within_seconds(keys, tmp_path):
    lab_keys(tmp_path / "other")
    with (
        curve.listen("tcp://127.0.0.1:0", keys[0]) as listener,
        curve.dial(listener.address, "remote-a/w1", read_client_key(tmp_path / "other" / WORKER_KEY)) as stranger,
    ):
        started = time.monotonic()
        assert not _serve(listener, lambda _: stranger.refusal)
        assert "another lab's" in stranger.refusal
        assert listener.strangers > 0
        assert time.monotonic() - started < 30


def test_a_dialer_without_keys_gets_nowhere(keys):
    with curve.listen("tcp://127.0.0.1:0", keys[0]) as listener:
        context = zmq.Context()
        stranger = context.socket(zmq.DEALER)
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(listener.address)
        stranger.send(b"hello")
        assert not _serve(listener, lambda _: listener.strangers)
        stranger.close()
        context.term()


def test_bytes_that_are_no_zeromq_are_dropped(keys):
    with (
        curve.listen("tcp://127.0.0.1:0", keys[0]) as listener,
        curve.dial(listener.address, "remote-a/w1", keys[1]) as friend,
    ):
        host, _, port = listener.address.removeprefix("tcp://").rpartition(":")
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 64)
            friend.send(b"hello")
            assert _serve(listener, bool) == [("remote-a/w1", b"hello")]


def test_a_frame_above_the_limit_costs_its_sender_the_connection(keys):
    with curve.listen("tcp://127.0.0.1:0", keys[0]) as listener:
        with curve.dial(listener.address, "remote-a/w1", keys[1]) as rude:
            rude._socket.send(bytes(MAX_FRAME + 1))
            assert not _serve(listener, lambda _: rude.was_cut())
        with curve.dial(listener.address, "remote-b/w1", keys[1]) as friend:
            friend.send(b"hello")
            assert _serve(listener, bool) == [("remote-b/w1", b"hello")]


def test_a_listener_that_comes_back_is_found_and_the_cut_is_told_once(keys):
    with unused_address() as address, curve.dial(address, "remote-a/w1", keys[1]) as dialer:
        with curve.listen(address, keys[0]) as listener:
            _serve(listener, lambda _: dialer.is_up)
            assert not dialer.was_cut()
        with curve.listen(address, keys[0]) as listener:

            async def hear():
                async with anyio.create_task_group() as group:
                    group.start_soon(_tend, listener)
                    with anyio.fail_after(60):
                        await dialer.wait_readable()
                    group.cancel_scope.cancel()

            anyio.run(hear)
            assert dialer.was_cut()
            assert not dialer.was_cut()
            assert dialer.is_up


async def _tend(listener):
    while True:
        with anyio.move_on_after(0.05):
            await listener.wait_readable()
        listener.receive()


def test_each_end_keeps_to_its_own_names(keys):
    """A worker elsewhere cannot take the place of one of the lab's own."""
    with (
        zeromq.private_address() as near,
        JoinedListener(zeromq.listen(near), curve.listen("tcp://127.0.0.1:0", keys[0])) as listener,
        curve.dial(listener.address, "local-1/w1", keys[1]) as thief,
        zeromq.dial(near, "remote-a/w1") as liar,
        zeromq.dial(near, "local-1/w1") as own,
    ):
        for dialer in (thief, liar, own):
            dialer.send(b"hello")
        assert _serve(listener, lambda got: listener.strangers == 2 and got) == [("local-1/w1", b"hello")]
        assert listener.send("local-1/w1", b"task")
        assert own.poll(10)
        assert own.receive() == [b"task"]
        assert not thief.receive()


@pytest.mark.parametrize(
    "address", ["ipc:///tmp/x", "tcp://", "tcp://host", "tcp://host:99999", "tcp://a b:1", "http://h:1", "", None, 5]
)
def test_other_addresses_are_refused(address, keys):
    with pytest.raises(InvalidInput, match="tcp://<host>:<port>"):
        curve.listen(address, keys[0])
    with pytest.raises(InvalidInput, match="tcp://<host>:<port>"):
        curve.dial(address, "remote-a/w1", keys[1])


def test_an_address_that_is_not_ours_is_named(keys):
    with pytest.raises(WorkspaceError, match=r"cannot listen on tcp://203\.0\.113\.7:1"):
        curve.listen("tcp://203.0.113.7:1", keys[0])
