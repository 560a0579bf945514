"""Many items on disk, written once and read one by one, so that nobody holds them all.

`items.ndjson` has an item a line, as a journal shows values (`{"json": ...}`, `{"pickle": ...}`, or the `file` of one
that is too large for a line); beside it `items.idx` says where each line ends, in eight bytes each. What a task is
given is a reference into it: the value of the form `file` called `items.ndjson#17`, which `RunDirectory.fetch` reads.

A reader takes a page of lines at a time, since whoever gets one item gets the next ones soon; it keeps no file open.
"""

from __future__ import annotations

import functools
import hashlib
import os
import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

import msgspec

from epsilon_lab.messages.events import ArtifactSaved
from epsilon_lab.messages.values import StoredValue, Value, restored, stored
from epsilon_lab.settings import INLINE_LIMIT

if TYPE_CHECKING:
    from epsilon_lab.workspace.layout import RunDirectory

ITEMS = "items.ndjson"
_REFERENCE = ITEMS.encode() + b"#%d"
_INDEX = "items.idx"
_END = struct.Struct("<Q")
_ENCODER = msgspec.json.Encoder()
_PAGE = 256
"""Items a page."""

_PAGE_LIMIT = 1024 * 1024
"""Bytes: of a page that is longer, one line is read at a time."""


class SavedItems(NamedTuple):
    """What was written."""

    items: int
    files: list[ArtifactSaved]
    """To be journaled."""


def item_value(place: int) -> Value:
    """A reference to the item of that place."""
    return Value("file", _REFERENCE % place)


def save_items(run: RunDirectory, values: Iterable[Value]) -> SavedItems:
    """Write items into a run directory, as they come; what the iterable raises, it raises.

    Raises:
        OSError: They cannot be written.
    """
    large: list[ArtifactSaved] = []
    count = end = 0
    with _Part(run.locate(ITEMS)) as lines, _Part(run.locate(_INDEX)) as index:
        for value in values:
            if len(value.data) > INLINE_LIMIT:
                value, saved = run.keep(value, f"inputs/item-{count:06d}", kind="input")
                large += saved
            end += lines.write(_ENCODER.encode(stored(value)) + b"\n")
            index.write(_END.pack(end))
            count += 1
        files = [part.described() for part in (lines, index)]
    return SavedItems(count, [*large, *files])


class _Part:
    """A file in the making, which gets its name once it is whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._size = 0

    def __enter__(self) -> Self:
        handle, self._temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".part-")
        self._file: BinaryIO = os.fdopen(handle, "wb", 1024 * 1024)
        return self

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self._size += len(data)
        return self._file.write(data)

    def described(self) -> ArtifactSaved:
        return ArtifactSaved(path=self._path.name, kind="input", sha256=self._digest.hexdigest(), bytes=self._size)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._file.close()
            if kind is None:
                os.replace(self._temporary, self._path)
        finally:
            Path(self._temporary).unlink(missing_ok=True)


def read_item(run: RunDirectory, ref: str, place: int) -> Value:
    """Read the item of a place.

    Raises:
        OSError: The file is not there, or has no such item.
    """
    number, at = divmod(place, _PAGE)
    ends, lines = _page(run, ref, number) if place >= 0 else ((), b"")
    if at + 1 >= len(ends):
        raise FileNotFoundError(f"{ref} of run {run.run_id} has no item {place}")
    begin, end = ends[at], ends[at + 1]
    line = lines[begin - ends[0] : end - ends[0]] if lines else run.read_part(ref, begin, end - begin)
    value = restored(_LINE.decode(line))
    return run.fetch(value) if value.form == "file" else value


@functools.lru_cache(maxsize=4)
def _page(run: RunDirectory, ref: str, number: int) -> tuple[tuple[int, ...], bytes]:
    """Where the lines of a page begin, and the last of them ends; the lines, unless they are too long together."""
    first = number * _PAGE
    found = run.read_part(
        ref.removesuffix(".ndjson") + ".idx", max(0, first - 1) * _END.size, (_PAGE + (first > 0)) * _END.size
    )
    ends = tuple(end for (end,) in _END.iter_unpack(found))
    if not first:
        ends = (0, *ends)
    size = ends[-1] - ends[0] if ends else 0
    return ends, run.read_part(ref, ends[0], size) if 0 < size <= _PAGE_LIMIT else b""


_LINE = msgspec.json.Decoder(StoredValue)
