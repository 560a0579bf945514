"""QA looks at a product; what it finds goes back to whoever made it, until it passes or the fix waves are used up."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.call import Call, Feedback
from epsilon_lab.messages.events import QualityChecked, TasksRevised
from epsilon_lab.messages.tasks import Failure, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value, pack
from epsilon_lab.topologies.dag import DagPlan, DagRules
from epsilon_lab.topologies.engine import Exhaust, RunState, Settled, Start, Stop, Tell
from epsilon_lab.topologies.nodes import NodeSpec
from epsilon_lab.topologies.plan import Requeue, Revise
from epsilon_lab.topologies.quality import Checked, QualityRules, read_report
from epsilon_lab.topologies.work_queue import QueueRules, WorkQueuePlan
from tests.topologies.test_nodes import Play, spec

NODES = (
    spec("api", call=Call(code="c", about={"outputs": ["api.py"]})),
    spec("tests", "api", call=Call(code="c", about={"outputs": ["test_api.py"]})),
    spec("docs", "api", call=Call(code="c")),
)


class Checkup(Play):
    """A dag of three under QA, and a broker that does what it is told."""

    def __init__(self, *specs, fix_waves=3, assign=False, is_function=True):
        side = [NodeSpec(id=name, kind=name, call=Call(code=name), lane="process", entry="x", retries=1)
                for name in ("qa", "assign")]  # fmt: skip
        rules = QualityRules(
            qa=side[0], assign=side[1] if assign else None, fix_waves=fix_waves, is_function=is_function
        )
        dag = DagPlan(DagRules(nodes=specs or NODES))
        self.plan, self.nodes = Checked(dag, rules), dag._nodes
        self.state = RunState("r", self.plan)
        self.out, self.begun, self.lines = {}, [], []
        self.take(self.state.step(Start(), 0.0))

    def make(self):
        """Do all that is to be made."""
        while todo := [name for name in self.out if not name.startswith(("qa", "assign"))]:
            self.end(todo[0], output=todo[0], files=f"leaves/{todo[0]}/1")

    def waves(self):
        return [line for line in self.lines if isinstance(line, QualityChecked)]


def fail(*errors):
    return {"status": "fail", "errors": [{"description": "wrong"} | error for error in errors]}


def test_a_product_that_passes_completes_the_run():
    play = Checkup()
    play.make()
    call = play.call("qa")
    assert [name for name, _ in call.inputs] == ["api", "tests", "docs"]
    assert call.layers == ("leaves/api/1", "leaves/tests/1", "leaves/docs/1")
    play.end("qa", output={"status": "pass", "summary": "fine", "errors": [], "commands_run": ["pytest"]})
    assert (play.state.status, play.state.reason) == ("completed", "3 of 3 nodes are done; QA passed in wave 1")
    assert [(line.wave, line.status) for line in play.waves()] == [(1, "pass")]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"node": "tests"}, ["tests"]),
        ({"node": "api~1", "file": "test_api.py"}, ["api"]),
        ({"file": "./test_api.py"}, ["tests"]),
        ({"node": "nobody", "file": "api.py"}, ["api"]),
        ({"file": "setup.cfg"}, ["tests", "docs"]),
        ({}, ["tests", "docs"]),
    ],
)
def test_an_error_goes_to_the_node_it_names_or_whose_file_it_is_or_to_the_final_ones(error, told):
    play = Checkup()
    play.make()
    play.end("qa", output=fail({"id": "e1", "severity": "high", "evidence": "seen", "suggested_fix": "do"} | error))
    assert list(play.waves()[0].assigned) == told
    assert [name.partition("~")[0] for name in play.out] == told
    [why] = play.call(f"{told[0]}~2").feedback
    assert (why.source, why.id) == ("qa", "e1")
    assert why.text.startswith("[high] wrong\n")
    assert why.text.endswith("evidence: seen\nsuggested fix: do")


def test_what_was_mended_is_looked_at_again_until_it_passes():
    play = Checkup()
    play.make()
    play.end("qa", output=fail({"node": "api"}))
    play.make()
    assert "qa~2" in play.out
    assert "leaves/api~2/1" in play.call("qa~2").layers
    play.end("qa~2", output=fail({"node": "api"}, {"node": "docs"}))
    assert list(play.out) == ["api~3"], "docs is mended upon what api makes now"
    play.make()
    assert "docs~2" in play.begun
    play.end("qa~3", output=True)
    assert (play.state.status, play.state.reason) == ("completed", "3 of 3 nodes are done; QA passed in wave 3")
    assert "tests~2" not in play.begun, "its files stand"


def test_when_the_fix_waves_are_used_up_the_run_has_failed_and_keeps_its_output():
    play = Checkup(fix_waves=1)
    play.make()
    play.end("qa", output="the sum is wrong")
    play.make()
    play.end("qa~2", output="the sum is wrong")
    assert play.state.status == "failed"
    assert play.state.reason.endswith("QA found 1 error in wave 2, and 1 fix waves are used up: the sum is wrong")
    assert not play.out
    assert play.plan._over("failed", "").output.data == b'{"tests":"tests~2","docs":"docs~2"}'


def test_without_fix_waves_qa_only_judges():
    play = Checkup(fix_waves=0)
    play.make()
    play.end("qa", output=False)
    assert play.state.status == "failed"
    assert "nothing is to be fixed" in play.state.reason


@pytest.mark.parametrize(
    "output", [5, [], {"status": "maybe"}, {"errors": []}, {"status": "fail", "errors": ["x"]}, ""]
)
def test_a_report_that_is_none_is_asked_for_once_more_and_then_the_run_has_failed_for_want_of_it(output):
    play = Checkup()
    play.make()
    play.end("qa", output=output)
    [said] = play.call("qa~2").feedback
    assert said.source == "failure"
    assert "QA report" in said.text
    play.end("qa~2", output=output)
    assert play.state.status == "failed"
    assert "QA gave no report in wave 1" in play.state.reason
    assert not any(line.assigned for line in play.waves()), "nobody is told to mend what nobody found"


def test_a_qa_task_that_fails_is_asked_once_more_and_says_how_it_went():
    play = Checkup()
    play.make()
    play.end("qa", "failed", error="BudgetExceeded: steps")
    assert play.call("qa~2").feedback[0].text.startswith("BudgetExceeded: steps")
    play.end("qa~2", output=True)
    assert play.state.status == "completed"


@pytest.mark.parametrize("error", ["budget: no more tokens", "model refused: no key"])
def test_qa_that_cannot_be_asked_is_not_asked_again(error):
    play = Checkup()
    play.make()
    play.end("qa", "failed", error=error)
    assert play.state.status == "failed"
    assert error in play.state.reason


def test_a_node_that_failed_is_mended_without_asking_qa_about_half_a_product():
    play = Checkup()
    play.end("api", "failed", error="ValueError: no")
    assert list(play.out) == ["api~2"]
    [wave] = play.waves()
    assert (wave.status, wave.assigned) == ("fail", {"api": ("api",)})
    assert play.call("api~2").feedback[0].text == "ValueError: no\nthe last words"
    play.make()
    play.end("qa", output=True)
    assert play.state.status == "completed"
    assert play.begun == ["api", "api~2", "tests~2", "docs~2", "qa"]


def test_a_node_that_fails_wave_after_wave_uses_them_up():
    play = Checkup(fix_waves=2)
    for name in ("api", "api~2", "api~3"):
        play.end(name, "failed", error="ValueError: no")
    assert play.state.status == "failed"
    assert play.state.reason == "0 of 3 nodes are done; api: ValueError: no; the fix waves are used up"


def test_a_node_without_a_budget_is_not_mended():
    play = Checkup()
    play.end("api", "failed", error="budget: no more tokens")
    assert play.state.status == "failed"
    assert not play.waves()


def test_whom_nobody_names_is_asked_of_the_assigning_task():
    play = Checkup(assign=True)
    play.make()
    play.end("qa", output=fail({"id": "e1", "node": "api"}, {"id": "e2"}, {"id": "e3"}))
    asked = {name: json.loads(bytes(value.json)) for name, value in play.call("assign").inputs}
    assert [error["id"] for error in asked["errors"]] == ["e2", "e3"]
    assert [node["id"] for node in asked["nodes"]] == ["api", "tests", "docs"]
    play.end("assign", output={"e2": "docs", "e3": "nobody"})
    assert play.waves()[0].assigned == {"api": ("e1",), "docs": ("e2", "e3"), "tests": ("e3",)}
    play.make()
    assert play.begun[-4:] == ["api~2", "tests~2", "docs~2", "qa~2"]


def test_an_assignment_that_names_no_node_leaves_the_error_with_the_final_nodes():
    for said in ({"e1": ["api"]}, {"e1": {"node": "api"}}, ["api"], "api", 3, None):
        play = Checkup(assign=True)
        play.make()
        play.end("qa", output=fail({"id": "e1"}))
        play.end("assign", output=said)
        assert play.waves()[0].assigned == {"tests": ("e1",), "docs": ("e1",)}, said


def test_where_assigning_fails_the_final_nodes_answer_for_it():
    play = Checkup(assign=True)
    play.make()
    play.end("qa", output=fail({"id": "e1"}))
    play.end("assign", "failed")
    assert play.waves()[0].assigned == {"tests": ("e1",), "docs": ("e1",)}


def test_a_person_s_rerun_is_checked_again_with_all_fix_waves_before_it():
    play = Checkup(fix_waves=1)
    play.make()
    play.end("qa", output="no")
    play.make()
    play.end("qa~2", output="no")
    assert play.state.status == "failed"
    play.take(play.state.step(Tell(Revise({"api": (Feedback("rerun", "use floats"),)})), 0.0))
    play.make()
    play.end("qa~3", output="still no")
    assert play.state.status == "running"
    play.make()
    play.end("qa~4", output=True)
    assert play.state.status == "completed"
    assert [line.wave for line in play.waves()] == [1, 2, 3, 4]


def test_a_report_on_what_is_being_done_again_counts_for_nothing():
    play = Checkup()
    play.make()
    play.take(play.state.step(Tell(Revise({"docs": ()})), 0.0))
    play.end("qa", output=True)
    assert play.state.status == "running"
    play.make()
    assert "qa~2" in play.out


def test_a_dead_letter_is_tried_again_before_qa():
    play = Checkup(fix_waves=0)
    play.end("api", "dead", outcome="crashed")
    assert play.state.status == "failed"
    play.take(play.state.step(Tell(Requeue(("api",))), 0.0))
    play.make()
    play.end("qa", output=True)
    assert play.state.status == "completed"


def test_what_did_not_pass_when_the_time_was_up_is_no_success():
    play = Checkup()
    play.make()
    play.take(play.state.step(Exhaust("the budget of 5 s was used up"), 0.0))
    assert play.state.status == "failed"


def test_nor_where_the_plan_itself_would_take_what_there_is():
    item = TaskSpec(task_id="item-0", kind="item", lane="process", entry="code:x", payload=pack(1))
    rules = QualityRules(qa=NodeSpec(id="qa", kind="qa", call=Call(code="q"), lane="process", entry="x"))
    state = RunState("r", Checked(WorkQueuePlan((item,), QueueRules(quality=rules)), rules))
    state.step(Start(), 0.0)
    state.step(Settled((TaskOutcome(run_id="r", task_id="item-0", status="completed", output=pack(2)),)), 0.0)
    state.step(Exhaust("the budget of 5 s was used up"), 0.0)
    assert state.status == "failed"
    assert state.reason.endswith("1 of 1 items were completed; QA had not passed")


def test_a_run_that_is_stopped_is_not_checked():
    play = Checkup()
    play.take(play.state.step(Stop("enough"), 0.0))
    assert (play.state.status, play.state.reason) == ("stopped", "enough; 0 nodes are done")


def test_each_wave_can_be_read():
    play = Checkup()
    play.make()
    effects = play.plan.settled(TaskOutcome(run_id="r", task_id="qa", status="completed", output=pack(fail({}))), 0.0)
    assert effects[0].ref == "qa/wave-1.json"
    read = json.loads(effects[0].text)
    assert (read["wave"], read["status"]) == (1, "fail")
    assert read["errors"][0]["id"] == "e1"
    assert isinstance(effects[2].body, TasksRevised)


def test_rules_come_back_from_json_as_they_were():
    rules = QualityRules(qa=spec("qa"), assign=spec("assign"), fix_waves=2, is_function=True)
    assert msgspec.json.decode(msgspec.json.encode(rules), type=QualityRules) == rules


# -- reports -----------------------------------------------------------------------------------------------------------


def report(value, *, is_function=True):
    output = value if isinstance(value, Value) else pack(value)
    outcome = TaskOutcome(run_id="r", task_id="qa", status="completed", output=output)
    return read_report(outcome, is_function=is_function)


@pytest.mark.parametrize(("answer", "status"), [(None, "pass"), ("it is slow", "fail")])
def test_silence_and_a_text_are_reports_of_a_function_and_of_nobody_else(answer, status):
    assert report(answer).status == status
    with pytest.raises(InvalidInput, match="is none"):
        report(answer, is_function=False)


def test_a_report_in_a_text_is_a_report():
    said = 'I ran them.\n```json\n{"status": "pass", "summary": "ok"}\n```'
    assert report(said).status == "pass"
    assert report("2 tests fail {see above}").errors[0].description == "2 tests fail {see above}"


def test_errors_get_ids_of_their_own():
    found = report(fail({"id": "x"}, {"id": "x"}, {}))
    assert [error.id for error in found.errors] == ["x", "e2", "e3"]


def test_a_report_that_fails_without_an_error_is_one():
    assert report({"status": "fail", "summary": "slow"}).errors[0].description == "slow"


def test_a_pickle_is_no_report():
    with pytest.raises(InvalidInput, match="is not JSON"):
        report({1, 2})


def test_a_task_that_failed_gave_none():
    failure = Failure(task_id="qa", run_id="r", fence=1, outcome="timeout", error="took longer than 5 s")
    with pytest.raises(InvalidInput, match="took longer than 5 s"):
        read_report(TaskOutcome(run_id="r", task_id="qa", status="failed", failure=failure), is_function=True)


ANSWERS = st.one_of(
    st.sampled_from([True, False, None, "no", 7, fail({}), fail({"node": "api"}), fail({"file": "test_api.py"})]),
    st.just("crash"),
)


@given(st.data(), st.integers(0, 3), st.booleans())
@settings(max_examples=120, deadline=None)
def test_whatever_is_said_and_fails_the_run_ends_and_completes_only_after_a_pass(data, fix_waves, assign):
    play = Checkup(fix_waves=fix_waves, assign=assign)
    passed = False
    while play.out:
        name = data.draw(st.sampled_from(sorted(play.out)))
        answer = data.draw(ANSWERS) if name.startswith("qa") else data.draw(st.sampled_from(["x", "x", "x", "crash"]))
        passed = answer in (True, None) and name.startswith("qa")
        if answer == "crash":
            play.end(name, "failed")
        else:
            play.end(name, output=answer)
    assert play.state.ended
    assert (play.state.status == "completed") == passed
    assert len(play.waves()) <= fix_waves + 1
    assert sum(bool(line.assigned) for line in play.waves()) <= fix_waves
