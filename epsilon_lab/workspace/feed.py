"""One journal on its way into the tables: how far it is read, and what of it is not stored yet.

A journal only grows, so a look costs what was added since the last one. Where the file was removed, cut or replaced,
its rows are forgotten and it is read from the beginning; where it is damaged, that is said and other runs go on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from epsilon_lab.errors import WorkspaceError
from epsilon_lab.workspace.fold import Fold, Row
from epsilon_lab.workspace.scan import START, read_journal, segment_path


class _Look(NamedTuple):
    """What tells from outside whether a file is the one that was read, and has grown."""

    inode: int
    size: int
    changed_ns: int
    is_full: bool
    """Whether the journal goes on in another one."""


class Feed:
    """One journal on its way into the tables: how far it is read, and what is folded of it."""

    def __init__(self, run_id: str | None, path: Path) -> None:
        self.run_id, self.path = run_id, path
        self._begin()

    def _begin(self) -> None:
        self.fold = Fold(self.run_id)
        self.seq = 0
        self.stored: set[str] = set()
        self._end = START
        self._events: list[Row] = []
        self._keeps_events = False  # until someone asks for them: most never do, and they are most of the bytes
        self._seen: _Look | None = None
        self._is_begun = False
        self._said: set[str] = set()

    def read(self, forget: Callable[[str | None], None], *, events: bool) -> list[str]:
        """Fold the tail in; what cannot be read is said once, in words, and left out.

        Args:
            forget: Drops a journal's stored rows: called where another file has taken this one's place.
            events: Keep the events themselves, from now on and from the beginning.
        """
        try:
            seen = self._look()
        except (FileNotFoundError, NotADirectoryError):
            return self._restart(forget, events=events) if self._is_begun else []
        except OSError as error:
            return self._say(f"journal {self.path} cannot be read ({error.strerror}); its run is not in the tables")
        if seen.size < self._end.offset or (self._seen is not None and seen.inode != self._seen.inode):
            return self._restart(forget, events=events)
        from_start = events and not self._keeps_events
        if seen == self._seen and not from_start:
            return []
        self._seen, self._is_begun = seen, True
        try:
            tail = read_journal(self.path, START if from_start else self._end)
        except WorkspaceError as error:
            return self._say(f"{error}. Until then this run's rows are missing or incomplete, other runs' are not")
        if tail.end.segment != self._end.segment:
            self._seen = None  # that was another file
        self._keeps_events |= events
        if self._keeps_events:
            self._events += [
                {"seq": record.seq, "ts": record.ts, "run_id": self.run_id, "type": record.type, "body": record.body}
                for record in tail.records
            ]
        for record in tail.records:
            if record.seq > self.seq:
                self.fold.take(record)
                self.seq = record.seq
        self._end = tail.end
        if self.fold.unread is not None:
            return self._say(f"journal {self.path}: {self.fold.unread}; rows may be missing. Try a newer epsilon_lab")
        return []

    def _look(self) -> _Look:
        """Look at the file that is read next."""
        stat = segment_path(self.path, self._end.segment).stat()
        is_full = segment_path(self.path, self._end.segment + 1).exists()
        return _Look(stat.st_ino, stat.st_size, stat.st_mtime_ns, is_full)

    def _restart(self, forget: Callable[[str | None], None], *, events: bool) -> list[str]:
        """Forget the journal that was there, and read the one that has taken its place, if any."""
        forget(self.run_id)
        self._begin()
        return self.read(forget, events=events)

    def drain(self, table: str) -> list[Row]:
        """Take the rows of a table that are not stored yet."""
        if table == "events":
            rows, self._events = self._events, []
            return rows
        return self.fold.drain(table)

    def waiting(self, table: str) -> int:
        """How many rows of a table are not stored yet."""
        return len(self._events if table == "events" else self.fold.touched[table])

    def _say(self, text: str) -> list[str]:
        if text in self._said:
            return []
        self._said.add(text)
        return [text]
