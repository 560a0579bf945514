"""A bad network on one machine: a TCP proxy that delays, throttles, swallows and cuts, as told, until it is healed.

    with FaultProxy("tcp://127.0.0.1:5555") as proxy:
        ...                                 # dial proxy.address instead
        proxy.swallow("up")                 # nothing reaches the target any more, and nobody is told
        proxy.heal()

A network that swallows packets loses nothing of a connection that survives it, since TCP sends them again: what is
swallowed is held, and passes when the network has healed; what a cut connection had on its way is gone. The faults are
those of a connection. A machine that is away for good, and packets that come in another order, look the same to TCP as
one of them.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Literal, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from epsilon_lab.errors import InvalidInput

Direction = Literal["up", "down", "both"]
"""`up`: from who dials to the target; `down`: back."""

_CHUNK = 16 * 1024
_WAYS: dict[str, tuple[str, ...]] = {"up": ("up",), "down": ("down",), "both": ("up", "down")}


class FaultProxy:
    """A proxy before one TCP address, in a thread of its own. Its methods may be called from any thread.

    Args:
        target: `tcp://<host>:<port>`; it need not listen yet.
        seed: Of the jitter.

    Attributes:
        address: Where to dial instead.
        connections: How many were made so far.

    Raises:
        InvalidInput: The target is no such address.
    """

    def __init__(self, target: str, *, seed: int = 0) -> None:
        found = re.fullmatch(r"tcp://\[?([^\[\]]+)\]?:(\d+)", target)
        if found is None:
            raise InvalidInput(f"target {target!r}", "is not of the form tcp://<host>:<port>")
        self.address = ""
        self.connections = 0
        self._target = (found[1], int(found[2]))
        self._dice = random.Random(seed)
        self._stack = ExitStack()
        self._lines: set[_Line] = set()
        self._is_refusing = False
        self._latency_s = self._jitter_s = 0.0
        self._bytes_per_s: float | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal: BlockingPortal = stack.enter_context(start_blocking_portal("asyncio", name="fault-proxy"))
            self._open = {way: self._portal.call(_set_event) for way in _WAYS["both"]}
            server: asyncio.Server = self._portal.call(self._listen)
            self.address = "tcp://{}:{}".format(*server.sockets[0].getsockname())
            stack.callback(self._portal.call, self._end, server)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def delay(self, latency_s: float, jitter_s: float = 0.0) -> None:
        """Let everything take so long, and up to so much longer."""
        self._latency_s, self._jitter_s = latency_s, jitter_s

    def throttle(self, bytes_per_s: float) -> None:
        """Let no more pass, each way of each connection."""
        self._bytes_per_s = bytes_per_s

    def swallow(self, direction: Direction = "both") -> None:
        """Let nothing pass this way, and tell nobody."""
        for way in _WAYS[direction]:
            self._portal.call(self._open[way].clear)

    def cut(self, after_bytes: int = 0) -> None:
        """Reset every connection: now, or once so many more bytes have passed up it, in the middle of a frame.

        The target still reads those bytes, and then the end: a reset would take them out of its hands.
        """
        self._portal.call(self._each, partial(_Line.cut_after, count=after_bytes) if after_bytes else _Line.reset)

    def half_open(self) -> None:
        """Reset every connection towards the target, and leave who dialed in the belief that it lives."""
        self._portal.call(self._each, _Line.forsake)

    def refuse(self) -> None:
        """Reset new connections at once."""
        self._is_refusing = True

    def heal(self) -> None:
        """Be a good network again, for the connections that there are and for new ones."""
        self._is_refusing = False
        self._latency_s = self._jitter_s = 0.0
        self._bytes_per_s = None
        for way in self._open.values():
            self._portal.call(way.set)

    def _each(self, fault: Callable[[_Line], None]) -> None:
        for line in list(self._lines):
            fault(line)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._connect, "127.0.0.1", 0)

    async def _end(self, server: asyncio.Server) -> None:
        server.close()
        for line in list(self._lines):
            line.reset()
            await line.done.wait()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._is_refusing:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        line = _Line(writer, far_writer)
        self._lines.add(line)
        try:
            async with asyncio.TaskGroup() as group:
                line.tasks = [
                    group.create_task(self._pump("up", reader, far_writer, line)),
                    group.create_task(self._pump("down", far_reader, writer, line)),
                ]
        finally:
            self._lines.discard(line)
            _reset(writer)
            if line.is_cut:
                far_writer.close()
            else:
                _reset(far_writer)
            line.done.set()

    async def _pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line) -> None:
        """Pass on what comes, as late as the network is; an end of one direction ends both."""
        with suppress(ConnectionError, OSError):
            while chunk := await reader.read(_CHUNK):
                await asyncio.sleep(self._latency_s + self._jitter_s * self._dice.random())
                if self._bytes_per_s is not None:
                    await asyncio.sleep(len(chunk) / self._bytes_per_s)
                await self._open[way].wait()
                is_last, chunk = line.passes(way, chunk)
                if not line.is_forsaken:
                    writer.write(chunk)
                    await writer.drain()
                if is_last:
                    line.is_cut = True
                    break
        if not line.is_forsaken or way == "up":
            line.reset()


class _Line:
    """One connection, and its other half."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.is_forsaken = False
        self.is_cut = False
        self.done = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self._near, self._far = near, far
        self._left: int | None = None

    def passes(self, way: str, chunk: bytes) -> tuple[bool, bytes]:
        """Tell whether these are the last bytes, and which of them pass."""
        if way == "down" or self._left is None:
            return False, chunk
        passed = chunk[: self._left]
        self._left -= len(passed)
        return self._left <= 0, passed

    def cut_after(self, count: int) -> None:
        self._left = count

    def forsake(self) -> None:
        self.is_forsaken = True
        _reset(self._far)

    def reset(self) -> None:
        for task in self.tasks:
            task.cancel()


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, without a word of parting: RST and no FIN."""
    plug: socket.socket | None = writer.get_extra_info("socket")
    if plug is not None and not writer.transport.is_closing():
        with suppress(OSError):
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
