"""QA and fixes: whether a product will do, who mends what is wrong with it, and when to give up.

One piece for every topology whose tasks can be done again. `Checked` stands around a topology's own plan: where that
would end, QA looks at the product first; where QA finds something, the tasks it is put down to are told and done again,
by the same `Revise` that a person's `run.rerun` is; and so on, until QA passes or the fix waves are used up. So a plan
needs nothing for QA but `product()`, and what a fix means in a topology is said in one place, its `told(Revise)`.

    qa = Inspection.of("MapReduce", qa, assign, fix_waves)      # the arguments; qa.works are saved with the others
    quality = qa.rules() if qa else None                        # kept in plan.json
    return checked(MyPlan(...), quality)

An error is put down to the node that the report names; else to the one whose file it is about, which is the last that
wrote it or the one that was to make it; else to whom `assign` says; else to every node that none depends on.

A node that failed for good is a finding too: while there are waves left it is done again with its failure as feedback,
and QA is not asked about a product that is known to lack a part. So a repaired node can pass.

A QA task that fails, or whose report is missing or makes no sense, is no finding about the product: it is asked once
more, told what was wrong, and then the run has failed for want of a report, said as such.

Where a run is finalised, QA looks again at what was made anew, or at the same product where only what QA itself has
asked is decided otherwise. What it finds then is not mended: whoever mends might be a model, which nobody has asked.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import msgspec

from epsilon_lab.agents.work import Task, Work, work_of
from epsilon_lab.arguments import whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import origin, revised
from epsilon_lab.messages.call import Feedback, call_of
from epsilon_lab.messages.events import Body, QualityChecked, TasksRevised
from epsilon_lab.messages.tasks import Failure, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import as_json, stored
from epsilon_lab.topologies.gates import said_in
from epsilon_lab.topologies.nodes import NodeSpec, failure_feedback, is_hopeless
from epsilon_lab.topologies.plan import Add, Emit, Finish, Node, Plan, PlanEffect, Requeue, Revise, Write

QA, ASSIGN = "qa", "assign"
"""Names of the tasks, and kinds."""

QA_INSTRUCTIONS = """\
Check the product in your workspace, made by the tasks whose outputs you are given. Run it and its tests where there \
are any; believe nothing that you have not seen.

Answer with a report, one JSON object: {"status": "pass" or "fail", "summary": one sentence, "errors": [...]}. Each \
error has "id", "severity", "category", "file" (its path in the workspace, or ""), "description", "evidence" (what you \
saw), "suggested_fix", and "node" (the task that has to mend it, where you know). No errors where it passes."""

ASSIGN_INSTRUCTIONS = """\
QA found errors in a product that several nodes made. Say which node has to mend each: answer with one JSON object, \
{error id: node id}."""


Feedbacks = dict[str, tuple[Feedback, ...]]
"""Who is told what, by node."""


class QualityError(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong with a product."""

    description: str
    id: str = ""
    severity: str = ""
    category: str = ""
    file: str | None = None
    evidence: str = ""
    suggested_fix: str = ""
    node: str | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What QA says. More fields than these do no harm."""

    status: Literal["pass", "fail"]
    summary: str = ""
    errors: tuple[QualityError, ...] = ()


class QualityRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run is checked, as it is kept in `plan.json`."""

    qa: NodeSpec
    """The QA task: `id` is "qa", `retries` how often it is asked once more for want of a report."""

    assign: NodeSpec | None = None
    fix_waves: int = 3
    is_function: bool = False
    """Whether QA is a plain function: then None is a pass, and a text is what is wrong. Of an agent or a program, which
    may end without an answer or talk beside it, both are no report."""


def answering(task: Task, schema: Any) -> Task:
    """Hold an agent to the form of the answer that is wanted, unless its user said what it is to be."""
    from epsilon_lab.agents.agent import Agent  # noqa: PLC0415 - what an agent needs loads with the first one

    return dataclasses.replace(task, schema=schema) if isinstance(task, Agent) and task.schema is None else task


@dataclass(frozen=True)
class Inspection:
    """What a user gives a topology as `qa=`, `assign=` and `fix_waves=`."""

    qa: Work
    assign: Work | None
    fix_waves: int

    @classmethod
    def of(cls, what: str, qa: Task | None, assign: Task | None, fix_waves: int) -> Inspection | None:
        """Take the arguments of a topology; None where there is no QA.

        Args:
            what: The topology's name.
            qa: As `Dag` describes it.
            assign: The same.
            fix_waves: The same.

        Raises:
            InvalidInput: One of them is of a wrong type or value.
        """
        fix_waves = whole(f"{what} fix_waves", fix_waves, least=0)
        if qa is None:
            if assign is not None:
                raise InvalidInput(f"{what} assign", "has nothing to assign without qa", "give qa too, or leave it out")
            return None
        judge = work_of(f"{what} qa", answering(qa, Report), form="inputs")
        if assign is None:
            return cls(judge, None, fix_waves)
        return cls(judge, work_of(f"{what} assign", answering(assign, dict[str, str]), form="inputs"), fix_waves)

    @property
    def works(self) -> list[Work]:
        """What has to be saved, and asked whether it can be done."""
        return [self.qa, *([self.assign] if self.assign else ())]

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return {
            "qa": self.qa.name,
            "assign": None if self.assign is None else self.assign.name,
            "fix_waves": self.fix_waves,
        }

    def rules(self, goal: str = "", time_limit_s: float | None = None) -> QualityRules:
        """What the run is checked by.

        Args:
            goal: What was to be made, in words.
            time_limit_s: Seconds that one look may take.
        """

        def task(name: str, work: Work, instructions: str) -> NodeSpec:
            return NodeSpec(
                id=name,
                kind=name,
                call=call_of(work.call(instructions=instructions, about={"goal": goal} if goal else {})),
                lane=work.lane,
                entry=work.entry,
                retries=1,
                time_limit_s=time_limit_s or work.time_limit_s,
            )

        return QualityRules(
            qa=task(QA, self.qa, QA_INSTRUCTIONS),
            assign=None if self.assign is None else task(ASSIGN, self.assign, ASSIGN_INSTRUCTIONS),
            fix_waves=self.fix_waves,
            is_function=self.qa.checked is None,
        )


class Product(NamedTuple):
    """What a plan has to show for itself."""

    tasks: tuple[str, ...]
    """Ids of the tasks whose outputs it is: the latest revisions, in their order."""

    layers: tuple[str, ...]
    """Its files, to be laid over each other in this order."""

    nodes: Mapping[str, Mapping[str, Any]]
    """What can be done again: name -> what is known of it, such as `task` and `outputs`."""

    final: tuple[str, ...]
    """Nodes that answer for what is nobody else's."""

    failures: Mapping[str, Failure]
    """Nodes that failed for good and may be done again."""

    writers: Mapping[str, str] = {}
    """Path of a file -> the node that wrote it last."""


class Checkable(Plan):
    """A plan that can be checked: told to `Revise`, it does tasks again, also after it said that it is over."""

    @abstractmethod
    def product(self) -> Product:
        """What there is now."""


class Checked(Plan):
    """A plan whose product has to pass.

    Args:
        plan: The topology's own rules.
        rules: How it is checked.
    """

    reads_outputs = True

    def __init__(self, plan: Checkable, rules: QualityRules) -> None:
        self.plan = plan
        self.limits = plan.limits
        self.runs_strangers = plan.runs_strangers
        self._rules = rules
        self._asked: dict[str, int] = {QA: 0, ASSIGN: 0}
        self._awaited: str | None = None
        """The task of ours that something follows from."""

        self._retries = 0
        self._waves = 0
        self._fixes = 0
        self._is_spent = False
        """Whether the budget of seconds is used up."""

        self._verdicts = ""
        """The file of verdicts that QA goes by, where it flags cases."""

        self._is_finalised = False
        """Whether what is found is not to be mended."""

        self._end: Finish | None = None
        """How the plan would have ended; None while it is at work."""

        self._report: Report | None = None

    @property
    def models(self) -> Sequence[str]:  # type: ignore[override]
        """What may be a model, QA's included."""
        mine = [f"code/{spec.call.code}.pkl" for spec in (self._rules.qa, self._rules.assign) if spec]
        return [*self.plan.models, *mine]

    # -- stimuli ------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[PlanEffect]:
        """Begin."""
        return self._go_on(self.plan.start(now), now)

    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:
        """A task of the plan's, or one of ours."""
        if origin(outcome.task_id) not in self._asked:
            return self._go_on(self.plan.settled(outcome, now), now)
        if outcome.task_id != self._awaited:
            return []
        self._awaited = None
        return self._judge(outcome, now) if origin(outcome.task_id) == QA else self._assigned(outcome, now)

    def tick(self, now: float) -> list[PlanEffect]:
        """The plan may end with time; unchecked, that is no success."""
        return self._unchecked(self.plan.tick(now))

    def told(self, news: object, now: float) -> list[PlanEffect]:
        """Where work is done again because someone wants it, it is checked again, with all fix waves before it."""
        end, is_asked, verdicts = self._end, False, ""
        if isinstance(news, Revise) and news.verdicts:
            is_asked, verdicts = QA in news.feedback, news.verdicts
            others = {name: why for name, why in news.feedback.items() if name != QA}
            effects = self.plan.told(Revise(others, verdicts), now) if others else []
        else:
            effects = self.plan.told(news, now)
        if any(isinstance(each, Add | Requeue) for each in effects):
            self._end = None
        elif is_asked and end is not None:
            effects = [Emit(TasksRevised(feedback={QA: ()}, verdicts=verdicts)), end]
        else:
            return self._go_on(effects, now)
        self._awaited, self._fixes, self._is_spent = None, 0, False
        self._verdicts, self._is_finalised = verdicts or self._verdicts, bool(verdicts)
        return self._go_on(effects, now)

    def again(self, names: Iterable[str]) -> dict[str, str]:
        """And then QA; or QA alone, where it is QA that asked, and there is a product."""
        names = tuple(names)
        found = self.plan.again(name for name in names if name != QA)
        is_asked = QA in names and self._end is not None and self._end.status == "completed"
        return found | ({QA: self._rules.qa.call.code} if found or is_asked else {})

    def news_in(self, line: Body) -> object | None:
        """As the plan's."""
        return self.plan.news_in(line)

    def exhausted(self, reason: str, now: float) -> list[PlanEffect]:
        """Nothing more is begun, QA neither; what did not pass is no success."""
        self._is_spent = True
        return self._unchecked(self.plan.exhausted(reason, now))

    def reads(self, task_id: str) -> bool:
        """What QA says, and what the plan wants to see."""
        return origin(task_id) in self._asked or (self.plan.reads_outputs and self.plan.reads(task_id))

    def stop(self, reason: str, now: float) -> list[PlanEffect]:
        """End early."""
        return self.plan.stop(reason, now)

    # -- checking -----------------------------------------------------------------------------------------------------

    def _go_on(self, effects: list[PlanEffect], now: float) -> list[PlanEffect]:
        """Where the plan would end, look at its product first."""
        if self._is_spent:
            return self._unchecked(effects)
        if not effects or not isinstance(effects[-1], Finish) or effects[-1].status not in ("completed", "failed"):
            return effects
        *before, end = effects
        self._end = cast("Finish", end)
        product = self.plan.product()
        if self._end.status == "completed":
            self._retries = 0
            return [*before, *self._ask(product, ())]
        if not product.failures or any(map(is_hopeless, product.failures.values())):
            return effects
        if not self._has_waves:
            return [*before, self._over("failed", "the fix waves are used up")] if self._fixes else effects
        report = Report(
            status="fail",
            summary=self._end.reason,
            errors=tuple(_error_of(name, failure) for name, failure in product.failures.items()),
        )
        feedback: Feedbacks = {name: (failure_feedback(failure),) for name, failure in product.failures.items()}
        return [*before, *self._fix(report, feedback, now)]

    def _unchecked(self, effects: list[PlanEffect]) -> list[PlanEffect]:
        match effects:
            case [*before, Finish(status="completed") as end]:
                return [*before, Finish("failed", f"{end.reason}; QA had not passed", end.output)]
        return effects

    @property
    def _has_waves(self) -> bool:
        return self._fixes < self._rules.fix_waves and not self._is_finalised

    @property
    def _why_not(self) -> str:
        """Why nothing is mended, where there are no waves."""
        if self._is_finalised:
            return "nothing is mended where a run is finalised"
        return f"{self._rules.fix_waves} fix waves are used up" if self._rules.fix_waves else "nothing is to be fixed"

    def _ask(self, product: Product, feedback: tuple[Feedback, ...]) -> list[PlanEffect]:
        about = {"nodes": {name: about for name, about in product.nodes.items() if about}, "wave": self._waves + 1}
        return self._task(self._rules.qa, product.tasks, product.layers, feedback, about)

    def _task(
        self,
        spec: NodeSpec,
        tasks: tuple[str, ...],
        layers: tuple[str, ...],
        feedback: tuple[Feedback, ...],
        about: Mapping[str, Any],
        inputs: Mapping[str, Any] | None = None,
    ) -> list[PlanEffect]:
        self._asked[spec.id] += 1
        number = self._asked[spec.id]
        self._awaited = revised(spec.id, number) if number > 1 else spec.id
        call = msgspec.structs.replace(
            spec.call,
            layers=layers,
            feedback=feedback,
            verdicts=self._verdicts,
            about={**spec.call.about, **about},
            inputs=tuple((name, stored(as_json(value))) for name, value in (inputs or {}).items()),
        )
        task = TaskSpec(
            task_id=self._awaited,
            kind=spec.kind,
            lane=spec.lane,
            entry=spec.entry,
            payload=as_json(call),
            depends_on=tasks,
            time_limit_s=spec.time_limit_s,
        )
        return [Add((Node(task=task, binds=inputs is None, quorum=0.0 if tasks else None),))]

    def _judge(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:
        """Take QA's report, or ask once more for want of one."""
        try:
            report = read_report(outcome, is_function=self._rules.is_function)
        except InvalidInput as error:
            return self._unreported(outcome, str(error))
        self._retries = 0
        if report.status == "pass":
            return [*self._on_record(report, {}), self._over("completed", f"QA passed in wave {self._waves}")]
        if not self._has_waves:
            found = f"QA found {_count(report)} in wave {self._waves + 1}"
            over = self._over("failed", f"{found}, and {self._why_not}: {_first(report)}")
            return [*self._on_record(report, {}), over]
        product = self.plan.product()
        unclear = [error for error in report.errors if _owner(error, product) is None]
        if self._rules.assign is None or not unclear:
            return self._fix(report, _feedback(report, product, {}), now)
        self._report = report
        asked = {
            "errors": [msgspec.to_builtins(error) for error in unclear],
            "nodes": [{"id": name, **about} for name, about in product.nodes.items()],
        }
        return self._task(self._rules.assign, (), product.layers, (), {}, asked)

    def _unreported(self, outcome: TaskOutcome, problem: str) -> list[PlanEffect]:
        failure = outcome.failure
        is_final = failure is not None and (is_hopeless(failure) or outcome.status != "failed")
        if self._retries < self._rules.qa.retries and not is_final:
            self._retries += 1
            said = Feedback("failure", problem, outcome.task_id) if failure is None else failure_feedback(failure)
            return self._ask(self.plan.product(), (said,))
        report = Report(status="fail", summary=f"no report: {problem}")
        return [
            *self._on_record(report, {}),
            self._over("failed", f"QA gave no report in wave {self._waves}: {problem}"),
        ]

    def _assigned(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:
        """Take what the assigning task says as far as it makes sense; the rest stays with the final nodes."""
        report, self._report = cast("Report", self._report), None
        said = said_in(outcome.output)
        product = self.plan.product()
        told = {}
        if isinstance(said, dict):
            told = {str(key): name for key, name in said.items() if isinstance(name, str) and name in product.nodes}
        return self._fix(report, _feedback(report, product, told), now)

    def _fix(self, report: Report, feedback: Feedbacks, now: float) -> list[PlanEffect]:
        self._fixes += 1
        assigned = {name: tuple(each.id for each in why) for name, why in feedback.items()}
        effects = self._on_record(report, assigned)
        if not (again := self.plan.told(Revise(feedback), now)):
            nobody = f"{_first(report)}; and nothing can be done again in this topology"
            return [*effects, self._over("failed", f"QA found {_count(report)}: {nobody}")]
        self._end = None
        return effects + self._go_on(again, now)

    def _on_record(self, report: Report, assigned: Mapping[str, tuple[str, ...]]) -> list[PlanEffect]:
        self._waves += 1
        ref = f"qa/wave-{self._waves}.json"
        errors = tuple(cast("dict[str, object]", msgspec.to_builtins(error)) for error in report.errors)
        line = QualityChecked(
            wave=self._waves, status=report.status, summary=report.summary, errors=errors, assigned=dict(assigned)
        )
        text = msgspec.json.format(msgspec.json.encode(line)).decode() + "\n"
        return [Write(ref, text, kind="qa"), Emit(line)]

    def _over(self, status: str, reason: str) -> Finish:
        end = cast("Finish", self._end)
        return Finish(status, f"{end.reason}; {reason}", end.output)


def checked(plan: Checkable, rules: QualityRules | None) -> Plan:
    """A plan, with QA around it where there is any."""
    return Checked(plan, rules) if rules else plan


def read_report(outcome: TaskOutcome, *, is_function: bool) -> Report:
    """What a QA task says.

    Args:
        outcome: How it ended.
        is_function: Whether it was a plain function.

    Raises:
        InvalidInput: It failed, or what it gave is no report.
    """
    if outcome.output is None:
        error = outcome.failure.error if outcome.failure else outcome.status
        raise InvalidInput("QA", f"failed ({error})")
    if outcome.output.form != "json":
        raise InvalidInput("QA report", "is not JSON", "return a dict of plain data")
    said = said_in(outcome.output)
    match said:
        case None if is_function:
            return Report(status="pass")
        case True:
            return Report(status="pass")
        case False:
            return _numbered(Report(status="fail", errors=(QualityError(description="QA says that it does not pass"),)))
        case str() if is_function and said.strip():
            return _numbered(Report(status="fail", summary=said, errors=(QualityError(description=said),)))
    try:
        report = msgspec.convert(said, Report)
    except msgspec.ValidationError as error:
        raise InvalidInput("QA report", f"is none: {error}", 'it is {"status", "summary", "errors": [...]}') from None
    if report.status == "fail" and not report.errors:
        described = report.summary or "QA says that it does not pass"
        report = msgspec.structs.replace(report, errors=(QualityError(description=described),))
    return _numbered(report)


def _numbered(report: Report) -> Report:
    """Give each error an id of its own."""
    seen: set[str] = set()
    errors = []
    for place, error in enumerate(report.errors, start=1):
        name = error.id if error.id and error.id not in seen else f"e{place}"
        seen.add(name)
        errors.append(msgspec.structs.replace(error, id=name))
    return msgspec.structs.replace(report, errors=tuple(errors))


def _owner(error: QualityError, product: Product) -> str | None:
    """Whose an error is, as far as its report, or who wrote the file or was to make it, says."""
    if error.node is not None and origin(error.node) in product.nodes:
        return origin(error.node)
    if not error.file:
        return None
    path = error.file.removeprefix("./")
    if product.writers.get(path) in product.nodes:
        return product.writers[path]
    makers = [name for name, about in product.nodes.items() if path in about.get("outputs", ())]
    return makers[-1] if makers else None


def _feedback(report: Report, product: Product, told: Mapping[str, str]) -> Feedbacks:
    """Who is told what, in the order of the report."""
    found: Feedbacks = {}
    for error in report.errors:
        owner = _owner(error, product) or told.get(error.id)
        for name in (owner,) if owner else product.final:
            found[name] = (*found.get(name, ()), Feedback("qa", _text(error), error.id))
    return found


def _text(error: QualityError) -> str:
    heading = " ".join(f"[{word}]" for word in (error.severity, error.category) if word)
    parts = [f"{heading} {error.description}".strip()]
    for name, said in (("file", error.file), ("evidence", error.evidence), ("suggested fix", error.suggested_fix)):
        parts += [f"{name}: {said}"] if said else []
    return "\n".join(parts)


def _error_of(name: str, failure: Failure) -> QualityError:
    return QualityError(
        id=failure.task_id,
        severity="blocking",
        category="failed",
        description=failure.error,
        evidence=failure.stderr_tail,
        node=name,
    )


def _count(report: Report) -> str:
    return f"{len(report.errors)} error{'s' * (len(report.errors) != 1)}"


def _first(report: Report) -> str:
    return report.errors[0].description if report.errors else report.summary
