"""A plan of nodes each of whose ends is judged before anything follows from it: what a pipeline and a supervisor share.

A judgement is a task like any other, `<node>.<suffix>`, or a case that a person decides; meanwhile the node is held and
those behind it wait. Whatever is judged is one revision of a node: an answer about one that has been done again since
changes nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from epsilon_lab.agents.work import Work
from epsilon_lab.ids import origin, revised, revision
from epsilon_lab.messages.call import Call
from epsilon_lab.messages.events import StageReviewed
from epsilon_lab.messages.tasks import Lane, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value, stored
from epsilon_lab.topologies.dag import DECOMPOSE, DagPlan, DagRules
from epsilon_lab.topologies.plan import Add, Emit, Node, PlanEffect, Revise, Write
from epsilon_lab.topologies.quality import Product

HISTORY = "stage_history.json"


class Judge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who judges, as kept in `plan.json`."""

    name: str
    call: Call
    lane: Lane
    entry: str
    time_limit_s: float | None = None


def judge_of(
    work: Work, instructions: str, about: Mapping[str, Any] | None = None, *, time_limit_s: float | None = None
) -> Judge:
    """A performer that judges, as `plan.json` keeps it; its own time limit holds where none is given."""
    call = Call(code=work.sha256, form=work.form, instructions=instructions, about=dict(about or {}))
    limit_s = time_limit_s or work.time_limit_s
    return Judge(name=work.name, call=call, lane=work.lane, entry=work.entry, time_limit_s=limit_s)


class JudgedPlan(DagPlan):
    """The rules that the two have in common, over those of a dag.

    Args:
        rules: The nodes.
        suffix: What a judgement of a node is called, and its kind: `gate`.
    """

    def __init__(self, rules: DagRules, *, suffix: str) -> None:
        super().__init__(rules)
        self._suffix = suffix
        self._judged: dict[str, str] = {}
        """Task of a judgement that is under way -> the task that is judged."""

        self._history: list[StageReviewed] = []
        self._is_finalised = False
        """Whether nobody is to be asked who has not been asked for the same before."""

    # -- what a topology says -----------------------------------------------------------------------------------------

    @abstractmethod
    def _judge(self, name: str) -> list[PlanEffect]:
        """A node that is judged has an output, or failed: have it judged."""

    @abstractmethod
    def _answered(self, name: str, outcome: TaskOutcome) -> list[PlanEffect]:
        """A judgement of a node's latest revision was settled."""

    def _renewed(self, names: Sequence[str]) -> list[PlanEffect]:  # noqa: ARG002
        """Nodes will be done anew because someone asked for it: what was judged of them is of the past."""
        return []

    def _judged_by(self, name: str) -> str | None:  # noqa: ARG002
        """The SHA-256 of who judges a node whenever it is done, empty for a person; None for nobody."""
        return None

    # -- rules --------------------------------------------------------------------------------------------------------

    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:
        """A node's end is judged, a judgement is followed, and with the last node the run ends."""
        judged = self._judged.pop(outcome.task_id, None)
        if judged is None:
            effects = super().settled(outcome, now)
            name = origin(outcome.task_id)
            if name not in self._nodes or not self._nodes.is_held(name) or name == DECOMPOSE:
                return effects
            return [*effects, *self._judge(name), *self._end()]
        name = origin(judged)
        if judged != self._nodes.task_id(name):
            return []
        return [*self._answered(name, outcome), *self._end()]

    def told(self, news: object, now: float) -> list[PlanEffect]:
        """Nodes are to be done again, with those that were given up, unless the run is finalised; or as for a dag."""
        if not isinstance(news, Revise) or not any(name in self._nodes for name in news.feedback):
            return super().told(news, now)
        before = {name: self._nodes.task_id(name) for name in self._nodes}
        wanted = {
            name: news.feedback.get(name, ())
            for name in before
            if name in news.feedback or (self._nodes.state(name) == "cancelled" and not news.verdicts)
        }
        self._is_finalised = bool(news.verdicts)
        line, *effects = super().told(msgspec.structs.replace(news, feedback=wanted), now)
        anew = [name for name, task_id in before.items() if self._nodes.task_id(name) != task_id]
        return [line, *self._renewed(anew), *effects]

    def again(self, names: Iterable[str]) -> dict[str, str]:
        """Each with its judgement."""
        found = super().again(names)
        judges = {f"{name}.{self._suffix}": code for name in found if (code := self._judged_by(name)) is not None}
        return found | judges

    def product(self) -> Product:
        """What passed: an output that was refused is none."""
        tasks = tuple(self._nodes.task_id(name) for name in self._nodes.outputs() if name != DECOMPOSE)
        return super().product()._replace(tasks=tasks)

    # -- for topologies -----------------------------------------------------------------------------------------------

    def _ask(self, name: str, judge: Judge, argument: Value | None = None) -> list[PlanEffect]:
        """Have a node's latest revision judged by a task, which is given its output where there is one."""
        judged = self._nodes.task_id(name)
        task_id = f"{name}.{self._suffix}"
        while task_id in self._nodes:  # a model that took the work apart may have called a node so
            task_id += "-"
        if (number := revision(judged)) > 1:
            task_id = revised(task_id, number)
        self._judged[task_id] = judged
        call = msgspec.structs.replace(judge.call, verdicts=self._nodes.verdicts)
        if argument is not None:
            call = msgspec.structs.replace(call, argument=stored(argument))
        task = TaskSpec(
            task_id=task_id,
            kind=self._suffix,
            lane=judge.lane,
            entry=judge.entry,
            payload=Value("json", msgspec.json.encode(call)),
            depends_on=(judged,) if self._nodes.state(name) == "done" else (),
            time_limit_s=judge.time_limit_s,
        )
        return [Add((Node(task=task, binds=True),), final=True)]

    def _reviewed(
        self, name: str, verdict: str, reason: str, *, by: str, then: str, to: str = "", parts: tuple[str, ...] = ()
    ) -> list[PlanEffect]:
        """Put a judgement on record."""
        line = StageReviewed(
            node=name,
            task_id=self._nodes.task_id(name),
            verdict=verdict,
            reason=reason,
            by=by,
            then=then,
            to=to,
            parts=parts,
        )
        self._history.append(line)
        told = [msgspec.to_builtins(each) for each in self._history]
        text = msgspec.json.format(msgspec.json.encode(told)).decode() + "\n"
        return [Write(HISTORY, text, kind="history"), Emit(line)]
