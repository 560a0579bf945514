"""Pipelines from end to end: functions, agents over HTTP, programs and people as stages and as gates; killed and gone
on with."""

from __future__ import annotations

import sys

import pytest

from epsilon_lab import LLM, Agent, Command, Lab, Person, Pipeline, current_task
from epsilon_lab.errors import RunFailed
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.model_server import Call, Cast, ModelServer, Play


def words(text):
    return text.split()


async def lengths(found):
    return [len(word) for word in found]


def total(numbers):
    return sum(numbers) + sum(len(each.text) for each in current_task().feedback)


def large(number):
    return None if number > 10 else "too few"


def test_functions_plain_and_async_hand_on_what_they_made(lab):
    run = lab.start(Pipeline([words, lengths, {"task": total, "gate": large}], input="an owl is near")).wait(60)
    assert run.output == 11
    assert run.results() == [["an", "owl", "is", "near"], [2, 3, 2, 4], 11]
    assert run.reason == "3 stages are done"
    assert list(run.frame("tasks").task_id) == ["words", "lengths", "total", "total.gate"]


def test_what_a_gate_rejects_is_mended_with_its_reason_or_is_no_result(lab):
    run = lab.start(Pipeline([words, lengths, {"task": total, "gate": large}], input="so be it")).wait(60)
    assert run.output == 2 + 2 + 2 + len("too few")
    failed = lab.start(Pipeline([words, lengths, {"task": total, "gate": large}, str], input="so", retries=0))
    with pytest.raises(RunFailed, match="2 of 4 stages are done; total: its gate large rejected it: too few"):
        failed.wait(60)
    assert failed.results(failed="none") == [["so"], [2], None, None]
    assert failed.frame("tasks").set_index("task_id").status["total"] == "failed"
    failed.rerun("total", feedback="make it long enough")
    assert failed.wait(60).output == str(2 + len("make it long enough"))


def large_matrix(n):
    import numpy as np

    return np.ones((n, n))


def trace(matrix):
    return float(matrix.trace())


def test_large_outputs_that_are_no_json_are_handed_on_and_judged(lab):
    gate = Person(question="Square?")
    stages = [{"task": large_matrix, "gate": lambda matrix: matrix.shape[0] == 200}, {"task": trace, "gate": gate}]
    run = lab.start(Pipeline(stages, input=200))
    assert wait_until(lambda: run.cases.open, within_s=60)
    assert run.cases["trace"].evidence == {"stage": "trace", "output": 200.0}
    run.cases.decide("trace", "pass")
    assert run.wait(60).output == 200.0


def test_qa_looks_at_the_product_and_sends_a_stage_back_that_a_person_lets_through_again(lab):
    def qa(outputs):
        error = {"description": "count the spaces too", "node": "total"}
        return outputs["total"] > 12 or {"status": "fail", "errors": [error]}

    stages = [words, lengths, {"task": total, "gate": "person"}]
    run = lab.start(Pipeline(stages, input="an owl is near", qa=qa))
    for case in ("total", "total~2"):
        assert wait_until(lambda case=case: case in run.cases, within_s=60)
        run.cases.decide(case, "pass")
    assert run.wait(60).output > 12
    assert run.reason == "3 stages are done; QA passed in wave 2"


# -- agents and programs -----------------------------------------------------------------------------------------------


def judged(request):
    is_short = "in one sentence" in request.task
    verdict = {"verdict": "pass", "reason": ""} if is_short else {"verdict": "fail", "reason": "say it in one sentence"}
    return Call("done", {"output": verdict})


def wrote(request):
    told = "in one sentence" in request.task
    return Call("done", {"output": "Owls hunt in one sentence." if told else "Owls. They hunt. At night."})


PARTS = Cast({
    "Judge the output": Play((judged,)),
    "Write about owls": Play((wrote,)),
    "Take this piece of work apart": Play((Call("done", {"output": {"nodes": []}}), Call("done", {"output": {"nodes": [
        {"id": "draft", "task": "Write about owls."},
        {"id": "polish", "task": "Write about owls, better."},
        {"id": "print", "task": "Write about owls, for print."},
    ]}}),)),
})  # fmt: skip

PROGRAM = """
import json, sys
context = json.loads(sys.stdin.readline())
*_, text = context["inputs"].values()
if context["task"].startswith("Judge"):
    print(json.dumps({"type": "done", "result": {"verdict": "pass", "reason": ""}}))
else:
    print(json.dumps({"type": "done", "result": text.upper()}))
"""


def test_agents_and_programs_are_stages_and_gates(lab, monkeypatch):
    monkeypatch.setenv("LAB_TEST_KEY", "sk-test")
    program = Command([sys.executable, "-c", PROGRAM])
    with ModelServer(PARTS) as server:
        agent = Agent(LLM("http/tiny", api_base=server.url, api_key_env="LAB_TEST_KEY"))
        stages = [
            {"id": "write", "task": "Write about owls.", "gate": agent},
            {"id": "shout", "task": program, "gate": Command([sys.executable, "-c", PROGRAM])},
            {"id": "count", "task": len, "gate": "person"},
        ]
        run = lab.start(Pipeline(stages, agent=agent))
        assert wait_until(lambda: run.cases.open or run.status != "running", within_s=60)
        run.cases.decide("count", "pass")
        run.wait(60)
    assert run.results() == ["Owls hunt in one sentence.", "OWLS HUNT IN ONE SENTENCE.", 26]
    done = ["write", "write.gate", "write~2", "write.gate~2", "shout", "shout.gate", "count"]
    assert list(run.frame("tasks").query("status == 'completed'").sort_values("started_at").task_id) == done


def test_an_agent_takes_a_sentence_apart_and_does_the_stages(lab, monkeypatch):
    monkeypatch.setenv("LAB_TEST_KEY", "sk-test")
    with ModelServer(PARTS) as server:
        agent = Agent(LLM("http/tiny", api_base=server.url, api_key_env="LAB_TEST_KEY"))
        run = lab.start(Pipeline("A leaflet about owls.", agent=agent, gate=lambda text: "Owls" in text)).wait(60)
    assert list(run.frame("tasks").query("kind == 'stage'").task_id) == ["draft", "polish", "print"]
    assert run.results() == ["Owls. They hunt. At night."] * 3
    assert run.output == "Owls. They hunt. At night."


# -- kill -9 -----------------------------------------------------------------------------------------------------------

KERNEL = """
import sys
from pathlib import Path
from epsilon_lab import Lab, Pipeline, current_task

place, at = Path(sys.argv[1]), sys.argv[2]

def mark(name):
    task = current_task()
    with open(place / f"ran-{task.task_id}", "a") as file:
        file.write("x")
    while task.task_id == at and not (place / "go").exists():
        (place / f"at-{at}").touch()
        task.beat()

def first(item):
    mark("first")
    return [1]

def second(found):
    mark("second")
    return [*found, len(current_task().feedback)]

def good(found):
    mark("good")
    return found[-1] > 0

def third(found):
    mark("third")
    return sum(found)

lab = Lab(place / "runs", workers=2)
stages = [first, {"task": second, "gate": good}, {"task": third, "gate": "person"}]
run = lab.start(Pipeline(stages), name="line")
while at == "person" and not run.cases.open:
    run.frame("cases")
(place / f"at-{at}").touch() if at == "person" else None
run.wait()
"""


@pytest.mark.parametrize("at", ["second.gate", pytest.param("second~2", marks=pytest.mark.long), "person"])
def test_a_kernel_that_is_killed_in_the_middle_does_nothing_twice_and_passes_nothing_unjudged(
    kill_kernel, tmp_path, at
):
    """Killed while a gate judges, while a stage is mended, and while a person is waited for."""
    kill_kernel(KERNEL, f"at-{at}", at)
    with Lab(tmp_path / "runs", workers=2) as lab:
        run = lab.resume("line")
        assert wait_until(lambda: run.cases.open, within_s=60)
        run.cases.decide("third", "pass")
        assert run.wait(60).output == 2
        stages = run.frame("tasks").query("kind == 'stage'").task_id
        assert list(stages) == ["first", "second", "second~2", "third"]
    ran = {path.name.removeprefix("ran-"): path.stat().st_size for path in tmp_path.glob("ran-*")}
    expected = dict.fromkeys(["first", "second", "second.gate", "second~2", "second.gate~2", "third"], 1)
    assert ran == expected | ({at: 2} if at != "person" else {}), "only what was under way is done again"
