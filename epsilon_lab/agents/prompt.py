"""What a model is asked, as a value: plain messages, one text to read, one hash to know it by.

The hash is over roles, contents and tool calls alone, so that a recorded reply can be matched to the prompt that earned
it whatever model, address or key it was sent with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec


class ToolCall(NamedTuple):
    """What a model wants done."""

    id: str
    name: str
    arguments: str
    """JSON of an object, or what the model took for it."""


class Message(NamedTuple):
    """One message of a prompt."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's."""

    tool_call_id: str = ""
    """Of a tool's: the call that it answers."""

    def wire(self) -> dict[str, Any]:
        """The message in the form of OpenAI's chat protocol."""
        wired: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            wired["content"] = self.content or None  # an empty text beside calls is refused by some servers
            wired["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.tool_calls
            ]
        if self.tool_call_id:
            wired["tool_call_id"] = self.tool_call_id
        return wired


Prompt = Sequence[Message]

ToolSpec = Mapping[str, Any]
"""A tool as a model is told of it, in the form of OpenAI's chat protocol: `tool_spec`."""


def tool_spec(name: str, description: str, schema: Mapping[str, Any]) -> ToolSpec:
    """Describe a tool to a model.

    Args:
        name: What the model calls it by.
        description: What it does, and when to use it.
        schema: JSON Schema of its arguments, an object.
    """
    return {"type": "function", "function": {"name": name, "description": description, "parameters": dict(schema)}}


def prompt_sha256(prompt: Prompt) -> str:
    """SHA-256, in hex, over roles, contents and tool calls."""
    # A message without calls is hashed as the pair it was before there were any: recordings are known by it.
    parts = [tuple(message) if message.tool_calls or message.tool_call_id else message[:2] for message in prompt]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def prompt_text(prompt: Prompt) -> str:
    """The prompt as a file for people, in Markdown."""
    return "\n\n".join(_message_text(message) for message in prompt) + "\n"


def calls_text(calls: Sequence[ToolCall]) -> str:
    """Tool calls as people read them, in Markdown."""
    return "\n\n".join(f"<!-- calls {call.name} -->\n\n{call.arguments.strip()}" for call in calls)


def _message_text(message: Message) -> str:
    said = [message.content.strip()] if message.content.strip() or not message.tool_calls else []
    return "\n\n".join(
        [f"<!-- {message.role} -->", *said, *([calls_text(message.tool_calls)] * bool(message.tool_calls))]
    )
