"""The growing task graph: which tasks may run now, and on what.

A task is ready once what it depends on is settled as it wants it, and is handed out while fewer than its kind's limit
are out, the most urgent first. One that can never start is settled at once, with the reason; so are those behind it.

Dependencies are counted, never searched: a completion costs what depends on it and nothing else, however large the
graph. What is final is forgotten as it settles, so a graph holds what is open, and the outputs that may still be bound.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.tasks import Failure, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value
from epsilon_lab.settings import INLINE_LIMIT
from epsilon_lab.topologies.binding import Unreadable, bound, unmet
from epsilon_lab.topologies.plan import Add, Node, Write

SKIPPED = "skipped: "
"""How the reason of a task begins whose conditions did not hold, or that would have followed such a one."""


class Step(NamedTuple):
    """What follows from a change of the graph."""

    ready: tuple[TaskSpec, ...] = ()
    """To be handed to the broker now."""

    waiting: tuple[TaskSpec, ...] = ()
    """New, and not to be handed out so far: they wait for others or for room in their kind's limit, or can never
    start."""

    settled: tuple[TaskOutcome, ...] = ()
    """Never to start: blocked by what they depend on, or skipped. What depends on them is among them."""

    inputs: tuple[Write, ...] = ()
    """Payloads that a journal does not hold, to be written before their tasks are handed out."""


NOTHING = Step()
"""Nothing follows, which is what most tasks that are settled come to."""


class _Settled(msgspec.Struct, frozen=True, gc=False):
    """What became of a task, as those behind it see it."""

    output: Value | None = None
    """None: it was completed without one that is kept."""

    error: str = ""
    """Why it has no output; empty where it was completed."""

    cause: str = ""
    """The task that failed first, where it was given up because of others."""

    skipped: bool = False


class _Waiting:
    """A node, and what has become of its dependencies so far."""

    __slots__ = ("cause", "completed", "depends_on", "errors", "failed", "is_gone", "keeps", "missing", "node",
                 "outputs", "skip", "task")  # fmt: skip

    def __init__(self, node: Node, depends_on: tuple[str, ...]) -> None:
        self.node, self.task, self.depends_on = node, node.task, depends_on
        self.keeps = node.binds or bool(node.when)
        self.missing = self.completed = self.failed = 0
        self.outputs: dict[str, Value] = {}
        self.errors: dict[str, str] = {}
        self.cause = self.skip = ""
        self.is_gone = False

    def take(self, name: str, found: _Settled) -> None:
        """A dependency is settled."""
        if not found.error:
            self.completed += 1
            if self.keeps and found.output is not None:
                self.outputs[name] = found.output
            return
        if found.skipped:
            self.skip = self.skip or name
        else:
            self.failed += 1
            self.cause = self.cause or found.cause or name
        if self.node.quorum is not None:
            self.errors[name] = found.error

    def verdict(self) -> _Settled | None:
        """Say why it can never start; None where it can, or may."""
        most = self.completed + self.missing
        if self.node.quorum is None:
            if self.failed:
                why = f"not started: it depends on task {self.cause}, which has no output"
                return _Settled(error=why, cause=self.cause)
            return _Settled(error=f"{SKIPPED}{self.skip} was", skipped=True) if self.skip else None
        if not most and not self.failed:
            return _Settled(error=f"{SKIPPED}all that it depends on was", skipped=True)
        total = most + self.failed
        needed = max(1, math.ceil(round(self.node.quorum * total, 6)))
        if most >= needed:
            return None
        why = f"it needs {needed} of {total} outputs, and {self.failed} tasks have none, {self.cause} for one"
        return _Settled(error=f"not started: {why}")


class _Held:
    """A task that waits for room in its kind's limit; without one, it was withdrawn or put elsewhere."""

    __slots__ = ("place", "priority", "task")

    def __init__(self, task: TaskSpec, place: int) -> None:
        self.task: TaskSpec | None = task
        self.priority, self.place = task.priority, place

    def __lt__(self, other: _Held) -> bool:
        """Whether it comes first."""
        return (-self.priority, self.place) < (-other.priority, other.place)


class Graph:
    """Tasks and their dependencies.

    Args:
        limits: Most tasks of a kind out at once.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = limits
        self._out: dict[str, int] = {}
        """How many of a kind are out."""

        self._kinds: dict[str, str] = {}
        """Kinds of tasks that are out, by id."""

        self._room: dict[str, list[_Held]] = {}
        """Heaps, by kind, of those that wait for room in its limit; withdrawn ones lie there until their turn."""

        self._held: dict[str, _Held] = {}
        """The same, by id."""

        self._place = 0
        self._waiting: dict[str, _Waiting] = {}
        self._dependents: dict[str, list[_Waiting]] = {}
        self._known: dict[str, bool] = {}
        """Ids that are taken; whether they are forgotten once they are settled."""

        self._settled: dict[str, _Settled] = {}
        """Those that are not."""

        self._dead: dict[str, str] = {}
        """Kinds of tasks that may be requeued, by id."""

    @property
    def out(self) -> tuple[str, ...]:
        """Ids of tasks in the broker's hands."""
        return tuple(self._kinds)

    @property
    def held(self) -> tuple[str, ...]:
        """Ids of tasks the broker has not been given."""
        return (*self._held, *self._waiting)

    def add(self, run_id: str, new: Add) -> Step:
        """Take new tasks in.

        Raises:
            InvalidInput: An id is taken, a dependency is unknown, or a node asks for what cannot be.
        """
        step = _Following(run_id)
        for each in new.tasks:
            if isinstance(each, Node):
                _check(each)
                node, task = each, each.task
            else:
                node, task = None, each
            if task.task_id in self._known:
                raise InvalidInput(f"task {task.task_id!r}", "is in the graph already", "give every task its own id")
            if task.depends_on:
                self._add_behind(node or Node(task=task), step, is_final=new.final)
                continue
            self._known[task.task_id] = new.final
            (step.ready if self._admit(task) else step.waiting).append(task)
        return self._done(step)

    def _add_behind(self, node: Node, step: _Following, *, is_final: bool) -> None:
        """Take in a task that depends on others."""
        ready = len(step.ready)
        task_id = node.task.task_id
        waiting = _Waiting(node, tuple(dict.fromkeys(node.task.depends_on)))
        for name in waiting.depends_on:
            found = self._settled.get(name)
            if found is not None:
                waiting.take(name, found)
            elif name in self._known and name not in self._dead:
                waiting.missing += 1
                self._dependents.setdefault(name, []).append(waiting)
            else:
                raise InvalidInput(f"task {task_id!r}", f"depends on {name!r}, which is not in the graph")
        self._known[task_id] = is_final
        self._waiting[task_id] = waiting
        self._look_at(waiting, step)
        if len(step.ready) == ready:
            step.waiting.append(node.task)
        self._spread(step)

    def is_out(self, task_id: str) -> bool:
        """Whether a task is in the broker's hands."""
        return task_id in self._kinds

    def prioritise(self, task_id: str, priority: int) -> bool:
        """Give a task that the broker has not been given another priority; False where there is none."""
        waiting = self._waiting.get(task_id)
        if waiting is not None:
            waiting.task = msgspec.structs.replace(waiting.task, priority=priority)
            return True
        held = self._held.get(task_id)
        if held is None or held.task is None:
            return False
        self._hold(msgspec.structs.replace(held.task, priority=priority), held.place)
        held.task = None
        return True

    def withdraw(self, task_id: str) -> bool:
        """Take out a task that the broker has not been given, before it is settled; False where there is none."""
        waiting = self._waiting.pop(task_id, None)
        if waiting is not None:
            waiting.is_gone = True
            return True
        held = self._held.pop(task_id, None)
        if held is not None:
            held.task = None
        return held is not None

    def clear(self, reason: str) -> None:
        """Give up what was not settled: its run is over. Should it be reopened, what comes then knows why."""
        for task_id in (*self.out, *self.held):
            if self._known[task_id]:
                del self._known[task_id]
            else:
                self._settled[task_id] = _Settled(error=reason)
        for tasks in (self._out, self._kinds, self._room, self._held, self._waiting, self._dependents):
            tasks.clear()

    def reopen(self, task_id: str) -> None:
        """A dead letter is in the broker's hands again; what had waited for it goes on without it, or has ended."""
        kind = self._kinds[task_id] = self._dead.pop(task_id)
        self._settled.pop(task_id, None)
        self._out[kind] = self._out.get(kind, 0) + 1

    def settle(self, outcome: TaskOutcome) -> Step:
        """A task was settled that is out, or was withdrawn; of any other, nothing follows."""
        task_id = outcome.task_id
        is_final = self._known.get(task_id)
        if is_final is None or task_id in self._settled:
            return NOTHING
        kind = self._kinds.pop(task_id, None)
        step: _Following | None = None
        if kind is not None:
            self._out[kind] -= 1
            if room := self._room.get(kind):
                step = _Following(outcome.run_id)
                self._fill(room, step)
        is_dead = outcome.status == "dead" and kind is not None
        if is_dead:
            self._dead[task_id] = kind or ""
        if is_final:
            if not is_dead:
                del self._known[task_id]
            if task_id not in self._dependents:
                return NOTHING if step is None else self._done(step)
        step = step or _Following(outcome.run_id)
        step.pending.append((task_id, _found(outcome)))
        if not is_final:
            self._settled[task_id] = step.pending[0][1]
        self._spread(step)
        return self._done(step)

    # -- one after the other ------------------------------------------------------------------------------------------

    def _spread(self, step: _Following) -> None:
        """Let what is settled reach those that depend on it, and so on."""
        while step.pending:
            name, found = step.pending.popleft()
            for waiting in self._dependents.pop(name, ()):
                if not waiting.is_gone:
                    waiting.missing -= 1
                    waiting.take(name, found)
                    self._look_at(waiting, step)

    def _look_at(self, waiting: _Waiting, step: _Following) -> None:
        """Hand a node out if it can start; settle it if it never can."""
        found = waiting.verdict()
        if found is None and waiting.missing:
            return
        task = waiting.task
        del self._waiting[task.task_id]
        waiting.is_gone = True
        if found is None:
            found = _skip(waiting)
        if found is not None:
            self._give_up(task.task_id, found, step)
            return
        if waiting.node.binds:
            payload = bound(task.payload, waiting.depends_on, waiting.outputs, waiting.errors)
            if len(payload.data) > INLINE_LIMIT:
                ref = f"inputs/{task.task_id}.json"
                step.inputs.append(Write(ref, payload.data.decode(), "input"))
                payload = Value("file", ref.encode())
            task = msgspec.structs.replace(task, payload=payload)
        if self._admit(task):
            step.ready.append(task)

    def _give_up(self, task_id: str, found: _Settled, step: _Following) -> None:
        """Settle a task that can never start."""
        self._settled[task_id] = found
        if self._known[task_id]:
            step.forgotten.append(task_id)
        step.settled.append(_given_up(step.run_id, task_id, found))
        step.pending.append((task_id, found))

    def _done(self, step: _Following) -> Step:
        """Forget what is final; until now, others of the same `Add` could be behind it."""
        for task_id in step.forgotten:
            del self._known[task_id], self._settled[task_id]
        return Step(tuple(step.ready), tuple(step.waiting), tuple(step.settled), tuple(step.inputs))

    def _admit(self, task: TaskSpec) -> bool:
        """Hand a task out, or have it wait for room in its kind's limit."""
        if self._hand_out(task):
            return True
        self._place += 1
        self._hold(task, self._place)
        return False

    def _hand_out(self, task: TaskSpec) -> bool:
        kind = task.kind
        out = self._out.get(kind, 0)
        limit = self._limits.get(kind)
        if limit is not None and out >= limit:
            return False
        self._out[kind] = out + 1
        self._kinds[task.task_id] = kind
        return True

    def _hold(self, task: TaskSpec, place: int) -> None:
        held = self._held[task.task_id] = _Held(task, place)
        heapq.heappush(self._room.setdefault(task.kind, []), held)

    def _fill(self, room: list[_Held], step: _Following) -> None:
        """Hand out what there is room for, the most urgent first."""
        while room:
            task = room[0].task
            if task is not None:
                if not self._hand_out(task):
                    return
                del self._held[task.task_id]
                step.ready.append(task)
            heapq.heappop(room)


class _Following:
    """A step in the making."""

    __slots__ = ("forgotten", "inputs", "pending", "ready", "run_id", "settled", "waiting")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.ready: list[TaskSpec] = []
        self.waiting: list[TaskSpec] = []
        self.settled: list[TaskOutcome] = []
        self.inputs: list[Write] = []
        self.forgotten: list[str] = []
        self.pending: deque[tuple[str, _Settled]] = deque()
        """Settled, and not known yet to those behind."""


def _check(node: Node) -> None:
    """Refuse a node that could never be told to start."""
    what = f"task {node.task.task_id!r}"
    if node.quorum is not None and not 0 <= node.quorum <= 1:
        raise InvalidInput(what, f"has a quorum of {node.quorum!r}", "it is a share, from 0 to 1")
    for condition in node.when:
        if condition.task_id not in node.task.depends_on:
            raise InvalidInput(
                what, f"has a condition on {condition.task_id!r}, which it does not depend on", "let it depend on that"
            )


def _found(outcome: TaskOutcome) -> _Settled:
    if outcome.status == "completed":
        return _Settled(output=outcome.output)
    return _Settled(error=(outcome.failure and outcome.failure.error) or f"it is {outcome.status}")


def _skip(waiting: _Waiting) -> _Settled | None:
    """Why a node that could start does not; None where it does."""
    try:
        why = unmet(waiting.node.when, waiting.outputs)
    except Unreadable as error:
        return _Settled(error=f"not started: {error}", cause=waiting.task.task_id)
    return _Settled(error=SKIPPED + why, skipped=True) if why else None


def _given_up(run_id: str, task_id: str, found: _Settled) -> TaskOutcome:
    failure = Failure(
        task_id=task_id, run_id=run_id, fence=0, outcome="cancelled", error=found.error, retryable=False
    )  # fmt: skip
    return TaskOutcome(
        run_id=run_id, task_id=task_id, status="cancelled" if found.skipped else "failed", failure=failure
    )
