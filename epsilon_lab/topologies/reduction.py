"""The rules of a run over many items whose outputs are brought together: map_reduce and sharded_queue.

Both are one tree of ordered groups over the items (levels.py); they differ in how many groups a level has. Items are
handed out some thousands at a time, in order, and lie on disk until then. A group takes its children's outputs in as
they come, and is reduced once all are settled, in the order of the items. So what memory holds is the items that are
out and the groups that are open, and of the rest a few bytes each, however many there are.

An item without output is left out: its group is reduced without it, and a group of which nothing is left is left out of
the one above. The run fails when its last reducer has no output, or when fewer items than the quorum can be in it.

When the budget of seconds is used up, items that are not done are given up, and what there is is reduced: it is paid
for. A reducer has then as long as its own time limit lets it.

What is done again (a requeued dead letter, a revision) takes the reducers above it along, as revisions too. The outputs
of its neighbours are in nobody's memory any more; such a reducer is told their names, and reads them off the journal.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from epsilon_lab import ids
from epsilon_lab.errors import ends_run
from epsilon_lab.messages.call import Call, Feedback, code_of
from epsilon_lab.messages.events import TaskLine, TasksRevised, task_spec
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import StoredValue, Value, as_json, stored
from epsilon_lab.settings import INLINE_LIMIT
from epsilon_lab.topologies.levels import Levels, Spot
from epsilon_lab.topologies.output_layout import FINAL, Layout, Names
from epsilon_lab.topologies.plan import Add, Cancel, Emit, Export, Finish, Plan, PlanEffect, Requeue, Revise, Write
from epsilon_lab.topologies.quality import Checkable, Product, QualityRules, checked
from epsilon_lab.topologies.revision import revise
from epsilon_lab.workspace.items import item_value

WINDOW = 4096
"""Items that are out at once."""

_STEP = 1024
"""Items that are handed out at once, at least."""

_ENTRY = 64
"""Bytes that an output takes beside its own, in memory and in a file."""

_OPEN, _DONE, _LOST = range(3)
"""What became of a spot: nothing so far, an output, none."""


_PLACE = re.compile(r"item-(\d+)|reduce-.*?(\d+)\Z")


class ReductionRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is played by."""

    items: int
    groups: tuple[int, ...]
    """How many groups each level above the items has; none where nothing is reduced."""

    is_sharded: bool
    """Whether the groups are called shards."""

    quorum: float
    map: TaskLine
    """As every item's task is, but for its id and what it is about."""

    reduce: TaskLine | None = None
    """The same for reducers."""

    layout: Layout | None = None
    """Where outputs go besides the run directory, if it was stated by a manifest."""

    asks: tuple[str, ...] = ()
    """References, `code/<sha256>.pkl`, of what may be a model, or a program that has to be there."""

    quality: QualityRules | None = None


class _Group:
    """Neighbours that are to be reduced."""

    __slots__ = ("failed", "feedback", "inputs", "left", "parts", "size", "told")

    def __init__(self, left: int, *, told: bool = False, feedback: Sequence[Feedback] = ()) -> None:
        self.left = left
        """Children that are not settled."""

        self.inputs: dict[int, tuple[str, StoredValue]] = {}
        """Their tasks and outputs so far, by place."""

        self.size = 0
        """Bytes of these, about."""

        self.parts: list[str] = []
        """Files with more of them."""

        self.failed: dict[str, str] = {}
        self.told = told
        """Whether its task is told the names of its inputs instead."""

        self.feedback = tuple(feedback)
        """Why it is done again."""


class ReductionPlan(Checkable):
    """The rules, at work."""

    def __init__(self, rules: ReductionRules, names: Names | None = None) -> None:
        self.models = rules.asks
        self._rules = rules
        self._names = names
        self._levels = Levels(rules.items, rules.groups)
        self._states = [bytearray(size) for size in self._levels.sizes]
        self._tries = [array("H", bytes(2 * size)) for size in self._levels.sizes]
        """How many tasks each spot has had: which revision is the last."""

        self._map, self._map_call = _leaf(rules.map)
        self._reduce, self._reduce_call = _leaf(rules.map if rules.reduce is None else rules.reduce)
        self._item_name = f"item-%0{max(6, len(str(rules.items - 1)))}d"
        self._groups: dict[Spot, _Group] = {}
        self._out: dict[str, Spot] = {}
        self._dead: dict[str, Spot] = {}
        self._next = 0
        """The first item that has not been handed out."""

        self._items_out = 0
        self._reach = rules.items
        """How many items are, or can still be, in the output."""

        self._first_error = ""
        self._spent = ""
        """The budget that is used up, if one is."""

        self._over: Finish | None = None
        """How it ended, or would end if it passes."""

        self._looked_at = -1 if rules.quality is None else self._levels.top
        """The level whose outputs QA is given."""

        self._verdicts = ""
        """The file of verdicts that tasks go by which flag cases."""

        self._files: dict[Spot, str] = {}
        """References of what these have published, the last settled last."""

    # -- names --------------------------------------------------------------------------------------------------------

    def name(self, spot: Spot) -> str:
        """The id of a spot's first task."""
        level, place = spot
        if level == 0:
            name = self._item_name % place
            return f"{name}-{own}" if self._names and (own := self._names.id(place)) else name
        digits = len(str(self._levels.sizes[level] - 1))
        if not self._rules.is_sharded:
            return f"reduce-l{level:02d}-n{place:0{max(4, digits)}d}"
        return "reduce-final" if level == self._levels.top else f"reduce-shard-{place:0{max(3, digits)}d}"

    def item_names(self) -> Iterable[str]:
        """The ids of the items' first tasks, in order."""
        return (self.name(Spot(0, place)) for place in range(self._rules.items))

    def _spot(self, task_id: str) -> Spot | None:
        """The spot that a task, or any of its revisions, belongs to."""
        found = _PLACE.match(task_id)
        place = int(found[1] or found[2]) if found else 0
        spots = (Spot(level, place) for level, size in enumerate(self._levels.sizes) if place < size)
        return next((spot for spot in spots if self.name(spot) == task_id), None)

    def _task_id(self, spot: Spot) -> str:
        """The id of a spot's last task."""
        tries = self._tries[spot.level][spot.place]
        return self.name(spot) if tries < 2 else ids.revised(self.name(spot), tries)

    # -- stimuli ------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Hand out the first items."""
        return self._hand_out() if self._rules.items else [Finish("completed", "there were no items")]

    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:
        """Take an output in, or go on without it."""
        spot = self._out.pop(outcome.task_id, None)
        if spot is None:  # another go at it counts
            return []
        if not spot.level:
            self._items_out -= 1
        error = ""
        if outcome.failure is not None:
            error = outcome.failure.error
            if outcome.status != "cancelled" or not self._spent:
                self._first_error = self._first_error or f"{outcome.task_id}: {error}"
            if outcome.status == "dead":
                self._dead[outcome.task_id] = spot
        if outcome.files and self._looked_at == spot.level:
            self._files.pop(spot, None)
            self._files[spot] = outcome.files
        effects = self._settle(spot, outcome.task_id, outcome.output, error)
        if self._rules.layout is not None:
            effects = self._export(spot, outcome.output) + effects
        if self._over is not None:
            return effects
        if self.models and not self._spent and ends_run(error):
            return effects + self.exhausted(error, now)
        return effects + self._hand_out() if self._next < self._rules.items else effects

    def told(self, news: object, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Do again what is to be done again, and what is made of it."""
        match news:
            case Requeue(task_ids=task_ids):
                again = {task_id: self._dead.pop(task_id) for task_id in task_ids if task_id in self._dead}
                if not again:
                    return []
                effects = self._reopen(dict.fromkeys(again.values(), ()))
                self._out.update(pair for pair in again.items() if pair[1] not in self._groups)
                self._items_out += sum(not spot.level for spot in again.values())
                return [Requeue(tuple(again)), *effects]
            case Revise(feedback=feedback):
                spots = {name: spot for name in feedback if (spot := self._spot(name)) and self._can_revise(spot)}
                if not spots:
                    return []
                self._verdicts = news.verdicts or self._verdicts
                said = TasksRevised(feedback={name: feedback[name] for name in spots}, verdicts=news.verdicts)
                effects = self._reopen({spot: feedback[name] for name, spot in spots.items()}, revised=True)
                items = [self._item(spot, feedback[name]) for name, spot in spots.items() if not spot.level]
                return [Emit(said), *[self._add(0, *items)] * bool(items), *effects]
            case _:
                return []

    def again(self, names: Iterable[str]) -> dict[str, str]:
        """What is made of them, too."""
        found: dict[Spot, None] = {}
        for spot in filter(None, map(self._spot, names)):
            up: Spot | None = spot if self._can_revise(spot) else None
            while up is not None and up not in found:
                found[up] = None
                up = self._levels.parent(up) if up.level < self._levels.top else None
        leaves = {spot: self._reduce if spot.level else self._map for spot in sorted(found)}
        return {self.name(spot): code_of(leaf.entry, leaf.payload) for spot, leaf in leaves.items()}

    def exhausted(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Give up items that are not done, and reduce what there is."""
        if self._over is not None:  # and QA has not said what it thinks of it
            return [msgspec.structs.replace(self._over, reason=f"{reason}; {self._over.reason}")]
        done = self._states[0].count(_DONE)
        if not done or not self._levels.top:
            return self._finish("completed" if done else "failed", f"{reason}; {self._done()}")
        self._spent = reason
        out = tuple(task_id for task_id, spot in self._out.items() if not spot.level)
        begin, self._next = self._next, self._rules.items
        effects: list[PlanEffect] = []
        for place in range(begin, self._rules.items):
            spot = Spot(0, place)
            effects += self._settle(spot, self.name(spot), None, reason)
            if effects and isinstance(effects[-1], Finish):  # there are too few
                return effects
        return [*effects, *[Cancel(out, reason)] * bool(out)]

    def stop(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Give up what is not done."""
        output = None if self._over is None else self._over.output
        return self._finish("stopped", f"{reason}; {self._done()}", output)

    def product(self) -> Product:
        """The last reducer's output, or those of all items. Every task can be done again; the same answer for what is
        nobody's.
        """
        levels = self._levels
        looked_at = [Spot(levels.top, place) for place in range(levels.sizes[levels.top])]
        every = [Spot(level, place) for level, size in enumerate(levels.sizes) for place in range(size)]
        return Product(
            tasks=tuple(self._task_id(spot) for spot in looked_at if self._tries[spot.level][spot.place]),
            layers=tuple(self._files.values()),
            nodes={self.name(spot): {} for spot in every},
            final=tuple(map(self.name, looked_at)),
            failures={},
        )

    def _done(self) -> str:
        return f"{self._states[0].count(_DONE)} of {self._rules.items} items were completed"

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _hand_out(self) -> list[PlanEffect]:
        """Keep the window full, in steps."""
        room = WINDOW - self._items_out
        if room < _STEP and room < self._rules.items - self._next:
            return []
        begin, end = self._next, min(self._rules.items, self._next + room)
        self._next = end
        return [self._add(0, *[self._item(Spot(0, place)) for place in range(begin, end)])]

    def _add(self, level: int, *tasks: TaskSpec) -> Add:
        return Add(tasks, final=level != self._looked_at)

    def _item(self, spot: Spot, feedback: Sequence[Feedback] = ()) -> TaskSpec:
        payload = item_value(spot.place)
        if self._map_call is not None:
            asked = msgspec.structs.replace(self._map_call, argument=stored(payload), verdicts=self._verdicts)
            payload = as_json(asked)
        self._items_out += 1
        task = self._task(spot, self._map, payload)
        return revise(task, self._tries[0][spot.place], tuple(feedback), self._verdicts) if feedback else task

    def _task(self, spot: Spot, leaf: TaskSpec, payload: Value) -> TaskSpec:
        self._tries[spot.level][spot.place] += 1
        task_id = self._task_id(spot)
        self._out[task_id] = spot
        return msgspec.structs.replace(leaf, task_id=task_id, payload=payload)

    def _reducer(self, spot: Spot, group: _Group) -> list[PlanEffect]:
        """Reduce what there is of a group."""
        assert self._reduce_call is not None  # whoever is given outputs is more than a function of an item
        below = spot.level - 1
        names: tuple[str, ...] = ()
        if group.told:
            done = (Spot(below, place) for place in self._levels.children(spot) if self._states[below][place] == _DONE)
            names = tuple(map(self._task_id, done))
        call = msgspec.structs.replace(
            self._reduce_call,
            inputs=self._inputs(group),
            parts=tuple(group.parts),
            recorded=names,
            feedback=group.feedback,
            failed=group.failed,
            verdicts=self._verdicts,
            about=self._reduce_call.about | {"reduce_label": self.name(spot), "child_count": self._children(spot)},
        )
        if self._rules.layout is not None:
            children = self._levels.children(spot)
            done = (Spot(below, place) for place in children if self._states[below][place] == _DONE)
            told = self._rules.layout.about(self.name(spot), self._ref(spot), [self._ref(child) for child in done])
            instructions = self._rules.layout.instructions(told)
            call = msgspec.structs.replace(call, about=call.about | told, instructions=instructions)
        payload = as_json(call)
        effects: list[PlanEffect] = []
        task = self._task(spot, self._reduce, payload)
        if len(payload.data) > INLINE_LIMIT:
            ref = f"inputs/{task.task_id}.json"
            effects.append(Write(ref, payload.data.decode(), "input"))
            task = msgspec.structs.replace(task, payload=Value("file", ref.encode()))
        return [*effects, self._add(spot.level, msgspec.structs.replace(task, priority=task.priority + spot.level))]

    def _children(self, spot: Spot) -> int:
        children = self._levels.children(spot)
        return self._states[spot.level - 1].count(_DONE, children.start, children.stop)

    @staticmethod
    def _inputs(group: _Group) -> tuple[tuple[str, StoredValue], ...]:
        """What a group has taken in, in order."""
        return tuple(group.inputs[place] for place in sorted(group.inputs))

    # -- files outside ------------------------------------------------------------------------------------------------

    def _ref(self, spot: Spot) -> str:
        """Where an output goes, below the manifest's root."""
        assert self._rules.layout is not None  # or nobody asks
        assert self._names is not None
        if not spot.level:
            return self._names.ref(spot.place)
        is_top = spot.level == self._levels.top
        return self._rules.layout.group_ref(spot, self.name(spot), is_sharded=self._rules.is_sharded, is_top=is_top)

    def _export(self, spot: Spot, output: Value | None) -> list[PlanEffect]:
        if self._rules.layout is None or output is None:
            return []
        refs = {self._ref(spot), *[FINAL] * (self._levels.top == spot.level > 0)}
        return [Export(root=self._rules.layout.root, ref=ref, value=output) for ref in sorted(refs)]

    # -- outputs ------------------------------------------------------------------------------------------------------

    def _settle(self, spot: Spot, task_id: str, output: Value | None, error: str) -> list[PlanEffect]:
        """Let an output rise, or the lack of one: through all groups that have nothing left to reduce."""
        levels = self._levels
        while True:
            level, place = spot
            self._states[level][place] = _LOST if output is None else _DONE
            if output is None and (short := self._lose(spot)):
                return short
            if level == levels.top:
                return self._end(output)
            above = levels.parent(spot)
            group = self._groups.get(above)
            if group is None:
                group = self._groups[above] = _Group(len(levels.children(above)))
            group.left -= 1
            if output is None:
                group.failed[self._task_id(spot)] = error
            elif not group.told:
                group.inputs[place] = task_id, stored(output)
                group.size += len(output.data) + _ENTRY
            if group.left:
                return self._put_by(above, group) if group.size > INLINE_LIMIT else []
            del self._groups[above]
            if self._children(above):
                return self._reducer(above, group)
            spot, output, error = above, None, "there is nothing to reduce"

    def _put_by(self, spot: Spot, group: _Group) -> list[PlanEffect]:
        """Write to disk what an open group has taken in."""
        ref = f"inputs/{self.name(spot)}-part-{len(group.parts) + 1:03d}.json"
        text = msgspec.json.encode(self._inputs(group)).decode()
        group.parts.append(ref)
        group.inputs, group.size = {}, 0
        return [Write(ref, text, "input")]

    def _lose(self, spot: Spot) -> list[PlanEffect]:
        """Note that there will be no output; end where too few are left."""
        self._reach -= self._below(spot) if spot.level else 1
        quorum, reach = self._quorum, self._reach
        if reach >= quorum:
            return []
        first = f"; first failure: {self._first_error}" if self._first_error else ""
        first = f"; {self._spent}{first}" if self._spent else first
        if not reach:
            return self._finish("failed", f"none of {self._rules.items} items is in the output{first}")
        asked = f"{quorum} of {self._rules.items} items are asked for by quorum={self._rules.quorum:g}"
        return self._finish("failed", f"{asked}, and at most {reach} can be in the output{first}")

    @property
    def _quorum(self) -> int:
        return max(1, math.ceil(self._rules.quorum * self._rules.items))

    def _below(self, spot: Spot) -> int:
        """How many items are, or can still be, in what a group is given."""
        level, children = spot.level - 1, self._levels.children(spot)
        states = self._states[level]
        if not level:
            return len(children) - states.count(_LOST, children.start, children.stop)
        return sum(self._below(Spot(level, place)) for place in children if states[place] != _LOST)

    # -- the end, and after it ----------------------------------------------------------------------------------------

    def _end(self, output: Value | None) -> list[PlanEffect]:
        """End, if nothing is left to do."""
        if self._items_out or self._next < self._rules.items or self._groups:
            return []
        reach, total = self._reach, self._rules.items
        reason = f"{reach} of {total} items" + f"; {total - reach} without output" * (reach < total)
        reason = f"{self._spent}; {reason}" if self._spent else reason
        return self._finish("completed", reason, output if self._levels.top else None)

    def _finish(self, status: str, reason: str, output: Value | None = None) -> list[PlanEffect]:
        """End; what is open is lost with it, unless it is done again."""
        self._over = Finish(status, reason, output)
        self._next = self._rules.items
        self._items_out = 0
        self._out.clear()
        self._groups.clear()
        return [self._over]

    def _can_revise(self, spot: Spot) -> bool:
        is_settled = self._over is not None or self._states[spot.level][spot.place] != _OPEN
        return is_settled and (not spot.level or self._children(spot) > 0)

    def _reopen(self, again: Mapping[Spot, Sequence[Feedback]], *, revised: bool = False) -> list[PlanEffect]:
        """Take these up again, and whatever is made of them; the tasks of reducers.

        Args:
            again: Which, and why.
            revised: Whether reducers among them need a task, and not just wait for the one they have.
        """
        states, levels = self._states, self._levels
        was_over = self._over is not None
        if was_over:  # whatever had been left open is lost, and only what is said now is open
            self._states[:] = states = [state.replace(bytes([_OPEN]), bytes([_LOST])) for state in states]
        asked = set(again)
        self._dead = {task_id: spot for task_id, spot in self._dead.items() if spot not in asked}
        for level, place in asked:
            states[level][place] = _OPEN
        reduced: list[Spot] = []
        touched = {levels.parent(spot) for spot in asked if spot.level < levels.top}
        for spot in levels.groups():
            level, place = spot
            state = states[level][place]
            below = levels.children(spot)
            left, done = (states[level - 1].count(state, below.start, below.stop) for state in (_OPEN, _DONE))
            if spot in touched:
                if spot not in self._groups and state == _OPEN:  # what its task makes is out of date
                    self._out.pop(self._task_id(spot), None)
                self._groups[spot] = _Group(left, told=True, feedback=again.get(spot, ()))
            elif (spot in asked and revised) or (state == _LOST and done and was_over):
                reduced.append(spot)
            else:
                continue
            states[level][place] = _OPEN
            if state != _OPEN and level < levels.top:
                touched.add(levels.parent(spot))
        if was_over:
            self._over, self._spent = None, ""
        lost = states[0].count(_LOST)
        self._reach = self._below(Spot(levels.top, 0)) if levels.top else self._rules.items - lost
        goes = [(spot, _Group(0, told=True, feedback=again.get(spot, ()))) for spot in reduced]
        return [effect for spot, group in goes for effect in self._reducer(spot, group)]


def reduction_plan(rules: ReductionRules, names: Names | None = None) -> Plan:
    """The rules of a run, with QA where there is any."""
    plan = ReductionPlan(rules, names)
    return checked(plan, rules.quality)


def _leaf(line: TaskLine) -> tuple[TaskSpec, Call | None]:
    """What tasks are made after, and what is asked of those that are more than a function of an item."""
    spec = task_spec(line)
    is_light = spec.entry.startswith("code:")
    return spec, None if is_light else msgspec.json.decode(spec.payload.data, type=Call)
