"""How a search's scores developed, as plain numbers: what every figure draws, on paper and live.

Candidates stand in the order of their generation and id, not of their arrival, so that the same search draws the same
curve at any parallelism.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from epsilon_lab.formats import number

LIVE = ("running", "paused")
"""The states of a run that may still change."""


CONTROL = "random variation"
"""What a search's controls are called where both are shown."""


class Point(NamedTuple):
    """One candidate."""

    candidate_id: str
    generation: int
    strategy: str
    score: float | None
    outcome: str
    checked: bool | None
    judged: bool = True
    """Whether the program was put to the judge: no duplicate was, and nothing that was not proposed."""


class Span(NamedTuple):
    """One generation's stretch of the curve."""

    generation: int
    start: int
    """Place of its first candidate."""

    stop: int
    """Place behind its last."""

    median: float | None
    """Median of its scored candidates."""


@dataclass(frozen=True)
class Curve:
    """A search's scores; a candidate's place is its number, the seed program's is 0."""

    direction: str = "maximize"
    best_known: float | None = None
    size: int = 0
    """Candidates so far."""

    scored: tuple[tuple[int, float, str], ...] = ()
    """(place, score, strategy) of every scored candidate."""

    best: tuple[tuple[int, float], ...] = ()
    """(place, score) where the best score improved; before any check was passed, the best unchecked."""

    spans: tuple[Span, ...] = ()
    failed: tuple[int, ...] = ()
    """Places of candidates without a score."""

    duplicates: tuple[int, ...] = ()
    """Places of programs that had been judged already."""

    def limits(self) -> tuple[float, float]:
        """Lowest and highest score to draw: all the good ones, and the bad ones unless they would flatten the rest."""
        scores = sorted(score for _, score, _ in self.scored)
        if not scores:
            return (0.0, 1.0) if self.best_known is None else (self.best_known - 1.0, self.best_known + 1.0)
        flip = self.direction == "minimize"
        if flip:
            scores = [-score for score in reversed(scores)]
        top = scores[-1] if self.best_known is None else max(scores[-1], -self.best_known if flip else self.best_known)
        usual = scores[len(scores) // 10]
        bottom = next(score for score in scores if score >= usual - 2 * (top - usual))
        margin = 0.06 * (top - bottom) or abs(top) * 0.05 or 1.0
        low, high = bottom - margin, top + margin
        return (-high, -low) if flip else (low, high)


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: its programs in the order above, without those that never met the judge."""

    run_id: str
    status: str
    curve: Curve = Curve()
    """Place 0 is the seed program, place n the n-th program judged."""

    @property
    def evaluations(self) -> int:
        """Programs judged, the seed program not counted."""
        return max(self.curve.size - 1, 0)

    @property
    def best(self) -> float | None:
        """The best score so far."""
        return self.curve.best[-1][1] if self.curve.best else None


@dataclass(frozen=True)
class Versus:
    """A search and random variation of its seed program, on one axis: programs judged."""

    search: Arm
    control: Arm

    @property
    def extent(self) -> str:
        """How long either went on."""
        search, control = self.search.evaluations, self.control.evaluations
        if search == control:
            return f"{search:,} evaluations each"
        return f"{search:,} and {control:,} evaluations" + " so far" * (self.control.status in LIVE)

    @property
    def sentence(self) -> str:
        """The comparison in words; it claims no more than that these are the figures."""
        best = number(self.search.best), number(self.control.best)
        return f"the search reached {best[0]}, {CONTROL} {best[1]}, at {self.extent}"

    def limits(self) -> tuple[float, float]:
        """Lowest and highest score to draw: all that was ever the best, and half as much again on the worse side."""
        curves = (self.search.curve, self.control.curve)
        bests = [score for curve in curves for _, score in curve.best]
        bests += [curve.best_known for curve in curves if curve.best_known is not None]
        low, high = min(bests, default=0.0), max(bests, default=0.0)
        if low == high:
            return self.search.curve.limits()
        better, worse = 0.06 * (high - low), 0.5 * (high - low)
        return (low - better, high + worse) if curves[0].direction == "minimize" else (low - worse, high + better)


def curve(points: Iterable[Point], *, direction: str = "maximize", best_known: float | None = None) -> Curve:
    """Make a curve from candidates in any order; one pass, since a live panel makes one several times a second."""
    scored: list[tuple[int, float, str]] = []
    failed: list[int] = []
    duplicates: list[int] = []
    spans: list[Span] = []
    leading: list[tuple[int, float]] = []
    confirmed: list[tuple[int, float]] = []
    sign = -1.0 if direction == "minimize" else 1.0
    scores: list[float] = []
    place = start = generation = -1
    for place, point in enumerate(sorted(points, key=_order)):
        if point.generation != generation:
            if place:
                spans.append(Span(generation, start, place, statistics.median(scores) if scores else None))
            generation, start, scores = point.generation, place, []
        score = point.score
        if point.outcome == "scored" and score is not None and math.isfinite(score):
            scored.append((place, score, point.strategy))
            scores.append(score)
            if not leading or sign * score > sign * leading[-1][1]:
                leading.append((place, score))
            if point.checked and (not confirmed or sign * score > sign * confirmed[-1][1]):
                confirmed.append((place, score))
        elif point.outcome == "duplicate":
            duplicates.append(place)
        else:
            failed.append(place)
    if place >= 0:
        spans.append(Span(generation, start, place + 1, statistics.median(scores) if scores else None))
    return Curve(
        direction=direction,
        best_known=best_known,
        size=place + 1,
        scored=tuple(scored),
        best=tuple(confirmed or leading),
        spans=tuple(spans),
        failed=tuple(failed),
        duplicates=tuple(duplicates),
    )


def _order(point: Point) -> tuple[int, bool, str]:
    return point.generation, point.candidate_id != "seed", point.candidate_id
