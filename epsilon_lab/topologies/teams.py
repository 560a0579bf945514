"""A large piece of work divided among teams: what a user or a model states, and the nodes that it comes to.

A team is a plan of its own inside the run: its nodes are `<team>.<node>`, and it works on a branch of its own. So its
tasks are in the run's journal, its budget, its pause and its resumption are the run's, and a team needs no machinery
that a single node has not. Around its nodes stand three acts of git, nodes as well:

    <team>.branch   once all that the team depends on is committed: a branch and a worktree, with that merged
    <team>.commit   once its nodes are done: what each of them changed, a commit each
    <team>.merge    one team after the other: its branch into `main`
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from epsilon_lab.agents.entry_point import is_entry
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.call import Call
from epsilon_lab.topologies.decomposition import document_in, find_circle, listed
from epsilon_lab.topologies.manifest import Text, convert
from epsilon_lab.topologies.nodes import NodeSpec

FEWEST, MOST = 2, 8
"""Teams of a run."""

BRANCH, COMMIT, MERGE, REPOSITORY = "branch", "commit", "merge", "repository"
OWN_NODES = (BRANCH, COMMIT, MERGE, "decompose")
"""Names that a team's nodes have by themselves."""

TeamId = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}\Z",
        description="an id of 1 to 40 letters, digits, '_' and '-', beginning with a letter or digit",
    ),
]
TeamIds = Annotated[list[TeamId], Meta(description="a list of ids of teams")]


class PlannedTeam(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A team, as a user states it: with a plan, or with a task."""

    id: TeamId
    plan: Annotated[Any, Meta(description="a list of nodes")] = None
    task: Annotated[Any, Meta(description="a function, an Agent, a Command, 'module:function', or a text")] = None
    """A text is taken apart by an agent, who does what comes of it; all else is the team's only node, `work`."""

    agent: Annotated[Any, Meta(description="the name of an agent")] = None
    """Who takes a text apart."""

    depends_on: TeamIds = []


class WordedTeam(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A team, as a model states it: in words."""

    id: TeamId
    task: Text
    agent: Annotated[str | None, Meta(description="the name of an agent")] = None
    depends_on: TeamIds = []


_Bounds = Meta(min_length=FEWEST, max_length=MOST, description=f"a list of {FEWEST} to {MOST} teams")


class Planned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All teams, as a user states them."""

    teams: Annotated[list[PlannedTeam], _Bounds]


class Worded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All teams, as a model states them."""

    teams: Annotated[list[WordedTeam], _Bounds]


T = TypeVar("T", Planned, Worded)


def read_teams(document: object, fields: type[T], *, what: str, agents: Sequence[str] = ()) -> T:
    """Hold teams to the rules.

    Args:
        document: `{"teams": [...]}`, or the list alone.
        fields: Who states it: a user (`Planned`), or a model (`Worded`).
        what: What to call it in a message.
        agents: Names that a team's `agent` may have; `""` where there is one that needs none.

    Raises:
        InvalidInput: Naming the place and the remedy.
    """

    def refused(place: str, problem: str, remedy: str = "") -> InvalidInput:
        return InvalidInput(f"{what}: {place}", problem, remedy)

    stated = convert({"teams": document} if isinstance(document, list | tuple) else document, fields, refused)
    places: dict[str, int] = {}
    for index, team in enumerate(stated.teams):
        if team.id in places:
            raise refused(f"$.teams[{index}].id", f"{team.id!r} is the id of $.teams[{places[team.id]}] too")
        if team.id == REPOSITORY:
            raise refused(f"$.teams[{index}].id", f"{team.id!r} names a task of the run itself", "call it otherwise")
        places[team.id] = index
    for index, team in enumerate(stated.teams):
        for place, name in enumerate(team.depends_on):
            where = f"$.teams[{index}].depends_on[{place}]"
            if name == team.id or name in team.depends_on[:place]:
                raise refused(where, f"names {name!r} {'itself' if name == team.id else 'once more'}", "leave it out")
            if name not in places:
                raise refused(where, f"there is no team {name!r}", f"the teams are {listed(places)}")
        _check_work(team, f"$.teams[{index}]", agents, refused)
    if circle := find_circle({team.id: team.depends_on for team in stated.teams}):
        where = f"$.teams[{places[circle[0]]}].depends_on"
        raise refused(where, f"goes round in a circle: {' -> '.join(circle)}", "take one of these dependencies out")
    return stated


def _check_work(team: PlannedTeam | WordedTeam, where: str, agents: Sequence[str], refused: Any) -> None:
    plan = getattr(team, "plan", None)
    if (plan is None) is (team.task is None):
        raise refused(
            where, f"team {team.id!r} has {'both a plan and a task' if plan else 'nothing to do'}", "give one"
        )
    if isinstance(team.agent, str) and team.agent not in agents:
        known = [name for name in agents if name]
        raise refused(f"{where}.agent", f"there is no agent {team.agent!r}", f"the agents are {listed(known)}")
    if not is_words(team.task):
        if team.agent is not None:
            raise refused(f"{where}.agent", "takes apart what is said in words, and that is none", "leave it out")
        return
    if not team.task.strip():
        raise refused(f"{where}.task", "is blank", "say what is to be done")
    if team.agent is None and "" not in agents:
        raise refused(
            f"{where}.task", "is a text, and there is no agent to take it apart", "give one: agent=Agent(...)"
        )


def is_words(task: object) -> bool:
    """Tell whether a task is said in words, for an agent."""
    return isinstance(task, str) and not is_entry(task)


def merge_order(depends_on: Mapping[str, Sequence[str]]) -> list[str]:
    """Order teams so that each comes after those that it depends on, and else as they were stated."""
    found: dict[str, None] = {}
    while len(found) < len(depends_on):
        found[next(team for team, needs in depends_on.items() if team not in found and found.keys() >= set(needs))] = (
            None
        )
    return list(found)


# -- asking a model ----------------------------------------------------------------------------------------------------


def division_request(work: str, agents: Sequence[str]) -> str:
    """What a model is asked, to divide a piece of work among teams."""
    named = [name for name in agents if name]
    who = f'- "agent": who leads it, one of {listed(named)}{"" if "" in agents else " (required)"}.\n' if named else ""
    return f"""\
Divide this piece of work among {FEWEST} to {MOST} teams. Each works on a branch of its own and sees the files of \
those that it depends on; afterwards the branches are merged, so let no two teams change the same file.

The work:
{work}

Answer with one JSON object and nothing else: {{"teams": [...]}}. Each team has
- "id": its own short name, of letters, digits, "_" and "-".
- "task": what it is to do, in full: it sees neither the others' tasks nor this text, and divides it further itself.
- "depends_on": ids of teams whose files it needs to begin with, a list.
{who}"""


def read_division(answer: object, agents: Sequence[str]) -> Worded:
    """Hold a model's answer to the rules for teams.

    Raises:
        InvalidInput: Naming what is wrong, in words that the model can mend it by.
    """
    document = document_in(answer) if isinstance(answer, str) else answer
    return read_teams(document, Worded, what="division", agents=agents)


# -- as nodes ----------------------------------------------------------------------------------------------------------


class Git(msgspec.Struct, frozen=True):
    """The acts of git, as `plan.json` keeps them: SHA-256 of what performs each, and where."""

    codes: dict[str, str]
    entry: str

    def node(self, name: str, act: str, depends_on: Sequence[str], about: Mapping[str, Any]) -> NodeSpec:
        """An act as a node."""
        return NodeSpec(
            id=name,
            kind=MERGE if act == MERGE else COMMIT,
            call=Call(code=self.codes[act], form="request", about=dict(about)),
            lane="process",
            entry=self.entry,
            depends_on=tuple(dict.fromkeys(depends_on)),
            is_reviewed=act in (BRANCH, MERGE),
        )


def team_nodes(
    git: Git, team: str, needs: Sequence[str], nodes: Sequence[NodeSpec], last: str
) -> tuple[list[NodeSpec], str]:
    """A team's nodes, with the acts around them.

    Args:
        git: The acts.
        team: The team.
        needs: Teams that it depends on.
        nodes: Its plan, or the one node that takes its task apart, by their own names.
        last: The node after which `main` is as it is to be merged into.

    Returns:
        The nodes by their full names, and the one after which it is merged.
    """
    branch, commit, merge = (f"{team}.{act}" for act in (BRANCH, COMMIT, MERGE))
    others = [f"{need}.{COMMIT}" for need in needs]
    about = {"of": team, "onto": REPOSITORY, "with": others}
    own = [within(team, node) for node in nodes]
    return [
        git.node(branch, BRANCH, [REPOSITORY, *others], about),
        *own,
        git.node(commit, COMMIT, [branch, *final(own)], {"of": team, "onto": branch, "messages": messages(own)}),
        git.node(merge, MERGE, [last, commit], {"of": team, "onto": last, "with": [commit]}),
    ], merge


def within(team: str, node: NodeSpec) -> NodeSpec:
    """A node by its name within the run; it begins with the files of its team's branch."""
    call = msgspec.structs.replace(node.call, about={**node.call.about, "team": team})
    return msgspec.structs.replace(
        node,
        id=f"{team}.{node.id}",
        call=call,
        depends_on=tuple(f"{team}.{name}" for name in node.depends_on) or (f"{team}.{BRANCH}",),
        when=tuple(msgspec.structs.replace(each, task_id=f"{team}.{each.task_id}") for each in node.when),
    )


def final(nodes: Sequence[NodeSpec]) -> list[str]:
    """Those that none of them depends on."""
    needed = {name for node in nodes for name in node.depends_on}
    return [node.id for node in nodes if node.id not in needed]


def messages(nodes: Sequence[NodeSpec]) -> dict[str, str]:
    """What commits of these nodes' work say, of those whose task was said in words."""
    return {node.id: headline(node.call.instructions) for node in nodes if node.call.instructions.strip()}


def headline(text: str, *, limit: int = 72) -> str:
    """The first line of a text, for a commit's message."""
    line = re.sub(r"\s+", " ", next(iter(text.strip().splitlines()), ""))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
