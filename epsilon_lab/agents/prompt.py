"""What a model is asked, as a value: plain messages, one text to read, one hash to know it by.

The hash is over roles and contents alone, so that a recorded reply can be matched to the prompt that earned it whatever
model, address or key it was sent with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec


class Message(NamedTuple):
    """One message of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt = Sequence[Message]


def prompt_sha256(prompt: Prompt) -> str:
    """SHA-256, in hex, over roles and contents."""
    return hashlib.sha256(msgspec.json.encode([tuple(message) for message in prompt])).hexdigest()


def prompt_text(prompt: Prompt) -> str:
    """The prompt as a file for people, in Markdown."""
    return "\n\n".join(f"<!-- {message.role} -->\n\n{message.content.strip()}" for message in prompt) + "\n"
