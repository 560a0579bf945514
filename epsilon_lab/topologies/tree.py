"""Large work in the hands of several teams, each with a plan and a git branch of its own, brought together at the end.

Teams work at the same time. One that depends on others begins when they have committed, with their files merged into
its branch. When a team is done its nodes' work is committed, a commit each, and its branch is merged into `main`;
where branches conflict, a fixer is given the files with git's markers and resolves them. Then QA looks at what came of
it all, and whoever made what is wrong mends it, as in a dag (quality.py).

How teams become nodes, teams.py says; what git does as a task, agents/teamwork.py; here is when.
"""

from __future__ import annotations

import functools
import html
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from epsilon_lab.agents.teamwork import RESOLUTION, Act, GitWork
from epsilon_lab.agents.work import Task, Work
from epsilon_lab.arguments import above_zero, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import origin, revision, slug
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import Feedback
from epsilon_lab.messages.events import Body
from epsilon_lab.messages.tasks import TaskOutcome
from epsilon_lab.messages.values import Value, as_json, unpack
from epsilon_lab.settings import LEAF_BYTES, LEAF_FILES
from epsilon_lab.topologies.crew import Crew
from epsilon_lab.topologies.dag import (
    DECOMPOSE,
    DagRules,
    Hand,
    hand_of,
    node_spec,
    taking_apart,
)
from epsilon_lab.topologies.decomposition import Planned, Worded, decomposition_request, located, read_answer, read_plan
from epsilon_lab.topologies.judged_plan import Judge, JudgedPlan, judge_of
from epsilon_lab.topologies.manifest import Manifest, convert
from epsilon_lab.topologies.nodes import NodeSpec
from epsilon_lab.topologies.plan import Finish, Plan, PlanEffect, Revise, read_rules, save_rules
from epsilon_lab.topologies.quality import Inspection, Product, answering, checked
from epsilon_lab.topologies.teams import (
    COMMIT,
    MERGE,
    OWN_NODES,
    REPOSITORY,
    Git,
    PlannedTeam,
    division_request,
    final,
    headline,
    is_words,
    merge_order,
    messages,
    read_division,
    read_teams,
    team_nodes,
    within,
)
from epsilon_lab.topologies.teams import Planned as PlannedTeams
from epsilon_lab.topologies.teams import Worded as WordedTeams
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory

RESOLVE = "resolve"
"""The task in which conflicts are resolved, and its kind."""

_WHAT = "Tree"
_RESOLVING = """\
Two branches changed the same files. In your workspace they lie merged as far as git could, with its markers \
(<<<<<<<, =======, >>>>>>>) around what it could not. Edit each of the files named under Conflicts so that it does \
what both sides meant, leave no marker in any of them, and change nothing else."""


class TeamRules(msgspec.Struct, frozen=True, kw_only=True):
    """A team, as `plan.json` keeps it."""

    needs: tuple[str, ...] = ()
    """Teams it depends on."""

    nodes: tuple[NodeSpec, ...]
    """Its plan, or the node that takes its task apart, by their own names."""


class TreeRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a tree is played by."""

    dag: DagRules
    """Who does what is said in words; what takes a sentence apart into teams."""

    git: Git
    teams: dict[str, TeamRules]
    base: dict[str, bool] = {}
    """Files that all teams begin from, and whether they are programs."""

    dividers: dict[str, Hand] = {}
    """Who takes a team's task apart, by the agent's name."""

    fixer: Judge | None = None
    resolutions: int = 3


class TreePlan(JudgedPlan):
    """The rules of a tree.

    Args:
        rules: Its teams, and who does what.
    """

    def __init__(self, rules: TreeRules) -> None:
        super().__init__(rules.dag, suffix=RESOLVE)
        self.limits = {COMMIT: 1, MERGE: 1}
        self._tree = rules
        self._head = REPOSITORY
        """The node after which `main` is at its last commit."""

        self._mends = 0
        self._resolutions: dict[str, tuple[Feedback, ...]] = {}
        """How conflicts were resolved, by the merge they stood in the way of."""

        self._known: dict[tuple[str, str], Feedback] = {}
        """How each conflict was resolved: by that merge, and what it looked like."""

    def start(self, now: float) -> list[PlanEffect]:
        """Begin with the repository, or with dividing the work."""
        return super().start(now) if self._rules.decompose else self._begin_teams(self._tree.teams)

    def _begin_teams(self, teams: Mapping[str, TeamRules]) -> list[PlanEffect]:
        specs = [self._tree.git.node(REPOSITORY, "create", (), {"files": self._tree.base})]
        for team in merge_order({name: rules.needs for name, rules in teams.items()}):
            nodes, self._head = team_nodes(self._tree.git, team, teams[team].needs, teams[team].nodes, self._head)
            specs += nodes
        return self._nodes.add(specs)

    # -- what is taken apart ------------------------------------------------------------------------------------------

    def _take_apart(self, outcome: TaskOutcome) -> list[PlanEffect]:
        """Take a model's division of the work."""
        division, effects = self._parted(DECOMPOSE, outcome, read_division)
        if division is None:
            return effects
        limit_s, hands = self._rules.time_limit_s, self._tree.dividers
        teams = {
            team.id: TeamRules(
                needs=tuple(team.depends_on),
                nodes=(dividing(team.task, hands[team.agent or ""], list(self._rules.hands), limit_s),),
            )
            for team in division.teams
        }
        return [*self._nodes.accept(DECOMPOSE), *self._begin_teams(teams)]

    def _divide(self, name: str, outcome: TaskOutcome) -> list[PlanEffect]:
        """Take a team's plan, which a model made."""
        plan, effects = self._parted(name, outcome, functools.partial(read_answer, taken=OWN_NODES))
        if plan is None:
            return effects
        team = name.removesuffix(f".{DECOMPOSE}")
        nodes = [within(team, node) for node in self._worded(plan)]
        effects = self._nodes.add(nodes)
        self._nodes.redirect(name, tuple(final(nodes)))
        self._nodes.tell(f"{team}.{COMMIT}", messages=messages(nodes))
        return [*effects, *self._nodes.accept(name)]

    def _unparted(self, name: str, why: str) -> list[PlanEffect]:
        """A team that cannot begin ends no other's work."""
        return super()._unparted(name, why) if name == DECOMPOSE else self._nodes.refuse(name, why)

    # -- conflicts ----------------------------------------------------------------------------------------------------

    def _judge(self, name: str) -> list[PlanEffect]:
        outcome = self._nodes.outcome(name)
        if self._nodes.state(name) != "done" or outcome is None or outcome.output is None:
            return self._nodes.accept(name)
        if name.endswith(f".{DECOMPOSE}"):
            return self._divide(name, outcome)
        if not (conflicts := unpack(outcome.output)["conflicts"]):
            return self._nodes.accept(name)
        fixer, which = self._tree.fixer, ", ".join(conflicts)
        tried = len(self._resolutions.get(name, ()))
        if fixer is None or tried >= self._tree.resolutions:
            often = f" after {tried} tries" if tried else ""
            return self._refused(name, f"branches conflict in {which}{often}, and nobody is there to resolve it")
        if self._is_finalised and f"code/{fixer.call.code}.pkl" in self.models:
            return self._resolve_as_before(name, which, outcome, fixer)
        about = {**fixer.call.about, "conflicts": conflicts, "of": name}
        call = msgspec.structs.replace(fixer.call, about=about, layers=self._nodes.layers(of=name))
        line = self._reviewed(name, "fail", f"branches conflict in {which}", by="git", then=RESOLVE, to=fixer.name)
        return [*line, *self._ask(name, msgspec.structs.replace(fixer, call=call))]

    def _resolve_as_before(self, name: str, which: str, outcome: TaskOutcome, fixer: Judge) -> list[PlanEffect]:
        """Have a fixer's answer on record stand where it would be given the same conflict; it is asked no other."""
        said = self._known.get((name, _seen(outcome)))
        if said is None:
            why = f"branches conflict in {which} as they have not before, and where a run is finalised nobody is asked"
            return self._refused(name, f"{why}; run.rerun([{name!r}]) has {fixer.name} resolve it")
        why = f"branches conflict in {which}, as before"
        return [
            *self._reviewed(name, "fail", why, by="git", then=RESOLVE, to=fixer.name),
            *self._resolve(name, said),
        ]

    def _resolve(self, name: str, said: Feedback) -> list[PlanEffect]:
        self._resolutions[name] = (*self._resolutions.get(name, ()), said)
        return self._nodes.revise({name: self._resolutions[name]}, mends=True)

    def _answered(self, name: str, outcome: TaskOutcome) -> list[PlanEffect]:
        by = self._tree.fixer.name if self._tree.fixer else RESOLVE
        if outcome.status != "completed" or not outcome.files:
            error = outcome.failure.error if outcome.failure else "it changed no file"
            return self._refused(name, f"branches conflict, and {by} did not resolve it: {error}")
        said = Feedback("review", f"{by} resolved conflicts", f"{RESOLUTION}{outcome.files}")
        if (conflict := self._nodes.outcome(name)) is not None:
            self._known[name, _seen(conflict)] = said
        return self._resolve(name, said)

    def _refused(self, name: str, why: str) -> list[PlanEffect]:
        return [*self._reviewed(name, "fail", why, by="git", then="failed"), *self._nodes.refuse(name, why)]

    # -- done again ---------------------------------------------------------------------------------------------------

    def told(self, news: object, now: float) -> list[PlanEffect]:
        """Nodes are done again; what QA had mended is committed to `main`."""
        if not isinstance(news, Revise):
            return super().told(news, now)
        wanted = {name: why for name, why in news.feedback.items() if not name.endswith(f".{DECOMPOSE}")}
        mended = [name for name, why in wanted.items() if any(each.source == "qa" for each in why)]
        mended = [name for name in mended if name in self._nodes]
        effects = super().told(msgspec.structs.replace(news, feedback=wanted), now) if wanted else []
        if not effects or not mended:
            return effects
        self._mends += 1
        since = {name: revision(self._nodes.task_id(name)) for name in mended}
        said = {name: headline(f"Mend: {wanted[name][-1].text}") for name in mended}
        mend = self._tree.git.node(
            f"mend-{self._mends}",
            COMMIT,
            [self._head, *mended],
            {"of": None, "onto": self._head, "since": since, "messages": said},
        )
        self._head = mend.id
        return [*effects, *self._nodes.add([mend])]

    def _renewed(self, names: Sequence[str]) -> list[PlanEffect]:
        """Conflicts of what is done again are new ones."""
        for name in names:
            self._resolutions.pop(name, None)
        return []

    # -- what there is ------------------------------------------------------------------------------------------------

    def _work(self) -> list[str]:
        """The nodes that people or agents do, in the plan's order."""
        return [name for name in self._nodes if self._nodes.spec(name).kind == "node"]

    def _end(self) -> list[PlanEffect]:
        if self._nodes.open:
            return []
        work = self._work()
        done = f"{sum(self._nodes.state(name) == 'done' for name in work)} of {len(work)} nodes are done"
        failures = self._nodes.failures()
        failed = next((name for name in self._nodes if self._nodes.state(name) in ("failed", "cancelled")), None)
        if self._nodes.state(self._head) != "done":
            why = f"; {failed}: {failures[failed].error}" if failed in failures else ""
            return [Finish("failed", f"{done}, and not all teams are merged{why}", self._output())]
        return [Finish("completed", f"{done}, and all teams are merged", self._output())]

    def _output(self) -> Value:
        """The last commit of `main`, and of every team, as far as there is one."""
        commits = {
            name: unpack(value)["commit"]
            for name, value in self._nodes.outputs().items()
            if self._nodes.spec(name).kind in (COMMIT, MERGE)
        }
        suffix = f".{COMMIT}"
        teams = {name.removesuffix(suffix): commit for name, commit in commits.items() if name.endswith(suffix)}
        main = [commit for name, commit in commits.items() if self._nodes.spec(name).kind == MERGE or "." not in name]
        return as_json({"commit": main[-1] if main else "", "teams": teams})

    def product(self) -> Product:
        """The outputs and files of all nodes that people or agents do."""
        work, found = frozenset(self._work()), super().product()
        states = {name: self._nodes.state(name) for name in work}
        needed = {other for name in work for other in self._nodes.spec(name).depends_on}
        return found._replace(
            tasks=tuple(task_id for task_id in found.tasks if origin(task_id) in work),
            nodes={name: about for name, about in found.nodes.items() if name in work},
            final=tuple(name for name in self._nodes if name in work and name not in needed and states[name] == "done"),
            failures={name: failure for name, failure in found.failures.items() if name in work},
        )


def dividing(task: str, hand: Hand, agents: Sequence[str], limit_s: float | None) -> NodeSpec:
    """The node that takes a team's task apart."""
    return taking_apart(hand, decomposition_request(task, agents, taken=OWN_NODES), retries=1, time_limit_s=limit_s)


def _seen(conflict: TaskOutcome) -> str:
    """What a conflict looked like."""
    return "" if conflict.output is None else str(unpack(conflict.output).get("seen", ""))


class Tree:
    """Run teams, each with a plan and a git branch of its own, and merge what they made.

    Args:
        teams: A list of 2 to 8 teams, or `{"teams": [...]}`. Each is a dict with `id`, with a `plan` or a `task`, and
            as wanted `depends_on`, ids of teams: it begins once they have committed, with their files.

            `plan`: a list of nodes as for `Dag`. Functions are given outputs by the nodes' own names.
            `task`: a text, which `agent` takes apart into nodes and does; or a function, an `Agent`, a `Command`,
            `module:function`, which is then the team's only node, `work`.
            `agent`: the name of the agent that takes the text apart.

            Or a sentence that says what is to be done: then `agent` divides it among teams first.
        agent: Who does what is said in words: one, or a dict of them by name, as for `Dag`.
        qa: Looks at the merged product, as for `Dag`; what it finds is mended by whoever made it, and committed.
        fix_waves: How often what QA found is mended and looked at again, and how often conflicts of a merge are
            resolved before it is given up.
        assign: Says whose an error is that names neither a node nor a file, as for `Dag`.
        fixer: Resolves conflicts: a function of the request, an `Agent`, a `Command`. It has the merged files in its
            workspace, with git's markers; `about` (a function: `request["meta"]`) names them in `conflicts`. None: the
            agent that has no name. Where a run is finalised, an agent's or a program's answer stands as long as the
            files in conflict are the same; what conflicts otherwise is resolved by `run.rerun(["<team>.merge"])`.
        base: A directory whose files all teams begin from, without its `.git`.
        retries: How often a node that failed is tried again, knowing how it failed.
        time_limit_s: Seconds that one attempt at a node may take.

    A node works in a directory of its own that begins with its team's branch. What the nodes of a team changed becomes
    a commit each on `team/<id>`; the run directory has the repository in `repository/`, with `main` checked out, and
    each team's worktree in `worktrees/<id>/`. `run.export(directory)` writes the product's files.

    `run.output` is `{"commit": the last of main, "teams": {id: commit}}`. The run has completed when every team is
    merged and QA passed.

    Raises:
        InvalidInput: An argument has a wrong type or value; in teams, at the place named, `$.teams[1].depends_on[0]`.
    """

    topology = "tree"
    seed: int | None = None
    parent_run_id: str | None = None

    def __init__(
        self,
        teams: Sequence[Mapping[str, Any]] | Mapping[str, Any] | str,
        *,
        agent: Task | Mapping[str, Task] | None = None,
        qa: Task | None = None,
        fix_waves: int = 3,
        assign: Task | None = None,
        fixer: Task | None = None,
        base: str | Path | None = None,
        retries: int = 1,
        time_limit_s: float | None = None,
    ) -> None:
        self.retries = whole(f"{_WHAT} retries", retries, least=0)
        self.fix_waves = whole(f"{_WHAT} fix_waves", fix_waves, least=0)
        self.time_limit_s = above_zero(f"{_WHAT} time_limit_s", time_limit_s)
        self._crew = Crew(_WHAT, agent)
        agents = self._crew.agents
        self._hands = self._crew.hands
        self._dividers = {
            name: self._crew.work(f"{_WHAT} agent", answering(task, Worded), form="request")
            for name, task in agents.items()
        }
        self._base = _base(base)
        acts: tuple[Act, ...] = ("create", "branch", "commit", "merge")
        works: dict[str, Work] = {act: self._crew.work(_WHAT, GitWork(act), form="request") for act in acts}
        self._git = Git({act: work.sha256 for act, work in works.items()}, works["create"].entry)
        self._inspection = Inspection.of(_WHAT, qa, assign, fix_waves)
        for work in self._inspection.works if self._inspection else ():
            self._crew.take(work)
        self._fixer = self._fixing(fixer)
        self._sentence = teams.strip() if isinstance(teams, str) else None
        self._teams: dict[str, TeamRules] = {}
        if self._sentence is None:
            for place, team in enumerate(read_teams(teams, PlannedTeams, what=_WHAT, agents=list(agents)).teams):
                nodes = tuple(self._nodes(team, f"$.teams[{place}]"))
                self._teams[team.id] = TeamRules(needs=tuple(team.depends_on), nodes=nodes)
        elif not self._sentence:
            raise InvalidInput(f"{_WHAT} teams", "is blank", "say what is to be done, or give the teams")
        elif not agents:
            raise InvalidInput(
                f"{_WHAT} teams", "is a sentence, and there is no agent to divide it", "agent=Agent(...)"
            )
        else:
            first = agents.get("") or next(iter(agents.values()))
            self._divider = self._crew.work(f"{_WHAT} agent", answering(first, WordedTeams), form="request")
        self.title = slug(self._sentence) if self._sentence else "tree"

    @classmethod
    def from_manifest(cls, path: str | Path, **more: Any) -> Tree:
        """Read the teams from a JSON file: `{"teams": [...]}`, with the fields above.

        A task `file.py:function` is a file below the manifest's directory.

        Args:
            path: The file.
            more: The other arguments of `Tree`.

        Raises:
            InvalidInput: Naming the place in the document. Nothing has run by then, but the top level of modules.
        """
        manifest = Manifest(path, PlannedTeams)
        made = cls([_located(manifest, place, team) for place, team in enumerate(manifest.values.teams)], **more)
        made.title = Path(path).stem
        return made

    def _fixing(self, fixer: Task | None) -> Judge | None:
        given = self._crew.agents.get("") if fixer is None else fixer
        if given is None:
            return None
        work = self._crew.work(f"{_WHAT} fixer", given, form="request")
        return judge_of(work, _RESOLVING, time_limit_s=self.time_limit_s)

    def _nodes(self, team: PlannedTeam, where: str) -> list[NodeSpec]:
        """A team's plan, by its nodes' own names."""
        names = list(self._crew.agents)
        if is_words(team.task):
            hand = hand_of(self._dividers[team.agent or ""])
            return [dividing(team.task, hand, names, self.time_limit_s)]
        document = team.plan if team.plan is not None else [{"id": "work", "task": team.task}]
        plan = read_plan(document, Planned, what=f"{_WHAT}: {where}.plan", agents=names)
        specs = []
        for place, node in enumerate(plan.nodes):

            def refused(path: str, problem: str, remedy: str = "", at: int = place) -> InvalidInput:
                return InvalidInput(f"{_WHAT}: {where}.plan.nodes[{at}]{path.removeprefix('$')}", problem, remedy)

            if node.id in OWN_NODES:
                raise refused("$.id", f"{node.id!r} names a task that each team has by itself", "call it otherwise")
            work, _ = self._crew.performer(node.task, node.agent, refused, form="inputs")
            specs.append(node_spec(node, hand_of(work), self.retries, self.time_limit_s))
        return specs

    def __repr__(self) -> str:
        what = f"{len(self._teams)} teams" if self._teams else "to be divided"
        return f"<Tree {self.title}: {what}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return {
            "sentence": self._sentence,
            "teams": {name: [node.id for node in team.nodes] for name, team in self._teams.items()},
            "depends_on": {name: list(team.needs) for name, team in self._teams.items()},
            "agents": {name: work.name for name, work in self._hands.items()},
            "qa": None if self._inspection is None else self._inspection.qa.name,
            "fixer": None if self._fixer is None else self._fixer.name,
            "base": len(self._base),
            "fix_waves": self.fix_waves,
            "retries": self.retries,
            "time_limit_s": self.time_limit_s,
        }

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse agents, models and programs that cannot do anything, and to begin without git.

        Raises:
            InvalidInput: Naming what is missing.
        """
        self._crew.validate(budget)

    def prepare(self, run: RunDirectory) -> tuple[Plan, Sequence[Body]]:
        """Write what the nodes run, the files that teams begin from, and the plan."""
        saved: list[Body] = list(self._crew.save(run))
        for path, place in self._base.items():
            saved.append(run.save(f"base/{path}", place.read_bytes(), kind="input"))
        dag = DagRules(
            decompose=self._dividing(),
            hands={name: hand_of(work) for name, work in self._hands.items()},
            retries=self.retries,
            time_limit_s=self.time_limit_s,
            quality=self._inspection.rules(self._sentence or "", self.time_limit_s) if self._inspection else None,
            models=self._crew.models,
        )
        rules = TreeRules(
            dag=dag,
            git=self._git,
            teams=self._teams,
            base={path: bool(place.stat().st_mode & stat.S_IXUSR) for path, place in self._base.items()},
            dividers={name: hand_of(work) for name, work in self._dividers.items()},
            fixer=self._fixer,
            resolutions=self.fix_waves,
        )
        return _plan(rules), [*saved, save_rules(rules, run)]

    def _dividing(self) -> NodeSpec | None:
        if self._sentence is None:
            return None
        request = division_request(self._sentence, list(self._crew.agents))
        return taking_apart(hand_of(self._divider), request, retries=1, time_limit_s=self.time_limit_s)

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> Plan:  # noqa: ARG004
        """Make the rules again from `plan.json`. Unpickles nothing.

        Raises:
            LabError: It is not there, or cannot be read.
        """
        return _plan(read_rules(run, TreeRules))


def _plan(rules: TreeRules) -> Plan:
    return checked(TreePlan(rules), rules.dag.quality)


def _located(manifest: Manifest[PlannedTeams], place: int, team: PlannedTeam) -> dict[str, Any]:
    """A team as a manifest states it, with the files of its functions found."""
    where = f"$.teams[{place}]"
    fields: dict[str, Any] = msgspec.to_builtins(team)
    if team.task is not None:
        fields["task"] = manifest.performer(f"{where}.task", team.task)
    if team.plan is not None:

        def refused(path: str, problem: str, remedy: str = "") -> InvalidInput:
            return manifest.refused(f"{where}.plan{path.removeprefix('$')}", problem, remedy)

        plan = convert({"nodes": team.plan} if isinstance(team.plan, list) else team.plan, Planned, refused)
        fields["plan"] = located(manifest, plan, where=f"{where}.plan")
    return fields


def _base(given: str | Path | None) -> dict[str, Path]:
    """The files that teams begin from, by their paths.

    Raises:
        InvalidInput: It is no directory, or holds too much.
    """
    if given is None:
        return {}
    root = Path(given).expanduser()
    if not root.is_dir():
        raise InvalidInput(f"{_WHAT} base", f"must be a directory, got {str(given)!r}")
    found: dict[str, Path] = {}
    room = LEAF_BYTES
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name != ".git")
        for place in (Path(folder) / name for name in sorted(names)):
            if not stat.S_ISREG(place.lstat().st_mode):
                continue
            found[place.relative_to(root).as_posix()] = place
            room -= place.stat().st_size
            if room < 0 or len(found) > LEAF_FILES:
                most = f"{LEAF_FILES:,} files of {LEAF_BYTES >> 20:,} MiB in all"
                raise InvalidInput(f"{_WHAT} base", f"holds more than {most}", "give a smaller directory")
    return found
