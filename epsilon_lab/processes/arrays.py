"""Numpy values as bytes: the one place in this room that imports numpy, loaded when the first array comes by.

Only element types that are plain numbers or fixed-width text travel, as little-endian blocks in C order. An object
array would be a pickle by another name and is refused.
"""

from __future__ import annotations

import math
import struct
import sys
from typing import Any

import numpy as np

from epsilon_lab.errors import LabError

_HEAD = struct.Struct("<ccQB")
_DIMENSION = struct.Struct("<Q")
_MAX_DIMENSIONS = 32
_KINDS = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}
"""Element kinds and their sizes in bytes; `S` and `U` come in any size."""


class BadArray(LabError, ValueError):
    """A value is not an array that may travel, or bytes do not describe one."""


def take_apart(value: Any) -> tuple[bytes, memoryview]:
    """Give the header (with its tag) and the bytes of an array or a numpy scalar.

    Raises:
        BadArray: It is no plain array of plain elements; the message follows the name of the value.
    """
    if type(value) is not np.ndarray and not isinstance(value, np.generic):
        raise BadArray(f"is a numpy {type(value).__name__}; return a plain array: np.asarray(...)")
    array = np.asarray(value)
    kind = array.dtype.newbyteorder("<")
    if not _is_plain(kind):
        raise BadArray(f"is an array of dtype {array.dtype}; return numbers or text")
    header = _HEAD.pack(b"g" if isinstance(value, np.generic) else b"a", kind.kind.encode(), kind.itemsize, array.ndim)
    header += b"".join(map(_DIMENSION.pack, array.shape))
    flat = np.ascontiguousarray(array, dtype=kind).reshape(-1)
    return header, flat.view(np.uint8).data if flat.size else memoryview(b"")


def put_together(view: memoryview, at: int) -> tuple[Any, int]:
    """Make the array or scalar whose tag is at a byte; return it and where it ends.

    Raises:
        ValueError: The bytes describe none; nothing was allocated.
    """
    if at + _HEAD.size > len(view):
        raise BadArray("an array's header is cut off")
    tag, letter, itemsize, ndim = _HEAD.unpack_from(view, at)
    at += _HEAD.size
    if ndim > _MAX_DIMENSIONS or at + 8 * ndim > len(view):
        raise BadArray(f"an array of {ndim} dimensions")
    shape = struct.unpack_from(f"<{ndim}Q", view, at)
    at += 8 * ndim
    size = itemsize * math.prod(shape)
    if size > len(view) - at:
        raise BadArray(f"an array of {size} bytes, {len(view) - at} left")
    name = letter.decode("latin-1")
    if not 0 < itemsize < 2**31 or itemsize not in _KINDS.get(name, (itemsize,)) or name not in "biufcSU":
        raise BadArray(f"element type {letter!r} of {itemsize} bytes")
    if (name == "U" and itemsize % 4) or (tag == b"g" and ndim):
        raise BadArray(f"element type {letter!r} of {itemsize} bytes")
    kind = np.dtype(f"<{name}{itemsize // 4 if name == 'U' else itemsize}")
    block = view[at : at + size]
    if name == "U" and size and int(np.frombuffer(block, "<u4").max()) > sys.maxunicode:
        raise BadArray("text with characters beyond Unicode")
    if name == "b" and size and int(np.frombuffer(block, "u1").max()) > 1:
        raise BadArray("a bool that is neither true nor false")
    array = np.frombuffer(block, kind).reshape(shape).copy()
    return (array[()] if tag == b"g" else array), at + size


def _is_plain(kind: np.dtype[Any]) -> bool:
    if kind.names is not None or kind.subdtype is not None or not kind.itemsize:
        return False
    return kind.kind in "SU" or kind.itemsize in _KINDS.get(kind.kind, ())
