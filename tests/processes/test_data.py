"""Data crosses bit for bit, and bytes from an enemy make a value or a `Malformed`, never anything else."""

from __future__ import annotations

import collections
import contextlib
import enum
import math
import struct
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from epsilon_lab.processes.data import MAX_DEPTH, Malformed, NotData, TooLarge, decode, encode

KEYS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
SCALARS = KEYS | st.floats(allow_nan=True) | st.integers(-(10**40), 10**40)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(st.floats())
        | st.lists(st.integers())
        | st.lists(st.text())
        | st.lists(st.booleans())
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
    ),
    max_leaves=20,
)
DTYPES = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes()
    | hnp.unsigned_integer_dtypes()
    | hnp.floating_dtypes(sizes=(16, 32, 64))
)
DTYPES = DTYPES | hnp.complex_number_dtypes(sizes=(64, 128)) | hnp.unicode_string_dtypes() | hnp.byte_string_dtypes()


def same(a: Any, b: Any) -> bool:
    """Equal in type and in every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    return a == b


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert same(decode(encode(value)), value)


@given(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_dims=4)))
def test_an_array_comes_back_as_it_was(array: np.ndarray[Any, Any]) -> None:
    back = decode(encode(array))
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype.newbyteorder("<")
    assert back.shape == array.shape
    assert back.tobytes() == np.ascontiguousarray(array).astype(back.dtype).tobytes()
    assert back.flags.writeable


@pytest.mark.parametrize(
    "value",
    [
        np.float64("nan"),
        np.float32(-0.0),
        np.int8(-3),
        np.bool_(True),
        np.complex128(1 + 2j),
        np.str_("é"),
        np.str_(""),
    ],
)
def test_a_numpy_scalar_keeps_its_type(value: Any) -> None:
    back = decode(encode([value]))[0]
    assert type(back) is type(value)
    assert back.tobytes() == value.tobytes()


@pytest.mark.parametrize("value", [math.nan, -0.0, [math.nan, -0.0, 5e-324], 2**63, -(2**63), [2**63, 1], -(2**900)])
def test_corner_numbers_survive(value: Any) -> None:
    assert same(decode(encode(value)), value)


def test_subclasses_arrive_as_the_type_they_extend() -> None:
    class Colour(enum.Enum):
        RED = "red"

    class Level(enum.IntEnum):
        LOW = 1

    class Tone(enum.StrEnum):
        HIGH = "high"

    class Point(NamedTuple):
        x: int
        y: int

    counter = collections.Counter("aab")
    assert same(decode(encode([counter, Level.LOW, Tone.HIGH, Point(1, 2)])), [{"a": 2, "b": 1}, 1, "high", (1, 2)])
    with pytest.raises(NotData, match="is a Colour"):
        encode(Colour.RED)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((n for n in ()), r"^output is a generator"),
        ([0, 1, 2, {"x": (n for n in ())}], r"^output\[3\]\['x'\] is a generator"),
        ([{1, 2}], r"^output\[0\] is a set; return a sorted list"),
        ({"a": object()}, r"^output\['a'\] is an object"),
        ({frozenset(): 1}, r"^output has a key of type frozenset"),
        ([1, lambda: 0], r"^output\[1\] is a function"),
        ([np.array([object()])], r"^output\[0\] is an array of dtype object"),
        (np.array(["2020-01-01"], "M8[D]"), r"dtype datetime64"),
        (np.rec.array([(1,)], dtype=[("x", "i4")]), r"is a"),
    ],
)
def test_a_wrong_type_is_refused_with_its_place(value: Any, message: str) -> None:
    with pytest.raises(NotData, match=message):
        encode(value)


def test_an_int_too_long_to_handle_is_refused() -> None:
    with pytest.raises(NotData, match="int of"):
        encode(1 << (9 << 20))
    with pytest.raises(NotData, match="a set"):
        encode({10**5000: {1}})


def test_deep_and_endless_nesting_is_refused_at_both_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotData, match="nested deeper"):
        encode(loop)
    with pytest.raises(Malformed, match="nested deeper"):
        decode(b"l*\x01\0\0\0\0\0\0\0" * 100_000 + b"N")
    deepest: list[Any] = []
    for _ in range(MAX_DEPTH - 1):
        deepest = [deepest]
    assert decode(encode(deepest)) == deepest


@pytest.mark.parametrize(
    "value",
    [
        "x" * 1000,
        b"x" * 1000,
        [1.0] * 125,
        list(range(125)),
        [None] * 1000,
        ["ab"] * 200,
        np.zeros(125),
        [[True] * 1000],
    ],
)
def test_the_limit_holds_for_every_shape(value: Any) -> None:
    assert decode(encode(value, 2000)) is not None
    with pytest.raises(TooLarge):
        encode(value, 999)


def test_an_exploding_value_stops_at_the_limit() -> None:
    value: Any = [0, "x"]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(TooLarge):
        encode(value, 1 << 20)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_malformed(blob: bytes) -> None:
    with contextlib.suppress(Malformed):
        decode(blob)


@given(VALUES | hnp.arrays(DTYPES, hnp.array_shapes(max_dims=3)), st.data())
def test_a_damaged_encoding_is_a_value_or_malformed(value: Any, data: st.DataObject) -> None:
    blob = bytearray(encode(value))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(blob)))
    for attack in (bytes(blob), bytes(blob[:cut]), bytes(blob) + b"N"):
        with contextlib.suppress(Malformed):
            decode(attack)


@pytest.mark.parametrize("tag", [b"s", b"b", b"I", b"l*", b"lf", b"li", b"lT", b"ls", b"t*", b"d"])
def test_an_announced_size_is_not_believed(tag: bytes) -> None:
    with pytest.raises(Malformed, match="announced"):
        decode(tag + struct.pack("<Q", 2**62))


@pytest.mark.parametrize(
    ("letter", "itemsize", "shape"),
    [
        (b"f", 8, (2**61,)),
        (b"f", 8, (2**32, 2**32)),
        (b"S", 0, (2**50,)),
        (b"O", 8, (1,)),
        (b"V", 8, (1,)),
        (b"f", 8, (0, 2**63)),
        (b"U", 6, (1,)),
        (b"U", 4, (1,)),
        (b"b", 1, (8,)),
        (b"M", 8, (1,)),
        (b"S", 2**63, (0,)),
    ],
)
def test_a_forged_array_header_allocates_nothing(letter: bytes, itemsize: int, shape: tuple[int, ...]) -> None:
    header = struct.pack("<ccQB", b"a", letter, itemsize, len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
    with pytest.raises(Malformed):
        decode(header + b"\xff" * 8)
