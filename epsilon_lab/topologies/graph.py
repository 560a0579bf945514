"""The growing task graph: which tasks may run now.

A task is ready once everything it depends on is completed, and is handed out while fewer than its kind's limit are out.
A task whose dependency can never complete is settled as failed at once, with the reason; so are those behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.tasks import Failure, TaskOutcome, TaskSpec


class Step(NamedTuple):
    """What follows from a change of the graph."""

    ready: tuple[TaskSpec, ...]
    """To be handed to the broker now."""

    waiting: tuple[TaskSpec, ...]
    """New, and waiting for others (or for room in their kind's limit)."""

    blocked: tuple[TaskOutcome, ...]
    """Failed because of what they depend on."""


NOTHING = Step((), (), ())
"""Nothing follows, which is what most tasks that are settled come to."""


class Graph:
    """Tasks and their dependencies, forgotten as they settle.

    Args:
        limits: Most tasks of a kind out at once.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = limits
        self._out: dict[str, int] = {}
        self._room: dict[str, deque[TaskSpec]] = {}
        self._kinds: dict[str, str] = {}
        self._missing: dict[str, set[str]] = {}
        self._waiting: dict[str, TaskSpec] = {}
        self._dependents: dict[str, list[str]] = {}
        self._known: set[str] = set()
        self._completed: set[str] = set()
        self._failed: dict[str, str] = {}
        """Kinds of tasks that have no output, by id."""

    @property
    def out(self) -> tuple[str, ...]:
        """Ids of tasks in the broker's hands."""
        return tuple(self._kinds)

    @property
    def held(self) -> tuple[str, ...]:
        """Ids of tasks the broker has not been given."""
        return (*(task.task_id for room in self._room.values() for task in room), *self._waiting)

    def add(self, run_id: str, tasks: Sequence[TaskSpec]) -> Step:
        """Take new tasks in.

        Raises:
            InvalidInput: An id is taken, or a dependency is unknown.
        """
        ready: list[TaskSpec] = []
        waiting: list[TaskSpec] = []
        blocked: list[TaskOutcome] = []
        for task in tasks:
            if task.task_id in self._known:
                raise InvalidInput(f"task {task.task_id!r}", "is in the graph already", "give every task its own id")
            if not task.depends_on:
                self._known.add(task.task_id)
                (ready if self._admit(task) else waiting).append(task)
                continue
            unknown = [name for name in task.depends_on if name not in self._known]
            if unknown:
                raise InvalidInput(f"task {task.task_id!r}", f"depends on {unknown[0]!r}, which is not in the graph")
            self._known.add(task.task_id)
            broken = next((name for name in task.depends_on if name in self._failed), None)
            missing = set(task.depends_on) - self._completed
            if broken is not None:
                self._failed[task.task_id] = task.kind
                blocked.append(_blocked(run_id, task.task_id, broken))
            elif missing:
                self._missing[task.task_id] = missing
                self._waiting[task.task_id] = task
                for name in missing:
                    self._dependents.setdefault(name, []).append(task.task_id)
                waiting.append(task)
            elif self._admit(task):
                ready.append(task)
            else:
                waiting.append(task)
        return Step(tuple(ready), tuple(waiting), tuple(blocked))

    def is_out(self, task_id: str) -> bool:
        """Whether a task is in the broker's hands."""
        return task_id in self._kinds

    def prioritise(self, task_id: str, priority: int) -> bool:
        """Give a task that the broker has not been given another priority; False where there is none."""
        task = self._waiting.get(task_id)
        if task is not None:
            self._waiting[task_id] = msgspec.structs.replace(task, priority=priority)
            return True
        for room in self._room.values():
            for place, task in enumerate(room):
                if task.task_id == task_id:
                    room[place] = msgspec.structs.replace(task, priority=priority)
                    return True
        return False

    def withdraw(self, task_id: str) -> bool:
        """Take out a task that the broker has not been given, before it is settled; False where there is none."""
        if self._waiting.pop(task_id, None) is not None:
            del self._missing[task_id]
            return True
        for room in self._room.values():
            for task in room:
                if task.task_id == task_id:
                    room.remove(task)
                    return True
        return False

    def clear(self) -> None:
        """Forget what was not settled: its run is over."""
        for tasks in (self._out, self._room, self._kinds, self._missing, self._waiting, self._dependents):
            tasks.clear()

    def reopen(self, task_id: str) -> None:
        """A task that had failed is in the broker's hands again; what had waited for it has failed with it for good."""
        kind = self._kinds[task_id] = self._failed.pop(task_id)
        self._out[kind] = self._out.get(kind, 0) + 1

    def settle(self, outcome: TaskOutcome) -> Step:
        """A task that was out, or waiting, is settled; an unknown one changes nothing."""
        kind = self._kinds.pop(outcome.task_id, None)
        ready: list[TaskSpec] = []
        if kind is not None:
            self._out[kind] -= 1
            room = self._room.get(kind)
            while room and self._admit(room[0], queue=False):
                ready.append(room.popleft())
        blocked: list[TaskOutcome] = []
        if outcome.status == "completed":
            self._completed.add(outcome.task_id)
            for name in self._dependents.pop(outcome.task_id, ()):
                missing = self._missing.get(name)
                if missing is None:
                    continue
                missing.discard(outcome.task_id)
                if not missing:
                    del self._missing[name]
                    task = self._waiting.pop(name)
                    if self._admit(task):
                        ready.append(task)
        else:
            self._fail(outcome.run_id, outcome.task_id, kind or "", blocked)
        return Step(tuple(ready), (), tuple(blocked)) if ready or blocked else NOTHING

    def _admit(self, task: TaskSpec, *, queue: bool = True) -> bool:
        limit = self._limits.get(task.kind)
        if limit is not None and self._out.get(task.kind, 0) >= limit:
            if queue:
                self._room.setdefault(task.kind, deque()).append(task)
            return False
        self._out[task.kind] = self._out.get(task.kind, 0) + 1
        self._kinds[task.task_id] = task.kind
        return True

    def _fail(self, run_id: str, task_id: str, kind: str, blocked: list[TaskOutcome]) -> None:
        pending = [(task_id, kind)]
        while pending:
            broken, kind = pending.pop()
            self._failed.setdefault(broken, kind)
            for name in self._dependents.pop(broken, ()):
                task = self._waiting.pop(name, None)
                if task is not None:
                    self._missing.pop(name, None)
                    blocked.append(_blocked(run_id, name, broken))
                    pending.append((name, task.kind))


def _blocked(run_id: str, task_id: str, broken: str) -> TaskOutcome:
    failure = Failure(
        task_id=task_id,
        run_id=run_id,
        fence=0,
        outcome="cancelled",
        error=f"not started: it depends on task {broken}, which has no output",
        retryable=False,
    )
    return TaskOutcome(run_id=run_id, task_id=task_id, status="failed", failure=failure)
