"""Append-only lines, committed a turn at a time, because everything else a lab knows can be read from them again.

A journal is NDJSON: `{"seq", "ts", "type", "body"}` a line. What happened in one turn is one group: its lines and a
closing `{"commit": {"records", "crc32c"}}` over their bytes, put down by one write. A process that is killed, or a
disk that fills up, can therefore leave only a prefix of a group behind: that is the torn tail, which was never
acknowledged; it is cut when the journal is next opened for writing, and reported. Nothing else can be explained by
a crash, so anything else is damage: it stops the reader, says where, and changes nothing.

Once a file is 64 MiB long, the next group begins another one (scan.py reads them in order), so that no file grows
beyond what can be copied, looked through or restored with ease. None of them is ever deleted or written to again. There
is no moment of that change at which a crash leaves anything new to explain: the full file is complete before its
successor is made, and a successor that is still empty is an empty last file.

Durability has names. `process`: the write has returned, so the lines survive kill -9 of this process. `disk`:
fdatasync has returned as well, so they survive a power cut. `memory` promises less and does the same as `process`: a
reader in another process then sees the lines at once, and there is next to nothing to gain: of a group of 64 tasks,
making the lines takes 55 us and the write 4 us (ext4, November 2026).

After a sync that failed, the system may hold what it could not write for written: another sync would succeed and prove
nothing. So the journal takes nothing more, and this process does not open that file for `disk` again; a copy of it,
made from what can still be read, is another file.

Writing and syncing are two steps, since a sync takes as long as the disk does and must not stop the thread that writes:
`write` puts the group down, `sync` may be called from any other thread, and covers every group written before it began.
`commit` does both for who has the time. A single group may ask for more than its journal's durability: `to_disk`.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Literal, get_args

import msgspec

from epsilon_lab.errors import InvalidInput, WorkspaceError
from epsilon_lab.messages.events import TYPES, Body
from epsilon_lab.messages.tasks import Event
from epsilon_lab.settings import SEGMENT_BYTES
from epsilon_lab.workspace.scan import (
    START,
    JournalRead,
    Position,
    Record,
    read_journal,
    scan,
    seal,
    segment_path,
)

__all__ = ["Durability", "Journal", "JournalRead", "Position", "Record", "read_journal"]

Durability = Literal["memory", "process", "disk"]


_UNSAFE: set[tuple[int, int]] = set()
"""Files, by device and inode, of which a sync has failed in this process."""


class _Line(msgspec.Struct, frozen=True):
    """A record in the making."""

    seq: int
    ts: float
    type: str
    body: Body | dict[str, object]


_ENCODER = msgspec.json.Encoder()


class Journal:
    """The writing end of a journal; one a journal, guarded by the workspace's lock.

    All methods but `sync` belong to one thread.

    Attributes:
        path: The first file, which gives the journal its name.
        seq: The number the next record gets.
        torn: Bytes of a torn tail that were cut when it was opened.
    """

    def __init__(
        self, path: Path, handle: int, end: Position, *, torn: int, durability: Durability, segment_bytes: int
    ) -> None:
        self.path = path
        self.torn = torn
        self.seq = end.seq
        self._handle: int | None = handle
        self._segment, self._end = end.segment, end.offset
        self._segment_bytes = segment_bytes
        self._is_disk = durability == "disk"
        self._lines: list[bytes] = []
        self._to_disk = False
        self._broken: str | None = None
        self._syncing = threading.Lock()  # held while the disk is waited for: the handle stays what it is
        self._written = 1
        """Groups written; what was there before counts as the first."""

        self._due = 1 if self._is_disk else 0
        """How many of them have to be on disk."""

        self._synced = 0
        """How many of them are."""

        self._safe = 0
        """The file whose name, and all files before it, are on disk."""

    def __repr__(self) -> str:
        return f"Journal({str(self.path)!r}, seq={self.seq})"

    @classmethod
    def open(
        cls,
        path: Path | str,
        durability: Durability = "process",
        *,
        after: Position = START,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Journal:
        """Open a journal for writing, or create it; verify it, and cut a torn tail.

        Args:
            path: Its first file.
            durability: What a committed group survives.
            after: The `end` of a `read_journal` of the same process, which needs no second look.
            segment_bytes: A file of that length gets no further group.

        Raises:
            InvalidInput: No such durability.
            JournalDamaged: It is broken elsewhere than at its torn tail; nothing was changed.
            WorkspaceError: It cannot be opened or created, or not be put on disk, now or earlier in this process.
        """
        if durability not in get_args(Durability):
            raise InvalidInput(f"durability {durability!r}", "is not known", "use 'memory', 'process' or 'disk'")
        path = Path(path)
        end, torn = scan(path, after, lambda _: None)
        try:
            handle = _open(segment_path(path, end.segment))
            try:
                if torn:
                    os.ftruncate(handle, end.offset)
            except OSError:
                os.close(handle)
                raise
        except OSError as error:
            raise WorkspaceError(
                f"journal {path} cannot be opened for writing ({error.strerror}); "
                f"check that the directory exists, is writable and has space"
            ) from error
        if durability == "disk" and _identity(handle) in _UNSAFE:
            os.close(handle)
            raise _not_on_disk(path, "that failed before in this process")
        journal = cls(path, handle, end, torn=torn, durability=durability, segment_bytes=segment_bytes)
        try:
            journal.sync()
        except BaseException:
            journal.close()
            raise
        return journal

    def append(self, ts: float, *bodies: Body | Event) -> None:
        """Add records to the group in the making; nothing is on disk before `commit`.

        Args:
            ts: Wall seconds since the epoch.
            *bodies: What happened, in order.

        Raises:
            InvalidInput: A body cannot be written as JSON; none of them was added.
            WorkspaceError: The journal is closed, or broke earlier.
        """
        self._writable()
        lines: list[bytes] = []
        for seq, body in enumerate(bodies, self.seq):
            name = body.type if isinstance(body, Event) else TYPES[type(body)]
            try:
                line = _ENCODER.encode(_Line(seq, ts, name, body.body if isinstance(body, Event) else body))
            except (TypeError, ValueError, RecursionError) as error:
                raise InvalidInput(f"event {name}", f"cannot be written as JSON ({error})") from error
            lines.append(line + b"\n")
        self._lines += lines
        self.seq += len(lines)

    def to_disk(self) -> None:
        """Ask that the group in the making survive a power cut, whatever the journal's durability."""
        self._to_disk = True

    @property
    def pending(self) -> int:
        """Records appended and not yet written."""
        return len(self._lines)

    @property
    def is_behind(self) -> bool:
        """Whether groups were written that durability wants on disk and `sync` has yet to put there."""
        return self._due > self._synced

    def commit(self) -> None:
        """Put the group down as safely as its durability says; an empty one costs nothing.

        Raises:
            WorkspaceError: As for `write` and `sync`.
        """
        self.write()
        self.sync()

    def write(self) -> None:
        """Put the group down, in one write; it survives the end of this process. An empty one costs nothing.

        Raises:
            WorkspaceError: It could not be written (a full disk, a limit). The journal ends behind the last good group,
                this one is forgotten, and a later one may succeed; after a failed sync none may.
        """
        if not self._lines:
            return
        handle = self._writable()
        group, self._lines = self._lines, []
        lines = b"".join(group)
        data = b"%b%b\n" % (lines, seal(lines))
        try:
            if self._end >= self._segment_bytes:
                handle = self._begin_segment()
            _write(handle, data)
        except OSError as error:
            self.seq -= len(group)
            self._cut()
            raise WorkspaceError(
                f"journal {self.path} cannot be written ({error.strerror}); {len(group)} records were not recorded. "
                f"Free space on that disk"
            ) from error
        except WorkspaceError:
            self.seq -= len(group)
            raise
        self._end += len(data)
        self._written += 1
        if self._is_disk or self._to_disk:
            self._due, self._to_disk = self._written, False

    def sync(self) -> None:
        """Wait until every group written so far is on disk, where durability wants that; from any thread.

        Raises:
            WorkspaceError: The disk could not do it. The system may have dropped what it was to write, so that a
                second sync that succeeds would prove nothing: the journal takes nothing more.
        """
        with self._syncing:
            if not self.is_behind or self._handle is None:
                return
            self._writable()
            written, segment = self._written, self._segment
            try:
                for number in range(max(1, self._safe), segment):
                    _sync_file(segment_path(self.path, number))
                os.fdatasync(self._handle)
                if self._safe < segment:
                    _sync_file(self.path.parent)
            except OSError as error:
                self._broken = f"fdatasync failed ({error.strerror})"
                _UNSAFE.add(_identity(self._handle))
                raise _not_on_disk(self.path, error.strerror) from error
            self._synced, self._safe = written, segment

    def discard(self) -> None:
        """Forget the group in the making: it would follow one that was never written."""
        self.seq -= len(self._lines)
        self._lines = []

    def refuse(self, reason: str) -> None:
        """Take nothing more, not even what is pending: someone else may be writing here by now."""
        self._broken = self._broken or reason
        self.discard()

    def close(self) -> None:
        """Commit what is pending and close the file; closing twice does nothing."""
        if self._handle is None:
            return
        try:
            if self._broken is None:
                self.commit()
        finally:
            with self._syncing:
                os.close(self._handle)
                self._handle = None

    def _writable(self) -> int:
        if self._broken is not None:
            raise WorkspaceError(f"journal {self.path} broke earlier: {self._broken}; resume the run in a new lab")
        if self._handle is None:
            raise WorkspaceError(f"journal {self.path} is closed; resume the run to write to it again")
        return self._handle

    def _begin_segment(self) -> int:
        """Go on in a new file; where a power cut counts, not before the full one is safe."""
        if self._is_disk:
            self.sync()
        handle = _open(segment_path(self.path, self._segment + 1), os.O_EXCL)
        with self._syncing:
            if self._handle is not None:
                os.close(self._handle)
            self._handle, self._segment, self._end = handle, self._segment + 1, 0
        return handle

    def _cut(self) -> None:
        """Take back what a failed write left, so that no later group continues it."""
        try:
            os.ftruncate(self._writable(), self._end)
        except OSError as error:
            self._broken = f"a half-written group could not be cut ({error.strerror})"


def _not_on_disk(path: Path, why: str | None) -> WorkspaceError:
    return WorkspaceError(
        f"journal {path} could not be put on disk ({why}); check that disk, copy the directory {path.parent} to "
        f"another one, and go on there"
    )


def _identity(handle: int) -> tuple[int, int]:
    stat = os.fstat(handle)
    return stat.st_dev, stat.st_ino


def _open(path: Path, flags: int = 0) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | flags, 0o644)


def _write(handle: int, data: bytes) -> None:
    """Write all of it; a short write is continued only to learn why it was short."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _sync_file(path: Path) -> None:
    """Put a file on disk, or a directory's names."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
