"""Work that is done in order of what depends on what, checked, and mended until it will do.

The plan is the user's own, or a model takes a sentence apart first; both are held to one rule (decomposition.py). Each
node begins as soon as all that it depends on is done; nothing waits for a wave. A node that fails is tried again with
its failure in hand; one that fails for good stops what depends on it, at once, and nothing else. Then QA looks at the
product, and what it finds goes back to whoever made it (quality.py).
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from epsilon_lab.agents.entry_point import is_entry
from epsilon_lab.agents.work import Task, Work
from epsilon_lab.arguments import above_zero, whole
from epsilon_lab.errors import InvalidInput, ends_run
from epsilon_lab.ids import slug
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import Call, Feedback, Form
from epsilon_lab.messages.events import Body, TasksRevised
from epsilon_lab.messages.tasks import Lane, TaskOutcome
from epsilon_lab.messages.values import Value, as_json, unpack
from epsilon_lab.topologies.crew import Crew, stated
from epsilon_lab.topologies.decomposition import (
    Planned,
    PlannedNode,
    Worded,
    decomposition_request,
    files_named,
    located,
    read_answer,
    read_plan,
)
from epsilon_lab.topologies.manifest import Manifest
from epsilon_lab.topologies.nodes import Nodes, NodeSpec
from epsilon_lab.topologies.plan import (
    Cancel,
    Condition,
    Emit,
    Finish,
    Plan,
    PlanEffect,
    Prioritise,
    Requeue,
    Revise,
    read_rules,
    save_rules,
)
from epsilon_lab.topologies.quality import (
    Checkable,
    Inspection,
    Product,
    QualityRules,
    answering,
    checked,
)
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory

P = TypeVar("P")

DECOMPOSE = "decompose"
"""The task that takes a sentence apart, and its kind."""


class Hand(msgspec.Struct, frozen=True, kw_only=True):
    """Who does nodes, as `plan.json` keeps them."""

    code: str
    lane: Lane
    entry: str
    form: Form = "request"
    time_limit_s: float | None = None


class DagRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a dag is played by."""

    nodes: tuple[NodeSpec, ...] = ()
    decompose: NodeSpec | None = None
    hands: dict[str, Hand] = {}
    """By the name that a decomposition may give in `agent`; "" is who does what names nobody."""

    retries: int = 1
    time_limit_s: float | None = None
    quality: QualityRules | None = None
    models: tuple[str, ...] = ()


class Dag:
    """Run nodes in the order of their dependencies, with QA and fixes.

    Args:
        plan: A list of nodes, or `{"nodes": [...]}`. Each is a dict with `id` and `task`, and as wanted

            `depends_on`: ids of nodes. A function is called with their outputs, `{id: output}`.
            `task`: a function, sync or async, also one defined in a cell; an `Agent`, a `Command`, an `LLM`; the name
            of a function, `module:function` or `file.py:function`; or a text, which `agent` does.
            `agent`: who does a text: an `Agent`, a `Command`, or the name of one in `agent`.
            `outputs`: what it makes. Those that are paths of files, as `src/api.py`, must be in its workspace at its
            end, or it has failed. `inputs`, `acceptance`, `role`, `task_type` (map, contract, build, reduce, verify):
            told to whoever does it.
            `retries`, `time_limit_s`, `priority`: for this node.
            `when`: `[{"node": id, "path": [...], "equals": value}]`: it is skipped, with those that need it, unless
            the outputs of these nodes, all of which it depends on, are so.
            `quorum`: share of its dependencies, 0 to 1, that will do; it waits for all to be settled.

            Or a sentence that says what is to be done: then `agent` takes it apart first, into 2 to 30 nodes that it
            also does. Its answer is held to the same rules, and it is told once what is wrong with it.
        agent: Who does what is said in words: one, or a dict of them by name; `""` is who does nodes that name none.
        qa: Looks at the product when all is done: `qa({id: output})`, an `Agent` or a `Command`. It gives a report,
            `{"status": "pass" or "fail", "summary": str, "errors": [{"id", "severity", "category", "file",
            "description", "evidence", "suggested_fix", "node"}]}`; of a function True and None pass, False and a text
            do not. `current_task().workspace` has all files.
        fix_waves: How often what QA found is mended and looked at again.
        assign: Says whose an error is that names neither a node nor a file that one was to make: `assign({"errors":
            [...], "nodes": [...]}) -> {error id: node id}`, or an `Agent`. None: all nodes that none depends on.
        retries: How often a node that failed is tried again, each time it is asked for, knowing how it failed.
        time_limit_s: Seconds that one attempt at a node may take.

    A node that QA sends back, or that a person reviews, is done again upon all the files there are, and its dependents
    stand; where it published no files, what used its output runs again. `run.rerun(tasks=[...])` does nodes again and
    all that depends on them.

    `run.output` is `{id: output}` of the nodes that none depends on. The run has completed when each of them has one
    (skipped ones need none) and QA passed; QA's reports are in `qa/wave-<n>.json` and in the events `stage.qa`.

    Raises:
        InvalidInput: An argument has a wrong type or value; in a plan, at the place named, `$.nodes[3].depends_on[0]`.
    """

    topology = "dag"
    _what = "Dag"
    """What messages call it."""

    seed: int | None = None
    parent_run_id: str | None = None

    def __init__(
        self,
        plan: Sequence[Mapping[str, Any]] | Mapping[str, Any] | str,
        *,
        agent: Task | Mapping[str, Task] | None = None,
        qa: Task | None = None,
        fix_waves: int = 3,
        assign: Task | None = None,
        retries: int = 1,
        time_limit_s: float | None = None,
    ) -> None:
        self.retries = whole(f"{self._what} retries", retries, least=0)
        self.time_limit_s = above_zero(f"{self._what} time_limit_s", time_limit_s)
        self._crew = Crew(self._what, agent)
        self._hands = self._crew.hands
        self._qa = Inspection.of(self._what, qa, assign, fix_waves)
        for work in self._qa.works if self._qa else ():
            self._crew.take(work)
        self._sentence = plan.strip() if isinstance(plan, str) else None
        self._decomposer: Work | None = None
        self._works: dict[str, Work] = {}
        self.plan: Planned | None = None
        if self._sentence is None:
            self.plan = read_plan(plan, Planned, what=f"{self._what} plan", agents=list(self._hands))
            for place, node in enumerate(self.plan.nodes):
                self._works[node.id] = self._work(node, f"{self._what} plan: $.nodes[{place}]")
        elif not self._sentence:
            raise InvalidInput(f"{self._what} plan", "is blank", "say what is to be done, or give the nodes")
        elif not self._hands:
            raise InvalidInput(
                f"{self._what} plan", "is a sentence, and there is no agent to take it apart", "agent=Agent(...)"
            )
        else:
            agents = self._crew.agents
            first = agents.get("") or next(iter(agents.values()))
            self._decomposer = self._crew.work(f"{self._what} agent", answering(first, Worded), form="request")
        self._title = slug(self._sentence) if self._sentence else "dag"

    @classmethod
    def from_manifest(cls, path: str | Path, **more: Any) -> Dag:
        """Read the plan from a JSON file: `{"nodes": [...]}`, with the fields above.

        A task `file.py:function` is a file below the manifest's directory.

        Args:
            path: The file.
            more: The other arguments of `Dag`.

        Raises:
            InvalidInput: Naming the place in the document. Nothing has run by then, but the top level of modules.
        """
        manifest = Manifest(path, Planned)
        nodes = located(manifest, manifest.values)
        read_plan(nodes, Planned, what=manifest.path.name, agents=list(Crew(cls._what, more.get("agent")).agents))
        made = cls(nodes, **more)
        made._title = Path(path).stem
        return made

    def _work(self, node: PlannedNode, place: str) -> Work:
        def refused(path: str, problem: str, remedy: str = "") -> InvalidInput:
            return InvalidInput(f"{place}{path.removeprefix('$')}", problem, remedy)

        work, _ = self._crew.performer(node.task, node.agent, refused, form="inputs")
        return work

    def __repr__(self) -> str:
        return f"<Dag {self._title}: {self.extent}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def extent(self) -> str:
        """How much there is to do, in words."""
        return f"{len(self.plan.nodes)} nodes" if self.plan else "to be taken apart"

    @property
    def title(self) -> str:
        """The manifest's name, or the sentence's."""
        return self._title

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        nodes = {} if self.plan is None else {node.id: self._works[node.id].name for node in self.plan.nodes}
        return {
            "sentence": self._sentence,
            "nodes": nodes,
            "agents": {name: work.name for name, work in self._hands.items()},
            **(self._qa.config() if self._qa else {}),
            "retries": self.retries,
            "time_limit_s": self.time_limit_s,
        }

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse agents, models and programs that cannot do anything, before anything is spent.

        Raises:
            InvalidInput: Naming what is missing.
        """
        self._crew.validate(budget)

    def prepare(self, run: RunDirectory) -> tuple[Plan, Sequence[Body]]:
        """Write what the nodes run into the run directory, and the plan."""
        saved: list[Body] = list(self._crew.save(run))
        hands = {name: hand_of(work) for name, work in self._hands.items()}
        rules = DagRules(
            nodes=tuple(
                node_spec(node, hand_of(self._works[node.id]), self.retries, self.time_limit_s)
                for node in (self.plan.nodes if self.plan else ())
            ),
            decompose=self._decomposing(hands),
            hands=hands if self._sentence else {},
            retries=self.retries,
            time_limit_s=self.time_limit_s,
            quality=self._qa.rules(self._sentence or "", self.time_limit_s) if self._qa else None,
            models=self._crew.models,
        )
        return _plan(rules), [*saved, save_rules(rules, run)]

    def _decomposing(self, hands: Mapping[str, Hand]) -> NodeSpec | None:
        first = self._decomposer
        if first is None or self._sentence is None:
            return None
        request = decomposition_request(self._sentence, list(hands))
        return taking_apart(hand_of(first), request, retries=self.retries, time_limit_s=self.time_limit_s)

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> Plan:  # noqa: ARG004
        """Make the rules again from `plan.json`. Unpickles nothing.

        Raises:
            LabError: It is not there, or cannot be read.
        """
        return _plan(read_rules(run, DagRules))


def _plan(rules: DagRules) -> Plan:
    return checked(DagPlan(rules), rules.quality)


def hand_of(work: Work) -> Hand:
    """A performer, as `plan.json` keeps it."""
    return Hand(code=work.sha256, lane=work.lane, entry=work.entry, form=work.form, time_limit_s=work.time_limit_s)


def taking_apart(hand: Hand, request: str, *, retries: int, time_limit_s: float | None) -> NodeSpec:
    """The node in which a piece of work is taken apart."""
    return NodeSpec(
        id=DECOMPOSE,
        kind=DECOMPOSE,
        call=Call(code=hand.code, form="request", instructions=request),
        lane=hand.lane,
        entry=hand.entry,
        retries=retries,
        time_limit_s=time_limit_s or hand.time_limit_s,
        is_reviewed=True,
    )


def node_spec(node: PlannedNode, hand: Hand, retries: int, time_limit_s: float | None) -> NodeSpec:
    """A planned node as it is played."""
    is_text = isinstance(node.task, str) and not is_entry(node.task)
    call = Call(
        code=hand.code,
        form=hand.form,
        instructions=node.task if is_text else "",
        about=stated(node),
        needs_files=files_named(node.outputs),
    )
    return NodeSpec(
        id=node.id,
        call=call,
        lane=hand.lane,
        entry=hand.entry,
        depends_on=tuple(node.depends_on),
        priority=node.priority,
        retries=retries if node.retries is None else node.retries,
        when=tuple(Condition(each.node, tuple(each.path), each.equals) for each in node.when),
        quorum=node.quorum,
        time_limit_s=node.time_limit_s or time_limit_s or hand.time_limit_s,
    )


class DagPlan(Checkable):
    """The rules of a dag: nodes as they become due, over when all are."""

    def __init__(self, rules: DagRules) -> None:
        self.reads_outputs = True
        self.models = rules.models
        self._rules = rules
        self._nodes = Nodes()
        self._mistaken: set[str] = set()
        """Nodes that took work apart in a way that was refused."""

    def start(self, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Begin with what depends on nothing, or with taking the sentence apart."""
        if self._rules.decompose is not None:
            return self._nodes.add([self._rules.decompose])
        return self._begin(self._rules.nodes)

    def _begin(self, specs: Sequence[NodeSpec]) -> list[PlanEffect]:
        """The plan is known."""
        return self._nodes.add(specs)

    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Go on with what follows; end when nothing is left."""
        meaning = self._nodes.settled(outcome)
        if meaning is None:
            return []
        if outcome.failure is not None and ends_run(outcome.failure.error):
            return self._give_up("failed", outcome.failure.error)
        if meaning.node == DECOMPOSE and meaning.state != "running":
            return [*meaning.effects, *self._take_apart(outcome)]
        return [*meaning.effects, *self._end()]

    def _take_apart(self, outcome: TaskOutcome) -> list[PlanEffect]:
        """Take a model's plan, or tell it once what is wrong with it."""
        plan, effects = self._parted(DECOMPOSE, outcome, self._read)
        return effects if plan is None else [*self._nodes.accept(DECOMPOSE), *self._begin(self._worded(plan))]

    def _parted(
        self, name: str, outcome: TaskOutcome, read: Callable[[object, Sequence[str]], P]
    ) -> tuple[P | None, list[PlanEffect]]:
        """What a model made of a piece of work, or what follows where that is none."""
        if outcome.output is None:
            error = outcome.failure.error if outcome.failure else outcome.status
            return None, self._unparted(name, f"the work was not taken apart: {error}")
        try:
            if outcome.output.form != "json":
                raise InvalidInput("decomposition: $", "is not JSON", "answer with one JSON object alone")
            return read(unpack(outcome.output), list(self._rules.hands)), []
        except InvalidInput as error:
            if name in self._mistaken:
                return None, self._unparted(name, f"the work was taken apart wrongly, twice: {error}")
            self._mistaken.add(name)
            return None, self._nodes.revise({name: (Feedback("review", str(error)),)})

    def _unparted(self, name: str, why: str) -> list[PlanEffect]:  # noqa: ARG002
        """A piece of work was not taken apart: there is nothing to do."""
        return self._give_up("failed", why)

    def _read(self, answer: object, agents: Sequence[str]) -> Worded:
        """Hold a model's plan to the rules.

        Raises:
            InvalidInput: Naming what is wrong, in words that the model can mend it by.
        """
        return read_answer(answer, agents)

    def _worded(self, plan: Worded) -> list[NodeSpec]:
        """The nodes of a model's plan."""
        hands, limit_s = self._rules.hands, self._rules.time_limit_s
        return [node_spec(node, hands[node.agent or ""], self._rules.retries, limit_s) for node in plan.nodes]

    def _end(self) -> list[PlanEffect]:
        if self._nodes.open:
            return []
        states = {name: self._nodes.state(name) for name in self._nodes if name != DECOMPOSE}
        done = f"{sum(state == 'done' for state in states.values())} of {len(states)} nodes are done"
        skipped = [name for name, state in states.items() if state == "skipped"]
        done += f", {len(skipped)} skipped" if skipped else ""
        lacking = [name for name in self._nodes.final() if states.get(name) not in ("done", "skipped", None)]
        failures = self._nodes.failures()
        first = next((name for name, state in states.items() if state in ("failed", "cancelled")), "")
        why = f"; {first}: {failures[first].error}" if first in failures else ""
        return [Finish("failed" if lacking else "completed", done + why, self._output())]

    def _output(self) -> Value | None:
        """Where the outputs of the final nodes are found: a task each, by node; none of them is written down again."""
        nodes = self._nodes
        found = {
            name: nodes.task_id(name) for name in nodes.final() if nodes.state(name) == "done" and name != DECOMPOSE
        }
        return as_json(found)

    def told(self, news: object, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Nodes are done again, or dead letters; or, of those that wait, given up or put before others."""
        match news:
            case Cancel(task_ids=task_ids, reason=reason):
                effects = self._nodes.cancel(task_ids, reason)
                return [*effects, *self._end()] if effects else []
            case Prioritise(task_id=task_id, priority=priority):
                return self._nodes.prioritise(task_id, priority)
            case Requeue(task_ids=task_ids):
                return self._nodes.requeue(task_ids)
            case Revise(feedback=feedback):
                known = {name: why for name, why in feedback.items() if name in self._nodes and name != DECOMPOSE}
                if not known:
                    return []
                mends = any(each.source == "qa" for why in known.values() for each in why)
                self._nodes.verdicts = news.verdicts or self._nodes.verdicts
                line = TasksRevised(feedback=known, verdicts=news.verdicts)
                return [Emit(line), *self._nodes.revise(known, mends=mends)]
        return []

    def again(self, names: Iterable[str]) -> dict[str, str]:
        """What depends on them, too."""
        known = [name for name in names if name in self._nodes and name != DECOMPOSE]
        return {name: self._nodes.spec(name).call.code for name in self._nodes.behind(known)}

    def exhausted(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Begin nothing more, and end."""
        return self._give_up("failed", reason)

    def stop(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Give up what is not done."""
        return self._give_up("stopped", reason)

    def _give_up(self, status: str, reason: str) -> list[PlanEffect]:
        done = len(self._nodes.outputs().keys() - {DECOMPOSE})
        return [*self._nodes.close(reason), Finish(status, f"{reason}; {done} nodes are done", self._output())]

    def product(self) -> Product:
        """The outputs and files of all nodes."""
        names = [name for name in self._nodes if name != DECOMPOSE]
        states = {name: self._nodes.state(name) for name in names}
        failures = self._nodes.failures()
        about = {name: self._nodes.spec(name).call for name in names}
        return Product(
            tasks=tuple(self._nodes.task_id(name) for name in names if states[name] in ("done", "failed", "stopped")),
            layers=self._nodes.layers(),
            nodes={
                name: ({"task": call.instructions} if call.instructions else {}) | call.about
                for name, call in about.items()
            },
            final=tuple(name for name in self._nodes.final() if name != DECOMPOSE),
            failures={name: failures[name] for name in names if states[name] == "failed"},
            writers=self._nodes.writers,
        )
