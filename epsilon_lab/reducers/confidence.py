"""What was answered with too little confidence: below a bound, or the least confident share of all.

A model's confidence is seldom calibrated, but it orders its answers: where no bound is known to mean anything, the
lowest share is the better question. It is a share of the outputs at hand, so a reduction by groups asks in each group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from epsilon_lab.arguments import number
from epsilon_lab.errors import InvalidInput
from epsilon_lab.reducers.flag import Flag, asked
from epsilon_lab.reducers.records import records_of

ACCEPT, REJECT = "accept", "reject"


class Doubt(NamedTuple):
    """A record that was asked about."""

    record: dict[str, Any]
    confidence: float | None
    verdict: str | None
    """`accept`, `reject`, or None where nobody has decided."""


def flag_low_confidence(
    outputs: Iterable[Mapping[str, Any] | list[Any]],
    *,
    flag: Flag | None = None,
    below: float | None = None,
    lowest: float | None = None,
    field: str = "confidence",
    key: str = "id",
) -> list[Doubt]:
    """Ask about the records that were given with little confidence, and those that say nothing of it.

    The order of the outputs makes no difference.

    Args:
        outputs: Records (dicts), or lists of them.
        flag: Asks; None for nobody.
        below: Ask about what has less than this.
        lowest: Ask about this share of the records, those with the least; at least one, and all that have as little as
            the last of them. With `below`, about what either finds.
        field: The field with the confidence, a finite number.
        key: The field that says which record it is, a text or a whole number.

    Returns:
        What was asked about, the least confident first.

    Raises:
        InvalidInput: An output holds something else, a confidence is no number, a key is missing or used twice, or
            neither `below` nor `lowest` is given.
    """
    what = "reducers.flag_low_confidence"
    if below is None and lowest is None:
        raise InvalidInput(what, "has neither below= nor lowest=", "say which are few enough to look at")
    bound = -math.inf if below is None else number(f"{what} below", below)
    share = 0.0 if lowest is None else number(f"{what} lowest", lowest, least=0, most=1)
    found: dict[str | int, tuple[float, dict[str, Any]]] = {}
    for where, record in records_of(what, outputs):
        name, sure = record.get(key), record.get(field)
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "" or name in found:
            raise InvalidInput(where, f"has {name!r} for {key!r}", "give each record a text or whole number of its own")
        found[name] = (-math.inf if sure is None else number(f"{where}, {field}", sure), record)
    ordered = sorted(found.items(), key=lambda item: (item[1][0], str(item[0])))
    if share and ordered:
        least = ordered[math.ceil(share * len(ordered)) - 1][1][0]
        bound = max(bound, math.nextafter(least, math.inf))
    doubts: list[Doubt] = []
    for name, (sure, record) in ordered:
        if sure >= bound and sure > -math.inf:
            break
        confidence = None if sure == -math.inf else sure
        verdict = asked(flag)(
            key=[field, name],
            kind="low confidence",
            question=f"Does {name!r} hold?",
            options=[ACCEPT, REJECT],
            evidence=record,
            reason=f"{field} is {confidence:g}" if confidence is not None else f"it has no {field}",
            score=0.0 if confidence is None else -confidence,
        )
        doubts.append(Doubt(record, confidence, verdict))
    return doubts
