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
    """Put each item into the bin that has the highest priority, the first of equals.

    Args:
        sizes: The items, in the order in which they come.
        priority: `priority(item, spaces)` gives a number for each bin that the item fits into, told by its free space,
            in the order in which the bins were opened; the last one is new.

    Returns:
        The number of the bin of each item.

    Raises:
        ValueError: What it gave is not that; names the item's place.
    """
    free: list[int] = []
    bins = []
    for place, item in enumerate(sizes):
        fitting = [number for number, space in enumerate(free) if space >= item]
        spaces = [*(free[number] for number in fitting), CAPACITY]
        answer = priority(item, spaces[:])
        values = answer.tolist() if hasattr(answer, "tolist") else answer
        if not isinstance(values, list | tuple) or len(values) != len(spaces):
            raise ValueError(f"item {place}: expected a list of {len(spaces)} priorities, one for each bin")
        for value in values:  # NaN differs from itself
            if not isinstance(value, Real) or value != value:
                raise ValueError(f"item {place}: a priority is {value!r:.40}, which is no number")
        best = max(range(len(spaces)), key=values.__getitem__)
        if best == len(fitting):
            free.append(CAPACITY - item)
            bins.append(len(free) - 1)
        else:
            free[fitting[best]] -= item
            bins.append(fitting[best])
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
