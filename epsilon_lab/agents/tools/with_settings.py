"""A tool with settings: a frozen value whose method is what the model calls."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from epsilon_lab.agents.tools.function_tool import FunctionTool
from epsilon_lab.agents.tools.tool import ToolContext


class ToolWithSettings:
    """Base of such tools: the method that `what` gives is told to the model by its name, docstring and annotations."""

    once = False
    provenance = "epsilon_lab"

    @property
    @abstractmethod
    def what(self) -> Callable[..., Any]:
        """The method."""

    @functools.cached_property
    def _made(self) -> FunctionTool:
        return FunctionTool(self.what)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_made"}  # what travels is the settings

    @property
    def name(self) -> str:
        """What the model calls it by."""
        return self._made.name

    @property
    def description(self) -> str:
        """What the model is told of it."""
        return self._made.description

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON Schema of its arguments."""
        return self._made.schema

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> object:
        """Do it.

        Raises:
            ToolError: It did nothing; the words are for the model.
        """
        return await self._made.call(arguments, context)
