"""Evidence: what is compared, where it differs, and that nothing of it is more than text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.cases.card import card, text
from epsilon_lab.cases.case import Case
from epsilon_lab.cases.evidence import MOST_CHARACTERS, compare, read, spans
from epsilon_lab.messages.events import VerdictGiven

HOSTILE = '<img src=x onerror="alert(1)"></td><script>alert(2)</script>'
LEFT = {"name": "Barack Obama", "born": 1961, "note": "president"}
RIGHT = {"name": "Barak Obama", "born": 1961}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def case(evidence=None, **fields):
    return Case(
        **{"case_id": "c-1", "kind": "pair", "question": "Same?", "options": ("same", "different")}
        | {"evidence": evidence}
        | fields
    )


def joined(pieces):
    return "".join(piece.text for piece in pieces)


@given(st.text("ab é\u0301", max_size=30), st.text("ab é\u0301", max_size=30))
def test_pieces_are_the_text_and_what_is_common_is_the_same_in_both(one, other):
    mine, others = spans(one, other)
    assert (joined(mine), joined(others)) == (one, other)
    common = [[piece.text for piece in pieces if not piece.differs] for pieces in (mine, others)]
    assert "".join(common[0]) == "".join(common[1])
    assert (one == other) == (not any(piece.differs for piece in (*mine, *others)))


@pytest.mark.parametrize(
    ("one", "other", "differing"),
    [
        ("Jon Smith", "John Smyth", ["i"]),
        ("Barack", "Barak", ["c"]),
        ("12.03.1984", "21.03.1984", ["12"]),
        ("Mary", "John", ["Mary"]),
        ("Zoe\u0301", "Zoe", ["e\u0301"]),  # the accent and its letter are one
        ("a " * 100 + "red", "a " * 100 + "rod", ["red"]),  # long values are compared by words
    ],
)
def test_the_characters_that_differ_are_found(one, other, differing):
    assert [piece.text for piece in spans(one, other)[0] if piece.differs] == differing


def test_the_worst_text_takes_no_time_to_speak_of():
    assert joined(spans("a" * 2000, "ab" * 1000)[0]) == "a" * 2000  # by words: one word each
    assert joined(spans("a " * 1000, "a b " * 500)[1]) == "a b " * 500


@pytest.mark.parametrize(
    "evidence",
    [
        [LEFT, RIGHT],
        {"left": LEFT, "right": RIGHT, "similarity": 0.94},
        {"ours": LEFT, "theirs": RIGHT, "similarity": 0.94},
    ],
)
def test_records_are_compared_field_by_field(evidence):
    shown = read(evidence).comparison
    assert [(field.name, field.differs) for field in shown.fields] == [("name", True), ("born", False), ("note", True)]
    assert shown.fields[2].values[1] is None
    assert read(evidence).rest == ({"similarity": 0.94} if isinstance(evidence, dict) else None)


def test_a_pair_is_named_by_its_key():
    assert read([LEFT, RIGHT], ["e-1", "e-2"]).comparison.titles == ("e-1", "e-2")
    assert read([LEFT, RIGHT], ["e-1"]).comparison.titles == ("1", "2")
    assert read({"left": LEFT, "right": RIGHT}, ["e-1", "e-2"]).comparison.titles == ("left", "right")


@pytest.mark.parametrize("evidence", [None, 3, "one text", [], [LEFT], [1, 2], {"stage": "tidy", "output": LEFT}])
def test_what_holds_no_two_records_is_shown_as_it_is(evidence):
    found = read(evidence)
    assert (found.comparison, found.diff, found.rest) == (None, "", evidence)


def test_a_record_alone_looks_as_beside_another_and_a_long_text_is_shown_whole():
    drawn = card(case({"field": "born", "value": 1691, "text": "word " * 300}))
    assert drawn.count("<tr") == 4
    assert "≠" not in drawn
    assert "word " * 300 in drawn
    assert "word " * 300 in card(case("word " * 300))
    assert "<tr" not in card(case({"stage": "tidy", "output": LEFT}))


def test_lists_of_texts_are_compared_an_element_a_line():
    one, other = {"said": ["A was born.", "A left."]}, {"said": ["B came.", "A was born.", "A\nleft."]}
    (field,) = compare([one, other], ("1", "2")).fields
    assert [joined(value) for value in field.values] == ["A was born.\nA left.", 'B came.\nA was born.\n"A\\nleft."']
    assert [piece.text for piece in field.values[0] if not piece.differs] == ["A was born.\n"]
    (field,) = compare([{"names": ["Ann"]}, {"names": ["Anne"]}, {"names": []}], ("1", "2", "3")).fields
    assert [joined(value) for value in field.values] == ["Ann", "Anne", ""]
    assert field.values[1][-1].text == "e"  # of one element, the characters
    for look_alike in (["Ann"], ['["Ann"]', "x"]), ([["Ann"]], ['["Ann"]']), ([1, 2], ["1", "2"]):
        (field,) = compare([{"n": each} for each in look_alike], ("1", "2")).fields
        assert joined(field.values[0]) != joined(field.values[1])
    assert card(case([{"name": "Ann", "known as": ["A.", "Annie"]}])).count("<tr") == 3


def test_long_values_are_shown_from_where_they_differ():
    alike = "word " * 2000
    (field,) = compare([{"t": alike + "red " + alike}, {"t": alike + "rod " + alike}], ("1", "2")).fields
    assert [piece.text for piece in field.values[0] if piece.differs] == ["red"]
    assert joined(field.values[0]).startswith("… 9,801 characters, the same in all … ")
    assert "and 8,203 more" in joined(field.values[0])
    (field,) = compare([{"t": alike}, {"t": alike}], ("1", "2")).fields
    assert joined(field.values[1]) == f"{alike[:MOST_CHARACTERS]} … and 8,000 more characters"
    (field,) = compare([{"t": alike}, {"t": alike + "!"}], ("1", "2")).fields
    assert field.values[1][-1].text == "!"


def test_dicts_without_a_field_in_common_are_not_compared():
    assert read({"source": {"page": 3}, "output": {"name": "x"}}).comparison is None


def test_texts_of_several_lines_are_compared_line_by_line():
    found = read({"before": "one\ntwo\n", "after": "one\nthree\n", "by": "ann"})
    assert "-two\n+three" in found.diff
    assert found.rest == {"by": "ann"}
    assert "no difference" in read(["one\ntwo", "one\ntwo"]).diff
    assert read("--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y").diff


def test_values_that_only_look_alike_differ_to_the_eye_too():
    (field,) = compare([{"n": 1}, {"n": "1"}], ("a", "b")).fields
    assert field.differs
    assert [joined(value) for value in field.values] == ["1", '"1"']
    (field,) = compare([{"n": 1}, {"n": True}], ("a", "b")).fields
    assert field.differs


def test_a_third_record_is_marked_against_the_first_and_the_first_against_all():
    (field,) = compare([{"n": "abcd"}, {"n": "abcx"}, {"n": "xbcd"}], ("1", "2", "3")).fields
    assert [piece.text for piece in field.values[0] if piece.differs] == ["a", "d"]


def test_what_is_left_out_is_counted():
    wide = [{f"f{n}": n for n in range(70)}, {f"f{n}": n if n < 65 else -n for n in range(70)}]
    shown = compare(wide * 6, list("abcdefghijkl"))
    assert (len(shown.fields), shown.more_fields, shown.more_differing, shown.more_records) == (60, 10, 5, 4)
    drawn = card(case(wide * 6))
    assert "10 more fields, 5 of them differing" in drawn
    assert "4 more records" in drawn
    assert "and 98,000 more characters" in card(case([{"t": "x" * (98_000 + MOST_CHARACTERS)}, {"t": "y"}]))


@pytest.mark.parametrize(
    "evidence",
    [
        HOSTILE,
        [{HOSTILE: HOSTILE}, {HOSTILE: HOSTILE + "!"}],
        {"left": HOSTILE, "right": HOSTILE + "\n", "why": HOSTILE},
        {"x": [HOSTILE]},
        f"--- {HOSTILE}\n+++ b\n@@ -1 +1 @@\n-{HOSTILE}",
    ],
)
def test_all_of_it_is_text(evidence):
    given = VerdictGiven(
        case_id="c-1", number=1, verdict=HOSTILE, decider_kind="HUMAN", decider=HOSTILE, roles=(), note=HOSTILE
    )
    drawn = card(case(evidence, key=[HOSTILE, "b"], reason=HOSTILE, question=HOSTILE, kind=HOSTILE, verdicts=(given,)))
    assert "<img" not in drawn
    assert "<script" not in drawn


@given(values)
def test_any_evidence_is_shown(evidence):
    shown = case(json.loads(json.dumps(evidence)))
    assert card(shown).count("<div") == card(shown).count("</div>")
    assert "run.cases.decide('c-1', 'same' or 'different')" in text(shown)


def test_the_verdict_that_speaks_is_marked_and_one_taken_back_says_by_whom():
    def said(number, verdict, decider, **more):
        return VerdictGiven(
            case_id="c-1", number=number, verdict=verdict, decider_kind="HUMAN", decider=decider, roles=(), **more
        )

    history = (
        said(1, "same", "ann", note="near"),
        said(2, "different", "bo"),
        said(3, "different", "bo", retracted=True, supersedes=2, note="a slip"),
    )
    assert text(case(verdicts=history, status="decided", number=1)).splitlines()[-3:-1] == [
        "different · bo (HUMAN) · taken back by bo: a slip",
        "✓ · same · ann (HUMAN) · near",
    ]
    assert card(case(verdicts=history, number=1)).count("✓") == 1


def test_what_nobody_sees_is_written_out_where_it_differs():
    drawn = card(case([{"name": "A\u00a0B"}, {"name": "A B"}]))
    assert "⟨U+00A0⟩" in drawn
    drawn = card(case([{"name": "Анна"}, {"name": "Aнна"}]))  # a Cyrillic letter, and a Latin one
    assert 'title="U+0410"' in drawn


def test_a_console_gets_the_same_as_columns():
    shown = text(case([LEFT, RIGHT], key=["e-1", "e-2"], score=0.5, reason="near"))
    assert "≠  name  Barack Obama  Barak Obama" in shown
    assert "   born  1961          1961" in shown
