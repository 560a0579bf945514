"""Outputs are data: how a value leaves a process that nobody trusts.

A pickle is a program, so none ever crosses this boundary. What crosses is None, bool, int of any size, float (bit for
bit), str, bytes, list, tuple, dict, and numpy arrays and scalars of plain numbers or text. JSON was weighed and left:
it loses NaN, tuples, bytes and int keys, and is thirty times slower on a million floats.

The decoder reads bytes that an enemy may have written. It believes no count it has not compared with the bytes that
are left, recurses no deeper than `MAX_DEPTH`, and calls nothing but constructors of the types above.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from epsilon_lab.errors import LabError

if TYPE_CHECKING:
    from types import ModuleType

MAX_DEPTH = 100
"""How deep lists, tuples and dicts may nest."""

_COUNT = struct.Struct("<Q")
_INT = struct.Struct("<q")
_FLOAT = struct.Struct("<d")
_HOPELESS_INT = 1 << 20  # bytes; a longer int would take minutes to print or to compare


class NotData(LabError):
    """A value is of a type that may not leave the sandbox.

    Attributes:
        path: Where it is, as an expression on the output: `output[3]['x']`.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        super().__init__(f"{path} {problem}")


class TooLarge(LabError):
    """An encoded value exceeds its limit in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the output takes more than {limit:,} bytes; return less")


class Malformed(LabError):
    """Bytes are not an encoded value."""


def encode(value: object, limit: int | None = None) -> bytes:
    """Encode a value. Subclasses of the built-in types are written as the type they extend.

    Args:
        value: Data.
        limit: Most bytes the result may have; None for any.

    Raises:
        NotData: Something in it has another type; the message names the place.
        TooLarge: The encoded value would exceed the limit.
    """
    writer = _Writer(limit)
    try:
        writer.write(value, 0)
        writer.room(0)
    except _Refused as refused:
        path = "output" + "".join(f"[{_brief(key)}]" for key in reversed(refused.path))
        raise NotData(path, refused.problem) from None
    return bytes(writer.out)


def decode(blob: bytes) -> Any:
    """Decode a value; whatever the bytes are, this returns data or raises `Malformed`.

    Raises:
        Malformed: The bytes are not exactly one encoded value.
    """
    reader = _Reader(blob)
    try:
        value = reader.read(0)
    except Malformed:
        raise
    except (ValueError, TypeError, struct.error, OverflowError) as error:
        raise Malformed(f"not an encoded value at byte {reader.at}: {error}") from error
    if reader.at != len(blob):
        raise Malformed(f"{len(blob) - reader.at} bytes follow the encoded value")
    return value


def _arrays() -> ModuleType:
    """The door to numpy, opened when the first array comes by."""
    return importlib.import_module("epsilon_lab.processes.arrays")


class _Refused(Exception):
    """A value is no data; the path is gathered, innermost first, on the way out."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.path: list[object] = []


class _Writer:
    """Appends tags and bodies to one buffer and watches its size.

    A list or tuple of one kind of scalar is written by a single call in C: that is what numeric programs return.
    """

    def __init__(self, limit: int | None) -> None:
        self.out = bytearray()
        self.limit = limit

    def room(self, size: int) -> None:
        if self.limit is not None and len(self.out) + size > self.limit:
            raise TooLarge(self.limit)

    def write(self, value: Any, depth: int) -> None:
        kind = type(value)
        if value is None:
            self.out += b"N"
        elif kind is bool:
            self.out += b"T" if value else b"F"
        elif kind is int:
            self.integer(value)
        elif kind is float:
            self.out += b"f" + _FLOAT.pack(value)
        elif kind is str:
            self.sized(b"s", value.encode("utf-8", "surrogatepass"))
        elif kind is bytes:
            self.sized(b"b", value)
        elif kind is list or kind is tuple:
            self.sequence(value, kind is tuple, depth)
        elif kind is dict:
            self.mapping(value, depth)
        else:
            self.other(value, depth)

    def sized(self, tag: bytes, body: bytes) -> None:
        self.room(len(body))
        self.out += tag + _COUNT.pack(len(body))
        self.out += body

    def integer(self, value: int) -> None:
        if -(2**63) <= value < 2**63:
            self.out += b"i" + _INT.pack(value)
        else:
            size = value.bit_length() // 8 + 1
            if size > _HOPELESS_INT:
                raise _Refused(f"is an int of {size:,} bytes; the most is {_HOPELESS_INT:,}")
            self.sized(b"I", value.to_bytes(size, "little", signed=True))

    def sequence(self, value: list[Any] | tuple[Any, ...], is_tuple: bool, depth: int) -> None:
        _check_depth(depth)
        self.room(len(value))
        self.out += b"t" if is_tuple else b"l"
        head = len(self.out)
        self.out += b"*" + _COUNT.pack(len(value))
        kinds = set(map(type, value)) if value else set()
        if len(kinds) == 1 and (packer := _PACKERS.get(kinds.pop())) and (packed := packer(value)):
            tag, body = packed
            self.room(len(body))
            self.out[head : head + 1] = tag
            self.out += body
            return
        for index, item in enumerate(value):
            try:
                self.write(item, depth + 1)
            except _Refused as refused:
                refused.path.append(index)
                raise
            if not index % 1024:
                self.room(0)

    def mapping(self, value: dict[Any, Any], depth: int) -> None:
        _check_depth(depth)
        self.room(len(value))
        self.out += b"d" + _COUNT.pack(len(value))
        for index, (key, item) in enumerate(value.items()):
            if not _is_key(key):
                raise _Refused(f"has a key of type {type(key).__name__}; keys are None, bool, int, float, str, bytes")
            try:
                self.write(key, depth + 1)
                self.write(item, depth + 1)
            except _Refused as refused:
                refused.path.append(key)
                raise
            if not index % 1024:
                self.room(0)

    def other(self, value: Any, depth: int) -> None:
        if type(value).__module__ == "numpy":
            try:
                header, body = _arrays().take_apart(value)
            except ValueError as error:
                raise _Refused(str(error)) from None
            self.room(len(body))
            self.out += header
            self.out += body
            return
        for base, plain in _PLAIN.items():
            if isinstance(value, base):
                self.write(plain(value), depth)
                return
        raise _Refused(f"is {_a(type(value).__name__)}; {_REMEDIES.get(type(value), 'return plain data')}")


_PLAIN: dict[type, Callable[[Any], object]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    list: list.copy,
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    dict: dict.copy,
}
"""The built-in value under a subclass (an enum, a Counter, a named tuple), without the subclass's methods."""

_REMEDIES: dict[type, str] = {
    set: "return a sorted list",
    frozenset: "return a sorted list",
    range: "return a list",
    complex: "return (real, imag)",
    bytearray: "return bytes",
    memoryview: "return bytes",
}


def _brief(key: object) -> str:
    try:
        return f"{key!r:.40}"
    except ValueError:  # an int beyond the digits Python agrees to print
        return "..."


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise _Refused(f"is nested deeper than {MAX_DEPTH} levels")


def _is_key(key: object) -> bool:
    return key is None or type(key) in (bool, int, float, str, bytes) or (type(key) is tuple and all(map(_is_key, key)))


def _pack_ints(items: Any) -> tuple[bytes, bytes] | None:
    try:
        return b"i", struct.pack(f"<{len(items)}q", *items)
    except struct.error:  # one of them needs more than 64 bits
        return None


def _pack_strs(items: Any) -> tuple[bytes, bytes]:
    text = "".join(items).encode("utf-8", "surrogatepass")
    lengths = struct.pack(f"<{len(items)}I", *map(len, items))
    return b"s", lengths + _COUNT.pack(len(text)) + text


_PACKERS: dict[type, Callable[[Any], tuple[bytes, bytes] | None]] = {
    float: lambda items: (b"f", struct.pack(f"<{len(items)}d", *items)),
    int: _pack_ints,
    bool: lambda items: (b"T", bytes(items)),
    str: _pack_strs,
}


class _Reader:
    """Takes one value off a buffer. Every size is compared with what is left before anything is made of it."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self.view = memoryview(blob)
        self.at = 0

    def take(self, size: int) -> memoryview:
        if size > len(self.blob) - self.at:
            raise Malformed(f"at byte {self.at}: {size} bytes announced, {len(self.blob) - self.at} left")
        self.at += size
        return self.view[self.at - size : self.at]

    def count(self, each: int) -> int:
        """A number of items that take at least `each` bytes apiece."""
        (count,) = _COUNT.unpack(self.take(8))
        if count * each > len(self.blob) - self.at:
            raise Malformed(f"at byte {self.at}: {count} items announced, {len(self.blob) - self.at} bytes left")
        return int(count)

    def read(self, depth: int) -> Any:
        tag = bytes(self.take(1))
        match tag:
            case b"N":
                return None
            case b"T":
                return True
            case b"F":
                return False
            case b"i":
                return _INT.unpack(self.take(8))[0]
            case b"f":
                return _FLOAT.unpack(self.take(8))[0]
            case b"s":
                return str(self.take(self.count(1)), "utf-8", "surrogatepass")
            case b"b":
                return bytes(self.take(self.count(1)))
            case b"I":
                size = self.count(1)
                if size > _HOPELESS_INT:
                    raise Malformed(f"at byte {self.at}: an int of {size} bytes")
                return int.from_bytes(self.take(size), "little", signed=True)
            case b"l" | b"t" | b"d" if depth >= MAX_DEPTH:
                raise Malformed(f"at byte {self.at}: nested deeper than {MAX_DEPTH} levels")
            case b"l":
                return self.sequence(depth)
            case b"t":
                return tuple(self.sequence(depth))
            case b"d":
                return self.mapping(depth)
            case b"a" | b"g":
                array, self.at = _arrays().put_together(self.view, self.at - 1)
                return array
        raise Malformed(f"at byte {self.at - 1}: {tag!r} is no type")

    def sequence(self, depth: int) -> Any:
        tag = bytes(self.take(1))
        match tag:
            case b"*":
                return [self.read(depth + 1) for _ in range(self.count(1))]
            case b"f":
                count = self.count(8)
                return list(struct.unpack(f"<{count}d", self.take(8 * count)))
            case b"i":
                count = self.count(8)
                return list(struct.unpack(f"<{count}q", self.take(8 * count)))
            case b"T":
                return list(map(bool, self.take(self.count(1))))
            case b"s":
                count = self.count(4)
                lengths = struct.unpack(f"<{count}I", self.take(4 * count))
                text = str(self.take(self.count(1)), "utf-8", "surrogatepass")
                if sum(lengths) != len(text):
                    raise Malformed(f"at byte {self.at}: the strings' lengths do not add up")
                ends = list(accumulate(lengths))
                return list(map(text.__getitem__, map(slice, [0, *ends], ends)))
        raise Malformed(f"at byte {self.at - 1}: {tag!r} is no item type")

    def mapping(self, depth: int) -> dict[Any, Any]:
        count = self.count(2)
        found: dict[Any, Any] = {}
        for _ in range(count):
            key = self.read(depth + 1)
            if not _is_key(key):
                raise Malformed(f"at byte {self.at}: a key of type {type(key).__name__}")
            found[key] = self.read(depth + 1)
        if len(found) != count:
            raise Malformed(f"at byte {self.at}: a key occurs twice")
        return found
