"""The shape of a reduction: items below, groups of neighbours above them, level by level until one is left.

Groups of a level are as even as can be, so none of them is left with a single child while others have many. A node is
a level and a place on it; level 0 are the items. Nothing is stored: parents and children are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Node(NamedTuple):
    """A place in the shape."""

    level: int
    """0 for an item."""

    place: int


class Levels:
    """The shape.

    Args:
        items: How many items there are.
        groups: How many groups each level above them has; none where nothing is reduced.
    """

    def __init__(self, items: int, groups: Sequence[int]) -> None:
        self.sizes = (items, *groups)
        self.top = len(groups)

    def children(self, node: Node) -> range:
        """The places on the level below that a group brings together."""
        below, here = self.sizes[node.level - 1], self.sizes[node.level]
        return range(node.place * below // here, (node.place + 1) * below // here)

    def parent(self, node: Node) -> Node:
        """The group that a node belongs to."""
        here, above = self.sizes[node.level], self.sizes[node.level + 1]
        return Node(node.level + 1, ((node.place + 1) * above - 1) // here)

    def items(self, node: Node) -> range:
        """The items below a node."""
        begin, end = node.place, node.place + 1
        for level in range(node.level, 0, -1):
            below, here = self.sizes[level - 1], self.sizes[level]
            begin, end = begin * below // here, end * below // here
        return range(begin, end)

    def groups(self) -> Iterator[Node]:
        """Every group, from the items upwards."""
        for level in range(1, self.top + 1):
            for place in range(self.sizes[level]):
                yield Node(level, place)


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
