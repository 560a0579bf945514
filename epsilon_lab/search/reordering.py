"""What another scorer does to a ranking: who moved, how far, and past whom.

Pure. A pair is *flipped* where the one that was strictly better is now strictly worse; a tie on either side is no flip,
since neither scorer contradicts the other there. A candidate that has no score any more stands behind all that have
one; that is its own flip with each that was behind it, and says nothing about those. Ranks are those of a competition:
equals share the best of their places (1, 2, 2, 4).

Flips are counted with a Fenwick tree (P. Fenwick, "A New Data Structure for Cumulative Frequency Tables", Software:
Practice and Experience, 1994) in n log n, as Kendall's tau is, because a search may have ten thousand candidates and
this runs where the broker does.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar

import msgspec

from epsilon_lab.search.context import Direction

T = TypeVar("T")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one candidate."""

    candidate_id: str
    score_before: float
    score_after: float | None
    """None: the new scorer gave none."""

    rank_before: int
    """1 for the best."""

    rank_after: int | None
    moved: int
    """Places up (down where negative); one without a score counts as behind all others."""

    flipped: int
    """Pairs with others that are in the wrong order now."""

    past: str | None = None
    """Of these others one: the best, before, that it has overtaken; else the best, now, that has overtaken it. None
    where it has no score."""


def changes(
    before: Mapping[str, float],
    after: Mapping[str, float | None],
    direction: Direction,
    direction_before: Direction | None = None,
) -> list[Change]:
    """Compare two rankings of the same candidates.

    Args:
        before: Score by candidate id.
        after: The same by the new scorer; one that is missing has no score.
        direction: Whether larger or smaller scores are better.
        direction_before: The same of the scores before; None where it is the same.

    Returns:
        One a candidate, the best by the new scorer first; equals in the order of `before`.
    """
    sign, sign_before = (-1.0 if each == "maximize" else 1.0 for each in (direction, direction_before or direction))
    old = {name: sign_before * score for name, score in before.items()}
    new = {name: sign * score for name in before if (score := after.get(name)) is not None}
    old_order, new_order = sorted(old.values()), sorted(new.values())
    scored = list(new)
    kept = sorted(old[name] for name in scored)
    olds, news = [old[name] for name in scored], list(new.values())
    overtaken, best_overtaken = _inversions(olds, news)
    overtaking, best_overtaking = _inversions(news, olds)
    flipped = {name: overtaken[place] + overtaking[place] for place, name in enumerate(scored)}
    past = {name: best_overtaken[place] for place, name in enumerate(scored)}
    past = {name: best_overtaking[place] if past[name] is None else past[name] for place, name in enumerate(scored)}
    found: list[Change] = []
    for name in sorted(before, key=lambda name: new.get(name, math.inf)):
        rank_before = bisect.bisect_left(old_order, old[name]) + 1
        rank_after = bisect.bisect_left(new_order, new[name]) + 1 if name in new else None
        other = past.get(name)
        found.append(
            Change(
                candidate_id=name,
                score_before=before[name],
                score_after=after.get(name),
                rank_before=rank_before,
                rank_after=rank_after,
                moved=rank_before - (rank_after or len(new) + 1),
                flipped=flipped[name] if name in new else len(kept) - bisect.bisect_right(kept, old[name]),
                past=None if other is None else scored[other],
            )
        )
    return found


def _inversions(first: Sequence[float], second: Sequence[float]) -> tuple[list[int], list[int | None]]:
    """Of each place, how many are strictly smaller in `first` and strictly larger in `second`; and the smallest, in
    `first`, of these.
    """
    values = sorted(set(second))
    count: _Prefixes[int] = _Prefixes(len(values), 0, int.__add__)
    smallest: _Prefixes[_Place] = _Prefixes(len(values), _NOWHERE, min)
    counts = [0] * len(first)
    bests: list[int | None] = [None] * len(first)
    order = sorted(range(len(first)), key=first.__getitem__)
    rank = {place: n for n, place in enumerate(order)}
    for _, group in groupby(order, key=first.__getitem__):
        places = list(group)
        slots = [len(values) - bisect.bisect_right(values, second[place]) for place in places]
        for place, larger in zip(places, slots, strict=True):  # so many values are larger
            counts[place] = count.of_first(larger)
            best = smallest.of_first(larger)
            bests[place] = best.place if best is not _NOWHERE else None
        for place, larger in zip(places, slots, strict=True):
            count.put(larger, 1)
            smallest.put(larger, _Place(rank[place], place))
    return counts, bests


class _Place(NamedTuple):
    rank: int
    place: int


_NOWHERE = _Place(2**62, -1)


class _Prefixes(Generic[T]):
    """A Fenwick tree: values joined over the first so many slots."""

    def __init__(self, slots: int, empty: T, join: Callable[[T, T], T]) -> None:
        self._joined = [empty] * (slots + 1)
        self._empty = empty
        self._join = join

    def put(self, slot: int, value: T) -> None:
        slot += 1
        while slot < len(self._joined):
            self._joined[slot] = self._join(self._joined[slot], value)
            slot += slot & -slot

    def of_first(self, slots: int) -> T:
        found = self._empty
        while slots:
            found = self._join(found, self._joined[slots])
            slots -= slots & -slots
        return found
