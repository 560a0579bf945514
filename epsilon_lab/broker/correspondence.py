"""The lab's own end of the line: what a cell says and hears goes the way that tasks go.

It is a peer like any other, so that it makes no difference in whose process the broker lives.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, closing
from functools import partial

import anyio
import anyio.abc
from anyio.from_thread import BlockingPortal, start_blocking_portal

from epsilon_lab.broker.client import Answer, Peer, Question
from epsilon_lab.broker.subscription import AsyncSubscription, Reading, Subscription
from epsilon_lab.errors import LabError
from epsilon_lab.messages.frames import Denied, Direct, Hello, Publish, Read, Subscribe
from epsilon_lab.messages.post import Message, check_name, written
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.transport.base import Dialer
from epsilon_lab.transport.zeromq import dial

_ANSWER_S = 30.0
"""Seconds in which a broker that lives has said whether a message was taken."""


_CLOSED = "the lab was closed; open it again to send and receive messages"


class _Line:
    """A peer that asks for others, on a loop of its own.

    Args:
        dial: Reaches the broker, under an id of its own session.
    """

    def __init__(self, dial: Callable[[], Dialer]) -> None:
        self._dial = dial
        self._peer: Peer | None = None
        self._asking: set[anyio.CancelScope] = set()

    async def serve(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep the line open until cancelled; then whoever still asks is told that it is closed."""
        with closing(self._dial()) as dialer:
            peer = Peer(dialer, Hello(pid=os.getpid(), host=socket.gethostname()))
            peer.greet()
            self._peer = peer
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._beat, peer)
                    task_status.started()
                    async for _ in peer:  # receiving is what answers those who asked
                        pass
            finally:
                self._peer = None
                for scope in self._asking:
                    scope.cancel()
                with anyio.CancelScope(shield=True):
                    while self._asking:  # they still say that they wait no more
                        await anyio.lowlevel.checkpoint()
                peer.bye()

    async def request(self, question: Question) -> Answer:
        """Ask, and wait for the answer.

        Raises:
            LabError: The lab was closed meanwhile.
        """
        if self._peer is not None:
            with anyio.CancelScope() as scope:
                self._asking.add(scope)
                try:
                    return await self._peer.answer(question)
                finally:
                    self._asking.discard(scope)
        raise LabError(_CLOSED)

    async def _beat(self, peer: Peer) -> None:
        while True:
            await anyio.sleep(peer.welcome.beat_s if peer.welcome is not None else BrokerSettings().beat_s)
            peer.renew()


class Correspondence:
    """What is said and heard at the lab, from any thread; a thread of its own keeps the line, from its first use on.

    Args:
        address: The broker's.
        peer_id: `<session>/<member>`, nobody else's.
    """

    def __init__(self, address: str, peer_id: str) -> None:
        self._address = address
        self._peer_id = peer_id
        self._guard = threading.Lock()
        self._stack = ExitStack()
        self._line: tuple[BlockingPortal, _Line] | None = None
        self._is_closed = False

    def close(self) -> None:
        """Close the line; whoever still waits for an answer is told so. Closing twice does nothing."""
        with self._guard:
            self._is_closed = True
            self._stack.close()

    def _start(self, question: Question) -> Future[Answer]:
        with self._guard:
            if self._is_closed:
                raise LabError(_CLOSED)
            if self._line is None:
                with ExitStack() as stack:
                    portal = stack.enter_context(start_blocking_portal("asyncio", name="lab-desk"))
                    line = _Line(partial(dial, self._address, self._peer_id))
                    serving, _ = portal.start_task(line.serve)
                    stack.callback(serving.cancel)
                    self._line, self._stack = (portal, line), stack.pop_all()
            portal, line = self._line
        return portal.start_task_soon(line.request, question)

    def publish(self, topic: str, value: object) -> None:
        """Say something on a topic.

        Raises:
            InvalidInput: The name or the value cannot travel.
            LabError: The broker does not take it.
        """
        what = f"topic {check_name('topic', topic)!r}"
        data = written(what, value)
        self._tell(Publish(note_id=0, topic=topic, data=data, sent_at=time.time()), what)

    def send(self, to: str, value: object) -> None:
        """Put a message where its addressee reads it.

        Raises:
            InvalidInput: The address or the value cannot travel.
            LabError: Nobody has that address, or it takes no more.
        """
        what = repr(check_name("to", to))
        self._tell(Direct(note_id=0, to=to, data=written(what, value), sent_at=time.time()), what)

    def subscribe(self, topic: str, timeout_s: float | None) -> LabSubscription:
        """Listen to a topic."""
        question = Subscribe(note_id=0, topic=check_name("topic", topic))
        return LabSubscription(Reading(question), self, timeout_s=timeout_s)

    def inbox(self, name: str, timeout_s: float | None) -> LabSubscription:
        """Open an inbox."""
        return LabSubscription(Reading(Read(note_id=0, inbox=check_name("name", name))), self, timeout_s=timeout_s)

    def ask(self, question: Question, timeout_s: float | None = None) -> Answer | None:
        """Ask, and block until there is an answer; None where there was none in time."""
        future = self._start(question)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            return None
        except CancelledError:
            raise LabError(_CLOSED) from None
        finally:
            future.cancel()

    async def answer(self, question: Question) -> Answer:
        """Ask, and wait for the answer on a loop of one's own."""
        return await asyncio.wrap_future(self._start(question))

    def _tell(self, said: Publish | Direct, what: str) -> None:
        match self.ask(said, _ANSWER_S):
            case None:
                raise LabError(f"nobody knows whether the message to {what} was taken: no answer in {_ANSWER_S:g} s")
            case Denied(reason=reason):
                raise LabError(f"the message to {what} was not taken: {reason}")


class LabSubscription(Subscription):
    """A subscription of a cell; `for` or, in a coroutine, `async for`."""

    def __init__(self, reading: Reading, lab: Correspondence, *, timeout_s: float | None) -> None:
        super().__init__(reading, lab.ask, timeout_s=timeout_s)
        self._lab = lab

    def __aiter__(self) -> AsyncIterator[Message]:
        return aiter(AsyncSubscription(self._reading, self._lab.answer, timeout_s=self.timeout_s))
