"""`run.adjudicate`: cases go to workers as one more run, and the verdicts come back whoever waits."""

import pytest

from epsilon_lab import Decider, Person, Pipeline
from epsilon_lab.errors import InvalidInput, RunFailed


def draft(topic):
    return f"about {topic}"


def gated(**more):
    return Pipeline([{"task": draft, "gate": Person(options=("print", "mend"), **more)}, draft], input="owls")


def prints(case):
    return {"verdict": "print", "note": case["evidence"]["output"], "confidence": 0.5}


def hesitates(case):
    return None


def rambles(case):
    return "one could print it or mend it"


def test_a_live_run_goes_on_with_the_verdict_of_a_function(lab):
    run = lab.start(gated())
    run.cases.wait(60)
    first = run.adjudicate(hesitates, name="hesitant").wait(60)
    assert first.output == {"draft": {"case_id": "draft", "verdict": None, "note": "", "confidence": None}}
    assert first.reason == "1 of 1 items completed: 0 decided, 1 left open"
    assert run.cases["draft"].status == "open"

    second = run.adjudicate(rambles, retries=1, name="rambler")
    with pytest.raises(RunFailed, match="none of 1 items completed"):
        second.wait(60)
    errors = second.frame("tasks").set_index("task_id")["error"]
    assert list(errors.index) == ["item-000000-draft", "item-000000-draft~2"], "it was told why, and asked again"
    assert errors.str.contains("it names 'mend' and 'print'").all()
    [told] = second.frame("events").query("type == 'task.revised'")["body"]
    assert "is no verdict" in told["feedback"]["item-000000-draft"][0]["text"]

    third = run.adjudicate(prints, decider=Decider("rule 7", "CODE")).wait(60)
    assert run.wait(60).output == "about about owls"
    [given] = run.cases["draft"].verdicts
    assert (given.verdict, given.decider_kind, given.decider, given.note) == ("print", "CODE", "rule 7", "about owls")
    assert given.source == f"{third.run_id}/item-000000-draft"
    row = third.frame("runs").iloc[0]
    assert (row["topology"], row["parent_run_id"]) == ("adjudication", run.run_id)
    assert (row["config"]["cases"], row["config"]["where"]) == (1, "status = 'open'")
    assert third.show()._repr_html_()


def test_what_would_come_to_nothing_is_refused_before_anything(lab):
    run = lab.start(gated(role="editor"))
    run.cases.wait(60)
    with pytest.raises(InvalidInput, match="for the role 'editor', which prints does not have"):
        run.adjudicate(prints)
    with pytest.raises(InvalidInput, match="holds for no case"):
        run.adjudicate(prints, where="score > 3")
    with pytest.raises(InvalidInput, match="no_such_column"):
        run.adjudicate(prints, where="no_such_column = 1")
    with pytest.raises(InvalidInput, match="adjudicate task"):
        run.adjudicate(lambda one, two: None)
    with pytest.raises(InvalidInput, match="adjudicate retries"):
        run.adjudicate(prints, retries=-1)
    assert len(lab.runs) == 1
    run.adjudicate(prints, decider=Decider("ann's rule", "CODE", roles=("editor",))).wait(60)
    assert run.wait(60).status == "completed"
