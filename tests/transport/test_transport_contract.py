"""Both transports keep the contract, and ZeroMQ keeps strangers out."""

import os
import select
import stat

import anyio
import pytest
import zmq

from epsilon_lab.errors import InvalidInput, WorkspaceError
from epsilon_lab.testing.transport_contract import TransportContract, in_a_thread
from epsilon_lab.transport import memory, zeromq


class TestMemory(TransportContract):
    @pytest.fixture
    def transport(self):
        return memory


class TestZeroMQ(TransportContract):
    @pytest.fixture
    def transport(self):
        return zeromq


def test_what_goes_wrong_in_a_peers_thread_fails_its_test():
    def live():
        pytest.fail("0 of 1 frames came")

    with pytest.raises(pytest.fail.Exception, match="0 of 1"):
        in_a_thread(live).result(60)


def test_the_socket_lies_in_a_directory_of_ones_own_that_goes_away():
    with zeromq.private_address() as address:
        path = address.removeprefix("ipc://")
        assert len(os.fsencode(path)) <= zmq.IPC_PATH_MAX_LEN
        directory = os.path.dirname(path)
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
        zeromq.listen(address).close()
    assert not os.path.exists(directory)


def test_a_long_temporary_directory_is_passed_over(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with zeromq.private_address() as address:
        assert not address.startswith(f"ipc://{deep}")
        zeromq.listen(address).close()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:5555", "ipc://", "nonsense", "ipc:///" + "x" * 107])
def test_other_addresses_are_refused(address):
    with pytest.raises(InvalidInput, match="address"):
        zeromq.listen(address)
    with pytest.raises(InvalidInput, match="address"):
        zeromq.dial(address, "s/a")


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WorkspaceError, match="cannot listen on"):
        zeromq.listen(f"ipc://{tmp_path}/none/b")


def test_a_message_of_several_parts_counts_as_empty():
    """It is no message of ours; whoever reads it refuses it by name."""
    with zeromq.private_address() as address:
        listener = zeromq.listen(address)
        context = zmq.Context()
        stranger = context.socket(zmq.REQ)
        stranger.setsockopt(zmq.ROUTING_ID, b"s/\xff")
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(address)
        stranger.send(b"hello")
        poller = zmq.Poller()
        poller.register(listener._socket, zmq.POLLIN)
        assert poller.poll(10_000)
        [(peer, frame)] = listener.receive()
        assert frame == b""
        assert listener.send(peer, b"answer")
        stranger.close()
        context.term()
        listener.close()


def test_an_edge_that_a_send_swallowed_still_wakes_the_waiter():
    """libzmq signals a frame once; whoever uses the socket next takes the signal away from the loop that watches."""
    with zeromq.private_address() as address, zeromq.listen(address) as listener, zeromq.dial(address, "s/a") as dialer:

        async def scene():
            dialer.send(b"here")
            await listener.wait_readable()
            listener.receive()
            async with anyio.create_task_group() as group:
                group.start_soon(listener.wait_readable)
                await anyio.wait_all_tasks_blocked()
                assert not dialer.poll(0.005)  # libzmq looks at signals in a send only if it has not for a while
                dialer.send(b"news")
                assert select.select([listener._socket.fileno()], [], [], 10)[0]
                listener.send("s/a", b"x")
                assert not select.select([listener._socket.fileno()], [], [], 0)[0], "the signal is gone"
            assert listener.receive() == [("s/a", b"news")]

        async def within_reason():
            with anyio.fail_after(60):
                await scene()

        anyio.run(within_reason)
