"""epsilon_lab: population search and structured agent workloads, in a notebook.

    from epsilon_lab import Lab, PopulationSearch, problems

    lab = Lab("runs")
    run = lab.start(PopulationSearch(problems.cap_set(n=4)))
    run.wait()
    run.best.score, run.candidates

The rooms, top to bottom; each imports only rooms below it:

    testing | __main__          the kit that ships; the few commands
    magics                      %load_ext epsilon_lab: cells of SQL
    lab · history · searches · runs   the composition root, and the handles a user holds
    artifacts                   a run's files, to be found, read and looked at
    packs                       settings of a piece of work, from manifests and the environment
    views | problems            figures and panels; ready-made problems
    hosts                       where a lab's work is done
    topologies                  plans over one engine
    search | workers            population search; who executes
    broker | agents | cases     who runs what; who thinks; who decides
    reducers | transport | workspace | processes   folds; bytes, disk, child processes
    messages                    values that cross a boundary
    arguments · clock · dice · formats · ids · settings · errors

Names are loaded on first use, so that the import costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import epsilon_lab.problems as problems
    import epsilon_lab.reducers as reducers
    from epsilon_lab.agents import tools as tools
    from epsilon_lab.agents.agent import Agent as Agent
    from epsilon_lab.agents.command import Command as Command
    from epsilon_lab.agents.llm import LLM as LLM
    from epsilon_lab.errors import Cheat as Cheat
    from epsilon_lab.errors import LabError as LabError
    from epsilon_lab.lab import Lab as Lab
    from epsilon_lab.messages.budget import Budget as Budget
    from epsilon_lab.messages.deciders import Decider as Decider
    from epsilon_lab.messages.tasks import Retry as Retry
    from epsilon_lab.packs import Settings as Settings
    from epsilon_lab.runs import Run as Run
    from epsilon_lab.search.problem import Problem as Problem
    from epsilon_lab.search.replay import Replay as Replay
    from epsilon_lab.searches import SearchRun as SearchRun
    from epsilon_lab.topologies.auto import Auto as Auto
    from epsilon_lab.topologies.dag import Dag as Dag
    from epsilon_lab.topologies.gates import Person as Person
    from epsilon_lab.topologies.map_reduce import MapReduce as MapReduce
    from epsilon_lab.topologies.pipeline import Pipeline as Pipeline
    from epsilon_lab.topologies.population_search import PopulationSearch as PopulationSearch
    from epsilon_lab.topologies.sharded_queue import ShardedQueue as ShardedQueue
    from epsilon_lab.topologies.supervisor import Supervisor as Supervisor
    from epsilon_lab.topologies.tree import Tree as Tree
    from epsilon_lab.topologies.work_queue import WorkQueue as WorkQueue
    from epsilon_lab.workers.current import current_task as current_task

__version__ = "0.1.0"

_HOMES = {
    "Command": "epsilon_lab.agents.command",
    "Agent": "epsilon_lab.agents.agent",
    "Auto": "epsilon_lab.topologies.auto",
    "Budget": "epsilon_lab.messages.budget",
    "Cheat": "epsilon_lab.errors",
    "Dag": "epsilon_lab.topologies.dag",
    "Decider": "epsilon_lab.messages.deciders",
    "LLM": "epsilon_lab.agents.llm",
    "Lab": "epsilon_lab.lab",
    "LabError": "epsilon_lab.errors",
    "MapReduce": "epsilon_lab.topologies.map_reduce",
    "Person": "epsilon_lab.topologies.gates",
    "Pipeline": "epsilon_lab.topologies.pipeline",
    "PopulationSearch": "epsilon_lab.topologies.population_search",
    "Problem": "epsilon_lab.search.problem",
    "Replay": "epsilon_lab.search.replay",
    "Retry": "epsilon_lab.messages.tasks",
    "Run": "epsilon_lab.runs",
    "SearchRun": "epsilon_lab.searches",
    "Settings": "epsilon_lab.packs",
    "ShardedQueue": "epsilon_lab.topologies.sharded_queue",
    "Supervisor": "epsilon_lab.topologies.supervisor",
    "Tree": "epsilon_lab.topologies.tree",
    "WorkQueue": "epsilon_lab.topologies.work_queue",
    "current_task": "epsilon_lab.workers.current",
    "problems": "epsilon_lab.problems",
    "reducers": "epsilon_lab.reducers",
    "tools": "epsilon_lab.agents.tools",
}

__all__ = [
    "LLM",
    "Agent",
    "Auto",
    "Budget",
    "Cheat",
    "Command",
    "Dag",
    "Decider",
    "Lab",
    "LabError",
    "MapReduce",
    "Person",
    "Pipeline",
    "PopulationSearch",
    "Problem",
    "Replay",
    "Retry",
    "Run",
    "SearchRun",
    "Settings",
    "ShardedQueue",
    "Supervisor",
    "Tree",
    "WorkQueue",
    "__version__",
    "current_task",
    "problems",
    "reducers",
    "tools",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(home)
    value = module if home.endswith(f".{name}") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """Give a notebook `%%labsql`: `%load_ext epsilon_lab`, as IPython calls it."""
    importlib.import_module("epsilon_lab.magics").load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take it back: `%unload_ext epsilon_lab`."""
    importlib.import_module("epsilon_lab.magics").unload(shell)
