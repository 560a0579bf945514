"""What differs between two outputs of the same work, place by place, so that a person sees what a verdict has changed.

Pure. A list is taken as a bag: what is in one and not in the other is gone or new, wherever it stands, since a row that
goes moves all behind it. Where lists are as long as each other, what went and what came at one place is one change;
and where that tells it all, no row of them having moved, they are compared place by place.
Nothing is lost by that: a list whose elements are the same in another order differs as a whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from epsilon_lab.messages.values import plain

_NAME = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
_ON_PATH = re.compile(r"\.([A-Za-z_]\w*)|\['((?:[^'\\]|\\.)*)'\]|\[\d+\]", re.ASCII | re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Difference(NamedTuple):
    """One place that differs."""

    path: str
    """In the output, as JSONPath: `$`, `$.entities[3].name`, `$['first name']`; of what is gone, where it was."""

    before: Any
    """What was there, as JSON shows it; None where nothing was."""

    after: Any
    """What is there now; None where it is gone."""


def differences(before: object, after: object) -> list[Difference]:
    """Compare two outputs of any kind; numpy's and pandas' values count by what they hold.

    Raises:
        RecursionError: One holds itself, or is nested too deeply.
    """
    return list(_between("$", plain(before), plain(after)))


def scalars(value: object) -> Iterator[Any]:
    """All texts and numbers in a JSON value, names of fields too."""
    match value:
        case dict():
            for name, each in value.items():
                yield name
                yield from scalars(each)
        case list():
            for each in value:
                yield from scalars(each)
        case _:
            yield value


def names(path: str) -> Iterator[str]:
    """The names of fields on the way to a place, of a `Difference.path`."""
    for found in _ON_PATH.finditer(path):
        name, quoted = found.groups()
        if found.lastindex:
            yield name if quoted is None else _ESCAPED.sub(r"\1", quoted)


def _between(path: str, before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from _field(f"{path}{_step(name)}", name, before, after)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _elements(path, before, after)
    elif _same(before) != _same(after):
        yield Difference(path, before, after)


def _field(path: str, name: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Difference]:
    if name in before and name in after:
        yield from _between(path, before[name], after[name])
    else:
        yield Difference(path, before.get(name), after.get(name))


def _elements(path: str, before: list[Any], after: list[Any]) -> Iterator[Difference]:
    old, new = [*map(_same, before)], [*map(_same, after)]
    if old == new:
        return
    gone, come = _beyond(old, new), _beyond(new, old)
    if not gone and not come:
        yield Difference(path, before, after)
        return
    if len(old) == len(new):
        changed = [place for place in range(len(old)) if old[place] != new[place]]
        if len(changed) == len(gone):  # nothing has moved
            for place in changed:
                yield from _between(f"{path}[{place}]", before[place], after[place])
            return
    pairs = gone & come if len(old) == len(new) else set()
    for place in sorted(gone | come):
        here = f"{path}[{place}]"
        if place in pairs:
            yield from _between(here, before[place], after[place])
            continue
        if place in gone:
            yield Difference(here, before[place], None)
        if place in come:
            yield Difference(here, None, after[place])


def _beyond(these: list[bytes], those: list[bytes]) -> set[int]:
    """Places of these of which there are more than among those, the last of each."""
    spare = Counter(these) - Counter(those)
    found = set()
    for place in range(len(these) - 1, -1, -1):
        if spare[these[place]] > 0:
            spare[these[place]] -= 1
            found.add(place)
    return found


def _same(value: object) -> bytes:
    """Equal for what JSON cannot tell apart: 1 and 1.0 are two, the order of fields does not matter."""
    return msgspec.json.encode(value, order="sorted")


def _step(name: str) -> str:
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return f".{name}" if _NAME.match(name) else f"['{quoted}']"
