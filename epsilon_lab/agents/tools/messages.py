"""Messages to other tasks of the run and from them, and to whoever sits at the lab."""

from __future__ import annotations

from typing import Any

from epsilon_lab.agents.tools.function_tool import FunctionTool
from epsilon_lab.agents.tools.tool import ToolContext, ToolError

_LONGEST_WAIT_S = 60.0
_PATIENCE = 3
_IDLE = "looks that found nothing"


async def _send(to: str, content: str, context: ToolContext) -> str:
    """Send a message to another task of this run, or to the person at the lab.

    Args:
        to: The other task's id; or `lab`.
        content: The message.
        context: The task.
    """
    if "/" in to:
        raise ToolError("only tasks of this run, by their ids, and lab can be written to")
    await context.post.send(to, content)
    return f"sent to {to}"


async def check_messages(context: ToolContext, wait_s: float = 0.0) -> Any:
    """Read the messages that came since you looked last.

    Args:
        context: The task.
        wait_s: Seconds to wait for one if there is none, at most 60.
    """
    longest = min(max(wait_s, 0.0), _LONGEST_WAIT_S, context.seconds_left)
    found = await context.post.messages(timeout_s=longest)
    idle = context.notes[_IDLE] = 0 if found else context.notes.get(_IDLE, 0) + 1
    if not found:
        told = "; you looked several times in a row: go on with your work" if idle > _PATIENCE else ""
        return f"no new messages{told}"
    own = f"{context.leaf.run.run_id}/"
    return [{"from": message.sender.removeprefix(own), "content": message.value} for message in found]


async def _publish(topic: str, content: str, context: ToolContext) -> str:
    """Say something on a topic, to whoever listens to it.

    Args:
        topic: Its name.
        content: What to say.
        context: The task.
    """
    await context.post.publish(topic, content)
    return f"published on {topic}"


send_message = FunctionTool(_send, name="send_message", once=True)
publish = FunctionTool(_publish, name="publish", once=True)
