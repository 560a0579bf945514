"""The right to a workspace where locks cannot be relied on: a file that says who has it, and until when.

Whoever wants the workspace links a finished file to the lease's name, which fails where there is one: of two, one
succeeds. The holder puts a later expiry there again and again. A lease that has run out is moved aside by its one
successor, looked at once more there, and put back if it was another than the one that had run out.

Unlike a lock, a lease can be lost: a machine that stood still for longer than the term finds someone else's name in it.
That is told at once, and the fences of epochs keep what it may still answer from being believed. The clocks of the
machines may differ by a known allowance. A holder of this machine whose process has ended is not waited for.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from epsilon_lab.clock import Clock, SystemClock

TERM_S = 120.0
"""Seconds for which a lease is held without being renewed: a cell may hold the interpreter for long."""

RENEW_S = 15.0
"""Seconds between renewals."""

SKEW_S = 30.0
"""Seconds by which the clocks of two machines may differ."""


class Holding(msgspec.Struct, frozen=True):
    """What a lease's file says."""

    token: str
    """Drawn anew each time the lease is taken."""

    until: float
    """Wall seconds since the epoch, on the holder's clock."""


class Taken(NamedTuple):
    """Why a lease cannot be had."""

    for_s: float
    """Seconds until it runs out, if it is not renewed."""


class Lease:
    """A lease on a path, renewed by a thread of its own while it is held.

    Args:
        path: The file; its directory exists.
        lost: Called, in that thread, once someone else holds the lease.
        clock: Whose wall clock the expiry is told by.
        renew_s: Seconds between renewals.
    """

    def __init__(
        self, path: Path, lost: Callable[[], object], *, clock: Clock | None = None, renew_s: float = RENEW_S
    ) -> None:
        self.path = path
        self._lost = lost
        self._clock = clock or SystemClock()
        self._renew_s = renew_s
        self._token = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, is_gone: Callable[[], bool] = lambda: False) -> Taken | None:
        """Take the lease; or say for how long someone else has it.

        Args:
            is_gone: Whether its holder is known to have ended.

        Raises:
            OSError: The file system does not let it.
        """
        self._token = secrets.token_hex(8)
        while not self._link():
            holding = self._read(self.path)
            left = 0.0 if holding is None else holding.until + SKEW_S - self._clock.wall()
            if holding is not None and left > 0 and not is_gone():
                return Taken(left)
            self._retire(holding)
        self._stop.clear()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return None

    def release(self) -> None:
        """Give the lease back, if it is still this one; releasing twice does nothing."""
        if self._thread is not None:
            self._stop.set()
            if self._thread is not threading.current_thread():
                self._thread.join()
            self._thread = None
            if self._is_mine():
                with suppress(OSError):
                    self.path.unlink()

    def renew(self) -> bool:
        """Put a later expiry into the file; False where someone else has the lease by now.

        Raises:
            OSError: It cannot be written now.
        """
        if not self._is_mine():
            return False
        with self._written() as draft:
            os.replace(draft, self.path)
        return self._is_mine()

    def _keep(self) -> None:
        while not self._stop.wait(self._renew_s):
            try:
                is_mine = self.renew()
            except OSError:  # a full disk, a server that is away: there is time until the lease runs out
                is_mine = self._read(self.path) is None or self._is_mine()
            if not is_mine:
                self._lost()
                return

    def _link(self) -> bool:
        """Put this lease there, if there is none."""
        with self._written() as draft:
            try:
                os.link(draft, self.path)
            except FileExistsError:
                return False
        return True

    def _retire(self, old: Holding | None) -> None:
        """Move a lease that has run out aside, for good if it is still that one."""
        aside = self.path.with_name(f"{self.path.name}.{self._token}.old")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        try:
            if self._read(aside) != old:
                with suppress(FileExistsError):
                    os.link(aside, self.path)
        finally:
            aside.unlink()

    def _is_mine(self) -> bool:
        holding = self._read(self.path)
        return holding is not None and holding.token == self._token

    def _written(self) -> _Draft:
        draft = self.path.with_name(f"{self.path.name}.{self._token}")
        draft.write_bytes(msgspec.json.encode(Holding(self._token, self._clock.wall() + TERM_S)))
        return _Draft(draft)

    @staticmethod
    def _read(path: Path) -> Holding | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Holding)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None


class _Draft:
    """A finished file under another name, which does not stay."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
