"""Directories that strangers have filled: listed and removed however they are nested, following nothing.

Neither stack nor number of open files grows with the depth: one descriptor walks in and out, and `..` counts only where
it is the directory that was come from.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(NamedTuple):
    """Something in a tree that is no directory."""

    path: str
    """Relative, as POSIX; bytes that are no UTF-8 are lone surrogates."""

    state: os.stat_result
    """Of itself: a link is not followed."""


def entries(top: Path, *, deepest: int) -> Iterator[Entry]:
    """List all that is in a directory and in those below it, but for the directories themselves.

    Args:
        top: The directory.
        deepest: Most directories in each other.

    Raises:
        OSError: A directory cannot be read, or they are nested deeper.
    """
    todo = [("", 0)]
    while todo:
        folder, depth = todo.pop()
        if depth > deepest:
            raise OSError(0, f"more than {deepest} directories are nested in each other", f"{folder[:80]}...")
        with os.scandir(top / folder) as found:
            for entry in found:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    todo.append((path, depth + 1))
                else:
                    yield Entry(path, entry.stat(follow_symlinks=False))


def remove(top: Path) -> None:
    """Remove a directory with all that is in it, as far as that can be done; one that is not there is no error."""
    with suppress(OSError):
        if stat.S_ISDIR(os.lstat(top).st_mode):
            os.chmod(top, stat.S_IRWXU)
        walker = _Walker(top)
        try:
            walker.empty()
        finally:
            walker.close()
        os.rmdir(top)


class _Walker:
    """One descriptor that goes in and out of directories."""

    def __init__(self, top: Path) -> None:
        self._at = os.open(top, _FOLDER)

    def close(self) -> None:
        os.close(self._at)

    def empty(self) -> None:
        """Remove all that is in the directory."""
        inside: list[tuple[str, tuple[int, int]]] = []
        todo = [self._unlink_files()]
        while True:
            if todo[-1]:
                name = todo[-1].pop()
                inside.append((name, self._identity()))
                self._step(name)
                todo.append(self._unlink_files())
            elif inside:
                name, parent = inside.pop()
                self._step("..")
                if self._identity() != parent:
                    raise OSError(0, "directories are moved about while they are removed", name)
                os.rmdir(name, dir_fd=self._at)
                todo.pop()
            else:
                return

    def _step(self, name: str) -> None:
        below = os.open(name, _FOLDER, dir_fd=self._at)
        os.close(self._at)
        self._at = below

    def _identity(self) -> tuple[int, int]:
        state = os.fstat(self._at)
        return state.st_dev, state.st_ino

    def _unlink_files(self) -> list[str]:
        """Remove the files of the directory it is in; the names of those below it."""
        found: list[str] = []
        os.fchmod(self._at, stat.S_IRWXU)
        with os.scandir(self._at) as listed:
            for entry in listed:
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.name, stat.S_IRWXU, dir_fd=self._at)
                    found.append(entry.name)
                else:
                    os.unlink(entry.name, dir_fd=self._at)
        return found
