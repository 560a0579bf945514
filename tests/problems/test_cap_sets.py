"""The cap set problem: the judge builds the set, so that only priorities can be wrong."""

from __future__ import annotations

import itertools
import math
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab import problems
from epsilon_lab.errors import InvalidInput
from epsilon_lab.problems import cap_sets
from epsilon_lab.problems.cap_sets import BEST_KNOWN, find_line, greedy_cap, third, vectors


def run(problem, source):
    module = types.ModuleType("candidate")
    exec(compile(source, "candidate.py", "exec"), module.__dict__)
    return problem.run(module)


@pytest.mark.parametrize(("n", "size"), [(1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 64)])
def test_the_seed_program_builds_two_to_the_n(n, size):
    problem = problems.cap_set(n)
    output = run(problem, problem.source)
    assert problem.score(output) == {"score": size, "distinct_priorities": 1}
    assert problem.check(output) == size


@pytest.mark.parametrize(("n", "optimum"), [(4, 20), (5, 45), (6, 112)])
def test_the_proven_optima_are_stated_with_their_source(n, optimum):
    problem = problems.cap_set(n)
    assert problem.best_known == optimum
    assert problem.best_known_source.startswith("proven optimal; ")


def test_a_better_priority_scores_more():
    problem = problems.cap_set(4)
    output = run(problem, "def priority(vector, n):\n    return len(set(vector))\n")
    assert problem.score(output)["score"] == problem.check(output) > 16


def test_the_statement_is_complete():
    text = problems.cap_set(5).statement
    for needed in ("priority(vector, n)", "243", "{0, 1, 2}^5", "A constant priority gives 32", "lexicographic"):
        assert needed in text


@pytest.mark.parametrize(
    ("n", "output", "message"),
    [
        (2, None, "list of 9"),
        (2, [0.0] * 8, "list of 9"),
        (2, {"score": 4}, "list of 9"),
        (1, [0.0, None, 1.0], r"priority\(1,\) is NoneType"),
        (1, [0.0, 1.0, "2"], r"priority\(2,\) is str"),
        (1, [math.nan, 0.0, 0.0], r"priority\(0,\) is nan"),
        (1, [0.0, math.inf, 0.0], r"priority\(1,\) is inf"),
        (1, [[1], [2], [3]], r"priority\(0,\) is list"),
    ],
)
def test_what_is_no_priority_has_no_score(n, output, message):
    problem = problems.cap_set(n)
    with pytest.raises(ValueError, match=message):
        problem.score(output)


def test_whole_numbers_of_any_size_are_priorities():
    assert len(greedy_cap([10**400, 0, -(10**400), *[0.5] * 6], 2)) == 4


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans(), min_size=81, max_size=81)
)
def test_any_priorities_build_a_cap_set_that_cannot_be_extended(priorities):
    cap = greedy_cap(priorities, 4)
    assert len(set(cap)) == len(cap)
    assert find_line(cap) is None
    assert 16 <= len(cap) <= BEST_KNOWN[4][0]
    for point in set(vectors(4)) - set(cap):
        assert find_line([*cap, point]) is not None


def test_the_greedy_rule_is_the_stated_one():
    """By descending priority, equals in lexicographic order."""
    assert greedy_cap([0.0] * 9, 2) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert greedy_cap([0, 0, 0, 0, 9, 0, 0, 0, 5], 2)[:3] == [(1, 1), (2, 2), (0, 1)]


@given(st.integers(1, 4).flatmap(lambda n: st.tuples(*[st.tuples(*[st.integers(0, 2)] * n)] * 2)))
def test_three_points_on_a_line_sum_to_zero(pair):
    a, b = pair
    c = third(a, b)
    assert all((x + y + z) % 3 == 0 for x, y, z in zip(a, b, c, strict=True))
    assert (find_line([a, b, c]) is not None) == (a != b)


def test_the_line_finder_agrees_with_the_definition():
    for points in itertools.combinations(vectors(2), 4):
        by_definition = any(
            all(sum(coordinate) % 3 == 0 for coordinate in zip(*three, strict=True))
            for three in itertools.combinations(points, 3)
        )
        assert (find_line(points) is not None) == by_definition


@pytest.mark.parametrize(
    ("built", "said"),
    [
        ([(0, 0), (1, 1), (2, 2)], "on a line"),
        ([(0, 0), (0, 0)], "twice"),
        ([(0, 0), (0, 3)], "none"),
        ([(0, 0), (0, 1, 1)], "none"),
    ],
)
def test_the_check_does_not_trust_the_greedy_rule(monkeypatch, built, said):
    """If the rule were broken, the check would say so: it looks at the set alone."""
    monkeypatch.setattr(cap_sets, "greedy_cap", lambda priorities, n: built)
    assert said in problems.cap_set(2).check([0.0] * 9)


@pytest.mark.parametrize("n", [0, 9, 4.0, True, "4"])
def test_a_dimension_that_is_none_is_refused(n):
    with pytest.raises(InvalidInput, match="from 1 to 8"):
        problems.cap_set(n)
