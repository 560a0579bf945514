"""A program's working directory: the problem's files and nothing else, the same before every run.

Under a spare user the directory and the files belong to us, and a program can neither change nor remove them: where it
added nothing, nothing is done. Otherwise a new one takes the whole directory's place, which costs the same for one file
more and for a million. A file system of its own, of bounded size, is just taken away. A plain directory is put aside
and removed a little at a time, so that a program which litters costs its successors nothing.

Whatever a killed sandbox left behind is removed by `sweep`, which every later one calls: a directory whose lock nobody
holds has no owner, and none gets its name before it is locked.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

from epsilon_lab.processes.namespaces import mount_scratch, unmount

_PREFIX = "epsilon-scratch-"
_SWEEP_S = 1.0
_WIPE_S = 0.2
_REMOVE_S = 3.0
_INODES = 16_384
_PAGE = 1 << 16  # the largest page in use


class Scratch:
    """A directory below the system's temporary one, held by a lock until `remove`.

    Args:
        files: name -> content.
        uid: The spare user's id; None where programs run under our own.

    Attributes:
        path: The working directory.
    """

    def __init__(self, files: Mapping[str, bytes], uid: int | None) -> None:
        self._files = files
        self._uid = uid
        sweep()
        unnamed = tempfile.mkdtemp(prefix="epsilon-new-")
        self._lock = os.open(unnamed, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        parent, name = os.path.split(unnamed)
        self._home = os.path.join(parent, _PREFIX + name.removeprefix("epsilon-new-"))
        os.rename(unnamed, self._home)
        if uid is not None:
            os.chmod(self._home, 0o711)  # noqa: S103 - to be passed through
        self._aside = os.path.join(self._home, "aside")
        os.mkdir(self._aside, 0o700)
        self._numbers = count()
        self.path = os.path.join(self._home, "work")
        self._room = 0
        os.mkdir(self.path)
        self._fill()
        self.witness = os.path.join(self._home, "witness")
        """A file beside the directory, which its owner lets programs read and write; only confinement forbids it."""

        with open(self.witness, "xb") as file:
            if uid is not None:
                os.fchown(file.fileno(), -1, uid)
            os.fchmod(file.fileno(), 0o660)

    @property
    def room(self) -> int:
        """Bytes that the directory can hold at most; 0 if as many as the disk."""
        return self._room

    def bound(self, size: int) -> None:
        """Give the directory a file system of its own, in memory; in a mount namespace of this process's own.

        Args:
            size: Bytes that a program may add.

        Raises:
            OSError: The machine refuses.
        """
        self._room = size + sum((len(content) // _PAGE + 1) * _PAGE for content in self._files.values()) + _PAGE
        mount_scratch(self.path, size=self._room, inodes=_INODES)
        self._fill()

    def restore(self) -> bool:
        """Make the directory what it was before the program ran.

        Returns:
            Whether it is another one than before, under the same name.
        """
        if self._uid is not None and not self._has_more():
            return False
        if self._room:
            unmount(self.path)
            mount_scratch(self.path, size=self._room, inodes=_INODES)
        else:
            os.rename(self.path, os.path.join(self._aside, str(next(self._numbers))))
            os.mkdir(self.path)
            clear(self._aside, until=time.monotonic() + _WIPE_S)
        self._fill()
        return True

    def remove(self) -> None:
        """Remove the directory; what cannot be removed in a few seconds is left to `sweep`."""
        _remove(self._home, time.monotonic() + _REMOVE_S)
        os.close(self._lock)

    def _has_more(self) -> bool:
        with os.scandir(self.path) as entries:
            return any(entry.name not in self._files for entry in entries)

    def _fill(self) -> None:
        os.chmod(self.path, 0o700)
        if self._uid is not None:
            os.chown(self.path, -1, self._uid)
            os.chmod(self.path, 0o1770)  # noqa: S103 - sticky: a program may add files, and remove only those
        for name, content in self._files.items():
            with open(os.path.join(self.path, name), "xb") as file:
                file.write(content)
                os.fchmod(file.fileno(), 0o444)


def sweep() -> None:
    """Remove the directories of sandboxes and judges that were killed, as many as a second allows."""
    until = time.monotonic() + _SWEEP_S
    for path in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with suppress(OSError):
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(held).st_uid == os.geteuid():
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(str(path), until)
            finally:
                os.close(held)


def clear(directory: str, *, until: float) -> bool:
    """Empty a directory however deep a program has nested it.

    The process itself walks in and out, so neither the stack nor a path grows; it is back where it was at the end.

    Args:
        directory: What is in it goes, it stays.
        until: Monotonic seconds at which to give up.

    Returns:
        False if time ran out.
    """
    back = os.open(".", os.O_RDONLY)
    try:
        os.chdir(directory)
        inside: list[str] = []
        todo = [_unlink_files(until)]
        while time.monotonic() < until:
            if todo[-1]:
                inside.append(todo[-1].pop())
                os.chmod(inside[-1], 0o700)
                os.chdir(inside[-1])
                todo.append(_unlink_files(until))
            elif inside:
                os.chdir("..")
                os.rmdir(inside.pop())
                todo.pop()
            else:
                return True
        return False
    finally:
        os.fchdir(back)
        os.close(back)


def _unlink_files(until: float) -> list[str]:
    """Remove the files of the current directory; return its subdirectories."""
    found: list[str] = []
    with os.scandir() as entries:
        for entry in entries:
            if time.monotonic() > until:
                break
            if entry.is_dir(follow_symlinks=False):
                found.append(entry.name)
            else:
                os.unlink(entry.name)
    return found


def _remove(path: str, until: float) -> None:
    with suppress(FileNotFoundError):
        if clear(path, until=until):
            os.rmdir(path)
