"""Circles in the unit square: as much radius as fits, and not one part in 2^53 more.

A record here is a matter of the tenth decimal, and published packings have overlapped within a tolerance. So there is
none: floats are fractions, and the check computes with those, in integers over their common denominator. The score is
the same question in floats, which is fast and may overlook an overlap by a rounding error; the check does not, so a
program must leave that much room itself, as the seed program does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Any

from epsilon_lab.arguments import number, whole
from epsilon_lab.problems.circle_programs import ALTERNATIVES, SEED
from epsilon_lab.search.problem import Problem

STATEMENT = """\
# Pack {n} circles into the unit square

Write a Python program with a function `pack(n)` that returns a list of `n` = {n} circles `[x, y, radius]` (or an array
of that shape): finite numbers, no radius negative, every circle within the square from (0, 0) to (1, 1), and no two
overlapping; they may touch. The score is the sum of the radii; larger is better.{known}

The check is exact: the floats returned are taken as the fractions they are, without any tolerance, so a packing whose
circles overlap by 1e-17 counts for nothing. Computed radii that should touch overlap by rounding half of the time:
subtract something like 1e-12 from each. The program must be deterministic; the standard library and numpy can be
imported, and it has {timeout_s} seconds.
"""

ROUNDING = 1e-15
"""More than what a distance or a reach loses to rounding in floats, so that the score refuses nothing exact."""

TIMEOUT_S = 10
LARGEST_N = 200

BEST_KNOWN: dict[int, tuple[float, str]] = {
    1: (0.5, "proven optimal, by inspection"),
    26: (2.6359830853, "largest known; numaro.tech (2026), the basin of all strong runs (EinsteinArena 184)"),
    32: (2.937, "at least; A. Novikov et al. (AlphaEvolve), arXiv 2506.13131 (2025), B.12"),
    33: (2.9872850086, "largest known; numaro.tech (2026)"),
    36: (3.1210039084, "largest known; numaro.tech (2026)"),
    40: (3.2923915726, "largest known; numaro.tech (2026)"),
}
"""Number of circles -> largest sum of radii known, and where that is from."""


def circle_packing(n: int = 26) -> Problem:
    """The task of packing `n` circles of any radii into the unit square.

    Raises:
        InvalidInput: `n` is not an int from 1 to 200.
    """
    n = whole("circle_packing n", n, least=1, most=LARGEST_N)
    best_known, source = BEST_KNOWN.get(n, (None, "no record for this number of circles was looked up"))
    known = "" if best_known is None else f" The best known is {best_known}."
    return Problem(
        name=f"circle_packing_{n}",
        statement=STATEMENT.format(n=n, known=known, timeout_s=TIMEOUT_S),
        source=SEED,
        entry="pack",
        inputs=(n,),
        score=partial(_score, n),
        check=partial(_check, n),
        timeout_s=TIMEOUT_S,
        memory_mb=512,
        output_mb=4,
        alternatives=ALTERNATIVES,
        best_known=best_known,
        best_known_source=source,
    )


def circles_of(output: Any, n: int) -> list[tuple[float, float, float]]:
    """Read `n` circles off an output.

    Raises:
        ValueError: It is not a list or array of `n` times three values.
        InvalidInput: One of these is no finite number, or a negative radius; says which.
    """
    rows = output.tolist() if hasattr(output, "tolist") else output
    if not isinstance(rows, list | tuple) or len(rows) != n:
        raise ValueError(f"expected a list of {n} circles [x, y, radius]")
    circles = []
    for index, row in enumerate(rows):
        values = row.tolist() if hasattr(row, "tolist") else row
        if not isinstance(values, list | tuple) or len(values) != 3:
            raise ValueError(f"circle {index} is not [x, y, radius]")
        x, y = (number(f"circle {index}: {name}", value) for name, value in zip("xy", values[:2], strict=True))
        circles.append((x, y, number(f"circle {index}: radius", values[2], least=0)))
    return circles


def find_fault(circles: Sequence[tuple[float, float, float]]) -> str | None:
    """What is wrong with a packing in exact arithmetic: a circle that leaves the square, or two that overlap."""
    ratios = [[value.as_integer_ratio() for value in circle] for circle in circles]
    one = math.lcm(*(denominator for ratio in ratios for _, denominator in ratio))
    exact = [[numerator * (one // denominator) for numerator, denominator in ratio] for ratio in ratios]
    for index, (x, y, radius) in enumerate(exact):
        if (out := radius - min(x, y, one - x, one - y)) > 0:
            return f"circle {index} leaves the square by {out / one:.3g}"
    for (i, (x, y, radius)), (j, (u, v, other)) in combinations(enumerate(exact), 2):
        distance, reach = (x - u) ** 2 + (y - v) ** 2, (radius + other) ** 2
        if distance < reach:
            # The difference of two roots, without the rounding that would lose it where they are close.
            overlap = (reach - distance) / (one * (math.isqrt(reach) + math.isqrt(distance)))
            return f"circles {i} and {j} overlap by {overlap:.3g}"
    return None


def _score(n: int, output: Any) -> float:
    circles = circles_of(output, n)
    for index, (x, y, radius) in enumerate(circles):
        if radius > min(x, y, 1 - x, 1 - y) + ROUNDING:
            raise ValueError(f"circle {index} leaves the square")
    for (i, (x, y, radius)), (j, (u, v, other)) in combinations(enumerate(circles), 2):
        if math.hypot(x - u, y - v) < radius + other - ROUNDING:
            raise ValueError(f"circles {i} and {j} overlap")
    return math.fsum(radius for _, _, radius in circles)


def _check(n: int, output: Any) -> str | float:
    circles = circles_of(output, n)
    return find_fault(circles) or math.fsum(radius for _, _, radius in circles)
