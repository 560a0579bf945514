"""A function as a tool: its name, its docstring and its annotations are all that a model is told.

Arguments are checked against the annotations before the function is called, by msgspec, which also writes the schema:
what a model is told and what it is held to cannot part.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from anyio.lowlevel import RunVar

from epsilon_lab.agents.function import is_async
from epsilon_lab.agents.tools.tool import Tool, ToolContext, ToolError
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import name_of

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class FunctionTool:
    """A plain or async function that a model may call.

    A plain function runs in a thread, beside those of other agents of the run, which share what it captures; one that
    does not return in the agent's seconds is left behind, since a thread cannot be killed. What may hang belongs in a
    program that `shell` runs.

    Args:
        function: It has a docstring, and an annotation for each parameter. A parameter annotated with `ToolContext` is
            given the task that the tool works for. A `Args:` section describes the parameters to the model.
        name: What the model calls it by; None for its own name.
        once: See `Tool.once`.
        hints: What its annotations mean; None to find out.

    Raises:
        InvalidInput: A model could not be told what it does, or how it is called.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        once: bool = False,
        hints: dict[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.once = once
        self.name = tool_name(name or (function.__name__ if inspect.ismethod(function) else name_of(function)))
        what = f"tool {self.name}"
        docstring = inspect.getdoc(function) if inspect.isroutine(function) else getattr(function, "__doc__", None)
        if not docstring or not docstring.strip():
            raise InvalidInput(what, "has no docstring", "a model knows of it what its docstring says")
        self.description, told = _described(docstring)
        self._hints = _hints(what, function) if hints is None else hints
        self._parameters, self._context = _parameters(what, function, self._hints, told)
        self.schema = object_schema(self._parameters)

    def __repr__(self) -> str:
        return f"<tool {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # The annotations travel as what they mean: as text they name what a function that travels leaves behind.
        return _made, (self.function, self.name, self.once, self._hints)

    @property
    def provenance(self) -> str:
        """The function's place."""
        module = getattr(self.function, "__module__", None) or "?"
        return "epsilon_lab" if module.startswith("epsilon_lab.") else f"function {module}:{self.name}"

    async def call(self, arguments: dict[str, Any], context: ToolContext) -> object:
        """Check the arguments and call the function.

        Raises:
            ToolError: The arguments do not fit.
        """
        given = checked(arguments, self._parameters)
        if self._context is not None:
            given[self._context] = context
        return await called(functools.partial(self.function, **given))


async def called(function: Callable[[], Any]) -> Any:
    """Call a user's function: an async one here, a plain one in a thread that is left behind if nobody waits any more.

    Those that are left behind take no thread from anybody but the next plain functions.
    """
    if is_async(function):
        return await function()
    try:
        limiter = _threads.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_THREADS)
        _threads.set(limiter)
    return await anyio.to_thread.run_sync(_in_thread, function, abandon_on_cancel=True, limiter=limiter)


def _in_thread(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except GeneratorExit as error:  # to a coroutine that waits, it would mean that it is to be closed itself
        raise RuntimeError("GeneratorExit") from error


_THREADS = 256
_threads: RunVar[anyio.CapacityLimiter] = RunVar("threads of tools")


def _made(function: Callable[..., Any], name: str, once: bool, hints: dict[str, Any]) -> FunctionTool:
    return FunctionTool(function, name=name, once=once, hints=hints)


def as_tool(value: object) -> Tool:
    """Make a tool of what a user gives as one.

    Raises:
        InvalidInput: It is none.
    """
    if isinstance(value, Tool) and not isinstance(value, type):
        tool_name(value.name)
        return value
    if not callable(value) or isinstance(value, type):
        raise InvalidInput("Agent tools", f"must be functions or tools, got {value!r}")
    return FunctionTool(value)


def tool_name(name: str) -> str:
    """Refuse a name that a model's server would.

    Raises:
        InvalidInput: It is one.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(f"tool {name!r}", "has no name that a model can call", "def it, with letters, digits and _")
    return name


def checked(arguments: dict[str, Any], parameters: type[msgspec.Struct]) -> dict[str, Any]:
    """Check a model's arguments.

    Raises:
        ToolError: They do not fit; the words name the argument.
    """
    try:
        fitting = msgspec.convert(arguments, parameters)
    except msgspec.ValidationError as error:
        names = ", ".join(parameters.__struct_fields__) or "none"
        raise ToolError(f"the arguments do not fit: {error}; the arguments are: {names}") from None
    return {name: getattr(fitting, name) for name in parameters.__struct_fields__}


def object_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """JSON Schema of a struct, written out: an object at its top, definitions beside it."""
    [top], definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    name = top["$ref"].rpartition("/")[2]
    schema = {key: value for key, value in definitions.pop(name).items() if key not in ("title", "description")}
    return schema | ({"$defs": definitions} if definitions else {})


def _hints(what: str, function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations, as what they mean."""
    plain: Any = function
    while isinstance(plain, functools.partial):
        plain = plain.func
    try:
        inspect.signature(function)
        return typing.get_type_hints(plain if inspect.isroutine(plain) else type(plain).__call__, include_extras=True)
    except (NameError, TypeError, ValueError) as error:
        raise InvalidInput(what, f"has annotations that cannot be read ({error})") from error


def _parameters(
    what: str, function: Callable[..., Any], hints: Mapping[str, Any], told: Mapping[str, str]
) -> tuple[type[msgspec.Struct], str | None]:
    """The function's parameters as a struct, and the name of the one that takes the context."""
    signature = inspect.signature(function)
    fields: list[Any] = []
    context = None
    for name, parameter in signature.parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InvalidInput(what, f"has a parameter {parameter}", "a model gives arguments by name")
        if name not in hints:
            raise InvalidInput(what, f"has no annotation for its parameter {name!r}", "a model must be told what it is")
        if hints[name] is ToolContext:
            context = name
            continue
        kind = typing.Annotated[hints[name], msgspec.Meta(description=told[name])] if name in told else hints[name]
        fields.append((name, kind) if parameter.default is parameter.empty else (name, kind, _default(parameter)))
    try:
        struct = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
        msgspec.json.Decoder(struct)
        object_schema(struct)
    except Exception as error:
        raise InvalidInput(what, f"has a parameter that cannot be written as JSON ({error})") from error
    return struct, context


def _default(parameter: inspect.Parameter) -> Any:
    default = parameter.default
    if isinstance(default, list | dict | set):  # msgspec wants a factory of a mutable one
        return msgspec.field(default_factory=functools.partial(type(default), default))
    return default


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """What a docstring in Google's form says of the function, and of each parameter."""
    head, _, rest = docstring.partition("\nArgs:\n")
    head = re.split(r"\n(?:Returns|Raises|Example|Examples|Yields):\n", head)[0]
    told: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if line.strip() and not line.startswith(" "):
            break
        if found := re.match(r"(?: {2}| {4}|\t)(\w+)(?: \([^)]*\))?: (.*)", line):
            name = found[1]
            told[name] = found[2].strip()
        elif name and line.strip():
            told[name] += f" {line.strip()}"
    return head.strip(), told
