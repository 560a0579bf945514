"""An agent: a model that works with tools until it is done, as a value.

Three things an agent must not do are held by the loop and not by the model's good will: give an answer that nobody
checked (the output goes through `done`, and through a schema where there is one), go on for ever (steps, tokens and
seconds end it, and that is a failure, since nothing was done), reach what it was not given (its tools are all it has).
"""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from epsilon_lab.agents import tools as ready_made
from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.output_schema import OutputSchema, Schema
from epsilon_lab.agents.tool_loop import ToolLoop
from epsilon_lab.agents.tools.delegates import delegate
from epsilon_lab.agents.tools.function_tool import as_tool
from epsilon_lab.agents.tools.tool import Tool
from epsilon_lab.arguments import number, text, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.tasks import Lane

if TYPE_CHECKING:
    from epsilon_lab.agents.leaf import Leaf
    from epsilon_lab.agents.request import Request

DONE = "done"
_GRACE_S = 60.0  # the broker's limit stands behind the agent's own, which says more
_MOST = 10**9


@dataclass(frozen=True, repr=False)
class Agent:
    """A model that works with tools until it is done: a value that holds no key and can travel.

    Its output is what it gives `done`: a value that fits `schema`, or text.

    An attempt that is made again (its lab died, or it failed and is retried) has the same conversation, and takes the
    replies that were received from the disk for as long as it is the same to the letter. Tools run again, in a new
    workspace, but those that act outside it (`Tool.once`).

    Args:
        model: The model, or its name; it must be able to call tools.
        tools: Functions, plain or async, with annotations and a docstring; and ready-made ones of
            `epsilon_lab.tools`. By default a shell, files, and a plan to keep.
        steps: Most replies of the model.
        tokens: Most tokens of all its prompts and replies, its delegates' included; None for no limit. A reply that
            was begun within it is finished, with as many tokens as are left, and used.
        seconds: Most seconds of an attempt, tools included; those in which it waits for its run's budget do not count.
        schema: What its output must look like: JSON Schema as a dict, or a type (a `msgspec.Struct`, a dataclass,
            `list[int]`); None for text. An output that does not fit is answered to the model.
        delegates: Other models that it may ask, with `delegate`.
        instructions: What it is told before its task: who it is, and how it works.

    Raises:
        InvalidInput: An argument has a wrong type or value, or a tool cannot be told to a model.
    """

    model: LLM
    tools: Sequence[Tool | Callable[..., Any]] = field(default=ready_made.DEFAULT, kw_only=True)
    steps: int = field(default=40, kw_only=True)
    tokens: int | None = field(default=None, kw_only=True)
    seconds: float = field(default=300.0, kw_only=True)
    schema: Schema | None = field(default=None, kw_only=True)
    delegates: Sequence[LLM] = field(default=(), kw_only=True)
    instructions: str = field(default="", kw_only=True)

    lane: ClassVar[Lane] = "async"
    asks_model: ClassVar[bool] = True

    if TYPE_CHECKING:

        def __init__(
            self,
            model: LLM | str,
            *,
            tools: Sequence[Tool | Callable[..., Any]] = ...,
            steps: int = ...,
            tokens: int | None = ...,
            seconds: float = ...,
            schema: Schema | None = ...,
            delegates: Sequence[LLM | str] = ...,
            instructions: str = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        self._set("model", _model("Agent model", self.model))
        self._set("tools", tuple(map(as_tool, _listed("Agent tools", self.tools, "functions and tools"))))
        self._set("steps", whole("Agent steps", self.steps, least=1))
        if self.tokens is not None:
            self._set("tokens", whole("Agent tokens", self.tokens, least=1, most=_MOST))
        self._set("seconds", number("Agent seconds", self.seconds, least=0, above=True))
        delegates = _listed("Agent delegates", self.delegates, "models")
        self._set("delegates", tuple(_model("Agent delegates", each) for each in delegates))
        if len({model.name for model in self.delegates}) < len(self.delegates):
            raise InvalidInput("Agent delegates", "has a model twice", "an agent asks for one by its name")
        text("Agent instructions", self.instructions, blank=True)
        if taken := sorted({"tools", "functions"} & self.model.extra.keys()):
            raise InvalidInput(f"Agent model extra[{taken[0]!r}]", "is set by the agent", "give the agent tools=[...]")
        _ = self.output_schema, self.tools_by_name  # refused now, if they are none

    def __getstate__(self) -> dict[str, Any]:
        state = {each.name: getattr(self, each.name) for each in fields(self)}  # and nothing that is made of them
        return state if self.output_schema is None else {**state, "schema": self.output_schema.portable}

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"Agent({self.model.name!r}, tools=[{', '.join(self.tools_by_name)}])"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def name(self) -> str:
        """What rows call it."""
        return f"agent {self.model.name}"

    @property
    def time_limit_s(self) -> float:
        """Seconds after which an attempt is given up, should its own limit not hold."""
        return self.seconds + _GRACE_S

    @functools.cached_property
    def tools_by_name(self) -> Mapping[str, Tool]:
        """The tools as they are told to the model."""
        found: dict[str, Tool] = {}
        for tool in map(as_tool, (*self.tools, *([delegate] * bool(self.delegates)))):
            if tool.name in found or tool.name == DONE:
                whose = "the agent's own" if tool.name == DONE else "another's"
                raise InvalidInput(f"Agent tool {tool.name!r}", f"has {whose} name", "rename the function")
            found[tool.name] = tool
        return found

    @functools.cached_property
    def output_schema(self) -> OutputSchema | None:
        """What the output is held against; None where any text will do."""
        return None if self.schema is None else OutputSchema(self.schema)

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse a model that cannot be called, or whose price a budget would need, before anything is spent.

        Raises:
            InvalidInput: A key is missing, a model's name is not one, or its price is unknown.
        """
        for model in (self.model, *self.delegates):
            model.validate(budget)

    async def perform(self, request: Request, leaf: Leaf) -> Any:
        """Work on a task until it is done.

        Raises:
            AgentExhausted: One of its budgets was used up before.
            LeafFailed: The model gave no reply, or would not work with tools.
        """
        return await ToolLoop(self, request, leaf).run()


def _listed(what: str, given: object, of: str) -> tuple[Any, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InvalidInput(what, f"must be a list of {of}, got {given!r}")
    return tuple(given)


def _model(what: str, given: object) -> LLM:
    if isinstance(given, str):
        return LLM(given)
    if not isinstance(given, LLM):
        raise InvalidInput(what, f"must be an LLM or a model's name, got {given!r}")
    return given
