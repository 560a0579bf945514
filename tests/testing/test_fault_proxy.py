"""The bad network does what it says, seen from a plain echo behind it."""

import contextlib
import socket
import threading
import time

import pytest

from epsilon_lab.errors import InvalidInput
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.fault_proxy import FaultProxy


@pytest.fixture
def echo():
    """A server that gives back what it gets; the list holds what it got."""
    server = socket.create_server(("127.0.0.1", 0))
    got = bytearray()

    def talk(line):
        with line, contextlib.suppress(OSError):
            while data := line.recv(4096):
                got.extend(data)
                line.sendall(data)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                line, _ = server.accept()
                threading.Thread(target=talk, args=(line,)).start()

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"tcp://127.0.0.1:{server.getsockname()[1]}", got
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def dial(proxy):
    host, _, port = proxy.address.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def try_out(proxy):
    with dial(proxy) as line:
        line.recv(1)


def exactly(line, count):
    data = b""
    while len(data) < count:
        data += line.recv(count - len(data))
    return data


def test_a_good_network_passes_everything_both_ways(echo):
    with FaultProxy(echo[0]) as proxy, dial(proxy) as line:
        line.sendall(b"x" * 100_000)
        assert exactly(line, 100_000) == b"x" * 100_000
        assert proxy.connections == 1


def test_latency_is_added_each_way(echo):
    with FaultProxy(echo[0]) as proxy, dial(proxy) as line:
        proxy.delay(0.05, 0.01)
        started = time.monotonic()
        line.sendall(b"hello")
        assert exactly(line, 5) == b"hello"
        assert time.monotonic() - started >= 0.1


def test_a_throttle_holds_back(echo):
    with FaultProxy(echo[0]) as proxy, dial(proxy) as line:
        proxy.throttle(1_000_000)
        started = time.monotonic()
        line.sendall(b"x" * 100_000)
        exactly(line, 100_000)
        assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize(("direction", "arrives"), [("up", False), ("down", True), ("both", False)])
def test_what_is_swallowed_passes_when_the_network_heals(echo, direction, arrives):
    with FaultProxy(echo[0]) as proxy, dial(proxy) as line:
        line.sendall(b"1")
        assert exactly(line, 1) == b"1"
        proxy.swallow(direction)
        line.sendall(b"2")
        line.settimeout(0.2)
        with pytest.raises(TimeoutError):
            line.recv(1)
        if arrives:
            assert wait_until(lambda: b"2" in echo[1], within_s=60)
        else:
            assert b"2" not in echo[1]
        line.settimeout(60)
        proxy.heal()
        assert exactly(line, 1) == b"2"


def test_a_cut_resets_both_sides_and_new_connections_are_good(echo):
    with FaultProxy(echo[0]) as proxy:
        with dial(proxy) as line:
            line.sendall(b"1")
            exactly(line, 1)
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                line.recv(1)
        with dial(proxy) as line:
            line.sendall(b"2")
            assert exactly(line, 1) == b"2"


def test_a_cut_may_come_in_the_middle_of_a_frame(echo):
    with FaultProxy(echo[0]) as proxy, dial(proxy) as line:
        line.sendall(b"1")
        exactly(line, 1)
        proxy.cut(after_bytes=3)
        line.sendall(b"abcdef")
        with pytest.raises(ConnectionResetError):
            exactly(line, 6)
        assert wait_until(lambda: len(echo[1]) >= 4, within_s=60)
        assert bytes(echo[1]) == b"1abc"


def test_a_half_open_connection_looks_alive_and_is_not(echo):
    with FaultProxy(echo[0]) as proxy, dial(proxy) as line:
        line.sendall(b"1")
        exactly(line, 1)
        proxy.half_open()
        line.sendall(b"2")
        line.settimeout(0.2)
        with pytest.raises(TimeoutError):
            line.recv(1)
        assert bytes(echo[1]) == b"1"


def test_who_is_refused_is_reset(echo):
    with FaultProxy(echo[0]) as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            try_out(proxy)
        proxy.heal()
        with dial(proxy) as line:
            line.sendall(b"2")
            assert exactly(line, 1) == b"2"


def test_a_target_that_does_not_listen_resets():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with FaultProxy(f"tcp://127.0.0.1:{port}") as proxy, pytest.raises(ConnectionResetError):
        try_out(proxy)


def test_a_target_of_another_form_is_refused():
    with pytest.raises(InvalidInput, match="target"):
        FaultProxy("ipc:///tmp/x")
