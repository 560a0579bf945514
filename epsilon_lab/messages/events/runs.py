"""`run.`: what the engine says of a run as a whole."""

from __future__ import annotations

import msgspec

from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events.body import Body
from epsilon_lab.messages.values import StoredValue


class RunStarted(Body, frozen=True, kw_only=True):
    """`run.started`, the first line of every run."""

    run_id: str
    topology: str
    name: str
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    seed: int | None = None
    config: dict[str, object] = msgspec.field(default_factory=dict)
    """The topology's arguments, for people."""

    epoch: int = 0
    parent_run_id: str | None = None
    budget: Budget | None = None
    """What it may spend; None for no limit."""

    env: tuple[str, ...] = ()
    """Names of environment variables that its tasks are granted; their values are on no disk."""


class RunAdopted(Body, frozen=True, kw_only=True):
    """`run.adopted`: a lab goes on with a run that another one left; attempts that were under way are lost."""

    epoch: int
    """The adopting broker's, larger than any before it in this journal."""

    pid: int
    host: str
    torn: int = 0
    """Bytes of a group that was never committed, cut off the journal's end."""


class RunPaused(Body, frozen=True, kw_only=True):
    """`run.paused`."""


class RunResumed(Body, frozen=True, kw_only=True):
    """`run.resumed`."""


class RunExhausted(Body, frozen=True, kw_only=True):
    """`run.exhausted`: the budget of seconds was used up; nothing more is begun, what is paid for is still used."""

    reason: str


class RunStopping(Body, frozen=True, kw_only=True):
    """`run.stopping`: someone ends the run early."""

    reason: str


class RunEnded(Body, frozen=True, kw_only=True):
    """`run.ended`: the last line, unless the run was interrupted."""

    status: str
    """`completed`, `failed`, `stopped` or `interrupted`."""

    reason: str
    output: StoredValue | None = None
