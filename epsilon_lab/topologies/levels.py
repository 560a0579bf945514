"""The shape of a reduction: items below, groups of neighbours above them, level by level until one is left.

Groups of a level are as even as can be, so none of them is left with a single child while others have many. Nothing is
stored: parents and children are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Spot(NamedTuple):
    """An item, or a group."""

    level: int
    """0 for an item."""

    place: int
    """On its level, from 0."""


class Levels:
    """The shape.

    Args:
        items: How many items there are.
        groups: How many groups each level above them has; none where nothing is reduced.
    """

    def __init__(self, items: int, groups: Sequence[int]) -> None:
        self.sizes = (items, *groups)
        self.top = len(groups)

    def children(self, spot: Spot) -> range:
        """The places on the level below that a group brings together."""
        below, here = self.sizes[spot.level - 1], self.sizes[spot.level]
        return range(spot.place * below // here, (spot.place + 1) * below // here)

    def parent(self, spot: Spot) -> Spot:
        """The group that an item or a group belongs to."""
        here, above = self.sizes[spot.level], self.sizes[spot.level + 1]
        return Spot(spot.level + 1, ((spot.place + 1) * above - 1) // here)

    def groups(self) -> Iterator[Spot]:
        """Every group, from the items upwards."""
        for level in range(1, self.top + 1):
            for place in range(self.sizes[level]):
                yield Spot(level, place)


def by_arity(items: int, arity: int) -> tuple[int, ...]:
    """Groups of at most so many on every level, until one is left; a single item has one group of its own."""
    groups: list[int] = []
    while not groups or groups[-1] > 1:
        groups.append(-(-(groups[-1] if groups else items) // arity))
    return tuple(groups)


def by_shards(items: int, shards: int) -> tuple[int, ...]:
    """So many runs of neighbours, fewer where there are not as many items, and one group of all of these."""
    shards = min(shards, items)
    return (shards, 1) if shards > 1 else (1,)
