"""How a search's scores developed, as plain numbers: what every figure draws, on paper and live.

Candidates stand in the order of their generation and id, not of their arrival, so that the same search draws the same
curve at any parallelism.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple


class Point(NamedTuple):
    """One candidate."""

    candidate_id: str
    generation: int
    strategy: str
    score: float | None
    outcome: str
    checked: bool | None


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


def curve(points: Iterable[Point], *, direction: str = "maximize", best_known: float | None = None) -> Curve:
    """Make a curve from candidates in any order."""
    placed = list(enumerate(sorted(points, key=lambda p: (p.generation, p.candidate_id != "seed", p.candidate_id))))
    scored = [
        (place, point)
        for place, point in placed
        if point.outcome == "scored" and point.score is not None and math.isfinite(point.score)
    ]
    duplicates = tuple(place for place, point in placed if point.outcome == "duplicate")
    kept = {place for place, _ in scored}.union(duplicates)
    return Curve(
        direction=direction,
        best_known=best_known,
        size=len(placed),
        scored=tuple((place, float(point.score or 0), point.strategy) for place, point in scored),
        best=_best(scored, direction),
        spans=tuple(_spans(placed)),
        failed=tuple(place for place, _ in placed if place not in kept),
        duplicates=duplicates,
    )


def _best(scored: list[tuple[int, Point]], direction: str) -> tuple[tuple[int, float], ...]:
    checked = [(place, point) for place, point in scored if point.checked]
    steps: list[tuple[int, float]] = []
    for place, point in checked or scored:
        score = float(point.score or 0)
        if not steps or (score < steps[-1][1] if direction == "minimize" else score > steps[-1][1]):
            steps.append((place, score))
    return tuple(steps)


def _spans(placed: list[tuple[int, Point]]) -> Iterable[Span]:
    for generation, members in groupby(placed, key=lambda item: item[1].generation):
        group = list(members)
        scores = [p.score for _, p in group if p.outcome == "scored" and p.score is not None and math.isfinite(p.score)]
        yield Span(generation, group[0][0], group[-1][0] + 1, statistics.median(scores) if scores else None)
