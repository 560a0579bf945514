"""A model to test against: real HTTP on 127.0.0.1, answers as scripted, breaks as scripted, costs nothing.

A mock inside the client would prove nothing about time limits, half-sent bodies or where the key travels, so this is
a server: sockets, keep-alive, its own thread and loop. It speaks the part of the OpenAI protocol that a chat
completion needs and keeps every request for the test to look at. What it answers is a function of the request, so
that a run against it is the same at any parallelism; faults may also be scheduled by the number of the request.

    with ModelServer(vary_number, faults={3: Status(429)}) as server:
        LLM("openai/test", api_base=server.url, api_key_env="TEST_KEY")
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import re
import threading
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any, Self, cast

import msgspec
from anyio.from_thread import start_blocking_portal

from epsilon_lab.errors import LabError
from epsilon_lab.search.sources import parse


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a client sent."""

    index: int
    """0 for the server's first request, in order of arrival."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""

    body: bytes

    @property
    def json(self) -> dict[str, object]:
        """The body, decoded."""
        decoded: dict[str, object] = msgspec.json.decode(self.body, type=dict[str, object])
        return decoded

    @property
    def prompt(self) -> str:
        """The contents of all messages, one after the other."""
        messages = msgspec.convert(self.json.get("messages", []), list[dict[str, object]])
        return "\n\n".join(str(message.get("content", "")) for message in messages)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages, as they were sent."""
        return cast("list[dict[str, Any]]", self.json.get("messages", []))

    @property
    def task(self) -> str:
        """What the model is to do: the first message of the user."""
        return next((str(message["content"]) for message in self.messages if message["role"] == "user"), "")

    @property
    def step(self) -> int:
        """How often the model has answered in this conversation."""
        return sum(message["role"] == "assistant" for message in self.messages)

    @property
    def results(self) -> list[str]:
        """What tools answered to the model's last reply."""
        said: list[str] = []
        for message in reversed(self.messages):
            if message["role"] == "assistant":
                break
            if message["role"] == "tool":
                said.insert(0, str(message["content"]))
        return said

    @property
    def tools(self) -> list[str]:
        """The names of the tools that are offered."""
        return [tool["function"]["name"] for tool in cast("list[dict[str, Any]]", self.json.get("tools", []))]


class Call(msgspec.Struct, frozen=True):
    """A call of a tool, as part of an answer."""

    name: str
    arguments: Mapping[str, object] | str = {}
    """A text is sent as it is: it may be no JSON."""


class Text(msgspec.Struct, frozen=True):
    """A good answer."""

    text: str = ""
    finish_reason: str = "stop"
    """`length` where the model ran into its token limit."""

    calls: tuple[Call, ...] = ()
    """What the model wants done, beside the text."""

    prompt_tokens: int | None = 100
    """None leaves the usage out of the answer."""

    completion_tokens: int = 50


class Status(msgspec.Struct, frozen=True):
    """An error by its HTTP status, with the JSON body OpenAI would send unless another is given."""

    status: int
    body: str | None = None
    headers: Mapping[str, str] = {}


class Raw(msgspec.Struct, frozen=True):
    """Any body at all under a 200: HTML from a proxy, JSON that is none, a few bytes that unpack to many."""

    body: str | bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class Truncated(msgspec.Struct, frozen=True):
    """A body that ends before its announced length, and the connection with it."""


class Huge(msgspec.Struct, frozen=True):
    """A body of blanks, as fast as the client takes it."""

    size: int
    """Bytes."""

    announced: bool = False
    """With a Content-Length; otherwise in chunks, of which the client cannot know how many will come."""


class Reset(msgspec.Struct, frozen=True):
    """A connection that is torn down before a byte of an answer."""


class Hang(msgspec.Struct, frozen=True):
    """No answer until the client gives up or the server closes."""


class Trickle(msgspec.Struct, frozen=True):
    """An answer that never ends: headers at once, then a byte every so often, so that no read ever times out."""

    every_s: float = 0.05


Answer = Text | Call | Status | Raw | Truncated | Huge | Reset | Hang | Trickle
Script = Callable[[Request], Answer | str]


def vary_number(request: Request) -> str:
    """Answer as a diligent but simple model does: the first program of the prompt with one number changed.

    Which number, and to what, depends on the prompt alone.
    """
    blocks = _PROGRAM.findall(request.prompt)
    if not blocks:
        return "There is no program in your prompt."
    tree = parse(blocks[0])
    if (number := _number(tree, request)) is not None:
        number.value = _other(number, request)
    return f"I changed one number.\n\n```python\n{ast.unparse(tree)}\n```\n"


def edit_number(request: Request) -> str:
    """Answer as `vary_number` does, in an edit block where the prompt lets it: one number of the program it names."""
    offered = re.search(r"changes to (\S+) as edit blocks", request.prompt)
    if offered is None:
        return vary_number(request)
    [source] = re.findall(rf"^## \w+: {offered[1]},.*?{_PROGRAM.pattern}", request.prompt, _PROGRAM.flags)[:1]
    if (number := _number(parse(source), request)) is None:
        return vary_number(request)
    lines = source.split("\n")
    end = number.lineno
    first = next(start for start in range(end - 1, -1, -1) if source.count("\n".join(lines[start:end]) + "\n") == 1)
    quoted = lines[first:end]
    old = lines[number.lineno - 1]
    new = f"{old[: number.col_offset]}{_other(number, request)}{old[number.end_col_offset :]}"
    return "\n".join(["<<<<<<< SEARCH", *quoted, "=======", *quoted[:-1], new, ">>>>>>> REPLACE"])


class Play(msgspec.Struct, frozen=True):
    """An agent that plays its part move by move, the last one for ever.

    Which move it is at is how often it has answered in the conversation that it is shown, so that any number of them
    play at once, and a conversation that is taken up again goes on where it was. A conversation so long that its
    beginning was cut off counts fewer.

    Attributes:
        moves: Answers; or functions of the request that give one, for a part that reacts to what its tools said.
    """

    moves: tuple[Answer | str | Script, ...]

    def __call__(self, request: Request) -> Answer | str:
        """The move."""
        move = self.moves[min(request.step, len(self.moves) - 1)]
        return move(request) if callable(move) else move


class Cast(msgspec.Struct, frozen=True):
    """Several parts behind one model: who is meant is said by the task, or by the instructions.

    Attributes:
        parts: Words that occur in the first two messages, and who plays the task they occur in; the first that occurs
            counts. The empty word occurs in all.
    """

    parts: Mapping[str, Script]

    def __call__(self, request: Request) -> Answer | str:
        """The answer of who is meant."""
        head = "\n".join(str(message["content"]) for message in request.messages[:2])
        for word, part in self.parts.items():
            if word in head:
                return part(request)
        return Status(500, '{"error": {"message": "nobody plays this part"}}')


_PIECE = 2**16
_TURNS = 5  # of the loop, in which asyncio hands over a connection that it has already taken in

_PROGRAM = re.compile(r"^`{3,}python\n(.*?)^`{3,}$", re.MULTILINE | re.DOTALL)


def _number(tree: ast.AST, request: Request) -> ast.Constant | None:
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) in (int, float)]
    return nodes[_digest(request)[0] % len(nodes)] if nodes else None


def _other(number: ast.Constant, request: Request) -> int | float:
    assert isinstance(number.value, int | float)
    return number.value + 1 + _digest(request)[1] % 9


def _digest(request: Request) -> bytes:
    return hashlib.sha256(request.prompt.encode()).digest()


class ModelServer:
    """An OpenAI-compatible model server on a free port of 127.0.0.1, used as a context manager.

    Args:
        script: Request -> answer; text alone is a good answer. A sequence is answered in order of arrival, its last
            item for ever.
        latency_s: Seconds before every answer.
        faults: Answers by number of the request, in place of the script's.
    """

    def __init__(
        self,
        script: Script | Sequence[Answer | str] = vary_number,
        *,
        latency_s: float = 0.0,
        faults: Mapping[int, Answer] | None = None,
    ) -> None:
        if callable(script):
            self._script: Script = script
        else:
            answers = list(script)
            self._script = lambda request: answers[min(request.index, len(answers) - 1)]
        self._latency_s, self._faults = latency_s, dict(faults or {})
        self._arrived = threading.Condition()
        self._requests: list[Request] = []
        self._connections = 0
        self._port = 0
        self._open: ExitStack | None = None

    def __repr__(self) -> str:
        return f"<ModelServer {self.url}, {len(self._requests)} requests>"

    @property
    def url(self) -> str:
        """What a client is given as `api_base`."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def requests(self) -> tuple[Request, ...]:
        """Everything received so far, in order of arrival."""
        with self._arrived:
            return tuple(self._requests)

    @property
    def connections(self) -> int:
        """Connections open now."""
        return self._connections

    def wait_for(self, count: int, timeout: float = 30.0) -> None:
        """Wait until that many requests have arrived.

        Raises:
            TimeoutError: They did not, within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._arrived:
            while len(self._requests) < count:
                if not self._arrived.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"{len(self._requests)} of {count} requests arrived within {timeout} s")

    def __enter__(self) -> Self:
        if self._open is not None:
            raise LabError(f"{self!r} is already serving; make another server")
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(name="model-server"))
            self._port = stack.enter_context(portal.wrap_async_context_manager(_serving(self._connection)))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    # -- one connection, on the server's own loop ----------------------------------------------------------------

    async def _connection(self, incoming: StreamReader, outgoing: StreamWriter) -> None:
        self._connections += 1
        try:
            while await self._exchange(incoming, outgoing):
                pass
        except (EOFError, ConnectionError, asyncio.LimitOverrunError):
            pass  # the client went away, or is none; its right
        finally:
            self._connections -= 1
            outgoing.close()

    async def _exchange(self, incoming: StreamReader, outgoing: StreamWriter) -> bool:
        """Read one request, answer it, and tell whether the connection can carry another."""
        head = (await incoming.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.rstrip().split("\r\n")
        method, path, _ = line.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
        body = await incoming.readexactly(int(headers.get("content-length", "0")))
        with self._arrived:
            request = Request(index=len(self._requests), method=method, path=path, headers=headers, body=body)
            self._requests.append(request)
            self._arrived.notify_all()
        await asyncio.sleep(self._latency_s)
        return await self._send(self._answer(request), request, incoming, outgoing)

    def _answer(self, request: Request) -> Answer:
        if request.method != "POST" or not request.path.endswith("/chat/completions"):
            return Status(404)
        answer = self._faults.get(request.index) or self._script(request)
        if isinstance(answer, Call):
            return Text(calls=(answer,))
        return Text(answer) if isinstance(answer, str) else answer

    async def _send(self, answer: Answer, request: Request, incoming: StreamReader, outgoing: StreamWriter) -> bool:
        match answer:
            case Text():
                outgoing.write(_response(200, msgspec.json.encode(_completion(answer, request))))
            case Raw(body=given, content_type=content_type, headers=headers):
                content = given.encode() if isinstance(given, str) else given
                outgoing.write(_response(200, content, content_type=content_type, headers=headers))
            case Status(status=status, body=given, headers=headers):
                error = {"message": f"scripted {status}", "type": "scripted", "param": None, "code": str(status)}
                content = msgspec.json.encode({"error": error}) if given is None else given.encode()
                outgoing.write(_response(status, content, headers=headers))
            case Truncated():
                whole = msgspec.json.encode(_completion(Text("never seen whole"), request))
                outgoing.write(_response(200, whole)[: -len(whole) // 2])
            case Trickle(every_s=every_s):
                outgoing.write(_response(200, b" " * 10_000_000)[:-10_000_000])
                while True:
                    outgoing.write(b" ")
                    await outgoing.drain()
                    await asyncio.sleep(every_s)
            case Huge(size=size, announced=announced):
                length = {"Content-Length": str(size)} if announced else {"Transfer-Encoding": "chunked"}
                outgoing.write(_response(200, b"", headers=length))
                for start in range(0, size, _PIECE):
                    piece = b" " * min(_PIECE, size - start)
                    outgoing.write(piece if announced else b"%x\r\n%s\r\n" % (len(piece), piece))
                    await outgoing.drain()
                if not announced:
                    outgoing.write(b"0\r\n\r\n")
            case Reset():
                outgoing.transport.abort()
                return False
            case Hang():
                await incoming.read(1)  # until the client hangs up
        await outgoing.drain()
        return not isinstance(answer, Truncated | Hang)


@asynccontextmanager
async def _serving(connection: Callable[[StreamReader, StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """Listen on a free port, which is yielded; no connection outlives the context."""
    connections: set[asyncio.Task[None]] = set()

    def accept(incoming: StreamReader, outgoing: StreamWriter) -> None:
        task = asyncio.ensure_future(connection(incoming, outgoing))
        connections.add(task)
        task.add_done_callback(connections.discard)
        task.add_done_callback(lambda _: outgoing.close())  # a task that is cancelled before it begins closes nothing

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(_TURNS):  # a server that is closed loses what it has taken in and not yet handed over
            await asyncio.sleep(0)
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()


def _response(
    status: int, body: bytes, *, content_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> bytes:
    fields = {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}
    if "Transfer-Encoding" in fields:
        del fields["Content-Length"]
    lines = [f"HTTP/1.1 {status} scripted", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def _tool_calls(calls: Sequence[Call], request: Request) -> list[dict[str, object]]:
    return [
        {
            "id": f"call_{request.step}_{place}",
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments),
            },
        }
        for place, call in enumerate(calls)
    ]


def _completion(answer: Text, request: Request) -> dict[str, object]:
    completion: dict[str, object] = {
        "id": f"chatcmpl-{request.index}",
        "object": "chat.completion",
        "created": 0,
        "model": request.json.get("model", ""),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.text},
                "finish_reason": answer.finish_reason,
            }
        ],
    }
    if answer.calls:
        [choice] = cast("list[dict[str, Any]]", completion["choices"])
        choice["message"] |= {"content": answer.text or None, "tool_calls": _tool_calls(answer.calls, request)}
        choice["finish_reason"] = "tool_calls" if answer.finish_reason == "stop" else answer.finish_reason
    if answer.prompt_tokens is not None:
        completion["usage"] = {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        }
    return completion
