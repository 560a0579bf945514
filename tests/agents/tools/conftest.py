"""A task for tools to work for, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.tools import Tool, ToolContext
from epsilon_lab.agents.tools.function_tool import as_tool
from epsilon_lab.workspace.layout import RunDirectory


class Hand:
    """Calls tools as the loop does: with arguments as a model gives them."""

    def __init__(self, path: Path) -> None:
        self.workspace = path / "run-1" / "leaves" / "item-000000" / "1"
        self.workspace.mkdir(parents=True)
        self.leaf = Leaf(RunDirectory(path / "run-1"), "item-000000", 1, 1)
        self.seconds = 60.0

    @property
    def context(self) -> ToolContext:
        async def ask(*_: object) -> Any:
            raise NotImplementedError

        return ToolContext(
            self.leaf,
            open_workspace=lambda: self.workspace,
            ask=ask,
            seconds_left=lambda: self.seconds,
            delegates={},
        )

    def call(self, tool: Any, context: ToolContext | None = None, /, **arguments: Any) -> Any:
        made: Tool = as_tool(tool)
        return anyio.run(made.call, arguments, context or self.context)


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    return Hand(tmp_path)
