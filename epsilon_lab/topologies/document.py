"""A JSON object with one very long list in it, read without ever being held: the list goes by an element at a time.

What an element means is nobody's business here: its bytes are cut out by counting brackets, and whoever reads them
finds out whether they are JSON.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

_CHUNK = 256 * 1024
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_TOKEN = re.compile(_STRING.pattern + rb'|["\[\]{}]', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,:\[\]{}\"]+")
_SPACE = re.compile(rb"[ \t\r\n]*")


class Malformed(ValueError):
    """It is no JSON object; the message says where."""


class Document:
    """The object, and the list in it.

    Args:
        path: The file.
        long: The name of the list.

    Raises:
        Malformed: It is no JSON object.
        OSError: It cannot be read.

    Attributes:
        members: The other members, by name, as they stand there; and of the list the first element, in a list.
        count: How many elements it has; 0 where there is none.
    """

    def __init__(self, path: Path, long: str) -> None:
        self._path = path
        self._begin: int | None = None
        self.members: dict[str, bytes] = {}
        self.count = 0
        with path.open("rb") as file:
            reader = _Reader(file)
            reader.skip(codecs.BOM_UTF8)
            if reader.peek() != b"{":
                raise Malformed("it is no object")
            for name in reader.names():
                if name in self.members:
                    raise Malformed(f"it has {name!r} twice")
                if name == long and reader.peek() == b"[":
                    self._begin = reader.offset
                    first = b""
                    for element in reader.elements():
                        first = first or element
                        self.count += 1
                    self.members[name] = b"[" + first + b"]"
                else:
                    self.members[name] = reader.value()
            if reader.peek():
                raise Malformed(f"something follows its end, at byte {reader.offset}")

    def elements(self) -> Iterator[bytes]:
        """The list's elements, as they stand there, one by one.

        Raises:
            Malformed: The file was changed, and is no JSON any more.
            OSError: It cannot be read.
        """
        if self._begin is None:
            return
        with self._path.open("rb") as file:
            file.seek(self._begin)
            yield from _Reader(file, self._begin).elements()


class _Reader:
    """A place in a file."""

    def __init__(self, file: BinaryIO, offset: int = 0) -> None:
        self._file = file
        self._data, self._at, self._base = b"", 0, offset

    @property
    def offset(self) -> int:
        """Bytes before the place."""
        return self._base + self._at

    def _more(self) -> bool:
        chunk = self._file.read(max(_CHUNK, len(self._data) - self._at))
        self._base += self._at
        self._data, self._at = self._data[self._at :] + chunk, 0
        return bool(chunk)

    def skip(self, word: bytes) -> None:
        """Go past a word, if it stands here."""
        while len(self._data) < len(word) and self._more():
            pass
        self._at += len(word) * self._data.startswith(word)

    def peek(self) -> bytes:
        """The next byte that is no space; none at the end."""
        while True:
            if found := _SPACE.match(self._data, self._at):
                self._at = found.end()
            if self._at < len(self._data) or not self._more():
                return self._data[self._at : self._at + 1]

    def _expect(self, wanted: bytes) -> bytes:
        found = self.peek()
        if not found or found not in wanted:
            shown = " or ".join(repr(chr(each)) for each in wanted)
            raise Malformed(f"{shown} is missing at byte {self.offset}")
        self._at += 1
        return found

    def names(self) -> Iterator[str]:
        """Walk over an object: the place is before the value whenever a name is given."""
        self._expect(b"{")
        if self.peek() == b"}":
            self._at += 1
            return
        while True:
            if self.peek() != b'"':
                raise Malformed(f"a name is missing at byte {self.offset}")
            name = self.value()
            self._expect(b":")
            try:
                yield msgspec.json.decode(name, type=str)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Malformed(f"a name before byte {self.offset} is none ({error})") from error
            if self._expect(b",}") == b"}":
                return

    def elements(self) -> Iterator[bytes]:
        """Walk over a list."""
        self._expect(b"[")
        if self.peek() == b"]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._expect(b",]") == b"]":
                return

    def value(self) -> bytes:
        """Take what stands here, whatever it is."""
        self.peek()
        while (end := self._end()) is None:
            if not self._more():
                raise Malformed(f"it ends within a value that begins at byte {self.offset}")
        if end == self._at:
            raise Malformed(f"a value is missing at byte {self.offset}")
        found = self._data[self._at : end]
        self._at = end
        return found

    def _end(self) -> int | None:
        """Where the value here ends, as far as can be seen."""
        first = self._data[self._at : self._at + 1]
        if first == b'"':
            return found.end() if (found := _STRING.match(self._data, self._at)) else None
        if first not in (b"{", b"["):
            found = _SCALAR.match(self._data, self._at)
            end = found.end() if found else self._at
            return end if end < len(self._data) or not self._more() else self._end()
        depth = 0
        for token in _TOKEN.finditer(self._data, self._at):
            match token[0]:
                case b"{" | b"[":
                    depth += 1
                case b"}" | b"]":
                    depth -= 1
                    if not depth:
                        return token.end()
                case b'"':
                    return None
        return None
