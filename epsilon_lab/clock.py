"""Time by the front door: rules take `now`, shells ask a clock, tests own one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Two readings, never mixed: one for people, one for deadlines."""

    def wall(self) -> float:
        """Seconds since the Unix epoch: for journals and tables, never for deadlines."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment: for deadlines; a changed system clock does not move it."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment."""
        return time.monotonic()


@dataclass
class ManualClock:
    """A clock that moves only when told to."""

    seconds: float = 1_000_000.0

    def wall(self) -> float:
        """The seconds set so far."""
        return self.seconds

    def monotonic(self) -> float:
        """The seconds set so far."""
        return self.seconds

    def advance(self, by: float) -> None:
        """Move forward by `by` seconds."""
        self.seconds += by
