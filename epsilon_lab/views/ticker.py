"""Keeps live panels up to date: one thread, a few looks a second, whatever the kernel's cells and loops are doing."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

TICK_S = 0.3
"""Seconds between looks; a notebook server drops messages that come faster than it likes."""


class Ticker:
    """Calls what it is given until each says that it is done.

    The thread starts with the first and ends with the last, so that a lab nobody looks at has none.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._updates: list[Callable[[], bool]] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, update: Callable[[], bool]) -> None:
        """Call `update` until it returns False; one that is being called already is not called twice."""
        with self._guard:
            if update in self._updates or self._stop.is_set():
                return
            self._updates.append(update)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lab-view", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            for update in list(self._updates):
                if not self._wants_more(update):
                    with self._guard:
                        self._updates.remove(update)
            with self._guard:
                if not self._updates:
                    self._thread = None
                    return

    def _wants_more(self, update: Callable[[], bool]) -> bool:
        try:
            return update()
        except Exception as error:  # noqa: BLE001 - a view that cannot be drawn must not end the others
            warnings.warn(f"a live view ended: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=1)
            return False
