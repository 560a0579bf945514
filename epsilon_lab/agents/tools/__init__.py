"""What an agent may be given to work with; a tool set is a list of them: `Agent(model, tools=[tools.read, mine])`.

read, write, edit           files of the workspace
plan, submit_plan, mark_complete   a plan to keep
delegate                    another model; given by `Agent(delegates=[...])`

A function of one's own, plain or async, with annotations and a docstring is a tool as well.
"""

from __future__ import annotations

from epsilon_lab.agents.tools.files import edit as edit
from epsilon_lab.agents.tools.files import read as read
from epsilon_lab.agents.tools.files import write as write
from epsilon_lab.agents.tools.function_tool import FunctionTool as FunctionTool
from epsilon_lab.agents.tools.planning import mark_complete as mark_complete
from epsilon_lab.agents.tools.planning import plan as plan
from epsilon_lab.agents.tools.planning import submit_plan as submit_plan
from epsilon_lab.agents.tools.tool import Tool as Tool
from epsilon_lab.agents.tools.tool import ToolContext as ToolContext
from epsilon_lab.agents.tools.tool import ToolError as ToolError

DEFAULT = (read, write, edit, plan, submit_plan, mark_complete)
"""What an agent has that was given no tools."""
