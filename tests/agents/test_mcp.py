"""Tools of a real MCP server in an agent's hands: what it is told, what is on record, what the server cannot do."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import pickle
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

pytest.importorskip("mcp", reason="the package mcp is not installed: pip install 'epsilon-lab[mcp]'")

from epsilon_lab import Agent
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM, aclose
from epsilon_lab.agents.request import Request
from epsilon_lab.agents.tools.mcp import McpTool, mcp_tools
from epsilon_lab.agents.tools.tool import ToolContext, ToolError
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.call import Call as Asked
from epsilon_lab.messages.events import ToolCalled
from epsilon_lab.testing.census import living, wait_until, wait_until_none
from epsilon_lab.testing.model_server import Call, ModelServer, Play, Text
from epsilon_lab.workspace.layout import RunDirectory

SERVER = Path(__file__).with_name("mcp_server.py")
COMMAND = [sys.executable, str(SERVER)]

Use = Callable[[Callable[[ToolContext], Awaitable[Any]]], Any]


@pytest.fixture(scope="module")
def tools() -> dict[str, McpTool]:
    return {tool.name: tool for tool in mcp_tools(COMMAND, timeout_s=60)}


@pytest.fixture
def use(tmp_path: Path) -> Use:
    """Run something with an attempt's context, whose companions end with it."""
    run = RunDirectory(tmp_path / "run-1")
    run.path.mkdir()
    workspace = tmp_path / "workspace"
    workspace.mkdir()

    def run_it(work: Callable[[ToolContext], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async def ask(*_: object) -> Any:
                raise AssertionError

            leaf = Leaf(run, "item-000000", 1, 1)
            context = ToolContext(
                leaf, open_workspace=lambda: workspace, ask=ask, seconds_left=lambda: 1e12, delegates={}
            )
            async with anyio.create_task_group() as context.companions:
                try:
                    return await work(context)
                finally:
                    context.companions.cancel_scope.cancel()

        return anyio.run(main)

    return run_it


def test_an_agent_works_with_a_server_and_it_is_on_record(tmp_path, tools, monkeypatch):
    monkeypatch.setenv("LAB_TEST_KEY", "sk-test")
    run = RunDirectory(tmp_path / "run-1")
    run.path.mkdir()
    leaf = Leaf(run, "item-000000", 1, 1)
    leaf.call = call = Asked(code="", instructions="Keep notes.")
    play = Play(
        (
            Text(calls=(Call("remember", {"note": "one"}), Call("remember", {"note": "two"}))),
            Text(calls=(Call("fail", {"why": "no ink"}),)),
            Text(calls=(Call("remember", {"wrong": 1}),)),
            Text(calls=(Call("picture"),)),
            Text(calls=(Call("done", {"output": "kept"}),)),
        )
    )
    with ModelServer(play) as server:
        model = LLM("http/tiny", api_base=server.url, api_key_env="LAB_TEST_KEY", retries=0)
        agent = pickle.loads(pickle.dumps(Agent(model, tools=list(tools.values()))))

        async def main() -> Any:
            try:
                return await agent.perform(Request(call, leaf), leaf)
            finally:
                await aclose()

        assert anyio.run(main) == "kept"
        results = [result for request in server.requests for result in request.results]
    rows = [msgspec.convert(e.body, ToolCalled) for e in leaf.events if e.type == "usage.tool_call"]
    assert results[:2] == ["1 kept: one", "2 kept: two"]
    assert "no ink" in results[2]
    assert "note" in results[3]
    assert results[4].startswith("[image, 6 bytes, sha256 of its base64")
    assert results[4].endswith("a dot")
    assert [row.outcome for row in rows] == ["ok", "ok", "refused", "refused", "ok", "ok"]
    assert rows[0].provenance == f"mcp notes 1.2 ({' '.join(COMMAND)})"
    assert rows[0].result_sha256 == hashlib.sha256(b"1 kept: one").hexdigest()
    transcript = run.read_text("transcripts/item-000000-1.md")
    assert f"{rows[0].provenance}, sha256 {rows[0].result_sha256}" in transcript
    assert not run.exists("tools/item-000000-0-0.json")  # a program in the workspace works again in the next one


def test_a_server_writes_in_the_workspace_alone_and_has_no_keys(tmp_path, tools, use, monkeypatch):
    monkeypatch.setenv("NOTES_API_KEY", "sk-secret")
    outside = tmp_path / "outside"

    async def work(context: ToolContext) -> None:
        assert await tools["reach"].call({"path": "inside.txt"}, context) == "written"
        assert (context.workspace / "inside.txt").read_text() == "was here"
        with pytest.raises(ToolError, match=r"Permission|denied|Read-only|No such"):
            await tools["reach"].call({"path": str(outside)}, context)
        assert await tools["environment"].call({"name": "NOTES_API_KEY"}, context) == "(not set)"

    use(work)
    assert not outside.exists()


def test_a_key_that_was_named_reaches_the_server(use, monkeypatch, tools):
    monkeypatch.setenv("NOTES_API_KEY", "sk-secret")
    (tool,) = mcp_tools(COMMAND, env=["NOTES_API_KEY"], allow=["environment"], prefix="notes_")
    assert tool.name == "notes_environment"
    assert use(functools.partial(tool.call, {"name": "NOTES_API_KEY"})) == "sk-secret"
    assert b"sk-secret" not in pickle.dumps(tool)
    with pytest.raises(InvalidInput, match=r"remember.*another's name"):
        Agent("openai/tiny", tools=[tools["remember"], tools["remember"]])


def test_a_server_that_hangs_or_dies_is_told_ended_and_begun_anew(tmp_path, tools, use):
    hang = dataclasses.replace(tools["hang"], timeout_s=3.0)  # and within it the server is to have begun

    async def work(context: ToolContext) -> None:
        assert await tools["remember"].call({"note": "before"}, context) == "1 kept: before"
        with pytest.raises(ToolError, match="no answer in time"):
            await hang.call({"marker": "begun"}, context)
        assert (context.workspace / "begun").exists()
        assert await tools["remember"].call({"note": "again"}, context) == "1 kept: again"
        with pytest.raises(ToolError, match="the tool server"):
            await tools["die"].call({}, context)

    use(work)
    wait_until_none(tmp_path, within_s=60)


def test_a_server_ends_with_an_attempt_that_is_cancelled(tmp_path, tools, use):
    async def work(context: ToolContext) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(tools["hang"].call, {"marker": "begun"}, context))
            await anyio.to_thread.run_sync(lambda: wait_until((context.workspace / "begun").exists, within_s=60))
            assert living(tmp_path)
            group.cancel_scope.cancel()

    use(work)
    wait_until_none(tmp_path, within_s=60)


def test_a_server_at_an_address_of_this_machine_is_used_as_well(tmp_path, use):
    path = tmp_path / "log"
    with path.open("w") as log, subprocess.Popen([*COMMAND, "0"], stdout=log, stderr=log) as process:
        try:

            def says_where() -> str:
                return "".join(re.findall(r"running on (http://127\.0\.0\.1:\d+) ", path.read_text()))

            assert wait_until(lambda: bool(says_where()), within_s=60), path.read_text()
            address = f"{says_where()}/mcp"
            (tool,) = mcp_tools(address, allow=["remember"])
            assert tool.provenance == f"mcp notes 1.2 ({address})"
            assert use(functools.partial(tool.call, {"note": "far"})) == "1 kept: far"
        finally:
            process.terminate()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "given", "said"),
    [
        ([], {}, "is empty"),
        (None, {}, "must be a list of program and arguments"),
        ("notes", {}, "must be a list of program and arguments, or a URL"),
        ("http://user:pass@127.0.0.1/mcp", {}, "holds a user or password"),
        ("http://192.0.2.1/mcp", {}, "allow it: network=True"),
        ("http://127.0.0.1:1/mcp", {"env": ["HOME"]}, "is for a program"),
        (["x"], {"token_env": "HOME"}, "is for an address"),
        (["x"], {"env": ["NO_SUCH_KEY"]}, "'NO_SUCH_KEY': is not set"),
        (["x"], {"allow": "x"}, "must be a list of names"),
        (["x"], {"timeout_s": 0}, "timeout_s"),
        (["x"], {"network": "no"}, "network: must be True or False"),
        (["x"], {"confine": 0}, "confine: must be True or False"),
        (["no-such-program"], {}, "no program 'no-such-program'"),
        (["false"], {}, "does not come up"),
        ("http://127.0.0.1:1/mcp", {}, "http://127.0.0.1:1/mcp"),
    ],
)
def test_a_server_that_cannot_be_is_refused_before_anything_is_spent(server, given, said):
    with pytest.raises(InvalidInput, match=said) as refused:
        mcp_tools(server, **given)
    assert refused.value.__context__ is None  # a notebook would show the package's groups of groups


def test_a_tool_that_is_not_there_is_refused_by_name():
    with pytest.raises(InvalidInput, match=r"'forget': is no tool of .*it has remember, reach"):
        mcp_tools(COMMAND, allow=["forget"])


def test_without_the_package_the_command_that_installs_it_is_said(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "mcp" else find(name, *rest))
    with pytest.raises(InvalidInput, match=r"pip install 'epsilon-lab\[mcp\]'"):
        mcp_tools(["x"])
