"""The reading end of a journal, the same for everyone: tables, resume, watchers in other processes, and the writer.

A journal is a row of files: `journal.ndjson`, and once that is full `journal.ndjson.000002` and so on, a name that
sorts behind it in any locale. The files are listed first and read then. A file is finished before its successor is
made, so whatever had a successor in the listing is whole, and must be; only the last of the list may end in a torn
group. The same holds for a copy taken of a run at work: `cp`, `tar` and `rsync` list before they read as well.

Records are numbered through, so a file that is missing, doubled or out of place shows as a number that does not
follow. What a reader cannot see is a journal cut between two groups: it reads like one that ended there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import msgspec

from epsilon_lab.errors import JournalDamaged, WorkspaceError

_SEAL = b'\n{"commit":'
_SUFFIX = re.compile(r"\d{6}")
_CHUNK = 4 * 1024 * 1024
"""Bytes read at once."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One line of a journal."""

    seq: int
    """1 for a journal's first line, then consecutive."""

    ts: float
    """Wall seconds since the epoch."""

    type: str
    body: msgspec.Raw
    """JSON; the struct of that type in messages/events decodes it."""


class Position(NamedTuple):
    """A place between two groups of a journal."""

    segment: int = 1
    """The file, counted from 1."""

    offset: int = 0
    """Bytes of that file before it."""

    seq: int = 1
    """The number of the record that comes next."""


class JournalRead(NamedTuple):
    """What a look into a journal found."""

    records: list[Record]
    end: Position
    """Behind the last commit: where the next look starts."""

    torn: int
    """Bytes behind `end`: a group still being written, or one that never will be."""


_RECORDS = msgspec.json.Decoder(Record)

START = Position()


def segment_path(path: Path, number: int) -> Path:
    """Name a journal's file; the first has the journal's own name."""
    return path if number == 1 else path.with_name(f"{path.name}.{number:06d}")


def segments(path: Path) -> int:
    """Count a journal's files; 0 where there is none.

    Raises:
        JournalDamaged: One of them is missing.
        OSError: Its directory cannot be listed.
    """
    try:
        names = set(os.listdir(path.parent))
    except (FileNotFoundError, NotADirectoryError):
        return 0
    suffixes = (name.removeprefix(f"{path.name}.") for name in names if name.startswith(path.name))
    numbers = {int(suffix) for suffix in suffixes if _SUFFIX.fullmatch(suffix)}
    if path.name in names:
        numbers.add(1)
    missing = set(range(1, max(numbers, default=0))) - numbers
    if missing:
        raise JournalDamaged(str(segment_path(path, min(missing))), 0, "this file is missing, and later ones exist")
    return len(numbers)


def seal(lines: bytes) -> bytes:
    """Make the commit line of a group, without its newline: how many records there are, and CRC-32C over the bytes."""
    return b'{"commit":{"records":%d,"crc32c":"%08x"}}' % (lines.count(b"\n"), google_crc32c.value(lines))


def read_journal(path: Path | str, start: Position = START) -> JournalRead:
    """Read the committed records behind a place, whether or not someone is writing.

    Args:
        path: The journal's first file; a missing one is empty.
        start: The `end` of an earlier look. Whether the file is still the same one is the caller's concern.

    Raises:
        JournalDamaged: A file is broken elsewhere than at the torn tail of the last.
        WorkspaceError: A file cannot be read.
    """
    records: list[Record] = []
    end, torn = scan(Path(path), start, records.extend)
    return JournalRead(records, end, torn)


def scan(
    path: Path, start: Position, take: Callable[[list[Record]], object], *, stop: Callable[[], bool] = lambda: False
) -> tuple[Position, int]:
    """Walk over the groups behind a place, handing each one's records to `take`; the end, and the torn bytes behind it.

    Args:
        path: The journal's first file; a missing one is empty.
        start: The `end` of an earlier look.
        take: Gets the records of one group after another.
        stop: Asked behind each group; where it says so, that is the end, whatever comes behind it.

    Raises:
        JournalDamaged: As for `read_journal`.
        WorkspaceError: As for `read_journal`.
    """
    try:
        count = segments(path)
        end, torn = start, 0
        for number in range(start.segment, count + 1):
            file = segment_path(path, number)
            end = end if number == end.segment else Position(number, 0, end.seq)
            end, torn, is_stopped = _walk(file, end, take, stop)
            if is_stopped:
                return end, 0
            if torn and number < count:
                raise JournalDamaged(str(file), end.offset, "it ends within a group, though the journal goes on")
    except OSError as error:
        raise WorkspaceError(
            f"journal {path} cannot be read ({error.strerror}); check the file's permissions"
        ) from error
    return end, torn


def _walk(
    path: Path, start: Position, take: Callable[[list[Record]], object], stop: Callable[[], bool]
) -> tuple[Position, int, bool]:
    """Walk over one file's complete groups; where they end, the bytes behind them, and whether it was stopped there."""
    seq, end = start.seq, start.offset
    with path.open("rb", buffering=0) as file:
        if file.seek(0, os.SEEK_END) < end:
            raise JournalDamaged(str(path), end, "it is shorter than when it was read before")
        file.seek(end)
        rest, size = b"", _CHUNK
        while chunk := file.read(size):
            data = rest + chunk
            begin = 0
            while True:
                closing = data.find(_SEAL, begin) + 1
                line_end = data.find(b"\n", closing) if closing else -1
                if line_end < 0:
                    break
                records = _group(data[begin:closing], data[closing:line_end], path, end)
                if records and (records[0].seq, records[-1].seq) != (seq, seq + len(records) - 1):
                    raise JournalDamaged(str(path), end, f"record {records[0].seq} stands where {seq} belongs")
                take(records)
                seq += len(records)
                end += line_end + 1 - begin
                begin = line_end + 1
                if stop():
                    return Position(start.segment, end, seq), 0, True
            rest = data[begin:]
            size = max(_CHUNK, len(rest))  # a group of many chunks is looked through a few times, not once a chunk
    _check_torn(rest, seq, path, end)
    return Position(start.segment, end, seq), len(rest), False


def _group(lines: bytes, commit: bytes, path: Path, offset: int) -> list[Record]:
    """Check a group against its commit line, and decode it."""
    if commit != seal(lines):
        raise JournalDamaged(str(path), offset, "the checksum of this group does not match its commit line")
    try:
        return _RECORDS.decode_lines(lines)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise JournalDamaged(str(path), offset, f"a line of this group is no record ({error})") from error


def _check_torn(rest: bytes, seq: int, path: Path, offset: int) -> None:
    """What follows the last commit must be what a killed writer can leave: whole records, then a part of a line."""
    *lines, part = rest.split(b"\n")
    for number, line in enumerate(lines, seq):
        try:
            record = _RECORDS.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise JournalDamaged(str(path), offset, f"a line is neither a record nor a commit ({error})") from error
        if record.seq != number:
            raise JournalDamaged(str(path), offset, f"record {record.seq} stands where {number} belongs")
        offset += len(line) + 1
    if part[:-1] == seal(b"".join(line + b"\n" for line in lines)):  # a torn write ends before this byte
        raise JournalDamaged(str(path), offset + len(part) - 1, "a commit line does not end in a newline")
