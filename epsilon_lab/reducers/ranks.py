"""The best of what many found: scored lists merged, and cut off where nobody looks any more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from epsilon_lab.arguments import whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.reducers.records import records_of


def rank(
    outputs: Iterable[Mapping[str, Any] | list[Any]], *, k: int = 10, by: str = "score", smallest: bool = False
) -> list[dict[str, Any]]:
    """Merge scored records, and keep the best.

    Of equal scores the one that came first is the better, so the order counts for those; the same record twice is there
    twice (`unique` sees to that).

    Args:
        outputs: Records (dicts), or lists of them.
        k: Most records that are kept.
        by: The field that is the score, a finite number. A record without it, or with None, is left out.
        smallest: Whether the smallest score is the best.

    Returns:
        The records, best first.

    Raises:
        InvalidInput: An output holds something else, a score is no number, or `k` is none.
    """
    k = whole("reducers.rank k", k, least=1)
    found: list[tuple[float, dict[str, Any]]] = []
    for where, record in records_of("reducers.rank", outputs):
        score = record.get(by)
        if score is None:
            continue
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise InvalidInput(where, f"has {score!r} for {by!r}", "a score is a finite number")
        found.append((score, record))
    found.sort(key=lambda pair: pair[0], reverse=not smallest)  # stable, in either direction
    return [record for _, record in found[:k]]
