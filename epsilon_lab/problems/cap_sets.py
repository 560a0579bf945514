"""Cap sets: the largest sets of vectors over the integers modulo 3 of which no three are on a line.

A candidate only says which vectors it would rather have; the set is built here, greedily, by the judge, so that no
candidate can hand in a set that is not one. It is also why the score is exact and repeatable, and the whole judgement
takes a millisecond for n = 4 to 6, where the optimum is proven.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from itertools import combinations, product
from typing import Any

from epsilon_lab.errors import InvalidInput
from epsilon_lab.search.problem import Problem

Vector = tuple[int, ...]

STATEMENT = """\
# A large cap set in dimension {n}

A cap set is a set of vectors in {{0, 1, 2}}^{n} of which no three distinct ones sum to zero modulo 3 in every
coordinate (no three are on a line). Larger is better.

Write a Python program with a function `priority(vector, n)`. It is called once for each of the {count} vectors, a tuple
of `n` = {n} ints from 0 to 2, and returns a finite number. The cap set is then built greedily: the vectors are taken by
descending priority, equal ones in lexicographic order, and each is added unless it would complete a line with two that
are in the set already.

The score is the size of the set. A constant priority gives {constant}. The function must be deterministic and use
nothing but its arguments; the standard library and numpy can be imported. All calls together have {timeout_s} seconds.
"""

SEED = """\
def priority(vector: tuple[int, ...], n: int) -> float:
    return 0.0
"""

TIMEOUT_S = 10
LARGEST_N = 8

BEST_KNOWN: dict[int, tuple[int, str]] = {
    1: (2, "proven optimal, by inspection; OEIS A090245"),
    2: (4, "proven optimal, by exhaustion; OEIS A090245"),
    3: (9, "proven optimal; R. C. Bose, Sankhya 8 (1947)"),
    4: (20, "proven optimal; G. Pellegrino, Matematiche 25 (1970)"),
    5: (45, "proven optimal; Y. Edel, S. Ferret, I. Landjev, L. Storme, J. Combin. Theory A 99 (2002)"),
    6: (112, "proven optimal; A. Potechin, Des. Codes Cryptogr. 46 (2008)"),
    7: (236, "largest known; table in B. Romera-Paredes et al. (FunSearch), Nature 625 (2024)"),
    8: (512, "largest known; B. Romera-Paredes et al. (FunSearch), Nature 625 (2024)"),
}
"""Dimension -> size of the largest cap set known, and where that is from."""


def cap_set(n: int = 5) -> Problem:
    """The cap set task in dimension `n`.

    Raises:
        InvalidInput: `n` is not an int from 1 to 8.
    """
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= LARGEST_N:
        raise InvalidInput("cap_set n", f"must be an int from 1 to {LARGEST_N}, got {n!r}")
    best_known, source = BEST_KNOWN[n]
    return Problem(
        name=f"cap_set_{n}",
        statement=STATEMENT.format(n=n, count=3**n, constant=2**n, timeout_s=TIMEOUT_S),
        source=SEED,
        entry="priority",
        run=partial(_run, n),
        score=partial(_score, n),
        check=partial(_check, n),
        timeout_s=TIMEOUT_S,
        memory_mb=512,
        output_mb=4,
        best_known=best_known,
        best_known_source=source,
    )


def vectors(n: int) -> list[Vector]:
    """All vectors of dimension `n`, in lexicographic order."""
    return list(product(range(3), repeat=n))


def greedy_cap(priorities: list[Any], n: int) -> list[Vector]:
    """Build the cap set that belongs to one priority per vector, in the vectors' order.

    Raises:
        ValueError: They are not as many finite numbers as there are vectors; names the vector.
    """
    points = vectors(n)
    if not isinstance(priorities, list) or len(priorities) != len(points):
        raise ValueError(f"expected a list of {len(points)} priorities, one for each vector")
    for point, value in zip(points, priorities, strict=True):
        if not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"priority{point} is {value if isinstance(value, float) else type(value).__name__}")
    cap: list[Vector] = []
    excluded: set[Vector] = set()
    for index in sorted(range(len(points)), key=lambda index: -priorities[index]):
        point = points[index]
        if point not in excluded:
            excluded.update(third(point, other) for other in cap)
            cap.append(point)
    return cap


def third(a: Vector, b: Vector) -> Vector:
    """The vector that is on a line with two others."""
    return tuple([-(x + y) % 3 for x, y in zip(a, b, strict=True)])


def find_line(points: Iterable[Vector]) -> tuple[Vector, Vector, Vector] | None:
    """Three distinct points on a line, or None: the definition itself, not the greedy rule."""
    known = set(points)
    for a, b in combinations(sorted(known), 2):
        if (c := third(a, b)) in known:
            return a, b, c
    return None


def _run(n: int, program: Any) -> list[Any]:
    return [program.priority(vector, n) for vector in vectors(n)]


def _score(n: int, output: Any) -> dict[str, float]:
    cap = greedy_cap(output, n)
    return {"score": len(cap), "distinct_priorities": len(set(output))}


def _check(n: int, output: Any) -> str | int:
    cap = greedy_cap(output, n)
    if len(set(cap)) != len(cap) or not all(len(point) == n and set(point) <= {0, 1, 2} for point in cap):
        return "the set has a vector twice, or one that is none"
    if (line := find_line(cap)) is not None:
        return f"not a cap set: {line[0]}, {line[1]} and {line[2]} are on a line"
    return len(cap)
