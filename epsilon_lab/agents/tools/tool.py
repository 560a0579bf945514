"""What a model may do: a tool is a name, a description, a schema, and a call that gives text.

A tool is told apart from the loop that calls it. It may raise what it likes: the loop answers the model with the words
of the error, because a model can mend a wrong path and a crashed agent cannot. What it gives is text for the model, so
the loop cuts it; where it came from goes on record with it. Files, a shell, a database, a person's own function and a
server of tools are all the same to the loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from epsilon_lab.errors import LabError

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from epsilon_lab.agents.leaf import Leaf, Post
    from epsilon_lab.agents.llm import LLM
    from epsilon_lab.agents.prompt import Prompt
    from epsilon_lab.agents.reply import Reply

OUTPUT_LIMIT = 10_000
"""Characters of a tool's output that a model is shown."""


class ToolError(LabError):
    """A tool says why it did nothing, in words for the model."""


@runtime_checkable
class Tool(Protocol):
    """A tool that is no plain function: one with settings, or one of a server."""

    @property
    def name(self) -> str:
        """What the model calls it by: letters, digits, `_` and `-`, 64 at most."""
        ...

    @property
    def description(self) -> str:
        """What it does and when to use it, for the model."""
        ...

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON Schema of its arguments, an object."""
        ...

    @property
    def provenance(self) -> str:
        """Who answers: `epsilon_lab`, a function, a server."""
        ...

    @property
    def once(self) -> bool:
        """Whether it acts, or asks, outside the workspace: a result is kept and used again when an attempt is made
        again and comes to the same call in the same conversation. The others run again, in the new workspace.
        """
        ...

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> object:
        """Do it.

        Args:
            arguments: As the model gave them: an object, whose fields nobody has checked.
            context: The task it is done for.

        Returns:
            Text, or a value that is shown as JSON.

        Raises:
            ToolError: It did nothing; the words are for the model. Any other exception is told to the model as well.
        """
        ...


class ToolContext:
    """The task that a tool works for; a parameter of this type is no argument of the model's.

    Args:
        leaf: The running task.
        open_workspace: Makes the directory of its files, or finds it.
        ask: Asks a model on the task's account.
        seconds_left: Tells how many of the agent's seconds are left.
        delegates: Other models that may be asked, by name.
    """

    def __init__(
        self,
        leaf: Leaf,
        *,
        open_workspace: Callable[[], Path],
        ask: Callable[[LLM, Prompt], Awaitable[Reply]],
        seconds_left: Callable[[], float],
        delegates: Mapping[str, LLM],
    ) -> None:
        self.leaf = leaf
        self.delegates = delegates
        """Other models that may be asked, by name."""

        self.notes: dict[str, Any] = {}
        """What tools keep from call to call; gone with the attempt."""

        self.companions: TaskGroup
        """Where a tool has something of its own run beside the agent, until the attempt ends; it must not raise."""

        self.ask = ask
        self._open_workspace = open_workspace
        self._seconds_left = seconds_left

    @property
    def workspace(self) -> Path:
        """The directory of the task's files."""
        return self._open_workspace()

    @property
    def post(self) -> Post:
        """The way to other tasks.

        Raises:
            ToolError: There is none here.
        """
        if self.leaf.post is None:
            raise ToolError("there is nobody to write to: this task runs without a line to others")
        return self.leaf.post

    @property
    def seconds_left(self) -> float:
        """Seconds until the agent's time is over; at least 0."""
        return max(0.0, self._seconds_left())


def shown(value: object, workspace: Path | None = None) -> str:
    """A tool's output as a model is shown it: text, its middle left out where it is long.

    Args:
        value: What the tool gave.
        workspace: Its path is replaced by `.`: it differs from attempt to attempt, and is nobody's business.
    """
    if isinstance(value, str):
        text = value
    elif value is None:
        text = "done"
    else:
        text = msgspec.json.encode(value, enc_hook=str).decode()
    if workspace is not None:
        text = text.replace(str(workspace), ".")
    return cut(text.encode("utf-8", "replace").decode())


def cut(text: str, limit: int = OUTPUT_LIMIT) -> str:
    """Leave out the middle of a long text, and say so."""
    if len(text) <= limit:
        return text
    note = f"\n[... {len(text) - limit:,} of {len(text):,} characters are left out here ...]\n"
    kept = max(0, limit - len(note))
    return text[: kept - kept // 2] + note + text[len(text) - kept // 2 :]
