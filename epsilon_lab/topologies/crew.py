"""Who does what in a plan that a user states: functions that are given, agents that do what is said in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from epsilon_lab.agents.entry_point import is_entry
from epsilon_lab.agents.work import Work, work_of
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import Form
from epsilon_lab.messages.events import ArtifactSaved
from epsilon_lab.workspace.layout import RunDirectory

Refused = Callable[..., InvalidInput]
"""Makes an error from a place in a document, a problem and a remedy."""


class Crew:
    """The performers of one plan, each packed once.

    Args:
        what: Whose they are, for messages.
        agent: Who does what is said in words: one, or a dict of several by name; None for nobody.

    Raises:
        InvalidInput: A name is none.
    """

    def __init__(self, what: str, agent: Any = None) -> None:
        named = agent if isinstance(agent, Mapping) else {} if agent is None else {"": agent}
        for name in named:
            if not isinstance(name, str):
                raise InvalidInput(f"{what} agent", f"names must be str, got {name!r}")
        self.agents: dict[str, Any] = dict(named)
        self._what = what
        self._hands: dict[str, Work] = {}
        self._works: dict[str, Work] = {}

    def hand(self, name: str) -> Work:
        """An agent, packed when it is first asked for.

        Raises:
            InvalidInput: It is none, or cannot travel.
        """
        if name not in self._hands:
            what = f"{self._what} agent {name!r}" if name else f"{self._what} agent"
            self._hands[name] = self.work(what, self.agents[name], form="request")
        return self._hands[name]

    @property
    def hands(self) -> dict[str, Work]:
        """All agents, packed, by name.

        Raises:
            InvalidInput: One is none, or cannot travel.
        """
        return {name: self.hand(name) for name in self.agents}

    def work(self, what: str, task: Any, *, form: Form) -> Work:
        """Pack a performer.

        Raises:
            InvalidInput: It is none, or cannot travel.
        """
        return self.take(work_of(what, task, form=form))

    def take(self, work: Work) -> Work:
        """Keep one that is packed already."""
        return self._works.setdefault(f"{work.sha256} {work.form}", work)

    def performer(self, task: Any, agent: Any, refused: Refused, *, form: Form) -> tuple[Work, str]:
        """Find who does a task.

        Args:
            task: A performer, or what is to be done in words.
            agent: Who does what is said in words: the name of an agent, one, or None for the one that has no name.
            refused: Makes an error about the task.
            form: How a function is called that is the task itself; one that does words is given the request.

        Returns:
            Who, and what they are told.

        Raises:
            InvalidInput: There is nobody, or they cannot travel.
        """
        if not isinstance(task, str) or is_entry(task):
            if agent is not None:
                raise refused("$.agent", "does what is said in words, and task is none", "leave it out")
            return self.work(refused("$.task", "").what, task, form=form), ""
        if agent is None or isinstance(agent, str):
            if (agent or "") not in self.agents:
                known = ", ".join(repr(name) for name in self.agents if name)
                remedy = f"name one of {known} in its agent" if known else "give one: agent=Agent(...)"
                if agent:
                    raise refused("$.agent", f"there is no agent {agent!r}", remedy)
                raise refused("$.task", "is a text, and there is no agent to do it", remedy)
            return self.hand(agent or ""), task
        return self.work(refused("$.agent", "").what, agent, form="request"), task

    @property
    def models(self) -> tuple[str, ...]:
        """References of those that are asked whether they can do anything, before a run goes on."""
        return tuple(dict.fromkeys(work.code_ref for work in self._works.values() if work.checked is not None))

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse what cannot be called, before anything is spent.

        Raises:
            InvalidInput: Naming what is missing.
        """
        for work in self._works.values():
            work.validate(budget)

    def save(self, run: RunDirectory) -> list[ArtifactSaved]:
        """Write them all into a run directory."""
        return [work.save(run) for work in {work.sha256: work for work in self._works.values()}.values()]


def fitting(name: str, otherwise: str, taken: Mapping[str, object]) -> str:
    """An id made of a function's name, where that is one; numbered where it is taken."""
    stem = name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,89}", name) else otherwise
    found, number = stem, 2
    while found in taken:
        found, number = f"{stem}-{number}", number + 1
    return found


def stated(planned: msgspec.Struct) -> dict[str, Any]:
    """What else a stage or node says of itself, for whoever does it."""
    names = ("role", "task_type", "inputs", "outputs", "acceptance")
    return {name: value for name in names if (value := getattr(planned, name, None))}
