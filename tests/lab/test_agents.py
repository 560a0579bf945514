"""Agents as the tasks of runs: at work, talking to each other, killed and taken up again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from epsilon_lab import LLM, Agent, Budget, Lab, WorkQueue, tools
from epsilon_lab.errors import RunFailed
from epsilon_lab.testing.census import wait_until_none
from epsilon_lab.testing.model_server import Answer, Call, Cast, Hang, ModelServer, Play, Request

KEY = "sk-agents-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_TEST_KEY", KEY)


def model(server: ModelServer, name: str = "http/tiny") -> LLM:
    return LLM(name, api_base=server.url, api_key_env="AGENT_TEST_KEY", retries=0)


def shouted(request: Request) -> Call:
    return Call("done", {"output": request.task.upper()})


def test_an_agent_is_a_task_of_a_queue(lab: Lab) -> None:
    moves = (Call("write", {"path": "a.txt", "content": "x"}), shouted)
    with ModelServer(Play(moves)) as server:
        run = lab.start(WorkQueue(["roses", "violets"], Agent(model(server)))).wait(timeout=60)
    assert run.results() == ["ROSES", "VIOLETS"]
    calls = run.frame("tool_calls")
    assert sorted(zip(calls["task_id"], calls["tool"], strict=True)) == [
        ("item-000000", "done"),
        ("item-000000", "write"),
        ("item-000001", "done"),
        ("item-000001", "write"),
    ]
    assert run.frame("llm_calls")["outcome"].tolist() == ["ok"] * 4
    assert set(run.frame("artifacts")["kind"]) >= {"transcript", "prompt", "reply"}


def test_what_became_of_an_agent_is_said_in_its_row(lab: Lab) -> None:
    parts = {
        "poem": Play((Call("read", {"path": "."}),)),
        "song": Play(("I would rather not.",)),
        "ode": Play((shouted,)),
    }
    with ModelServer(Cast(parts)) as server:
        agent = Agent(model(server), steps=6, tools=[tools.read])
        run = lab.start(WorkQueue(["a poem", "a song", "an ode"], agent)).wait(timeout=60)
    assert run.results(failed="none") == [None, None, "AN ODE"]
    errors = dict(zip(run.failures["task_id"], run.failures["error"], strict=True))
    assert errors["item-000000"].startswith("agent budget of steps: all 6 replies were made and done was not called")
    assert "called no tool in 5 replies in a row; the last one began: I would rather not." in errors["item-000001"]


def test_a_stopped_agent_has_told_what_it_cost(lab: Lab) -> None:
    async def hang(context: tools.ToolContext) -> None:
        """Hang."""
        await context.post.publish("hangs", 1)
        await anyio.sleep_forever()

    with ModelServer(Play((Call("hang"),))) as server:
        run = lab.start(WorkQueue(["x"], Agent(model(server), tools=[hang])))
        for _ in lab.subscribe("hangs", timeout_s=30):
            break
        run.stop()
    assert run.frame("llm_calls")["outcome"].tolist() == ["ok"]
    assert run.frame("tasks")["status"].tolist() == ["cancelled"]


def test_the_runs_budget_holds_for_agents(lab: Lab) -> None:
    with ModelServer(Play((Call("read", {"path": "."}),))) as server:
        run = lab.start(WorkQueue(["endless"], Agent(model(server))), budget=Budget(calls=4))
        with pytest.raises(RunFailed, match="budget: "):
            run.wait(timeout=60)
        assert len(server.requests) == 4


def test_agents_write_to_each_other(lab: Lab) -> None:
    def answers(request: Request) -> Answer:
        [said] = request.results
        return Call("check_messages", {"wait_s": 5}) if "no new" in said else Call("done", {"output": said})

    parts = {
        "listen": Play((Call("check_messages", {"wait_s": 20}), answers)),
        "speak": Play((Call("send_message", {"to": "item-000000", "content": "hello"}), Call("done", {"output": "x"}))),
        "stray": Play((Call("send_message", {"to": "nobody", "content": "x"}), answers)),
    }
    given = [tools.send_message, tools.check_messages]
    with ModelServer(Cast(parts)) as server:
        run = lab.start(WorkQueue(["listen", "speak", "stray"], Agent(model(server), tools=given))).wait(timeout=60)
    heard, _, stray = run.results()
    assert heard == '[{"from":"item-000001","content":"hello"}]'
    assert stray.startswith("error: the message to 'nobody' was not taken")


def test_a_delegate_answers_on_the_tasks_account(lab: Lab) -> None:
    def play(request: Request) -> Answer | str:
        return "because" if request.json["model"] == "wise" else Play(moves)(request)

    moves = (
        Call("delegate", {"model": "gpt-9", "question": "Why?"}),
        Call("delegate", {"model": "http/wise", "question": "Why?"}),
        lambda request: Call("done", {"output": request.results[0]}),
    )
    with ModelServer(play) as server:
        agent = Agent(model(server), tools=[], delegates=[model(server, "http/wise")])
        run = lab.start(WorkQueue(["Ask."], agent)).wait(timeout=60)
    assert run.results() == ["because"]
    calls = run.frame("llm_calls")
    assert sorted(zip(calls["model"], calls["call"], strict=True)) == [
        ("http/tiny", 0), ("http/tiny", 1), ("http/tiny", 2), ("http/wise", 40),
    ]  # fmt: skip
    assert "there is no model 'gpt-9' to ask; there is http/wise" in run.frame("tool_calls")["result"][0]


def further(request: Request) -> Call:
    """Split a poem in two, down to a line."""
    lines = request.task.split("/")
    done = Call("done", {"output": f"{len(lines)} lines"})
    if len(lines) == 1 or request.step == 2:
        return done
    half = len(lines) // 2
    return Call("submit_task", {"task": "/".join(lines[:half] if request.step == 0 else lines[half:])})


def test_agents_ask_for_further_tasks_of_a_queue(lab: Lab) -> None:
    with ModelServer(further) as server:
        agent = Agent(model(server), tools=[tools.submit_task, tools.request_task])
        run = lab.start(WorkQueue(["a/b/c/d", "e"], agent)).wait(timeout=60)
    tasks = run.frame("tasks").sort_values("task_id")
    root = "item-000000"
    names = [root, f"{root}.1", f"{root}.1.1", f"{root}.1.2", f"{root}.2", f"{root}.2.1", f"{root}.2.2", "item-000001"]
    assert tasks["task_id"].tolist() == names
    assert run.results() == ["4 lines", "2 lines", "1 lines", "1 lines", "2 lines", "1 lines", "1 lines", "1 lines"]
    assert run.reason == "8 of 8 items completed"


def test_further_tasks_of_a_lab_that_was_closed_are_done_by_the_next(tmp_path: Path) -> None:
    is_back: list[bool] = []

    def answer(request: Request) -> Answer:
        return further(request) if is_back or "/" in request.task else Hang()

    with ModelServer(answer) as server:
        with Lab(tmp_path / "runs", workers=1) as lab:
            agent = Agent(model(server), tools=[tools.submit_task])
            run_id = lab.start(WorkQueue(["a/b"], agent)).run_id
            server.wait_for(5, timeout=60)
        is_back.append(True)
        with Lab(tmp_path / "runs", workers=1) as lab:
            run = lab.resume(run_id).wait(timeout=60)
            assert run.results() == ["2 lines", "1 lines", "1 lines"]
            assert run.frame("tasks")["attempts"].tolist() == [1, 2, 2]


SCRIPT = """
import sys
from epsilon_lab import LLM, Agent, Lab, WorkQueue
lab = Lab("runs", workers=1)
model = LLM("http/tiny", api_base=sys.argv[1], api_key_env="AGENT_TEST_KEY", retries=0)
lab.start(WorkQueue(["one", "two", "three"], Agent(model)), name="killed").wait()
"""


def test_a_lab_that_is_killed_pays_for_no_reply_twice(tmp_path: Path) -> None:
    """Three agents, each with two replies received and a third under way; another lab goes on where they were."""
    is_back: list[bool] = []
    moves = (
        Call("write", {"path": "a.txt", "content": "x"}),
        Call("shell", {"command": "cat a.txt"}),
        lambda request: Call("done", {"output": f"{request.task}: {request.results[0]}"}) if is_back else Hang(),
    )
    with ModelServer(Play(moves)) as server:
        command = [sys.executable, "-W", "error", "-c", SCRIPT, server.url]
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        with subprocess.Popen(command, cwd=tmp_path, env=environment) as script:
            server.wait_for(9, timeout=60)
            script.send_signal(signal.SIGKILL)
        wait_until_none(str(tmp_path), within_s=60)
        is_back.append(True)
        with Lab(tmp_path / "runs", workers=1) as lab:
            run = lab.resume("killed").wait(timeout=60)
            assert run.results() == [f"{name}: exit code 0\nx" for name in ("one", "two", "three")]
            steps = [request.step for request in server.requests]
            assert [steps.count(step) for step in (0, 1, 2)] == [3, 3, 6]
            outcomes = run.frame("llm_calls").groupby("call")["outcome"].value_counts().to_dict()
            assert outcomes == {
                (0, "ok"): 3,
                (0, "cached"): 3,
                (1, "ok"): 3,
                (1, "cached"): 3,
                (2, "unknown"): 3,
                (2, "ok"): 3,
            }
