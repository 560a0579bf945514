"""What detectors over outputs ask, and what they make of the verdicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab import reducers
from epsilon_lab.errors import InvalidInput

Decider = Callable[..., Any]


def answers(*given: Any, about: str = "q") -> list[dict[str, Any]]:
    return [{"id": about, "answer": answer} for answer in given]


# -- disagreement ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given_",
    [
        ("Yes", "yes.", " YES "),
        (1.0, 1, "1", 1 + 1e-12),
        (True, "true"),
        ([1, {"a": 2}], [1, {"a": 2}]),
        (None, "only one"),
        (None, None),
        (float("nan"), 3),
    ],
)
def test_what_differs_in_writing_alone_is_no_disagreement(decider: Decider, given_: tuple[Any, ...]):
    flag = decider()
    (found,) = reducers.flag_disagreement(answers(*given_), flag=flag)
    assert not flag.asked
    assert len(found.votes) <= 1


@pytest.mark.parametrize("given_", [("C", "C++"), ("< 5", "> 5"), (-1, 1), ([1, 2], [12]), (1.0, 1.01), ("a", True)])
def test_what_differs_otherwise_is_one(decider: Decider, given_: tuple[Any, ...]):
    flag = decider()
    (found,) = reducers.flag_disagreement(answers(*given_), flag=flag)
    assert list(flag.asked) == [("answer", "q")]
    assert (found.value, found.margin, len(found.votes)) == (None, 0, 2)


def test_the_majority_holds_until_it_is_decided_otherwise(decider: Decider):
    records = answers("red", "Red", "blue") + answers(7, 7.0, about="agreed")
    flag = decider()
    agreed, asked = reducers.flag_disagreement(records, flag=flag)
    assert (agreed.key, agreed.value, agreed.verdict) == ("agreed", 7, None)
    assert (asked.value, asked.margin, asked.votes) == ("Red", pytest.approx(1 / 3), {"Red": 2, "blue": 1})
    case = flag.asked["answer", "q"]
    assert case["options"] == ["Red", "blue"]
    assert case["reason"] == "2 different answers; the most frequent has 2 of 3"
    told = decider({("answer", "q"): "blue"})
    assert reducers.flag_disagreement(records, flag=told)[1].value == "blue"
    assert told == flag


def test_a_large_enough_majority_is_not_asked_about_and_a_tie_always_is(decider: Decider):
    flag = decider()
    reducers.flag_disagreement(answers("a", "a", "b") + answers("a", "b", about="tied"), flag=flag, agree=0.5)
    assert list(flag.asked) == [("answer", "tied")]


def test_numbers_agree_within_a_tolerance(decider: Decider):
    flag = decider()
    found = reducers.flag_disagreement(answers(10.0, 10.4, "10.1"), flag=flag, abs_tol=0.5)
    assert (found[0].value, flag.asked) == (10.0, {})


def test_a_verdict_gives_the_value_and_not_its_text(decider: Decider):
    flag = decider({("answer", "q"): "2"})
    (found,) = reducers.flag_disagreement(answers(1, 2), flag=flag)
    assert found.value == 2
    assert isinstance(found.value, int)


values = st.none() | st.integers(0, 3) | st.sampled_from(["a", "A", "b", "1", "true", ""]) | st.booleans()
records = st.lists(st.fixed_dictionaries({"id": st.sampled_from(["p", "q", 1]), "answer": values}), max_size=8)


@settings(max_examples=40)
@given(data=st.data(), given_=records)
def test_the_order_of_answers_makes_no_difference(decider: Decider, data: st.DataObject, given_: list[dict[str, Any]]):
    one, other = decider(), decider()
    found = reducers.flag_disagreement(given_, flag=one)
    again = reducers.flag_disagreement(data.draw(st.permutations(given_)), flag=other)
    assert [answer._replace(value=str(answer.value)) for answer in found] == [
        answer._replace(value=str(answer.value)) for answer in again
    ]
    assert one == other
    assert reducers.flag_disagreement(given_) == found, "with nobody to ask it goes on all the same"


def test_contradicting_attributes_of_a_name_are_asked_about(decider: Decider):
    mentions = [
        {"name": "Ann Lée", "born": 1961, "city": "Bern"},
        {"name": "ann lee", "born": "1969"},
        {"name": "Bo", "born": 1950},
    ]
    flag = decider()
    found = reducers.flag_conflicts(mentions, fields=["born", "city"], flag=flag)
    assert flag.asked["ann lee", "born"]["options"] == ["1961", "1969", "two things"]
    assert list(flag.asked) == [("ann lee", "born")]
    assert found["bo"]["born"].value == 1950
    assert found["ann lee"]["city"].value == "Bern"
    assert found["ann lee"]["born"].value is None
    for verdict, value in (("1969", 1969), ("two things", None)):
        told = reducers.flag_conflicts(mentions, fields=["born"], flag=decider({("ann lee", "born"): verdict}))
        assert told["ann lee"]["born"].value == value


# -- confidence --------------------------------------------------------------------------------------------------------


def sure(*confidences: float | None) -> list[dict[str, Any]]:
    return [{"id": place, "confidence": confidence} for place, confidence in enumerate(confidences)]


def test_little_confidence_and_none_are_asked_about(decider: Decider):
    flag = decider({("confidence", 2): "reject"})
    found = reducers.flag_low_confidence(sure(0.9, 0.5, 0.2, None), flag=flag, below=0.5)
    assert [(doubt.record["id"], doubt.confidence, doubt.verdict) for doubt in found] == [
        (3, None, None),
        (2, 0.2, "reject"),
    ]
    urgent = sorted(flag.asked, key=lambda key: -flag.asked[key]["score"])
    assert urgent == [("confidence", 3), ("confidence", 2)]


def test_the_lowest_share_is_asked_about_with_all_that_are_as_low(decider: Decider):
    flag = decider()
    reducers.flag_low_confidence(sure(0.9, 0.3, 0.3, 0.8, 0.7), flag=flag, lowest=0.2)
    assert sorted(flag.asked) == [("confidence", 1), ("confidence", 2)]
    assert reducers.flag_low_confidence([], flag=flag, lowest=0.2) == []


def test_confidence_that_is_none_is_refused():
    with pytest.raises(InvalidInput, match="neither below= nor lowest="):
        reducers.flag_low_confidence([])
    with pytest.raises(InvalidInput, match="confidence"):
        reducers.flag_low_confidence([{"id": 1, "confidence": "high"}], below=0.5)
    with pytest.raises(InvalidInput, match="of its own"):
        reducers.flag_low_confidence([*sure(0.1), *sure(0.2)], below=0.5)


# -- entities ----------------------------------------------------------------------------------------------------------

NAMES = ["Barack Obama", "OBAMA", "Obama", "Michelle Obama", "Łódź", "Lodz", "Bern"]


def test_names_are_brought_together_by_verdicts_and_by_nothing_else(decider: Decider):
    flag = decider()
    found = reducers.flag_alike(NAMES, flag=flag)
    assert list(flag.asked) == [("lodz", "łódź"), ("barack obama", "obama"), ("michelle obama", "obama")]
    assert all(case["options"] == ["same", "different"] for case in flag.asked.values())
    assert flag.asked["barack obama", "obama"]["question"] == "Are 'Barack Obama' and 'OBAMA' the same?"
    assert flag.asked["barack obama", "obama"]["reason"] == "one is part of the other, as of 2 names"
    assert [entity.names for entity in found.entities] == [
        ["Barack Obama"],
        ["Bern"],
        ["Lodz"],
        ["Michelle Obama"],
        ["OBAMA", "Obama"],
        ["Łódź"],
    ]
    told = reducers.flag_alike(NAMES, flag=decider({("barack obama", "obama"): "same", ("lodz", "łódź"): "different"}))
    assert reducers.Entity("Barack Obama", ["Barack Obama", "OBAMA", "Obama"]) in told.entities
    assert len(told.entities) == 5


def test_a_rule_that_is_trusted_asks_nobody(decider: Decider):
    flag = decider()
    found = reducers.flag_alike(NAMES, flag=flag, trust=["same"])
    assert ("lodz", "łódź") not in flag.asked
    assert ["Lodz", "Łódź"] in [entity.names for entity in found.entities]
    with pytest.raises(InvalidInput, match="the rules are same, contained"):
        reducers.flag_alike(NAMES, trust=["identical"])  # type: ignore[list-item]


def test_different_wins_over_a_chain_at_its_weakest_link():
    links = [
        reducers.Link("a", "b", "same", 0.9),
        reducers.Link("b", "c", "same", 0.5),
        reducers.Link("c", "d", "same", 0.7),
        reducers.Link("d", "a", "different"),
        reducers.Link("e", "a", None),
    ]
    found = reducers.clusters("abcde", links)
    assert found.groups == [["a", "b"], ["c", "d"], ["e"]]
    assert found.cut == [reducers.Link("b", "c", "same", 0.5)]
    with pytest.raises(InvalidInput, match="'x', which is no name here"):
        reducers.clusters("a", [reducers.Link("a", "x", "same")])


verdicts = st.sampled_from(["same", "same", "different", None])
some_links = st.lists(
    st.builds(reducers.Link, st.sampled_from("abcdef"), st.sampled_from("abcdef"), verdicts, st.integers(0, 3)),
    max_size=12,
)


@settings(max_examples=80)
@given(links=some_links, data=st.data())
def test_clusters_are_one_answer_and_never_join_what_is_different(links: list[reducers.Link], data: st.DataObject):
    found = reducers.clusters("abcdef", links)
    turned = [link._replace(left=link.right, right=link.left) if data.draw(st.booleans()) else link for link in links]
    assert reducers.clusters("fedcba", data.draw(st.permutations(turned))) == found
    assert sorted(name for group in found.groups for name in group) == list("abcdef")
    home = {name: place for place, group in enumerate(found.groups) for name in group}
    different = {frozenset((a, b)) for a, b, verdict, _ in links if verdict == "different" and a != b}
    assert all(len({home[name] for name in pair}) == 2 for pair in different)
    joined = {frozenset((a, b)) for a, b, verdict, _ in links if verdict == "same" and a != b} - different
    apart = {pair for pair in joined if len({home[name] for name in pair}) == 2}
    assert apart <= {frozenset((link.left, link.right)) for link in found.cut}, "nothing is cut without being said"
    if not different:
        assert not found.cut


# -- schema repair -----------------------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "year": {"type": "integer"},
        "share": {"type": "number"},
        "open": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "kind": {"enum": ["person", "legal_body"]},
        "note": {"type": ["string", "null"]},
        "unit": {"type": "string", "default": "m"},
    },
    "required": ["name"],
}


@pytest.mark.parametrize(
    ("reply", "value", "changes"),
    [
        ('{"name": "x"}', {"name": "x"}, 0),
        ('Here:\n```json\n{"name": "x"}\n```\nDone.', {"name": "x"}, 1),
        ('Sure! {"name": "x", "tags": ["a", "b",],}', {"name": "x", "tags": ["a", "b"]}, 2),
        ('{"name": ",}", "open": True}', {"name": ",}", "open": True}, 1),
        ('{"name": "x", "year": "1961", "share": "0.5"}', {"name": "x", "year": 1961, "share": 0.5}, 2),
        ('{"name": 7, "open": "False"}', {"name": "7", "open": False}, 2),
        ('{"name": "x", "tags": "a"}', {"name": "x", "tags": ["a"]}, 1),
        ('{"name": "x", "kind": "Legal body"}', {"name": "x", "kind": "legal_body"}, 1),
        ({"name": "x", "year": " 12 "}, {"name": "x", "year": 12}, 1),
    ],
)
def test_the_form_of_a_reply_is_repaired_and_each_change_is_said(reply: object, value: Any, changes: int):
    found = reducers.repair(reply, SCHEMA)
    assert (found.value, found.problems, len(found.changes)) == (value, [], changes)
    assert reducers.repair(found.value, SCHEMA) == (value, [], [])


def test_a_missing_field_is_filled_only_where_the_schema_says_with_what():
    wanting = {**SCHEMA, "required": ["name", "note", "unit", "year"]}
    found = reducers.repair({"name": "x"}, wanting)
    assert found.value == {"name": "x", "note": None, "unit": "m"}
    assert found.problems == ["its top: 'year' is a required property"]


@pytest.mark.parametrize(
    "reply",
    [
        '{"name": "x", "tags": ["a"',  # cut off
        "no data at all",
        '{"name": "x", "year": "about 1961"}',
        '{"name": "x", "year": "1961.5"}',
        '{"name": "x", "kind": "place"}',
        '{"name": "x", "open": "perhaps"}',
        '{"name": "x", "share": NaN}',
        '{"name": "x", "share": "1e999"}',
        '{"name": "x", "year": "' + "9" * 5_000 + '"}',
        "[" * 100_000,
        '```json\n{"name": "x"}\n```\nor\n```json\n{"name": "y"}\n```',  # which of them?
    ],
)
def test_no_value_is_made_up(reply: str):
    assert reducers.repair(reply, SCHEMA).problems


def test_nobody_elses_data_is_changed_and_a_bad_schema_is_refused():
    reply = {"name": "x", "tags": "a"}
    reducers.repair(reply, SCHEMA)
    assert reply == {"name": "x", "tags": "a"}
    with pytest.raises(InvalidInput, match="is no JSON Schema"):
        reducers.repair({}, {"type": "thing"})
    with pytest.raises(InvalidInput, match="refers to what is not in it"):
        reducers.repair({}, {"$ref": "#/$defs/none"})


def test_what_was_repaired_may_stand_until_it_is_rejected(decider: Decider):
    replies = {"good": '{"name": "a"}', "mended": '{"name": "b",}', "broken": '{"name": '}
    flag = decider()
    found = reducers.flag_repairs(replies, SCHEMA, flag=flag)
    assert {name: fitted.value for name, fitted in found.items()} == {
        "good": {"name": "a"},
        "mended": {"name": "b"},
        "broken": None,
    }
    assert list(flag.asked) == [("schema", "mended"), ("schema", "broken")]
    assert flag.asked["schema", "broken"]["score"] > flag.asked["schema", "mended"]["score"]
    told = reducers.flag_repairs(replies, SCHEMA, flag=decider({("schema", "mended"): "reject"}))
    assert told["mended"].value is None
    with pytest.raises(InvalidInput, match="two replies named 'a'"):
        reducers.flag_repairs([("a", "{}"), ("a", "{}")], {})
