"""A handler's answer as a score: what is wrong with it is said, and nothing of it is dropped."""

from __future__ import annotations

import pytest

from epsilon_lab.search.handler import scorer
from epsilon_lab.search.problem import Trial

TRIAL = Trial(seconds=1.5, cpu_s=1.0, peak_mb=9.0, baseline_seconds=2.0, seed=7, inputs=(3,), state=None)


def test_the_named_field_is_the_score_and_the_rest_goes_along():
    def handler(output, payload):
        assert output == [1]
        return {
            "correctness_passed": True, "speed": payload["scale"] * payload["baseline_seconds"] / payload["cpu_s"],
            "rows": 3, "note": "fast", "checks": [{"case": 1, "passed": True}], "exact": True, "score": -1,
        }  # fmt: skip

    assert scorer(handler, {"scale": 10, "cpu_s": "overwritten"}, "speed")([1], TRIAL) == {
        "score": 20.0, "rows": 3, "note": "fast", "checks": '[{"case":1,"passed":true}]', "exact": "true",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ({"correctness_passed": False, "error": "row 3 differs", "speed": 9}, ValueError, "row 3 differs"),
        ({"correctness_passed": 0, "speed": 9}, ValueError, "correctness_passed is 0"),
        ({"speed": 9}, ValueError, "no 'correctness_passed'; it has speed"),
        ({"correctness_passed": True, "velocity": 9}, ValueError, "no 'speed'; it has correctness_passed, velocity"),
        ({}, ValueError, "it has nothing"),
        (9.0, TypeError, "returned a float, not a dict"),
        (None, TypeError, "returned a NoneType"),
    ],
)
def test_an_answer_without_a_score_says_why(answer, error, message):
    with pytest.raises(error, match=message):
        scorer(lambda output, payload: answer, {}, "speed")([1], TRIAL)
