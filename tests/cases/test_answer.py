"""What a machine answers to a case: a verdict, unsure, or refused; never a guess."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.cases.answer import NOTE_LIMIT, Answer, read_answer
from epsilon_lab.errors import InvalidInput

OPTIONS = ("same", "different")

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from(["same", "unsure", "different"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["verdict", "note", "reason", "x"]), inner)
    ),
    max_leaves=6,
)


@given(JSON | st.text() | st.binary(), st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=4, unique=True))
def test_whatever_is_said_is_an_option_or_none_or_refused(output, options):
    for given_options in (OPTIONS, options):
        with suppress(InvalidInput):
            answer = read_answer(output, given_options)
            assert answer.verdict is None or answer.verdict in given_options
            answer.note.encode()
            assert answer.confidence is None or 0 <= answer.confidence <= 1


@given(
    st.sampled_from(OPTIONS),
    st.text(max_size=40).filter(lambda text: "{" not in text and "}" not in text),
    st.text(max_size=40).filter(lambda text: "{" not in text and "}" not in text),
    st.text(max_size=20),
)
def test_an_object_is_found_in_whatever_stands_around_it(verdict, before, after, note):
    text = before + json.dumps({"verdict": verdict, "note": note, "confidence": 0.5}) + after
    answer = read_answer(text, OPTIONS)
    assert (answer.verdict, answer.confidence) == (verdict, 0.5)


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("same", "same"),
        (" Same.\n", "same"),
        ("**different**", "different"),
        ("Both are the same person.", "same"),
        ("unsure", None),
        ("I am unsure.", None),
        (None, None),
        ({"verdict": None}, None),
        ({"verdict": "Unsure", "note": "too little"}, None),
        ({"verdict": "same", "confidence": 1}, "same"),
        ('First {"a": {"b": 1}} and then {"verdict": "different"}', "different"),
        ('{"verdict": "same"} ... {"verdict": "same", "reason": "again"}', "same"),
    ],
)
def test_what_is_a_verdict(said, verdict):
    assert read_answer(said, OPTIONS).verdict == verdict


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("perhaps", "names none"),
        ("", "names none"),
        ("same or different, who knows", "names 'different' and 'same'"),
        ("They are not the same.", "beside the word 'not'"),
        ("They aren't the same.", "beside the word"),
        ("the sameness of things", "names none"),
        ('{"verdict": "same"} or {"verdict": "different"}', "different verdicts"),
        ('{"verdict": "equal"}', "its verdict 'equal' is none of them"),
        ({"verdict": "equal"}, "none of them"),
        ({"verdict": ["same"]}, "none of them"),
        ({"answer": "same"}, "has no 'verdict'"),
        ({"verdict": "same", "note": 7}, "its note is a int"),
        ({"verdict": "same", "confidence": 1.5}, "no number from 0 to 1"),
        ({"verdict": "same", "confidence": True}, "no number from 0 to 1"),
        ({"verdict": "same", "confidence": float("nan")}, "no number from 0 to 1"),
        (True, "it is a bool"),
        (["same"], "it is a list"),
        (b"same", "it is a bytes"),
    ],
)
def test_what_is_none_and_why(said, why):
    with pytest.raises(InvalidInput, match="is no verdict") as refused:
        read_answer(said, OPTIONS)
    assert why in str(refused.value)
    assert "answer 'same' or 'different', or 'unsure'" in str(refused.value)


def test_unsure_is_no_verdict_where_it_is_an_option_too():
    assert read_answer("unsure", ("yes", "unsure")).verdict is None


def test_options_within_options_and_options_that_differ_in_case():
    assert read_answer("It is not the same, I think.", ("same", "not the same")).verdict == "not the same"
    assert read_answer("A", ("a", "A")).verdict == "A"
    with pytest.raises(InvalidInput, match="names none"):
        read_answer("option Å", ("a", "A"))


def test_a_note_that_is_too_long_says_that_it_was_cut_off():
    answer = read_answer({"verdict": "same", "note": "x" * (NOTE_LIMIT + 1)}, OPTIONS)
    assert answer == Answer(verdict="same", note="x" * NOTE_LIMIT + " … (cut off here)")
    assert read_answer('{"verdict": "same", "note": "\\ud800"}', OPTIONS).note == "?"
