"""A question to another model, of those the agent was given."""

from __future__ import annotations

from epsilon_lab.agents.prompt import Message
from epsilon_lab.agents.tools.tool import ToolContext, ToolError


async def delegate(model: str, question: str, context: ToolContext) -> str:
    """Ask another model one question; it sees nothing of your conversation and has no tools.

    Args:
        model: Which one; a wrong name is answered with those there are.
        question: All that it is told.
        context: The task.
    """
    if model not in context.delegates:
        raise ToolError(f"there is no model {model!r} to ask; there is {', '.join(context.delegates)}")
    reply = await context.ask(context.delegates[model], (Message("user", question),))
    return reply.text or "(it said nothing)"
