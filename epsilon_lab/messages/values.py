"""How a Python object travels: as JSON where that loses nothing, else as a pickle, as a file where it is large.

JSON first because a journal should be readable by people and by DuckDB, and because opening a run must never unpickle:
a pickled value is loaded only by the lab that owns the run, when someone asks for that value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import cloudpickle
import msgspec

from epsilon_lab.errors import InvalidInput

_JSON = msgspec.json.Encoder()
_MAX_JSON_INT = 2**53  # beyond it a JSON reader may lose digits, and so would DuckDB


class Value(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An encoded Python object."""

    form: Literal["json", "pickle", "file"]
    """`json`: `data` is UTF-8 JSON; `pickle`: a cloudpickle; `file`: a path relative to the run directory."""

    data: bytes
    """The bytes, or the path. A file's own form is told by its suffix, `.json` or `.pkl`."""


class StoredValue(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A `Value` as a journal shows it: exactly one field is set."""

    json: msgspec.Raw = msgspec.Raw(b"")
    pickle: bytes | None = None
    file: str | None = None


def stored(value: Value) -> StoredValue:
    """Show a value as a journal does."""
    match value.form:
        case "json":
            return StoredValue(msgspec.Raw(value.data))
        case "pickle":
            return StoredValue(pickle=value.data)
        case "file":
            return StoredValue(file=value.data.decode())


def restored(value: StoredValue) -> Value:
    """Take a value back from a journal."""
    if json := bytes(value.json):
        return Value("json", json)
    if value.pickle is not None:
        return Value("pickle", value.pickle)
    return Value("file", (value.file or "").encode())


_LEAST_INT, _MOST_INT = -(2**63), 2**64 - 1
"""The ints that a frame can carry."""


def is_plain(value: object) -> bool:
    """Tell whether JSON gives the value back exactly: same types, same numbers."""
    kind = type(value)
    if value is None or kind is bool:
        return True
    if kind is str:
        return value.isascii() or is_text(value)  # type: ignore[attr-defined]
    if kind is int:
        return -_MAX_JSON_INT <= value <= _MAX_JSON_INT  # type: ignore[operator]
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]
    if kind is list:
        return all(map(is_plain, value))  # type: ignore[call-overload]
    if kind is dict:
        return all(type(k) is str and is_plain(k) and is_plain(v) for k, v in value.items())  # type: ignore[attr-defined]
    return False


def plain(value: Any, instead: Callable[[Any], Any] = repr) -> Any:
    """What JSON can show of a value: numpy's and pandas' as Python's own, tuples as lists, sets in order.

    Args:
        value: Anything.
        instead: Gives what stands for a value that JSON has no form for, a NaN too, or an int of more than 64 bits; by
            default its `repr`.

    Raises:
        RecursionError: It holds itself.
    """
    kind = type(value)
    if (kind is str and value.isascii()) or (kind is int and _LEAST_INT <= value <= _MOST_INT):  # as most are
        return value
    match value:
        case dict():
            return {
                name if type(name) is str and name.isascii() else str(plain(name, instead)): plain(each, instead)
                for name, each in value.items()
            }
        case list() | tuple():
            return [plain(each, instead) for each in value]
        case None | bool():
            return value
        case str():
            return str(value) if is_text(value) else instead(value)
        case int():
            return int(value) if _LEAST_INT <= value <= _MOST_INT else instead(value)
        case float():
            return float(value) if math.isfinite(value) else instead(value)
        case set() | frozenset():
            return sorted((plain(each, instead) for each in value), key=_JSON.encode)
        case _ if hasattr(value, "tolist"):  # an array, a scalar or a column
            return plain(value.tolist(), instead)
        case _ if hasattr(value, "isoformat"):  # a day, a moment
            return value.isoformat()
        case _ if hasattr(value, "to_dict") and hasattr(value, "columns"):
            return plain(value.to_dict("records"), instead)
    try:
        shown = msgspec.to_builtins(value)
    except (TypeError, ValueError):
        return instead(value)
    return instead(value) if type(shown) is type(value) else plain(shown, instead)


def pack(value: object) -> Value:
    """Encode a Python object.

    Raises:
        InvalidInput: The object can be neither written as JSON nor pickled.
    """
    if is_plain(value):
        return Value("json", _JSON.encode(value))
    try:
        return Value("pickle", cloudpickle.dumps(value))
    except Exception as error:
        raise InvalidInput(
            f"a value of type {type(value).__name__}", f"cannot be pickled ({error})", "return plain data instead"
        ) from error


def as_json(value: object) -> Value:
    """Encode what our own leaves answer, which is JSON by agreement: tuples are lists, structs are objects."""
    return Value("json", _JSON.encode(value))


def unpack(value: Value) -> Any:
    """Decode a `json` or `pickle` value; a `file` value must first be read by the run directory.

    Unpickles: call it only for values of a run that this lab owns.
    """
    match value.form:
        case "json":
            return msgspec.json.decode(value.data)
        case "pickle":
            return cloudpickle.loads(value.data)
        case "file":
            raise InvalidInput("value", f"lives in the file {value.data.decode()}", "read it through its run directory")


def is_text(value: object) -> bool:
    """Tell whether something is a str that can be written down: one without lone surrogates."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
