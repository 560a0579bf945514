"""A door to any server that speaks OpenAI's chat protocol, by plain HTTP.

litellm spends three to four milliseconds of processor time on a request and seconds on its import; a local server under
a small model answers faster than that. This door does what such a server needs and no more: one POST, one JSON object
back, the key as a bearer token. It knows no prices and no other protocol. What holds for a server's answer is said in
guard.py; the rules are the same here.

It speaks through aiohttp, which litellm brings along and which is some times faster than httpx.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio.to_thread
import msgspec

from epsilon_lab.agents.answer import Answer, NoAnswer, asked_wait_s, check_head, check_size
from epsilon_lab.agents.prompt import Prompt, ToolCall, ToolSpec

if TYPE_CHECKING:
    import aiohttp

_SAID = 2_000  # characters of an error's body; what is shown of them is cut where it is shown


class _Part(msgspec.Struct):
    text: str = ""


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_decoder = msgspec.json.Decoder(_Completion)


class HttpDoor:
    """Asks a server of one's own."""

    async def send(
        self,
        prompt: Prompt,
        *,
        model: str,
        api_base: str | None,
        key: str | None,
        tools: Sequence[ToolSpec],
        arguments: Mapping[str, Any],
        traceparent: str,
    ) -> Answer:
        """Send one request.

        Raises:
            NoAnswer: There was none.
        """
        aiohttp = await _open()
        body = {**arguments, "model": model, "messages": [message.wire() for message in prompt]}
        if tools:
            body["tools"] = tools
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "traceparent": traceparent}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        url = f"{(api_base or '').rstrip('/')}/chat/completions"
        begun = False
        try:
            async with _session(aiohttp).post(
                url,
                data=msgspec.json.encode(body),
                headers=headers,
                proxy=_proxy(url),
                allow_redirects=False,
                auto_decompress=False,
            ) as response:
                begun = True
                check_head(response.status, response.headers)
                content = await _content(response)
                if response.status >= 400:
                    raise NoAnswer(
                        "status",
                        _said(content),
                        status=response.status,
                        wait_s=asked_wait_s(response.headers),
                    )
        except aiohttp.ClientConnectorError as error:
            raise NoAnswer("unreachable", str(error)) from error
        except aiohttp.InvalidURL as error:
            raise NoAnswer("unreachable", f"{error} is no address") from error
        except (aiohttp.ClientError, OSError) as error:
            said = str(error) or type(error).__name__
            raise NoAnswer("unusable" if begun else "broken", said) from error
        return _read(content)


async def aclose() -> None:
    """End the running loop's connections."""
    session = _sessions.pop(asyncio.get_running_loop(), None)
    if session is not None:
        await session.close()


_sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}


async def _open() -> Any:
    """Import aiohttp, in a thread the first time. `sys.modules` does not tell when: it has half of it long before."""
    if not _ready:
        _ready.append(await anyio.to_thread.run_sync(import_module, "aiohttp"))
    return _ready[0]


_ready: list[Any] = []


def _session(aiohttp: Any) -> aiohttp.ClientSession:
    """The running loop's session: as many connections as there are requests, and no time limit but the caller's."""
    loop = asyncio.get_running_loop()
    if loop not in _sessions:
        _sessions[loop] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
    return _sessions[loop]


@functools.lru_cache(maxsize=64)
def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address. aiohttp would look it up in a thread at each request."""
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


async def _content(response: aiohttp.ClientResponse) -> bytes:
    chunks = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        check_size(size)
        chunks.append(chunk)
    return b"".join(chunks)


def _read(content: bytes) -> Answer:
    """Take what counts out of a completion."""
    try:
        completion = _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        completion = _read_leniently(content)
    if not completion.choices:
        raise NoAnswer("unusable", "it has no choices")
    choice, usage = completion.choices[0], completion.usage or _Usage()
    text = choice.message.content or ""
    return Answer(
        text=text if isinstance(text, str) else "".join(part.text for part in text),
        tool_calls=tuple(map(_call, choice.message.tool_calls or ())),
        finish_reason=choice.finish_reason or "stop",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _call(made: _Call) -> ToolCall:
    """A tool call; some servers give its arguments as the object itself, or leave out what they may not."""
    given = made.function.arguments
    arguments = msgspec.json.encode(given).decode() if isinstance(given, dict) else given
    return ToolCall(made.id or "", made.function.name or "", arguments or "{}")


def _read_leniently(content: bytes) -> _Completion:
    """Read a completion that holds text which is no Unicode: it has been paid for."""
    try:
        return msgspec.convert(json.loads(content.decode("utf-8", "replace")), _Completion)
    except (ValueError, RecursionError) as error:
        raise NoAnswer("unusable", f"it is no chat completion: {error}; it begins {content[:60]!r}") from error


def _said(content: bytes) -> str:
    """What an error's body says: OpenAI's message, or the text itself."""
    try:
        error = msgspec.json.decode(content)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return content[:_SAID].decode("utf-8", "replace")
