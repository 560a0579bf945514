"""What happened so far, in numbers, and how it stands: for panels and tables, never for rules."""

from __future__ import annotations

from typing import NamedTuple

from epsilon_lab.broker.members import WorkerRow


class Counts:
    """What happened since the broker began."""

    __slots__ = (
        "_before",
        "adopted",
        "assigned",
        "crashed",
        "expired",
        "failed",
        "overdue",
        "rate",
        "redelivered",
        "requeued",
        "settled",
        "stale",
        "stalled_s",
        "stalls",
    )

    def __init__(self) -> None:
        self.settled = {"completed": 0, "failed": 0, "dead": 0, "cancelled": 0}
        self.assigned = self.redelivered = self.adopted = self.requeued = self.stale = 0
        self.failed = self.crashed = self.expired = self.overdue = self.stalls = 0
        self.stalled_s = self.rate = 0.0
        self._before = (0.0, 0)

    def measure(self, now: float) -> None:
        """Measure the rate, over the time since this was last called."""
        then, before = self._before
        completed = self.settled["completed"]
        if now > then:
            self.rate = (completed - before) / (now - then)
            self._before = (now, completed)


class Stats(NamedTuple):
    """How a broker stands, and what happened since it began."""

    queued: int
    """Tasks that are ready and in nobody's hands, those of paused runs too."""

    delayed: int
    """Tasks that wait for their time: a delay, a pause before another attempt, a worker that may come back."""

    running: int
    """Tasks that are worked on, as far as anyone can know."""

    prefetched: int
    """Tasks that wait in a worker's hands."""

    payload_bytes: int
    """What the payloads of all of these weigh."""

    rate: float
    """Tasks completed in a second, lately."""

    completed: int
    dead: int
    """Tasks given up because they took their workers down, those aside that were requeued."""

    assigned: int
    """Attempts handed out."""

    redelivered: int
    """Attempts handed out that were not their task's first."""

    adopted: int
    """Attempts that a worker came back with and went on with."""

    failed: int
    """Attempts that the task's own code failed, or that exceeded a limit."""

    crashed: int
    """Attempts that took their worker down."""

    expired: int
    """Attempts whose worker fell silent beyond its lease."""

    overdue: int
    """Tasks that were not begun in time."""

    stale: int
    """Answers that came too late, and were not applied."""

    stalls: int
    """How often the broker itself was late."""

    stalled_s: float
    """By how much, all in all."""

    strangers: int = 0
    """Connections refused for want of a known key, and frames under a name that is not their sender's to bear."""


class Glance(NamedTuple):
    """A broker at one moment, as whoever looks on sees it."""

    stats: Stats
    workers: list[WorkerRow]
    live: dict[str, str]
    """Live runs: run id -> name."""
