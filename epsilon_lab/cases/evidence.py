"""What a decider compares: records beside each other, and where they differ.

Pure. A question is decided by what differs, so that is found here and not left to the eye: which fields, and in them
which characters. Evidence comes from anyone and may be anything: what holds no records is shown as it is, and what is
very long is cut, which is said; of long values that begin alike it is the beginning that is left out.

Differences are those to the first record. Of two values the common beginning and end are taken off, and the longest
common parts are found in what is left (Ratcliff and Obershelp's matching, as in Python's `difflib`), where that is
short enough for its worst case, which is cubic; else all of it counts as different. A single common character between
two differing parts says nothing and counts as different too. Texts of several lines are compared line by line.
"""

from __future__ import annotations

import json
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher, unified_diff
from typing import Any, NamedTuple

MOST_RECORDS, MOST_FIELDS, MOST_CHARACTERS = 8, 60, 2_000
"""What is shown of records; what is left out is counted."""

_SIDES = (("left", "right"), ("before", "after"), ("old", "new"), ("a", "b"))
"""Names under which evidence holds two things to compare, records or not."""

_COMPARED = 4_000
"""Pairs of parts that are worth comparing with each other."""

_DIFFED = 2_000
"""Lines of a text that are compared."""

_BEFORE = 200
"""Characters that are shown of what long values have in common, before their first difference."""

_WORDS = 120
"""Characters from which on two values are compared by words."""

_LINE = re.compile(r"[^\n]+|\n")
_DIFF = re.compile(r"(?m)^(?:--- .*\n\+\+\+ |@@ -\d)")


class Span(NamedTuple):
    """A piece of a value."""

    text: str
    differs: bool


class Field(NamedTuple):
    """One field of all records."""

    name: str
    values: tuple[tuple[Span, ...] | None, ...]
    """A value per record, in pieces; None where the record does not have the field."""

    differs: bool


class Comparison(NamedTuple):
    """Records beside each other."""

    titles: tuple[str, ...]
    fields: tuple[Field, ...]
    more_records: int = 0
    more_fields: int = 0
    more_differing: int = 0
    """How many of the fields that are not shown differ."""


class Evidence(NamedTuple):
    """What there is to look at."""

    comparison: Comparison | None = None
    diff: str = ""
    """A unified diff."""

    rest: Any = None
    """What is not compared: facts beside what is, or all there is; None for nothing."""

    @property
    def is_compared(self) -> bool:
        """Whether there is something to compare."""
        return self.comparison is not None or bool(self.diff)


def read(evidence: Any, key: Any = None) -> Evidence:
    """Find the records in a case's evidence.

    Args:
        evidence: A list of two records or more, which are dicts; a dict that holds two (`left` and `right`, or dicts
            that have fields in common) beside further facts; two texts, as a list or under `left` and `right`,
            `before` and `after`, `old` and `new`, `a` and `b`; a text that is a unified diff; or anything else, which
            is not compared. Plain data, as JSON has it.
        key: What the case is about; where it lists as many things as there are records, it names them.
    """
    if isinstance(evidence, str) and _DIFF.search(evidence[:MOST_CHARACTERS]):
        return Evidence(diff=evidence)
    found, rest = _records(evidence)
    if len(found) < 2:
        return Evidence(rest=evidence)
    titles = list(found)
    if isinstance(evidence, list | tuple) and isinstance(key, list | tuple) and len(key) == len(found):
        titles = [said(each) for each in key]
    texts = list(found.values())
    if all(isinstance(text, str) for text in texts) and any("\n" in text for text in texts):
        return Evidence(diff=_diff(texts, titles), rest=rest)
    return Evidence(compare(texts, titles), rest=rest)


def compare(records: Sequence[Any], titles: Sequence[str]) -> Comparison:
    """Put records beside each other, field by field; values that are no dicts are records without names of fields."""
    rows = [record if isinstance(record, Mapping) else {"": record} for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    every = [[row.get(name, ...) for row in rows] for name in names]
    differing = [any(_key(value) != _key(values[0]) for value in values) for values in every]
    fields = [
        Field(str(name), _marked(values[:MOST_RECORDS]), differs)
        for name, values, differs in zip(names, every, differing, strict=True)
        if name in names[:MOST_FIELDS]
    ]
    return Comparison(
        titles=tuple(titles[:MOST_RECORDS]),
        fields=tuple(fields),
        more_records=max(0, len(rows) - MOST_RECORDS),
        more_fields=max(0, len(names) - MOST_FIELDS),
        more_differing=sum(differing[MOST_FIELDS:]),
    )


def said(value: Any) -> str:
    """A value as text: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else _as_json(value)


def spans(text: str, other: str, *, by_lines: bool = False) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Cut two texts into pieces that are common to both and pieces that are not.

    Args:
        text: One.
        other: The other.
        by_lines: Whether a line is common or is not, as a whole.

    Returns:
        The pieces of each, which joined are the text; those that do not differ are the same in both.
    """
    by_words = by_lines or max(len(text), len(other)) > _WORDS
    mine, others = (_LINE.findall(each) if by_lines else _parts(each, by_words=by_words) for each in (text, other))
    most = min(len(mine), len(others))
    start = next((place for place in range(most) if mine[place] != others[place]), most)
    end = next((n for n in range(most - start) if mine[-1 - n] != others[-1 - n]), most - start)
    middle, their_middle = mine[start : len(mine) - end], others[start : len(others) - end]
    common = [(0, 0, start)]
    if 0 < len(middle) * len(their_middle) <= _COMPARED:
        blocks = SequenceMatcher(None, middle, their_middle, autojunk=False).get_matching_blocks()
        least = 1 if by_words else 2
        common += [(start + block.a, start + block.b, block.size) for block in blocks if block.size >= least]
    common.append((len(mine) - end, len(others) - end, end))
    return (
        _pieces(mine, [(place, size) for place, _, size in common]),
        _pieces(others, [(place, size) for _, place, size in common]),
    )


def _records(evidence: Any) -> tuple[dict[str, Any], Any]:
    """The things to compare by their names, and what is left."""
    if isinstance(evidence, list | tuple):
        alike = all(isinstance(each, Mapping) for each in evidence) or all(isinstance(each, str) for each in evidence)
        return ({f"{place}": each for place, each in enumerate(evidence, 1)}, None) if alike else ({}, evidence)
    if not isinstance(evidence, Mapping):
        return {}, evidence
    names = next((list(sides) for sides in _SIDES if evidence.keys() >= set(sides)), [])
    names = names or _alike(evidence)
    rest = {name: value for name, value in evidence.items() if name not in names}
    return {str(name): evidence[name] for name in names}, rest or None


def _diff(texts: Sequence[str], titles: Sequence[str]) -> str:
    """Each text's differences from the first, with the lines around them."""
    first, *others = (text.splitlines()[:_DIFFED] for text in texts[:MOST_RECORDS])
    diffs = (
        unified_diff(first, other, titles[0], title, lineterm="", n=10)
        for other, title in zip(others, titles[1:], strict=False)
    )
    return "\n".join(line for diff in diffs for line in diff) or "\n".join([f"--- {titles[0]}", "no difference"])


def _alike(evidence: Mapping[Any, Any]) -> list[Any]:
    """The names of records in a dict: all dicts in it, if each has a field in common with the first."""
    names = [name for name, value in evidence.items() if isinstance(value, Mapping)]
    is_one_kind = all(evidence[name].keys() & evidence[names[0]].keys() for name in names)
    return names if is_one_kind else []


def _marked(values: Sequence[Any]) -> tuple[tuple[Span, ...] | None, ...]:
    """Values in pieces, each compared with the first; in the first, what any other does not have differs."""
    given = [value for value in values if value is not ...]
    say = _saying(given)
    start = _start([say(value) for value in given])
    texts = [None if value is ... else _cut(say(value), start) for value in values]
    by_lines = say is _listed and any(len(value) > 1 for value in given)
    first = texts[0]
    marked: list[tuple[Span, ...] | None] = []
    differing: set[int] = set()
    for place, text in enumerate(texts):
        if text is None or first is None or place == 0:
            marked.append(None if text is None else (Span(text, first is None),) if text else ())
            continue
        of_first, of_text = spans(first, text, by_lines=by_lines)
        marked.append(of_text)
        differing |= _places(of_first)
    if first:
        missing = any(text is None for text in texts[1:])
        marked[0] = (Span(first, differs=True),) if missing else _painted(first, differing)
    return tuple(marked)


def _places(pieces: Iterable[Span]) -> set[int]:
    """The characters that differ."""
    found: set[int] = set()
    at = 0
    for piece in pieces:
        if piece.differs:
            found.update(range(at, at + len(piece.text)))
        at += len(piece.text)
    return found


def _painted(text: str, differing: set[int]) -> tuple[Span, ...]:
    pieces: list[Span] = []
    for place, sign in enumerate(text):
        _add(pieces, sign, differs=place in differing)
    return tuple(pieces)


def _pieces(parts: Sequence[str], common: Iterable[tuple[int, int]]) -> tuple[Span, ...]:
    found: list[Span] = []
    at = 0
    for place, size in common:
        _add(found, "".join(parts[at:place]), differs=True)
        _add(found, "".join(parts[place : place + size]), differs=False)
        at = place + size
    return tuple(found)


def _add(pieces: list[Span], text: str, *, differs: bool) -> None:
    if pieces and pieces[-1].differs == differs:
        pieces[-1] = Span(pieces[-1].text + text, differs)
    elif text:
        pieces.append(Span(text, differs))


def _parts(text: str, *, by_words: bool) -> list[str]:
    """Words, or characters, each with the accents that follow it: half of a letter is not a difference."""
    if by_words:
        return re.findall(r"\w+|\s+|[^\w\s]", text)
    parts: list[str] = []
    for sign in text:
        if parts and unicodedata.combining(sign):
            parts[-1] += sign
        else:
            parts.append(sign)
    return parts


def _saying(values: Sequence[Any]) -> Callable[[Any], str]:
    """How values become text such that those that differ look different."""
    ways = (_listed, said) if all(_is_listing(value) for value in values) else (said,)
    apart = len({_key(value) for value in values})
    return next((say for say in ways if len({say(value) for value in values}) == apart), _as_json)


def _is_listing(value: Any) -> bool:
    """Whether it is a list to be read line by line; numbers are not."""
    return isinstance(value, list | tuple) and all(isinstance(each, str | list | tuple | Mapping) for each in value)


def _listed(value: Iterable[Any]) -> str:
    return "\n".join(_as_json(each) if "\n" in said(each) else said(each) for each in value)


def _start(texts: Sequence[str]) -> int:
    """Where long texts that begin alike are worth showing from."""
    if len(texts) < 2 or max(map(len, texts)) <= MOST_CHARACTERS:
        return 0
    low, high = min(texts), max(texts)
    alike = bisect_left(range(len(low)), x=True, key=lambda place: low[: place + 1] != high[: place + 1])
    is_seen = low == high or alike < MOST_CHARACTERS // 2
    return 0 if is_seen else alike - _BEFORE


def _cut(text: str, start: int) -> str:
    more = len(text) - start - MOST_CHARACTERS
    head = f"… {start:,} characters, the same in all … " if start else ""
    tail = f" … and {more:,} more characters" if more > 0 else ""
    return f"{head}{text[start : start + MOST_CHARACTERS]}{tail}"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _key(value: Any) -> Any:
    """What makes two values one: 1 is neither True nor "1"."""
    return ... if value is ... else json.dumps(value, sort_keys=True, default=str)
