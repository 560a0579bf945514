"""Nodes under someone's eyes: each end is reviewed, and what is not good enough is done again, in parts, or by another,
before anything builds on it.

Nodes that do not depend on each other run, and are reviewed, side by side. What a review may do, and how often, is in
supervision.py; a run that nothing reviews follows the rule there. A review that fails, or says what cannot be done,
fails the node: nothing is let through because nobody looked. A node that hangs is one that failed, by its time limit or
because it gave no sign of progress.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgspec

from epsilon_lab.agents.work import Task, Work, work_of
from epsilon_lab.arguments import above_zero, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import Call, Feedback
from epsilon_lab.messages.events import Body
from epsilon_lab.messages.tasks import TaskOutcome
from epsilon_lab.messages.values import as_json
from epsilon_lab.topologies.dag import Dag, DagRules, Hand, hand_of
from epsilon_lab.topologies.judged_plan import Judge, JudgedPlan, judge_of
from epsilon_lab.topologies.nodes import NodeSpec, failure_feedback, is_hopeless
from epsilon_lab.topologies.plan import Plan, PlanEffect, Revise, read_rules, save_rules
from epsilon_lab.topologies.quality import answering, checked
from epsilon_lab.topologies.supervision import REVIEW, Books, Limits, Verdict, by_rule, settle, verdict_of
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory

_REVIEW = "review"
_JUDGE = """\
A node of a plan is over. Say what is to become of it. "pass": its output will do. "retry": it is done again, by the \
same worker, who is told your reason. "split": it is done in smaller parts, which you state. "reassign": another \
worker does it, one of those named. "fail": nothing will help. The record says what is left of each. \
Answer with one JSON object: {"verdict", "reason", and as it takes "parts": [{"task", "worker"}], "chained", "to"}."""


class SupervisorRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervised run is played by."""

    dag: DagRules
    limits: Limits
    join: Hand
    """Gives the outputs of the parts of a node as the node's own."""

    workers: dict[str, Hand] = {}
    review: Judge | None = None
    beat_within_s: float | None = None


class SupervisorPlan(JudgedPlan):
    """The rules of a supervised run."""

    def __init__(self, rules: SupervisorRules) -> None:
        super().__init__(rules.dag, suffix=_REVIEW)
        self._review = rules.review
        self._limits = rules.limits
        self._join = rules.join
        self._workers = rules.workers
        self._beat_within_s = rules.beat_within_s
        self._books: dict[str, Books] = {}
        self._parts: dict[str, tuple[str, ...]] = {}
        """The nodes that stand for one that was split."""

    def told(self, news: object, now: float) -> list[PlanEffect]:
        """Where a node is to be done again that was split, its parts are."""
        if isinstance(news, Revise):
            feedback = {part: why for name, why in news.feedback.items() for part in self._standing_for(name)}
            news = msgspec.structs.replace(news, feedback=feedback)
        return super().told(news, now)

    def again(self, names: Iterable[str]) -> dict[str, str]:
        """Of a node that was split, its parts."""
        return super().again([part for name in names for part in self._standing_for(name)])

    def _judged_by(self, name: str) -> str | None:  # noqa: ARG002
        return None if self._review is None else self._review.call.code

    @property
    def _allowed(self) -> Limits:
        """What a node may cost; where a run is finalised, nobody else is given its work."""
        limits = self._limits
        return msgspec.structs.replace(limits, reassign_depth=0, split_depth=0) if self._is_finalised else limits

    def _standing_for(self, name: str) -> list[str]:
        """The nodes that do the work of one: itself, or its parts, or theirs."""
        parts = self._parts.get(name)
        return [name] if parts is None else [each for part in parts for each in self._standing_for(part)]

    def _renewed(self, names: Sequence[str]) -> list[PlanEffect]:
        """Retries are counted anew; who does it, and of what it is a part, stays as it is."""
        for name in names:
            self._books[name] = msgspec.structs.replace(self._books.get(name, Books()), retries=0)
        return []

    def _begin(self, specs: Sequence[NodeSpec]) -> list[PlanEffect]:
        return self._nodes.add(
            msgspec.structs.replace(spec, is_reviewed=True, retries=0, beat_within_s=self._beat_within_s)
            for spec in specs
        )

    # -- judging ------------------------------------------------------------------------------------------------------

    def _judge(self, name: str) -> list[PlanEffect]:
        failure = self._nodes.failures().get(name)
        if failure is not None and is_hopeless(failure):
            return self._act(name, Verdict("fail", failure.error), by="")
        if self._review is not None:
            return self._ask(name, self._review, as_json(self._record(name)))
        books = self._books.get(name, Books())
        error = None if failure is None else failure.error
        return self._act(name, by_rule(error, books, self._allowed, tuple(self._workers)), by="")

    def _record(self, name: str) -> dict[str, Any]:
        """What a review is told of a node."""
        spec, books, outcome = self._nodes.spec(name), self._books.get(name, Books()), self._nodes.outcome(name)
        failure = None if outcome is None else outcome.failure
        return {
            "node": name,
            "task_id": self._nodes.task_id(name),
            "task": spec.call.instructions,
            **spec.call.about,
            "status": "completed" if self._nodes.state(name) == "done" else "failed",
            "outcome": "completed" if failure is None else failure.outcome,
            "error": "" if failure is None else failure.error,
            "stderr_tail": "" if failure is None else failure.stderr_tail,
            "worker": books.worker,
            "workers": list(self._workers),
            "retries_left": self._allowed.retries - books.retries,
            "reassigns_left": self._allowed.reassign_depth - len(books.tried),
            "splits_left": self._allowed.split_depth - books.splits,
            "reviews": [each.reason for each in self._history if each.node == name and each.reason],
        }

    def _answered(self, name: str, outcome: TaskOutcome) -> list[PlanEffect]:
        by = _REVIEW if self._review is None else self._review.name
        if outcome.status == "completed":
            return self._act(name, verdict_of(outcome.output), by=by)
        error = outcome.failure.error if outcome.failure else outcome.status
        return self._act(name, Verdict("fail", f"its review {by} failed: {error}"), by=by)

    def _act(self, name: str, said: Verdict, *, by: str) -> list[PlanEffect]:
        """Follow a verdict as far as the node's books allow."""
        books = self._books.get(name, Books())
        has_output = self._nodes.state(name) == "done"
        verdict, after = settle(said, books, self._allowed, has_output=has_output, workers=tuple(self._workers))
        self._books[name] = after
        match verdict.verdict:
            case "pass":
                return [*self._noted(name, verdict, by, "accepted"), *self._nodes.accept(name)]
            case "fail":
                why = verdict.reason or "its review fails it"
                return [*self._noted(name, verdict, by, "failed"), *self._nodes.refuse(name, why)]
            case "retry":
                line = self._noted(name, verdict, by, "revised")
                return [*line, *self._nodes.revise({name: self._feedback(name, verdict, by)})]
            case "reassign":
                line = self._noted(name, verdict, by, "reassigned")
                feedback = self._feedback(name, verdict, by)
                self._nodes.restate(self._given_to(self._nodes.spec(name), verdict.to))
                return [*line, *self._nodes.revise({name: feedback})]
            case "split":
                return self._split(name, verdict, by)

    def _noted(self, name: str, verdict: Verdict, by: str, then: str, parts: tuple[str, ...] = ()) -> list[PlanEffect]:
        failure = self._nodes.failures().get(name)
        reason = verdict.reason or ("" if failure is None else failure.error)
        return self._reviewed(name, verdict.verdict, reason, by=by, then=then, to=verdict.to, parts=parts)

    def _feedback(self, name: str, verdict: Verdict, by: str) -> tuple[Feedback, ...]:
        """What whoever does it next is told: how it failed, and what the review says."""
        failure = self._nodes.failures().get(name)
        failed = () if failure is None else (failure_feedback(failure),)
        said = verdict.reason or ("" if failed else "do it again")
        return (*failed, Feedback("review", said, f"{name}.{_REVIEW}")) if by and said else failed

    def _given_to(self, spec: NodeSpec, worker: str) -> NodeSpec:
        """A node as another does it."""
        does = self._workers[worker]
        return msgspec.structs.replace(
            spec,
            call=msgspec.structs.replace(spec.call, code=does.code, form=does.form),
            lane=does.lane,
            entry=does.entry,
            time_limit_s=spec.time_limit_s or does.time_limit_s,
        )

    def _split(self, name: str, verdict: Verdict, by: str) -> list[PlanEffect]:
        """Have parts done, and their outputs, joined, stand for the node."""
        spec, books = self._nodes.spec(name), self._books.get(name, Books())
        free = (each for place in count(1) if (each := f"{name}.{place}") not in self._nodes)
        ids = tuple(islice(free, len(verdict.parts)))
        parts: list[NodeSpec] = []
        for part_id, part in zip(ids, verdict.parts, strict=True):
            call = msgspec.structs.replace(
                spec.call, instructions=part.task, about={**spec.call.about, "part_of": name}, needs_files=()
            )
            before = (parts[-1].id,) if verdict.chained and parts else ()
            made = msgspec.structs.replace(
                spec, id=part_id, kind="part", call=call, depends_on=(*spec.depends_on, *before), when=()
            )
            parts.append(self._given_to(made, part.worker) if part.worker else made)
            self._books[part_id] = Books(worker=part.worker or books.worker, splits=books.splits + 1)
        self._parts[name] = ids
        join = self._join
        joined = NodeSpec(
            id=name,
            call=Call(code=join.code, form=join.form, about={"parts": list(ids)}),
            kind=spec.kind,
            lane=join.lane,
            entry=join.entry,
            depends_on=ids,
            priority=spec.priority,
        )
        line = self._noted(name, verdict, by, "split", ids)
        added = self._nodes.add(parts)
        self._nodes.restate(joined)
        return [*line, *added, *self._nodes.revise({name: ()})]


def join(outputs: dict[str, Any]) -> dict[str, Any]:
    """Give the outputs of a node's parts, by part, as the node's own."""
    return outputs


class _Plan(Dag):
    """A dag whose mistakes are a supervisor's."""

    _what = "Supervisor"


class Supervisor:
    """Run nodes in the order of their dependencies, and have the end of each reviewed.

    Args:
        plan: A `Dag`, or what it is made of: a list of nodes, or `{"nodes": [...]}`, or a sentence that `agent` takes
            apart. The time limits of nodes hold; their `retries` are this supervisor's.
        agent: Who does what is said in words: one, or a dict of them by name.
        review: Says what becomes of a node, whether it has an output or failed: a function of its record, an `Agent`,
            a `Command`. It answers None or True (the output will do), False or a text (do it again; the text says
            why), or a dict with `verdict`: `pass`, `retry`, `split` with `parts` (1 to 8, each with `task` and as
            wanted `worker`; `chained` where each builds on the one before), `reassign` with `to`, or `fail`; and
            `reason`. The record has `node`, `task`, `status`, `output`, `error`, `worker`, `workers`, `retries_left`,
            `reassigns_left`, `splits_left`, and `reviews`, the reasons of those before. None: what has an output
            passes, what failed is tried again, and at last by each of `workers`.
        workers: Others who can do nodes, by name: functions, called with `{id: output}` as the nodes of a `Dag`,
            agents, programs.
        retries: How often a node is done again by the same worker.
        reassign_depth: How often a node is given to another worker.
        split_depth: How often a node may be split, and its parts, and theirs.
        qa: As of a `Dag`: looks at the whole product once all nodes passed.
        fix_waves: As of a `Dag`.
        assign: As of a `Dag`.
        time_limit_s: Seconds that one attempt at a node may take; then it has failed.
        beat_within_s: Seconds that an attempt may go on without a sign of progress; then it has failed.

    A node that is split is done once its parts are; its output is `{part: output}`. What the reviews said is in the
    events `stage.reviewed` and in `stage_history.json`. `run.output` is that of a `Dag`.

    Raises:
        InvalidInput: An argument has a wrong type or value; in a plan, at the place named.
    """

    topology = "supervisor"
    seed: int | None = None
    parent_run_id: str | None = None

    def __init__(
        self,
        plan: Sequence[Mapping[str, Any]] | Mapping[str, Any] | str | Dag,
        *,
        agent: Task | Mapping[str, Task] | None = None,
        review: Task | None = None,
        workers: Mapping[str, Task] | None = None,
        retries: int = 2,
        reassign_depth: int = 2,
        split_depth: int = 1,
        qa: Task | None = None,
        fix_waves: int = 3,
        assign: Task | None = None,
        time_limit_s: float | None = None,
        beat_within_s: float | None = None,
    ) -> None:
        self.limits = Limits(
            retries=whole("Supervisor retries", retries, least=0),
            reassign_depth=whole("Supervisor reassign_depth", reassign_depth, least=0),
            split_depth=whole("Supervisor split_depth", split_depth, least=0, most=8),
        )
        self.beat_within_s = above_zero("Supervisor beat_within_s", beat_within_s)
        if not isinstance(plan, Dag):
            plan = _Plan(plan, agent=agent, qa=qa, fix_waves=fix_waves, assign=assign, time_limit_s=time_limit_s)
        self._dag = plan
        if not isinstance(workers or {}, Mapping):
            raise InvalidInput("Supervisor workers", "must be a dict of workers by name")
        self._workers: dict[str, Work] = {}
        for name, worker in (workers or {}).items():
            if not isinstance(name, str) or not name.strip():
                raise InvalidInput("Supervisor workers", f"must be by name, and {name!r} is none")
            self._workers[name] = work_of(f"Supervisor worker {name!r}", worker, form="inputs")
        self._review = (
            None if review is None else work_of("Supervisor review", answering(review, REVIEW), form="record")
        )
        self._join = work_of("Supervisor join", join, form="inputs")

    @classmethod
    def from_manifest(cls, path: str | Path, **more: Any) -> Supervisor:
        """Read the plan from a JSON file: `{"nodes": [...]}`, as of a `Dag`.

        Args:
            path: The file.
            more: The other arguments of `Supervisor`.

        Raises:
            InvalidInput: Naming the place in the document. Nothing has run by then, but the top level of modules.
        """
        names = ("agent", "qa", "fix_waves", "assign", "time_limit_s")
        plan = _Plan.from_manifest(path, **{name: more.pop(name) for name in names if name in more})
        return cls(plan, **more)

    def __repr__(self) -> str:
        return f"<Supervisor {self.title}: {self._dag.extent}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def title(self) -> str:
        """The manifest's name, or the sentence's."""
        title = self._dag.title
        return self.topology if title == Dag.topology else title

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return {
            **self._dag.config(),
            "review": None if self._review is None else self._review.name,
            "workers": {name: work.name for name, work in self._workers.items()},
            "retries": self.limits.retries,
            "reassign_depth": self.limits.reassign_depth,
            "split_depth": self.limits.split_depth,
            "beat_within_s": self.beat_within_s,
        }

    @property
    def _own(self) -> list[Work]:
        return [*self._workers.values(), *([self._review] if self._review else []), self._join]

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse agents, models and programs that cannot do anything, before anything is spent.

        Raises:
            InvalidInput: Naming what is missing.
        """
        self._dag.validate(budget)
        for work in self._own:
            work.validate(budget)

    def prepare(self, run: RunDirectory) -> tuple[Plan, Sequence[Body]]:
        """Write what runs into the run directory, and the rules."""
        _, events = self._dag.prepare(run)
        dag = read_rules(run, DagRules)
        models = tuple(dict.fromkeys([*dag.models, *(work.code_ref for work in self._own if work.checked is not None)]))
        rules = SupervisorRules(
            dag=msgspec.structs.replace(dag, models=models),
            limits=self.limits,
            join=hand_of(self._join),
            workers={name: hand_of(work) for name, work in self._workers.items()},
            review=None if self._review is None else judge_of(self._review, _JUDGE),
            beat_within_s=self.beat_within_s,
        )
        saved = [work.save(run) for work in self._own]
        return _plan(rules), [*events, *saved, save_rules(rules, run)]

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> Plan:  # noqa: ARG004
        """Make the rules again from `plan.json`. Unpickles nothing.

        Raises:
            LabError: It is not there, or cannot be read.
        """
        return _plan(read_rules(run, SupervisorRules))


def _plan(rules: SupervisorRules) -> Plan:
    return checked(SupervisorPlan(rules), rules.dag.quality)
