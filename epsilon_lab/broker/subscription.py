"""Listening: where a reader stands on a topic or at an address, and the loops a user writes over what is said there.

A reader asks for what comes after the last message it was given, so nothing flows while it does not read, and a
question that was cut short (by a time limit, by Ctrl-C) is simply asked again: nothing is lost and nothing comes twice.
"""

from __future__ import annotations

import html
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import anyio

from epsilon_lab.arguments import MOST, number
from epsilon_lab.broker.client import Answer, Question
from epsilon_lab.broker.topics import KEPT
from epsilon_lab.errors import LabError
from epsilon_lab.messages.frames import Denied, News, Read, Subscribe
from epsilon_lab.messages.post import Message

Ask = Callable[[Question, float | None], Answer | None]
"""Asks and waits for the answer for so many seconds at most."""


def patience(timeout_s: float | None) -> float | None:
    """How long to wait for a message, in seconds; None: for ever.

    Raises:
        InvalidInput: It is no such time.
    """
    return None if timeout_s is None else number("timeout_s", timeout_s, least=0, most=MOST)


class Reading:
    """Where a reader stands, and what it was given and has not read yet.

    Args:
        question: What it asks first, by which it stands before or behind what is there.

    Attributes:
        missed: Messages that were said and that it will not be given.
        latest: The newest it was given.
    """

    def __init__(self, question: Subscribe | Read) -> None:
        self.missed = 0
        self.latest: Message | None = None
        self._question = question
        self._place: tuple[int, int] | None = None
        self._unread: deque[Message] = deque()

    @property
    def about(self) -> str:
        """The topic, or the address."""
        return self._question.topic if isinstance(self._question, Subscribe) else self._question.inbox or "this task"

    def question(self, *, wait: bool) -> Question:
        """What to ask next."""
        match self._question:
            case Subscribe(topic=topic):
                return Subscribe(note_id=0, topic=topic, after=self._place, wait=wait)
            case Read(inbox=inbox, fence=fence):
                after = 0 if self._place is None else self._place[1]
                return Read(note_id=0, after=after, inbox=inbox, fence=fence, wait=wait)

    def take(self, answer: Answer) -> None:
        """Take an answer.

        Raises:
            LabError: It says that there will be none.
        """
        match answer:
            case Denied(reason=reason):
                raise LabError(f"messages of {self.about!r} cannot be read: {reason}")
            case News(messages=messages, missed=missed, place=place):
                self._unread += messages
                self._place = place
                self.missed += missed
        if self._unread:
            self.latest = self._unread[-1]
        if len(self._unread) > KEPT and isinstance(self._question, Subscribe):
            self.missed += len(self._unread) - 1
            self._unread = deque((self._unread[-1],))

    def pop(self) -> Message | None:
        """Read the oldest message that is here."""
        return self._unread.popleft() if self._unread else None

    def pop_all(self) -> list[Message]:
        """Read all that is here."""
        read, self._unread = list(self._unread), deque()
        return read


class Subscription:
    """What is said on a topic, or to an inbox, from when it was opened: loop over it.

        for message in subscription:      # waits for the next one; ends after `timeout_s` seconds of silence
            message.value, message.sender

    Attributes:
        timeout_s: After how many seconds of silence a loop ends; None: never.
    """

    def __init__(self, reading: Reading, ask: Ask, *, timeout_s: float | None = None) -> None:
        self.timeout_s = patience(timeout_s)
        self._reading = reading
        self._ask = ask
        self._look()

    def next(self, timeout_s: float | None = None) -> Message | None:
        """Read the next message; None where none came within `timeout_s` seconds (None: wait for ever)."""
        timeout_s = patience(timeout_s)
        message = self._reading.pop()
        if message is None and (answer := self._ask(self._reading.question(wait=True), timeout_s)) is not None:
            self._reading.take(answer)
            message = self._reading.pop()
        return message

    def __iter__(self) -> Iterator[Message]:
        while (message := self.next(self.timeout_s)) is not None:
            yield message

    def waiting(self) -> list[Message]:
        """Read what is here, without waiting for more."""
        self._look()
        return self._reading.pop_all()

    @property
    def latest(self) -> Message | None:
        """The newest message there is, read or not; None before the first."""
        self._look()
        return self._reading.latest

    @property
    def missed(self) -> int:
        """Messages that were said while nobody read them here, and are no longer kept."""
        return self._reading.missed

    def _look(self) -> None:
        answer = self._ask(self._reading.question(wait=False), None)
        assert answer is not None
        self._reading.take(answer)

    def __repr__(self) -> str:
        return f"<Subscription {self._reading.about!r}: {self.missed} missed>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"


class AsyncSubscription:
    """The same within an async function: `async for message in subscription`.

    Attributes:
        timeout_s: After how many seconds of silence a loop ends; None: never.
    """

    def __init__(
        self, reading: Reading, ask: Callable[[Question], Awaitable[Answer]], *, timeout_s: float | None = None
    ) -> None:
        self.timeout_s = patience(timeout_s)
        self._reading = reading
        self._ask = ask

    async def next(self, timeout_s: float | None = None) -> Message | None:
        """Read the next message; None where none came within `timeout_s` seconds (None: wait for ever)."""
        timeout_s = patience(timeout_s)
        message = self._reading.pop()
        if message is None:
            with anyio.move_on_after(timeout_s):
                self._reading.take(await self._ask(self._reading.question(wait=True)))
                message = self._reading.pop()
        return message

    async def __aiter__(self) -> AsyncIterator[Message]:
        while (message := await self.next(self.timeout_s)) is not None:
            yield message

    async def latest(self) -> Message | None:
        """The newest message there is, read or not; None before the first."""
        await self.look()
        return self._reading.latest

    @property
    def missed(self) -> int:
        """Messages that were said while nobody read them here, and are no longer kept."""
        return self._reading.missed

    async def look(self) -> None:
        """Take what there is, without waiting for more."""
        self._reading.take(await self._ask(self._reading.question(wait=False)))

    def __repr__(self) -> str:
        return f"<AsyncSubscription {self._reading.about!r}: {self.missed} missed>"
