"""What a killed process leaves of its last write: any part of it, from the first byte on.

Journals are the real ones, in real files. A kill is armed for the n-th commit to come: that commit is written whole,
then its process is dead, and of the bytes that were new each file keeps a prefix that the dice choose. That is what a
kill in the middle of a write leaves, and all that `process` allows to be lost.

Where durability is `disk`, a process dies of a power cut: files keep a prefix of what was not synced, and one whose
name was not synced may be gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from epsilon_lab.settings import SEGMENT_BYTES
from epsilon_lab.workspace.journal import Durability, Journal


class Killed(BaseException):
    """The process is dead: nothing in it may catch this and go on."""


class Disk:
    """The files of one broker's process.

    Args:
        dice: Choose what is left.
        die: Called when the kill strikes; the process must do nothing more afterwards.
        durability: Of its journals: `process` or `disk`.
    """

    def __init__(self, dice: Random, die: Callable[[], object], durability: Durability) -> None:
        self.is_dead = False
        self._durability = durability
        self._synced: dict[Path, int] = {}
        self._directories: set[Path] = set()
        self._dice = dice
        self._segment_bytes = dice.choice((2_000, SEGMENT_BYTES))
        self._die = die
        self._commits_left: int | None = None

    def kill_at(self, commits: int) -> None:
        """Kill the process in the commit after so many more."""
        self._commits_left = commits

    def open(self, path: Path) -> Journal:
        """Open a journal whose commits count; in some lives it has many small files."""
        journal = _Journal.open(path, self._durability, segment_bytes=self._segment_bytes)
        assert isinstance(journal, _Journal)
        journal.disk = self
        self._directories.add(path.parent)
        self.note_sync(path)
        return journal

    def sync_s(self) -> float:
        """Seconds that the next sync takes."""
        return 0.05 * self._dice.random() ** 3

    def note_sync(self, path: Path) -> None:
        """Take what a journal has in its files for safe."""
        self._synced |= _sizes(path.parent)

    def die(self) -> None:
        """Write nothing more; if it is the power that failed, lose what is not safe."""
        self.is_dead = True
        if self._durability != "disk":
            return
        for directory in sorted(self._directories):
            for path, size in _sizes(directory).items():
                if path not in self._synced and self._dice.random() < 0.5:
                    path.unlink()
                elif size > (safe := self._synced.get(path, 0)):
                    os.truncate(path, self._dice.randint(safe, size))

    def write(self, path: Path, write: Callable[[], None]) -> None:
        """Let a group be written, or be the last thing that the process did; a dead process writes nothing."""
        if self.is_dead:
            return
        if self._commits_left is None or self._commits_left > 0:
            if self._commits_left is not None:
                self._commits_left -= 1
            write()
            return
        before = _sizes(path.parent)
        write()
        self.is_dead = True
        for name, size in _sizes(path.parent).items():
            kept = before.get(name, 0)
            if size > kept:
                part = self._dice.randint(0, size - kept)
                os.truncate(name, kept + self._dice.choice((0, part, part, size - kept)))
        self._die()
        raise Killed


class _Journal(Journal):
    """A journal that its process may die over."""

    disk: Disk | None = None

    def write(self) -> None:
        """Write the group, or die over it."""
        assert self.disk is not None
        if self.pending:
            self.disk.write(self.path, super().write)

    def sync(self) -> None:
        """Put it on disk, unless there is none any more."""
        if self.disk is None:
            super().sync()
        elif not self.disk.is_dead:
            super().sync()
            self.disk.note_sync(self.path)


def _sizes(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in sorted(directory.iterdir()) if path.name.startswith("journal")}
