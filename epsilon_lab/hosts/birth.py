"""How a run comes to be: all that is asked of it is checked before anything is on disk, and a start that fails leaves
nothing there.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from epsilon_lab import ids
from epsilon_lab.errors import InvalidInput, SidecarLost, WorkspaceError
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import Body, RunStarted
from epsilon_lab.messages.values import is_text
from epsilon_lab.processes.environment import granted
from epsilon_lab.topologies.plan import Plan, Topology
from epsilon_lab.workspace.layout import RunDirectory


class Birth(NamedTuple):
    """A run whose directory is prepared, and that has yet to begin."""

    run: RunDirectory
    plan: Plan
    started: RunStarted
    events: Sequence[Body]


@contextmanager
def birth(
    workspace: Path,
    live: Mapping[str, str],
    topology: Topology,
    *,
    name: str | None,
    tags: Mapping[str, str] | None,
    budget: Budget | None,
    env: Sequence[str],
    now: float,
) -> Iterator[Birth]:
    """Prepare a run, which is begun inside: what fails there takes its directory away again.

    Args:
        workspace: Where its directory is made.
        live: Names of the live runs, by run_id.
        topology: What to run.
        name: Its name; None for the topology's own, or that with a number.
        tags: Words to find it by.
        budget: What it may spend.
        env: Names of environment variables that its tasks are granted.
        now: The time, seconds since the epoch.

    Raises:
        InvalidInput: An argument is wrong, a live run has that name, or a model could not be called.
        WorkspaceError: Its directory cannot be written.
    """
    for method in ("prepare", "validate", "config"):
        if not callable(getattr(topology, method, None)) or isinstance(topology, type):
            raise InvalidInput("topology", f"must be one such as PopulationSearch(...), got {topology!r}")
    if budget is not None and not isinstance(budget, Budget):
        raise InvalidInput("budget", f"must be a Budget or None, got {budget!r}", "for example Budget(calls=100)")
    if isinstance(env, str) or not (isinstance(env, Sequence) and all(map(is_text, env))):
        raise InvalidInput("env", f"must list names of environment variables, got {type(env).__name__}")
    granted(env)
    if tags is not None and not (
        isinstance(tags, Mapping) and all(is_text(word) for pair in tags.items() for word in pair)
    ):
        raise InvalidInput("tags", f"must map words to words, got {tags!r}")
    topology.validate(budget)
    title = _free_name(topology.title if name is None else name, live, given=name is not None)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    run = RunDirectory(workspace / ids.run_id(title, stamp=stamp, salt=secrets.token_hex(2)))
    try:
        run.path.mkdir()
        plan, events = topology.prepare(run)
        started = RunStarted(
            run_id=run.run_id,
            topology=topology.topology,
            name=title,
            tags=dict(tags or {}),
            seed=topology.seed,
            config=topology.config(),
            parent_run_id=topology.parent_run_id,
            budget=budget,
            env=tuple(dict.fromkeys(env)),
        )
        yield Birth(run, plan, started, events)
    except SidecarLost:  # which may have the run; its journal says
        raise
    except Exception as error:
        shutil.rmtree(run.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise WorkspaceError(f"run directory {run.path} cannot be written ({error.strerror})") from error
        raise


def _free_name(name: str, live: Mapping[str, str], *, given: bool) -> str:
    """A name that no live run has; one that was given is taken or refused."""
    if not is_text(name) or not name.strip() or "\0" in name:
        raise InvalidInput("name", f"must be a non-empty str, got {name!r}")
    taken = {title: run_id for run_id, title in live.items()}
    if name not in taken:
        return name
    if given:
        raise InvalidInput("name", f"{name!r} is the name of the live run {taken[name]}", "choose another, or stop it")
    return next(free for n in range(2, len(taken) + 3) if (free := f"{name}-{n}") not in taken)
