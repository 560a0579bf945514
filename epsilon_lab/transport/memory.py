"""Frames within one process, for tests and simulation; thread-safe, because real peers live on other threads.

Both ends wake a waiter through a pipe, so that a thread can block on it and a loop can watch it, as with a socket.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, Self, TypeVar

import anyio

from epsilon_lab.errors import BadFrame, InvalidInput, WorkspaceError
from epsilon_lab.messages.frames import MAX_FRAME

_Item = TypeVar("_Item")


class _Inbox(Generic[_Item]):
    """Items on their way to one reader; its pipe holds a byte while there are any."""

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._lock = threading.Lock()
        self._reader, self._writer = os.pipe()
        self.closed = False

    def put(self, item: _Item) -> bool:
        with self._lock:
            if self.closed:
                return False
            if not self._items:
                os.write(self._writer, b"!")
            self._items.append(item)
            return True

    def take(self, limit: int) -> list[_Item]:
        with self._lock:
            taken = [self._items.popleft() for _ in range(min(limit, len(self._items)))]
            if taken and not self._items:
                os.read(self._reader, 1)
            return taken

    def poll(self, timeout_s: float | None) -> bool:
        return bool(select.select([self._reader], [], [], timeout_s)[0])

    async def wait_readable(self) -> None:
        if not self._items:
            await anyio.wait_readable(self._reader)
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        with self._lock:
            if not self.closed:
                self.closed = True
                os.close(self._reader)
                os.close(self._writer)


class _Hub:
    """One address: its listener once there is one, and what was sent before."""

    def __init__(self) -> None:
        self.inbox: _Inbox[tuple[str, bytes]] = _Inbox()
        self.peers: dict[str, _Inbox[bytes]] = {}
        self.listening = False


_hubs: dict[str, _Hub] = {}
_numbers = itertools.count(1)


@contextlib.contextmanager
def private_address() -> Iterator[str]:
    """Make an address nobody else has; what was left in it is gone at the end."""
    address = f"memory://{next(_numbers)}"
    _hubs[address] = hub = _Hub()
    try:
        yield address
    finally:
        del _hubs[address]
        hub.inbox.close()


def listen(address: str) -> MemoryListener:
    """Open the end that many peers reach.

    Raises:
        InvalidInput: The address did not come from `private_address`.
        WorkspaceError: Someone listens there already.
    """
    return MemoryListener(address, _find(address))


def dial(address: str, peer_id: str) -> MemoryDialer:
    """Open a peer's end; the listener may come later.

    Raises:
        InvalidInput: The address did not come from `private_address`, or the id is not fit for a name.
    """
    if not 0 < len(peer_id.encode()) < 256 or peer_id.startswith("\0"):
        raise InvalidInput(f"peer id {peer_id!r}", "is empty, too long or begins with NUL", "use <session>/<member>")
    return MemoryDialer(_find(address), peer_id)


def _find(address: str) -> _Hub:
    hub = _hubs.get(address)
    if hub is None:
        raise InvalidInput(f"address {address!r}", "is not open", "take one from private_address()")
    return hub


class MemoryListener:
    """See `Listener`."""

    def __init__(self, address: str, hub: _Hub) -> None:
        if hub.listening:
            raise WorkspaceError(f"cannot listen on {address} (in use); use a fresh address")
        hub.listening = True
        self.address = address
        self.strangers = 0
        self._hub = hub

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def receive(self, limit: int = 256) -> list[tuple[str, bytes]]:
        """Take frames that have arrived."""
        return self._hub.inbox.take(limit)

    def send(self, peer: str, frame: bytes) -> bool:
        """Send a frame to a peer; False where the peer is not connected."""
        inbox = self._hub.peers.get(peer)
        return inbox is not None and inbox.put(frame)

    async def wait_readable(self) -> None:
        """Wait until `receive` has something to give."""
        await self._hub.inbox.wait_readable()

    def close(self) -> None:
        """End it."""
        self._hub.listening = False


class MemoryDialer:
    """See `Dialer`."""

    def __init__(self, hub: _Hub, peer_id: str) -> None:
        self.is_lossy = False
        self.is_up = True
        self.refusal = ""
        self._hub = hub
        self._peer_id = peer_id
        self._inbox: _Inbox[bytes] = _Inbox()
        hub.peers[peer_id] = self._inbox  # a peer that dials again takes over its name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def was_cut(self) -> bool:
        """Nothing cuts it."""
        return False

    def receive(self, limit: int = 256) -> list[bytes]:
        """Take frames that have arrived."""
        return self._inbox.take(limit)

    def send(self, frame: bytes) -> None:
        """Send a frame; one sent before the listener is there waits for it."""
        if len(frame) > MAX_FRAME:
            raise BadFrame(f"frame of {len(frame)} bytes; at most {MAX_FRAME} travel, put the value in a file")
        self._hub.inbox.put((self._peer_id, frame))

    def poll(self, timeout_s: float | None) -> bool:
        """Block until `receive` has something to give, for at most `timeout_s` seconds (None: for ever)."""
        return self._inbox.poll(timeout_s)

    async def wait_readable(self) -> None:
        """Wait until `receive` has something to give."""
        await self._inbox.wait_readable()

    def close(self) -> None:
        """End it."""
        if self._hub.peers.get(self._peer_id) is self._inbox:
            del self._hub.peers[self._peer_id]
        self._inbox.close()
