"""What differs between two outputs: named place by place, nothing missed, nothing made up."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.cases.differences import Difference, differences, names, scalars
from epsilon_lab.cases.finalisation import Because

ANN, BO, CY = {"name": "ann", "n": 1}, {"name": "bo", "n": 2}, {"name": "cy", "n": 3}


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (1, 2, [("$", 1, 2)]),
        (1, True, [("$", 1, True)]),
        (None, [], [("$", None, [])]),
        ({"a": 1, "b": [1]}, {"b": [1], "a": 1}, []),
        ({"a": 1}, {"b": 1}, [("$.a", 1, None), ("$.b", None, 1)]),
        ({"a": {"b c": 1}}, {"a": {"b c": 2}}, [("$.a['b c']", 1, 2)]),
        ({"it's": 1}, {"it's": 2}, [("$['it\\'s']", 1, 2)]),
        ([ANN, BO, CY], [ANN, CY], [("$[1]", BO, None)]),
        ([ANN, CY], [BO, ANN, CY], [("$[0]", None, BO)]),
        ([ANN, BO], [ANN, {**BO, "n": 5}], [("$[1].n", 2, 5)]),
        ([ANN, BO], [BO, ANN], [("$", [ANN, BO], [BO, ANN])]),
        (["a", "a"], ["a"], [("$[1]", "a", None)]),
        ([None, None, None], ["same", None, "no"], [("$[0]", None, "same"), ("$[2]", None, "no")]),
        ([ANN, ANN, BO], [BO, ANN, BO], [("$[0].name", "ann", "bo"), ("$[0].n", 1, 2)]),
        ([1, 2, 3], [4, 1], [("$[0]", None, 4), ("$[1]", 2, None), ("$[2]", 3, None)]),
        ((1, 2), [1, 2], []),
        (np.arange(3), [0, 1, 5], [("$[2]", 2, 5)]),
        (np.float64(0.5), 0.5, []),
        (pd.DataFrame({"n": [1, 2]}), pd.DataFrame({"n": [1]}), [("$[1]", {"n": 2}, None)]),
        ({"sets": {2, 1}}, {"sets": {1, 3}}, [("$.sets[1]", 2, 3)]),
        (float("nan"), float("nan"), []),
    ],
)
def test_what_differs_is_named(before: Any, after: Any, found: list[Any]) -> None:
    assert [tuple(each) for each in differences(before, after)] == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from("abc"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_nothing_differs_only_where_nothing_does_and_the_other_way_round_is_the_mirror_image(
    before: Any, after: Any
) -> None:
    def bytes_of(value: Any) -> bytes:
        return msgspec.json.encode(value, order="sorted")

    there, back = differences(before, after), differences(after, before)
    assert (there == []) == (bytes_of(before) == bytes_of(after))
    mirrored = [(each.path, each.after, each.before) for each in there]
    assert Counter(map(bytes_of, map(list, back))) == Counter(map(bytes_of, map(list, mirrored)))


def test_scalars_are_all_texts_and_numbers() -> None:
    assert list(scalars({"a": [1, {"b": "c"}], "d": None})) == ["a", 1, "b", "c", "d", None]


@given(st.lists(st.text(max_size=4) | st.sampled_from(["a", "p-1", "it's", "\\", "]['"]), max_size=4))
def test_the_names_on_the_way_to_a_place_are_told_from_its_path(steps: list[str]) -> None:
    before, after = 1, 2
    for name in reversed(steps):
        before, after = [{name: before}], [{name: after}]
    [found] = differences(before, after)
    assert list(names(found.path)) == steps


def test_a_change_is_put_down_to_the_case_whose_key_is_in_it_or_on_the_way_to_it() -> None:
    cases = {"c-1": ["p-1", "p-9"], "c-2": ["p-2", "p-9"], "c-3": "gone"}
    because = Because(cases)
    assert because.of(Difference("$['p-1'].group", "old", "new")) == ["c-1"]
    assert because.of(Difference("$[0]", {"name": "gone"}, None)) == ["c-3"]
    assert because.of(Difference("$.total", 1, 2)) == ["c-1", "c-2", "c-3"]
