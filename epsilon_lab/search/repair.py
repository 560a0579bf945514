"""One more try for a model that answered, but not in the form asked for.

A reply whose program does not parse is often one word away from a good one, and the model that wrote it can say which.
So it is shown its reply and what is wrong with it, exactly once: the second question is a call like any other, with a
prompt, a reply, a row and a price of its own. A reply that ran into the token limit, or that the provider held back, is
not asked for again: the same question would be paid for the same answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from epsilon_lab.agents.prompt import Message, Prompt
from epsilon_lab.agents.reply import Reply
from epsilon_lab.errors import BudgetExhausted, LeafFailed, ProposalFailed, ends_run

SHOWN_REPLY = 60_000
"""Characters of a malformed reply that its repair shows."""

_FINAL = ("length", "content_filter")

T = TypeVar("T")


async def ask_repairing(
    ask: Callable[[Prompt, int], Awaitable[Reply]], prompt: Prompt, read: Callable[[Reply], T], *, form: str
) -> tuple[T, Reply]:
    """Ask, read the reply, and ask once more if it cannot be read.

    Args:
        ask: Puts a question, given the prompt and the number of the call: 0, then 1.
        prompt: The first question.
        read: Takes what is wanted out of a reply, or raises `LeafFailed`, whose message the model is told.
        form: The form a reply must have, as a sentence for the model.

    Returns:
        What was read, and the reply it was read from.

    Raises:
        ProposalFailed: Neither reply could be read, or the second question had none.
        LeafFailed: The first question had no reply, or the second was not admitted.
    """
    reply = await ask(prompt, 0)
    try:
        return read(reply), reply
    except LeafFailed as error:
        if reply.receipt.finish_reason in _FINAL:
            raise
        problem = str(error)
    try:
        reply = await ask(repair_prompt(prompt, reply.text, problem, form=form), 1)
        return read(reply), reply
    except LeafFailed as error:
        if ends_run(str(error)) or str(error).startswith(BudgetExhausted.PREFIX):
            raise
        raise ProposalFailed(f"{problem}; asked once more: {error}") from None


def repair_prompt(prompt: Prompt, text: str, problem: str, *, form: str) -> Prompt:
    """Write the messages that ask again: the question, the reply, what is wrong with it and the form it must have."""
    shown = text if len(text) <= SHOWN_REPLY else f"{text[:SHOWN_REPLY]} … (cut off here)"
    # Providers refuse a message without text.
    reply = Message("assistant", shown if shown.strip() else "(no text)")
    told = f"Your answer cannot be used: {problem}.\n\nAnswer again, whole. {form}\n"
    return (*prompt, reply, Message("user", told))
