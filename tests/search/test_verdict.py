"""A scorer's answer is believed only where it is a finite number of the right shape."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from epsilon_lab.search.verdict import read_check, read_score


@pytest.mark.parametrize(
    ("answer", "score"), [(1, 1.0), (-0.5, -0.5), (np.float32(0.5), 0.5), (np.int64(7), 7.0), (Fraction(1, 2), 0.5)]
)
def test_a_finite_number_is_a_score(answer: Any, score: float) -> None:
    verdict = read_score(answer)
    assert (verdict.outcome, verdict.score) == ("scored", score)
    assert type(verdict.score) is float


@pytest.mark.parametrize("answer", [math.nan, math.inf, -math.inf, np.float64("nan"), 10**400, {"score": math.nan}])
def test_what_is_not_finite_is_no_score(answer: Any) -> None:
    verdict = read_score(answer)
    assert (verdict.outcome, verdict.score) == ("nonfinite", None)
    assert "finite" in verdict.error


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("3.5", "'3.5' (str)"),
        (None, "None (NoneType)"),
        (True, "True (bool)"),
        (np.bool_(True), "(bool"),
        ([1], "[1] (list)"),
        (1j, "complex"),
        (np.array(1.0), "ndarray"),
        ({}, 'without the key "score"'),
        ({"score": "1"}, "'1' (str)"),
        ({"score": 1, "detail": [1]}, "'detail'"),
        ({"score": 1, "valid": True}, "'valid'"),
        ({"score": 1, 3: 4}, "key 3"),
    ],
)
def test_a_wrong_type_is_named(answer: Any, named: str) -> None:
    verdict = read_score(answer)
    assert (verdict.outcome, verdict.score) == ("bad_type", None)
    assert named in verdict.error


def test_a_dict_gives_numbers_and_feedback() -> None:
    verdict = read_score({"score": 2, "size": np.int8(3), "note": "try harder"})
    assert (verdict.score, verdict.scores, verdict.feedback) == (2.0, {"size": 3.0}, {"note": "try harder"})


def test_a_further_number_must_be_finite_too() -> None:
    verdict = read_score({"score": 2, "ratio": math.inf})
    assert (verdict.outcome, verdict.score) == ("nonfinite", None)
    assert "'ratio'" in verdict.error


@pytest.mark.parametrize(
    ("answer", "outcome", "score"),
    [
        (None, "scored", None),
        (True, "scored", None),
        (np.True_, "scored", None),
        (20, "scored", 20.0),
        (0, "scored", 0.0),
        (False, "check_failed", None),
        (np.False_, "check_failed", None),
        ("two vectors are equal", "check_failed", None),
        ("", "check_failed", None),
        (math.nan, "scorer_failed", None),
        ([], "scorer_failed", None),
    ],
)
def test_a_check_passes_fails_or_gives_the_exact_score(answer: Any, outcome: str, score: float | None) -> None:
    verdict = read_check(answer)
    assert (verdict.outcome, verdict.score) == (outcome, score)
    assert bool(verdict.error) == (outcome != "scored")
