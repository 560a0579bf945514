"""One question to a model, its reply the output of a task: what a queue does whose task is a model."""

from __future__ import annotations

import msgspec

from epsilon_lab.agents.function import load_function
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.prompt import Message
from epsilon_lab.errors import InvalidInput, LeafFailed


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of such a task (as JSON)."""

    model_ref: str
    """`code/<sha256>.pkl` of the model."""

    prompt: str


async def complete(payload: object, leaf: Leaf) -> str:
    """Ask the model, and give its reply as it is.

    Raises:
        LeafFailed: There was no reply, or not a whole one; a reply is recorded and not paid for twice all the same.
    """
    request = msgspec.convert(payload, CompletionRequest)
    model: object = load_function(leaf.run, request.model_ref.removeprefix("code/").removesuffix(".pkl"))
    if not isinstance(model, LLM):
        raise InvalidInput("model", f"must be an LLM, got {model!r}")
    reply = await model.complete((Message("user", request.prompt),), leaf=leaf, name=leaf.task_id)
    if reply.receipt.finish_reason == "length":
        raise LeafFailed(f"the reply of {reply.receipt.model} was cut off at its token limit; raise max_tokens")
    if not reply.text.strip():
        raise LeafFailed(f"the reply of {reply.receipt.model} was empty")
    return reply.text
