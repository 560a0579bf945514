"""What running code may ask of the task it runs in, so that a user's function needs no argument of ours.

A child process runs one task at a time in one thread, and its line to the broker belongs to that thread: `CurrentTask`
blocks. The async lane runs many on one loop: there the same methods are coroutines (`AsyncCurrentTask`). Which is which
follows from the function, since a plain one never runs in the lane.
"""

from __future__ import annotations

import os
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from epsilon_lab import ids
from epsilon_lab.broker.subscription import AsyncSubscription, Reading, Subscription, patience
from epsilon_lab.errors import LabError
from epsilon_lab.messages.frames import Denied, Direct, Publish, Read, Subscribe
from epsilon_lab.messages.post import Message, check_name, written

if TYPE_CHECKING:
    from epsilon_lab.agents.leaf import Leaf
    from epsilon_lab.agents.request import Request
    from epsilon_lab.broker.client import Answer, Peer, Question
    from epsilon_lab.messages.call import Feedback
    from epsilon_lab.messages.tasks import Assignment

_UNANSWERED = 64
"""Publications under way at once; the next one waits until the broker has taken some."""

_BEAT_S = 0.05
"""Seconds between two beats that are told; code may beat in its innermost loop."""

CURRENT: ContextVar[CurrentTask | AsyncCurrentTask | None] = ContextVar("current_task", default=None)


def current_task() -> CurrentTask | AsyncCurrentTask:
    """The task that this code runs in.

    Raises:
        LabError: It runs in none, or in a thread or process that the task started.
    """
    task = CURRENT.get()
    if task is None:
        raise LabError("no task runs here: current_task() is for functions that a lab runs, in the thread it runs them")
    task.check_thread()
    return task


class _Task:
    """What a task is, wherever it runs. Most never ask, so that what they would need stands with the class."""

    _reading: Reading | None = None
    _beat_at = 0.0

    def __init__(self, assignment: Assignment, peer: Peer, leaf: Leaf | None = None) -> None:
        self._assignment = assignment
        self._peer = peer
        self._leaf = leaf

    @property
    def run_id(self) -> str:
        """The run."""
        return self._assignment.run_id

    @property
    def task_id(self) -> str:
        """The task, within its run."""
        return self._assignment.task.task_id

    @property
    def attempt(self) -> int:
        """1 for the first execution."""
        return self._assignment.attempt

    @property
    def fence(self) -> int:
        """Larger than that of any earlier attempt: a store that keeps the largest it saw can refuse an older one."""
        return self._assignment.fence

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt: what an outside service should know this task's effect by."""
        return f"{self.run_id}/{self.task_id}"

    @property
    def traceparent(self) -> str:
        """The W3C header by which a service that is called joins the run's trace at this attempt."""
        return ids.traceparent(self.run_id, self.task_id, self.attempt)

    @property
    def workspace(self) -> Path:
        """A directory of this attempt's own, made when it is first asked for.

        It begins with the files of the tasks that this one follows. What is added, changed or deleted there is
        published with the output, if this attempt is the one that counts: `run.files()`.

        Raises:
            LabError: The files it begins with are not there, or not as they were published.
        """
        self.check_thread()
        if self._leaf is None:
            raise LabError(f"task {self.task_id} has no workspace here")
        return self._leaf.workspace()

    @property
    def inputs(self) -> dict[str, Any]:
        """The outputs of the tasks that this one depends on, by task id."""
        return {} if self._asked is None else self._asked.inputs

    @property
    def feedback(self) -> tuple[Feedback, ...]:
        """Why it is done once more, oldest first; empty the first time."""
        return () if self._asked is None else self._asked.feedback

    @property
    def _asked(self) -> Request | None:
        return None if self._leaf is None else self._leaf.request

    def beat(self) -> None:
        """Say that there is progress; cheap enough for a loop."""
        self.check_thread()
        now = time.monotonic()
        if now - self._beat_at >= _BEAT_S:
            self._beat_at = now
            self._peer.beat(self.fence)

    def check_thread(self) -> None:
        """Refuse what is not the task's own thread, or a fork of it.

        Raises:
            LabError: It is another one.
        """
        if (os.getpid(), threading.get_ident()) != self._peer.home:
            raise LabError(f"task {self.task_id} belongs to the thread that runs it; ask it there, and pass values on")

    def __repr__(self) -> str:
        return f"<task {self.task_id} of {self.run_id}, attempt {self.attempt}>"

    def _publication(self, topic: str, value: object) -> Publish:
        self.check_thread()
        data = written(f"topic {check_name('topic', topic)!r}", value)
        return Publish(note_id=0, topic=topic, data=data, sent_at=time.time(), fence=self.fence)

    def _letter(self, to: str, value: object) -> Direct:
        self.check_thread()
        data = written(repr(check_name("to", to)), value)
        return Direct(note_id=0, to=to, data=data, sent_at=time.time(), fence=self.fence)

    def _mail(self) -> Reading:
        self.check_thread()
        self._reading = self._reading or Reading(Read(note_id=0, fence=self.fence))
        return self._reading


def _taken(answer: Answer, what: str) -> None:
    if isinstance(answer, Denied):
        raise LabError(f"the message to {what} was not taken: {answer.reason}")


class CurrentTask(_Task):
    """The task that a plain function runs in."""

    _unanswered = 0
    _denied: Answer | None = None

    def publish(self, topic: str, value: object) -> None:
        """Say something on a topic to whoever listens; it does not wait until they heard it.

        Raises:
            InvalidInput: The name or the value cannot travel.
            LabError: The broker did not take it, or an earlier one.
        """
        said = self._publication(topic, value)
        while self._unanswered >= _UNANSWERED:
            self._peer.poll(None)
            self._peer.receive()
        if self._denied is not None:
            _taken(self._denied, f"topic {topic!r}, or an earlier one,")
        self._unanswered += 1
        self._peer.ask(said, self._heard)

    def _heard(self, answer: Answer) -> None:
        self._unanswered -= 1
        if isinstance(answer, Denied):
            self._denied = answer

    def _request(self, question: Question, timeout_s: float | None = None) -> Answer | None:
        self.check_thread()
        return self._peer.request(question, timeout_s)

    def send(self, to: str, value: object) -> None:
        """Put a message where its addressee will read it, and return once it lies there.

        Args:
            to: A task of this run by its id, one of another run by `<run_id>/<task_id>`, or `lab`.
            value: Plain data.

        Raises:
            InvalidInput: The address or the value cannot travel.
            LabError: Nobody has that address, or it takes no more.
        """
        answer = self._request(self._letter(to, value))
        assert answer is not None
        _taken(answer, repr(to))

    def messages(self, timeout_s: float | None = 0.0) -> list[Message]:
        """Read what was sent to this task and was not read in this attempt.

        Args:
            timeout_s: Seconds to wait for the first one where there is none yet; None: for ever.
        """
        timeout_s = patience(timeout_s)
        mail = self._mail()
        answer = self._request(mail.question(wait=timeout_s != 0), timeout_s or None)
        if answer is not None:
            mail.take(answer)
        return mail.pop_all()

    def subscribe(self, topic: str, *, timeout_s: float | None = None) -> Subscription:
        """Listen to a topic: from its last value on, `for message in task.subscribe("best"): ...`.

        Args:
            topic: Its name.
            timeout_s: After how many seconds of silence a loop over it ends; None: never.
        """
        self.check_thread()
        question = Subscribe(note_id=0, topic=check_name("topic", topic))
        return Subscription(Reading(question), self._request, timeout_s=timeout_s)


class AsyncCurrentTask(_Task):
    """The task that an async function runs in: the same, awaited."""

    async def publish(self, topic: str, value: object) -> None:
        """Say something on a topic to whoever listens, and return once the broker has it."""
        _taken(await self._peer.answer(self._publication(topic, value)), f"topic {topic!r}")

    async def send(self, to: str, value: object) -> None:
        """Put a message where its addressee will read it, and return once it lies there."""
        _taken(await self._peer.answer(self._letter(to, value)), repr(to))

    async def messages(self, timeout_s: float | None = 0.0) -> list[Message]:
        """Read what was sent to this task and was not read in this attempt; wait for the first one for so long."""
        timeout_s = patience(timeout_s)
        mail = self._mail()
        with anyio.move_on_after(timeout_s or None):
            mail.take(await self._peer.answer(mail.question(wait=timeout_s != 0)))
        return mail.pop_all()

    async def subscribe(self, topic: str, *, timeout_s: float | None = None) -> AsyncSubscription:
        """Listen to a topic: `async for message in await task.subscribe("best"): ...`."""
        self.check_thread()
        question = Subscribe(note_id=0, topic=check_name("topic", topic))
        subscription = AsyncSubscription(Reading(question), self._peer.answer, timeout_s=timeout_s)
        await subscription.look()
        return subscription
