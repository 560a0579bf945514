"""What a run's tables hold that a person should look at: scores too good, scores that do not repeat, dead letters.

A table detector names the table that it reads, is called with its rows and `flag`, and is pure. `run.detect(...)` reads
the table and keeps what was flagged; any callable with an attribute `table` is one. One that has a parameter `config`
is given the run's arguments by it, as the table `runs` has them.

A score is not wrong because it is good: what is flagged stays where it is until somebody has said `reject`. Then it is
out of the ranking: at once while the search goes on, and with `run.finalize()` where it is over.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol

from epsilon_lab.arguments import number, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.reducers.flag import Flag

Rows = Sequence[Mapping[str, Any]]


class Detector(Protocol):
    """Looks for something in a table."""

    @property
    def table(self) -> str:
        """The table that it reads."""
        ...

    def __call__(self, rows: Rows, flag: Flag) -> object:
        """Flag what is found in the rows of one run, dicts of column to value, NULL as None."""
        ...


@dataclass(frozen=True, kw_only=True)
class SuspiciousScore:
    """Candidates whose score is too good: better than the best known value, or far beyond the other candidates'.

    How far is measured by the modified z-score, 0.6745 (x - median) / MAD, where MAD is the median distance from the
    median; if that is 0, by (x - median) / (1.2533 x mean distance). B. Iglewicz and D. Hoaglin, "How to Detect and
    Handle Outliers" (1993), call 3.5 an outlier.

    Args:
        direction: Which scores are good, `maximize` or `minimize`; None: as the run's problem says.
        best_known: The best value anybody has found; None: what the run's problem says of it, if anything.
        z: From which modified z-score on; None not to look at the others.
        least: Scored candidates needed for that.

    Raises:
        InvalidInput: An argument has a wrong type or value.
    """

    direction: Literal["maximize", "minimize"] | None = None
    best_known: float | None = None
    z: float | None = 3.5
    least: int = 8

    table: ClassVar[str] = "candidates"

    def __post_init__(self) -> None:
        if self.direction not in ("maximize", "minimize", None):
            raise InvalidInput(
                "SuspiciousScore direction", f"must be maximize, minimize or None, got {self.direction!r}"
            )
        if self.best_known is not None:
            number("SuspiciousScore best_known", self.best_known)
        if self.z is not None:
            number("SuspiciousScore z", self.z, least=0, above=True)
        whole("SuspiciousScore least", self.least, least=3)

    def __call__(self, rows: Rows, flag: Flag, config: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Flag them, by the candidate's id."""
        sign = -1 if (self.direction or config.get("direction")) == "minimize" else 1
        best_known = config.get("best_known") if self.best_known is None else self.best_known
        scored = [row for row in rows if row["score"] is not None]
        far = _beyond([sign * row["score"] for row in scored]) if len(scored) >= self.least else [0.0] * len(scored)
        for row, z in zip(scored, far, strict=True):
            reasons = []
            if best_known is not None and sign * row["score"] > sign * best_known:
                reasons.append(f"better than the best known value {best_known:.10g}")
            if self.z is not None and z > self.z:
                reasons.append(f"{z:.3g} robust deviations beyond the other candidates")
            if reasons:
                flag(
                    key=row["candidate_id"],
                    kind="suspicious score",
                    question=f"Is the score {row['score']:.10g} of {row['candidate_id']} genuine?",
                    options=["genuine", "reject", "scorer is wrong"],
                    evidence=_seen(row),
                    reason="; ".join(reasons),
                    score=z,
                )


@dataclass(frozen=True, kw_only=True)
class UnstableScore:
    """Scores that do not repeat: one code with several scores of one scorer, a score that a second measurement did not
    give again, a score that the strict check refused.

    Args:
        rel_tol: How far apart two scores may be, as a share of the larger.
        abs_tol: The same, absolutely.

    Raises:
        InvalidInput: An argument has a wrong type or value.
    """

    rel_tol: float = 0.05
    abs_tol: float = 0.0

    table: ClassVar[str] = "candidates"

    def __post_init__(self) -> None:
        number("UnstableScore rel_tol", self.rel_tol, least=0)
        number("UnstableScore abs_tol", self.abs_tol, least=0)

    def __call__(self, rows: Rows, flag: Flag) -> None:
        """Flag them, by the candidate's id, or that of the first with the code."""
        codes: dict[tuple[Any, Any], list[Mapping[str, Any]]] = {}
        for row in rows:
            if row["score"] is not None and row["code_hash"]:
                codes.setdefault((row["code_hash"], row["scorer_hash"]), []).append(row)
        again = {
            same[0]["candidate_id"]: [row["score"] for row in same]
            for same in codes.values()
            if len(same) > 1 and self._differ([row["score"] for row in same])
        }
        for row in rows:
            scores_too = row["scores"] or {}
            first = scores_too.get("first_score")
            reasons = []
            if scores := again.get(row["candidate_id"]):
                reasons.append(f"the same code has the scores {', '.join(f'{score:.10g}' for score in scores)}")
            if first is not None and row["score"] is not None and self._differ([first, row["score"]]):
                reasons.append(f"measured once {first:.10g}, then {row['score']:.10g}")
            if row["outcome"] == "check_failed" and "rejected" not in scores_too:  # nobody needs to be asked again
                reasons.append(f"the strict check refused it: {row['error'] or 'no reason given'}")
            if reasons:
                flag(
                    key=row["candidate_id"],
                    kind="unstable score",
                    question=f"Does the score of {row['candidate_id']} stand?",
                    options=["stands", "reject", "scorer is wrong"],
                    evidence=_seen(row),
                    reason="; ".join(reasons),
                )

    def _differ(self, scores: Sequence[float]) -> bool:
        low, high = min(scores), max(scores)
        return high - low > max(self.rel_tol * max(abs(low), abs(high)), self.abs_tol)


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """Tasks that took their workers down so often that they are not tried any more; `run.requeue` tries them again."""

    table: ClassVar[str] = "dead_letters"

    def __call__(self, rows: Rows, flag: Flag) -> None:
        """Flag them, by the task's id."""
        for row in rows:
            flag(
                key=row["task_id"],
                kind="dead letter",
                question=f"What becomes of {row['task_id']}, which took its worker down {row['attempts']} times?",
                options=["try again", "give up"],
                evidence={name: row[name] for name in ("leaf", "attempts", "error", "history")},
                reason=row["error"] or "",
            )


def _beyond(values: Sequence[float]) -> list[float]:
    """How many robust deviations each lies above the median."""
    middle = statistics.median(values)
    apart = [abs(value - middle) for value in values]
    scale = statistics.median(apart) / 0.6745 or statistics.fmean(apart) * 1.2533
    return [(value - middle) / scale if scale else 0.0 for value in values]


def _seen(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("score", "scores", "feedback", "generation", "proposer", "source_ref", "code_hash", "checked", "outcome")
    return {name: row[name] for name in names if row.get(name) is not None}
