"""An event loop whose time is the world's, so that the real broker's own `async` code runs in it unchanged.

It polls nothing, since nothing in a simulation is a socket; and it never waits, since it asks to be turned when its
next timer is due. It belongs to one process of the world: while that is stopped the loop stands still with it, and
when it goes on, its timers are late by as much.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

from epsilon_lab.simulation.world import Process

if TYPE_CHECKING:
    from typing import TypeVarTuple, Unpack

    Ts = TypeVarTuple("Ts")


class _Selector:
    """Nothing is ever ready but what the loop itself has to do."""

    def select(self, timeout: float | None) -> list[Any]:  # noqa: ARG002
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop that is turned by the world.

    Args:
        process: Whose loop it is.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process
        self._selector = _Selector()
        self._clock_resolution = 1e-9
        self._next_turn = math.inf
        self._is_turning = False

    def time(self) -> float:
        """Seconds of the world."""
        return self._process.world.now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Call at this very moment, unless the process is stopped."""
        handle = super().call_soon(callback, *args, context=context)
        self._ask_for_turn(self.time())
        return handle

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call at that moment of the world."""
        handle = super().call_at(when, callback, *args, context=context)
        self._ask_for_turn(when)
        return handle

    def end(self) -> None:
        """Cancel what still runs in it, whatever became of its process, and close it."""
        for task in asyncio.all_tasks(self):
            task.cancel()
        self._turn_until_idle()
        self.close()

    def _ask_for_turn(self, when: float) -> None:
        if when < self._next_turn and not self._is_turning:
            self._next_turn = when
            self._process.at(when, lambda: self._turn(when))

    def _turn(self, asked: float) -> None:
        if asked != self._next_turn or self.is_closed():
            return  # an earlier turn took this one's place
        self._turn_until_idle()
        self._next_turn = math.inf
        if self._scheduled:
            self._ask_for_turn(self._scheduled[0].when())

    def _turn_until_idle(self) -> None:
        self._is_turning = True
        try:
            while True:
                super().call_soon(self.stop)
                self.run_forever()
                if not self._ready:
                    return
        finally:
            self._is_turning = False

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody else waits in it."""
