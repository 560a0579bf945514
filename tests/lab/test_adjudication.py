"""`run.adjudicate`: cases go to workers as one more run, and the verdicts come back whoever waits."""

import dataclasses
import itertools
import json
import re
import time
from collections import Counter

import pytest

from epsilon_lab import LLM, Agent, Decider, Lab, MapReduce, Person, Pipeline
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.model_server import Call, ModelServer, Play, Text
from epsilon_lab.topologies.adjudication import Adjudication
from epsilon_lab.topologies.plan import Deliver
from epsilon_lab.topologies.recovery import recover
from epsilon_lab.workspace.journal import read_journal
from epsilon_lab.workspace.layout import RunDirectory


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
    assert (run.cases["draft"].status, run.cases["draft"].unsure) == ("open", {"hesitates": ""})

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
    unsure = lab.sql("select case_id, note from verdicts where confidence < 0.6")
    assert unsure.to_numpy().tolist() == [["draft", "about owls"]]
    assert "rule 7 (CODE, 50% sure)" in run.cases["draft"]._repr_html_()
    assert given.source == f"{third.run_id}/item-000000-draft"
    row = third.frame("runs").iloc[0]
    assert (row["topology"], row["parent_run_id"]) == ("adjudication", run.run_id)
    assert (row["config"]["cases"], row["config"]["where"]) == (1, "status = 'open'")
    assert third.show()._repr_html_()


def test_what_would_come_to_nothing_is_refused_before_anything(lab):
    run = lab.start(gated(role="editor"))
    run.cases.wait(60)
    before = len(lab.runs)
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
    assert len(lab.runs) == before
    run.adjudicate(prints, decider=Decider("ann's rule", "CODE", roles=("editor",))).wait(60)
    assert run.wait(60).status == "completed"


# -- cases that a reducer has flagged; the run is over by then ---------------------------------------------------------

NAMES = ["Obama", "Barack Obama", "Merkel", "A. Merkel", "Curie", "Currie"]


def name_of(item):
    return item


def pairs(outputs, *, flag):
    for one, other in itertools.pairwise(sorted(outputs, key=lambda name: name[::-1])):
        one, other = sorted((one, other))
        flag(key=[one, other], question=f"{one} = {other}?", options=["same", "different"], score=len(one) / 100)
    return sorted(outputs)


def by_last_name(case):
    one, other = case["key"]
    return {"verdict": "same" if one.split()[-1] == other.split()[-1] else "different", "note": "by the last name"}


def judge(request):
    """A model that hesitates over Currie, talks beside the point once, and then has its verdict somewhere in a text."""
    one, other = re.search(r'"question": "(.*) = (.*)\?"', request.prompt).groups()
    if "Currie" in one + other:
        return Text('{"verdict": null, "note": "it may be a slip of the pen"}')
    if "Merkel" in one and "Feedback" not in request.prompt:
        return Text("Who can say?")
    return Text(json.dumps({"verdict": "same" if other in one else "different"}) + " is what I think.")


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setenv("ADJUDICATION_TEST_KEY", "sk-adjudication")
    with ModelServer(judge) as server:
        yield LLM("http/judge", api_base=server.url, api_key_env="ADJUDICATION_TEST_KEY", retries=0)


def test_a_model_a_function_and_a_person_decide_about_a_run_that_is_over(lab, model):
    flagged = lab.start(MapReduce(NAMES, name_of, pairs, arity=8)).wait(60)
    assert flagged.status == "completed"
    asked = {case.case_id: case for case in flagged.cases.open}
    assert len(asked) == 5

    by_model = flagged.adjudicate(model, instructions="Mind the dead.", retries=1, name="by model").wait(60)
    assert by_model.reason == "5 of 5 items completed: 3 decided, 2 left open"
    tasks = by_model.frame("tasks")
    again = tasks[tasks["status"] == "failed"]["task_id"].tolist()
    assert again, "what was no verdict is a failed row"
    assert tasks[tasks["task_id"].str.contains("~2")]["status"].eq("completed").all(), (
        "and was asked once more, told why"
    )
    prompts = [path.read_text() for path in (by_model.path / "prompts").glob("*.md")]
    assert all("Mind the dead." in prompt and "word for word" in prompt for prompt in prompts)
    assert sum("is no verdict: it names none of them" in prompt for prompt in prompts) == len(again)
    assert {case.key[1] for case in flagged.cases.open} | {case.key[0] for case in flagged.cases.open} >= {"Currie"}

    by_rule = flagged.adjudicate(by_last_name, where="status <> 'withdrawn'", name="by rule").wait(60)
    assert by_rule.reason == "5 of 5 items completed: 5 decided"
    assert flagged.cases.open == []
    kinds = flagged.frame("verdicts").groupby("decider_kind")["case_id"].nunique()
    assert kinds.to_dict() == {"CODE": 5, "LLM": 3}, "both are in the history"
    verdicts = {tuple(case.key): case.verdict for case in map(flagged.cases.__getitem__, flagged.cases)}
    assert verdicts["Barack Obama", "Obama"] == verdicts["A. Merkel", "Merkel"] == "same"
    assert sorted(verdicts.values()) == ["different"] * 3 + ["same"] * 2
    assert {case.speaks.decider_kind for case in map(flagged.cases.__getitem__, flagged.cases)} == {"CODE"}

    pair = next(case_id for case_id in flagged.cases if flagged.cases[case_id].key == ["Barack Obama", "Obama"])
    flagged.cases.decide(pair, "different", decider="ann", force=True)
    late = flagged.adjudicate(by_last_name, where=f"case_id = '{pair}'", name="late").wait(60)
    case = flagged.cases[pair]
    assert [given.decider_kind for given in case.verdicts] == ["LLM", "CODE", "HUMAN", "CODE"]
    assert case.verdicts[-1].source.startswith(late.run_id)
    assert (case.speaks.decider, case.verdict) == ("ann", "different"), (
        "a machine's later verdict does not outrank hers"
    )


def test_an_agent_is_held_to_the_form_of_an_answer(lab, model):
    run = lab.start(MapReduce(["Curie", "M. Curie"], name_of, pairs, arity=8)).wait(60)
    moves = (
        Call("done", {"output": {"verdict": 5}}),
        Call("done", {"output": {"verdict": "same", "note": "one woman"}}),
    )
    with ModelServer(Play(moves)) as server:
        agent = Agent(dataclasses.replace(model, api_base=server.url), tools=[])
        run.adjudicate(agent, name="by agent").wait(60)
    [case] = map(run.cases.__getitem__, run.cases)
    assert (case.verdict, case.speaks.decider_kind, case.speaks.note) == ("same", "LLM", "one woman")


# -- kill -9 -----------------------------------------------------------------------------------------------------------

SCRIPT = """
import os, sys, time
from pathlib import Path
from epsilon_lab import Lab, MapReduce, current_task

place, host = Path(sys.argv[1]), sys.argv[2]

def name_of(item):
    return item

def ask(outputs, *, flag):
    for output in outputs:
        flag(key=f"k{output}", question="Which?", options=["a", "b"])
    return len(outputs)

def is_answered_again(number):
    [journal] = (place / "runs").glob("deciding-*/journal.ndjson")
    return any(f"item-{number:06d}-" in line and "~2" in line for line in journal.open() if "task.completed" in line)

def decide(case):
    number = int(case["key"][1:])
    with open(place / "ran", "a") as file:
        file.write(f"{number} ")
    if number in (6, 7) and not current_task().feedback:
        return "neither"
    while number == 7 and not is_answered_again(6):
        time.sleep(0.01)
    while number == 7 and not (place / "go").exists():
        (place / "stuck").touch()
        time.sleep(0.01)
    return {"verdict": "ab"[number % 2], "note": str(number)}

with Lab(place / "runs", workers=2, broker=host) as lab:
    run = lab.start(MapReduce(range(24), name_of, ask, arity=32), name="asking").wait(60)
    run.adjudicate(decide, name="deciding", retries=1).wait(60)
"""


def test_what_was_decided_before_a_kill_is_with_its_run_and_is_not_decided_again(tmp_path, kill_kernel):
    kill_kernel(SCRIPT, "stuck", "kernel")
    with Lab(tmp_path / "runs", workers=2) as lab:
        asking, deciding = lab.runs["asking"], lab.runs["deciding"]
        assert (asking.status, deciding.status) == ("completed", "interrupted")
        done = set(deciding.frame("tasks").query("status == 'completed'")["task_id"])
        assert len(done) > 10
        assert any("~2" in task_id for task_id in done), "one was asked twice, so some verdicts lie before that line"

        # At least once: a lab that takes it up tells the other run all of it again.
        records, _, _ = read_journal(deciding.path / "journal.ndjson")
        directory = RunDirectory(deciding.path)
        plan = Adjudication.restore(directory, records)
        again = [each.decision for each in recover(deciding.run_id, plan, records).effects if isinstance(each, Deliver)]
        assert {decision.source for decision in again} == {f"{deciding.run_id}/{task_id}" for task_id in done}

        before = Counter((tmp_path / "ran").read_text().split())
        lab.resume("deciding").wait(60)
        assert lab.runs["deciding"].status == "completed"
        cases = [asking.cases[case_id] for case_id in asking.cases]
        assert [case.verdict for case in cases] == ["ab"[int(case.key[1:]) % 2] for case in cases]
        assert [len(case.verdicts) for case in cases] == [1] * 24, "and it takes each once"
        after = Counter((tmp_path / "ran").read_text().split())
        finished = {task_id.split("-")[1].lstrip("0") or "0" for task_id in done}
        assert {number for number in finished if after[number] != before[number]} == set()


def test_verdicts_that_cannot_be_delivered_interrupt_and_are_delivered_later(lab, tmp_path):
    asking = lab.start(MapReduce(NAMES, name_of, pairs, arity=8)).wait(60)
    go, away = tmp_path / "go", tmp_path / "away"

    def decide(case):
        while not go.exists():
            time.sleep(0.01)
        return "same"

    deciding = asking.adjudicate(decide)
    asking.path.rename(away)
    go.touch()
    with pytest.raises(RunFailed, match="its verdicts cannot be delivered"):
        deciding.wait(60)
    away.rename(asking.path)
    assert lab.resume(deciding.run_id).wait(60).status == "completed"
    assert [asking.cases[case_id].verdict for case_id in asking.cases] == ["same"] * 5


@pytest.mark.long
def test_a_sidecar_delivers_though_the_kernel_is_gone(tmp_path, sidecar_path, kill_kernel):
    kill_kernel(SCRIPT, "stuck", "sidecar")
    with Lab(sidecar_path, workers=2, broker="sidecar") as lab:
        asking, deciding = lab.runs["asking"], lab.runs["deciding"]
        assert deciding.wait(60).status == "completed"
        cases = [asking.cases[case_id] for case_id in asking.cases]
        assert [case.verdict for case in cases] == ["ab"[int(case.key[1:]) % 2] for case in cases]
        assert [len(case.verdicts) for case in cases] == [1] * 24
        assert Counter((tmp_path / "ran").read_text().split()) == Counter(map(str, [*range(24), 6, 7]))
        asking.adjudicate(lambda case: "a", where="key = '\"k1\"'", name="again").wait(60)
        assert lab.runs["asking"].cases.verdicts()[cases[1].case_id] == "a"
