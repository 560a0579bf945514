"""A piece of work taken apart: nodes that depend on each other, stated by a user or by a model, refused by one rule.

A model's answer is held to the very rules that a user's plan is held to, and told of its mistakes in the same words,
because both are refused for the same reason: nothing may be spent on a plan that cannot be carried out. A mistake is
named with its place in the document (`$.nodes[3].depends_on[0]`) and with what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from epsilon_lab.agents.entry_point import is_entry
from epsilon_lab.errors import InvalidInput
from epsilon_lab.topologies.manifest import AnyText, Manifest, Natural, Text, convert

RESERVED = ("qa", "assign", "decompose")
"""Names of tasks that a run has by itself."""

DECOMPOSED = 2, 30
"""Nodes, at least and at most, that a model may take work apart into; the bounds of Epsilon's `decompose_task`."""

NodeId = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z",
        description="an id of 1 to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit",
    ),
]
TaskType = Annotated[
    Literal["map", "contract", "build", "reduce", "verify"] | None,
    Meta(description="one of 'map', 'contract', 'build', 'reduce' and 'verify'"),
]
Retries = Annotated[Natural | None, Meta(description="a whole number from 0 to 1000000")]
Share = Annotated[Annotated[float, Meta(ge=0, le=1)] | None, Meta(description="a share from 0 to 1")]
Seconds = Annotated[Annotated[float, Meta(gt=0)] | None, Meta(description="seconds above 0")]
Texts = Annotated[list[Text], Meta(description="a list of texts, none of them blank")]


class When(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A condition on the output of a node that this one depends on."""

    node: NodeId
    equals: Annotated[Any, Meta(description="any value")]
    path: Annotated[list[str | int], Meta(description="a list of names and places")] = []
    """Where in the output, which is JSON; empty for all of it."""


class PlannedNode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node, as a user or a model states it."""

    id: NodeId
    task: Annotated[Any, Meta(description="a function, an Agent, a Command, 'module:function', or a text for an agent")]
    agent: Annotated[Any, Meta(description="the name of an agent, or one")] = None
    """Who does a task that is a text."""

    role: AnyText = ""
    task_type: TaskType = None
    inputs: Texts = []
    """What it reads, for whoever does it."""

    outputs: Texts = []
    """What it makes; of a file, its path: it must be there at the end."""

    acceptance: Texts = []
    """What must hold of its work."""

    depends_on: Annotated[list[NodeId], Meta(description="a list of ids")] = []
    priority: Annotated[int, Meta(description="a whole number", ge=-1_000_000, le=1_000_000)] = 0
    retries: Retries = None
    when: Annotated[list[When], Meta(description="a list of conditions")] = []
    quorum: Share = None
    time_limit_s: Seconds = None


class Planned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan, as a user or a model states it."""

    nodes: Annotated[list[PlannedNode], Meta(min_length=1, description="a list of one or more nodes")]


class WordedNode(PlannedNode, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node, as a model states it: in words."""

    task: Text
    agent: Annotated[str | None, Meta(description="the name of an agent")] = None


class Worded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan, as a model states it."""

    nodes: Annotated[
        list[WordedNode],
        Meta(
            min_length=DECOMPOSED[0],
            max_length=DECOMPOSED[1],
            description=f"a list of {DECOMPOSED[0]} to {DECOMPOSED[1]} nodes",
        ),
    ]


P = TypeVar("P", Planned, Worded)


def read_plan(document: object, fields: type[P], *, what: str, agents: Sequence[str] = ()) -> P:
    """Hold a plan to the rules.

    Args:
        document: `{"nodes": [...]}`, or the list alone.
        fields: Who states it: a user (`Planned`), or a model (`Worded`).
        what: What to call it in a message.
        agents: Names that a node's `agent` may have; `""` where there is one that needs none.

    Raises:
        InvalidInput: Naming the place and the remedy.
    """

    def refused(place: str, problem: str, remedy: str = "") -> InvalidInput:
        return InvalidInput(f"{what}: {place}", problem, remedy)

    plan = convert({"nodes": document} if isinstance(document, list | tuple) else document, fields, refused)
    places: dict[str, int] = {}
    for index, node in enumerate(plan.nodes):
        place = f"$.nodes[{index}]"
        if node.id in places:
            problem = f"{node.id!r} is the id of $.nodes[{places[node.id]}] too"
            raise refused(f"{place}.id", problem, "give each node its own")
        if node.id in RESERVED:
            raise refused(f"{place}.id", f"{node.id!r} names a task of the run itself", "call it otherwise")
        places[node.id] = index
    for index, node in enumerate(plan.nodes):
        _check_edges(node, f"$.nodes[{index}]", places, refused)
        _check_agent(node, f"$.nodes[{index}]", agents, refused)
    if circle := find_circle({node.id: node.depends_on for node in plan.nodes}):
        shown = " -> ".join(circle)
        place = f"$.nodes[{places[circle[0]]}].depends_on"
        raise refused(place, f"goes round in a circle: {shown}", "take one of these dependencies out")
    return plan


_Refused = Callable[[str, str, str], InvalidInput]


def _check_edges(node: PlannedNode, place: str, places: Mapping[str, int], refused: _Refused) -> None:
    seen: set[str] = set()
    for index, name in enumerate(node.depends_on):
        where = f"{place}.depends_on[{index}]"
        if name == node.id:
            raise refused(where, f"is {name!r} itself", "leave it out")
        if name not in places:
            raise refused(where, f"there is no node {name!r}", f"the nodes are {listed(places)}")
        if name in seen:
            raise refused(where, f"names {name!r} once more", "leave it out")
        seen.add(name)
    for index, condition in enumerate(node.when):
        if condition.node not in seen:
            problem = f"{condition.node!r} is no node that {node.id!r} depends on"
            raise refused(f"{place}.when[{index}].node", problem, "name it in depends_on too")


def _check_agent(node: PlannedNode, place: str, agents: Sequence[str], refused: _Refused) -> None:
    is_named = isinstance(node.agent, str)
    if is_named and node.agent not in agents:
        known = [name for name in agents if name]
        remedy = f"the agents are {listed(known)}" if known else "give agents by name: agent={'name': Agent(...)}"
        raise refused(f"{place}.agent", f"there is no agent {node.agent!r}", remedy)
    if isinstance(node.task, str) and not node.task.strip():
        raise refused(f"{place}.task", "is blank", "say what is to be done")
    if not is_entry(node.task) and isinstance(node.task, str) and node.agent is None and "" not in agents:
        named = [name for name in agents if name]
        remedy = f"name one of {listed(named)} in its agent" if named else "give one: agent=Agent(...)"
        raise refused(f"{place}.task", "is a text, and there is no agent to do it", remedy)


def located(manifest: Manifest[Any], plan: Planned, *, where: str = "$") -> list[dict[str, Any]]:
    """The nodes of a plan that a manifest states at `where`, with their files found.

    Raises:
        InvalidInput: A task is no text, or names a file that is not below the manifest's directory.
    """
    return [
        msgspec.to_builtins(node) | {"task": manifest.performer(f"{where}.nodes[{place}].task", node.task)}
        for place, node in enumerate(plan.nodes)
    ]


def find_circle(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Find names that depend on each other in a circle.

    Args:
        edges: What each name depends on.

    Returns:
        The circle, its first name repeated at its end; empty where there is none.
    """
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        on_path: set[str] = set()
        todo = [(start, True)]
        while todo:
            name, is_entered = todo.pop()
            if not is_entered:
                on_path.discard(path.pop())
                done.add(name)
            elif name in on_path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                on_path.add(name)
                todo.append((name, False))
                todo += [(other, True) for other in reversed(edges[name])]
    return []


_FILE = re.compile(r"(?!/)(?!.*(?:^|/)\.\.(?:/|$))[\w./-]*\.[A-Za-z]\w{0,7}\Z")


def files_named(outputs: Sequence[str]) -> tuple[str, ...]:
    """The outputs of a node that are paths of files, as far as their form tells: `src/api.py`, not `the API`."""
    return tuple(dict.fromkeys(name for name in outputs if _FILE.match(name)))


# -- asking a model ----------------------------------------------------------------------------------------------------


def decomposition_request(
    work: str, agents: Sequence[str], *, taken: Sequence[str] = RESERVED, bounds: tuple[int, int] = DECOMPOSED
) -> str:
    """What a model is asked, to take a piece of work apart into so many nodes, none of them named as one of `taken`."""
    named = [name for name in agents if name]
    who = f'- "agent": who does it, one of {listed(named)}{"" if "" in agents else " (required)"}.\n' if named else ""
    return f"""\
Take this piece of work apart into {bounds[0]} to {bounds[1]} nodes that others will do. A node begins as \
soon as all that it depends on is done, so let nodes depend on each other only where one needs what another makes.

The work:
{work}

Answer with one JSON object and nothing else: {{"nodes": [...]}}. Each node has
- "id": its own short name, of letters, digits, "_" and "-" (not {listed(taken)}).
- "task": what is to be done, in full; whoever does it sees neither the other nodes nor this text.
- "task_type": "contract" (fix what others build on), "map" (one of several parts alike), "build" (make something), \
"reduce" (bring parts together), or "verify" (check what is there).
- "role": in a word or two, as what it is done.
- "inputs": what it reads, "outputs": what it makes; of files, their paths in the workspace. A list of texts each.
- "acceptance": what must hold of its work, a list of texts.
- "depends_on": ids of nodes whose work it needs, a list.
{who}"""


def read_answer(
    answer: object, agents: Sequence[str], *, taken: Sequence[str] = (), bounds: tuple[int, int] = DECOMPOSED
) -> Worded:
    """Hold a model's answer to the rules for a plan.

    Args:
        answer: What it gave: the document, or a text that contains it.
        agents: Names of agents.
        taken: Names that no node may have, beside those of a run's own tasks.
        bounds: How many nodes it may have, at least and at most.

    Raises:
        InvalidInput: Naming what is wrong, in words that the model can mend it by.
    """
    document = document_in(answer) if isinstance(answer, str) else answer
    plan = read_plan(document, Worded, what="decomposition", agents=agents)
    if not bounds[0] <= len(plan.nodes) <= bounds[1]:
        raise InvalidInput(
            "decomposition: $.nodes", f"must be {bounds[0]} to {bounds[1]} of them, got {len(plan.nodes)}"
        )
    for place, node in enumerate(plan.nodes):
        if node.id in taken:
            problem = f"{node.id!r} names a task of the run itself"
            raise InvalidInput(f"decomposition: $.nodes[{place}].id", problem, "call it otherwise")
        if is_entry(node.task):  # a model names no code to be run
            problem = "must say in words what is to be done"
            raise InvalidInput(f"decomposition: $.nodes[{place}].task", problem)
    return plan


def document_in(text: str) -> object:
    """The JSON in a reply: all of it, or what is in its fence, or between its outermost braces."""
    fenced = re.search(r"```(?:json)?\s*\n(.*?)```", text, re.DOTALL)
    found = fenced[1] if fenced else text[text.find("{") : text.rfind("}") + 1] or text
    try:
        return msgspec.json.decode(found)
    except msgspec.DecodeError as error:
        raise InvalidInput("decomposition: $", f"is not JSON: {error}", "answer with one JSON object alone") from error
    except RecursionError:
        raise InvalidInput("decomposition: $", "is nested too deeply") from None


def listed(names: Sequence[str] | Mapping[str, object]) -> str:
    """Names as a message shows them; of very many, the first."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")
