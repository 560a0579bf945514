"""An adjudication's rules: which cases it takes, what it tries again, and which verdicts it delivers."""

import msgspec
import pytest

from epsilon_lab.cases.case import Case
from epsilon_lab.errors import InvalidInput, ModelRefused
from epsilon_lab.messages.call import Feedback, call_of
from epsilon_lab.messages.cases import Unsure
from epsilon_lab.messages.deciders import Decider
from epsilon_lab.messages.events import VerdictGiven
from epsilon_lab.messages.tasks import Failure, TaskOutcome
from epsilon_lab.messages.values import as_json
from epsilon_lab.topologies.adjudication import Adjudication
from epsilon_lab.topologies.plan import Add, Deliver, Finish, Revise
from epsilon_lab.workspace.layout import RunDirectory


def case(case_id, **more):
    return Case(case_id=case_id, kind="pair", question="Which?", options=("a", "b"), **more)


def decide(case):
    return "a"


CASES = [case("c-1"), case("c-2", key=["x", "y"], evidence={"n": 1})]
ONE, TWO = "item-000000-c-1", "item-000001-c-2"


def plan_of(tmp_path, cases=CASES, **more):
    run = RunDirectory(tmp_path / "second-run")
    run.path.mkdir()
    plan, _ = Adjudication(cases, decide, of="first-run", **more).prepare(run)
    [added] = plan.start(0.0)
    return plan, added.tasks


def said(task_id, case_id, verdict, **more):
    output = as_json({"case_id": case_id, "verdict": verdict, "note": "", "confidence": None} | more)
    return TaskOutcome(run_id="r", task_id=task_id, status="completed", output=output)


def failed(task_id, error="no verdict", status="failed"):
    failure = Failure(task_id=task_id, run_id="r", fence=1, outcome="failed", error=error)
    return TaskOutcome(run_id="r", task_id=task_id, status=status, failure=failure)


def test_whoever_decides_is_shown_the_case_and_nobody_s_verdict(tmp_path):
    verdict = VerdictGiven(case_id="c-3", number=1, verdict="b", decider_kind="HUMAN", decider="ann")
    decided = case("c-3", status="decided", verdicts=(verdict,), number=1, reason="near", flagged_by="pairs")
    _, tasks = plan_of(tmp_path, [*CASES, decided], instructions="Mind the dead.")
    calls = [call_of(task.payload) for task in tasks]
    assert [task.task_id for task in tasks] == [ONE, TWO, "item-000002-c-3"]
    assert all(call.instructions.endswith("Mind the dead.") for call in calls)
    shown = msgspec.json.decode(calls[2].argument.json)
    assert shown == {
        "case_id": "c-3", "kind": "pair", "question": "Which?", "options": ["a", "b"], "evidence": None,
        "reason": "near", "key": None, "score": None, "flagged_by": "pairs",
    }  # fmt: skip
    assert not any(call.takes_tasks for call in calls)


def test_each_answer_is_delivered_as_it_comes_and_to_be_unsure_is_no_verdict(tmp_path):
    plan, _ = plan_of(tmp_path, decider=Decider("rule", "CODE", ("editor",)))
    [delivery] = plan.settled(said(ONE, "c-1", "a", note="clear"), 0.0)
    assert isinstance(delivery, Deliver)
    assert delivery.run_id == "first-run"
    decision = delivery.decision
    assert (decision.case_id, decision.verdict, decision.note) == ("c-1", "a", "clear")
    assert (decision.force, decision.number, decision.source) == (True, None, f"second-run/{ONE}")
    assert decision.decider == Decider("rule", "CODE", ("editor",))
    [unsure, end] = plan.settled(said(TWO, "c-2", None, note="blurred"), 0.0)
    assert unsure.decision == Unsure(
        case_id="c-2", decider=decision.decider, note="blurred", source=f"second-run/{TWO}"
    )
    assert (end.status, end.reason) == ("completed", "2 of 2 items completed: 1 decided, 1 left open")


def test_what_is_no_verdict_is_tried_again_and_told_why_as_often_as_is_allowed(tmp_path):
    plan, _ = plan_of(tmp_path, retries=1)
    again = plan.settled(failed(ONE), 0.0)
    assert [task.task_id for effect in again if isinstance(effect, Add) for task in effect.tasks] == [f"{ONE}~2"]
    assert call_of(again[-1].tasks[0].payload).feedback == (Feedback("failure", "no verdict", ONE),)
    assert plan.settled(failed(f"{ONE}~2"), 0.0) == []
    deliver, end = plan.settled(said(TWO, "c-2", "b"), 0.0)
    assert (deliver.decision.source, end.reason) == (
        f"second-run/{TWO}",
        "1 of 2 items completed, 1 failed: 1 decided",
    )
    # A person has it done again, with all tries before it; the verdict of another go is another verdict.
    assert plan.told(Revise(dict.fromkeys((ONE,), ())), 0.0)
    assert any(isinstance(effect, Add) for effect in plan.settled(failed(f"{ONE}~3"), 0.0))
    deliver, end = plan.settled(said(f"{ONE}~4", "c-1", "a"), 0.0)
    assert (deliver.decision.source, end.reason) == (f"second-run/{ONE}~4", "2 of 2 items completed: 2 decided")


def test_the_last_of_them_may_be_tried_again_too(tmp_path):
    plan, _ = plan_of(tmp_path, CASES[:1], retries=1)
    assert not any(isinstance(effect, Finish) for effect in plan.settled(failed(ONE), 0.0))
    assert isinstance(plan.settled(failed(f"{ONE}~2"), 0.0)[-1], Finish)


@pytest.mark.parametrize(("error", "status"), [(f"{ModelRefused.PREFIX} no key", "failed"), ("crashed", "dead")])
def test_what_another_attempt_cannot_help_is_not_tried_again(tmp_path, error, status):
    plan, _ = plan_of(tmp_path, retries=3)
    assert not any(isinstance(effect, Add) for effect in plan.settled(failed(ONE, error, status), 0.0))


def test_cases_whose_ids_no_task_can_have_are_known_by_their_places(tmp_path):
    _, tasks = plan_of(tmp_path, [case("draft~2"), case("c-1")])
    assert [task.task_id for task in tasks] == ["item-000000", "item-000001"]


def test_what_would_come_to_nothing_is_refused():
    with pytest.raises(InvalidInput, match="holds for no case of run first-run"):
        Adjudication([], decide, of="first-run", where="score > 3")
    gone = case("c-9", status="withdrawn", reason="the stage was done again")
    with pytest.raises(InvalidInput, match=r"case 'c-9', which is withdrawn: the stage .*; add: and status"):
        Adjudication([gone], decide, of="first-run")
    with pytest.raises(InvalidInput, match="case 'c-8': is for the role 'editor', which decide does not have"):
        Adjudication([case("c-8", role="editor")], decide, of="first-run")
