"""What the framework makes of a scorer's answer: nothing is believed that is not a finite number of the right shape.

Pure: an answer comes in, a verdict goes out. It is the judge's process that asks the scorer.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import msgspec

from epsilon_lab.search.evaluation import Outcome

_ENTRIES = 1000
"""Most numbers and strings beside a score: each number is a column of the candidates' table."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the judge says about one output."""

    outcome: Outcome
    score: float | None = None
    """Set where the outcome is `scored`; None from a check that passed without a number of its own."""

    scores: dict[str, float] = {}
    feedback: dict[str, str] = {}
    error: str = ""
    traceback: str = ""


def read_score(answer: object, by: str = "score") -> Verdict:
    """Judge what `score` returned: a number, or a dict with "score", further numbers, and strings."""
    if not isinstance(answer, dict):
        return _read_number(answer, f"{by} returned")
    if "score" not in answer:
        return Verdict(outcome="bad_type", error=f'{by} returned a dict without the key "score"')
    if len(answer) > _ENTRIES:
        return Verdict(
            outcome="bad_type", error=f"{by} returned a dict of {len(answer):,} entries, more than {_ENTRIES}"
        )
    verdict = _read_number(answer["score"], f'{by} returned a dict whose "score" is')
    scores: dict[str, float] = {}
    feedback: dict[str, str] = {}
    for key, value in answer.items():
        if key == "score" or verdict.outcome != "scored":
            continue
        if not isinstance(key, str):
            return Verdict(outcome="bad_type", error=f"{by} returned a dict with the key {key!r:.50}; keys are str")
        if isinstance(value, str):
            feedback[key] = str(value)
            continue
        extra = _read_number(value, f"{by} returned a dict whose {key!r:.50} is")
        if extra.score is None:
            return extra
        scores[key] = extra.score
    return msgspec.structs.replace(verdict, scores=scores, feedback=feedback)


def read_check(answer: object) -> Verdict:
    """Judge what `check` returned.

    None or True passes, False or a reason fails, a number replaces the score, and so does a dict as from `score`.
    """
    if answer is None:
        return Verdict(outcome="scored")
    if isinstance(answer, str):
        return Verdict(outcome="check_failed", error=answer or "the strict check failed")
    if _is_bool(answer):
        return Verdict(outcome="scored") if answer else Verdict(outcome="check_failed", error="the strict check failed")
    verdict = read_score(answer, "check")
    if verdict.outcome == "scored":
        return verdict
    return Verdict(outcome="scorer_failed", error=f"{verdict.error}, or None, True, False or a reason")


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or (type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"))


def _read_number(value: Any, saying: str) -> Verdict:
    if _is_bool(value) or not isinstance(value, Real):
        kind = type(value).__name__
        return Verdict(outcome="bad_type", error=f"{saying} {value!r:.80} ({kind}); return a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        return Verdict(outcome="nonfinite", error=f"{saying} {number}; return a finite number")
    return Verdict(outcome="scored", score=number)
