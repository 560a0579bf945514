"""Every topology by its name in a journal, because a run that is resumed names its rules and nothing else can."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from epsilon_lab.agents.work import validate_saved
from epsilon_lab.errors import LabError
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import RunStarted
from epsilon_lab.topologies.plan import Plan
from epsilon_lab.topologies.population_search import PopulationSearch
from epsilon_lab.topologies.work_queue import WorkQueue
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory

_RESTORE: dict[str, Callable[[RunDirectory, Sequence[Record]], Plan]] = {
    PopulationSearch.topology: PopulationSearch.restore,
    WorkQueue.topology: WorkQueue.restore,
}


def restore(run: RunDirectory, started: RunStarted, records: Sequence[Record]) -> Plan:
    """Make the rules of a run again, as they were when it began. Unpickles nothing.

    Raises:
        LabError: This version has no such topology, or the run directory lacks what its rules are made from.
    """
    restore_plan = _RESTORE.get(started.topology)
    if restore_plan is None:
        raise LabError(
            f"run {run.run_id} is a {started.topology!r}, which this version of epsilon_lab does not know; "
            f"resume it with the version that started it"
        )
    return restore_plan(run, records)


def validate_models(run: RunDirectory, plan: Plan, budget: Budget | None) -> None:
    """Refuse to go on with a run whose model cannot be called: each request would fail, and the run with them.

    Unpickles the models.

    Raises:
        InvalidInput: A key is missing, a model's name is not one, or its price is unknown.
        LabError: A model cannot be unpickled.
    """
    for ref in plan.models:
        validate_saved(run, ref, budget)
