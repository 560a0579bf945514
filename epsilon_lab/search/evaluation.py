"""What judging says about one program: an outcome, and a score only where the outcome is `scored`.

A crash, a timeout, a NaN and a cheat are different outcomes, none of them a score.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from epsilon_lab.messages.events import CandidateSettled
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import as_json

Outcome = Literal[
    "scored",
    "invalid",
    "nonfinite",
    "bad_type",
    "too_large",
    "crashed",
    "timeout",
    "memory",
    "cheat",
    "check_failed",
    "proposal_failed",
    "scorer_failed",
    "duplicate",
]


class EvaluateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of an `evaluate` task (as JSON)."""

    problem_ref: str
    """Run-directory reference of the packed problem; see judging.py."""

    source_ref: str
    """Run-directory reference of the program."""

    seed: int
    incumbent: float | None = None
    """Best checked score when the generation began. A score that beats it is measured again where it is noisy, and
    put to the strict check, before it is reported."""

    must_check: bool = False
    """Put the score to the strict check whatever it is (the seed program)."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The output of an `evaluate` task (as JSON)."""

    outcome: Outcome
    score: float | None = None
    scores: dict[str, float] = {}
    """Further numbers the scorer gave; `first_score` where a noisy score was measured again."""

    feedback: dict[str, str] = {}
    """Strings the scorer gave; shown to proposers."""

    error: str = ""
    """One line, where there is no score."""

    traceback: str = ""
    stdout: str = ""
    """Tail of what the program printed."""

    checked: bool | None = None
    scorer_hash: str = ""
    duration_s: float | None = None
    """Wall seconds of the fastest run of the program."""

    cpu_s: float | None = None
    """CPU seconds of the cheapest run, measured from outside."""

    peak_mb: float | None = None
    isolation: str = ""
    """Name of the confinement tier it ran under."""


_ROW = (
    "outcome",
    "score",
    "scores",
    "feedback",
    "error",
    "traceback",
    "stdout",
    "checked",
    "duration_s",
    "cpu_s",
    "peak_mb",
)


def evaluate_task(candidate_id: str, request: EvaluateRequest, *, limit_s: float) -> TaskSpec:
    """Make the task that judges a candidate's program.

    Args:
        candidate_id: The candidate.
        request: What is judged, and by which problem.
        limit_s: Seconds that it may take.
    """
    return TaskSpec(
        task_id=f"evaluate-{candidate_id}",
        kind="evaluate",
        lane="process",
        entry="epsilon_lab.search.judging:evaluate",
        payload=as_json(request),
        priority=1,
        time_limit_s=limit_s,
        prefetch=False,
    )


def evaluation_of(outcome: TaskOutcome) -> Evaluation:
    """What a settled `evaluate` task said; where it said nothing, that the scorer failed."""
    if outcome.status == "completed" and outcome.output is not None:
        return msgspec.json.decode(outcome.output.data, type=Evaluation)
    error = outcome.failure.error if outcome.failure else f"the evaluation was {outcome.status}"
    return Evaluation(outcome="scorer_failed", error=error)


def judged(row: CandidateSettled, evaluation: Evaluation) -> CandidateSettled:
    """A candidate's row with what judging said."""
    said = {name: getattr(evaluation, name) for name in _ROW}
    return msgspec.structs.replace(
        row, **said, scorer_hash=evaluation.scorer_hash or None, isolation=evaluation.isolation or None
    )
