"""What is kept of what was said, so that whoever listens late, slowly or again is told the truth about what it missed.

A topic keeps its latest messages, bounded in count and bytes, and always the last: that is what a newcomer gets. One
that comes back too late for the next one in line gets the last alone, and the number of those in between. A mailbox is
the opposite: it keeps everything, in order, and refuses what is beyond its bounds. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import takewhile
from typing import NamedTuple

import msgspec

from epsilon_lab.messages.post import Message

KEPT = 1024
"""Messages of a topic kept for its readers."""

KEPT_BYTES = 256 * 1024
"""Bytes of a topic's messages kept; the last one is kept whatever its size."""

LETTERS = 1024
"""Messages an address takes before they are read."""

LETTER_BYTES = 1024 * 1024
"""Bytes of messages an address takes before they are read."""

Place = tuple[int, int]
"""Epoch and number of a message: places of one topic or mailbox only grow."""

Reader = tuple[str, int]
"""A peer, and the number of its question."""


class Found(NamedTuple):
    """What there is behind a place."""

    messages: tuple[Message, ...]
    missed: int
    place: Place


class Topic:
    """The latest messages of one topic.

    Args:
        last: The last that an earlier broker had.

    Attributes:
        readers: Those who wait for the next one.
    """

    __slots__ = ("_kept", "_size", "readers")

    def __init__(self, last: Message | None = None) -> None:
        self.readers: dict[Reader, None] = {}
        self._kept: deque[Message] = deque(() if last is None else (last,))
        self._size = sum(len(message.data) for message in self._kept)

    @property
    def last(self) -> Message | None:
        """The last message; None before the first."""
        return self._kept[-1] if self._kept else None

    def add(self, message: Message, epoch: int) -> Message:
        """Give a message its place, and let go of the oldest ones."""
        message = msgspec.structs.replace(message, epoch=epoch, seq=1 + (self._kept[-1].seq if self._kept else 0))
        self._kept.append(message)
        self._size += len(message.data)
        while len(self._kept) > KEPT or (self._size > KEPT_BYTES and len(self._kept) > 1):
            self._size -= len(self._kept.popleft().data)
        return message

    def after(self, place: Place | None) -> Found | None:
        """Find what was said after a place (None: just the last message); None where that is nothing."""
        last = self.last
        if last is None or (place is not None and last.place <= place):
            return None
        if place is None:
            return Found((last,), 0, last.place)
        news = tuple(takewhile(lambda message: message.place > place, reversed(self._kept)))[::-1]
        awaited = place[1] + 1
        if news[0].seq <= awaited:
            return Found(news, 0, last.place)
        return Found((last,), last.seq - awaited, last.place)


class Mailbox:
    """What lies at one address.

    Args:
        messages: What an earlier broker had there.

    Attributes:
        readers: Those who wait for the next one.
    """

    __slots__ = ("_last", "_messages", "_size", "readers")

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self.readers: dict[Reader, None] = {}
        self._messages = list(messages)
        self._size = sum(len(message.data) for message in self._messages)
        self._last = self._messages[-1].seq if self._messages else 0

    def add(self, message: Message) -> Message | None:
        """Put a message in, and number it; None where it lies there already.

        Raises:
            ValueError: There is no room.
        """
        if message.id and any(each.id == message.id for each in self._messages):
            return None
        if len(self._messages) >= LETTERS or self._size + len(message.data) > LETTER_BYTES:
            raise ValueError(f"{len(self._messages)} messages lie there, and there is no room for more until it reads")
        self._last += 1
        message = msgspec.structs.replace(message, seq=self._last)
        self._messages.append(message)
        self._size += len(message.data)
        return message

    def after(self, place: Place | None) -> Found | None:
        """Find what lies behind a place; None where that is nothing."""
        seq = place[1] if place is not None else 0
        found = tuple(message for message in self._messages if message.seq > seq)
        return Found(found, 0, (0, found[-1].seq)) if found else None

    def take_out(self, seq: int) -> None:
        """Let go of messages up to a number."""
        self._messages = [message for message in self._messages if message.seq > seq]
        self._size = sum(len(message.data) for message in self._messages)
