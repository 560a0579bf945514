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

from epsilon_lab.agents.tools.commands import Shell as Shell
from epsilon_lab.agents.tools.commands import shell as shell
from epsilon_lab.agents.tools.files import edit as edit
from epsilon_lab.agents.tools.files import read as read
from epsilon_lab.agents.tools.files import write as write
from epsilon_lab.agents.tools.function_tool import FunctionTool as FunctionTool
from epsilon_lab.agents.tools.further import request_task as request_task
from epsilon_lab.agents.tools.further import submit_task as submit_task
from epsilon_lab.agents.tools.mcp import mcp_tools as mcp_tools
from epsilon_lab.agents.tools.messages import check_messages as check_messages
from epsilon_lab.agents.tools.messages import publish as publish
from epsilon_lab.agents.tools.messages import send_message as send_message
from epsilon_lab.agents.tools.planning import mark_complete as mark_complete
from epsilon_lab.agents.tools.planning import plan as plan
from epsilon_lab.agents.tools.planning import submit_plan as submit_plan
from epsilon_lab.agents.tools.queries import Sql as Sql
from epsilon_lab.agents.tools.queries import sql as sql
from epsilon_lab.agents.tools.tool import OUTPUT_LIMIT as OUTPUT_LIMIT
from epsilon_lab.agents.tools.tool import Tool as Tool
from epsilon_lab.agents.tools.tool import ToolContext as ToolContext
from epsilon_lab.agents.tools.tool import ToolError as ToolError
from epsilon_lab.agents.tools.web import FetchUrl as FetchUrl
from epsilon_lab.agents.tools.web import WebSearch as WebSearch
from epsilon_lab.agents.tools.web import fetch_url as fetch_url
from epsilon_lab.agents.tools.web import web_search as web_search

DEFAULT = (shell, read, write, edit, plan, submit_plan, mark_complete)
"""What an agent has that was given no tools."""
