"""Numbers added up, alone or by name, as tokens, costs and seconds are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Number
from typing import Any

from epsilon_lab.errors import InvalidInput


def sum(outputs: Iterable[Any]) -> Any:  # noqa: A001 - the word for it
    """Add up numbers; dicts of them name by name, where a name that is missing is 0.

    Whole numbers, fractions and decimals are added exactly, in whatever order. Of floats the last digits depend on how
    the outputs are grouped, as always; who needs them returns `fractions.Fraction(x)` from the task.

    Args:
        outputs: Numbers, or dicts of name to number; not both.

    Returns:
        A number, 0 for no outputs; or a dict. A 0 among dicts adds nothing.

    Raises:
        InvalidInput: An output is neither, or numbers stand among dicts.
    """
    total: Any = 0
    named: dict[str, Any] | None = None
    for place, output in enumerate(outputs):
        where = f"reducers.sum, output {place}"
        if isinstance(output, Mapping):
            named = _added(where, {} if named is None else named, output)
        elif isinstance(output, Number):
            total += output
        else:
            raise InvalidInput(where, f"is a {type(output).__name__}", "return a number, or a dict of numbers by name")
        if named is not None and total != 0:
            raise InvalidInput(
                where, f"is {output!r}, and numbers are not added to numbers by name", "return the same from every task"
            )
    return total if named is None else named


def _added(where: str, named: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for name, number in more.items():
        if not isinstance(number, Number):
            raise InvalidInput(where, f"has a {type(number).__name__} for {name!r}", "leave it out")
        named[name] = named.get(name, 0) + number
    return named
