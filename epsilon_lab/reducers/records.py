"""Records brought together, with a rule for what happens where two say different things of one name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from epsilon_lab.errors import InvalidInput

Conflict = Literal["refuse", "first", "last"]
"""What counts where two say different things: nothing does, what was said first, or what was said last."""


def merge(outputs: Iterable[Mapping[str, Any]], *, conflict: Conflict = "refuse") -> dict[str, Any]:
    """Put the fields of dicts into one. The same dict twice changes nothing.

    Values are taken whole: two dicts under one name are two values.

    Args:
        outputs: Dicts.
        conflict: What counts where two have different values for a name. With `refuse` the order of the outputs makes
            no difference but to the order of the names, which is that in which they were first met.

    Raises:
        InvalidInput: An output is no dict, or two have different values for a name and that is to be refused.
    """
    _check(conflict)
    merged: dict[str, Any] = {}
    for place, output in enumerate(outputs):
        if not isinstance(output, Mapping):
            raise InvalidInput(
                f"reducers.merge, output {place}", f"is no dict, but a {type(output).__name__}", "return a dict"
            )
        for name, value in output.items():
            _put(merged, name, value, conflict, f"reducers.merge, output {place}")
    return merged


def unique(
    outputs: Iterable[Mapping[str, Any] | list[Any]], *, key: str = "id", conflict: Conflict = "first"
) -> list[dict[str, Any]]:
    """Put records into one list, each once, in the order in which they were first met. Doing so twice changes nothing.

    Args:
        outputs: Records (dicts), or lists of them.
        key: The field that says which record it is.
        conflict: Which counts where two records have the same key and are not equal.

    Raises:
        InvalidInput: An output holds something else, a record's key is no str or whole number, or two records are not
            equal and that is to be refused.
    """
    _check(conflict)
    found: dict[tuple[type, Any], dict[str, Any]] = {}
    for where, record in records_of("reducers.unique", outputs):
        name = record.get(key)
        if not isinstance(name, str | int):
            raise InvalidInput(where, f"has {name!r} for {key!r}", "give each record a str or a whole number there")
        _put(found, (type(name), name), record, conflict, where)
    return list(found.values())


def records_of(name: str, outputs: Iterable[object]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk over the records in outputs, copies of them, each with the words for where it is.

    Raises:
        InvalidInput: An output is neither a record nor a list of records.
    """
    for place, output in enumerate(outputs):
        where = f"{name}, output {place}"
        for record in output if isinstance(output, list | tuple) else (output,):
            if not isinstance(record, Mapping):
                raise InvalidInput(where, f"holds a {type(record).__name__}", "return a dict, or a list of dicts")
            yield where, dict(record)


def _check(conflict: object) -> None:
    if conflict not in get_args(Conflict):
        raise InvalidInput("reducers conflict", f"must be one of {', '.join(get_args(Conflict))}, got {conflict!r}")


def _put(into: dict[Any, Any], name: Any, value: Any, conflict: Conflict, where: str) -> None:
    if name not in into or conflict == "last":
        into[name] = value
    elif conflict == "refuse" and not (into[name] is value or into[name] == value):
        shown = name[1] if isinstance(name, tuple) else name
        raise InvalidInput(
            where,
            f"says something else of {shown!r} than one before it",
            "say which counts: functools.partial(..., conflict='first') or 'last'",
        )
