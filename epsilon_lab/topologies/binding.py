"""What a node takes from the outputs of others: whether it runs at all, and what it is given.

Outputs are bytes here. A condition looks into JSON alone, and nothing is unpickled: a node whose condition would have
to read a pickle, or a file that nobody read, is given up with the reason instead of guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from epsilon_lab.ids import origin
from epsilon_lab.messages.call import call_of
from epsilon_lab.messages.values import Value, stored
from epsilon_lab.topologies.plan import Condition

_SHOWN = 80
"""Characters of a value that are shown."""


class Unreadable(Exception):
    """A condition cannot be told from an output; the message says which and why."""


def unmet(when: tuple[Condition, ...], outputs: Mapping[str, Value]) -> str:
    """Say why a node does not run; empty where all of its conditions hold.

    Args:
        when: Its conditions.
        outputs: By task id; one that is not there has no output, and no condition on it holds.

    Raises:
        Unreadable: An output is not JSON.
    """
    return next((why for condition in when if (why := _unmet(condition, outputs.get(condition.task_id)))), "")


def _unmet(condition: Condition, output: Value | None) -> str:
    name = ".".join(map(str, (condition.task_id, *condition.path)))
    if output is None:
        return f"{condition.task_id} has no output"
    if output.form != "json":
        kind = "a pickle" if output.form == "pickle" else f"in the file {output.data.decode()}"
        raise Unreadable(f"its condition looks into the output of {condition.task_id}, which is {kind} and not JSON")
    value: Any = msgspec.json.decode(output.data)
    for key in condition.path:
        match value:
            case dict() if key in value:
                value = value[key]
            case list() if isinstance(key, int) and -len(value) <= key < len(value):
                value = value[key]
            case _:
                return f"there is no {name}"
    if type(value) is bool or type(condition.equals) is bool:
        holds = value is condition.equals  # in JSON, unlike in Python, 1 is not true
    else:
        holds = value == condition.equals
    return "" if holds else f"{name} is {_short(value)}, not {_short(condition.equals)}"


def bound(
    payload: Value, depends_on: tuple[str, ...], outputs: Mapping[str, Value], errors: Mapping[str, str]
) -> Value:
    """Complete a `Call` with what its node depends on, each under the name that its first revision had.

    Args:
        payload: The JSON of a `Call`.
        depends_on: Task ids, in the order in which they are given.
        outputs: What was completed, by task id.
        errors: Why there is no output, of all others.
    """
    inputs = tuple((origin(name), stored(outputs[name])) for name in depends_on if name in outputs)
    failed = {origin(name): errors[name] for name in depends_on if name in errors}
    return Value("json", msgspec.json.encode(msgspec.structs.replace(call_of(payload), inputs=inputs, failed=failed)))


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
