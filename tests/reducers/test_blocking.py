"""Texts a few edits apart are found among many without comparing all: what is missed, against comparing all."""

from __future__ import annotations

import random
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab.reducers.blocking import candidates
from epsilon_lab.reducers.likeness import allowed_edits
from epsilon_lab.reducers.nearness import edits


def allowed(size: int) -> int:
    return allowed_edits(size, 0.9)


def within(texts: list[str]) -> set[tuple[int, int]]:
    """Pairs as near as their longer text allows, by comparing all."""
    found = set()
    for (a, left), (b, right) in combinations(enumerate(texts), 2):
        most = allowed(max(len(left), len(right)))
        if most and edits(left, right, most) <= most:
            found.add((a, b))
    return found


def edited(dice: random.Random, text: str, times: int) -> str:
    for _ in range(times):
        at = dice.randrange(len(text))
        text = dice.choice((text[:at] + text[at + 1 :], text[:at] + "é" + text[at:], text[:at] + "x" + text[at + 1 :]))
    return text


short = st.text(alphabet="aéb", min_size=8, max_size=12)


@settings(max_examples=60)
@given(texts=st.lists(short, max_size=8, unique=True))
def test_one_edit_is_never_missed(texts: list[str]):
    found = {(left, right) for left, right in candidates(texts, allowed, 60).pairs.tolist()}
    assert within(texts) <= found
    assert all(left < right for left, right in found)


def test_several_edits_in_long_texts_are_not_missed_where_none_is_a_swap():
    dice = random.Random(8)
    base = ["".join(dice.choice("abcdefgh") for _ in range(dice.randrange(20, 40))) for _ in range(60)]
    texts = sorted({*base, *(edited(dice, text, len(text) // 10) for text in base)})
    wanted = within(texts)
    assert len(wanted) > 30
    assert wanted <= {(left, right) for left, right in candidates(texts, allowed, 60).pairs.tolist()}


def test_a_part_that_too_many_have_is_said():
    texts = [f"university of the north {place:08d}" for place in range(0, 90_000_000, 9_876_543)]
    assert candidates(texts, allowed, 5).crowded["universi"] == len(texts)
    assert not candidates(texts, allowed, 60).crowded


def test_of_nothing_nothing_is_found():
    assert candidates([], allowed, 60).pairs.tolist() == []
    assert candidates(["ab", "ac"], allowed, 60).pairs.tolist() == []
