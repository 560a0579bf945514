"""A history in files, because whoever writes it may be killed at any moment and a broker must not be its own witness.

Each process appends to a file of its own, one write a line, before it does what the line says or after it has
happened, as the kind asks. simulation/history.py says what the lines mean and judges them:

    history = History(directory)                 # in any process, also in a task's own
    history.note("submit", "item-1")
    ...
    verdict = check(read(directory))
    assert not verdict.broken, verdict
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from epsilon_lab.simulation.history import Event, Kind, Verdict, check

__all__ = ["Event", "History", "Verdict", "check", "read"]


class History:
    """One process's lines. The file is opened for each line, so that nothing is held across a fork or by a closure.

    Args:
        directory: Where the files of one history lie; it must exist.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = str(directory)

    def note(self, kind: Kind, task: str, value: str = "") -> None:
        """Append a line; it survives the death of this process from the moment this returns."""
        pid = os.getpid()
        event = Event(kind=kind, task=task, at=time.monotonic(), value=value, by=str(pid))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        handle = os.open(os.path.join(self.directory, f"{pid}.history"), flags, 0o644)
        try:
            os.write(handle, msgspec.json.encode(event) + b"\n")
        finally:
            os.close(handle)


def read(directory: Path | str) -> Iterator[Event]:
    """Read all lines of a history; one whose writer was killed within it is passed over."""
    for path in sorted(Path(directory).glob("*.history")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            yield msgspec.json.decode(line, type=Event)
