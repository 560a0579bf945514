"""How long whoever asks a question waits for its answer: until time is up, or Ctrl-C comes.

DuckDB looks for Ctrl-C between two of a query's pieces of work, and one piece may take hours; told from another thread
it ends at once. What is not DuckDB's (journals read, files taken in) must not be torn out of the middle, or nobody
knows how far it came. So one thread does the work, the one that asked waits, and when its patience is over it says so:
a query is interrupted, and all else stops at the next place where it can be gone on with.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import duckdb

_Answer = TypeVar("_Answer")

_LONG_S = 3.0
"""Seconds after which whoever waits is told what for."""

_INTERRUPTED_S = 0.02

_LEFT_S = 5.0
"""Seconds that whoever works gets to end. One call of a function is never interrupted (`repeat('x', 2000000000)`), nor
is a disk that does not answer: such work is left to itself then, and ends when it does."""


class GivenUp(Exception):
    """Patience is over, which is how the one who works hears of it."""


class Patience:
    """Whether anyone still waits.

    Attributes:
        waits_for: What takes long, in words; nothing where it is no matter.
        notes: What the caller is told in the end, as warnings.
    """

    def __init__(self) -> None:
        self.waits_for = ""
        self.notes: list[str] = []
        self._is_over = False
        self._changing = threading.Lock()
        self._running: duckdb.DuckDBPyConnection | None = None

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more."""
        return self._is_over

    def check(self) -> None:
        """Go on only if someone waits.

        Raises:
            GivenUp: Nobody does.
        """
        if self._is_over:
            raise GivenUp

    @contextmanager
    def running(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Have what runs on a connection interrupted when patience is over.

        Raises:
            GivenUp: As for `check`.
        """
        self.check()
        self._running = connection
        try:
            yield
        finally:
            with self._changing:  # whoever interrupts it now has it open
                self._running = None

    def end(self) -> None:
        """Say that nobody waits any more; again and again, since only what has begun hears of it."""
        self._is_over = True
        with self._changing:
            if self._running is not None:
                self._running.interrupt()


def answered(ask: Callable[[Patience], _Answer], timeout_s: float | None = None) -> _Answer:
    """Have something done for as long as its caller waits: to the end of time, or until Ctrl-C in the main thread.

    Args:
        ask: Does it; by a thread of its own where patience can end.
        timeout_s: Seconds; None for ever.

    Raises:
        TimeoutError: Time was up.
    """
    patience = Patience()
    try:
        if timeout_s is None and threading.current_thread() is not threading.main_thread():
            return ask(patience)
        return _waited_for(ask, patience, timeout_s)
    finally:
        for note in patience.notes:
            warnings.warn(note, stacklevel=5)


def _waited_for(ask: Callable[[Patience], _Answer], patience: Patience, timeout_s: float | None) -> _Answer:
    answer: Future[_Answer] = Future()

    def work() -> None:
        try:
            answer.set_result(ask(patience))
        except BaseException as error:  # noqa: BLE001 - for whoever waits
            answer.set_exception(error)

    thread = threading.Thread(target=work, name="query", daemon=True)
    began = time.monotonic()
    thread.start()
    try:
        wait([answer], _LONG_S if timeout_s is None else min(_LONG_S, timeout_s))
        if not answer.done() and patience.waits_for:
            warnings.warn(patience.waits_for, RuntimeWarning, stacklevel=6)
        return answer.result(None if timeout_s is None else max(0.0, began + timeout_s - time.monotonic()))
    finally:
        left_at = time.monotonic() + _LEFT_S
        while not answer.done() and time.monotonic() < left_at:
            patience.end()
            wait([answer], _INTERRUPTED_S)
        if answer.done():
            thread.join()
