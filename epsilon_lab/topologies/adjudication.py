"""The second wave: cases of a run go to workers, and each verdict goes to that run as soon as it is accepted.

It is a work queue of cases. What it adds is two rules. An answer that is no verdict is a failed row, and is tried again
as a revision that is told why. And each accepted verdict is delivered to the run that the case is of, whether that is
live, over or left, and whether or not anybody waits: at least once, because it is delivered again whenever this run is
resumed; the other run takes it once, because it says which task it is from. This run's own end is on record only after
the verdicts before it are.

A verdict that comes late stands beside a person's and does not outrank it, so a case may be adjudicated while it is
being decided by hand, and by several, whose agreement can then be measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from epsilon_lab.agents.work import Task
from epsilon_lab.arguments import above_zero, text, whole
from epsilon_lab.cases.answer import Answer
from epsilon_lab.cases.case import Case
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import origin
from epsilon_lab.messages.cases import Decide, Unsure
from epsilon_lab.messages.deciders import Decider
from epsilon_lab.messages.events import Body
from epsilon_lab.messages.tasks import TaskOutcome
from epsilon_lab.messages.values import Value
from epsilon_lab.topologies.adjudicator import Adjudicator
from epsilon_lab.topologies.nodes import failure_feedback, is_hopeless
from epsilon_lab.topologies.plan import Deliver, Finish, Plan, PlanEffect, Revise, read_rules, save_rules
from epsilon_lab.topologies.work_queue import QueueRules, WorkQueue, item_task_id
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory

INSTRUCTIONS = """\
Decide this case. Read its evidence; believe nothing that is not in it.

Answer with one JSON object: {"verdict": one of the case's options, word for word, or null where the evidence does not \
tell, "note": why, in one sentence, "confidence": a number from 0 to 1}."""

SHOWN = ("case_id", "kind", "question", "options", "evidence", "reason", "key", "score", "flagged_by")
"""What is known of a case to whoever adjudicates it: no verdicts of others."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""Case ids that can be part of a task's."""


class AdjudicationRules(QueueRules, frozen=True, kw_only=True):
    """A queue's rules, and where its verdicts go."""

    of: str
    """The run that the cases are of."""

    decider: Decider
    retries: int = 0


class Adjudication(WorkQueue):
    """Have cases of a run decided by workers.

    Args:
        cases: Which.
        task: Who decides: a function `task(case) -> answer`, an `Agent`, an `LLM`, a `Command`, or a function's name. A
            case is a dict of `SHOWN`. What an answer is, `cases.answer.read_answer` says.
        of: The run that the cases are of.
        where: How they were chosen, for the `runs` table.
        decider: Who is on record as the decider; a name, or None for the task's own: of the kind LLM where it asks a
            model, else CODE.
        instructions: What a model, an agent or a program is told besides.
        retries: How often one that failed, or gave no verdict, is tried again; it is told why.
        time_limit_s: Seconds one attempt may take; None for no limit.

    Raises:
        InvalidInput: There is no case, one is withdrawn or needs a role that the decider lacks, or an argument has a
            wrong type or value.
    """

    topology = "adjudication"

    def __init__(
        self,
        cases: Sequence[Case],
        task: Task,
        *,
        of: str,
        where: str = "",
        decider: str | Decider | None = None,
        instructions: str = "",
        retries: int = 0,
        time_limit_s: float | None = None,
    ) -> None:
        self._instructions = f"{INSTRUCTIONS}\n\n{text('adjudicate instructions', instructions, blank=True)}".rstrip()
        self.retries = whole("adjudicate retries", retries, least=0)
        asked = Adjudicator.of(task)
        self.decider = _decider(decider, asked)
        _refuse(cases, self.decider, of, where)
        time_limit_s = above_zero("adjudicate time_limit_s", time_limit_s)
        super().__init__([_shown(case) for case in cases], asked, time_limit_s=time_limit_s)
        self._ids = [item_task_id(place, case.case_id) for place, case in enumerate(cases)]
        if not all(_NAME.fullmatch(case.case_id) for case in cases):
            self._ids = [item_task_id(place) for place in range(len(cases))]
        self._where = where
        self._title = f"{asked.name} adjudicates"
        self.parent_run_id = of

    def _payload(self, index: int, item: Any) -> Value:  # noqa: ARG002
        return self._work.call(argument=item, instructions=self._instructions)

    def __repr__(self) -> str:
        return f"<Adjudication of {len(self.items)} cases of {self.parent_run_id} by {self.decider.name}>"

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return {
            "task": self._work.name,
            "cases": len(self.items),
            "where": self._where,
            "decider": self.decider.name,
            "decider_kind": self.decider.kind,
            "retries": self.retries,
            "time_limit_s": self.time_limit_s,
        }

    def prepare(self, run: RunDirectory) -> tuple[Plan, Sequence[Body]]:
        """Write the task and the rules into the run directory."""
        queue, events = super().prepare(run)
        rules = AdjudicationRules(of=self.parent_run_id or "", decider=self.decider, retries=self.retries)
        return AdjudicationPlan(queue, rules, run.run_id), [*events, save_rules(rules, run)]

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> Plan:
        """Make the rules again, from the directory and the journal alone.

        Raises:
            LabError: They are not there, or cannot be read.
        """
        return AdjudicationPlan(WorkQueue.restore(run, records), read_rules(run, AdjudicationRules), run.run_id)


class AdjudicationPlan(Plan):
    """The rules of an adjudication, around those of its queue.

    Args:
        queue: The queue of cases.
        rules: Where the verdicts go.
        run_id: This run.
    """

    def __init__(self, queue: Plan, rules: AdjudicationRules, run_id: str) -> None:
        self._queue = queue
        self._rules = rules
        self._run_id = run_id
        self._tried: dict[str, int] = {}
        """How often an item was tried again without anybody asking for it."""

        self._decided: set[str] = set()
        self._left_open: set[str] = set()
        self.models = queue.models

    def start(self, now: float) -> list[PlanEffect]:
        """Hand out every case."""
        return self._queue.start(now)

    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:
        """Deliver a verdict; what came to none is tried again as often as is allowed."""
        if outcome.status == "completed":
            delivery = self._delivery(outcome)
            return [*delivery, *map(self._said, self._queue.settled(outcome, now))]
        effects = list(map(self._said, self._queue.settled(outcome, now)))
        item, failure = origin(outcome.task_id), outcome.failure
        tried = self._tried.get(item, 0)
        if outcome.status != "failed" or failure is None or is_hopeless(failure) or tried >= self._rules.retries:
            return effects
        self._tried[item] = tried + 1
        again = self._queue.told(Revise({item: (failure_feedback(failure),)}), now)
        return [*(effect for effect in effects if not isinstance(effect, Finish)), *again]

    def told(self, news: object, now: float) -> list[PlanEffect]:
        """Cases are decided again because someone wants it, with all tries before them."""
        if isinstance(news, Revise):
            for item in news.feedback:
                self._tried.pop(item, None)
        return self._queue.told(news, now)

    def exhausted(self, reason: str, now: float) -> list[PlanEffect]:
        """End with the verdicts there are."""
        return self._queue.exhausted(reason, now)

    def stop(self, reason: str, now: float) -> list[PlanEffect]:
        """End with the verdicts there are."""
        return self._queue.stop(reason, now)

    def _said(self, effect: PlanEffect) -> PlanEffect:
        """An end in words about cases."""
        if not isinstance(effect, Finish) or effect.status != "completed":
            return effect
        words = [f"{len(self._decided)} decided", f"{len(self._left_open)} left open" * bool(self._left_open)]
        return msgspec.structs.replace(effect, reason=f"{effect.reason}: {', '.join(filter(None, words))}")

    def _delivery(self, outcome: TaskOutcome) -> list[PlanEffect]:
        """What an accepted answer says, for the run that the case is of."""
        said: Mapping[str, Any] = msgspec.json.decode(outcome.output.data) if outcome.output is not None else {}
        answer = msgspec.convert(said, Answer)
        for cases in (self._decided, self._left_open):  # a case may be done again
            cases.discard(said["case_id"])
        (self._left_open if answer.verdict is None else self._decided).add(said["case_id"])
        by, source = self._rules.decider, f"{self._run_id}/{outcome.task_id}"
        if answer.verdict is None:
            unsure = Unsure(case_id=said["case_id"], decider=by, note=answer.note, source=source)
            return [Deliver(self._rules.of, unsure)]
        decision = Decide(
            case_id=said["case_id"],
            verdict=answer.verdict,
            decider=by,
            note=answer.note,
            confidence=answer.confidence,
            force=True,
            source=source,
        )
        return [Deliver(self._rules.of, decision)]


def _shown(case: Case) -> dict[str, Any]:
    plain: dict[str, Any] = {name: getattr(case, name) for name in SHOWN}
    return {**plain, "options": list(case.options)}


def _decider(given: str | Decider | None, asked: Adjudicator) -> Decider:
    if isinstance(given, Decider):
        return given
    name = asked.name if given is None else text("adjudicate decider", given)
    return Decider(name, "LLM" if asked.asks_model else "CODE")


def _refuse(cases: Sequence[Case], decider: Decider, of: str, where: str) -> None:
    """Refuse what is known to come to nothing."""
    if not cases:
        raise InvalidInput("adjudicate where", f"{where!r} holds for no case of run {of}", "see run.cases.frame()")
    for case in cases:
        if case.status == "withdrawn":
            raise InvalidInput(
                "adjudicate where",
                f"{where!r} holds for case {case.case_id!r}, which is withdrawn: {case.reason}",
                "add: and status <> 'withdrawn'",
            )
        if case.role and case.role not in decider.roles:
            raise InvalidInput(
                f"case {case.case_id!r}",
                f"is for the role {case.role!r}, which {decider.name} does not have",
                f"decider=Decider({decider.name!r}, {decider.kind!r}, roles=({case.role!r},)) says that it has it; "
                f"where= can leave the case out",
            )
