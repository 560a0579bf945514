"""One journal on its way into the tables: how far it is read, and what of it is not stored yet.

A journal only grows, so a look costs what was added since the last one. Where the file was removed, cut or replaced,
its rows are forgotten and it is read from the beginning; where it is damaged, that is said and other runs go on.

A journal whose rows are kept elsewhere (catalogue.py) is not read before anything of it has changed, and then from the
beginning: what it would take to go on from its end is not kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from epsilon_lab.errors import JournalDamaged, WorkspaceError
from epsilon_lab.settings import SEGMENT_BYTES
from epsilon_lab.workspace.fold import Fold, Row
from epsilon_lab.workspace.scan import START, Position, Record, scan, segment_path


class Look(NamedTuple):
    """What tells from outside whether a file is the one that was read, and has grown."""

    inode: int
    size: int
    changed_ns: int


class _Tip(NamedTuple):
    """The file of a journal that is read next."""

    look: Look
    is_full: bool
    """Whether the journal goes on in another one."""


def looks(path: Path) -> tuple[Look, ...]:
    """Look at each of a journal's files; there may be none."""
    found: list[Look] = []
    try:
        while True:
            found.append(look(segment_path(path, len(found) + 1)))
    except OSError:
        return tuple(found)


def look(file: Path | int) -> Look:
    """Look at a file, by its path or its open handle."""
    stat = os.stat(file)
    return Look(stat.st_ino, stat.st_size, stat.st_mtime_ns)


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """What a journal was when its rows were kept, as they are while nobody is at its run."""

    files: tuple[Look, ...]
    """As `looks` found them."""

    end: Position
    """How far it was read."""

    seq: int
    """Its last record that was."""

    is_over: bool
    """Whether its run had ended, and its rows are the same if a lab is at it."""

    notes: tuple[str, ...]
    """What could not be read, in words."""

    @property
    def tip(self) -> _Tip | None:
        """The file that would be read next."""
        return _Tip(self.files[self.end.segment - 1], len(self.files) > self.end.segment)


class Feed:
    """One journal on its way into the tables: how far it is read, and what is folded of it.

    Args:
        run_id: The run; None for the lab's own journal.
        path: The journal's first file.
        kept: What is known of it where its rows are kept, and its files are still those.
    """

    def __init__(self, run_id: str | None, path: Path, kept: Kept | None = None) -> None:
        self.run_id, self.path = run_id, path
        self._begin(kept)

    def _begin(self, kept: Kept | None = None) -> None:
        self.fold = Fold(self.run_id)
        self.stored: set[str] = set()
        self._events: list[Row] = []
        self._events_to: int | None = None  # until someone asks for them: most never do, and they are most of the bytes
        self._cut: Position | None = None
        self._is_whole = False
        self._kept = kept
        self._is_begun = kept is not None
        self.seq, self._end = (kept.seq, kept.end) if kept else (0, START)
        self._seen = kept.tip if kept else None
        self._unsaid = list(kept.notes) if kept else []
        self._said = set(self._unsaid)

    def keep(self, files: tuple[Look, ...] | None = None) -> Kept | None:
        """Say what to keep of it beside its rows; None where what was read is not what is there.

        Args:
            files: What `looks` found before it was read; None where it was read long since.
        """
        found = looks(self.path)
        if not found or not self._is_whole or (files is not None and files != found):
            return None
        kept = Kept(found, self._end, self.seq, self.fold.is_over, tuple(sorted(self._said)))
        return kept if files is not None or kept.tip == self._seen else None

    @property
    def kept(self) -> Kept | None:
        """What is known of it where it is not read, since its rows are kept."""
        return self._kept

    @property
    def has_events(self) -> bool:
        """Whether the events themselves are kept, or being read."""
        return self._events_to is not None

    @property
    def size(self) -> int:
        """About how many bytes of it were read."""
        return (self._end.segment - 1) * SEGMENT_BYTES + self._end.offset

    def read(
        self,
        forget: Callable[[str | None], None],
        *,
        events: bool,
        live: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[str]:
        """Fold the tail in; what cannot be read is said once, in words, and left out.

        Args:
            forget: Drops a journal's stored rows: called where another file has taken this one's place.
            events: Keep the events themselves, from now on and from the beginning.
            live: A lab is at the run.
            stop: Asked between two pieces of the journal, where rows may be drained too; where it says so, the rest is
                left for the next look.
        """
        notes, self._unsaid = self._unsaid, []
        return notes + self._read(forget, events, live, stop)

    @property
    def is_cut(self) -> bool:
        """Whether the last look was stopped before its end."""
        return self._cut is not None

    def _read(
        self, forget: Callable[[str | None], None], events: bool, live: bool, stop: Callable[[], bool]
    ) -> list[str]:
        try:
            seen = self._tip()
        except (FileNotFoundError, NotADirectoryError):
            return self._restart(forget, events, stop) if self._is_begun else []
        except OSError as error:
            return self._say(f"journal {self.path} cannot be read ({error.strerror}); its run is not in the tables")
        if seen.look.size < self._end.offset or (self._seen and seen.look.inode != self._seen.look.inode):
            return self._restart(forget, events, stop)
        if self._kept is not None and (seen != self._seen or (live and not self._kept.is_over)):
            return self._restart(forget, events, stop)
        if events and self._events_to is None:
            self._events_to, self._cut = 0, START
        if seen == self._seen and not self.is_cut:
            return []
        self._seen, self._is_begun = seen, True
        start, self._cut = self._cut or self._end, None
        is_stopped = False

        def pause() -> bool:
            nonlocal is_stopped
            is_stopped = stop()
            return is_stopped

        try:
            end, _ = scan(self.path, start, self._take, stop=pause)
        except WorkspaceError as error:
            self._is_whole = isinstance(error, JournalDamaged)  # else it may be read when asked again
            return self._say(f"{error}. Until then this run's rows are missing or incomplete, other runs' are not")
        self._is_whole = not is_stopped
        if is_stopped:
            self._cut = end
            return []
        if end.segment != self._end.segment:
            self._seen = None  # that was another file
        self._end = end
        if self.fold.unread is not None:
            return self._say(f"journal {self.path}: {self.fold.unread}; rows may be missing. Try a newer epsilon_lab")
        return []

    def _take(self, records: list[Record]) -> None:
        """Fold the records of one group in, unless that was done when the journal was read before."""
        for record in records:
            if record.seq > self.seq:
                self.fold.take(record)
                self.seq = record.seq
            if self._events_to is not None and record.seq > self._events_to:
                self._events.append(
                    {
                        "seq": record.seq,
                        "ts": record.ts,
                        "run_id": self.run_id,
                        "type": record.type,
                        "body": record.body,
                    }
                )
                self._events_to = record.seq

    def _tip(self) -> _Tip:
        """Look at the file that is read next."""
        number = self._end.segment
        return _Tip(look(segment_path(self.path, number)), os.path.exists(segment_path(self.path, number + 1)))

    def _restart(self, forget: Callable[[str | None], None], events: bool, stop: Callable[[], bool]) -> list[str]:
        """Forget the journal that was there, and read the one that has taken its place, if any."""
        forget(self.run_id)
        self._begin()
        return self.read(forget, events=events, stop=stop)

    def drain(self, table: str) -> list[Row]:
        """Take the rows of a table that are not stored yet."""
        if table == "events":
            rows, self._events = self._events, []
            return rows
        return self.fold.drain(table)

    def waiting(self, table: str) -> int:
        """How many rows of a table are not stored yet."""
        return len(self._events if table == "events" else self.fold.touched[table])

    @property
    def pending(self) -> int:
        """How many rows of all tables are not stored yet."""
        return len(self._events) + sum(map(len, self.fold.touched.values()))

    def _say(self, text: str) -> list[str]:
        if text in self._said:
            return []
        self._said.add(text)
        return [text]
