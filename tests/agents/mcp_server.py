"""A small real MCP server for the tests, over stdio or, with a port, over streamable HTTP on 127.0.0.1."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent, TextContent

server = MCPServer("notes", version="1.2")
kept: list[str] = []


@server.tool()
def remember(note: str) -> str:
    """Keep a note."""
    kept.append(note)
    return f"{len(kept)} kept: {note}"


@server.tool()
def reach(path: str) -> str:
    """Try to write a file anywhere."""
    try:
        Path(path).write_text("was here")
    except OSError as error:
        raise ToolError(str(error)) from error
    return "written"


@server.tool()
def environment(name: str) -> str:
    """Tell a variable."""
    return os.environ.get(name, "(not set)")


@server.tool()
def fail(why: str) -> str:
    """Fail."""
    raise ToolError(why)


@server.tool()
def hang(marker: str) -> str:
    """Start another process and never answer."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(marker).touch()
    time.sleep(600)
    return "never"


@server.tool()
def die() -> str:
    """End the server."""
    os._exit(3)


@server.tool()
def picture() -> Any:
    """A picture, and words."""
    return CallToolResult(
        content=[
            ImageContent(type="image", data="aGVsbG8=", mime_type="image/png"),
            TextContent(type="text", text="a dot"),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
