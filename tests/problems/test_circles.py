"""Circles in a square: the check is arithmetic on fractions and knows no tolerance, not even one in the last place."""

from __future__ import annotations

import ast
import itertools
import math
import re
import types
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab import problems
from epsilon_lab.errors import InvalidInput
from epsilon_lab.problems.circle_programs import ALTERNATIVES, SEED
from epsilon_lab.problems.circles import BEST_KNOWN, find_fault
from epsilon_lab.search.sources import parses


def run(problem, source):
    module = types.ModuleType("candidate")
    exec(compile(source, "candidate.py", "exec"), module.__dict__)
    return module.pack(*problem.inputs)


def fits(circles) -> bool:
    """The definition, slowly."""
    exact = [tuple(map(Fraction, circle)) for circle in circles]
    return all(r <= x <= 1 - r and r <= y <= 1 - r for x, y, r in exact) and all(
        (x - u) ** 2 + (y - v) ** 2 >= (r + s) ** 2 for (x, y, r), (u, v, s) in itertools.combinations(exact, 2)
    )


@pytest.mark.parametrize("n", [1, 2, 5, 26, 32])
def test_the_seed_program_passes_the_strict_check(n):
    problem = problems.circle_packing(n)
    output = run(problem, problem.source)
    assert problem.score(output) == problem.check(output) == math.fsum(radius for _, _, radius in output)
    assert fits(output)


def test_every_layout_with_every_sizing_gives_a_packing():
    """All that the offline proposer starts from is sound, and some of it is better than the seed program."""
    problem = problems.circle_packing(26)
    choices = [[ast.unparse(one)] for one in ast.parse(SEED).body]
    for place, one in enumerate(ast.parse(SEED).body):
        choices[place] += ALTERNATIVES.get(getattr(one, "name", ""), ())
    choices[-1] = choices[-1][:1]  # the other one climbs, which takes its time
    scores = [problem.check(run(problem, "\n".join(parts))) for parts in itertools.product(*choices)]
    assert all(isinstance(score, float) for score in scores), scores
    assert problem.check(run(problem, SEED)) < 2.2 < 2.5 < max(scores) < BEST_KNOWN[26][0]
    assert all(parses(body) is None for bodies in ALTERNATIVES.values() for body in bodies)


def test_the_best_known_values_have_their_sources():
    assert problems.circle_packing().best_known == 2.6359830853
    for n in BEST_KNOWN:
        problem = problems.circle_packing(n)
        assert problem.best_known_source
        assert f"The best known is {problem.best_known}" in problem.statement
    assert problems.circle_packing(27).best_known is None
    assert "best known" not in problems.circle_packing(27).statement


def test_the_statement_is_complete():
    text = problems.circle_packing(7).statement
    for needed in ("pack(n)", "`n` = 7", "[x, y, radius]", "(0, 0) to (1, 1)", "without any tolerance", "1e-17"):
        assert needed in text


TOUCHING = [[0.25, 0.5, 0.25], [0.75, 0.5, 0.25]]


@pytest.mark.parametrize("output", [TOUCHING, np.array(TOUCHING), tuple(map(np.array, TOUCHING))])
def test_circles_may_touch_each_other_and_the_walls(output):
    problem = problems.circle_packing(2)
    assert problem.score(output) == problem.check(output) == 0.5


@pytest.mark.parametrize(
    ("part", "towards", "said"),
    [
        (0, 0, "circle 0 leaves the square by 2.78e-17"),
        (0, 1, "circles 0 and 1 overlap by 5.55e-17"),
        (2, 1, "circle 0 leaves the square by 5.55e-17"),
        (2, 0, None),
    ],
)
def test_one_unit_in_the_last_place_is_too_much(part, towards, said):
    """Of two circles that touch each other and the walls, one is moved or grown by the least there is."""
    problem = problems.circle_packing(2)
    circles = [circle[:] for circle in TOUCHING]
    circles[0][part] = math.nextafter(circles[0][part], towards)
    problem.score(circles)  # in floats, which lets it pass
    assert problem.check(circles) == (said or 0.5)


def test_an_overlap_of_1e_17_is_found_and_told():
    circles = [[0.25, 0.25, 0.25], [0.25, 0.625, 0.125], [0.75, 0.5, 1e-17]]
    assert problems.circle_packing(3).check(circles) == 0.375
    circles[2][:2] = [0.25, 0.75]
    assert problems.circle_packing(3).check(circles) == "circles 1 and 2 overlap by 1e-17"
    circles[2][:2] = [0.0, 0.75]
    assert problems.circle_packing(3).check(circles) == "circle 2 leaves the square by 1e-17"


unit = st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 5e-324, 1e-17])


@given(st.lists(st.tuples(unit, unit, unit | st.floats(0, 0.2)), min_size=1, max_size=4))
def test_the_check_agrees_with_the_definition(circles):
    assert (find_fault(circles) is None) == fits(circles)


@given(st.lists(st.tuples(unit, unit), min_size=2, max_size=6), st.data())
def test_the_check_agrees_where_circles_all_but_touch(points, data):
    """The hard cases: radii that floats say touch exactly, a unit in the last place more or less."""
    problem = problems.circle_packing(len(points))
    circles = []
    for x, y in points:
        room = min(x, y, 1 - x, 1 - y, *(math.hypot(x - u, y - v) - r for u, v, r in circles), 1)
        radius = data.draw(
            st.sampled_from([room, math.nextafter(room, 0), math.nextafter(room, 1), room * (1 - 1e-12)])
        )
        circles.append((x, y, max(radius, 0.0)))
    answer = problem.check(circles)
    assert isinstance(answer, float) == fits(circles)
    if isinstance(answer, float):  # what is exact is never refused by the score, and scores the same
        assert problem.score(circles) == answer == float(sum(Fraction(radius) for _, _, radius in circles))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, r"list of 2 circles"),
        ({"score": 2.6}, r"list of 2 circles"),
        ([[0.5, 0.5, 0.1]], r"list of 2 circles"),
        (TOUCHING * 2, r"list of 2 circles"),
        (np.zeros(2), r"circle 0 is not \[x, y, radius\]"),
        (np.zeros((2, 2)), r"circle 0 is not"),
        ([[0.5, 0.5, 0.1], [0.5, 0.5]], r"circle 1 is not"),
        ([[0.5, 0.5, 0.1], [0.9, math.nan, 0.1]], r"circle 1: y: must be a finite number, got nan"),
        ([[math.inf, 0.5, 0.1], [0.9, 0.5, 0.1]], r"circle 0: x: .* got inf"),
        ([[0.5, 0.5, "0.1"], [0.9, 0.5, 0.1]], r"circle 0: radius: .* '0.1'"),
        ([[0.5, 0.5, True], [0.9, 0.5, 0.1]], r"circle 0: radius: .* True"),
        ([[0.5, 0.5, 0.1j], [0.9, 0.5, 0.1]], r"circle 0: radius: .* 0.1j"),
        ([[0.2, 0.5, 0.1], [0.9, 0.5, -0.1]], "circle 1: radius: must be a finite number of at least 0, got -0.1"),
        ([[0.2, 0.5, 0.1], [0.25, 0.5, 0.1]], r"circles 0 and 1 overlap"),
        ([[0.2, 0.5, 0.1], [0.95, 0.5, 0.1]], r"circle 1 leaves the square"),
        ([[0.2, 0.5, 0.1], [10**300, 0.5, 0.1]], r"circle 1 leaves the square"),
        ([[0.2, 0.5, 0.1], [0.9, 0.5, 10**400]], r"circle 1: radius: must be a finite number"),
    ],
)
def test_what_is_no_packing_has_no_score(output, message):
    problem = problems.circle_packing(2)
    with pytest.raises((ValueError, InvalidInput), match=message):
        problem.score(output)
    try:
        reason = problem.check(output)
    except (ValueError, InvalidInput) as error:
        reason = str(error)
    assert re.search(message, reason)


@pytest.mark.parametrize("n", [0, 201, 26.0, True, "26"])
def test_a_number_of_circles_that_is_none_is_refused(n):
    with pytest.raises(InvalidInput, match="from 1 to 200"):
        problems.circle_packing(n)
