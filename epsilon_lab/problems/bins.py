"""Online bin packing: a rule that must decide on each item before it knows the next.

Programs are scored by a simulation in their own sandbox, which is fast and proves nothing: the items to come lie in the
same process. What counts is the strict check. It feeds the program one item at a time in a process that has no others,
on the same items and on more that nobody who proposes programs sees or is told the score of. A program that packs
otherwise when it is fed has failed: one whose answers depend on more than was asked is not the rule that was scored,
and what it scored would mislead whatever is made from it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from epsilon_lab.arguments import whole
from epsilon_lab.problems.weibull_items import CAPACITY, SCALE, SHAPE, excess, items, pack
from epsilon_lab.search.problem import Problem

STATEMENT = """\
# Pack items online into as few bins as possible

Bins hold {capacity}. Items of sizes from 1 to {capacity}, whole numbers, come one at a time, and each must be put into
a bin before the next is known; it stays there. The sizes are drawn from a Weibull distribution of shape {shape:g} and
scale {scale:g}, rounded and capped: {count} of them, {training} times.

Write a Python program with a function `priority(item, spaces)`. It is called once for each item:

* `item`: int, its size;
* `spaces`: list of int, the free spaces that there are among the bins into which the item fits, each once, ascending;
  the last one, {capacity}, is that of a new and empty bin.

It returns a list of as many numbers. The item goes into a bin of the space with the highest, the smallest of equal
ones.

The score is the mean over the instances of how many percent more bins are used than the lower bound, the sum of the
sizes divided by {capacity} and rounded up. Lower is better; best fit, the seed program, has about 4 to 5. Of the
programs that seem best, the judge feeds the items to the program itself, one at a time, and also looks at instances
that are not among the {training}: a program must be a rule for such items, and depend on nothing but its arguments. The
standard library and numpy can be imported. All calls together have {timeout_s} seconds.
"""

SEED = """\
def value(item: int, gap: int) -> float:
    return -gap

def priority(item: int, spaces: list[int]) -> list[float]:
    return [value(item, space - item) for space in spaces]
"""

ALTERNATIVES: dict[str, tuple[str, ...]] = {
    "value": (
        # worst fit
        """\
def value(item: int, gap: int) -> float:
    return gap
""",
        # what is left once more items of this size have come
        """\
def value(item: int, gap: int) -> float:
    return -(gap % item)
""",
        # nearly full, or room for one more of this size
        """\
def value(item: int, gap: int) -> float:
    return -min(gap, abs(gap - item))
""",
        # some gaps are worse than others of their size
        """\
def value(item: int, gap: int) -> float:
    if 2 < gap < 8:
        return -gap - 20
    return -gap
""",
    ),
}
"""Name of a function of the seed program -> other bodies, from textbooks, for the offline proposer."""

TRAINING, HELD_OUT = 3, 6
"""Instances by which programs are chosen, and further ones by which nobody chooses."""

TIMEOUT_S = 10


def bin_packing(count: int = 500, *, seed: int = 17) -> Problem:
    """The online bin packing task.

    Args:
        count: Items of each instance.
        seed: Decides all items. Who knows it and reads this module can compute them: where programs come from somebody
            who might write that into one, choose a seed that cannot be guessed.

    Raises:
        InvalidInput: `count` is not an int from 10 to 5000, or `seed` not one of at least 0.
    """
    count = whole("bin_packing count", count, least=10, most=5000)
    seed = whole("bin_packing seed", seed, least=0, most=2**63 - 1)
    training = [items(count, seed=seed, of="training", number=number) for number in range(TRAINING)]
    return Problem(
        name="bin_packing",
        statement=STATEMENT.format(
            capacity=CAPACITY, shape=SHAPE, scale=SCALE, count=count, training=TRAINING, timeout_s=TIMEOUT_S
        ),
        source=SEED,
        entry="priority",
        run=partial(_run, training),
        score=partial(_score, training),
        check=partial(_check, training, partial(_held_out, count, seed)),
        direction="minimize",
        timeout_s=TIMEOUT_S,
        memory_mb=512,
        output_mb=16,
        alternatives=ALTERNATIVES,
        best_known_source="seeded instances, so no record exists; FunSearch has 0.68 (best fit 3.98) on 5 x 5000 items",
    )


def _run(training: Sequence[Sequence[int]], program: Any) -> list[list[int]]:
    return [pack(sizes, program.priority) for sizes in training]


def _held_out(count: int, seed: int) -> list[list[int]]:
    return [items(count, seed=seed, of="held out", number=number) for number in range(HELD_OUT)]


def _score(training: Sequence[Sequence[int]], output: Any) -> float:
    if not isinstance(output, list) or len(output) != len(training):
        raise ValueError(f"expected a list of {len(training)} packings")
    return statistics.fmean(excess(sizes, bins) for sizes, bins in zip(training, output, strict=True))


def _check(
    training: Sequence[Sequence[int]],
    held_out: Callable[[], Sequence[Sequence[int]]],
    output: Any,
    ask: Callable[[int, list[int]], Any],
) -> str | dict[str, float]:
    fed = [pack(sizes, ask) for sizes in training]
    if fed != output:
        return (
            f"fed one item at a time the program packs otherwise (excess {_score(training, fed):.2f} %, not "
            f"{_score(training, output):.2f} %): it must depend on nothing but its arguments"
        )
    others = statistics.fmean(excess(sizes, pack(sizes, ask)) for sizes in held_out())
    return {"score": _score(training, fed), "held_out": others}
