"""What is suspicious in rows of candidates and dead letters, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab.errors import InvalidInput
from epsilon_lab.reducers import DeadLetter, SuspiciousScore, UnstableScore
from epsilon_lab.workspace.schema import TABLES

Decider = Callable[..., Any]


def rows(*scores: float | None, **columns: Any) -> list[dict[str, Any]]:
    empty = dict.fromkeys(TABLES["candidates"].columns)
    return [
        {
            **empty,
            "candidate_id": f"c{n}",
            "code_hash": f"h{n}",
            "scorer_hash": "s",
            "score": score,
            "outcome": "scored",
        }
        | columns
        for n, score in enumerate(scores)
    ]


USUAL = (1.0, 1.1, 0.9, 1.05, 0.95, 1.2, 0.8)


def test_a_score_far_beyond_the_others_is_asked_about(decider: Decider):
    flag = decider()
    SuspiciousScore()(rows(*USUAL, 9.0, -9.0, None), flag)
    assert list(flag.asked) == ["c7"]
    case = flag.asked["c7"]
    assert case["question"] == "Is the score 9 of c7 genuine?"
    assert case["options"] == ["genuine", "reject", "scorer is wrong"]
    assert case["reason"].endswith("robust deviations beyond the other candidates")
    assert case["score"] > 3.5


def test_the_seed_program_can_be_rejected_and_what_is_rejected_is_not_asked_about_again(decider: Decider):
    for detector in (SuspiciousScore(best_known=0.5), UnstableScore()):
        flag = decider()
        detector(rows(1.0, candidate_id="seed", scores={"first_score": 2.0}), flag)
        assert "reject" in flag.asked["seed"]["options"]
        flag = decider()
        detector(rows(None, outcome="check_failed", scores={"rejected": 2.0}, error="rejected by ann"), flag)
        assert not flag.asked


def test_where_small_scores_are_good_the_smallest_is_too_good(decider: Decider):
    flag = decider()
    SuspiciousScore(direction="minimize")(rows(*USUAL, 9.0, -9.0), flag)
    assert list(flag.asked) == ["c8"]


def test_what_the_problem_says_of_its_scores_need_not_be_said_again(decider: Decider):
    config = {"direction": "minimize", "best_known": 2.0}
    for detector, found in (
        (SuspiciousScore(), ["c8"]),
        (SuspiciousScore(direction="maximize", best_known=1e9), ["c7"]),
        (SuspiciousScore(best_known=-99.0), ["c8"]),
    ):
        flag = decider()
        detector(rows(*(score + 10 for score in USUAL), 19.0, 1.0), flag, config=config)
        assert list(flag.asked) == found
    flag = decider()
    SuspiciousScore(z=None)(rows(1.9, 2.0, 2.1), flag, config=config)
    assert flag.asked["c0"]["reason"] == "better than the best known value 2"


def test_better_than_anybody_ever_is_asked_about_however_few_there_are(decider: Decider):
    flag = decider()
    SuspiciousScore(best_known=2.0)(rows(1.0, 2.0, 2.1), flag)
    assert list(flag.asked) == ["c2"]
    assert flag.asked["c2"]["reason"] == "better than the best known value 2"
    flag = decider()
    SuspiciousScore(best_known=2.0, direction="minimize", z=None)(rows(1.9, *(3.0,) * 9), flag)
    assert list(flag.asked) == ["c0"]


@pytest.mark.parametrize("scores", [(), (5.0,) * 20, (1.0, 1.0, 50.0)])
def test_of_few_or_equal_scores_none_is_far(decider: Decider, scores: tuple[float, ...]):
    flag = decider()
    SuspiciousScore()(rows(*scores), flag)
    assert not flag.asked


def test_where_most_are_equal_the_one_that_is_not_is_still_found(decider: Decider):
    flag = decider()
    SuspiciousScore()(rows(*(5.0,) * 20, 6.0), flag)
    assert list(flag.asked) == ["c20"]


@settings(max_examples=40)
@given(scores=st.lists(st.floats(-100, 100), min_size=8, max_size=20), scale=st.sampled_from([0.5, 2.0, 8.0]))
def test_what_is_far_does_not_depend_on_the_unit(decider: Decider, scores: list[float], scale: float):
    one, other = decider(), decider()
    SuspiciousScore()(rows(*scores), one)
    SuspiciousScore()(rows(*(score * scale for score in scores)), other)
    assert list(one.asked) == list(other.asked)


def test_scores_that_do_not_repeat_are_asked_about(decider: Decider):
    found = rows(1.0, 2.0, 3.0, 4.0, None)
    found[1]["code_hash"] = found[0]["code_hash"]
    found[2]["scores"] = {"first_score": 2.0}
    found[3]["scores"] = {"first_score": 3.99, "other": 1.0}
    found[4] |= {"outcome": "check_failed", "error": "two points coincide"}
    flag = decider()
    UnstableScore()(found, flag)
    assert {key: case["reason"] for key, case in flag.asked.items()} == {
        "c0": "the same code has the scores 1, 2",
        "c2": "measured once 2, then 3",
        "c4": "the strict check refused it: two points coincide",
    }
    found[1]["scorer_hash"] = "another"
    flag = decider()
    UnstableScore(rel_tol=0.5)(found, flag)
    assert list(flag.asked) == ["c4"], "two scorers may differ, and a third of 3 is not enough"


def test_a_dead_letter_asks_what_becomes_of_it(decider: Decider):
    row = {**dict.fromkeys(TABLES["dead_letters"].columns), "task_id": "item-000003", "attempts": 3, "error": "killed"}
    flag = decider()
    DeadLetter()([row], flag)
    assert flag.asked["item-000003"]["options"] == ["try again", "give up"]
    assert flag.asked["item-000003"]["reason"] == "killed"


@pytest.mark.parametrize(("name", "value"), [("direction", "up"), ("best_known", float("nan")), ("z", 0), ("least", 1)])
def test_bad_arguments_are_refused(name: str, value: Any):
    with pytest.raises(InvalidInput, match=f"SuspiciousScore {name}"):
        SuspiciousScore(**{name: value})
