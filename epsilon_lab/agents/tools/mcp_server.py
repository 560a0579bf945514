"""A server of tools that speaks the Model Context Protocol: how it is reached, and what it is held to.

A server that is started here is an outside program like any other: confined, limited, ended with all it started. The
`mcp` package would start it unconfined, and would leave it behind if this process were killed; so the package speaks
the protocol, and the program is ours. This is the one door to that package, which is an extra and loads when asked for.

What a server says (names, descriptions, results) is a stranger's text.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from epsilon_lab.arguments import number, switch, text
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.processes.program import Kept, Program

if TYPE_CHECKING:
    from mcp import Client

INSTALL = "pip install 'epsilon-lab[mcp]'"

_LINE_LIMIT = 16 * 2**20
_STDERR_LIMIT = 4_000
_START_S = 30.0
_PARTING_S = 1.0
_LOCAL = ("127.0.0.1", "::1", "localhost")


class ServerLost(LabError):
    """A server of tools does not answer: it could not be started, has ended, or hangs."""


@dataclass(frozen=True)
class McpServer:
    """Where a server of tools is: a program to start, or an address.

    Args:
        command: Program and arguments; empty for a server that runs.
        url: Its address; empty for a program.
        env: Names of environment variables that the program is given besides the harmless ones, its keys too.
        token_env: The variable that holds the bearer token for the address.
        reads: Files and directories that a confined program may read besides the system's.
        confine: Whether the program is confined: it writes to its working directory alone.
        network: Whether the program may reach the network, or the address may be on another machine.
    """

    command: tuple[str, ...] = ()
    url: str = ""
    env: tuple[str, ...] = ()
    token_env: str | None = None
    reads: tuple[str, ...] = ()
    confine: bool = True
    network: bool = False

    def __str__(self) -> str:
        return self.url or " ".join(self.command)

    def validate(self) -> None:
        """Refuse what could not be reached.

        Raises:
            InvalidInput: Naming the variable, the address or the package.
        """
        if importlib.util.find_spec("mcp") is None:
            raise InvalidInput("mcp_tools", "needs the package mcp, which is not installed", INSTALL)
        for name in (*self.env, *([self.token_env] if self.token_env else [])):
            if name not in os.environ:
                raise InvalidInput(f"mcp_tools env {name!r}", "is not set", "set the environment variable")

    @asynccontextmanager
    async def connected(self, workspace: Path, *, timeout_s: float) -> AsyncIterator[Client]:
        """A client of the server, which is started for it; both end with the block.

        Args:
            workspace: The program's working directory.
            timeout_s: Seconds that an answer may take.

        Raises:
            ServerLost: It does not come up.
        """
        import mcp  # noqa: PLC0415 - an extra, and half a second

        stderr = Kept(_STDERR_LIMIT)
        transport = self._http() if self.url else self._stdio(workspace, stderr)
        info = mcp.types.Implementation(name="epsilon_lab", version=importlib.metadata.version("epsilon-lab"))
        client = mcp.Client(transport, read_timeout_seconds=timeout_s, client_info=info, cache=None)
        is_up = False
        try:
            with anyio.fail_after(_START_S) as starting:
                async with client:
                    is_up, starting.deadline = True, float("inf")
                    yield client
        except Exception as error:
            if is_up:
                raise
            said = f"; it printed: {str(stderr).strip()}" if str(stderr).strip() else ""
            raise ServerLost(f"the tool server {self} does not come up: {words(error)}{said}") from error

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[Any]:
        import httpx2  # noqa: PLC0415 - comes with mcp
        from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415 - an extra

        headers = {"Authorization": f"Bearer {os.environ.get(self.token_env, '')}"} if self.token_env else {}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(_START_S, read=None), trust_env=False) as http,
            streamable_http_client(self.url, http_client=http) as streams,
        ):
            yield streams

    @asynccontextmanager
    async def _stdio(self, workspace: Path, stderr: Kept) -> AsyncIterator[Any]:
        """The program's standard streams as the package wants them: a line a message, both ways."""
        start = functools.partial(
            Program,
            self.command,
            cwd=workspace,
            env={name: os.environ[name] for name in self.env if name in os.environ},
            confine=self.confine,
            network=self.network,
            reads=self.reads,
            talks=True,
        )
        with anyio.CancelScope(shield=True):  # a program that was begun is in somebody's hands
            program = await anyio.to_thread.run_sync(start)
        heard, hear = anyio.create_memory_object_stream[Any](0)
        say, said = anyio.create_memory_object_stream[Any](0)
        is_over = anyio.Event()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_listen, program, heard, is_over)
                group.start_soon(_speak, program, said)
                group.start_soon(_overhear, program, stderr)
                try:
                    yield hear, say
                finally:
                    with anyio.CancelScope(shield=True):
                        program.hang_up()  # which tells it to end
                        with anyio.move_on_after(_PARTING_S):
                            await is_over.wait()
                    group.cancel_scope.cancel()
        finally:
            for stream in (heard, hear, say, said):
                stream.close()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(program.close)


def reached(
    server: str | Sequence[str],
    *,
    env: Sequence[str],
    token_env: str | None,
    reads: Sequence[str | Path],
    confine: bool,
    network: bool,
) -> McpServer:
    """Make a server of what a user says.

    Raises:
        InvalidInput: It is neither a program nor an address that may be reached.
    """
    switch("mcp_tools confine", confine)
    switch("mcp_tools network", network)
    for name in (env, reads):
        if isinstance(name, str):
            raise InvalidInput("mcp_tools", f"env and reads are lists, got {name!r}")
    names = tuple(text("mcp_tools env", name) for name in env)
    if not isinstance(server, str | Sequence):
        raise InvalidInput("mcp_tools server", f"must be a list of program and arguments, or a URL, got {server!r}")
    if isinstance(server, str):
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput("mcp_tools server", f"must be a list of program and arguments, or a URL, got {server!r}")
        if parts.username or parts.password:
            raise InvalidInput("mcp_tools server", "holds a user or password", "give a token by name: token_env=...")
        if parts.hostname not in _LOCAL and not network:
            raise InvalidInput("mcp_tools server", f"is on another machine, {parts.hostname}", "allow it: network=True")
        if names or reads:
            raise InvalidInput("mcp_tools env", "is for a program that is started", "leave it out")
        return McpServer(url=server, token_env=token_env, network=network)
    command = tuple(text("mcp_tools server", os.fspath(part)) for part in server)
    if not command:
        raise InvalidInput("mcp_tools server", "is empty", "give a program and its arguments")
    if token_env is not None:
        raise InvalidInput("mcp_tools token_env", "is for an address", "give a program its keys by name: env=[...]")
    files = {part: str(Path(part).resolve()) for part in command[1:] if Path(part).exists()}  # its cwd is another
    return McpServer(
        command=tuple(files.get(part, part) for part in command),
        env=names,
        reads=(*files.values(), *(str(Path(path).resolve()) for path in reads)),
        confine=confine,
        network=network,
    )


def seconds(timeout_s: float) -> float:
    """Refuse what is no time limit."""
    return number("mcp_tools timeout_s", timeout_s, least=0, above=True)


def words(error: BaseException) -> str:
    """What an error says, the innermost of a group's."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


async def _listen(program: Program, heard: Any, is_over: anyio.Event) -> None:
    from mcp.shared.message import SessionMessage  # noqa: PLC0415 - an extra
    from mcp_types import jsonrpc_message_adapter  # noqa: PLC0415 - an extra

    line = bytearray()
    try:
        async with heard:
            while True:
                await anyio.wait_readable(program.stdout)
                part = os.read(program.stdout.fileno(), 1 << 18)
                if not part or len(line) + len(part) > _LINE_LIMIT:
                    return
                *lines, rest = (bytes(line) + part).split(b"\n") if b"\n" in part else (line + part,)
                line = bytearray(rest)
                for each in filter(bytes.strip, lines):
                    message: SessionMessage | Exception
                    try:
                        message = SessionMessage(jsonrpc_message_adapter.validate_json(each, by_name=False))
                    except ValueError as error:
                        message = error
                    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                        await heard.send(message)
    finally:
        is_over.set()


async def _speak(program: Program, said: Any) -> None:
    async with said:
        async for message in said:
            data = (message.message.model_dump_json(by_alias=True, exclude_unset=True) + "\n").encode()
            while data and program.stdin is not None:
                await anyio.wait_writable(program.stdin)
                try:
                    data = data[os.write(program.stdin.fileno(), data) :]
                except BlockingIOError:
                    continue
                except OSError:  # it reads no more; that it says no more is heard elsewhere
                    return


async def _overhear(program: Program, stderr: Kept) -> None:
    while True:
        await anyio.wait_readable(program.stderr)
        part = os.read(program.stderr.fileno(), 1 << 16)
        if not part:
            return
        stderr.add(part)
