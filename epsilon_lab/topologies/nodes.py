"""Named nodes that depend on each other: what a plan of them has to remember, for every topology that has such a plan.

A node is a name, and each go at it is a task: `api`, and when it is done again `api~2`, its next *revision*. The
latest revision speaks for the node. A node is given to the engine once all that it depends on is settled, since only
then is it known on whose files it builds; or at once when it cannot start any more, and the engine says why. Until then
it is on record as waiting. There are no waves: nothing waits for what it does not depend on.

A plan embeds `Nodes` and passes its answers on:

    nodes = Nodes()
    start:        return nodes.add(specs)
    settled:      meaning = nodes.settled(outcome)
                  if meaning is None: it is no task of these, or one that a later revision has taken the place of
                  effects = list(meaning.effects)     # the next revision, or the nodes that may go on now
                  meaning.state                       # what became of the node, `meaning.node`
    a fix:        nodes.revise({"api": (Feedback("qa", "..."),)}, mends=True)
    rerun:        [Emit(TasksRevised(...)), *nodes.revise(news.feedback)]
    dead letters: nodes.requeue(news.task_ids)
    stop:         [*nodes.close(reason), Finish(...)]
    over?         nodes.open is empty

What is done again is done *on top of* the product so far where someone asks for a change (feedback of QA, a review, a
person), and from nothing but what it depends on where its attempt failed, or where only its inputs changed.

A review between a node and those behind it: `NodeSpec.is_reviewed`. Then nothing follows from its end until the plan
says `accept(node)`, which lets it stand as it is, `refuse(node, why)`, or `revise`. `redirect(node, onto)` has those
that wait for it wait for others, as when it is split or reassigned.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from epsilon_lab.errors import BudgetExhausted, InvalidInput, ends_run
from epsilon_lab.ids import origin, revised
from epsilon_lab.messages.call import Call, Feedback
from epsilon_lab.messages.events import TaskPrioritised, TasksCancelled, TasksWaiting, task_line
from epsilon_lab.messages.tasks import Failure, Lane, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value
from epsilon_lab.topologies.plan import Add, Condition, Emit, Node, PlanEffect, Requeue

State = Literal["waiting", "running", "done", "failed", "stopped", "skipped", "cancelled"]
"""`waiting`: for what it depends on; `running`: in the engine's hands; `stopped`: not begun, because something that it
depends on has no output, or not done, because the run ended; `skipped`: its condition does not hold; `cancelled`: by a
person."""


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node, as it is kept in `plan.json`."""

    id: str
    call: Call
    """What it runs, without what is only known later: inputs, files and feedback."""

    lane: Lane
    entry: str
    kind: str = "node"
    depends_on: tuple[str, ...] = ()
    """Names of nodes."""

    priority: int = 0
    retries: int = 0
    """How often it is tried again when it failed, each time it is asked for; each try is told how the last one went."""

    when: tuple[Condition, ...] = ()
    """Conditions on outputs of nodes that it depends on; `Condition.task_id` is a node's name here."""

    quorum: float | None = None
    time_limit_s: float | None = None
    beat_within_s: float | None = None
    is_reviewed: bool = False
    """Whether nothing follows from its end until the plan says so."""


class Meaning(NamedTuple):
    """What the end of a task means for its node."""

    node: str
    state: State
    """What became of the node; `running` when it is tried again, as its next revision."""

    effects: list[PlanEffect]
    """What follows: its next revision, or the nodes that may go on."""


class _Node:
    """One node's memory."""

    __slots__ = (
        "chain",
        "failed",
        "feedback",
        "is_held",
        "is_refused",
        "missing",
        "outcome",
        "revision",
        "spec",
        "state",
    )

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.revision = 1
        self.state: State = "waiting"
        self.missing: set[str] = set()
        """Nodes that it depends on and that are not over."""

        self.failed = 0
        """Attempts that failed since it was last asked for."""

        self.feedback: tuple[Feedback, ...] = ()
        self.outcome: TaskOutcome | None = None
        """Of its last revision that was settled."""

        self.chain: list[tuple[int, str]] = []
        """The files it stands on: when each layer was settled, and its reference."""

        self.is_held = False
        """Whether it waits for its review."""

        self.is_refused = False
        """Whether a review or a person does not let it count, or one it depends on: nothing the engine knows of."""

    @property
    def task_id(self) -> str:
        return revised(self.spec.id, self.revision) if self.revision > 1 else self.spec.id

    @property
    def is_over(self) -> bool:
        return self.state not in ("waiting", "running") and not self.is_held

    @property
    def mends(self) -> bool:
        """Whether it is to change what is there."""
        return any(each.source != "failure" for each in self.feedback)

    def again(self, feedback: tuple[Feedback, ...]) -> None:
        """It will be done once more."""
        self.revision += 1
        self.state, self.is_held, self.is_refused = "waiting", False, False
        self.feedback, self.failed = feedback, 0


class Nodes:
    """The nodes of one run."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._dependents: dict[str, list[str]] = {}
        self._layers = 0
        self.writers: dict[str, str] = {}
        """Path of a file -> the node that wrote it last."""

        self.verdicts = ""
        """The file of verdicts that nodes go by which flag cases."""

        self.open: set[str] = set()
        """Names of nodes that are not over."""

    # -- what happens to them -----------------------------------------------------------------------------------------

    def add(self, specs: Iterable[NodeSpec]) -> list[PlanEffect]:
        """Take nodes in; they may depend on each other in any order, but not in a circle.

        Raises:
            InvalidInput: A name is taken, or a node depends on one that is not there.
        """
        specs = tuple(specs)
        for spec in specs:
            if spec.id in self._nodes:
                raise InvalidInput(f"node {spec.id!r}", "is in the plan already", "give every node its own id")
            self._nodes[spec.id] = _Node(spec)
            self._dependents[spec.id] = []
            self.open.add(spec.id)
        for spec in specs:
            for name in spec.depends_on:
                if name not in self._nodes:
                    raise InvalidInput(f"node {spec.id!r}", f"depends on {name!r}, which is not in the plan")
                self._dependents[name].append(spec.id)
            self._count(self._nodes[spec.id])
        nodes = [self._nodes[spec.id] for spec in specs]
        given = self._give((spec.id for spec in specs), say=False)
        if all(node.state != "waiting" for node in nodes):
            return given
        # All are on record at once and in the plan's order, in which results are given; what is due follows.
        return [Emit(TasksWaiting(tasks=tuple(task_line(self._task(node)) for node in nodes))), *given]

    def settled(self, outcome: TaskOutcome) -> Meaning | None:
        """A task was settled.

        Returns:
            None where it is not the latest revision of one of these nodes: then nothing follows from it.
        """
        node = self._nodes.get(origin(outcome.task_id))
        if node is None or node.state != "running" or outcome.task_id != node.task_id:
            return None
        name, node.outcome = node.spec.id, outcome
        node.state = _state_of(outcome)
        if node.state == "done":
            self._lay(node, outcome.files)
            self.writers.update(dict.fromkeys(outcome.paths, name))
        elif outcome.status == "failed" and outcome.failure and self._may_retry(node, outcome.failure):
            failed, feedback = node.failed + 1, (*node.feedback, failure_feedback(outcome.failure))
            node.again(feedback)
            node.failed = failed
            return Meaning(name, "running", self._give([name]))
        if node.spec.is_reviewed and node.state in ("done", "failed"):
            node.is_held = True
            return Meaning(name, node.state, [])
        return Meaning(name, node.state, self._spread(node))

    def accept(self, name: str) -> list[PlanEffect]:
        """Let a reviewed node stand as it is; those behind it may go on, or are stopped."""
        node = self._nodes[name]
        node.is_held = False
        return self._spread(node)

    def refuse(self, name: str, why: str) -> list[PlanEffect]:
        """Have a reviewed node count as failed, whatever it gave; those behind it are stopped."""
        node = self._nodes[name]
        self._lacks(node, "failed", why)
        node.chain = []
        return [*self._stop_behind(node, f"not started: it depends on {name}, which was refused"), *self._spread(node)]

    def cancel(self, task_ids: Container[str], reason: str) -> list[PlanEffect]:
        """Give up nodes that wait for others, and what cannot do without them; those that do not are passed over."""
        waiting = [node for node in self._nodes.values() if node.state == "waiting" and node.task_id in task_ids]
        if not waiting:
            return []
        effects: list[PlanEffect] = [
            Emit(TasksCancelled(task_ids=tuple(each.task_id for each in waiting), reason=reason))
        ]
        for node in waiting:
            self._lacks(node, "cancelled", reason)
        for node in waiting:
            effects += self._stop_behind(node, f"not started: it depends on {node.spec.id}, which was cancelled")
            effects += self._spread(node)
        return effects

    def prioritise(self, task_id: str, priority: int) -> list[PlanEffect]:
        """Put a node that waits for others before or behind them; one that does not wait is passed over."""
        node = self._nodes.get(origin(task_id))
        if node is None or node.state != "waiting" or node.task_id != task_id:
            return []
        node.spec = msgspec.structs.replace(node.spec, priority=priority)
        return [Emit(TaskPrioritised(task_id=task_id, priority=priority))]

    def revise(self, feedback: Mapping[str, tuple[Feedback, ...]], *, mends: bool = False) -> list[PlanEffect]:
        """Do nodes again, and what depends on them; one that has not begun is told only.

        Args:
            feedback: Why, by name; an empty tuple for no more than "again".
            mends: Whether a node that has published files is mended in place: its files are laid over the product, so
                dependents that have run stand. Where outputs are all there is, they run again with the new ones.
        """
        again = self._reached(feedback, mends=mends)
        for name in again:
            node = self._nodes[name]
            if node.state == "waiting":
                node.feedback += feedback.get(name, ())
            else:
                node.again(feedback.get(name, ()))
                self.open.add(name)
        for name in again:
            for dependent in self._dependents[name]:
                self._nodes[dependent].missing.add(name)
        return self._give(again)

    def requeue(self, task_ids: Iterable[str]) -> list[PlanEffect]:
        """Dead letters are tried again, as far as they still speak for their nodes."""
        found = []
        for task_id in task_ids:
            node = self._nodes.get(origin(task_id))
            if node is None or task_id != node.task_id or node.outcome is None or node.state != "failed":
                continue
            if node.outcome.status == "dead" and node.outcome.task_id == task_id:
                found.append(node)
        if not found:
            return []
        behind = self._reached({node.spec.id: () for node in found}, mends=True)
        effects: list[PlanEffect] = [Requeue(tuple(node.task_id for node in found))]
        for node in found:
            node.state, node.is_held, node.is_refused = "running", False, False
            behind.remove(node.spec.id)
            self.open.add(node.spec.id)
            for dependent in self._dependents[node.spec.id]:
                self._nodes[dependent].missing.add(node.spec.id)
        return effects + self.revise(dict.fromkeys(behind, ()), mends=True)

    def restate(self, spec: NodeSpec) -> None:
        """Have a node that is not under way run something else, or depend on others, when it is done again.

        Args:
            spec: What it is from now on; what it depends on must be there, and not wait for it.
        """
        node = self._nodes[spec.id]
        for name in node.spec.depends_on:
            self._dependents[name].remove(spec.id)
        for name in spec.depends_on:
            self._dependents[name].append(spec.id)
        node.spec = spec
        self._count(node)

    def redirect(self, name: str, onto: tuple[str, ...]) -> None:
        """Have those that wait for a node depend on others instead, as when it is split or given to another.

        Args:
            name: The node; it stays, for others to read.
            onto: Nodes that are there already. They must not depend on those that wait.
        """
        waiting = [each for each in self._dependents[name] if self._nodes[each].state == "waiting" and each not in onto]
        for each in waiting:
            node = self._nodes[each]
            kept = [(other,) if other != name else onto for other in node.spec.depends_on]
            depends_on = tuple(dict.fromkeys(other for group in kept for other in group))
            node.spec = msgspec.structs.replace(node.spec, depends_on=depends_on)
            self._dependents[name].remove(each)
            for other in onto:
                if each not in self._dependents[other]:
                    self._dependents[other].append(each)
            self._count(node)

    def tell(self, name: str, **about: Any) -> None:
        """Tell a node that waits more about its work."""
        node = self._nodes[name]
        call = msgspec.structs.replace(node.spec.call, about={**node.spec.call.about, **about})
        node.spec = msgspec.structs.replace(node.spec, call=call)

    def close(self, reason: str) -> list[PlanEffect]:
        """The run ends: what still waits is cancelled, on record. Done again, what is open now comes along."""
        waiting = tuple(node.task_id for node in self._nodes.values() if node.state == "waiting")
        for name in self.open:
            self._nodes[name].state, self._nodes[name].is_held = "stopped", False
        self.open.clear()
        return [Emit(TasksCancelled(task_ids=waiting, reason=reason))] if waiting else []

    # -- what they are ------------------------------------------------------------------------------------------------

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def spec(self, name: str) -> NodeSpec:
        """A node as it was added."""
        return self._nodes[name].spec

    def state(self, name: str) -> State:
        """What has become of a node."""
        return self._nodes[name].state

    def is_held(self, name: str) -> bool:
        """Whether a node waits for its review."""
        return self._nodes[name].is_held

    def task_id(self, name: str) -> str:
        """The id of a node's latest revision."""
        return self._nodes[name].task_id

    def outcome(self, name: str) -> TaskOutcome | None:
        """How the last revision of a node that was settled ended."""
        return self._nodes[name].outcome

    def outputs(self) -> dict[str, Value]:
        """Outputs of the nodes that are done, by name, in the plan's order."""
        return {
            name: node.outcome.output
            for name, node in self._nodes.items()
            if node.state == "done" and node.outcome and node.outcome.output is not None
        }

    def failures(self) -> dict[str, Failure]:
        """What is wrong with the nodes that have no output, by name; skipped ones have nothing wrong with them."""
        return {
            name: node.outcome.failure
            for name, node in self._nodes.items()
            if node.state in ("failed", "stopped", "cancelled") and node.outcome and node.outcome.failure
        }

    def final(self) -> tuple[str, ...]:
        """Nodes that none depends on."""
        return tuple(name for name, dependents in self._dependents.items() if not dependents)

    def layers(self, of: str | None = None) -> tuple[str, ...]:
        """The product: the files of all nodes, to be laid over each other in this order, that of their settlement; or
        those of one node, with what it stands on.
        """
        return self._ordered(self._nodes if of is None else {of, *self._behind(self._nodes[of])})

    def owners(self) -> dict[str, str]:
        """Whose each of these layers is."""
        return {ref: name for name, node in self._nodes.items() for _, ref in node.chain}

    def behind(self, names: Iterable[str]) -> list[str]:
        """These, and all that would be done again with them, in the plan's order."""
        return self._reached(names, mends=False)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _count(self, node: _Node) -> None:
        node.missing = {name for name in node.spec.depends_on if not self._nodes[name].is_over}

    def _may_retry(self, node: _Node, failure: Failure) -> bool:
        return node.state == "failed" and node.failed < node.spec.retries and not is_hopeless(failure)

    def _lacks(self, node: _Node, state: State, why: str) -> None:
        """A node has no output that counts, and the engine knows nothing of it."""
        run_id = "" if node.outcome is None else node.outcome.run_id
        failure = Failure(task_id=node.task_id, run_id=run_id, fence=0, outcome="failed", error=why, retryable=False)
        is_dead = node.outcome is not None and node.outcome.status == "dead" and node.outcome.task_id == node.task_id
        node.state, node.is_held, node.is_refused = state, False, True
        node.outcome = TaskOutcome(
            run_id=run_id, task_id=node.task_id, status="dead" if is_dead else "failed", failure=failure
        )
        self.open.discard(node.spec.id)

    def _stop_behind(self, node: _Node, reason: str) -> list[PlanEffect]:
        """Stop what cannot do without a node that the engine knows nothing of."""
        stopped, todo = [], [node]
        while todo:
            for each in map(self._nodes.__getitem__, self._dependents[todo.pop().spec.id]):
                if each.state == "waiting" and each.spec.quorum is None:
                    self._lacks(each, "stopped", reason)
                    stopped.append(each.task_id)
                    todo.append(each)
        return [Emit(TasksCancelled(task_ids=tuple(stopped), reason=reason))] if stopped else []

    def _lay(self, node: _Node, ref: str) -> None:
        if not node.mends:
            node.chain = []
        if ref:
            self._layers += 1
            node.chain = [*node.chain, (self._layers, ref)]

    def _ordered(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(ref for _, ref in sorted(layer for name in names for layer in self._nodes[name].chain))

    def _behind(self, node: _Node) -> set[str]:
        """All that it depends on, near and far."""
        found: set[str] = set()
        todo = list(node.spec.depends_on)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self._nodes[name].spec.depends_on
        return found

    def _reached(self, names: Iterable[str], *, mends: bool) -> list[str]:
        """The nodes to be done again with these: what was stopped for want of them, and what used their outputs."""
        reached = dict.fromkeys(names)
        todo = list(reached)
        while todo:
            node = self._nodes[todo.pop()]
            stands = mends and bool(node.chain)
            for name in self._dependents[node.spec.id]:
                state = self._nodes[name].state
                if name in reached or state in ("waiting", "cancelled") or self._is_kept_back(name, reached):
                    continue
                if state in ("stopped", "skipped") or not stands:
                    reached[name] = None
                    todo.append(name)
        return [name for name in self._nodes if name in reached]

    def _is_kept_back(self, name: str, reached: Container[str]) -> bool:
        """Whether a node that was stopped still lacks something that it cannot go on without."""
        spec = self._nodes[name].spec
        lacking = (each for each in spec.depends_on if self._nodes[each].state in ("failed", "stopped", "cancelled"))
        return self._nodes[name].state == "stopped" and spec.quorum is None and any(x not in reached for x in lacking)

    def _spread(self, node: _Node) -> list[PlanEffect]:
        """It is over: those behind it that have waited for nothing else may go on, or never can."""
        name = node.spec.id
        self.open.discard(name)
        dependents = self._dependents[name]
        for each in dependents:
            self._nodes[each].missing.discard(name)
        return self._give(dependents, say=False)

    def _give(self, names: Iterable[str], *, say: bool = True) -> list[PlanEffect]:
        """Hand to the engine what is due, and put on record what still waits."""
        due: list[_Node] = []
        waiting: list[_Node] = []
        for name in names:
            node = self._nodes[name]
            if node.state == "waiting":
                (due if self._is_due(node) else waiting).append(node)
        effects: list[PlanEffect] = []
        if waiting and say:
            effects.append(Emit(TasksWaiting(tasks=tuple(task_line(self._task(node)) for node in waiting))))
        if due:
            effects.append(Add(tuple(map(self._begun, due))))
        return effects

    def _is_due(self, node: _Node) -> bool:
        if not node.missing:
            return True
        others = map(self._nodes.__getitem__, node.spec.depends_on)
        return node.spec.quorum is None and any(other.is_over and other.state != "done" for other in others)

    def _begun(self, node: _Node) -> Node:
        task = self._task(node)
        node.state = "running"
        known = set(node.spec.depends_on) - node.missing  # the engine does not know the others; it needs none of them
        if node.missing:
            known_ids = tuple(self._nodes[name].task_id for name in node.spec.depends_on if name in known)
            task = msgspec.structs.replace(task, depends_on=known_ids)
        when = tuple(
            msgspec.structs.replace(each, task_id=self._nodes[each.task_id].task_id)
            for each in node.spec.when
            if each.task_id in known
        )
        return Node(task=task, binds=True, quorum=node.spec.quorum, when=when)

    def _task(self, node: _Node) -> TaskSpec:
        spec = node.spec
        is_due = not node.missing
        layers: tuple[str, ...] = ()
        if is_due and self._layers:
            layers = self.layers() if node.mends else self._ordered(self._behind(node))
        call = msgspec.structs.replace(spec.call, feedback=node.feedback, layers=layers, verdicts=self.verdicts)
        others = [other for name in spec.depends_on if not (other := self._nodes[name]).is_refused]
        return TaskSpec(
            task_id=node.task_id,
            kind=spec.kind,
            lane=spec.lane,
            entry=spec.entry,
            payload=Value("json", msgspec.json.encode(call)),
            depends_on=tuple(other.task_id for other in others),
            priority=spec.priority,
            time_limit_s=spec.time_limit_s,
            beat_within_s=spec.beat_within_s,
        )


def failure_feedback(failure: Failure) -> Feedback:
    """What the next attempt is told of one that failed: its error, and the end of what it wrote to stderr."""
    text = failure.error + (f"\n{failure.stderr_tail.rstrip()}" if failure.stderr_tail.strip() else "")
    return Feedback("failure", text, failure.task_id)


def is_hopeless(failure: Failure) -> bool:
    """Tell whether another attempt would fail as well: no model to be asked, or no budget."""
    return ends_run(failure.error) or failure.error.startswith(BudgetExhausted.PREFIX)


def _state_of(outcome: TaskOutcome) -> State:
    if outcome.status == "completed":
        return "done"
    error = "" if outcome.failure is None else outcome.failure.error
    if outcome.status == "cancelled":
        return "skipped" if error.startswith("skipped") else "cancelled"
    return "stopped" if outcome.failure is not None and outcome.failure.outcome == "cancelled" else "failed"
