"""A person's gate: the run waits for it, wherever its lab is, and the verdict is on disk before anything follows."""

import os

import pytest

from epsilon_lab import Decider, Lab, Person, Pipeline, WorkQueue, current_task
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.testing.census import wait_until


def draft(topic):
    return {"text": f"about {topic}"}


def publish(text):
    return text["text"].upper()


def gated(**more):
    gate = Person(question="Fit to print?", options=("print", "mend", "drop"), **more)
    return Pipeline([{"task": draft, "gate": gate}, publish], input="owls", retries=1)


def open_case(run):
    return run.cases.wait(60)


def test_a_person_decides_and_the_run_goes_on(lab):
    run = lab.start(gated())
    case = open_case(run)
    assert (case.case_id, case.question, case.status) == ("draft", "Fit to print?", "open")
    assert case.evidence == {"stage": "draft", "output": {"text": "about owls"}}
    assert run.status == "running"
    assert run.cases.decide("draft", "mend", note="shorter").verdict == "mend"
    assert run.cases.wait(60).case_id == "draft~2"
    assert run.cases.decide("draft~2", "print", decider="ann").verdicts[0].decider == "ann"
    assert run.wait(60).output == "ABOUT OWLS"
    assert list(run.cases) == ["draft", "draft~2"]
    assert (len(run.cases), run.cases.open, "draft~2" in run.cases) == (2, [], True)
    verdicts = run.frame("verdicts")
    assert verdicts["verdict"].tolist() == ["mend", "print"]
    assert verdicts["decider_kind"].tolist() == ["HUMAN", "HUMAN"]
    assert run.cases.frame()["status"].tolist() == ["decided", "decided"]
    assert run.cases.decide("draft~2", "drop", force=True).verdict == "drop"
    assert run.output == "ABOUT OWLS", "what it let through stays"


def test_waiting_for_a_case_ends_with_the_run_or_in_time(lab):
    run = lab.start(Pipeline([{"task": draft, "gate": "person"}, publish], input="owls", retries=0))
    run.cases.decide(run.cases.wait(60).case_id, "pass")
    with pytest.raises(LabError, match="is over, and nothing is left to decide"):
        run.cases.wait()
    idle = lab.start(WorkQueue([1], lambda item: current_task().messages(timeout_s=None)))
    with pytest.raises(TimeoutError, match=r"asked nothing within 0\.01 s; it goes on"):
        idle.cases.wait(0.01)
    idle.stop()


def test_what_is_no_decision_is_refused_and_changes_nothing(lab):
    run = lab.start(gated(role="editor"))
    open_case(run)
    editor = Decider("ann", roles=("editor",))
    for arguments, words in [
        (("nosuch", "print"), f"case 'nosuch': is not in run {run.run_id}; it has draft"),
        (("draft", "maybe"), "verdict 'maybe': is no option of case 'draft'; decide 'print' or 'mend' or 'drop'"),
        (("draft", "print"), "is for the role 'editor'"),
    ]:
        with pytest.raises(InvalidInput, match=words):
            run.cases.decide(*arguments)
    assert run.frame("verdicts").empty
    run.cases.decide("draft", "print", decider=editor)
    with pytest.raises(InvalidInput, match="is decided: 'print' by ann; force=True"):
        run.cases.decide("draft", "drop", decider=editor)
    assert run.wait(60).status == "completed"


def test_the_run_waits_while_its_lab_is_away_and_takes_the_verdict_in_another(tmp_path):
    with Lab(tmp_path / "runs", workers=1) as lab:
        run = lab.start(gated())
        open_case(run)
    with Lab(tmp_path / "runs", read_only=True) as lab, pytest.raises(LabError, match="this lab only looks on"):
        lab.runs[run.run_id].cases.decide("draft", "print")
    with Lab(tmp_path / "runs", workers=1) as lab:
        again = lab.resume(run.run_id)
        assert [case.case_id for case in again.cases.open] == ["draft"]
        again.cases.decide("draft", "mend", note="shorter")
        assert wait_until(lambda: again.cases.open, within_s=60)
    with Lab(tmp_path / "runs", workers=1) as lab:
        again = lab.resume(run.run_id)
        again.cases.decide("draft~2", "print")
        assert again.wait(60).output == "ABOUT OWLS"
        assert again.frame("attempts")["task_id"].tolist() == ["draft", "draft~2", "publish"], "nothing is done twice"


def test_a_verdict_reaches_a_run_in_a_sidecar(sidecar_path):
    with Lab(sidecar_path, workers=1, broker="sidecar") as lab:
        run = lab.start(gated())
        open_case(run)
        run.cases.decide("draft", "print")
        assert run.wait(60).output == "ABOUT OWLS"


def test_a_verdict_is_on_disk_whatever_the_durability(lab, monkeypatch):
    synced = []
    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda handle: (synced.append(handle), fdatasync(handle)))
    run = lab.start(gated())
    open_case(run)
    assert not synced, "the lab's durability is `process`"
    run.cases.decide("draft", "print")
    assert synced
    assert run.wait(60).status == "completed"


def test_a_run_without_cases_has_an_empty_book(lab):
    run = lab.start(WorkQueue([1], abs)).wait(60)
    assert (len(run.cases), list(run.cases), run.cases.open) == (0, [], [])
    assert run.cases.frame().empty
    with pytest.raises(InvalidInput, match="it has none"):
        run.cases["x"]
