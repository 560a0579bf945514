"""Every topology by its name in a journal, because a run that is resumed names its rules and nothing else can.

A topology has a module of its name, and in it a class of its name: `map_reduce` is `map_reduce.MapReduce`. It is loaded
when a run needs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

from epsilon_lab.agents.work import is_function, validate_saved
from epsilon_lab.errors import LabError
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import RunStarted
from epsilon_lab.topologies.plan import Plan, Topology
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory

TOPOLOGIES = (
    "dag",
    "map_reduce",
    "pipeline",
    "population_search",
    "sharded_queue",
    "supervisor",
    "tree",
    "work_queue",
)

_SECOND = ("adjudication", "rescoring")
"""What a run has behind it: made by `run.adjudicate` and `run.rescore`, of its cases and its candidates."""


def topology_of(name: str) -> type[Topology] | None:
    """Load a topology by its name; None where there is none of this name."""
    module = f"{__package__}.{name}"
    if name not in (*TOPOLOGIES, *_SECOND) or importlib.util.find_spec(module) is None:
        return None
    found: type[Topology] = getattr(importlib.import_module(module), name.title().replace("_", ""))
    return found


def restore(run: RunDirectory, started: RunStarted, records: Sequence[Record]) -> Plan:
    """Make the rules of a run again, as they were when it began. Unpickles nothing.

    Raises:
        LabError: This version has no such topology, or the run directory lacks what its rules are made from.
    """
    topology = topology_of(started.topology)
    if topology is None:
        raise LabError(
            f"run {run.run_id} is a {started.topology!r}, which this version of epsilon_lab does not know; "
            f"resume it with the version that started it"
        )
    return topology.restore(run, records)


def validate_models(run: RunDirectory, plan: Plan, budget: Budget | None) -> None:
    """Refuse to go on with a run whose model cannot be called: each request would fail, and the run with them.

    Unpickles what may be a model: an `LLM`, or what performs a task and says beforehand whether it can.

    Raises:
        InvalidInput: A key is missing, a model's name is not one, or its price is unknown.
        LabError: A model cannot be unpickled.
    """
    for ref in plan.models:
        validate_saved(run, ref, budget)


def refuse_askers(run: RunDirectory, again: Mapping[str, str]) -> None:
    """Refuse to have done again, without a word to whoever does it, what asks a model or a person. Unpickles it.

    Args:
        run: The run.
        again: The SHA-256 of who does it, by task; empty for a person.

    Raises:
        LabError: Naming the first such task.
    """
    asks = {code: not code or not is_function(run, code) for code in set(again.values())}
    if name := next((name for name, code in again.items() if asks[code]), ""):
        who = "a person is asked there" if not again[name] else "it is no function: a model, an agent or a program"
        raise LabError(
            f"run {run.run_id} cannot be finalised: {name} would be done again, and {who}. Nothing was changed; "
            f"run.finalize(ask=True) has it done again all the same"
        )
