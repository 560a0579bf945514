"""Time, chance and the processes of a made-up world: everything that happens is in one heap, in one order.

A seed is the whole of a world: every delay and every fault is drawn from dice that it names, and nothing reads a real
clock, so that a failing seed happens again exactly as it did. A process can be stopped (SIGSTOP, a laptop's lid, a cell
that holds the interpreter: what would have happened in it happens when it goes on) and killed (it never happens).
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

from epsilon_lab.dice import dice

Deed = Callable[[], object]


class World:
    """A clock that jumps from one event to the next.

    It is a `Clock`: `monotonic` are the seconds that passed, `wall` is what a person may set.

    Args:
        seed: Makes this world.
        tell: Called with one line for each thing worth telling; None to keep no more than their digest.

    Attributes:
        now: Seconds; it never goes back.
        wall_shift: What `wall` is ahead of `now`; a fault may change it.
        problems: What should not have happened.
    """

    def __init__(self, seed: int, tell: Callable[[str], object] | None = None) -> None:
        self.seed = seed
        self.now = 1_000.0
        self.wall_shift = 1_790_000_000.0
        self.problems: list[str] = []
        self._tell = tell
        self._heap: list[tuple[float, int, Deed]] = []
        self._numbers = itertools.count()
        self._digest = hashlib.sha256()

    def dice(self, *path: str | int) -> Random:
        """Make the dice of one purpose."""
        return dice(self.seed, *path)

    def monotonic(self) -> float:
        """Seconds that passed."""
        return self.now

    def wall(self) -> float:
        """Seconds since the epoch, as far as this world's clock on the wall knows."""
        return self.now + self.wall_shift

    def say(self, line: str) -> None:
        """Tell what happens; two worlds of one seed tell the same."""
        line = f"{self.now:11.4f} {line}"
        self._digest.update(line.encode())
        if self._tell is not None:
            self._tell(line)

    def accuse(self, problem: str) -> None:
        """Tell what should not have happened."""
        self.problems.append(problem)
        self.say(f"PROBLEM {problem}")

    @property
    def digest(self) -> str:
        """Of all that was told so far."""
        return self._digest.hexdigest()

    def at(self, when: float, deed: Deed) -> None:
        """Do something then, behind all that was to be done at the same time."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._numbers), deed))

    def after(self, seconds: float, deed: Deed) -> None:
        """Do something in so many seconds."""
        self.at(self.now + seconds, deed)

    def run(self, until: Callable[[], bool], *, within_s: float) -> bool:
        """Let time pass until something is so; False where it is not within so many seconds."""
        end = self.now + within_s
        while not until():
            if not self._heap or self._heap[0][0] > end:
                return False
            self.now, _, deed = heapq.heappop(self._heap)
            deed()
        return True


class Process:
    """Something whose deeds can be put off, and called off.

    Attributes:
        is_alive: Until it is killed.
        is_stopped: While its deeds are put off.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_alive = True
        self.is_stopped = False
        self._put_off: deque[Deed] = deque()

    def at(self, when: float, deed: Deed) -> None:
        """Do something then, or when the process goes on, or never."""
        self.world.at(when, partial(self._let, deed))

    def after(self, seconds: float, deed: Deed) -> None:
        """Do something in so many seconds."""
        self.at(self.world.now + seconds, deed)

    def stop(self) -> None:
        """Put off its deeds."""
        self.is_stopped = True

    def go_on(self) -> None:
        """Do what was put off, in order, and what comes now."""
        self.is_stopped = False
        while self._put_off:
            self.at(self.world.now, self._put_off.popleft())

    def kill(self) -> None:
        """Call off all its deeds."""
        self.is_alive = False
        self._put_off.clear()

    def _let(self, deed: Deed) -> None:
        if not self.is_alive:
            return
        if self.is_stopped:
            self._put_off.append(deed)
        else:
            deed()
