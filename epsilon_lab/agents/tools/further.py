"""Further tasks of the run, where its topology takes them; the lab gives tasks to its workers itself."""

from __future__ import annotations

from epsilon_lab.agents.tools.tool import ToolContext, ToolError


async def submit_task(task: str, context: ToolContext) -> str:
    """Ask for a further task like yours, to be done by another agent once yours is done and was accepted.

    Args:
        task: All that it is told.
        context: The task.
    """
    return f"asked for as {context.leaf.submit(task)}, which begins once your own task is done"


async def request_task() -> str:
    """Ask for another task to do yourself."""
    raise ToolError("the lab gives its tasks to its agents itself; do the one you have, and call done")
