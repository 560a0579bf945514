"""A plan to keep: thinking before acting, a list of steps, and what of it is done.

The list lives with the attempt and is shown in full at each change, so that a model which was told much since then has
it before its eyes again.
"""

from __future__ import annotations

from epsilon_lab.agents.tools.tool import ToolContext, ToolError

_PLAN = "plan"


def plan(thoughts: str) -> str:
    """Think before you act: what is asked, what you know, what could go wrong, what to do first. Nothing happens.

    Args:
        thoughts: Your thoughts.
    """
    return f"noted {len(thoughts):,} characters"


def submit_plan(steps: list[str], context: ToolContext) -> str:
    """Write down the steps you will take, in order; it replaces an earlier list.

    Args:
        steps: One sentence each.
        context: The task.
    """
    if not steps:
        raise ToolError("a plan has at least one step")
    context.notes[_PLAN] = [(step, False) for step in steps]
    return _shown(context)


def mark_complete(step: int, context: ToolContext) -> str:
    """Tick a step of your plan off, and see what is left of it.

    Args:
        step: Its number, from 1.
        context: The task.
    """
    steps = context.notes.get(_PLAN)
    if not steps:
        raise ToolError("there is no plan; write one with submit_plan")
    if not 1 <= step <= len(steps):
        raise ToolError(f"the plan has steps 1 to {len(steps)}")
    steps[step - 1] = (steps[step - 1][0], True)
    return _shown(context)


def _shown(context: ToolContext) -> str:
    lines = (
        f"{number}. [{'x' if is_done else ' '}] {step}"
        for number, (step, is_done) in enumerate(context.notes[_PLAN], 1)
    )
    return "\n".join(lines)
