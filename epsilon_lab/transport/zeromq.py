"""ZeroMQ between processes of one machine; with curve.py, which adds TCP and keys, the one door to pyzmq.

A ROUTER and its DEALERs, plain pyzmq driven by `ZMQ_FD`: less than half the cost of zmq.asyncio. The descriptor is
edge-triggered and shared by both directions, so a send may swallow the edge that announced a frame: `ZMQ_EVENTS` is
asked again before each wait and after each send.

A frame for a peer that is gone is an answer (False), not a silent drop (ROUTER_MANDATORY), and a peer that connects
again takes over its name (ROUTER_HANDOVER). There are no ZeroMQ heartbeats on ipc: the kernel reports a dead peer at
once, whereas heartbeats would cut every connection, with the frames in it, after a stall of this process.

Only ipc is served here. Its socket lies in a directory of mode 0700, which is what keeps strangers out.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Self

import anyio
import zmq

from epsilon_lab.errors import BadFrame, InvalidInput, LabError, WorkspaceError
from epsilon_lab.messages.frames import MAX_FRAME

_HIGH_WATER = 4096
"""Frames a peer may have waiting in one direction: well above the largest credit."""

_LINGER_MS = 250
"""What was sent before closing may take this long to leave."""


@contextlib.contextmanager
def private_address(*, is_lasting: bool = False) -> Iterator[str]:
    """Make an ipc address that only this user can reach; the directory is removed at the end.

    Args:
        is_lasting: It is for a process that may outlive the user's login, with which XDG_RUNTIME_DIR goes.

    Raises:
        WorkspaceError: No directory short enough for a socket path can be made.
    """
    of_login = None if is_lasting else os.environ.get("XDG_RUNTIME_DIR")
    for parent in (of_login, tempfile.gettempdir(), "/tmp"):  # noqa: S108 -- mkdtemp: 0700
        if not parent or len(os.fsencode(parent)) > zmq.IPC_PATH_MAX_LEN - len("/epsilon-________/control"):
            continue
        with contextlib.suppress(OSError):
            directory = tempfile.mkdtemp(prefix="epsilon-", dir=parent)
            break
    else:
        raise WorkspaceError("no directory for the broker's socket; set TMPDIR to a short path you may write to")
    try:
        yield f"ipc://{directory}/broker"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def listen(address: str) -> ZeroMQListener:
    """Open the end that many peers reach.

    Raises:
        InvalidInput: The address is not ipc, or its path is too long for a socket.
        WorkspaceError: The address cannot be bound.
    """
    if os.path.lexists(_checked(address).removeprefix("ipc://")):  # libzmq would take a live listener's socket away
        raise WorkspaceError(f"cannot listen on {address} (in use); use a fresh address")
    return ZeroMQListener(address)


def dial(address: str, peer_id: str) -> ZeroMQDialer:
    """Open a peer's end; the listener may come later.

    Raises:
        InvalidInput: The address is not ipc, its path is too long, or the id is not fit for a name.
    """
    return ZeroMQDialer(_checked(address), checked_id(peer_id))


def checked_id(peer_id: str) -> str:
    """Give a peer's id back if it can travel.

    Raises:
        InvalidInput: It cannot.
    """
    if not 0 < len(peer_id.encode()) < 256 or peer_id.startswith("\0"):
        raise InvalidInput(f"peer id {peer_id!r}", "is empty, too long or begins with NUL", "use <session>/<member>")
    return peer_id


def _checked(address: str) -> str:
    scheme, _, path = address.partition("://")
    if scheme != "ipc" or not path:
        raise InvalidInput(f"address {address!r}", "is not an ipc address", "take one from private_address()")
    if len(os.fsencode(path)) > zmq.IPC_PATH_MAX_LEN:
        raise InvalidInput(
            f"address {address!r}", f"is longer than {zmq.IPC_PATH_MAX_LEN} bytes", "use a shorter directory"
        )
    return address


class _Socket:
    """What both ends share: a context of their own, limits, and waiting."""

    def __init__(self, kind: int) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(kind)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._socket.setsockopt(zmq.SNDHWM, _HIGH_WATER)
        self._socket.setsockopt(zmq.RCVHWM, _HIGH_WATER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
        self._prepare()
        self._waiting: anyio.CancelScope | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        """Set more options, before the socket is bound or connected."""

    def close(self) -> None:
        """End it; closing twice does nothing."""
        self._wake()
        self._socket.close()
        self._context.term()

    def _is_readable(self) -> bool:
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    async def wait_readable(self) -> None:
        """Wait until `receive` has something to give."""
        await anyio.lowlevel.checkpoint()
        while not self._socket.closed and not self._is_readable():
            try:
                with anyio.CancelScope() as self._waiting:
                    await self._signal()
            finally:
                self._waiting = None

    async def _signal(self) -> None:
        """Wait for an edge."""
        await anyio.wait_readable(self._socket.fileno())

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def _after_send(self) -> None:
        if self._waiting is not None and self._is_readable():
            self._wake()

    def _take(self, limit: int) -> Iterator[list[bytes]]:
        for _ in range(limit):
            try:
                yield self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return


class ZeroMQListener(_Socket):
    """A bound ROUTER; see `Listener`."""

    def __init__(self, address: str) -> None:
        super().__init__(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise WorkspaceError(f"cannot listen on {address} ({error.strerror}); use a fresh address") from error
        self.address = address

    @property
    def strangers(self) -> int:
        """None: they cannot reach it."""
        return 0

    def receive(self, limit: int = 256) -> list[tuple[str, bytes]]:
        """Take frames that have arrived; one of several parts is no message of ours and counts as empty."""
        return [
            (parts[0].decode("utf-8", "surrogateescape"), parts[1] if len(parts) == 2 else b"")
            for parts in self._take(limit)
        ]

    def send(self, peer: str, frame: bytes) -> bool:
        """Send a frame to a peer; False where the peer is not connected or takes no more."""
        try:
            self._socket.send_multipart((peer.encode("utf-8", "surrogateescape"), frame), zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            return False
        else:
            return True
        finally:
            self._after_send()


class ZeroMQDialer(_Socket):
    """A connected DEALER; see `Dialer`."""

    def __init__(self, address: str, peer_id: str) -> None:
        super().__init__(zmq.DEALER)
        self._address = address
        self._socket.setsockopt(zmq.ROUTING_ID, peer_id.encode())
        self._socket.connect(address)

    def _prepare(self) -> None:
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)

    @property
    def is_lossy(self) -> bool:
        """Whether the connection can be cut while both ends live."""
        return False

    @property
    def is_up(self) -> bool:
        """Whether the listener is reached: the kernel would have told if it was gone."""
        return True

    @property
    def refusal(self) -> str:
        """Nobody of this user is refused."""
        return ""

    def was_cut(self) -> bool:
        """Frames on their way are lost with their listener alone."""
        return False

    def receive(self, limit: int = 256) -> list[bytes]:
        """Take frames that have arrived."""
        return [parts[-1] for parts in self._take(limit)]

    def send(self, frame: bytes) -> None:
        """Send a frame; one sent before the listener is there waits for it."""
        if len(frame) > MAX_FRAME:
            raise BadFrame(f"frame of {len(frame)} bytes; at most {MAX_FRAME} travel, put the value in a file")
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            raise LabError(f"{_HIGH_WATER} frames wait for {self._address}; is the broker alive?") from None
        self._after_send()

    def poll(self, timeout_s: float | None) -> bool:
        """Block until `receive` has something to give, for at most `timeout_s` seconds (None: for ever)."""
        return bool(self._socket.poll(None if timeout_s is None else math.ceil(timeout_s * 1000)))
