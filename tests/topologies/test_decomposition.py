"""A plan that cannot be carried out is refused before anything runs, at its place and with the remedy."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.errors import InvalidInput
from epsilon_lab.topologies.decomposition import (
    Planned,
    decomposition_request,
    files_named,
    find_circle,
    is_entry,
    read_answer,
    read_plan,
)

AGENTS = ("", "coder")


def node(name, *depends_on, **more):
    return {"id": name, "task": f"make {name}", "depends_on": list(depends_on)} | more


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([], "$.nodes: must be a list of one or more nodes"),
        ("x", "$.nodes: must be a list of one or more nodes, got \"x\""),
        ([{"id": "a"}], "$.nodes[0].task: is missing"),
        ([node("a"), {"task": "x"}], "$.nodes[1].id: is missing"),
        ([node("a/b")], "$.nodes[0].id: must be an id of 1 to 100 letters"),
        ([node("a~2")], "$.nodes[0].id: must be an id"),
        ([node("a"), node("a")], "$.nodes[1].id: 'a' is the id of $.nodes[0] too; give each node its own"),
        ([node("qa")], "$.nodes[0].id: 'qa' names a task of the run itself"),
        ([node("a", dependson=[])], "$.nodes[0].dependson: is not a field of this manifest; did you mean depends_on?"),
        ([node("a"), node("b", "x")], "$.nodes[1].depends_on[0]: there is no node 'x'; the nodes are 'a', 'b'"),
        ([node("a"), node("b", "a", "b")], "$.nodes[1].depends_on[1]: is 'b' itself"),
        ([node("a"), node("b", "a", "a")], "$.nodes[1].depends_on[1]: names 'a' once more"),
        ([node("x"), node("a", "c"), node("b", "a"), node("c", "b")],
         "$.nodes[1].depends_on: goes round in a circle: a -> c -> b -> a"),
        ([node("a", depends_on="b")], "$.nodes[0].depends_on: must be a list of ids"),
        ([node("a", task_type="think")], "$.nodes[0].task_type: must be one of 'map', 'contract', 'build'"),
        ([node("a", retries=-1)], "$.nodes[0].retries: must be a whole number from 0 to 1000000, got -1"),
        ([node("a", quorum=1.5)], "$.nodes[0].quorum: must be a share from 0 to 1"),
        ([node("a", time_limit_s=0)], "$.nodes[0].time_limit_s: must be seconds above 0"),
        ([node("a", outputs="a.py")], "$.nodes[0].outputs: must be a list of texts"),
        ([node("a", when=[{"node": "b", "equals": 1}])], "$.nodes[0].when[0].node: 'b' is no node that 'a' depends on"),
        ([node("a", agent="tester")], "$.nodes[0].agent: there is no agent 'tester'; the agents are 'coder'"),
        ([node("a", task="  ")], "$.nodes[0].task: is blank"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_plan_is_said_with_its_place(nodes, message):
    with pytest.raises(InvalidInput) as refused:
        read_plan({"nodes": nodes}, Planned, what="plan", agents=AGENTS)
    assert str(refused.value).startswith(f"plan: {message}")


def test_a_field_beside_the_nodes_is_refused():
    with pytest.raises(InvalidInput, match=r"plan: \$\.node: is not a field of this manifest; did you mean nodes\?"):
        read_plan({"node": []}, Planned, what="plan")


@pytest.mark.parametrize(
    ("agents", "remedy"), [((), r"give one: agent=Agent\(\.\.\.\)"), (("coder",), "name one of 'coder'")]
)
def test_a_text_needs_someone_to_do_it(agents, remedy):
    with pytest.raises(InvalidInput, match=rf"\$\.nodes\[0\]\.task: is a text, and there is no agent.*{remedy}"):
        read_plan([node("a")], Planned, what="plan", agents=agents)


def test_a_task_may_be_a_function_or_its_name_and_needs_no_agent_then():
    plan = read_plan([{"id": "a", "task": len}, {"id": "b", "task": "json:dumps"}], Planned, what="plan")
    assert plan.nodes[0].task is len
    assert is_entry(plan.nodes[1].task)
    assert not is_entry("Note: say hello")


def test_outputs_that_look_like_files_have_to_be_there():
    outputs = [
        "src/api.py",
        "the API",
        "report.md",
        "../x.py",
        "/etc/x.py",
        "version 1.2",
        "v1.2",
        "src/api.py",
        "e.g.",
    ]
    assert files_named(outputs) == ("src/api.py", "report.md")


@given(st.dictionaries(st.integers(0, 7), st.lists(st.integers(0, 7), max_size=3)))
def test_a_circle_is_found_exactly_where_there_is_one(edges):
    graph = {str(name): [str(other) for other in edges.get(name, ())] for name in range(8)}
    reached = {name: set(others) for name, others in graph.items()}
    for _ in graph:
        reached = {name: others.union(*(reached[other] for other in others)) for name, others in reached.items()}
    circle = find_circle(graph)
    assert bool(circle) == any(name in others for name, others in reached.items())
    assert all(after in graph[before] for before, after in itertools.pairwise(circle))
    assert circle[:1] == circle[-1:]


def test_a_long_chain_is_no_circle():
    assert find_circle({str(place): [str(place + 1)] for place in range(5000)} | {"5000": []}) == []


# -- a model's answer --------------------------------------------------------------------------------------------------

GOOD = {"nodes": [node("api", task_type="build"), node("tests", "api", task_type="verify")]}


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        json.dumps(GOOD),
        f"Here it is:\n```json\n{json.dumps(GOOD, indent=1)}\n```\nDone.",
        f"Plan: {json.dumps(GOOD)}",
    ],
)
def test_an_answer_is_read_from_what_models_put_around_it(answer):
    assert [each.id for each in read_answer(answer, AGENTS).nodes] == ["api", "tests"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("I would rather not.", r"decomposition: \$: is not JSON"),
        ({"nodes": [node("a")]}, r"decomposition: \$\.nodes: must be a list of 2 to 30 nodes"),
        ({"nodes": [node(f"n{place}") for place in range(31)]}, r"must be a list of 2 to 30 nodes"),
        (
            {"nodes": [node("a"), node("b", "c")]},
            r"decomposition: \$\.nodes\[1\]\.depends_on\[0\]: there is no node 'c'",
        ),
        ({"nodes": [node("a"), node("b", task="os:getcwd")]}, r"\$\.nodes\[1\]\.task: must say in words"),
        ({"nodes": [node("a"), node("b", task=5)]}, r"\$\.nodes\[1\]\.task: must be a text that is not blank"),
    ],
)
def test_a_model_is_held_to_the_rules_for_a_plan_and_to_its_bounds(answer, message):
    with pytest.raises(InvalidInput, match=message):
        read_answer(answer, AGENTS)


def test_the_request_names_the_work_the_fields_and_the_agents():
    said = decomposition_request("Build a parser.", ("coder", "tester"))
    assert "Build a parser." in said
    assert "'coder', 'tester' (required)" in said
    assert all(f'"{field}"' in said for field in ("id", "task", "task_type", "role", "inputs", "outputs", "acceptance"))
    assert "agent" not in decomposition_request("Build a parser.", ("",))
