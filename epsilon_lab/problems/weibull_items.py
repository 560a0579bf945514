"""Packing items online into bins: seeded items, the packer, and the bound it is compared with.

The packer is the same in a candidate's sandbox, where it is fast, and at the judge, where what it asks for comes from a
process that is told one item at a time. Items are whole numbers, so both see the same ones exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from epsilon_lab.dice import dice

CAPACITY = 100
SHAPE, SCALE = 3.0, 45.0
"""The items' distribution, that of the Weibull instances of B. Romera-Paredes et al. (FunSearch), Nature 625 (2024),
after I. Castiñeiras, M. De Cauwer, B. O'Sullivan, Weibull-based benchmarks for bin packing, CP 2012."""


def items(count: int, *, seed: int, of: str, number: int) -> list[int]:
    """Draw an instance: Weibull sizes, rounded, from 1 to `CAPACITY`.

    Args:
        count: How many items.
        seed: Decides them, together with the next two.
        of: The set of instances, as "training".
        number: Which one of the set.
    """
    random = dice(seed, "bin packing", of, number)
    return [min(max(round(random.weibullvariate(SCALE, SHAPE)), 1), CAPACITY) for _ in range(count)]


def pack(sizes: Sequence[int], priority: Callable[[int, list[int]], Any]) -> list[int]:
    """Put each item into a bin of the free space that has the highest priority, the smallest space of equals.

    Args:
        sizes: The items, in the order in which they come.
        priority: `priority(item, spaces)` gives a number for each of the free spaces that there are among the bins into
            which the item fits, each once, ascending; the last one, `CAPACITY`, is that of a new bin. Bins of one space
            are alike, so a rule is asked about at most `CAPACITY` of them however many it opens.

    Returns:
        The number of the bin of each item; of bins of one space, the first.

    Raises:
        ValueError: What it gave is not that; names the item's place.
    """
    free: list[int] = []
    bins = []
    for place, item in enumerate(sizes):
        spaces = [*sorted({space for space in free if space >= item}), CAPACITY]
        answer = priority(item, spaces[:])
        values = answer.tolist() if hasattr(answer, "tolist") else answer
        if not isinstance(values, list | tuple) or len(values) != len(spaces):
            raise ValueError(f"item {place}: expected a list of {len(spaces)} priorities, one for each space")
        for value in values:  # NaN differs from itself
            if not isinstance(value, Real) or value != value:
                raise ValueError(f"item {place}: a priority is {value!r:.40}, which is no number")
        space = spaces[max(range(len(spaces)), key=values.__getitem__)]
        if space == CAPACITY:
            free.append(CAPACITY)
        number = free.index(space)
        free[number] -= item
        bins.append(number)
    return bins


def excess(sizes: Sequence[int], bins: Any) -> float:
    """Percent of bins beyond the L1 bound, which is the sum of all sizes in bins' capacities, rounded up.

    Raises:
        ValueError: The bins are no packing of these items: not as many ints, not numbered from 0 in the order in which
            they are opened, or one that is too full.
    """
    if not isinstance(bins, list) or len(bins) != len(sizes):
        raise ValueError(f"expected a list of {len(sizes)} bins, one for each item")
    free: list[int] = []
    for place, (item, number) in enumerate(zip(sizes, bins, strict=True)):
        if type(number) is not int or not 0 <= number <= len(free):
            raise ValueError(f"item {place} is in bin {number!r:.40}; the next new bin is {len(free)}")
        if number == len(free):
            free.append(CAPACITY)
        free[number] -= item
        if free[number] < 0:
            raise ValueError(f"bin {number} is too full with item {place}")
    return 100.0 * (len(free) / lower_bound(sizes) - 1)


def lower_bound(sizes: Sequence[int]) -> int:
    """The L1 bound: bins that no packing can do without."""
    return -(-sum(sizes) // CAPACITY)
