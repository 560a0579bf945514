"""Append-only lines, committed a turn at a time, because everything else a lab knows can be read from them again.

A journal is NDJSON: `{"seq", "ts", "type", "body"}` a line. What happened in one turn is one group: its lines and a
closing `{"commit": {"records", "crc32c"}}` over their bytes, put down by one write. A process that is killed, or a
disk that fills up, can therefore leave only a prefix of a group behind: that is the torn tail, which was never
acknowledged; it is cut when the journal is next opened for writing, and reported. Nothing else can be explained by
a crash, so anything else is damage: it stops the reader, says where, and changes nothing.

Durability has names. `process`: the write has returned, so the lines survive kill -9 of this process. `disk`:
fdatasync has returned as well, so they survive a power cut. `memory` promises less and does the same as `process`:
the write costs microseconds, and a reader in another process sees it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, get_args

import google_crc32c
import msgspec

from epsilon_lab.errors import InvalidInput, JournalDamaged, WorkspaceError
from epsilon_lab.messages.events import TYPES, Body
from epsilon_lab.messages.tasks import Event

Durability = Literal["memory", "process", "disk"]

_SEAL_START = b'{"commit":'


class Record(msgspec.Struct, frozen=True):
    """One line of a journal."""

    seq: int
    """1 for a journal's first line, then consecutive."""

    ts: float
    """Wall seconds since the epoch."""

    type: str
    body: msgspec.Raw
    """JSON; the struct of that type in messages/events.py decodes it."""


class _Line(msgspec.Struct, frozen=True):
    """A record in the making."""

    seq: int
    ts: float
    type: str
    body: Body | dict[str, object]


class _Seal(msgspec.Struct, frozen=True):
    records: int
    crc32c: str


class _Commit(msgspec.Struct, frozen=True):
    commit: _Seal


class JournalRead(NamedTuple):
    """What a look into a journal found."""

    records: list[Record]
    end: int
    """Byte offset behind the last commit: where the next look starts."""

    torn: int
    """Bytes behind `end`: a group still being written, or one that never will be."""


class _Scan(NamedTuple):
    end: int
    torn: int
    seq: int


_ENCODER = msgspec.json.Encoder()
_RECORD = msgspec.json.Decoder(Record)
_COMMIT = msgspec.json.Decoder(_Commit)


def read_journal(path: Path | str, start: int = 0) -> JournalRead:
    """Read the committed records behind an offset, whether or not someone is writing.

    Args:
        path: The journal; a missing one is empty.
        start: 0, or the `end` of an earlier look. Whether the file is still the same one is the caller's concern.

    Raises:
        JournalDamaged: The file is broken elsewhere than at its torn tail.
        WorkspaceError: The file cannot be read.
    """
    records: list[Record] = []
    try:
        with open(path, "rb") as file:
            scan = _scan(file, Path(path), start, records.extend)
    except FileNotFoundError:
        return JournalRead([], start, 0)
    except OSError as error:
        raise WorkspaceError(
            f"journal {path} cannot be read ({error.strerror}); check the file's permissions"
        ) from error
    return JournalRead(records, scan.end, scan.torn)


def _scan(file: BinaryIO, path: Path, start: int, take: Callable[[list[Record]], object]) -> _Scan:
    """Walk over complete groups, handing each one's records to `take`."""
    file.seek(start)
    end = position = start
    seq = 1 if start == 0 else 0  # 0: not known yet
    group: list[Record] = []
    crc = 0
    for line in file:
        if not line.endswith(b"\n"):
            if _is_commit(line[:-1]):  # a torn write ends before this byte, so the byte was changed later
                raise JournalDamaged(str(path), position + len(line) - 1, "a commit line does not end in a newline")
            position += len(line)
            break
        if line.startswith(_SEAL_START):
            _check(line, group, crc, path, end)
            take(group)
            end = position + len(line)
            group, crc = [], 0
        else:
            try:
                record = _RECORD.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise JournalDamaged(
                    str(path), position, f"a line is neither a record nor a commit ({error})"
                ) from error
            if seq and record.seq != seq:
                raise JournalDamaged(str(path), position, f"record {record.seq} stands where {seq} belongs")
            seq = record.seq + 1
            group.append(record)
            crc = google_crc32c.extend(crc, line)
        position += len(line)
    return _Scan(end, position - end, group[0].seq if group else seq)


def _is_commit(line: bytes) -> bool:
    try:
        _COMMIT.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def _check(line: bytes, group: list[Record], crc: int, path: Path, start: int) -> None:
    """Compare a commit line with the group before it, which begins at `start`."""
    try:
        seal = _COMMIT.decode(line).commit
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise JournalDamaged(
            str(path), start, f"the commit line that closes this group cannot be read ({error})"
        ) from error
    if seal.records != len(group):
        raise JournalDamaged(str(path), start, f"{len(group)} records are closed by a commit of {seal.records}")
    if seal.crc32c != f"{crc:08x}":
        raise JournalDamaged(str(path), start, f"the checksum of {len(group)} records does not match their commit")


class Journal:
    """The writing end of a journal; one a file, guarded by the workspace's lock.

    Attributes:
        path: The file.
        seq: The number the next record gets.
        torn: Bytes of a torn tail that were cut when it was opened.
    """

    def __init__(self, path: Path, handle: int, *, durability: Durability, scan: _Scan) -> None:
        self.path = path
        self.torn = scan.torn
        self.seq = scan.seq
        self._handle: int | None = handle
        self._sync = durability == "disk"
        self._end = scan.end
        self._lines: list[bytes] = []
        self._broken: str | None = None

    def __repr__(self) -> str:
        return f"Journal({str(self.path)!r}, seq={self.seq})"

    @classmethod
    def open(cls, path: Path | str, durability: Durability = "process") -> Journal:
        """Open a journal for writing, or create it; verify it whole, and cut a torn tail.

        Raises:
            InvalidInput: No such durability.
            JournalDamaged: It is broken elsewhere than at its torn tail; nothing was changed.
            WorkspaceError: The file cannot be opened or created.
        """
        if durability not in get_args(Durability):
            raise InvalidInput(f"durability {durability!r}", "is not known", "use 'memory', 'process' or 'disk'")
        path = Path(path)
        try:
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                with open(path, "rb") as file:
                    scan = _scan(file, path, 0, lambda _: None)
                if scan.torn:
                    os.ftruncate(handle, scan.end)
                if durability == "disk":
                    os.fsync(handle)
                    _sync_directory(path.parent)
            except BaseException:
                os.close(handle)
                raise
        except OSError as error:
            raise WorkspaceError(
                f"journal {path} cannot be opened for writing ({error.strerror}); "
                f"check that the directory exists, is writable and has space"
            ) from error
        return cls(path, handle, durability=durability, scan=scan)

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

    @property
    def pending(self) -> int:
        """Records appended and not yet committed."""
        return len(self._lines)

    def commit(self) -> None:
        """Put the group down, in one write, as safely as the journal's durability says; an empty one costs nothing.

        Raises:
            WorkspaceError: It could not be written (a full disk, a limit). The file ends behind the last good commit,
                the group is forgotten, and a later group may succeed; after a failed sync none may.
        """
        if not self._lines:
            return
        handle = self._writable()
        group, self._lines = self._lines, []
        data = _sealed(group)
        try:
            _write(handle, data)
        except OSError as error:
            self.seq -= len(group)
            self._cut(handle)
            raise WorkspaceError(
                f"journal {self.path} cannot be written ({error.strerror}); {len(group)} records were not recorded. "
                f"Free space on that disk"
            ) from error
        if self._sync:
            self._sync_now(handle)
        self._end += len(data)

    def discard(self) -> None:
        """Forget the group in the making: it would follow one that was never written."""
        self.seq -= len(self._lines)
        self._lines = []

    def close(self) -> None:
        """Commit what is pending and close the file; closing twice does nothing."""
        if self._handle is None:
            return
        try:
            if self._broken is None:
                self.commit()
        finally:
            os.close(self._handle)
            self._handle = None

    def _writable(self) -> int:
        if self._broken is not None:
            raise WorkspaceError(f"journal {self.path} broke earlier: {self._broken}; resume the run in a new lab")
        if self._handle is None:
            raise WorkspaceError(f"journal {self.path} is closed; resume the run to write to it again")
        return self._handle

    def _cut(self, handle: int) -> None:
        """Take back what a failed write left, so that no later group continues it."""
        try:
            os.ftruncate(handle, self._end)
        except OSError as error:
            self._broken = f"a half-written group could not be cut ({error.strerror})"

    def _sync_now(self, handle: int) -> None:
        try:
            os.fdatasync(handle)
        except OSError as error:  # the kernel may have dropped the pages: a second sync would lie
            self._broken = f"fdatasync failed ({error.strerror})"
            raise WorkspaceError(
                f"journal {self.path} could not be put on disk ({error.strerror}); "
                f"check that disk, then resume the run in a new lab"
            ) from error


def _sealed(lines: list[bytes]) -> bytes:
    data = b"".join(lines)
    seal = _Commit(_Seal(len(lines), f"{google_crc32c.value(data):08x}"))
    return data + _ENCODER.encode(seal) + b"\n"


def _write(handle: int, data: bytes) -> None:
    """Write all of it; a short write is continued only to learn why it was short."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
