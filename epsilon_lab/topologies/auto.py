"""Which topology fits: a rule that looks at what it is given, asks no model, and says why.

It is there for who asks for it and for nobody else: a run's topology decides what it costs and what it can survive, so
a user who knows which one is wanted names it. What was picked, and why, is on record with the run.

What a sentence says is judged by whole words, as Epsilon's `auto` does by parts of them (its orchestrate.py: words for
queues, recovery, teams and stages, else a dag). A queue needs items, which a sentence does not name, so that becomes a
dag, where a model names the pieces and what depends on what.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING, Any, NamedTuple

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import Body
from epsilon_lab.search.problem import Problem
from epsilon_lab.topologies.catalogue import topology_of
from epsilon_lab.topologies.plan import Plan, Topology
from epsilon_lab.workspace.layout import RunDirectory

if TYPE_CHECKING:
    from epsilon_lab.workspace.journal import Record

MANY = 10_000
"""Items from which on they are kept in shards on the disk."""

_RECOVERY = ("reassign", "adaptive", "supervise", "recover", "retry", "uncertain")
_TEAMS = ("teams", "multi-team", "full-stack", "subsystems")
_PARTS = ("frontend", "backend", "mobile", "api", "database", "integration", "admin")
_PARTS_OF_TEAMS = 4
_STAGES = ("pipeline", "etl", "extract", "transform", "load", "staged", "sequential", "ingest")
_QUEUES = ("queue", "items", "each", "every", "batch")


class Choice(NamedTuple):
    """A topology, and why it fits."""

    topology: str
    reason: str


def choose(
    *,
    items: int | None = None,
    has_items: bool = False,
    has_reduce: bool = False,
    is_problem: bool = False,
    has_plan: bool = False,
    is_reviewed: bool = False,
    has_stages: bool = False,
    has_teams: bool = False,
    sentence: str = "",
) -> Choice:
    """Pick the topology for what is given; exactly one of the kinds of work is.

    Args:
        items: How many items there are; None where that is not known.
        has_items: Whether there are items.
        has_reduce: Whether their outputs are brought together.
        is_problem: Whether it is a problem with a scorer.
        has_plan: Whether there are nodes, with what depends on what.
        is_reviewed: Whether somebody reviews each node, or others may take it over.
        has_stages: Whether there are stages in their order.
        has_teams: Whether there are teams.
        sentence: What is to be done, in words.
    """
    if is_problem:
        return Choice("population_search", "a problem with a scorer is searched")
    if has_items:
        return _for_items(items, has_reduce=has_reduce)
    if has_stages:
        return Choice("pipeline", "stages are given in their order")
    if has_teams:
        return Choice("tree", "teams are given")
    if is_reviewed:
        return Choice("supervisor", "each node's end is reviewed, or others may take it over")
    if has_plan:
        return Choice("dag", "nodes are given, with what depends on what")
    return _for_sentence(sentence)


def _for_items(items: int | None, *, has_reduce: bool) -> Choice:
    if has_reduce:
        return Choice("map_reduce", "outputs of items are brought together")
    if items is None:
        return Choice("sharded_queue", "nobody knows how many items there are, so they are kept on the disk")
    if items > MANY:
        return Choice("sharded_queue", f"{items:,} items, more than {MANY:,}, are kept in shards on the disk")
    return Choice("work_queue", f"{items:,} items do not depend on each other")


def _for_sentence(sentence: str) -> Choice:
    words = set(re.findall(r"[a-z]+(?:-[a-z]+)*", sentence.lower()))

    def said(*known: str) -> str:
        return ", ".join(repr(word) for word in known if word in words)

    if found := said(*_RECOVERY):
        return Choice("supervisor", f"it says {found}: what fails is to be recovered")
    if found := said(*_TEAMS):
        return Choice("tree", f"it says {found}: parts are built apart and merged")
    if len(words & set(_PARTS)) >= _PARTS_OF_TEAMS:
        return Choice("tree", f"it names {said(*_PARTS)}: parts are built apart and merged")
    if found := said(*_STAGES):
        return Choice("pipeline", f"it says {found}: one stage follows the other")
    if found := said(*_QUEUES):
        return Choice("dag", f"it says {found}, and gives no items: a model names the pieces first")
    return Choice("dag", "nothing in it asks for another: pieces are done in the order of what depends on what")


class Auto:
    """The topology that fits what is given: `lab.start(Auto(task, items=rows))`.

    `.choice` has its name and the reason, `.chosen` is the topology itself; the reason is in the run's configuration,
    as `auto`.

    Args:
        work: A `Problem`; a sentence that says what is to be done, with `agent=`; or, with `items`, what is done with
            each of them.
        items: What to do it with: a queue, in shards from 10,000 on, or a reduction.
        reduce: Brings the outputs of items together.
        plan: Nodes with what depends on what, as of a `Dag`; of a `Supervisor`, with `review=` or `workers=`.
        stages: Stages in their order, as of a `Pipeline`.
        teams: Teams, as of a `Tree`.
        **more: Other arguments of the topology that is picked.

    Raises:
        InvalidInput: Nothing is given, or several kinds of work are; or the topology refuses its arguments.
    """

    def __init__(
        self,
        work: Any = None,
        *,
        items: Any = None,
        reduce: Any = None,
        plan: Any = None,
        stages: Any = None,
        teams: Any = None,
        **more: Any,
    ) -> None:
        kinds = {"items": items, "plan": plan, "stages": stages, "teams": teams}
        given = {name: value for name, value in kinds.items() if value is not None}
        if len(given) > 1 or (work is not None and given.keys() - {"items"}):
            told = ", ".join((["what to do"] if work is not None else []) + list(given))
            raise InvalidInput("Auto", f"is given {told}, which are different kinds of work", "give one")
        if reduce is not None and items is None:
            raise InvalidInput(
                "Auto reduce", "brings outputs of items together, and there are none", "give items=[...]"
            )
        sentence = work if isinstance(work, str) and items is None else ""
        if not given and not sentence.strip() and not isinstance(work, Problem):
            raise InvalidInput(
                "Auto",
                f"cannot tell what {work!r} is",
                "give a Problem, a sentence with agent=..., or items=, plan=, stages=, teams=",
            )
        self.choice = choose(
            items=len(items) if isinstance(items, Sized) else None,
            has_items=items is not None,
            has_reduce=reduce is not None,
            is_problem=isinstance(work, Problem),
            has_plan=plan is not None,
            is_reviewed=plan is not None and not more.keys().isdisjoint({"review", "workers"}),
            has_stages=stages is not None,
            has_teams=teams is not None,
            sentence=sentence,
        )
        topology: Any = topology_of(self.choice.topology)
        if items is not None:
            arguments: tuple[Any, ...] = (items, work) if reduce is None else (items, work, reduce)
        else:
            arguments = (next(iter(given.values()), work),)
        try:
            self.chosen: Topology = topology(*arguments, **more)
        except TypeError as error:
            raise InvalidInput(f"Auto, which picked {self.choice.topology}", str(error)) from error

    def __repr__(self) -> str:
        return f"<Auto {self.choice.topology}: {self.choice.reason}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def reason(self) -> str:
        """Why it was picked."""
        return self.choice.reason

    @property
    def topology(self) -> str:
        """The name of the one that was picked."""
        return self.chosen.topology

    @property
    def title(self) -> str:
        """Its title."""
        return self.chosen.title

    @property
    def seed(self) -> int | None:
        """Its seed."""
        return self.chosen.seed

    @property
    def parent_run_id(self) -> str | None:
        """The run that it belongs to."""
        return self.chosen.parent_run_id

    def config(self) -> dict[str, object]:
        """Its arguments, and why it was picked."""
        return {**self.chosen.config(), "auto": f"{self.choice.topology}: {self.choice.reason}"}

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse what can be known to fail before anything is spent."""
        self.chosen.validate(budget)

    def prepare(self, run: RunDirectory) -> tuple[Plan, Sequence[Body]]:
        """Write what its tasks need into the run directory."""
        return self.chosen.prepare(run)

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> Plan:  # noqa: ARG004
        """Refuse: a run names the topology that was picked for it, and that makes its rules again.

        Raises:
            LabError: Always.
        """
        raise LabError(f"run {run.run_id} names the topology that was picked for it, which makes its rules again")
