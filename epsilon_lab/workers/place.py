"""Where a run's code belongs: the working directory and `sys.path` of the kernel that started it.

In a kernel's own lab that is the kernel's place for every run, and each child is born there. A sidecar serves one
kernel after another, perhaps two at a time, with the same children: so the place lies in the run directory, and a child
goes there for the run's tasks.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from epsilon_lab.workspace.layout import PLACE, RunDirectory


class Place(msgspec.Struct, frozen=True):
    """Where code finds files and modules."""

    sys_path: tuple[str, ...]
    cwd: str | None = None
    """None where the directory was removed under its process."""

    @classmethod
    def here(cls) -> Place:
        """The place of this process."""
        cwd = None
        with suppress(FileNotFoundError):
            cwd = str(Path.cwd())
        return cls(tuple(map(str, sys.path)), cwd)


def mark(run: RunDirectory, place: Place | None) -> None:
    """Write down where a run's code belongs; None: wherever its workers are born."""
    path = run.locate(PLACE)
    if place is None:
        path.unlink(missing_ok=True)
    else:
        run.save(PLACE, msgspec.json.encode(place), kind="place")


class Whereabouts:
    """A child on its way between places; it was born in one, and begins there."""

    def __init__(self) -> None:
        self._born = Place.here()
        self._home = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        self._at = self._home
        self._run_dir = ""

    def go(self, run_dir: str) -> None:
        """Be where this run's code belongs, whatever the task before has changed."""
        if run_dir != self._run_dir:
            self._move(run_dir)
        os.fchdir(self._at)

    def _move(self, run_dir: str) -> None:
        if self._at != self._home:
            os.close(self._at)
        self._at, self._run_dir = self._home, run_dir
        place = self._born
        with suppress(OSError, msgspec.MsgspecError):  # most runs have none; a copied one has a stranger's
            place = msgspec.json.decode(Path(run_dir, PLACE).read_bytes(), type=Place)
            if place.cwd is not None:
                self._at = os.open(place.cwd, os.O_RDONLY | os.O_DIRECTORY)
        sys.path[:] = place.sys_path
