"""What an agent may be given to work with; a tool set is a list of them: `Agent(model, tools=[tools.read, mine])`.

shell                       commands in the workspace, confined; with settings: `Shell(network=True)`
read, write, edit           files of the workspace
sql(...)                    one SELECT at a time over granted tables: `sql("candidates", orders=frame)`
fetch_url                   a page of the web; with settings: `FetchUrl(private=("localhost:8000",))`
web_search(function)        a search by a function of one's own
plan, submit_plan, mark_complete   a plan to keep
send_message, check_messages, publish   other tasks, and the person at the lab
submit_task, request_task   a further task of the run, where its topology takes it (a queue does)
delegate                    another model; given by `Agent(delegates=[...])`
mcp_tools(...)              those of a server that speaks the Model Context Protocol

A function of one's own, plain or async, with annotations and a docstring is a tool as well.
"""

from __future__ import annotations

from epsilon_lab.agents.tools.commands import Shell, shell
from epsilon_lab.agents.tools.files import edit, read, write
from epsilon_lab.agents.tools.function_tool import FunctionTool
from epsilon_lab.agents.tools.further import request_task, submit_task
from epsilon_lab.agents.tools.mcp import mcp_tools
from epsilon_lab.agents.tools.messages import check_messages, publish, send_message
from epsilon_lab.agents.tools.planning import mark_complete, plan, submit_plan
from epsilon_lab.agents.tools.queries import Sql, sql
from epsilon_lab.agents.tools.tool import OUTPUT_LIMIT, Tool, ToolContext, ToolError
from epsilon_lab.agents.tools.web import FetchUrl, WebSearch, fetch_url, web_search

__all__ = [
    "OUTPUT_LIMIT",
    "FetchUrl",
    "FunctionTool",
    "Shell",
    "Sql",
    "Tool",
    "ToolContext",
    "ToolError",
    "WebSearch",
    "check_messages",
    "edit",
    "fetch_url",
    "mark_complete",
    "mcp_tools",
    "plan",
    "publish",
    "read",
    "request_task",
    "send_message",
    "shell",
    "sql",
    "submit_plan",
    "submit_task",
    "web_search",
    "write",
]


def __dir__() -> list[str]:
    return __all__  # what a person may want, and no module of ours


DEFAULT = (shell, read, write, edit, plan, submit_plan, mark_complete)
"""What an agent has that was given no tools."""
