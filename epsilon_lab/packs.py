"""Settings of a piece of work: which model, and how much of everything, kept apart from the code that uses it.

They come from four places, the nearest first: what the code says (`Settings.load(max_iterations=10)`), the environment
(`EPSILON_MAX_ITERATIONS=10`), a pack of a `manifest.json`, and the defaults of the pieces themselves. Which one won is
`settings.origin["max_iterations"]`. Nothing reads them behind anyone's back: an agent is what its arguments say, in
every process, so settings become arguments where they are used, and are on record with the run like any other.

    settings = Settings.load("manifest.json", pack="fast")
    agent = settings.agent(tools=[tools.read, tools.shell])
    run = lab.start(Dag(plan, agent=agent, **settings.arguments("dag")), budget=settings.budget)

A manifest has Epsilon's fields: `settingsPacks` (name -> pack), `defaultSettingsPack`, `delegate_llm`. It holds no
keys: those come from the environment, by name (`api_key_env`).

Names of Epsilon's environment that mean nothing here, and are refused where they are set: see `NOT_TAKEN`.
"""

from __future__ import annotations

import difflib
import html
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.budget import Budget
from epsilon_lab.processes.environment import looks_secret
from epsilon_lab.topologies.manifest import Count, Manifest, Natural, Table, Text, convert

if TYPE_CHECKING:
    from epsilon_lab.agents.agent import Agent

Number = Annotated[float, Meta(gt=0, le=1e9, description="a number above 0")]
Names = Annotated[list[Text], Meta(description="a list of models' names")]
Switch = Annotated[bool, Meta(description="true or false")]

T = TypeVar("T", bound=msgspec.Struct)

_PREFIX = "EPSILON_"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEAR = 0.85

NOT_TAKEN = {
    "API_KEY": "a key is given by its name: EPSILON_API_KEY_ENV names the variable that holds it",
    "FIX_ITERATIONS": "a repair is the repaired node's own task, done again by the same agent",
    "FIX_RUNTIME_SECONDS": "a repair is the repaired node's own task, done again by the same agent",
    "WORK_QUEUE_MAX_CONCURRENT_LOCAL": "a worker runs one task at a time; Lab(workers=...) says how many there are",
    "WORK_QUEUE_GLOBAL_TIMEOUT_SECONDS": "say it as a budget: Budget(seconds=...), or budget.seconds of a pack",
    "RESI_RUN_INDEFINITELY": "a run ends",
    "BROKER_ROUTER": "a lab has its own broker; see Lab(bind=...)",
    "BROKER_SUB": "a lab has its own broker; see Lab(bind=...)",
}
"""Epsilon's names that have no meaning here, each with what to do instead."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a budget may say, in a pack."""

    calls: Count | None = None
    tokens: Count | None = None
    usd: Number | None = None
    seconds: Number | None = None


class Pack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A pack of settings; what it does not say is left to others."""

    description: Annotated[str, Meta(description="a text")] | None = None
    model: Text | None = None
    """The agent's model: litellm's name for it."""

    api_key_env: Text | None = None
    """The environment variable that holds the model's key."""

    api_base: Text | None = None
    """The server's address, for a model that is not at its provider's."""

    max_iterations: Count | None = None
    """Replies of an agent: `Agent(steps=)`."""

    max_runtime_seconds: Number | None = None
    """Seconds of an agent: `Agent(seconds=)`."""

    max_tokens: Count | None = None
    """Tokens of one reply: `LLM(max_tokens=)`."""

    qa_iterations: Count | None = None
    """Replies of the agent that examines a product."""

    max_waves: Natural | None = None
    """How often what was found wrong is repaired: `fix_waves=`."""

    integration_waves: Natural | None = None
    """The same for the merged work of teams: a tree's `fix_waves=`."""

    work_queue_workers: Count | None = None
    """Worker processes: `Lab(workers=)`."""

    work_queue_stage_retries: Natural | None = None
    """How often an item that failed is tried again: `retries=`."""

    supervisor_max_stage_retries: Natural | None = None
    """How often a supervisor has a node done again: `retries=`."""

    supervisor_max_reassign_depth: Natural | None = None
    """How often a supervisor hands a node to someone else: `reassign_depth=`."""

    budget: Limits | None = None


class Delegates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which other models an agent may ask."""

    enabled: Switch = True
    allowed_models: Names = []
    default_model: Text | None = None
    """One of them, told to the agent first."""


class Packs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A manifest of settings, its parts not looked into."""

    settingsPacks: Table  # noqa: N815 - Epsilon's field
    defaultSettingsPack: Text | None = None  # noqa: N815 - Epsilon's field
    delegate_llm: Any = None


_ARGUMENTS = {
    "lab": {"workers": "work_queue_workers"},
    "dag": {"fix_waves": "max_waves"},
    "tree": {"fix_waves": "integration_waves"},
    "supervisor": {
        "fix_waves": "max_waves",
        "retries": "supervisor_max_stage_retries",
        "reassign_depth": "supervisor_max_reassign_depth",
    },
    "work_queue": {"retries": "work_queue_stage_retries", "fix_waves": "max_waves"},
    "sharded_queue": {"retries": "work_queue_stage_retries"},
    "map_reduce": {"retries": "work_queue_stage_retries"},
}
"""What a piece's arguments are called, and which setting each is."""

_SAID = tuple(name for name in Pack.__struct_fields__ if name not in ("description", "budget"))


class Settings:
    """Settings, each with where it was said; made by `Settings.load`.

    A setting is an attribute: `settings.model`, `settings.max_iterations`; None where nobody said anything, so that
    the piece that it is for keeps its default.

    Attributes:
        origin: Where each setting that was said was said: `argument`, the name of an environment variable, or the
            place in the manifest.
        delegates: Names of the other models that an agent may ask.
    """

    def __init__(self, values: Mapping[str, Any], origin: Mapping[str, str]) -> None:
        self._values = dict(values)
        self.origin = dict(origin)
        self.delegates: tuple[str, ...] = tuple(self._values.pop("delegates", ()))

    @classmethod
    def load(cls, path: str | Path | None = None, *, pack: str | None = None, **said: Any) -> Settings:
        """Read a manifest's pack and the environment; what is said here wins.

        Args:
            path: A manifest; None for the environment alone.
            pack: Which pack; None for the manifest's default, or its only one.
            **said: Settings by name: `model`, `max_iterations`, ...

        Raises:
            InvalidInput: A name is unknown or has no meaning here, a value is ill-typed, a pack is not there, or the
                manifest holds a key; the message names the place and the nearest name.
        """
        values: dict[str, Any] = {}
        origin: dict[str, str] = {}
        if path is not None:
            for name, value, place in _of_manifest(path, pack):
                values[name], origin[name] = value, place
        elif pack is not None:
            raise InvalidInput("pack", f"there is no manifest to take {pack!r} from", "name it first: load(path, ...)")
        for name, value in _of_environment(os.environ):
            values[name], origin[name] = value, _PREFIX + name.upper()
        for name, value in said.items():
            if name not in (*_SAID, "budget", "delegates"):
                raise InvalidInput(f"Settings.load {name}", "is no setting", _nearest(name, _SAID))
            values[name], origin[name] = _fitting(f"Settings.load {name}", name, value), "argument"
        return cls(values, origin)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in _SAID:
            raise AttributeError(f"there is no setting {name!r}; {_nearest(name, _SAID)}")
        return self._values.get(name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *_SAID]

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r} ({self.origin[name]})" for name, value in self._told())
        return f"<Settings {said or 'all by default'}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(repr(value))}</td>"
            f"<td>{html.escape(self.origin[name])}</td></tr>"
            for name, value in self._told()
        )
        return f"<table><tr><th>setting</th><th>value</th><th>said by</th></tr>{rows}</table>"

    def _told(self) -> list[tuple[str, Any]]:
        delegates = [("delegates", self.delegates)] if "delegates" in self.origin else []
        return [*sorted(self._values.items()), *delegates]

    @property
    def budget(self) -> Budget | None:
        """What a run may spend: `lab.start(..., budget=settings.budget)`; None where nobody said anything."""
        budget: Budget | None = self._values.get("budget")
        return budget

    def arguments(self, piece: str) -> dict[str, Any]:
        """The arguments of a piece that somebody said: `Supervisor(plan, **settings.arguments("supervisor"))`.

        Args:
            piece: A topology's name, or `lab`.

        Raises:
            InvalidInput: There is no such piece.
        """
        if piece not in _ARGUMENTS:
            raise InvalidInput("Settings.arguments piece", f"there is no {piece!r}", _nearest(piece, tuple(_ARGUMENTS)))
        return {argument: self._values[name] for argument, name in _ARGUMENTS[piece].items() if name in self._values}

    def agent(self, **arguments: Any) -> Agent:
        """Make an agent; `Agent`'s own arguments win.

        Where `api_base` was said, that server is asked for its delegates as well, with the same key.

        Raises:
            InvalidInput: No model was said, or an argument has a wrong type or value.
        """
        return self._agent("max_iterations", arguments)

    def qa_agent(self, **arguments: Any) -> Agent:
        """Make an agent that examines a product: with `qa_iterations` replies, where that was said."""
        return self._agent("qa_iterations" if "qa_iterations" in self._values else "max_iterations", arguments)

    def _agent(self, steps: str, arguments: dict[str, Any]) -> Agent:
        from epsilon_lab.agents.agent import Agent  # noqa: PLC0415 - what an agent needs loads with the first one
        from epsilon_lab.agents.llm import LLM  # noqa: PLC0415 - as above

        server = {"api_key_env": self.api_key_env, "api_base": self.api_base}
        if "model" not in arguments:
            if self.model is None:
                raise InvalidInput("Settings model", "was not said", "say it: Settings.load(model=...)")
            arguments["model"] = LLM(self.model, max_tokens=self.max_tokens, **server)
        beside = server if self.api_base is not None else {}  # a key goes to no other provider than its own
        delegates = [LLM(name, **beside) for name in self.delegates]
        ours = {"steps": self._values.get(steps), "seconds": self.max_runtime_seconds, "delegates": delegates}
        return Agent(**{name: value for name, value in ours.items() if value} | arguments)


def _of_manifest(path: str | Path, pack: str | None) -> list[tuple[str, Any, str]]:
    """(setting, value, where) of a manifest's pack."""
    manifest = Manifest(path, Packs)
    _refuse_keys(manifest)
    packs = manifest.values.settingsPacks
    default = manifest.values.defaultSettingsPack
    if not packs:
        raise manifest.refused("$.settingsPacks", "holds no pack")
    if default is not None and default not in packs:
        raise manifest.refused(
            "$.defaultSettingsPack", f"there is no pack {default!r}", _nearest(default, tuple(packs))
        )
    name = pack or default or next(iter(packs))
    if name not in packs:
        raise manifest.refused("$.settingsPacks", f"there is no pack {name!r}", _nearest(name, tuple(packs)))
    if pack is None and default is None and len(packs) > 1:
        raise InvalidInput("pack", f"{manifest.path.name} has {', '.join(packs)} and no default", "say which: pack=...")
    place = f"$.settingsPacks.{name}"
    parts = {each: _part(manifest, f"$.settingsPacks.{each}", value, Pack) for each, value in packs.items()}
    chosen = parts[name]
    if chosen.api_key_env is not None and not _NAME.fullmatch(chosen.api_key_env):
        raise manifest.refused(
            f"{place}.api_key_env", "is not the name of an environment variable", "give the name, never the key itself"
        )
    found = [
        (field, value, f"{manifest.path.name} {place}")
        for field in _SAID
        if (value := getattr(chosen, field)) is not None
    ]
    if (limits := chosen.budget) is not None:
        given = msgspec.to_builtins(limits)
        if not given:
            raise manifest.refused(f"{place}.budget", "limits nothing", "leave it out")
        found.append(("budget", Budget(**given), f"{manifest.path.name} {place}"))
    told = _part(manifest, "$.delegate_llm", manifest.values.delegate_llm or {}, Delegates)
    first = [] if told.default_model is None else [told.default_model]
    if told.enabled and not {*first} <= {*told.allowed_models}:
        raise manifest.refused("$.delegate_llm.default_model", "is not one of allowed_models", "add it there")
    if told.enabled and told.allowed_models:
        models = tuple(dict.fromkeys([*first, *told.allowed_models]))
        found.append(("delegates", models, f"{manifest.path.name} $.delegate_llm"))
    return found


def _part(manifest: Manifest[Packs], place: str, value: object, fields: type[T]) -> T:
    return convert(value, fields, lambda path, *told: manifest.refused(place + path[1:], *told))


def _refuse_keys(manifest: Manifest[Packs]) -> None:
    """Refuse a text whose field is called like a key, before anything else, and never show what it holds."""

    def look(place: str, value: object, *, is_named_by_user: bool = False) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                if isinstance(inner, str) and looks_secret(name) and name != "api_key_env" and not is_named_by_user:
                    raise manifest.refused(
                        f"{place}.{name}", "looks like a key", "give it by name: api_key_env, and set that variable"
                    )
                look(f"{place}.{name}", inner)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                look(f"{place}[{index}]", inner)

    look("$.settingsPacks", manifest.values.settingsPacks, is_named_by_user=True)
    look("$.delegate_llm", manifest.values.delegate_llm)


def _of_environment(environ: Mapping[str, str]) -> list[tuple[str, Any]]:
    found = []
    variables = {name.upper(): name for name in _SAID}
    for variable, value in environ.items():
        if not variable.startswith(_PREFIX):
            continue
        name = variable.removeprefix(_PREFIX)
        if name in NOT_TAKEN:
            raise InvalidInput(variable, "has no meaning here", NOT_TAKEN[name])
        if name in variables:
            found.append((variables[name], _fitting(variable, variables[name], value)))
        elif near := difflib.get_close_matches(name, variables, n=1, cutoff=_NEAR):
            raise InvalidInput(variable, "is no setting", f"did you mean {_PREFIX}{near[0]}?")
    return found


_TYPES = {field.name: field.type for field in msgspec.structs.fields(Pack)}


def _fitting(what: str, name: str, value: Any) -> Any:
    if name == "budget":
        if not isinstance(value, Budget):
            raise InvalidInput(what, f"must be a Budget, got {value!r}")
        return value
    wanted = list[Text] if name == "delegates" else _TYPES[name]
    try:
        fitting = msgspec.convert(value, wanted, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        raise InvalidInput(what, f"does not fit ({error}), got {value!r}") from None
    if fitting is None:
        raise InvalidInput(what, "says nothing", "leave it out")
    if name == "api_key_env" and not _NAME.fullmatch(str(fitting)):
        raise InvalidInput(what, "is not the name of an environment variable", "give the name, never the key itself")
    return tuple(fitting) if name == "delegates" else fitting


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}"
