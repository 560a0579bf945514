"""Where those who were asked the same disagree: attempts, agents, or sources that state something of one thing.

Answers are equal where nothing but their writing differs: texts in case, spaces and punctuation marks around them,
numbers within a tolerance, a number written as a text and the number. They are counted, the majority is named with how
close it was, and where it is not large enough a decider is asked, with the answers as options. Majorities of parts say
nothing of the whole: what asks should have all the answers before it.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from epsilon_lab.arguments import number
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.values import plain
from epsilon_lab.reducers.flag import Flag, asked
from epsilon_lab.reducers.names import fold
from epsilon_lab.reducers.records import records_of

MOST_OPTIONS = 9
"""More different answers than these are not put to a decider as options; the most frequent are."""

APART = "two things"
"""The verdict that records of one name are of different things."""


class Answer(NamedTuple):
    """What was answered about one thing."""

    key: str | int
    """What it is about."""

    value: Any
    """The answer that counts: the verdict's, else the majority's; None where there is neither."""

    votes: dict[str, int]
    """The answers, as options show them, most votes first, then in order; and how many gave them."""

    margin: float
    """How much larger the largest share of votes is than the next, 0 to 1; 1 where all agree."""

    verdict: str | None
    """What was decided; None where nobody was asked or has answered."""


def flag_disagreement(
    outputs: Iterable[Mapping[str, Any] | list[Any]],
    *,
    flag: Flag | None = None,
    field: str = "answer",
    key: str = "id",
    agree: float = 1.0,
    rel_tol: float = 1e-9,
    abs_tol: float = 0.0,
) -> list[Answer]:
    """Find what was answered about each thing, and ask where the majority is not large enough.

    The order of the outputs makes no difference.

    Args:
        outputs: Records (dicts), or lists of them: one for each answer.
        flag: Asks; None for nobody.
        field: The field with the answer, any plain data. A record without it, with None or with NaN
            gives none.
        key: The field that says what it is about, a text or a whole number.
        agree: The share of answers that is enough, 0 to 1. A tie is never enough.
        rel_tol: How far apart equal numbers may be, as a share of the larger, as of `math.isclose`.
        abs_tol: The same, absolutely.

    Returns:
        An answer for each thing, in order of their keys.

    Raises:
        InvalidInput: An output holds something else, a key is missing, or an argument has a wrong value.
    """
    agree = number("reducers.flag_disagreement agree", agree, least=0, most=1)
    answers: list[Answer] = []
    for about, records in _by_key("reducers.flag_disagreement", outputs, key):
        groups = _groups(_given(records, field), rel_tol, abs_tol)
        total = sum(group.votes for group in groups)
        if not groups or (not (is_tie := _is_tie(groups)) and groups[0].votes >= agree * total):
            answers.append(_answer(about, groups, None))
            continue
        share = f"{groups[0].votes} of {total}"
        verdict = asked(flag)(
            key=[field, about],
            kind="disagreement",
            question=f"Which {field} of {about!r} holds?",
            options=_options(groups),
            evidence={"answers": {group.shown: group.votes for group in groups}, "records": records},
            reason=f"{len(groups)} different answers; "
            + (f"a tie, {share} each" if is_tie else f"the most frequent has {share}"),
            score=round(1 - _margin(groups), 6),
        )
        answers.append(_answer(about, groups, verdict))
    return answers


def flag_conflicts(
    outputs: Iterable[Mapping[str, Any] | list[Any]],
    *,
    fields: Iterable[str],
    flag: Flag | None = None,
    name: str = "name",
    rel_tol: float = 1e-9,
    abs_tol: float = 0.0,
) -> dict[str, dict[str, Answer]]:
    """Find what records of one name say otherwise than each other, such as two years of birth, and ask which holds.

    One that is decided to be of `two things` has None for a value: which record is of which, only its source can say.

    Args:
        outputs: Records (dicts), or lists of them.
        fields: The fields that are to have one value.
        flag: Asks; None for nobody.
        name: The field with the name; names are one that differ in case, accents and punctuation alone.
        rel_tol: How far apart equal numbers may be, as a share of the larger, as of `math.isclose`.
        abs_tol: The same, absolutely.

    Returns:
        By name, without case and accents, and by field: what counts; only fields that any record of that name has.

    Raises:
        InvalidInput: An output holds something else, or a name is missing.
    """
    wanted = (fields,) if isinstance(fields, str) else tuple(fields)
    found: dict[str, dict[str, Answer]] = {}
    for about, records in _by_key("reducers.flag_conflicts", outputs, name, fold):
        for field in wanted:
            groups = _groups(_given(records, field), rel_tol, abs_tol)
            if not groups:
                continue
            verdict = None
            if len(groups) > 1:
                verdict = asked(flag)(
                    key=[about, field],
                    kind="conflict",
                    question=f"Which {field} does {str(records[0][name])!r} have?",
                    options=[*_options(groups), APART],
                    evidence={"answers": {group.shown: group.votes for group in groups}, "records": records},
                    reason=f"{len(records)} records of that name give {len(groups)} values",
                    score=round(1 - _margin(groups), 6),
                )
            found.setdefault(str(about), {})[field] = _answer(about, groups, verdict)
    return found


class _Group(NamedTuple):
    """Answers that are equal."""

    shown: str
    value: Any
    votes: int


def _by_key(
    what: str, outputs: Iterable[Mapping[str, Any] | list[Any]], key: str, normal: Any = None
) -> list[tuple[Any, list[dict[str, Any]]]]:
    """Records by what they are about; both in an order that does not depend on theirs."""
    found: dict[tuple[str, Any], list[dict[str, Any]]] = {}
    for where, record in records_of(what, outputs):
        about = record.get(key)
        if isinstance(about, bool) or not isinstance(about, str | int) or about == "":
            raise InvalidInput(where, f"has {about!r} for {key!r}", "give each record a text or a whole number there")
        about = normal(about) if normal is not None and isinstance(about, str) else about
        found.setdefault((type(about).__name__, about), []).append(record)
    return [(about, sorted(found[kind, about], key=_shown)) for kind, about in sorted(found)]


def _given(records: list[dict[str, Any]], field: str) -> list[Any]:
    """What they say; neither None nor NaN says anything."""
    values = [record.get(field) for record in records]
    return [value for value in values if not (value is None or (isinstance(value, float) and math.isnan(value)))]


def _groups(values: list[Any], rel_tol: float, abs_tol: float) -> list[_Group]:
    """Equal answers together, the most frequent first, then in order of what is shown."""
    found = (value for value in map(_number, values) if value is not None)
    numbers = sorted(found, key=lambda value: (value, isinstance(value, float)))  # of 1 and 1.0 it is 1 that is shown
    groups: list[_Group] = []
    begin = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or not math.isclose(numbers[begin], numbers[end], rel_tol=rel_tol, abs_tol=abs_tol):
            group = numbers[begin:end]
            counts = Counter(group)
            value = min(counts, key=lambda each: (-counts[each], each))
            groups.append(_Group(_shown(value), value, len(group)))
            begin = end
    others: dict[str, list[Any]] = {}
    for value in values:
        if _number(value) is None:
            others.setdefault(_normal(_shown(value)), []).append(value)
    for same in others.values():
        spellings = Counter(map(_shown, same))
        shown = min(spellings, key=lambda each: (-spellings[each], each))
        groups.append(_Group(shown, next(value for value in same if _shown(value) == shown), len(same)))
    return sorted(groups, key=lambda group: (-group.votes, group.shown))


def _number(value: Any) -> int | float | None:
    """The number that a value is, or is the text of; None for others, True and NaN among them."""
    if isinstance(value, str):
        try:
            value = float(value) if not value.strip().lstrip("+-").isdecimal() else int(value)
        except ValueError:
            return None
    value = plain(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None


def _normal(shown: str) -> str:
    text = " ".join(unicodedata.normalize("NFKC", shown).casefold().split())
    return text.strip(" .,;:!?\"'`") or text


def _shown(value: Any) -> str:
    """A value as an option shows it: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(plain(value), order="sorted").decode()


def _is_tie(groups: list[_Group]) -> bool:
    return len(groups) > 1 and groups[0].votes == groups[1].votes


def _margin(groups: list[_Group]) -> float:
    second = groups[1].votes if len(groups) > 1 else 0
    return (groups[0].votes - second) / sum(group.votes for group in groups)


def _options(groups: list[_Group]) -> list[str]:
    return [_option(group) for group in groups[:MOST_OPTIONS]]


def _option(group: _Group) -> str:
    return group.shown if group.shown.strip() else msgspec.json.encode(group.shown).decode()


def _answer(about: Any, groups: list[_Group], verdict: str | None) -> Answer:
    votes = {_option(group): group.votes for group in groups}
    if not groups:
        return Answer(about, None, votes, 0.0, verdict)
    if verdict is not None:
        value = next((group.value for group in groups if _option(group) == verdict), None)
    else:
        value = None if _is_tie(groups) else groups[0].value
    return Answer(about, value, votes, _margin(groups), verdict)
