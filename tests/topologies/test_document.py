"""A document with a long list reads as JSON does, in whatever pieces it comes; and what is none is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab.topologies import document
from epsilon_lab.topologies.document import Document, Malformed

words = st.text(alphabet='ab"\\[]{},: \n\u00e9\U0001f600', max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(
    st.dictionaries(words, values, max_size=4),
    st.lists(values, max_size=6),
    st.integers(0, 4),
    st.sampled_from([None, 0, 1]),
    st.booleans(),
    st.integers(1, 7),
)
def test_what_is_cut_out_is_what_json_reads(tmp_path_factory, others, items, place, indent, ascii_only, chunk):
    pairs = [(name, value) for name, value in others.items() if name != "items"]
    pairs.insert(min(place, len(pairs)), ("items", items))
    path = tmp_path_factory.mktemp("d") / "document.json"
    path.write_text(json.dumps(dict(pairs), indent=indent, ensure_ascii=ascii_only), encoding="utf-8-sig")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "_CHUNK", chunk)
        read = Document(path, "items")
        assert [json.loads(element) for element in read.elements()] == items
        assert [json.loads(element) for element in read.elements()] == items
    assert read.count == len(items)
    assert {name: json.loads(value) for name, value in read.members.items()} == dict(pairs) | {"items": items[:1]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is no object"),
        ("[1]", "it is no object"),
        ('{"items": [1, 2', "it ends within a value|is missing at byte"),
        ('{"items": [1 2]}', "',' or ']' is missing at byte 13"),
        ('{"items": [1,]}', "a value is missing at byte 13"),
        ('{"a": }', "a value is missing at byte 6"),
        ('{"a" 1}', "':' is missing at byte 5"),
        ("{1: 2}", "a name is missing at byte 1"),
        ('{"a": 1, "a": 2}', "it has 'a' twice"),
        ('{"a": 1} x', "something follows its end, at byte 9"),
        ('{"a": "b}', "it ends within a value that begins at byte 6"),
        ('{"a": [1, "b}', "it ends within a value that begins at byte 6"),
        (r'{"\x": 1}', "a name before byte 6 is none"),
    ],
)
def test_what_is_no_document_is_refused_with_its_place(tmp_path, text, said):
    path = tmp_path / "document.json"
    path.write_text(text)
    with pytest.raises(Malformed, match=said):
        list(Document(path, "items").elements())


def test_a_list_that_is_none_is_nobodys_business_here(tmp_path):
    path = tmp_path / "document.json"
    path.write_text('{"items": {"a": [1]}}')
    read = Document(path, "items")
    assert (read.members, read.count, list(read.elements())) == ({"items": b'{"a": [1]}'}, 0, [])
