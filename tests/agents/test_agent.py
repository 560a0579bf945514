"""An agent against a scripted model, over real HTTP and both doors; its files and rows as a lab would have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from epsilon_lab import Agent, Lab, WorkQueue
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM, aclose
from epsilon_lab.agents.request import Request
from epsilon_lab.messages.call import Call as Asked
from epsilon_lab.messages.events import LlmCall, ToolCalled
from epsilon_lab.messages.tasks import Event
from epsilon_lab.testing.model_server import Call, ModelServer, Play, Text
from epsilon_lab.testing.model_server import Request as Sent
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import RunDirectory

KEY = "sk-test-0123456789-secret"
DONE = Call("done", {"output": "finished"})


class Bench:
    """A run directory and attempts of one agent's task in it, recorded as a lab would."""

    def __init__(self, path: Path, door: str) -> None:
        self.model = f"{door}/tiny"
        self.run = RunDirectory(path / "run-1")
        self.run.path.mkdir()
        self.journal = Journal.open(self.run.journal)
        self.recorded: list[Event] = []
        self.attempts = 0

    def agent(self, server: ModelServer, **given: Any) -> Agent:
        retries = given.pop("retries", 0)
        return Agent(LLM(self.model, api_base=server.url, api_key_env="LAB_TEST_KEY", retries=retries), **given)

    def perform(self, agent: Agent, task: str = "Write a poem.", **asked: Any) -> Any:
        self.attempts += 1
        leaf = Leaf(self.run, "item-000000", self.attempts, self.attempts, self._record)
        leaf.call = call = Asked(code="", instructions=task, **asked)

        async def main() -> Any:
            try:
                return await agent.perform(Request(call, leaf), leaf)
            finally:
                await aclose()
                await leaf.record()

        return anyio.run(main)

    async def _record(self, events: tuple[Event, ...]) -> None:
        self.recorded += events
        self.journal.append(1.0, *events)
        self.journal.commit()

    def rows(self, kind: str, of: type[Any]) -> list[Any]:
        return [msgspec.convert(event.body, of) for event in self.recorded if event.type == kind]

    @property
    def tool_calls(self) -> list[ToolCalled]:
        return self.rows("usage.tool_call", ToolCalled)

    @property
    def workspace(self) -> Path:
        return self.run.path / "leaves" / "item-000000" / str(self.attempts)

    @property
    def transcript(self) -> str:
        return self.run.read_text(f"transcripts/item-000000-{self.attempts}.md")


@pytest.fixture(params=["http", "openai"])
def bench(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from _bench(tmp_path, request.param, monkeypatch)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """One door, where the door does not matter."""
    yield from _bench(tmp_path, "http", monkeypatch)


def _bench(path: Path, door: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("LAB_TEST_KEY", KEY)
    bench = Bench(path, door)
    yield bench
    bench.journal.close()


def told(server: ModelServer, step: int = -1) -> list[str]:
    """What tools answered to the model before its reply of that number; the last by default."""
    return server.requests[step].results


def play(*moves: Any) -> ModelServer:
    return ModelServer(Play(moves))


# -- a task done -----------------------------------------------------------------------------------------------------


def test_an_agent_works_with_files_until_it_is_done(bench: Bench) -> None:
    moves = (
        Call("write", {"path": "poems/one.txt", "content": "roses are red\n"}),
        Call("edit", {"path": "poems/one.txt", "old": "red", "new": "blue"}),
        Call("read", {"path": "poems/one.txt"}),
        Call("read", {"path": "."}),
        DONE,
    )
    with play(*moves) as server:
        assert bench.perform(bench.agent(server)) == "finished"
        said = [request.results for request in server.requests]
    assert said[1:] == [
        ["wrote 14 bytes to poems/one.txt"],
        ["replaced 1 place in poems/one.txt"],
        ["roses are blue\n"],
        ["poems/"],
    ]
    assert (bench.workspace / "poems/one.txt").read_text() == "roses are blue\n"
    assert [(call.step, call.tool, call.outcome) for call in bench.tool_calls] == [
        (0, "write", "ok"),
        (1, "edit", "ok"),
        (2, "read", "ok"),
        (3, "read", "ok"),
        (4, "done", "ok"),
    ]
    assert {call.provenance for call in bench.tool_calls} == {"epsilon_lab"}


def test_the_whole_conversation_is_on_disk_to_read(bench: Bench) -> None:
    with play(Call("write", {"path": "a.txt", "content": "x"}), Text("Now I am through.", calls=(DONE,))) as server:
        bench.perform(bench.agent(server, instructions="You are a poet."))
    assert "You are a poet." in bench.run.read_text("prompts/item-000000-0.md")
    assert '"path"' in bench.run.read_text("replies/item-000000-0.md")
    second = bench.run.read_text("prompts/item-000000-1.md")
    assert second.startswith("<!-- goes on from prompts/item-000000-0.md and its reply -->")
    assert "You are a poet." not in second
    assert "wrote 1 bytes to a.txt" in second
    for part in ("You are a poet.", "Write a poem.", "wrote 1 bytes to a.txt", "Now I am through.", "done"):
        assert part in bench.transcript
    calls = bench.rows("usage.llm_call", LlmCall)
    assert [(call.call, call.outcome) for call in calls] == [(0, "unknown"), (0, "ok"), (1, "unknown"), (1, "ok")]
    assert len({call.span_id for call in calls}) == 2


def test_a_reply_is_not_paid_for_twice(bench: Bench) -> None:
    """An attempt made again has the same conversation in a workspace of its own."""
    moves = (Call("write", {"path": "a.txt", "content": "x"}), Call("read", {"path": "a.txt"}), DONE)
    with play(*moves) as server:
        agent = bench.agent(server)
        bench.perform(agent)
        bench.perform(agent)
        assert len(server.requests) == 3
    assert (bench.workspace / "a.txt").read_text() == "x"
    assert [call.outcome for call in bench.rows("usage.llm_call", LlmCall)][-3:] == ["cached"] * 3


def test_an_agent_is_a_task_of_a_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TEST_KEY", KEY)

    def shouts(sent: Sent) -> Call:
        return Call("done", {"output": sent.task.upper()})

    moves = (Call("write", {"path": "a.txt", "content": "x"}), shouts)
    with play(*moves) as server, Lab(tmp_path, workers=1) as lab:
        agent = Agent(LLM("http/tiny", api_base=server.url, api_key_env="LAB_TEST_KEY"))
        run = lab.start(WorkQueue(["roses", "violets"], agent)).wait(timeout=60)
        assert run.results() == ["ROSES", "VIOLETS"]
        calls = run.frame("tool_calls")
        assert sorted(zip(calls["task_id"], calls["tool"], strict=True)) == [
            ("item-000000", "done"),
            ("item-000000", "write"),
            ("item-000001", "done"),
            ("item-000001", "write"),
        ]
        assert run.frame("llm_calls")["outcome"].tolist() == ["ok"] * 4
