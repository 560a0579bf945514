"""What a leaf is asked, whoever performs it: a function, a model, an agent, a program.

A plain function of one item needs none of this: its task's payload is the item. All else travels as a `Call`, so that
every topology says in one way what is wanted, of which inputs, after which feedback, over which files.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from epsilon_lab.messages.values import StoredValue, Value

CALL, CALL_ASYNC = "epsilon_lab.agents.calling:call", "epsilon_lab.agents.calling:call_async"
"""Entries of tasks whose payload is a `Call`: in a child process, and on the loop of the async lane."""


def is_users(entry: str) -> bool:
    """Tell whether a task's output is the user's own, any value, and not an answer of one of our leaves."""
    return entry.startswith("code:") or entry in (CALL, CALL_ASYNC)


Form = Literal["item", "inputs", "outputs", "last", "record", "request"]
"""How a function is called: with the item; with `{task id: output}`; with the outputs in order; with the last of them,
or the item where there are none; with the item, a dict, and the last of them as its `output`; with the request."""


def code_of(entry: str, payload: Value) -> str:
    """The SHA-256 of what a task performs, `code/<sha256>.pkl` of the run directory."""
    return entry.removeprefix("code:") if entry.startswith("code:") else call_of(payload).code


class Feedback(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a task is done once more, in words for whoever does it."""

    source: Literal["failure", "qa", "review", "person", "rerun"]
    text: str
    id: str = ""
    """Of the error or review that it answers, if that has one."""


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The payload of a leaf's task (as JSON)."""

    code: str
    """SHA-256 of what is called, `code/<sha256>.pkl` of the run directory."""

    form: Form = "item"
    argument: StoredValue | None = None
    """The item."""

    inputs: tuple[tuple[str, StoredValue], ...] = ()
    """(task id, output) of what it depends on, in order."""

    parts: tuple[str, ...] = ()
    """References of files with more inputs, where they are many: JSON lists of (task id, output)."""

    recorded: tuple[str, ...] = ()
    """Tasks whose outputs are inputs too, and are read off the run's journal."""

    failed: dict[str, str] = {}
    """Task id -> error, of what it depends on and has no output."""

    instructions: str = ""
    about: dict[str, Any] = {}
    """What else is known of the work: role, task_type, acceptance, outputs."""

    feedback: tuple[Feedback, ...] = ()
    layers: tuple[str, ...] = ()
    """References of published files, `leaves/<task id>/<fence>`, oldest first: what its workspace begins with."""

    needs_files: tuple[str, ...] = ()
    """Paths in its workspace that must be files at its end, or the attempt failed."""

    takes_tasks: bool = False
    """Whether whoever performs it may ask for further tasks like it."""

    verdicts: str = ""
    """Reference of the file of verdicts that a function's `flag` answers from, case id -> verdict; empty where nothing
    was decided yet."""


_CALL = msgspec.json.Decoder(Call)


def call_of(payload: Value) -> Call:
    """Read the payload of a leaf's task.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    return _CALL.decode(payload.data)
