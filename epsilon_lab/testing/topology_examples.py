"""A small piece of work in each topology's shape, and what must come of it whoever does it; see topology_contract.py.

A topology of one's own is held to the contract by an `Example` of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from epsilon_lab.agents.agent import Agent
from epsilon_lab.agents.command import Command
from epsilon_lab.agents.llm import LLM
from epsilon_lab.search.problem import Problem
from epsilon_lab.testing import steps
from epsilon_lab.topologies.dag import Dag
from epsilon_lab.topologies.map_reduce import MapReduce
from epsilon_lab.topologies.pipeline import Pipeline
from epsilon_lab.topologies.plan import Topology
from epsilon_lab.topologies.population_search import PopulationSearch
from epsilon_lab.topologies.sharded_queue import ShardedQueue
from epsilon_lab.topologies.supervisor import Supervisor
from epsilon_lab.topologies.tree import Tree
from epsilon_lab.topologies.work_queue import WorkQueue


@dataclass(frozen=True)
class Hand:
    """Who does the steps."""

    step: Any
    propose: Any

    def node(self, name: str, *after: str) -> dict[str, Any]:
        """A node of a plan."""
        return {"id": name, "task": self.stage(name)["task"], "depends_on": list(after)}

    def stage(self, name: str) -> dict[str, Any]:
        """A stage of a pipeline."""
        return {"id": name, "task": self.step if self.agent is None else f"Make {name}."}

    @property
    def agent(self) -> Any:
        """Who is told in words what to do; None for a function."""
        return None if callable(self.step) else self.step


def by_functions(orders: Path) -> Hand:
    """Functions, which do what files in a directory say; see steps.py."""
    return Hand(partial(steps.step, orders), partial(steps.propose, orders))


def by_agents(url: str) -> Hand:
    """Agents of a `ModelServer` that plays `steps.play`."""
    model = LLM("http/steps", api_base=url, timeout_s=30.0)
    words = {"type": "array", "items": {"type": "string"}}
    return Hand(Agent(model, schema=words), Agent(model))


def by_programs() -> Hand:
    """A program of its own for each step."""
    program = Command([sys.executable, "-m", steps.__name__])
    return Hand(program, program)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A topology with work to do."""

    topology: str
    make: Callable[[Hand], Topology]
    kind: str
    """Of the tasks that do the steps."""

    tasks: Mapping[str, Sequence[str]]
    """All its tasks, and what each depends on."""

    results: Sequence[Any]
    output: Any
    leaf: str
    """The step that things happen to."""

    read: Callable[[Any], Any] = lambda output: output
    """What of the output is the same each time."""

    spared: Sequence[str] = ()
    """Tasks that are given up when that step fails for good, though they do not depend on it."""

    retries: bool = True
    """Whether a step that failed is tried again, once."""

    takes_up: bool = True
    """Whether tasks can be done again once they are settled: revisions, dead letters."""

    def behind(self, task_id: str) -> set[str]:
        """The tasks that depend on one, directly or not."""
        found: set[str] = set()
        for name, after in self.tasks.items():  # in the order of the plan
            if task_id in after or found.intersection(after):
                found.add(name)
        return found


ITEMS = [f"Make {name}." for name in ("one", "two", "three", "four")]
_WORDS = [["one"], ["two"], ["three"], ["four"]]
_ALL = ["four", "one", "three", "two"]
_ITEMS: dict[str, Sequence[str]] = {f"item-{place:06d}": () for place in range(4)}
_DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
_TEAMS = {
    "repository": (),
    "x.branch": ("repository",),
    "y.branch": ("repository",),
    "x.a": ("x.branch",),
    "x.b": ("x.a",),
    "x.commit": ("x.branch", "x.b"),
    "y.c": ("y.branch",),
    "y.commit": ("y.branch", "y.c"),
    "x.merge": ("repository", "x.commit"),
    "y.merge": ("x.merge", "y.commit"),
}
_PROGRAMS = ("g000-c000", "g000-c001", "g000-c002", "g001-c000", "g001-c001")
_SEARCH = [
    "evaluate-seed",
    *(f"{what}-{name}" for name in _PROGRAMS for what in ("propose", "evaluate")),
    "brief-g000",
    "brief-g001",
]
_GREW = [["a"], ["a", "b"], ["a", "c"], ["a", "b", "c", "d"]]


def _plan(hand: Hand) -> list[dict[str, Any]]:
    return [hand.node(name, *after) for name, after in _DIAMOND.items()]


def _teams(hand: Hand) -> list[dict[str, Any]]:
    return [{"id": "x", "plan": [hand.node("a"), hand.node("b", "a")]}, {"id": "y", "plan": [hand.node("c")]}]


def _search(hand: Hand) -> PopulationSearch:
    problem = Problem("number", "Return a large number.", "def solve():\n    return 1\n", score=float)
    return PopulationSearch(
        problem, hand.propose, population=3, generations=2, elites=1, diverse=1, fresh=1, patience=None
    )


EXAMPLES = {
    example.topology: example
    for example in (
        Example(
            topology="work_queue",
            make=lambda hand: WorkQueue(ITEMS, hand.step, retries=1),
            kind="item",
            tasks=_ITEMS,
            results=_WORDS,
            output=_WORDS,
            leaf="item-000001",
        ),
        Example(
            topology="sharded_queue",
            make=lambda hand: ShardedQueue(ITEMS, hand.step, shards=2, reduce=hand.step, retries=1),
            kind="item",
            tasks={**_ITEMS, "reduce-shard-000": (), "reduce-shard-001": (), "reduce-final": ()},
            results=_WORDS,
            output=_ALL,
            leaf="item-000001",
        ),
        Example(
            topology="map_reduce",
            make=lambda hand: MapReduce(ITEMS, hand.step, hand.step, arity=2, retries=1),
            kind="item",
            tasks={**_ITEMS, "reduce-l01-n0000": (), "reduce-l01-n0001": (), "reduce-l02-n0000": ()},
            results=_WORDS,
            output=_ALL,
            leaf="item-000001",
        ),
        Example(
            topology="dag",
            make=lambda hand: Dag(_plan(hand), agent=hand.agent, retries=1),
            kind="node",
            tasks=_DIAMOND,
            results=_GREW,
            output={"d": _GREW[-1]},
            leaf="b",
        ),
        Example(
            topology="supervisor",
            make=lambda hand: Supervisor(_plan(hand), agent=hand.agent, retries=1),
            kind="node",
            tasks=_DIAMOND,
            results=_GREW,
            output={"d": _GREW[-1]},
            leaf="b",
        ),
        Example(
            topology="tree",
            make=lambda hand: Tree(_teams(hand), agent=hand.agent, retries=1),
            kind="node",
            tasks=_TEAMS,
            results=[["a"], ["a", "b"], ["c"]],
            output=["x", "y"],
            leaf="x.b",
            read=lambda output: sorted(output["teams"]),
        ),
        Example(
            topology="pipeline",
            make=lambda hand: Pipeline(
                [hand.stage(name) for name in "abc"], input="Make ready.", agent=hand.agent, retries=1
            ),
            kind="stage",
            tasks={"a": (), "b": ("a",), "c": ("a", "b")},
            results=[["a", "ready"], ["a", "b", "ready"], ["a", "b", "c", "ready"]],
            output=["a", "b", "c", "ready"],
            leaf="b",
        ),
        Example(
            topology="population_search",
            make=_search,
            kind="propose",
            tasks=dict.fromkeys(_SEARCH, ()),
            results=[],
            output=13.0,
            leaf="propose-g000-c001",
            spared=["evaluate-g000-c001"],
            read=lambda output: output["score"],
            retries=False,
            takes_up=False,
        ),
    )
}
