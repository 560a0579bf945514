"""What a lab has to know of its own past before it can begin: the last epoch, its births, what was last said on topics.

All of it is in the lab's journal, which is never cut short, so that after years most of it says what is long over.
`lab/snapshot.json` holds what came of everything up to a place in it, and a lab that opens reads only what follows.
The snapshot is no truth of its own: it carries a checksum and the commit line that stands before its place, and one
that does not fit the journal, or was never finished, is passed over and made again. It is put down by write, fsync,
rename, fsync of the directory, in this order, so that a crash at any of them leaves the one before.

A run's journal needs none: it is read once, when the run is taken up again, every line of it has to be put to the rules
anyway, and rules have no form on disk but the lines they came from. Tables read journals whole, since they show all.
"""

from __future__ import annotations

import os
from pathlib import Path

import google_crc32c
import msgspec

from epsilon_lab.errors import WorkspaceError
from epsilon_lab.messages.events import LabOpened, MessageLine, RunBorn, TopicsPublished, message_of
from epsilon_lab.messages.post import Message
from epsilon_lab.workspace.layout import JOURNAL
from epsilon_lab.workspace.scan import START, Position, Record, scan, segment_path

SNAPSHOT = "snapshot.json"

_EVERY_BYTES = 1024 * 1024
"""How much of a journal is rather read again than a snapshot made."""

_LINE = 200
"""Bytes within which a commit line has room."""


class Register(msgspec.Struct):
    """What a lab's journal comes to."""

    epoch: int = 0
    """The last one; 0 where no lab was ever open."""

    births: set[str] = msgspec.field(default_factory=set)
    """Runs that were born in this workspace, or adopted by it."""

    topics: dict[str, MessageLine] = msgspec.field(default_factory=dict)
    """What was said last on each topic."""

    end: Position = START
    """Where the journal is read to."""

    behind: str = ""
    """The commit line that stands before that place."""

    @property
    def last_values(self) -> dict[str, Message]:
        """What was said last on each topic."""
        return {name: message_of(line) for name, line in self.topics.items()}

    def take(self, records: list[Record]) -> None:
        """Take in lines that follow."""
        for record in records:
            match record.type:
                case "lab.opened":
                    self.epoch = max(self.epoch, msgspec.json.decode(record.body, type=LabOpened).epoch)
                case "lab.run":
                    self.births.add(msgspec.json.decode(record.body, type=RunBorn).run_id)
                case "topic.published":
                    self.topics |= msgspec.json.decode(record.body, type=TopicsPublished).topics


class _Snapshot(msgspec.Struct):
    crc32c: str
    register: msgspec.Raw


def read_register(lab: Path, *, every_bytes: int | None = None) -> Register:
    """Read a lab's past.

    Args:
        lab: The directory of the lab's own journal.
        every_bytes: Make a snapshot if so many bytes had to be read; None for whoever only looks.

    Raises:
        JournalDamaged: The journal is broken elsewhere than at its torn tail, as far as it had to be read.
        WorkspaceError: It cannot be read, or the snapshot not be written.
    """
    journal = lab / JOURNAL
    register = _load(lab / SNAPSHOT, journal) or Register()
    before = register.end
    register.end, _ = scan(journal, before, register.take)
    is_long = before.segment < register.end.segment or register.end.offset - before.offset >= (every_bytes or 0)
    if every_bytes is not None and register.end.offset and is_long:
        register.behind = _line_before(journal, register.end)
        _save(lab / SNAPSHOT, register)
    return register


def open_register(lab: Path) -> Register:
    """Read the past of a lab that is about to begin, and make the next beginning quick."""
    return read_register(lab, every_bytes=_EVERY_BYTES)


def _load(path: Path, journal: Path) -> Register | None:
    """Read a snapshot; None where there is none that fits the journal."""
    try:
        snapshot = msgspec.json.decode(path.read_bytes(), type=_Snapshot)
        if snapshot.crc32c != f"{google_crc32c.value(bytes(snapshot.register)):08x}":
            return None
        register = msgspec.json.decode(snapshot.register, type=Register)
        return register if register.behind and _line_before(journal, register.end) == register.behind else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _line_before(journal: Path, place: Position) -> str:
    with segment_path(journal, place.segment).open("rb") as file:
        file.seek(max(0, place.offset - _LINE))
        before = file.read(min(_LINE, place.offset))
    return before.rstrip(b"\n").rpartition(b"\n")[2].decode() if before.endswith(b"\n") else ""


def _save(path: Path, register: Register) -> None:
    body = msgspec.json.encode(register)
    data = msgspec.json.encode(_Snapshot(f"{google_crc32c.value(body):08x}", msgspec.Raw(body)))
    draft = path.with_name(f".part-{path.name}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        handle = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise WorkspaceError(f"snapshot {path} cannot be written ({error.strerror}); free space on its disk") from error
