"""How near two texts are: the one door to rapidfuzz, which is loaded with the first comparison.

Every measure is a number from 0 (nothing in common) to 1 (equal), is symmetric, and compares its texts as they are:
`reducers.fold` takes case and accents away first. Two texts are compared by the function of a measure's name, two
columns of them by `compare`, at some millions of pairs a second.

A text that is missing is near nothing and far from nothing, so `compare` says NaN there: what a record does not say is
no evidence for or against it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from epsilon_lab.arguments import number, whole
from epsilon_lab.errors import InvalidInput, LabError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INSTALL = "pip install 'epsilon-lab[linkage]'"

Measure = Literal["jaro_winkler", "osa", "token_sort"]
"""A way to compare: see the functions of these names."""


def jaro_winkler(left: str, right: str) -> float:
    """How near two short names are, with more weight on how they begin.

    W. E. Winkler, "String Comparator Metrics and Enhanced Decision Rules in the Fellegi-Sunter Model of Record
    Linkage" (1990): prefix weight 0.1, at most 4 characters.

    Raises:
        LabError: rapidfuzz is not installed.
    """
    return float(_scorers()["jaro_winkler"](left, right))


def osa(left: str, right: str) -> float:
    """How near two texts are in edits: 1 - edits / characters of the longer one.

    An edit adds, drops or replaces a character, or swaps two neighbours (optimal string alignment).

    Raises:
        LabError: rapidfuzz is not installed.
    """
    return float(_scorers()["osa"](left, right))


def edits(left: str, right: str, most: int) -> int:
    """How many edits two texts are apart, as `osa` counts them; `most` + 1 where they are more.

    Raises:
        LabError: rapidfuzz is not installed.
    """
    return int(_scorers()["edits"](left, right, score_cutoff=most))


def edits_of(left: Sequence[str], right: Sequence[str], most: int) -> list[int]:
    """How many edits the texts of two columns are apart, row by row; `most` + 1 where they are more.

    Raises:
        LabError: rapidfuzz is not installed.
    """
    process, scorer = _library("rapidfuzz.process"), _scorers()["edits"]
    found: list[int] = process.cpdist(left, right, scorer=scorer, score_cutoff=most).tolist()
    return found


def token_sort(left: str, right: str) -> float:
    """How near two texts are when the order of their words does not count: 1 - (adds + drops) / characters of both.

    Raises:
        LabError: rapidfuzz is not installed.
    """
    return float(_scorers()["token_sort"](left, right)) / 100


def compare(
    left: Iterable[Any], right: Iterable[Any], by: Measure = "jaro_winkler", *, cut: float = 0.0, threads: int = 1
) -> NDArray[np.float32]:
    """How near the texts of two columns are, row by row.

    Args:
        left: Texts; None or NaN where one is missing.
        right: As many.
        by: The measure.
        cut: What is not as near as this is 0, which is found sooner.
        threads: How many threads to compare on.

    Returns:
        A float32 for each row, NaN where either text is missing.

    Raises:
        InvalidInput: There is no such measure, a value is no text, or the columns have different lengths.
        LabError: rapidfuzz is not installed.
    """
    if by not in get_args(Measure):
        raise InvalidInput("reducers.compare by", f"must be one of {', '.join(get_args(Measure))}, got {by!r}")
    cut = number("reducers.compare cut", cut, least=0, most=1)
    threads = whole("reducers.compare threads", threads, least=1, most=1_000)
    import numpy as np  # noqa: PLC0415 - heavy

    columns = [_texts(column) for column in (left, right)]
    if len({len(column) for column in columns}) > 1:
        sizes = " and ".join(str(len(column)) for column in columns)
        raise InvalidInput("reducers.compare", f"the columns have {sizes} rows", "compare row with row")
    scale = 100 if by == "token_sort" else 1
    found: NDArray[np.float32] = _library("rapidfuzz.process").cpdist(
        *columns, scorer=_scorers()[by], score_cutoff=cut * scale, dtype=np.float32, workers=threads
    )
    if scale != 1:
        found /= scale
    found[[a is None or b is None for a, b in zip(*columns, strict=True)]] = np.nan
    return found


def soundex(name: str) -> str:
    """The sound of a name as English says it: its first letter and three digits, `R163` for Robert and Rupert.

    The U.S. National Archives' rules ("Soundex System", https://www.archives.gov/research/census/soundex): letters that
    sound alike have one digit, which is said once where they are neighbours, also with an h or w between them; vowels
    have none, and part what they stand between. What is no letter from a to z is passed over.

    Returns:
        Four characters; empty where the name has no such letter.
    """
    letters = [letter for letter in name.lower() if "a" <= letter <= "z"]
    digits: list[str] = []
    before = ""
    for letter in letters:
        digit = _SOUNDS.get(letter, "")
        if letter in "hw" and digits:
            continue
        if not digits or (digit and digit != before):
            digits.append(digit)
        before = digit
    return (letters[0].upper() + "".join(digits[1:4])).ljust(4, "0") if letters else ""


_SOUNDS = {
    letter: str(digit) for digit, group in enumerate(("bfpv", "cgjkqsxz", "dt", "l", "mn", "r"), 1) for letter in group
}


def _texts(column: Iterable[Any]) -> list[str | None]:
    texts: list[str | None] = []
    for place, value in enumerate(column):
        if not (isinstance(value, str) or _is_missing(value)):
            what = f"holds a {type(value).__name__}"
            raise InvalidInput(f"reducers.compare, row {place}", what, "compare texts, None where one is missing")
        texts.append(value if isinstance(value, str) else None)
    return texts


def _is_missing(value: object) -> bool:
    """Whether it is None, NaN, or what pandas has for nothing, which compares to nothing else."""
    is_nan = isinstance(value, float) and math.isnan(value)
    return value is None or is_nan or type(value).__name__ == "NAType"


@functools.cache
def _scorers() -> dict[str, Any]:
    distance = _library("rapidfuzz.distance")
    return {
        "jaro_winkler": distance.JaroWinkler.normalized_similarity,
        "osa": distance.OSA.normalized_similarity,
        "edits": distance.OSA.distance,
        "token_sort": _library("rapidfuzz.fuzz").token_sort_ratio,
    }


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise LabError(f"comparing texts needs rapidfuzz, which is not installed: {INSTALL}") from None
