"""What a model's server said, or why it said nothing, whichever way it was asked.

There are two doors to a model: litellm, which knows a hundred providers, and plain HTTP. Both speak in these terms, so
that what is recorded, tried again and told to the user is decided once.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from epsilon_lab.agents.prompt import Prompt, ToolCall, ToolSpec

LARGEST_REPLY = 16 * 2**20
"""Bytes of a server's reply; one that is larger is not read to its end."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A model's reply as it came."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    """None, as the completion's, where the server did not count."""

    completion_tokens: int | None = None
    cost_usd: float | None = None
    """None where the price is unknown."""


Kind = Literal["status", "unreachable", "broken", "elsewhere", "unusable", "timeout"]


class NoAnswer(Exception):
    """A request came to nothing.

    Attributes:
        kind: `status`: the server said so, by an HTTP status. `unreachable`: there was no connection. `broken`: the
            connection ended before an answer began. `elsewhere`: it sent us to another address. `unusable`: what it
            answered is no reply, or broke off. `timeout`: our time was over.
        said: What the server or the library said about it; it may hold anything.
        status: The HTTP status, if there was one.
        wait_s: Seconds the server asked to wait.
    """

    def __init__(self, kind: Kind, said: str = "", *, status: int | None = None, wait_s: float | None = None) -> None:
        self.kind, self.said, self.status, self.wait_s = kind, said, status, wait_s
        super().__init__(said)

    @property
    def is_free(self) -> bool:
        """Whether it cannot have been billed: it was turned away, or reached no model."""
        return self.kind in ("unreachable", "elsewhere") or (self.kind == "status" and (self.status or 500) < 500)


class Door(Protocol):
    """A way to a model."""

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

        Args:
            prompt: The messages.
            model: The model's name, as this door knows it.
            api_base: The server's address; None for the provider's.
            key: The key; None for the one the door finds by itself.
            tools: What the model may call; none for a plain question.
            arguments: Further arguments of the request.
            traceparent: The header that names the request in its run's trace, as W3C Trace Context has it.

        Raises:
            NoAnswer: There was none.
        """
        ...


def asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """Read how many seconds a server asks to wait, in any of the forms in use; None where it does not say."""
    given = {name.lower(): value for name, value in headers.items()}
    with suppress(KeyError, ValueError):
        return max(float(given["retry-after-ms"]) / 1000, 0.0)
    with suppress(KeyError, ValueError):
        return max(float(given["retry-after"]), 0.0)
    with suppress(KeyError, ValueError):
        return max(email.utils.parsedate_to_datetime(given["retry-after"]).timestamp() - time.time(), 0.0)
    return None


def check_head(status: int, headers: Mapping[str, str]) -> None:
    """Refuse a response that is not to be read.

    Raises:
        NoAnswer: It is a redirect, compressed, or says that it is too large.
    """
    if 300 <= status < 400:
        place = urlsplit(headers.get("location", ""))
        raise NoAnswer(
            "elsewhere", f"{place.scheme or 'http'}://{place.netloc.rpartition('@')[2] or '?'}", status=status
        )
    if headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise NoAnswer("unusable", "it is compressed, though it was asked for as it is")
    with suppress(ValueError):
        check_size(int(headers.get("content-length", "0")))


def check_size(size: int) -> None:
    """Refuse a response of so many bytes.

    Raises:
        NoAnswer: That is too large.
    """
    if size > LARGEST_REPLY:
        raise NoAnswer("unusable", f"it is larger than the {LARGEST_REPLY:,} bytes of a reply")
