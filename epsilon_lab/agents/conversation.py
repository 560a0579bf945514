"""What an agent and its tools have said to each other: pure rules, the same words for the same replies.

An attempt that is made again goes through the conversation again, with replies from the disk in place of paid ones, as
long as every prompt is the same to the letter. So nothing here knows a time, a path or a chance; and what is put right
(a call without an id, arguments that are no JSON) is put right in the same way each time.

A server may refuse a conversation in which a call has no answer, an answer no call, or arguments that are no JSON. So
the oldest part of a long conversation is left out by whole steps, and broken arguments are shown as empty.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from epsilon_lab.agents.prompt import Message, Prompt, ToolCall
from epsilon_lab.agents.reply import Receipt
from epsilon_lab.agents.tools.tool import ToolError

ARGUMENTS_LIMIT = 256 * 1024
"""Characters of one call's arguments."""

CALLS_LIMIT = 16
"""Calls of one reply that are made."""

SILENT_LIMIT = 5
"""Replies in a row without a call, after which a model is given up."""

HISTORY_LIMIT = 400_000
"""Characters of a conversation that a model is shown: some 100,000 tokens of English."""

_KEPT = HISTORY_LIMIT * 3 // 4  # what is left when it is cut, so that it is not cut again at each step

NUDGE = (
    "You called no tool, so nothing was done. Work with the tools, and give your answer by calling done; "
    "text alone is not an answer."
)


class Step(msgspec.Struct, frozen=True):
    """A reply and what was answered to it; messages that stay or go together."""

    messages: tuple[Message, ...]

    @property
    def size(self) -> int:
        """Characters."""
        return sum(
            len(message.content) + sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
            for message in self.messages
        )


class Conversation:
    """A prompt that grows step by step.

    Args:
        instructions: What the model is told of its work in general.
        task: What it is to do.
    """

    def __init__(self, instructions: str, task: str) -> None:
        self._instructions, self._task = Message("system", instructions), task
        self._steps: list[Step] = []
        self._size = len(instructions) + len(task)
        self._dropped = 0
        self.known = 0
        """How many messages of the prompt are as the model was last shown them, or said them."""

    @property
    def prompt(self) -> Prompt:
        """What the model is shown next."""
        left_out = (
            f"\n\n[Your first {self._dropped} steps are left out of this conversation, which was too long. "
            "The files you wrote are in the workspace.]"
            if self._dropped
            else ""
        )
        head = (self._instructions, Message("user", self._task + left_out))
        return (*head, *(message for step in self._steps for message in step.messages))

    def add(self, reply: Message, answers: tuple[Message, ...]) -> None:
        """Append a step, and leave out the oldest ones if it has become too long."""
        self.known = 2 + sum(len(step.messages) for step in self._steps) + 1
        step = Step((reply, *answers))
        self._steps.append(step)
        self._size += step.size
        if self._size <= HISTORY_LIMIT:
            return
        while self._size > _KEPT and len(self._steps) > 1:
            self._size -= self._steps.pop(0).size
            self._dropped += 1
            self.known = 0


def reply_message(receipt: Receipt) -> Message:
    """A model's reply as it is shown to the model again: every call with an id of its own, a name and JSON."""
    seen: set[str] = set()
    calls = []
    for place, call in enumerate(receipt.tool_calls):
        name = re.sub(r"[^A-Za-z0-9_-]", "_", call.name)[:64] or "unnamed"
        call_id = call.id if call.id and call.id not in seen else f"call-{receipt.prompt_sha256[:12]}-{place}"
        seen.add(call_id)
        calls.append(ToolCall(call_id, name, call.arguments if _is_fit(call.arguments) else "{}"))
    return Message("assistant", receipt.text or ("" if calls else "(no text)"), tuple(calls))


def arguments_of(call: ToolCall, *, cut_off: bool) -> dict[str, Any]:
    """Read the arguments of a call as the model made it.

    Args:
        call: The call.
        cut_off: Whether the reply ended at its token limit.

    Raises:
        ToolError: They are no JSON object, or too large.
    """
    if len(call.arguments) > ARGUMENTS_LIMIT:
        raise ToolError(
            f"the arguments have {len(call.arguments):,} characters, more than the {ARGUMENTS_LIMIT:,} of a call; "
            "do it in parts"
        )
    try:
        arguments = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        why = "your reply was cut off at its token limit: write less at once" if cut_off else str(error)
        raise ToolError(f"the arguments are not JSON ({why}); they begin {call.arguments[:80]!r}") from None
    if not isinstance(arguments, dict):
        raise ToolError(f"the arguments must be a JSON object, got {call.arguments[:80]!r}")
    return arguments


def _is_fit(arguments: str) -> bool:
    try:
        arguments_of(ToolCall("", "", arguments), cut_off=False)
    except ToolError:
        return False
    return True
