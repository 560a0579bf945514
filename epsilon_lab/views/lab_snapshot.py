"""A lab at a glance: what waits, what is worked on and by whom, and what went wrong, as one frozen value."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from epsilon_lab.broker.members import WorkerRow
from epsilon_lab.broker.stats import Stats

REMEMBERED_S = 120.0
"""Seconds of the past that a live view draws."""


@dataclass(frozen=True)
class Moment:
    """A lab at one moment of its past."""

    at: float
    """Seconds on a clock that never goes back."""

    waiting: int
    """Tasks that waited for a worker."""

    rate: float
    """Tasks completed in a second."""


@dataclass(frozen=True)
class LabSnapshot:
    """A lab at one moment, and what led there."""

    path: str
    is_live: bool
    """Whether it may still change."""

    stats: Stats
    workers: tuple[WorkerRow, ...]
    runs: tuple[tuple[str, str], ...]
    """Live runs: run id and name."""

    past: tuple[Moment, ...] = ()
    """Oldest first, up to now."""


class LabObserver:
    """Takes snapshots of one lab, and remembers what they need of the past.

    Args:
        path: The workspace.
        look: The lab's statistics, workers and live runs; None once it is closed.
        now: Seconds on a clock that never goes back.
    """

    def __init__(
        self,
        path: str,
        look: Callable[[], tuple[Stats, list[WorkerRow], dict[str, str]] | None],
        now: Callable[[], float],
    ) -> None:
        self._path = path
        self._look = look
        self._now = now
        self._past: deque[Moment] = deque()
        self._last = LabSnapshot(path, is_live=False, stats=Stats.nothing(), workers=(), runs=())

    def __call__(self) -> LabSnapshot:
        """Take a look; a lab that is closed is shown as it was last seen."""
        seen = self._look()
        if seen is None:
            self._last = LabSnapshot(self._path, is_live=False, stats=self._last.stats, workers=(), runs=(), past=self._last.past)
            return self._last
        stats, workers, runs = seen
        now = self._now()
        self._past.append(Moment(now, stats.queued + stats.delayed + stats.prefetched, stats.rate))
        while now - self._past[0].at > REMEMBERED_S:
            self._past.popleft()
        self._last = LabSnapshot(
            self._path,
            is_live=True,
            stats=stats,
            workers=tuple(workers),
            runs=tuple(sorted(runs.items())),
            past=tuple(self._past),
        )
        return self._last
