"""What a task of our own is handed while it runs: its names, its run directory, and a way to put events on record.

Emitted events travel with the task's result and are recorded in the same commit. An async leaf that has paid for
something calls `record` instead and goes on only when the event is as safe as the lab's durability says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import anyio.to_thread

from epsilon_lab import ids
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.messages.events import ArtifactSaved, Body, CaseFlagged, event
from epsilon_lab.messages.post import Message
from epsilon_lab.messages.tasks import Event
from epsilon_lab.messages.values import Value, pack
from epsilon_lab.settings import FURTHER_LIMIT, INLINE_LIMIT
from epsilon_lab.workspace.layout import RunDirectory, needing_room
from epsilon_lab.workspace.leaf_files import LeafFiles, refuse_missing, tree_of

if TYPE_CHECKING:
    from epsilon_lab.agents.request import Request

_GENERATIONS = 8

Recorder = Callable[[tuple[Event, ...]], Awaitable[int | None]]


class Post(Protocol):
    """The way from a running task to others, awaited: what `current_task()` gives an async function."""

    async def send(self, to: str, value: object) -> None:
        """Put a message where its addressee will read it."""
        ...

    async def messages(self, timeout_s: float | None = 0.0) -> Sequence[Message]:
        """Read what was sent to the task and was not read in this attempt."""
        ...

    async def publish(self, topic: str, value: object) -> None:
        """Say something on a topic."""
        ...


class Listening(Protocol):
    """What is said on a topic, from when it was opened."""

    def waiting(self) -> Sequence[Message]:
        """Read what is here, without waiting for more."""
        ...


class PlainPost(Protocol):
    """The same in a child process, where each call returns once it is done: what `current_task()` gives there."""

    def send(self, to: str, value: object) -> None:
        """Put a message where its addressee will read it."""
        ...

    def messages(self, timeout_s: float | None = 0.0) -> Sequence[Message]:
        """Read what was sent to the task and was not read in this attempt."""
        ...

    def publish(self, topic: str, value: object) -> None:
        """Say something on a topic."""
        ...

    def subscribe(self, topic: str) -> Listening:
        """Listen to a topic."""
        ...

    def beat(self) -> None:
        """Say that there is progress."""
        ...


@dataclass
class Leaf:
    """A running task's view of its run. Most never use what begins as None or empty, so it stands with the class."""

    run: RunDirectory
    task_id: str
    attempt: int
    fence: int
    """The idempotency token for effects outside the lab."""

    recorder: Recorder | None = None
    """Puts events on record at once; present in the async lane."""

    events: list[Event] = field(default_factory=list)
    """Emitted so far; the worker sends them with the result, or with the failure."""

    request: Request | None = field(default=None, init=False)
    """What it was asked; None where its payload says it all."""

    replies_on_record: frozenset[tuple[str, str]] | None = field(default=None, init=False)
    """References and prompts of the replies that earlier attempts had, once somebody asked."""

    post: Post | None = field(default=None, init=False)
    """The way to other tasks; present in the async lane."""

    plain_post: PlainPost | None = field(default=None, init=False)
    """The same, present in a child process."""

    files: LeafFiles | None = field(default=None, init=False)
    """Its own directory, once it has asked for one."""

    flags: list[CaseFlagged] = field(default_factory=list, init=False)
    """Cases that it flagged; they count with its result, and are not heard of where it has none."""

    further: tuple[Value, ...] = field(default=(), init=False)
    """Items of further tasks that it asked for; they count with its result."""

    @property
    def trace_id(self) -> str:
        """The trace of its run."""
        return ids.trace_id(self.run.run_id)

    def span_id(self, *parts: str) -> str:
        """The step of the trace that this attempt is, or a named part of it."""
        return ids.span_id(self.run.run_id, self.task_id, self.attempt, *parts)

    def traceparent(self, *parts: str) -> str:
        """The header by which another system joins the trace at that step."""
        return ids.traceparent(self.run.run_id, self.task_id, self.attempt, *parts)

    def workspace(self) -> Path:
        """A directory of this attempt's own, made and filled when it is first asked for.

        Raises:
            LabError: The files it begins with are not there, or not as they were published.
            DiskFull: There is no room for them.
        """
        if self.files is None:
            layers = () if self.request is None else self.request.layers
            self.files = LeafFiles(self.run, self.task_id, self.fence, layers)
        return self.files.path

    async def open_workspace(self) -> Path:
        """The same for the async lane, where others go on while files are laid out."""
        if self.files is None and self.run.is_here:
            return await anyio.to_thread.run_sync(self.workspace)
        return self.workspace()

    def publish(self) -> tuple[str, list[ArtifactSaved]]:
        """Make what it changed in its directory a layer; see `LeafFiles.publish`.

        Raises:
            LeafFailed: A file that must be there is missing, or something there cannot be published.
        """
        needs = () if self.request is None else self.request.needs_files
        if self.files is not None:
            return self.files.publish(needs)
        if needs and self.request is not None:
            refuse_missing(needs, tree_of(self.run, self.request.layers))
        return "", []

    def submit(self, item: object) -> str:
        """Ask for a further task of the run, for another item; it is begun once this attempt's result is accepted.

        Returns:
            The task's id.

        Raises:
            InvalidInput: The item is too large, or cannot travel.
            LabError: Its topology takes no further tasks, or not so many.
        """
        if self.request is None or not self.request.takes_tasks:
            raise LabError("this run takes no further tasks; say in the output what is left to do")
        if self.task_id.count(".") >= _GENERATIONS:
            raise LabError(f"tasks that ask for tasks end after {_GENERATIONS} generations; say what is left to do")
        if len(self.further) == FURTHER_LIMIT:
            raise LabError(f"a task may ask for {FURTHER_LIMIT} further ones, and has")
        packed = pack(item)
        if len(packed.data) > INLINE_LIMIT:
            raise InvalidInput("the item", f"has {len(packed.data):,} bytes, more than {INLINE_LIMIT:,}", "name a file")
        self.further = (*self.further, packed)
        return ids.further(self.task_id, len(self.further))

    def emit(self, body: Body) -> None:
        """Put an event on record together with the task's result or failure."""
        self.events.append(event(body))

    def save(self, ref: str, content: str | bytes, *, kind: str) -> str:
        """Write a file of the run directory, emit its description, return its reference.

        Raises:
            DiskFull: There is no room for it.
        """
        with needing_room(ref):
            self.emit(self.run.save(ref, content, kind=kind, task_id=self.task_id))
        return ref

    async def record(self) -> int | None:
        """Wait until everything emitted so far is on record, and a request to a model among it is admitted.

        Returns:
            Most tokens that its reply may take, where the run's budget says so.

        Raises:
            BudgetExhausted: The request must not go out.
        """
        if self.recorder is None or not self.events:
            return None
        pending, self.events = tuple(self.events), []
        return await self.recorder(pending)
