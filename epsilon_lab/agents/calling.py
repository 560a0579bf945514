"""The general leaf: one entry for whatever performs a `Call`, in a child process or on the async lane.

A function is called with what its form says, and with `flag` where it has a parameter for it; an agent or a program
performs the request, a model is asked it as one text. What comes back is the task's output and is packed like any
function's.
"""

from __future__ import annotations

from typing import Any

from epsilon_lab.agents.flagging import Flagging, takes_flag
from epsilon_lab.agents.function import load_function
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.prompt import Message
from epsilon_lab.agents.request import Request
from epsilon_lab.agents.work import Performer
from epsilon_lab.errors import LeafFailed
from epsilon_lab.messages.call import call_of
from epsilon_lab.messages.values import Value


def call(payload: Value, leaf: Leaf) -> Any:
    """Perform a call here and now: the entry of such tasks in a child process.

    Raises:
        LeafFailed: Whoever performs it says why it could not be done.
    """
    leaf.request = request = Request(call_of(payload), leaf)
    return performed(_performer(request, leaf), request, leaf)


async def call_async(payload: Value, leaf: Leaf) -> Any:
    """The same for what awaits, on `lab-leaves`.

    Raises:
        LeafFailed: Whoever performs it says why it could not be done.
    """
    leaf.request = request = Request(call_of(payload), leaf)
    performer = _performer(request, leaf)
    if isinstance(performer, Performer):
        await leaf.open_workspace()
    return await performed(performer, request, leaf)


def _performer(request: Request, leaf: Leaf) -> object:
    return load_function(leaf.run, request.code)


def performed(performer: Any, request: Request, leaf: Leaf) -> Any:
    """What a function, a model, an agent or a program gives, or what has to be awaited for it.

    Raises:
        LeafFailed: Whoever performs it says why it could not be done.
    """
    if isinstance(performer, LLM):
        return _reply(performer, request, leaf)
    if isinstance(performer, Performer):
        return performer.perform(request, leaf)
    if takes_flag(performer):
        return performer(*request.arguments(), flag=Flagging(leaf, performer, request.verdicts))
    return performer(*request.arguments())


async def _reply(model: LLM, request: Request, leaf: Leaf) -> str:
    """Ask a model, and give its reply as it is; one that is not whole is on record and not paid for twice."""
    reply = await model.complete((Message("user", request.text()),), leaf=leaf, name=leaf.task_id)
    if reply.receipt.finish_reason == "length":
        raise LeafFailed(f"the reply of {reply.receipt.model} was cut off at its token limit; raise max_tokens")
    if not reply.text.strip():
        raise LeafFailed(f"the reply of {reply.receipt.model} was empty")
    return reply.text
