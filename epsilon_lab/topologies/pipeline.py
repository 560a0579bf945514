"""Stages one after the other, with gates between them: a stage begins once the one before it was let through.

A stage is given what the last one gave. What a gate rejects is done again, by whoever did it, who is told why; and what
is rejected more often than that ends the run there: nothing passes a gate but what it passed.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from epsilon_lab.agents.entry_point import is_entry
from epsilon_lab.agents.work import Task
from epsilon_lab.arguments import above_zero, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import origin, slug
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import Call, Feedback, Form
from epsilon_lab.messages.events import Body, CaseFlagged, CaseWithdrawn, VerdictGiven
from epsilon_lab.messages.tasks import TaskOutcome
from epsilon_lab.messages.values import StoredValue, Value, pack, stored
from epsilon_lab.settings import INLINE_LIMIT
from epsilon_lab.topologies.crew import Crew, Refused, fitting, stated
from epsilon_lab.topologies.dag import DECOMPOSE, DagRules, Hand, hand_of, taking_apart
from epsilon_lab.topologies.decomposition import (
    RESERVED,
    NodeId,
    Texts,
    Worded,
    decomposition_request,
    files_named,
    read_answer,
)
from epsilon_lab.topologies.gates import VERDICT, Person, ruling, shown
from epsilon_lab.topologies.judged_plan import Judge, JudgedPlan, judge_of
from epsilon_lab.topologies.manifest import AnyText, Manifest, Natural, convert
from epsilon_lab.topologies.nodes import NodeSpec
from epsilon_lab.topologies.plan import Emit, Finish, Plan, PlanEffect, Revise, read_rules, save_rules
from epsilon_lab.topologies.quality import Inspection, answering, checked
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory

GATE = "gate"
STAGES = 3, 10
"""At least and at most, of a model; the bounds of Epsilon's `decompose_pipeline`."""

_WHAT = "Pipeline"
_IN_STAGES = """\
Here the nodes are stages, done one after the other in the order of your list. Each is given what those before it \
made, so "depends_on" is not needed."""
_JUDGE = "Judge the output below. Let it pass, or fail it and give the reason, so that whoever made it can mend it."


class PlannedStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stage, as a user states it."""

    id: NodeId | None = None
    task: Annotated[Any, Meta(description="a function, an Agent, a Command, 'module:function', or a text for an agent")]
    agent: Annotated[Any, Meta(description="the name of an agent, or one")] = None
    gate: Annotated[Any, Meta(description="a function, an Agent, a Command, 'module:function', 'person', a Person")] = (
        None
    )
    role: AnyText = ""
    inputs: Texts = []
    outputs: Texts = []
    acceptance: Texts = []
    retries: Natural | None = None
    time_limit_s: Annotated[float, Meta(gt=0, description="seconds above 0")] | None = None


class Gate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands behind a stage: exactly one field is set."""

    judge: Judge | None = None
    person: Person | None = None


_SOME = Meta(min_length=1, description="a list of one or more stages")


class StatedPipeline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pipeline, as a dict states it."""

    stages: Annotated[list[Any], _SOME]
    input: Annotated[Any, Meta(description="any value")] = None


class PlannedPipeline(StatedPipeline, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pipeline, as a manifest states it."""

    stages: Annotated[list[PlannedStage], _SOME]


class PipelineRules(msgspec.Struct, frozen=True):
    """What a pipeline is played by."""

    dag: DagRules
    """Its stages, in order."""

    gates: dict[str, Gate]
    """By stage; "" is what stands behind every other."""

    input: StoredValue


class PipelinePlan(JudgedPlan):
    """The rules of a pipeline.

    Args:
        rules: Its stages and gates.
    """

    def __init__(self, rules: PipelineRules) -> None:
        super().__init__(rules.dag, suffix=GATE)
        self._gates = rules.gates
        self._input = rules.input
        self._cases: dict[str, str] = {}
        """Case -> the task that it is about."""

        self._rejected: dict[str, int] = {}
        """How often a stage was rejected since it was last asked for."""

    def told(self, news: object, now: float) -> list[PlanEffect]:
        """A person decides a case; or as for all plans."""
        return self._decided(news, now) if isinstance(news, VerdictGiven) else super().told(news, now)

    def _read(self, answer: object, agents: Sequence[str]) -> Worded:
        return read_answer(answer, agents, bounds=STAGES)

    def _begin(self, specs: Sequence[NodeSpec]) -> list[PlanEffect]:
        """Make a chain of them: each is given what all before it made, the first one the input."""
        first, *_ = specs
        given = {first.id: msgspec.structs.replace(first.call, argument=self._input)}
        return self._nodes.add(
            msgspec.structs.replace(
                spec,
                call=given.get(spec.id, spec.call),
                kind="stage",
                depends_on=tuple(before.id for before in specs[:place]),
                is_reviewed=self._gate(spec.id) is not None,
            )
            for place, spec in enumerate(specs)
        )

    def _gate(self, name: str) -> Gate | None:
        return self._gates.get(name) or self._gates.get("")

    # -- judging ------------------------------------------------------------------------------------------------------

    def _judge(self, name: str) -> list[PlanEffect]:
        if self._nodes.state(name) != "done":
            return self._nodes.accept(name)
        gate = self._gate(name) or Gate()
        if gate.judge is not None:
            return self._ask(name, gate.judge)
        person = gate.person or Person()
        task_id = self._nodes.task_id(name)
        case = CaseFlagged(
            case_id=task_id,
            kind=GATE,
            question=person.question or f"Is the output of {name} good?",
            options=person.options,
            evidence={"stage": name, **self._seen(name)},
            flagged_by=f"{name}.{GATE}",
            reason=f"{name} is done, and a person lets it through",
            role=person.role,
        )
        self._cases[case.case_id] = task_id
        return [Emit(case)]

    def _judged_by(self, name: str) -> str | None:
        gate = self._gate(name)
        return None if gate is None else "" if gate.judge is None else gate.judge.call.code

    def _seen(self, name: str) -> dict[str, object]:
        """A stage's output, as a decider sees it."""
        outcome = self._nodes.outcome(name)
        output = None if outcome is None else outcome.output
        match output:
            case Value(form="json", data=data) if len(data) <= INLINE_LIMIT:
                return {"output": msgspec.json.decode(data)}
            case Value(form="file", data=data):
                return {"file": data.decode()}
            case _:
                return {"output": shown(output)}

    def _answered(self, name: str, outcome: TaskOutcome) -> list[PlanEffect]:
        gate = self._gate(name)
        by = gate.judge.name if gate and gate.judge else GATE
        if outcome.status != "completed":
            error = outcome.failure.error if outcome.failure else outcome.status
            return self._closed(name, f"its gate {by} failed: {error}", by)
        said = ruling(outcome.output)
        if said is None:
            return self._closed(name, f"its gate {by} gave no verdict but {shown(outcome.output)}", by)
        if said.passed:
            return self._passed(name, said.reason, by)
        return self._sent_back(name, Feedback("review", said.reason or "rejected", outcome.task_id), by)

    def _passed(self, name: str, reason: str, by: str) -> list[PlanEffect]:
        return [*self._reviewed(name, "pass", reason, by=by, then="accepted"), *self._nodes.accept(name)]

    def _sent_back(self, name: str, why: Feedback, by: str) -> list[PlanEffect]:
        """Have a stage done again, or end there."""
        times = self._rejected.get(name, 0) + 1
        if times > self._nodes.spec(name).retries:
            often = "" if times == 1 else f" {times} times"
            return self._closed(name, f"its gate {by} rejected it{often}: {why.text}", by)
        self._rejected[name] = times
        line = self._reviewed(name, "fail", why.text, by=by, then="revised")
        return [*line, *self._nodes.revise({name: (why,)})]

    def _closed(self, name: str, why: str, by: str) -> list[PlanEffect]:
        return [*self._reviewed(name, "fail", why, by=by, then="failed"), *self._nodes.refuse(name, why)]

    def _decided(self, verdict: VerdictGiven, now: float) -> list[PlanEffect]:
        case_id = verdict.case_id
        if case_id not in self._cases:
            return []
        task_id = self._cases[case_id]
        name = origin(task_id)
        if task_id != self._nodes.task_id(name):  # it was done again since, and the verdict changes nothing
            return [Emit(_no_more(case_id, name))] if verdict.retracted else []
        if verdict.retracted:  # what followed from it stands until there is another
            return []
        gate = self._gate(name) or Gate()
        passes = verdict.verdict in (gate.person or Person()).passes
        why = Feedback("person", verdict.note or verdict.verdict, case_id)
        if not self._nodes.is_held(name):  # in the place of a verdict that was followed
            effects = [] if passes else self.told(Revise({name: (why,)}), now)
        elif passes:
            effects = self._passed(name, verdict.note, verdict.decider)
        else:
            effects = self._sent_back(name, why, verdict.decider)
        return [*effects, *(self._end() if effects else [])]

    def _renewed(self, names: Sequence[str]) -> list[PlanEffect]:
        """Nobody decides about what is done again; cases that are decided stay so."""
        for name in names:
            self._rejected.pop(name, None)
        stale = [(case_id, origin(task_id)) for case_id, task_id in self._cases.items() if origin(task_id) in names]
        return [Emit(_no_more(case_id, name)) for case_id, name in stale]

    def _end(self) -> list[PlanEffect]:
        if self._nodes.open:
            return []
        names = [name for name in self._nodes if name != DECOMPOSE]
        failures = self._nodes.failures()
        failed = next((name for name in names if self._nodes.state(name) in ("failed", "cancelled")), None)
        if failed is not None:
            done = f"{sum(self._nodes.state(name) == 'done' for name in names)} of {len(names)} stages are done"
            return [Finish("failed", f"{done}; {failed}: {failures[failed].error}")]
        return [Finish("completed", f"{len(names)} stages are done", self._output())]

    def _output(self) -> Value | None:
        """What the last stage gave, where it counts."""
        *_, last = self._nodes
        outcome = self._nodes.outcome(last)
        return outcome.output if outcome is not None and self._nodes.state(last) == "done" else None


def _no_more(case_id: str, name: str) -> CaseWithdrawn:
    return CaseWithdrawn(case_id=case_id, reason=f"{name} is done again")


class Pipeline:
    """Stages one after the other, with gates between them.

    Args:
        stages: What is done, in order. A function of the last stage's output (the first stage's of `input`), plain or
            async, also one defined in a cell; an `LLM`, an `Agent`, a `Command`; `"module:function"` or
            `"file.py:function"`, which is given the whole request; a text, which `agent` does; or a dict with such a
            `task` and as wanted `id`, `gate`, `retries`, `agent`, `role`, `inputs`, `outputs`, `acceptance`,
            `time_limit_s`; or all of it as `{"stages": [...], "input": ...}`. Whoever sees the request has the outputs
            of all stages before by their ids. Or a sentence that says what is to be done: `agent` takes it apart first,
            into 3 to 10 stages, and does them.
        input: What the first stage is given; anything picklable.
        agent: Who does stages that are texts: one, or a dict of several by name, of which a stage's `agent` names one.
        gate: What stands behind every stage that names none itself: a function of the stage's output that returns None
            or True to let it through, False or a text, the reason, to reject it; an `Agent`, an `LLM` or a `Command`
            that answers `{"verdict": "pass" or "fail", "reason": ...}`; `"person"` or a `Person`, who is asked by
            `run.cases`; or a text, which says what must hold and `agent` judges by.
        qa: Looks at the product once the last stage is let through: `qa({id: output})`, an `Agent` or a `Command`; what
            it finds goes back to the stage that made it, as of a `Dag`.
        fix_waves: As of a `Dag`.
        assign: As of a `Dag`.
        retries: How often a stage is done again when it fails, and when its gate rejects it; whoever does it is told
            why. Once more, and the run fails there.
        time_limit_s: Seconds one go at a stage may take, where the stage says nothing; None for no limit.

    Raises:
        InvalidInput: Naming the place, such as `Pipeline: $.stages[2].gate`.
    """

    topology = "pipeline"
    seed: int | None = None
    parent_run_id: str | None = None

    def __init__(
        self,
        stages: Sequence[Any] | Mapping[str, Any] | str,
        *,
        input: Any = None,  # noqa: A002 - the word for it
        agent: Any = None,
        gate: Any = None,
        qa: Task | None = None,
        fix_waves: int = 3,
        assign: Task | None = None,
        retries: int = 1,
        time_limit_s: float | None = None,
    ) -> None:
        self.retries = whole(f"{_WHAT} retries", retries, least=0)
        self.time_limit_s = above_zero(f"{_WHAT} time_limit_s", time_limit_s)
        self._crew = Crew(_WHAT, agent)
        self._qa = Inspection.of(_WHAT, qa, assign, fix_waves)
        self._gates: dict[str, Gate] = {}
        self._stages: list[NodeSpec] = []
        self._sentence = stages.strip() if isinstance(stages, str) else ""
        self._decompose: NodeSpec | None = None
        self._hands: dict[str, Hand] = {}
        if isinstance(stages, Mapping):
            stated = convert(stages, StatedPipeline, lambda place, *why: InvalidInput(f"{_WHAT}: {place}", *why))
            stages, input = stated.stages, stated.input if input is None else input  # noqa: A001
        if isinstance(stages, str):
            self._take_sentence(gate)
        elif isinstance(stages, bytes) or not isinstance(stages, Sequence):
            raise InvalidInput(f"{_WHAT} stages", f"must be a list, a dict or a sentence, got {type(stages).__name__}")
        elif not stages:
            raise InvalidInput(f"{_WHAT} stages", "are none", "give one or more")
        else:
            for place, given in enumerate(stages):
                self._take(place, given, gate)
        self._input = pack(input)
        self._title = slug(self._sentence) if self._sentence else " → ".join(spec.id for spec in self._stages)

    @classmethod
    def from_manifest(cls, path: str | Path, **more: Any) -> Pipeline:
        """Read the stages from a JSON file: `{"stages": [...], "input": ...}`, with the fields above.

        A task or gate `file.py:function` is a file below the manifest's directory; a gate may also be `"person"`, or an
        object with the fields of a `Person`.

        Args:
            path: The file.
            more: The other arguments of `Pipeline`.

        Raises:
            InvalidInput: Naming the place in the document. Nothing has run by then, but the top level of modules.
        """
        manifest = Manifest(path, PlannedPipeline)
        stages = []
        for place, stage in enumerate(manifest.values.stages):
            fields = {name: value for name, value in msgspec.to_builtins(stage).items() if value is not None}
            fields["task"] = manifest.performer(f"$.stages[{place}].task", stage.task)
            if isinstance(stage.gate, str):
                fields["gate"] = manifest.performer(f"$.stages[{place}].gate", stage.gate)
            stages.append(fields)
        made = cls(stages, **{"input": manifest.values.input, **more})
        made._title = Path(path).stem
        return made

    def _take_sentence(self, gate: Any) -> None:
        """Have the work taken apart by an agent, who does its stages too."""
        agents = self._crew.agents
        if not self._sentence:
            raise InvalidInput(f"{_WHAT} stages", "are blank", "say what is to be done, or give the stages")
        if not agents:
            remedy = "agent=Agent(...)"
            raise InvalidInput(f"{_WHAT} stages", "are a sentence, and there is no agent to take it apart", remedy)
        what = f"{_WHAT} agent"
        self._hands = {name: hand_of(work) for name, work in self._crew.hands.items()}
        divider = agents.get("") or next(iter(agents.values()))
        first = self._crew.work(what, answering(divider, Worded), form="request")
        asked = decomposition_request(self._sentence, list(agents), bounds=STAGES) + _IN_STAGES
        self._decompose = taking_apart(hand_of(first), asked, retries=self.retries, time_limit_s=self.time_limit_s)
        found = self._behind(gate, {}, lambda path, *why: InvalidInput(f"{_WHAT} {path.removeprefix('$.')}", *why))
        self._gates = {} if found is None else {"": found}

    def _take(self, place: int, given: Any, gate: Any) -> None:
        """Take a stage in, and what stands behind it."""
        where = f"$.stages[{place}]"
        document = given if isinstance(given, dict) else {"task": given}

        def refused(path: str, problem: str, remedy: str = "") -> InvalidInput:
            return InvalidInput(f"{_WHAT}: {where}{path.removeprefix('$')}", problem, remedy)

        planned = convert(document, PlannedStage, refused)
        work, instructions = self._crew.performer(planned.task, planned.agent, refused, form="last")
        name = planned.id or fitting(work.name, f"stage-{place + 1}", {spec.id: spec for spec in self._stages})
        taken = [each for spec in self._stages for each in (spec.id, f"{spec.id}.{GATE}")]
        if name in taken or f"{name}.{GATE}" in taken:
            raise refused("$.id", f"{name!r} is the id of another stage, or of its gate", "give each stage its own")
        if name in RESERVED:
            raise refused("$.id", f"{name!r} names a task of the run itself", "call it otherwise")
        about = stated(planned)
        found = self._behind(gate if planned.gate is None else planned.gate, {"stage": name, **about}, refused)
        if found is not None:
            self._gates[name] = found
        self._stages.append(
            NodeSpec(
                id=name,
                call=Call(
                    code=work.sha256,
                    form=work.form,
                    instructions=instructions,
                    about=about,
                    needs_files=files_named(planned.outputs),
                ),
                lane=work.lane,
                entry=work.entry,
                retries=self.retries if planned.retries is None else planned.retries,
                time_limit_s=planned.time_limit_s or self.time_limit_s or work.time_limit_s,
            )
        )

    def _behind(self, gate: Any, about: dict[str, Any], refused: Refused) -> Gate | None:
        """What stands behind a stage."""
        match gate:
            case None:
                return None
            case Person():
                return Gate(person=gate)
            case "person":
                return Gate(person=Person())
            case dict():
                return Gate(person=_person(gate, refused))
        form: Form = "last"
        if isinstance(gate, str) and not is_entry(gate):
            if "" not in self._crew.agents:
                raise refused("$.gate", "is a text, and there is no agent to judge by it", "give one: agent=Agent(...)")
            about, gate, form = {**about, "what_must_hold": gate}, self._crew.agents[""], "request"
        work = self._crew.work(refused("$.gate", "").what, answering(gate, VERDICT), form=form)
        return Gate(judge_of(work, _JUDGE, about, time_limit_s=self.time_limit_s))

    def __repr__(self) -> str:
        return f"<Pipeline {self.title}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def title(self) -> str:
        """The names of its stages, or of the manifest; or the sentence."""
        return self._title

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        gates = {name: gate.judge.name if gate.judge else "person" for name, gate in self._gates.items()}
        return {
            "sentence": self._sentence or None,
            "stages": [spec.id for spec in self._stages],
            "gates": gates,
            "retries": self.retries,
            "time_limit_s": self.time_limit_s,
            **(self._qa.config() if self._qa else {}),
        }

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse agents, models and programs that cannot be called, before anything is spent.

        Raises:
            InvalidInput: Naming what is missing.
        """
        self._crew.validate(budget)
        for work in self._qa.works if self._qa else ():
            work.validate(budget)

    def prepare(self, run: RunDirectory) -> tuple[Plan, Sequence[Body]]:
        """Write rules, code and input into the run directory."""
        kept, saved = run.keep(self._input, "inputs/pipeline", kind="input")
        checking = self._qa.works if self._qa else []
        models = (*self._crew.models, *(work.code_ref for work in checking if work.checked is not None))
        dag = DagRules(
            nodes=tuple(self._stages),
            decompose=self._decompose,
            hands=self._hands,
            retries=self.retries,
            time_limit_s=self.time_limit_s,
            quality=self._qa.rules(self._sentence, self.time_limit_s) if self._qa else None,
            models=tuple(dict.fromkeys(models)),
        )
        rules = PipelineRules(dag, self._gates, stored(kept))
        code = [*self._crew.save(run), *(work.save(run) for work in checking)]
        return _plan(rules), [*code, *saved, save_rules(rules, run)]

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> Plan:  # noqa: ARG004
        """Make the rules of a pipeline again. Unpickles nothing.

        Raises:
            LabError: They are not there, or cannot be read.
        """
        return _plan(read_rules(run, PipelineRules))


def _person(fields: dict[str, Any], refused: Refused) -> Person:
    """A person as a manifest states one."""
    if stray := next((name for name in fields if name not in Person.__struct_fields__), None):
        known = ", ".join(Person.__struct_fields__)
        raise refused(f"$.gate.{stray}", "is not a field of a person's gate", f"its fields are {known}")
    try:
        return Person(**fields)
    except InvalidInput as error:
        raise refused("$.gate", str(error)) from None


def _plan(rules: PipelineRules) -> Plan:
    return checked(PipelinePlan(rules), rules.dag.quality)
