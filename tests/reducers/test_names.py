"""What a name is: writing is taken away, letters are not, and doing so twice changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from epsilon_lab import reducers
from epsilon_lab.errors import InvalidInput
from epsilon_lab.reducers.names import name_of, text


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
@example("ﱞ")  # of which nothing is left when it is taken apart
@example("¨")
@example("ǽ")
@example("İstanbul")
@example("\u0345a")
def test_folding_twice_changes_nothing(raw: str):
    assert reducers.fold(reducers.fold(raw)) == reducers.fold(raw)
    assert text(text(raw)) == text(raw)
    assert reducers.fold(raw).strip()


@pytest.mark.parametrize(
    ("raw", "folded"),
    [
        ("Łódź", "lodz"),
        ("Øresund", "oresund"),
        ("Þórr Æsir", "thorr aesir"),
        ("Straße", "strasse"),
        ("O’Brien, Ann-Marie", "obrien ann marie"),
        ("ＩＢＭ  Corp.", "ibm corp"),
        ("Йемен", "йемен"),
        ("Иемен", "иемен"),
        ("ガーナ", "ガーナ"),
        ("ｶﾞｰﾅ", "ガーナ"),
        ("カーナ", "カーナ"),
        ("!!!", "!!!"),
    ],
)
def test_an_accent_is_taken_off_a_latin_letter_only(raw: str, folded: str):
    assert reducers.fold(raw) == folded


def test_case_and_punctuation_are_writing_and_accents_are_not():
    assert text("U.S. Steel") == text("u s steel") == "u s steel"
    assert text("Łódź") == "łódź"


@pytest.mark.parametrize(
    ("raw", "tokens"),
    [
        ("Acme Ltd.", ("acme",)),
        ("Telefónica, S.A.", ("telefonica",)),
        ("Müller GmbH & Co. KG", ("muller",)),
        ("ООО Ромашка", ("ромашка",)),
        ("株式会社トヨタ自動車", ("トヨタ自動車",)),
        ("㈱トヨタ", ("トヨタ",)),
        ("AB InBev", ("ab", "inbev")),
        ("S.A.", ("sa",)),
        ("Inc", ("inc",)),
        ("U.S.", ("us",)),
    ],
)
def test_a_legal_form_is_no_part_of_a_name_unless_it_is_all_of_it(raw: str, tokens: tuple[str, ...]):
    assert name_of(raw).tokens == tokens


@pytest.mark.parametrize("raw", ["", "  ", None, 3])
def test_what_is_no_name_is_refused(raw: object):
    with pytest.raises(InvalidInput, match="name"):
        name_of(raw)  # type: ignore[arg-type]
