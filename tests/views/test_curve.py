"""Curves: the same search draws the same numbers, whatever its rows look like."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.views.curve import Point, curve


def point(candidate_id: str, score: float | None, **fields: object) -> Point:
    generation = int(candidate_id[1:4]) if candidate_id != "seed" else 0
    shown = {"outcome": "scored" if score is not None else "timeout", "checked": None, "strategy": "fresh", **fields}
    return Point(candidate_id=candidate_id, generation=generation, score=score, **shown)  # type: ignore[arg-type]


SEARCH = [
    point("seed", 1.0, checked=True, strategy="seed"),
    point("g000-c000", 3.0, checked=False),
    point("g000-c001", None),
    point("g000-c002", 2.0, checked=True),
    point("g001-c000", None, outcome="duplicate"),
    point("g001-c001", 2.5, checked=True),
]


def test_the_best_line_climbs_by_checked_scores_alone() -> None:
    assert curve(SEARCH).best == ((0, 1.0), (3, 2.0), (5, 2.5))


def test_before_any_check_the_best_score_leads() -> None:
    unchecked = [p._replace(checked=None) for p in SEARCH]
    assert curve(unchecked).best == ((0, 1.0), (1, 3.0))


def test_minimizing_turns_the_line_round() -> None:
    points = [point("seed", 5.0), point("g000-c000", 7.0), point("g000-c001", 4.0)]
    assert curve(points, direction="minimize").best == ((0, 5.0), (2, 4.0))


def test_failures_and_duplicates_are_places_and_no_scores() -> None:
    drawn = curve(SEARCH)
    assert drawn.failed == (2,)
    assert drawn.duplicates == (4,)
    assert [place for place, _, _ in drawn.scored] == [0, 1, 3, 5]
    assert [(span.start, span.stop, span.median) for span in drawn.spans] == [(0, 4, 2.0), (4, 6, 2.5)]


def test_arrival_makes_no_difference() -> None:
    shuffled = SEARCH.copy()
    random.Random(3).shuffle(shuffled)
    assert curve(shuffled) == curve(SEARCH)


def test_nothing_yet_is_a_curve() -> None:
    assert curve([]).limits() == (0.0, 1.0)
    assert curve([], best_known=20.0).limits() == (19.0, 21.0)
    assert curve([point("seed", None)]).failed == (0,)


def test_one_absurd_score_does_not_flatten_the_rest() -> None:
    points = [point(f"g000-c{i:03d}", 1.0 + i / 100) for i in range(30)]
    low, high = curve([*points, point("g001-c000", -1e9)]).limits()
    assert 0.0 < low < 1.0 < 1.29 < high
    low, high = curve([*points, point("g001-c000", 1e9)], direction="minimize").limits()
    assert low < 1.0 < 1.29 < high < 3.0


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20), st.sampled_from(["maximize", "minimize"]))
def test_limits_hold_the_best_and_have_room(scores: list[float], direction: str) -> None:
    points = [point(f"g000-c{i:03d}", score) for i, score in enumerate(scores) if abs(score) < 1e100 or score != score]
    drawn = curve(points, direction=direction)
    low, high = drawn.limits()
    assert low < high
    if drawn.best:
        assert low <= drawn.best[-1][1] <= high
