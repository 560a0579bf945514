"""Tools of a server that speaks the Model Context Protocol, as tools of an agent.

What a tool is, is fixed when `mcp_tools` asks for it: a server that describes itself otherwise later changes nothing
that a model is told. Each attempt of an agent has a server of its own, started with the first call and ended with the
attempt, so that what one leaf does there no other one sees. Its errors, its silence and its end are told to the model;
after either of these it is started anew.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from epsilon_lab.agents.tools.function_tool import tool_name
from epsilon_lab.agents.tools.mcp_server import McpServer, ServerLost, reached, seconds, words
from epsilon_lab.agents.tools.tool import ToolContext, ToolError
from epsilon_lab.errors import InvalidInput

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

_DESCRIBED = 4_000
_SCHEMA_BYTES = 64 * 1024
_PAGES = 50


@dataclass(frozen=True)
class McpTool:
    """A tool of a server."""

    server: McpServer
    remote: str
    """What the server calls it."""

    name: str
    description: str
    schema: dict[str, Any] = field(hash=False)
    provenance: str
    timeout_s: float

    @property
    def once(self) -> bool:
        """Whether it can act elsewhere; a program without the network can act in the workspace alone, which is a new
        one when an attempt is made again.
        """
        return bool(self.server.url or self.server.network)

    def __repr__(self) -> str:
        return f"<tool {self.name} of {self.provenance}>"

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> str:
        """Have the server do it.

        Raises:
            ToolError: It says that it failed, or does not answer.
        """
        place = f"server {self.server!r}"
        session = context.notes.get(place)
        if session is None or session.client is None:
            session = context.notes[place] = _Session(self.server, context.workspace)
            try:
                await context.companions.start(session.run, self.timeout_s)
            except ServerLost as error:
                raise ToolError(str(error)) from error
        try:
            with anyio.fail_after(self.timeout_s):
                result = await session.client.call_tool(self.remote, arguments)
        except Exception as error:
            if not _is_an_answer(error):  # whoever is silent or gone is not asked again
                session.end()
            raise ToolError(f"the tool server {self.server}: {words(error)}") from error
        told = _text_of(result)
        if result.is_error:
            raise ToolError(told or "the tool failed and does not say why")
        return told


class _Session:
    """A server at work for an attempt."""

    def __init__(self, server: McpServer, workspace: Path) -> None:
        self._server = server
        self._workspace = workspace
        self._scope = anyio.CancelScope()
        self.client: Any = None

    async def run(self, timeout_s: float, *, task_status: TaskStatus[None]) -> None:
        is_up = False
        try:
            with self._scope:
                async with self._server.connected(self._workspace, timeout_s=timeout_s) as self.client:
                    is_up = True
                    task_status.started()
                    await anyio.sleep_forever()
        except Exception:
            if not is_up:
                raise  # told to the one who waits for the start; later, each call tells for itself
        finally:
            self.client = None

    def end(self) -> None:
        self.client = None
        self._scope.cancel()


def mcp_tools(
    server: str | Sequence[str],
    *,
    allow: Sequence[str] | None = None,
    prefix: str = "",
    env: Sequence[str] = (),
    token_env: str | None = None,
    reads: Sequence[str | Path] = (),
    confine: bool = True,
    network: bool = False,
    timeout_s: float = 60.0,
) -> list[McpTool]:
    """The tools of an MCP server, for `Agent(model, tools=[*mcp_tools(...), ...])`; it is asked for them once, now.

    What the server says of its tools goes to the model as it stands: allow those that you have read. Results go to the
    model as text, pictures and sounds are named and left out; each call is a row of `tool_calls` and a part of the
    transcript, with the server, the time, and the SHA-256 of what it gave.

    Args:
        server: Program and arguments, `["python", "server.py"]`, which speaks over its standard streams; or the address
            of one that runs, `"http://127.0.0.1:8000/mcp"`.
        allow: Names of the tools that may be used; None for all.
        prefix: Put before each name, where two servers have tools of one name.
        env: Names of environment variables that the program is given besides the harmless ones.
        token_env: The variable that holds the bearer token for the address.
        reads: Files and directories that the program may read, besides the system's and its own.
        confine: Whether the program is confined: it writes to the agent's workspace alone.
        network: Whether the program may reach the network, or the address may be on another machine.
        timeout_s: Seconds that one call may take.

    Raises:
        InvalidInput: The server does not come up, has no such tool, or one that a model cannot be told; or the package
            `mcp` is not installed.
    """
    place = reached(server, env=env, token_env=token_env, reads=reads, confine=confine, network=network)
    limit = seconds(timeout_s)
    if isinstance(allow, str):
        raise InvalidInput("mcp_tools allow", f"must be a list of names, got {allow!r}")
    place.validate()
    with ThreadPoolExecutor(1) as thread:  # a notebook's own loop runs in this one
        told, provenance = thread.submit(anyio.run, _listed, place, limit).result()
    names = [tool.name for tool in told]
    if missing := [name for name in allow or () if name not in names]:
        raise InvalidInput(f"mcp_tools allow {missing[0]!r}", f"is no tool of {place}", f"it has {', '.join(names)}")
    return [
        McpTool(
            server=place,
            remote=tool.name,
            name=tool_name(prefix + tool.name),
            description=(tool.description or tool.title or tool.name)[:_DESCRIBED],
            schema=_schema(tool),
            provenance=provenance,
            timeout_s=limit,
        )
        for tool in told
        if allow is None or tool.name in allow
    ]


async def _listed(server: McpServer, timeout_s: float) -> tuple[list[Any], str]:
    """Every tool of a server, and who it says it is."""
    found: list[Any] = []
    try:
        with tempfile.TemporaryDirectory() as place:
            async with server.connected(Path(place), timeout_s=timeout_s) as client:
                cursor = None
                for _ in range(_PAGES):
                    page = await client.list_tools(cursor=cursor)
                    found += page.tools
                    if (cursor := page.next_cursor) is None:
                        break
                told = client.server_info
                who = f"mcp {told.name} {told.version}".strip() if told is not None else "mcp"
            return found, f"{who} ({server})"[:200]
    except Exception as error:  # noqa: BLE001 - the package's own, in groups of groups; the words say all they do
        said = str(error) if isinstance(error, ServerLost) else f"the tool server {server}: {words(error)}"
    raise InvalidInput("mcp_tools server", said)


def _schema(tool: Any) -> dict[str, Any]:
    schema: dict[str, Any] = tool.input_schema
    if schema.get("type") != "object" or len(msgspec.json.encode(schema)) > _SCHEMA_BYTES:
        raise InvalidInput(
            f"mcp_tools {tool.name!r}", "has arguments that a model cannot be told", "leave it out of allow=[...]"
        )
    return schema


def _is_an_answer(error: BaseException) -> bool:
    """Whether a server answered that it would not, as against not answering."""
    from mcp import MCPError  # noqa: PLC0415 - an extra
    from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT  # noqa: PLC0415 - an extra

    return isinstance(error, MCPError) and error.code not in (CONNECTION_CLOSED, REQUEST_TIMEOUT)


def _text_of(result: Any) -> str:
    """A result as text; what is no text is named."""
    parts = []
    for block in result.content:
        match block.type:
            case "text":
                parts.append(block.text)
            case "resource" if hasattr(block.resource, "text"):
                parts.append(block.resource.text)
            case "resource_link":
                parts.append(f"[{block.uri}]")
            case kind:
                data = str(getattr(block, "data", "") or getattr(getattr(block, "resource", None), "blob", ""))
                digest = hashlib.sha256(data.encode()).hexdigest()[:12]
                parts.append(f"[{kind}, {len(data) * 3 // 4:,} bytes, sha256 of its base64 {digest}…, left out]")
    if not parts and result.structured_content is not None:
        parts.append(msgspec.json.encode(result.structured_content).decode())
    return "\n".join(parts)
