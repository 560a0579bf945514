"""What a run's tasks come to: nodes of a graph, stages of a list, or levels of many; and what went wrong in them.

A node may be done more than once: each further go is a task of its own, `api~2`, and the last one speaks for the node.
What failed has a story: the error, what had been tried, and what could not begin because of it. Tasks that merely
waited for it are not failures of their own; they are what it blocked. All of it is worked out from rows, so live and
past runs look the same, and so does a copy of a run's directory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from epsilon_lab.ids import origin, revised, revision

SETTLED = ("completed", "failed", "dead", "cancelled", "blocked", "skipped", "rejected")
"""States that a node stays in unless someone has it done again."""

FAILED = ("failed", "dead")

_WITHOUT_OUTPUT = (*FAILED, "cancelled")

INNER = ("qa", "review", "decompose", "assign")
"""Kinds of tasks that are about the work and are not the work."""

_SHOWN_STORIES = 8


class TaskRow(NamedTuple):
    """A task as the tables tell of it."""

    task_id: str
    kind: str
    status: str
    attempts: int
    depends_on: tuple[str, ...] = ()
    started_at: float | None = None
    finished_at: float | None = None
    error: str = ""


@dataclass(frozen=True)
class Node:
    """A unit of work that has a name."""

    node_id: str
    kind: str
    state: str
    """A task's status; or `blocked` by a failure before it, `skipped` by its condition, `asked` of a person."""

    depends_on: tuple[str, ...] = ()
    revision: int = 1
    """Which go at it is the last one, counted from 1."""

    attempts: int = 0
    """Of that revision."""

    started_at: float | None = None
    finished_at: float | None = None
    note: str = ""
    """Its error or verdict, one line; empty for none."""

    def seconds(self, now: float) -> float | None:
        """How long its last attempt took, or has taken by `now`; None while it has not begun."""
        if self.started_at is None or (self.state not in SETTLED and self.state != "running"):
            return None
        until = now if self.state == "running" else self.finished_at
        return None if until is None else max(0.0, until - self.started_at)

    @property
    def is_done(self) -> bool:
        """Whether it is over as it should be."""
        return self.state in ("completed", "skipped")

    @property
    def is_settled(self) -> bool:
        """Whether it is over."""
        return self.state in SETTLED


@dataclass(frozen=True)
class Level:
    """Many tasks that are alike."""

    name: str
    states: Mapping[str, int]
    """State -> how many."""

    started_at: float | None = None
    finished_at: float | None = None

    @property
    def size(self) -> int:
        """How many there are."""
        return sum(self.states.values())


@dataclass(frozen=True)
class Review:
    """A wave of quality assurance."""

    wave: int
    """Counted from 1."""

    verdict: str
    """`pass` or `fail`; the task's status where it has said neither."""

    summary: str = ""
    errors: tuple[tuple[str, str], ...] = ()
    """(whose it is, what it is), as far as it was said."""


class LastWords(NamedTuple):
    """What an attempt left behind that failed."""

    traceback: str = ""
    stderr: str = ""


NO_WORDS = LastWords()


@dataclass(frozen=True)
class Story:
    """How a task came to nothing."""

    task_id: str
    state: str
    error: str
    attempts: int
    feedback: tuple[str, ...] = ()
    """What it was told between one go and the next, in order."""

    last_words: LastWords = NO_WORDS
    blocked: tuple[str, ...] = ()
    """What could not begin because of it."""


@dataclass(frozen=True)
class Question:
    """Something that a person is asked, and that the run waits for."""

    case_id: str
    question: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gate:
    """A gate at which a person decides."""

    behind: str
    """The node it judges."""

    is_open: bool
    verdict: str = ""
    decider: str = ""
    note: str = ""

    @property
    def told(self) -> str:
        """What was decided, one line; empty while nothing was."""
        by, note = f" by {self.decider}" if self.decider else "", f": {self.note}" if self.note else ""
        return f"{self.verdict}{by}{note}" if self.verdict else ""


class Judgement(NamedTuple):
    """What a gate, a supervisor or a person last said of a node."""

    passed: bool
    told: str
    """One line."""


@dataclass(frozen=True)
class Workflow:
    """The work of a run: nodes by name where they have names, else levels."""

    nodes: tuple[Node, ...] = ()
    is_list: bool = False
    """Whether the nodes follow one upon the other, and are best read from top to bottom."""

    levels: tuple[Level, ...] = ()
    reviews: tuple[Review, ...] = ()
    stories: tuple[Story, ...] = ()
    failed: int = 0
    """How many failed; more than there are stories of, perhaps."""

    questions: tuple[Question, ...] = ()
    flagged: int = 0
    """How many cases are open that the run does not wait for."""

    at: float = field(default=0.0, compare=False)
    """Wall seconds at which this was so."""


def nodes_of(rows: Iterable[TaskRow]) -> tuple[Node, ...]:
    """Tell the nodes that these tasks are goes at, in the order in which each was first heard of."""
    latest: dict[str, TaskRow] = {}
    for row in rows:
        name = origin(row.task_id)
        if name not in latest or revision(row.task_id) > revision(latest[name].task_id):
            latest[name] = row
    work = {name: row for name, row in latest.items() if row.kind not in INNER}
    if not work:  # nothing is known yet but that it is being planned
        work = {name: row for name, row in latest.items() if row.kind == "decompose"}
    behind = {
        name: tuple(other for other in dict.fromkeys(map(origin, row.depends_on)) if other in work)
        for name, row in work.items()
    }
    without = {name for name, row in work.items() if row.status in _WITHOUT_OUTPUT}
    return tuple(
        Node(
            name,
            row.kind,
            _state(row, is_behind_failure=not without.isdisjoint(behind[name])) if name in without else row.status,
            behind[name],
            revision(row.task_id),
            row.attempts,
            row.started_at,
            row.finished_at,
            row.error,
        )
        for name, row in work.items()
    )


def _state(row: TaskRow, *, is_behind_failure: bool) -> str:
    if row.status == "cancelled" and row.error.startswith("skipped"):
        return "skipped"
    return "blocked" if is_behind_failure and not row.attempts else row.status


def stories_of(
    nodes: Sequence[Node],
    *,
    feedback: Mapping[str, Sequence[str]],
    last_words: Callable[[Sequence[str]], Mapping[str, LastWords]],
) -> tuple[Story, ...]:
    """Tell how nodes failed, the first ones first.

    Args:
        nodes: All of them.
        feedback: What each was told between its goes, by node.
        last_words: Reads what the last attempts of tasks left behind, by task id.
    """
    broken = [node for node in nodes if node.state in FAILED][:_SHOWN_STORIES]
    if not broken:
        return ()
    dependents: dict[str, list[str]] = {}
    for node in nodes:
        if node.state in ("blocked", "skipped"):
            for name in node.depends_on:
                dependents.setdefault(name, []).append(node.node_id)
    tasks = {
        node.node_id: revised(node.node_id, node.revision) if node.revision > 1 else node.node_id for node in broken
    }
    words = last_words(tuple(tasks.values()))
    return tuple(
        Story(
            task_id=tasks[node.node_id],
            state=node.state,
            error=node.note,
            attempts=node.attempts,
            feedback=tuple(feedback.get(node.node_id, ())),
            last_words=words.get(tasks[node.node_id], NO_WORDS),
            blocked=_behind(node.node_id, dependents),
        )
        for node in broken
    )


def _behind(name: str, dependents: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    pending = [name]
    while pending:
        for other in dependents.get(pending.pop(), ()):
            if other not in found:
                found[other] = None
                pending.append(other)
    return tuple(found)


def layers(nodes: Sequence[Node]) -> list[list[Node]]:
    """Put nodes into layers: each behind all that it depends on, as near to the front as that allows.

    Nodes that wait for each other in a circle, which only a damaged journal can say, come last.
    """
    known = {node.node_id: node for node in nodes}
    missing = {node.node_id: {name for name in node.depends_on if name in known} for node in nodes}
    dependents: dict[str, list[str]] = {}
    for name, others in missing.items():
        for other in others:
            dependents.setdefault(other, []).append(name)
    found: list[list[Node]] = []
    ready = [name for name, others in missing.items() if not others]
    placed: set[str] = set()
    while ready:
        found.append([known[name] for name in ready])
        placed.update(ready)
        behind: dict[str, None] = {}
        for name in ready:
            for other in dependents.get(name, ()):
                missing[other].discard(name)
                if not missing[other]:
                    behind[other] = None
        ready = list(behind)
    circle = [node for node in nodes if node.node_id not in placed]
    return [*found, circle] if circle else found


def folded(nodes: Sequence[Node]) -> tuple[Level, ...]:
    """Many nodes as few levels: a team each where they belong to teams, else a layer each."""
    teams = Counter(node.node_id.partition(".")[0] for node in nodes if "." in node.node_id)
    if teams and sum(teams.values()) > len(nodes) / 2:
        groups: dict[str, list[Node]] = {}
        for node in nodes:
            groups.setdefault(node.node_id.partition(".")[0], []).append(node)
        return tuple(_level(name, group) for name, group in groups.items())
    return tuple(_level(f"layer {place}", layer) for place, layer in enumerate(layers(nodes), 1))


def _level(name: str, nodes: Sequence[Node]) -> Level:
    started = [node.started_at for node in nodes if node.started_at is not None]
    finished = [node.finished_at for node in nodes if node.finished_at is not None]
    return Level(
        name,
        Counter(node.state for node in nodes),
        min(started, default=None),
        max(finished, default=None) if len(finished) == len(nodes) else None,
    )


def with_gates(nodes: Sequence[Node], gates: Mapping[str, Gate]) -> tuple[Node, ...]:
    """Put in the gates that are no tasks: a person's."""
    known = {node.node_id for node in nodes}
    people = [
        Node(name, "gate", "asked" if gate.is_open else "completed", (gate.behind,), note=gate.told)
        for name, gate in gates.items()
        if name not in known
    ]
    return (*nodes, *people)


def judged(nodes: Sequence[Node], judgements: Mapping[str, Judgement]) -> tuple[Node, ...]:
    """Say at each gate, and at each node that has none, what was last said of it."""
    gated = {name for node in nodes if node.kind == "gate" for name in node.depends_on}

    def with_judgement(node: Node) -> Node:
        if node.kind == "gate":
            said = next((judgements[name] for name in node.depends_on if name in judgements), None)
            if said is not None and node.state == "completed":
                return replace(node, state="completed" if said.passed else "rejected", note=node.note or said.told)
            return node
        said = judgements.get(node.node_id)
        if said is None or node.node_id in gated or node.note or not node.is_settled:
            return node
        return replace(node, note=said.told)

    return tuple(map(with_judgement, nodes))


def in_order(nodes: Sequence[Node]) -> list[Node]:
    """Nodes that follow one upon the other, a gate right behind what it judges."""
    return [node for layer in layers(nodes) for node in sorted(layer, key=lambda node: node.kind != "gate")]
