"""How near texts are: published values, laws, columns against single pairs, and what is missing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab import reducers
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.reducers.nearness import Measure

MEASURES: tuple[Measure, ...] = ("jaro_winkler", "osa", "token_sort")
every = pytest.mark.parametrize("by", MEASURES)
texts = st.text(alphabet="abc dé", max_size=8)


def test_published_values():
    """Winkler (1990), table of example pairs."""
    assert reducers.jaro_winkler("MARTHA", "MARHTA") == pytest.approx(0.961, abs=5e-4)
    assert reducers.jaro_winkler("DIXON", "DICKSONX") == pytest.approx(0.813, abs=5e-4)
    assert reducers.osa("martha", "marhta") == pytest.approx(5 / 6)
    assert reducers.osa("ca", "abc") == 0
    assert reducers.token_sort("Rosa Parks", "Parks Rosa") == 1


@pytest.mark.parametrize(
    ("name", "sound"),
    [
        ("Washington", "W252"),
        ("Lee", "L000"),
        ("Gutierrez", "G362"),
        ("Pfister", "P236"),
        ("Jackson", "J250"),
        ("Tymczak", "T522"),
        ("Ashcraft", "A261"),
        ("VanDeusen", "V532"),
        ("Robert", "R163"),
        ("Rupert", "R163"),
        ("O'Hara", "O600"),
        ("", ""),
        ("文", ""),
    ],
)
def test_soundex_is_the_archives(name: str, sound: str):
    """The examples of the National Archives' page, the doubled letters and the h among them."""
    assert reducers.soundex(name) == sound


@every
@settings(max_examples=50)
@given(rows=st.lists(st.tuples(texts, texts), max_size=6))
def test_a_column_says_what_the_single_pairs_say_and_either_way_round(by: Measure, rows: list[tuple[str, str]]):
    left, right = [a for a, _ in rows], [b for _, b in rows]
    found = reducers.compare(left, right, by)
    assert found.dtype == np.float32
    assert list(found) == pytest.approx([getattr(reducers, by)(a, b) for a, b in rows], abs=1e-6)
    assert list(reducers.compare(right, left, by)) == list(found)
    assert all(0 <= near <= 1 and (near == 1 or a != b) for near, (a, b) in zip(found, rows, strict=True))


@every
def test_what_is_missing_is_neither_near_nor_far(by: Measure):
    left = pd.Series(["ann", None, float("nan"), pd.NA, "bob"], dtype=object)
    found = reducers.compare(left, ["ann"] * 4 + ["zzz"], by)
    assert np.isnan(found).tolist() == [False, True, True, True, False]
    assert (found[0], found[4]) == (1, 0)


def test_what_is_below_the_cut_is_far():
    assert list(reducers.compare(["abcd", "abcd"], ["abce", "abcd"], "osa", cut=0.9)) == [0, 1]
    assert list(reducers.compare(["a b c"], ["a b d"], "token_sort", cut=0.9)) == [0]


def test_bad_input_is_refused():
    with pytest.raises(InvalidInput, match="must be one of jaro_winkler, osa, token_sort"):
        reducers.compare([], [], "levenshtein")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="2 and 1 rows"):
        reducers.compare(["a", "b"], ["a"])
    with pytest.raises(InvalidInput, match="row 1: holds a int"):
        reducers.compare(["a", 1], ["a", "b"])
    with pytest.raises(InvalidInput, match="cut"):
        reducers.compare(["a"], ["b"], cut=80)


def test_the_library_is_loaded_with_the_first_comparison_and_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
):
    code = "import sys; from epsilon_lab import reducers; assert not {'rapidfuzz', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    from epsilon_lab.reducers import nearness

    nearness._scorers.cache_clear()
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    with pytest.raises(LabError, match=r"pip install 'epsilon-lab\[linkage\]'"):
        reducers.osa("a", "b")
