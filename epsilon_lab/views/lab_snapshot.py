"""A lab at a glance: what waits, what is worked on and by whom, and what went wrong, as one frozen value."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from epsilon_lab.broker.members import WorkerRow
from epsilon_lab.broker.stats import Glance, Stats
from epsilon_lab.errors import LabError

REMEMBERED_S = 120.0
"""Seconds of the past that a live view draws."""


MEANINGS = {
    "queued": "tasks that wait for a worker",
    "delayed": "tasks that wait for their time: a delay, or a pause before another attempt",
    "running": "tasks that are worked on",
    "prefetched": "tasks that a worker will begin next",
    "payload_bytes": "size of the inputs of all of these",
    "rate": "tasks completed in a second, lately",
    "completed": "tasks completed since the lab was opened",
    "assigned": "attempts given to workers",
    "dead": "tasks given up because they took their workers down; see lab.dead_letters",
    "crashed": "attempts that took their worker process down",
    "failed": "attempts that raised, or ran out of their time",
    "expired": "attempts whose worker fell silent",
    "overdue": "tasks that could not be begun in their time",
    "redelivered": "attempts that were not their task's first",
    "adopted": "attempts that a worker went on with while the lab was opened anew",
    "stale": "answers that came too late and were not used",
    "strangers": "times someone was refused who had no key that is known here, or a name of the lab's own",
    "stalls": "times this process kept the lab waiting",
    "stalled_s": "seconds that these took",
}
"""What each figure of `Stats` says to someone who knows nothing of brokers, the everyday ones first."""

TROUBLES = ("dead", "crashed", "failed", "expired", "overdue", "redelivered", "stale", "strangers", "stalls")
"""Figures that are 0 while all goes as planned."""


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
        look: Callable[[], Glance | None],
        now: Callable[[], float],
    ) -> None:
        self._path = path
        self._look = look
        self._now = now
        self._past: deque[Moment] = deque()
        self._last: LabSnapshot | None = None

    def __call__(self) -> LabSnapshot:
        """Take a look; a lab that was closed is shown as it was last seen.

        Raises:
            LabError: It was closed before the first look.
        """
        seen = self._look()
        if seen is None:
            if self._last is None:
                raise LabError(f"the lab at {self._path} is closed; there is nothing to look at")
            self._last = replace(self._last, is_live=False, workers=(), runs=())
            return self._last
        stats, workers, runs = seen
        now = self._now()
        self._past.append(Moment(now, stats.queued + stats.prefetched, stats.rate))
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
