"""A dag: what it refuses before anything runs, how it takes a sentence apart, when it ends and as what."""

import json

import msgspec
import pytest

from epsilon_lab import LLM, Agent, Dag
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.messages.call import Call, Feedback
from epsilon_lab.topologies.dag import DagPlan, DagRules, Hand
from epsilon_lab.topologies.engine import Exhaust, RunState, Start, Tell
from epsilon_lab.topologies.plan import Requeue, Revise
from epsilon_lab.topologies.quality import Checked
from epsilon_lab.workspace.layout import RunDirectory
from tests.topologies.test_nodes import Play, spec

AGENT = Agent(LLM("http/tiny", api_base="http://127.0.0.1:9/v1", api_key_env="LAB_TEST_KEY"))


def constant(inputs):
    return 1


def node(name, *depends_on, **more):
    return {"id": name, "task": constant, "depends_on": list(depends_on)} | more


@pytest.mark.parametrize(
    ("plan", "more", "message"),
    [
        ([], {}, r"Dag plan: \$\.nodes: must be a list of one or more nodes"),
        ([node("a"), node("b", "c")], {}, r"Dag plan: \$\.nodes\[1\]\.depends_on\[0\]: there is no node 'c'"),
        ([node("a", "b"), node("b", "a")], {}, r"goes round in a circle: a -> b -> a"),
        ([node("a", task=print, agent="x")], {}, r"\$\.nodes\[0\]\.agent: there is no agent 'x'"),
        ([node("a", agent="x")], {"agent": {"x": AGENT}}, r"\$\.nodes\[0\]\.agent: does what is said in words"),
        ([node("a", task=lambda: 1)], {}, r"\$\.nodes\[0\]\.task: must be a function called with \(inputs\)"),
        ([node("a", task=7)], {}, r"\$\.nodes\[0\]\.task: must be a function"),
        ([node("a", task="no_such_module:run")], {}, r"\$\.nodes\[0\]\.task"),
        ([node("a", task="say hello")], {}, r"\$\.nodes\[0\]\.task: is a text, and there is no agent to do it"),
        ([node("a", task="say hello", agent=5)], {}, r"\$\.nodes\[0\]\.agent: must be a function"),
        ("build it", {}, r"Dag plan: is a sentence, and there is no agent"),
        ("  ", {"agent": AGENT}, "Dag plan: is blank"),
        ([node("a")], {"retries": -1}, "Dag retries"),
        ([node("a")], {"fix_waves": 1.5}, "Dag fix_waves"),
        ([node("a")], {"time_limit_s": 0}, "Dag time_limit_s"),
        ([node("a")], {"qa": 5}, "Dag qa"),
        ([node("a")], {"qa": constant, "assign": "x"}, "Dag assign"),
        ([node("a")], {"agent": {1: AGENT}}, "Dag agent: names must be str"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_at_its_place(plan, more, message):
    with pytest.raises(InvalidInput, match=message):
        Dag(plan, **more)


def test_a_manifest_is_held_to_the_same_rules_and_names_the_file(tmp_path):
    path = tmp_path / "build.json"
    for document, message in (
        ({"nodes": [{"id": "a", "task": "x"}], "waves": 3}, r"build.json: \$\.waves: is not a field"),
        ({"nodes": [{"id": "a", "task": {"x": 1}}]}, r"build.json: \$\.nodes\[0\]\.task: must be a text"),
        ({"nodes": [{"id": "a", "task": "../x.py:f"}]}, r"build.json: \$\.nodes\[0\]\.task: leads outside"),
        (
            {"nodes": [{"id": "a", "task": "x", "depends_on": ["a"]}]},
            r"build.json: \$\.nodes\[0\]\.depends_on\[0\]: is 'a'",
        ),
    ):
        path.write_text(json.dumps(document))
        with pytest.raises(InvalidInput, match=message):
            Dag.from_manifest(path, agent=AGENT)


def test_it_says_in_a_line_what_it_is():
    assert repr(Dag([node("a"), node("b", "a")])) == "<Dag dag: 2 nodes>"
    assert repr(Dag("Build a parser", agent=AGENT)) == "<Dag build-a-parser: to be taken apart>"


def test_its_rules_are_made_again_from_its_directory_without_unpickling(tmp_path):
    run = RunDirectory(tmp_path / "run-1")
    plan = [node("a", retries=2, outputs=["a.py"]), node("b", "a", when=[{"node": "a", "path": ["x", 0], "equals": 1}])]
    dag = Dag(plan, qa=constant, assign=constant, fix_waves=2, time_limit_s=5)
    made, events = dag.prepare(run)
    for each in tmp_path.glob("run-1/code/*"):
        each.write_bytes(b"no pickle")
    again = Dag.restore(run, [])
    assert isinstance(made, Checked)
    assert isinstance(again, Checked)
    assert made.start(0.0) == again.start(0.0)
    assert msgspec.json.encode(made._rules) == msgspec.json.encode(again._rules)
    assert {event.path for event in events} >= {"plan.json"}
    (tmp_path / "run-1" / "plan.json").write_text("{}")
    with pytest.raises(LabError, match=r"plan\.json"):
        Dag.restore(RunDirectory(tmp_path / "elsewhere"), [])


def test_without_qa_there_is_no_qa(tmp_path):
    made, _ = Dag([node("a")]).prepare(RunDirectory(tmp_path / "run-1"))
    assert isinstance(made, DagPlan)


# -- how it goes -------------------------------------------------------------------------------------------------------


class Going(Play):
    """A dag, and a broker that does what it is told."""

    def __init__(self, *nodes, **rules):
        self.plan = DagPlan(DagRules(nodes=nodes, **rules))
        self.nodes = self.plan._nodes
        self.state = RunState("r", self.plan)
        self.out, self.begun, self.lines = {}, [], []
        self.take(self.state.step(Start(), 0.0))

    @property
    def ended(self):
        return self.state.status, self.state.reason


def test_it_completes_when_every_final_node_has_an_output():
    play = Going(spec("a"), spec("b", "a"), spec("c", "a"))
    for name in "abc":
        play.end(name)
    assert play.ended == ("completed", "3 of 3 nodes are done")


def test_it_fails_when_a_final_node_has_none_and_says_what_failed_first():
    play = Going(spec("a"), spec("b", "a"), spec("c"))
    play.end("c")
    assert play.state.status == "running"
    play.end("a", "failed", error="ValueError: no")
    assert play.ended == ("failed", "1 of 3 nodes are done; a: ValueError: no")


def test_a_failure_that_a_quorum_puts_up_with_fails_nothing():
    play = Going(spec("a"), spec("b"), spec("c", "a", "b", quorum=0.5))
    play.end("a", "failed", error="ValueError: no")
    play.end("b")
    play.end("c")
    assert play.ended == ("completed", "2 of 3 nodes are done; a: ValueError: no")


def test_a_model_that_refuses_everyone_ends_it_at_once():
    play = Going(spec("a", retries=3), spec("b"), spec("c", "b"))
    play.end("a", "failed", error="model refused: wrong key")
    assert play.ended == ("failed", "model refused: wrong key; 0 nodes are done")
    assert play.lines[-2].task_ids == ("c",)


def test_time_that_is_up_ends_it_and_a_rerun_goes_on_from_there():
    play = Going(spec("a"), spec("b", "a"))
    play.end("a", output=1)
    play.take(play.state.step(Exhaust("the budget of 1 s was used up"), 0.0))
    assert play.ended == ("failed", "the budget of 1 s was used up; 1 nodes are done")
    play.out.clear()
    play.take(play.state.step(Tell(Revise({"b": (Feedback("rerun", "go on"),)})), 0.0))
    assert list(play.out) == ["b~2"]
    play.end("b~2")
    assert play.ended == ("completed", "2 of 2 nodes are done")


@pytest.mark.parametrize("news", [Revise({"zzz": ()}), Requeue(("a",)), "brief"])
def test_what_it_has_no_use_for_it_leaves_alone(news):
    play = Going(spec("a"))
    assert play.plan.told(news, 0.0) == []


# -- a sentence --------------------------------------------------------------------------------------------------------

PLAN = {"nodes": [{"id": "api", "task": "Write the api.", "outputs": ["api.py"], "task_type": "build"},
                  {"id": "tests", "task": "Test it.", "depends_on": ["api"], "agent": "tester"}]}  # fmt: skip


def apart():
    hands = {"": Hand(code="c1", lane="async", entry="x"), "tester": Hand(code="c2", lane="process", entry="y")}
    decompose = spec("decompose", kind="decompose", retries=1, is_reviewed=True, call=Call(code="c0"))
    return Going(decompose=decompose, hands=hands, retries=4)


def test_a_sentence_is_taken_apart_first_and_its_nodes_are_done_by_those_named():
    play = apart()
    assert list(play.out) == ["decompose"]
    play.end("decompose", output=PLAN)
    assert list(play.out) == ["api"]
    call = play.call("api")
    assert (call.code, call.instructions, call.needs_files) == ("c1", "Write the api.", ("api.py",))
    assert call.about == {"task_type": "build", "outputs": ["api.py"]}
    play.end("api", output="done")
    assert (play.call("tests").code, play.out["tests"].lane, play.out["tests"].entry) == ("c2", "process", "y")
    assert play.nodes.spec("tests").retries == 4
    play.end("tests", output="done")
    assert play.ended == ("completed", "2 of 2 nodes are done")
    assert play.plan._output().data == b'{"tests":"tests"}'
    assert "decompose" not in play.plan.product().nodes


def test_a_model_is_told_once_what_is_wrong_with_its_plan():
    play = apart()
    play.end(
        "decompose",
        output=json.dumps({"nodes": [{"id": "a", "task": "x"}, {"id": "b", "task": "y", "depends_on": ["c"]}]}),
    )
    [why] = play.call("decompose~2").feedback
    assert why.source == "review"
    assert "$.nodes[1].depends_on[0]: there is no node 'c'; the nodes are 'a', 'b'" in why.text
    play.end("decompose~2", output=json.dumps(PLAN))
    assert list(play.out) == ["api"]


def test_a_plan_that_is_wrong_twice_fails_the_run_with_words():
    play = apart()
    for name in ("decompose", "decompose~2"):
        play.end(name, output={"nodes": []})
    status, reason = play.ended
    assert status == "failed"
    assert reason.startswith(
        "the work was taken apart wrongly, twice: decomposition: $.nodes: must be a list of 2 to 30"
    )


def test_a_model_that_gives_no_plan_fails_the_run():
    play = apart()
    play.end("decompose", "failed", error="AgentFailed: out of steps")
    play.end("decompose~2", "failed", error="AgentFailed: out of steps")
    assert play.ended[1].startswith("the work was not taken apart: AgentFailed: out of steps")
