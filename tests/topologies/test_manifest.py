"""A manifest is refused with the path of what is wrong in it, before anything runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.errors import InvalidInput
from epsilon_lab.topologies.manifest import Count, Manifest, Table, Text, make_root


class Part(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    name: Text
    more: Table = {}


class Fields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    count: Count
    parts: Annotated[list[Part], msgspec.Meta(min_length=1, description="a list of parts")]
    title: Text = "untitled"


GOOD = {"count": 2, "parts": [{"name": "a"}, {"name": "b", "more": {"x": 1}}]}


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "manifest.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def read(tmp_path: Path, document: object) -> Manifest[Fields]:
    return Manifest(written(tmp_path, document), Fields)


def test_a_good_one_is_its_values(tmp_path):
    values = read(tmp_path, GOOD).values
    assert (values.count, values.title, values.parts[1].more) == (2, "untitled", {"x": 1})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (GOOD | {"count": "two"}, 'manifest.json: $.count: must be a whole number from 1 to 1000000, got "two"'),
        (GOOD | {"count": 0}, "manifest.json: $.count: must be a whole number from 1 to 1000000, got 0"),
        (GOOD | {"count": 1.5}, "$.count: must be a whole number from 1 to 1000000, got 1.5"),
        (GOOD | {"count": True}, "$.count: must be a whole number from 1 to 1000000, got true"),
        (GOOD | {"count": None}, "$.count: must be a whole number from 1 to 1000000, got null"),
        ({"parts": [{"name": "a"}]}, "$.count: is missing; it must be a whole number from 1 to 1000000"),
        (GOOD | {"parts": []}, "$.parts: must be a list of parts, got []"),
        (GOOD | {"parts": [{"name": "a"}, {}]}, "$.parts[1].name: is missing; it must be a text"),
        (GOOD | {"parts": [{"name": "a", "mor": 3}]}, "$.parts[0].mor: is not a field of this manifest; did you mean"),
        (GOOD | {"parts": [{"name": " "}]}, '$.parts[0].name: must be a text that is not blank, got " "'),
        (GOOD | {"parts": [{"name": "a", "more": []}]}, "$.parts[0].more: must be an object, got []"),
        (GOOD | {"parts": [3]}, "$.parts[0]: must be an object, got 3"),
        (GOOD | {"zzz": 1}, "$.zzz: is not a field of this manifest; its fields are count, parts, title"),
        ([], "manifest.json: $: must be an object, got []"),
        ('{"count": 2,', "manifest.json: $: is not JSON"),
        ('{"count": NaN}', "manifest.json: $: is not JSON"),
        ("", "manifest.json: $: is not JSON"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(tmp_path, document, message):
    with pytest.raises(InvalidInput) as refused:
        read(tmp_path, document)
    assert message in str(refused.value)


@given(document=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["count", "parts", "name", "more", "x"]), inner)
), max_leaves=8))  # fmt: skip
def test_any_document_is_read_or_refused_in_words(document, tmp_path_factory):
    try:
        read(tmp_path_factory.mktemp("any"), document)
    except InvalidInput as error:
        assert str(error).startswith("manifest.json: $")  # noqa: PT017 - it may also be read


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(InvalidInput, match="No such file"):
        Manifest(tmp_path / "none.json", Fields)
    with pytest.raises(InvalidInput, match="Is a directory"):
        Manifest(tmp_path, Fields)
    with pytest.raises(InvalidInput, match="must be the path"):
        Manifest({"count": 2}, Fields)
    (tmp_path / "latin.json").write_bytes(b'{"count": "\xe4"}')
    with pytest.raises(InvalidInput, match="is not JSON"):
        Manifest(tmp_path / "latin.json", Fields)


def test_a_byte_order_mark_is_no_part_of_the_document(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert Manifest(path, Fields).values.count == 2


def test_a_document_without_a_bottom_is_refused_in_words(tmp_path):
    with pytest.raises(InvalidInput, match=r"manifest.json: \$: is nested too deeply"):
        read(tmp_path, "[" * 100_000)


def test_a_field_of_another_topology_says_where_it_belongs(tmp_path):
    with pytest.raises(InvalidInput, match=r"\$\.shards: has no meaning in this topology; use the other one"):
        Manifest(written(tmp_path, GOOD | {"shards": 3}), Fields, elsewhere={"shards": "use the other one"})


def test_no_reference_leads_out_of_the_manifest_s_directory(tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    manifest = read(folder, GOOD)
    for ref in (
        "../secret.txt",
        str(tmp_path / "secret.txt"),
        "link",
        "up/secret.txt",
        "a/../../secret.txt",
        "a\0b",
        ".",
    ):
        with pytest.raises(InvalidInput, match=r"manifest\.json: \$\.x: leads outside"):
            manifest.read("$.x", ref)
    (folder / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match=r"\$\.x: .*not a text in UTF-8"):
        manifest.read_text("$.x", "bytes")
    with pytest.raises(InvalidInput, match=r"\$\.x: .*No such file"):
        manifest.read("$.x", "nowhere")


def test_a_template_puts_in_values_by_name_and_does_nothing_else(tmp_path):
    manifest = read(tmp_path, GOOD)
    assert manifest.fill("$.t", "{a} {{b}} {a}{c}", {"a": "{c}", "c": 3}, remedies={}) == "{c} {b} {c}3"
    for template in ("{d}", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>10}", "{a:{c}}", "{a.__class__}"):
        with pytest.raises(InvalidInput, match=r"\$\.t: has the placeholder .*put in is a, c; look"):
            manifest.fill("$.t", template, {"a": 1, "c": 3}, remedies={"": "look"})
    for template in ("{", "}", "{a"):
        with pytest.raises(InvalidInput, match=r"\$\.t: is not a template.*braces"):
            manifest.fill("$.t", template, {"a": 1}, remedies={})


def test_a_handler_is_found_beside_the_manifest_and_as_it_now_is(tmp_path):
    manifest = read(tmp_path, GOOD)
    file = tmp_path / "rules.py"
    file.write_text("def judge(output, payload):\n    return 1\n")
    for name in ("rules:judge", "rules.py:judge"):
        assert manifest.handler("$.h", name, "output", "payload")(output=0, payload=0) == 1
    file.write_text("def judge(*, output, payload, extra=0):\n    return 2\n")
    assert manifest.handler("$.h", "rules.py:judge", "output", "payload")(output=0, payload=0) == 2
    assert manifest.handler("$.h", "json:dumps", "obj") is json.dumps
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "er.py").write_text("def judge(output, payload):\n    return 3\n")
    assert manifest.handler("$.h", "deep.er:judge", "output", "payload")(output=0, payload=0) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rules", "must name a function as"),
        ("rules:", "must name a function as"),
        (":judge", "must name a function as"),
        ("rules:not a name", "must name a function as"),
        ("rules:nobody", "has no function nobody"),
        ("rules:NUMBER", "has no function NUMBER"),
        ("rules:later", "rules:later is no plain function"),
        ("rules:narrow", "cannot be called by name with what it is given; def narrow(output, payload)"),
        ("broken.py:judge", "cannot be imported (ZeroDivisionError"),
        ("needy.py:judge", "cannot be imported (ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("nowhere_at_all:judge", "cannot be imported (ModuleNotFoundError"),
        ("nowhere.py:judge", "cannot be imported (ModuleNotFoundError: there is no file"),
        ("../rules.py:judge", "leads outside"),
    ],
)
def test_a_handler_that_is_none_is_refused(tmp_path, name, message):
    (tmp_path / "rules.py").write_text("NUMBER = 3\ndef narrow(x): ...\nasync def later(output, payload): ...\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "needy.py").write_text("import nowhere_at_all\n")
    with pytest.raises(InvalidInput) as refused:
        read(tmp_path, GOOD).handler("$.h", name, "output", "payload")
    assert message in str(refused.value)
    assert str(refused.value).startswith("manifest.json: $.h: ")


def test_a_directory_for_outputs_is_made_or_refused(tmp_path):
    make_root(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
    assert not os.listdir(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be written to"):
        make_root(str(tmp_path / "file" / "b"))
