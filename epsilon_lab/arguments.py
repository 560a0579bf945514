"""Arguments of what a user constructs, refused by name before anything is spent; one rule for each kind of value.

What is accepted is given back as the rest of the package wants it: numpy's numbers as Python's own, which can be
written as JSON.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
from contextlib import suppress
from numbers import Integral, Real
from typing import Any

from epsilon_lab.errors import InvalidInput

MOST = 1_000_000
"""An int that counts something is refused above this, unless its argument says otherwise."""

_SHOWN = 200
"""Characters of a refused value that its message shows."""


def whole(what: str, value: Any, *, least: int, most: int = MOST) -> int:
    """An int, numpy's too; True is none.

    Raises:
        InvalidInput: It is none, or out of bounds.
    """
    if _is_a(Integral, value) and least <= value <= most:
        return operator.index(value)
    raise InvalidInput(what, f"must be an int from {least} to {most}, got {_shown(value)}")


def number(what: str, value: Any, *, least: float = -math.inf, most: float = math.inf, above: bool = False) -> float:
    """A finite number, numpy's too; True is none.

    Args:
        what: The argument, for the message.
        value: What was given.
        least: The smallest that will do.
        most: The largest that will do.
        above: Whether `least` itself will not do.

    Raises:
        InvalidInput: It is none, or out of bounds.
    """
    if _is_a(Real, value):
        with suppress(OverflowError):
            found = float(value)
            if math.isfinite(found) and least <= found <= most and not (above and found == least):
                return operator.index(value) if isinstance(value, Integral) else found
    bounds = [f"{'above' if above else 'of at least'} {least:.15g}"] * (least > -math.inf)
    bounds += [f"of at most {most:.15g}"] * (most < math.inf)
    raise InvalidInput(what, f"must be a finite number {' and '.join(bounds)}".rstrip() + f", got {_shown(value)}")


def above_zero(what: str, value: Any) -> float | None:
    """A finite number above 0, as a time in seconds; None for no limit.

    Raises:
        InvalidInput: It is neither.
    """
    return None if value is None else float(number(what, value, least=0, above=True))


def switch(what: str, value: Any) -> bool:
    """True or False.

    Raises:
        InvalidInput: It is neither.
    """
    if not isinstance(value, bool):
        raise InvalidInput(what, f"must be True or False, got {_shown(value)}")
    return value


def text(what: str, value: Any, *, blank: bool = False) -> str:
    """A text that can be written to a file.

    Raises:
        InvalidInput: It is no str, is blank where it may not be, or cannot be encoded as UTF-8.
    """
    if not isinstance(value, str) or not (blank or value.strip()):
        raise InvalidInput(what, f"must be a {'' if blank else 'non-empty '}str, got {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            what, f"cannot be encoded as UTF-8: character {error.start} is {value[error.start]!r}"
        ) from None
    return value


def function(
    what: str, value: Any, *calls: tuple[str, ...], awaited: bool = False, named: tuple[str, ...] = ()
) -> None:
    """Refuse what cannot be called in one of some ways, as far as its signature tells.

    Args:
        what: The argument, for the message.
        value: What was given.
        calls: The names of the positional arguments, for each way.
        awaited: Whether an async function will do.
        named: What it is given by name, in every way.

    Raises:
        InvalidInput: It is no function, not such a function, or one whose call gives no answer but a generator, or a
            coroutine.
    """
    ways = " or ".join(f"({', '.join(call)})" for call in calls)
    if not callable(value):
        raise InvalidInput(what, f"must be a function called with {ways}, got {_shown(value)}")
    plain = value
    while isinstance(plain, functools.partial):
        plain = plain.func
    refused = [inspect.isgeneratorfunction, inspect.isasyncgenfunction, *[inspect.iscoroutinefunction] * (not awaited)]
    if any(is_one(each) for is_one in refused for each in (plain, type(plain).__call__)):
        kind = "a generator" if awaited else "async or a generator"
        raise InvalidInput(what, f"is {kind}, so that a call gives no answer", "return the answer from a plain def")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # a builtin that does not tell
        return
    for call in calls:
        with suppress(TypeError):
            signature.bind(*call, **dict.fromkeys(named))
            return
    raise InvalidInput(what, f"must be a function called with {ways}, but its parameters are {signature}")


def _is_a(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - whatever a stranger's __repr__ raises, and an int too long to be written
        return f"a value of type {type(value).__name__}"
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]} …"
