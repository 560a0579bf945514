"""Supervised runs from end to end: functions, an agent over HTTP that reviews, programs that work; killed and gone on
with."""

from __future__ import annotations

import json
import sys

import pytest

from epsilon_lab import LLM, Agent, Command, Lab, Supervisor, current_task
from epsilon_lab.errors import RunFailed
from epsilon_lab.testing.model_server import Call, Cast, ModelServer, Play


def fetch(inputs):
    return [1, 2, 3]


def flaky(inputs):
    if not current_task().feedback:
        raise ValueError("no unit was given")
    return [sum(inputs["fetch"]), [each.text.splitlines()[0] for each in current_task().feedback]]


def hangs(inputs):
    import select

    select.select([], [], [])


def quick(inputs):
    return "quick"


def review(record):
    if record["outcome"] == "timeout":
        return {"verdict": "reassign", "to": "quick", "reason": "it hangs"}
    if record["status"] == "failed":
        return "use metres"
    return None


def report(inputs):
    return inputs


def plan(**slow):
    return [
        {"id": "fetch", "task": fetch},
        {"id": "sum", "task": flaky, "depends_on": ["fetch"]},
        {"id": "slow", "task": hangs, "depends_on": ["fetch"], **slow},
        {"id": "report", "task": report, "depends_on": ["sum", "slow"]},
    ]


def test_what_fails_is_mended_and_what_hangs_is_given_to_another(lab):
    run = lab.start(Supervisor(plan(time_limit_s=0.4), review=review, workers={"quick": quick})).wait(60)
    assert run.output == {"report": {"sum": [6, ["ValueError: no unit was given", "use metres"]], "slow": "quick"}}
    history = json.loads((run.path / "stage_history.json").read_text())
    assert [each["then"] for each in history if each["node"] == "slow"] == ["reassigned", "accepted"]
    assert [each["then"] for each in history if each["node"] == "sum"] == ["revised", "accepted"]
    assert run.frame("events")["type"].tolist().count("stage.reviewed") == len(history)


def test_silence_is_acted_upon_without_any_review(lab):
    run = lab.start(Supervisor(plan(), workers={"quick": quick}, retries=1, beat_within_s=1.5)).wait(60)
    assert run.output["report"]["slow"] == "quick"
    slow = run.frame("tasks").query("task_id.str.startswith('slow')")
    assert slow.status.tolist() == ["failed", "failed", "completed"]


def test_what_a_review_refuses_is_no_result_and_nothing_builds_on_it(lab):
    def stern(record):
        return {"verdict": "fail", "reason": "not good"} if record["node"] == "fetch" else True

    run = lab.start(Supervisor(plan(), review=stern))
    with pytest.raises(RunFailed, match="fetch: not good"):
        run.wait(60)
    assert run.results(failed="none") == [None] * 4
    assert run.frame("tasks").set_index("task_id").loc["fetch", ["status", "error"]].tolist() == ["failed", "not good"]
    assert run.output == {}


# -- agents and programs -----------------------------------------------------------------------------------------------


def reviewed(request):
    said = {"verdict": "pass", "reason": ""}
    if '"node": "book"' in request.task:
        parts = [{"task": "Write the beginning."}, {"task": "Write the end.", "worker": "program"}]
        said = {"verdict": "split", "reason": "too much at once", "parts": parts, "chained": True}
    return Call("done", {"output": said})


PARTS = Cast({
    "A node of a plan is over": Play((reviewed,)),
    "Write the book": Play((Call("done", {"output": "a stub"}),)),
    "Write the beginning": Play((Call("done", {"output": "Once."}),)),
})  # fmt: skip

PROGRAM = """
import json, sys
context = json.loads(sys.stdin.readline())
print(json.dumps({"type": "done", "result": " ".join(context["inputs"].values()) + " The end."}))
"""


def test_an_agent_splits_what_is_too_much_and_a_program_does_a_part(lab, monkeypatch):
    monkeypatch.setenv("LAB_TEST_KEY", "sk-test")
    with ModelServer(PARTS) as server:
        agent = Agent(LLM("http/tiny", api_base=server.url, api_key_env="LAB_TEST_KEY"))
        nodes = [
            {"id": "book", "task": "Write the book."},
            {"id": "press", "task": lambda inputs: inputs["book"]["book.2"].upper(), "depends_on": ["book"]},
        ]
        workers = {"program": Command([sys.executable, "-c", PROGRAM])}
        run = lab.start(Supervisor(nodes, agent=agent, review=agent, workers=workers)).wait(120)
    assert run.output == {"press": "ONCE. THE END."}
    assert run.results() == [{"book.1": "Once.", "book.2": "Once. The end."}, "ONCE. THE END."]
    assert set(run.frame("tasks").query("kind == 'part'").task_id) == {"book.1", "book.2"}


# -- kill -9 -----------------------------------------------------------------------------------------------------------

KERNEL = """
import sys
from pathlib import Path
from epsilon_lab import Lab, Supervisor, current_task

place, at = Path(sys.argv[1]), sys.argv[2]

def mark():
    task = current_task()
    with open(place / f"ran-{task.task_id}", "a") as file:
        file.write("x")
    while task.task_id == at and not (place / "go").exists():
        (place / f"at-{at}").touch()
        task.beat()

def work(inputs):
    mark()
    return sorted(inputs)

def review(record):
    mark()
    if record["task_id"] == "b":
        parts = [{"task": "one"}, {"task": "two", "worker": "other"}]
        return {"verdict": "split", "parts": parts, "chained": True}  # nothing is under way beside what is killed
    return "again" if record["task_id"] == "b.1" else None

def other(inputs):
    mark()
    return "other"

lab = Lab(place / "runs", workers=2)
nodes = [{"id": "a", "task": work}, {"id": "b", "task": work, "depends_on": ["a"]},
         {"id": "c", "task": work, "depends_on": ["b"]}]
lab.start(Supervisor(nodes, review=review, workers={"other": other}), name="eyes").wait()
"""


@pytest.mark.parametrize("at", [pytest.param("b.review", marks=pytest.mark.long), "b.1~2"])
def test_a_kernel_that_is_killed_in_the_middle_loses_no_review_and_does_nothing_twice(kill_kernel, tmp_path, at):
    """Killed while a review is under way, and while a part is mended."""
    kill_kernel(KERNEL, f"at-{at}", at)
    with Lab(tmp_path / "runs", workers=2) as lab:
        run = lab.resume("eyes").wait(60)
        assert run.output == {"c": ["b"]}
        assert run.results() == [[], {"b.1": ["a"], "b.2": "other"}, ["b"]]
    ran = {path.name.removeprefix("ran-"): path.stat().st_size for path in tmp_path.glob("ran-*")}
    names = ["a", "a.review", "b", "b.review", "b.1", "b.1.review", "b.1~2", "b.1.review~2", "b.2", "b.2.review"]
    assert ran == dict.fromkeys([*names, "c", "c.review"], 1) | {at: 2}, "only what was under way is done again"
