"""Where a line on record and the line that the rules give part, in words: a run that cannot be resumed says why."""

from __future__ import annotations

from typing import Any

import msgspec

from epsilon_lab.messages.events import TYPES, Body, TaskLine

_SHOWN = 120
"""Characters of a value that are shown."""


def plain(body: Body | TaskLine) -> bytes:
    """A line as it reads, the same whether it was read or is yet to be written."""
    return msgspec.json.encode(msgspec.json.decode(msgspec.json.encode(body), type=type(body)))


def difference(there: Body, expected: Body) -> str:
    """Say where two lines part.

    Args:
        there: What is on record.
        expected: What the rules give.
    """
    if type(there) is not type(expected):
        return f"they give {TYPES[type(expected)]} there"
    where, one, other = "", *(msgspec.json.decode(plain(body)) for body in (there, expected))
    while parts := _parts(one, other):
        where = f"{where}.{parts[0]}" if where else str(parts[0])
        one, other = one[parts[0]], other[parts[0]]
    return f"its {where} is {_short(one)}, where they give {_short(other)}"


def _parts(one: Any, other: Any) -> list[Any]:
    """The names under which two JSON values differ; none where they have no names in common."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [place for place in range(len(one)) if one[place] != other[place]]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [name for name in one if one[name] != other[name]]
    return []


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
