"""A program's working directory: the problem's files and nothing else, the same before every run.

Under a spare user the directory and the files belong to us, and a program can neither change nor remove them: then only
what it added is wiped. Otherwise everything is wiped and written anew. Whatever a killed sandbox left behind is removed
by the next one: a directory whose lock nobody holds has no owner.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

_PREFIX = "epsilon-scratch-"
_YOUNG_S = 60.0


class Scratch:
    """A directory below the system's temporary one, held by a lock until `remove`.

    Args:
        files: name -> content.
        uid: The spare user's id; None where programs run under our own.
    """

    def __init__(self, files: Mapping[str, bytes], uid: int | None) -> None:
        self._files = files
        self._uid = uid
        sweep()
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        self._lock = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        if uid is not None:
            os.chown(self.path, -1, uid)
            os.chmod(self.path, 0o1770)  # noqa: S103 - sticky: the program may add files, and remove only those
        self.restore()

    def restore(self) -> None:
        """Make the directory what it was before the program ran."""
        present = clear(self.path, self._files if self._uid is not None else ())
        for name in self._files.keys() - present:
            path = os.path.join(self.path, name)
            with open(path, "xb") as file:
                file.write(self._files[name])
                os.fchmod(file.fileno(), 0o444)

    def remove(self) -> None:
        """Remove the directory."""
        _remove(self.path)
        os.close(self._lock)


def sweep() -> None:
    """Remove the directories of sandboxes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with suppress(OSError):
            about = path.lstat()
            if about.st_uid != os.geteuid() or time.time() - about.st_mtime < _YOUNG_S:
                continue
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(str(path))
            finally:
                os.close(held)


def clear(directory: str, keep: Collection[str] = ()) -> set[str]:
    """Empty a directory however deep a program has nested it; return the names kept.

    Subdirectories are not descended into: their entries are lifted up a level, so neither the stack nor a path grows.
    """
    fresh = (f"{directory}/.lifted-{os.urandom(8).hex()}-{number}" for number in count())
    while True:
        with os.scandir(directory) as entries:
            doomed = [entry for entry in entries if entry.name not in keep]
        if not doomed:
            return set(keep) & set(os.listdir(directory))
        for entry in doomed:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            with os.scandir(entry.path) as children:
                for child in list(children):
                    if child.is_dir(follow_symlinks=False):
                        os.chmod(child.path, 0o700)  # moving a directory writes to it
                    os.rename(child.path, next(fresh))
            os.rmdir(entry.path)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        clear(path)
        os.rmdir(path)
