"""What every reducer promises: the same answer however its outputs are grouped, and what each says of itself beyond."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import cloudpickle
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab import reducers
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.values import is_plain

Reducer = Callable[[list[Any]], Any]

labels = st.sampled_from(["yes", "no", "maybe", ""])
counts = st.integers(-9, 9)
scores = st.none() | st.integers(-3, 3) | st.floats(-3, 3)
records = st.fixed_dictionaries({"id": st.sampled_from(["a", "b", 1, True]), "score": scores, "x": st.integers(0, 2)})
tallies = labels | st.dictionaries(labels, counts)
lists = records | st.lists(records, max_size=4)
tables = st.lists(st.integers(), max_size=3) | st.fixed_dictionaries({"row": st.integers()})

CASES: dict[str, tuple[Reducer, st.SearchStrategy[Any]]] = {
    "count": (reducers.count, tallies),
    "vote": (reducers.vote, labels),
    "sum": (reducers.sum, st.integers() | st.booleans() | st.fractions()),
    "sum by name": (reducers.sum, st.dictionaries(labels, counts)),
    "rank": (functools.partial(reducers.rank, k=3), lists),
    "rank, smallest": (functools.partial(reducers.rank, k=2, smallest=True), lists),
    "merge, first": (functools.partial(reducers.merge, conflict="first"), st.dictionaries(labels, counts)),
    "merge, last": (functools.partial(reducers.merge, conflict="last"), st.dictionaries(labels, counts)),
    "unique, first": (reducers.unique, lists),
    "unique, last": (functools.partial(reducers.unique, conflict="last"), lists),
    "concatenate": (reducers.concatenate, tables),
}
COMMUTATIVE = ("count", "vote", "sum", "sum by name")
IDEMPOTENT = ("merge, first", "merge, last", "unique, first", "unique, last")

few = settings(max_examples=20)
every = pytest.mark.parametrize("name", CASES)


def shown(value: Any) -> str:
    """Tell apart what == does not: 1 and True, one order of names and another."""
    return repr(value)


@every
@few
@given(data=st.data())
def test_however_outputs_are_grouped_the_answer_is_one(name: str, data: st.DataObject) -> None:
    reduce, outputs = CASES[name]
    given_ = data.draw(st.lists(outputs, max_size=9))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(given_)), max_size=4)))
    bounds = list(itertools.pairwise([0, *cuts, len(given_)]))
    parts = [reduce(given_[begin:end]) for begin, end in bounds]
    assert shown(reduce(parts)) == shown(reduce(given_))


@every
@few
@given(data=st.data())
def test_its_own_answer_alone_is_its_answer(name: str, data: st.DataObject) -> None:
    reduce, outputs = CASES[name]
    once = reduce(data.draw(st.lists(outputs, max_size=5)))
    assert shown(reduce([once])) == shown(once)
    assert shown(reduce([reduce([]), once, reduce([])])) == shown(once)


@pytest.mark.parametrize("name", COMMUTATIVE)
@few
@given(data=st.data())
def test_where_the_order_does_not_count_it_does_not(name: str, data: st.DataObject) -> None:
    reduce, outputs = CASES[name]
    given_ = data.draw(st.lists(outputs, max_size=6))
    assert reduce(data.draw(st.permutations(given_))) == reduce(given_)


@pytest.mark.parametrize("name", IDEMPOTENT)
@few
@given(data=st.data())
def test_the_same_output_twice_changes_nothing(name: str, data: st.DataObject) -> None:
    reduce, outputs = CASES[name]
    once = reduce(data.draw(st.lists(outputs, max_size=5)))
    assert shown(reduce([once, once])) == shown(once)


@every
@few
@given(data=st.data())
def test_nothing_that_goes_in_is_changed_and_plain_stays_plain(name: str, data: st.DataObject) -> None:
    reduce, outputs = CASES[name]
    given_ = data.draw(st.lists(outputs, max_size=5))
    before = shown(given_)
    output = reduce(given_)
    assert shown(given_) == before
    assert is_plain(output) or not is_plain(given_)


@few
@given(st.lists(st.lists(st.tuples(st.integers(-9, 9), labels), max_size=3), max_size=6), st.integers(0, 6))
def test_tables_come_together_however_they_are_grouped(rows: list[list[tuple[int, str]]], cut: int) -> None:
    frames = [pd.DataFrame(part, columns=["n", "word"]).astype({"n": "int64", "word": "object"}) for part in rows]
    whole = reducers.concatenate(frames)
    parts = [reducers.concatenate(frames[:cut]), reducers.concatenate(frames[cut:])]
    if not frames:
        assert whole == []
        return
    pd.testing.assert_frame_equal(reducers.concatenate(parts), whole)
    assert list(whole.index) == list(range(sum(map(len, rows))))


def test_floats_are_added_as_floats_are_and_fractions_exactly():
    assert reducers.sum([0.1, 0.2]) == pytest.approx(0.3)
    assert reducers.sum([Fraction(1, 10)] * 10) == 1
    assert reducers.sum([{"cost": 0.5, "calls": 1}, {"calls": 2}]) == {"cost": 0.5, "calls": 3}
    assert reducers.sum([]) == 0


def test_a_majority_wins_and_a_tie_is_said():
    assert reducers.vote(["b", "a", "b"]) == {"winner": "b", "tied": [], "votes": {"b": 2, "a": 1}}
    assert reducers.vote(["b", "a"]) == {"winner": None, "tied": ["a", "b"], "votes": {"a": 1, "b": 1}}
    assert reducers.vote([]) == {"winner": None, "tied": [], "votes": {}}


def test_rank_is_stable_and_leaves_out_what_has_no_score():
    first, second = {"id": 1, "score": 1.0}, {"id": 2, "score": 1}
    assert reducers.rank([[first], {"id": 3}, [{"id": 4, "score": None}, second]], k=2) == [first, second]


def test_merge_refuses_two_truths():
    assert reducers.merge([{"a": 1}, {"b": 2, "a": 1}]) == {"a": 1, "b": 2}
    with pytest.raises(InvalidInput, match=r"output 1: says something else of 'a' than one before it; say which"):
        reducers.merge([{"a": 1}, {"a": 2}])
    with pytest.raises(InvalidInput, match=r"says something else of 'x'"):
        reducers.unique([{"id": "x", "n": 1}, {"id": "x", "n": 2}], conflict="refuse")


@pytest.mark.parametrize(
    ("reduce", "outputs", "said"),
    [
        (reducers.count, ["a", 3], r"reducers\.count, output 1: is neither a label"),
        (reducers.count, [{"a": 0.5}], r"has 0\.5 for 'a'"),
        (reducers.count, [{"a": True}], r"has True for 'a'"),
        (reducers.vote, ["a", {"a": 1}], r"reducers\.vote, output 1: is a dict without 'votes'"),
        (reducers.vote, ["a", 1.5], r"reducers\.vote, output 1: is neither a label .* but a float"),
        (reducers.sum, ["1"], r"reducers\.sum, output 0: is a str"),
        (reducers.sum, [1, {"a": 1}], r"output 1: is {'a': 1}, and numbers are not added to numbers by name"),
        (reducers.sum, [{"a": 1}, 1], "output 1: is 1, and numbers are not added to numbers by name"),
        (reducers.sum, [{"a": "x"}], r"has a str for 'a'"),
        (reducers.rank, [3], r"reducers\.rank, output 0: holds a int"),
        (reducers.rank, [{"score": float("nan")}], r"has nan for 'score'"),
        (reducers.rank, [{"score": True}], r"has True for 'score'"),
        (functools.partial(reducers.rank, k=0), [], "reducers.rank k: must be an int"),
        (reducers.merge, [[1]], r"reducers\.merge, output 0: is no dict"),
        (functools.partial(reducers.merge, conflict="mine"), [], "must be one of refuse, first, last"),
        (reducers.unique, [{"n": 1}], r"has None for 'id'"),
        (reducers.unique, [[3]], r"reducers\.unique, output 0: holds a int"),
        (reducers.concatenate, ["text"], r"reducers\.concatenate, output 0: is a str"),
        (reducers.concatenate, [[1], pd.DataFrame({"a": [1]})], "output 1: is a DataFrame, and there are both"),
        (reducers.concatenate, [pd.DataFrame({"a": [1]}), [1]], "output 1: is a list, and there are both"),
    ],
)  # fmt: skip
def test_what_cannot_be_reduced_is_refused_by_its_place(reduce: Reducer, outputs: list[Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        reduce(outputs)


def test_every_reducer_travels_and_is_held_to_the_laws():
    folds = {f"epsilon_lab.reducers.{name}" for name in ("ranks", "records", "sums", "tables", "tallies")}
    public = {name for name in reducers.__all__ if getattr(reducers, name).__module__ in folds}
    assert {name.partition(",")[0].partition(" ")[0] for name in CASES} == public
    for reduce, _ in CASES.values():
        assert callable(cloudpickle.loads(cloudpickle.dumps(reduce)))
