"""Messages between two processes of ours over a socket: length, then one encoded dict of data.

The same encoding as the outputs', so that no pickle is read from a process which has been near a stranger.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from typing import Any

from epsilon_lab.errors import LabError
from epsilon_lab.processes.data import decode, encode

LENGTH = struct.Struct("<Q")
"""What precedes a message: how many bytes it has."""

_CHUNK = 1 << 20


class ChannelClosed(LabError):
    """The process at the other end is gone."""


class Channel:
    """One end of a socket pair; used by one thread, one request at a time."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        """The descriptor, to be polled: readable means a message or the end."""
        return self._socket.fileno()

    def send(self, message: dict[str, Any], timeout_s: float | None = None) -> None:
        """Send one message.

        Raises:
            ChannelClosed: Nobody is there to read it.
            TimeoutError: It was not taken in time.
        """
        body = encode(message)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(LENGTH.pack(len(body)) + body)
        except TimeoutError:
            raise
        except OSError as error:
            raise ChannelClosed(f"the other process is gone ({error})") from error

    def receive(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait for one message.

        Raises:
            ChannelClosed: The other process went away first.
            TimeoutError: None came in time.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        (length,) = LENGTH.unpack(self._read(LENGTH.size, deadline))
        message = decode(bytes(self._read(length, deadline)))
        assert isinstance(message, dict)
        return message

    def is_closed(self) -> bool:
        """Tell, once the descriptor is readable, whether that is the end."""
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def hang_up(self) -> None:
        """Have both sides read the end, from any thread; this end is still to be closed."""
        with suppress(OSError):  # the other side was first
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end; the other side reads the end."""
        self._socket.close()

    def _read(self, size: int, deadline: float | None) -> bytearray:
        found = bytearray()
        while len(found) < size:
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("no answer in time")
                self._socket.settimeout(left)
            else:
                self._socket.settimeout(None)
            try:
                part = self._socket.recv(min(size - len(found), _CHUNK))
            except TimeoutError:
                raise
            except OSError as error:
                raise ChannelClosed(f"the other process is gone ({error})") from error
            if not part:
                raise ChannelClosed("the other process is gone")
            found += part
        return found
