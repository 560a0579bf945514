"""Items on disk: each comes back as it was, from whatever page, and none of them is held."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab.messages.values import Value, pack, unpack
from epsilon_lab.workspace import items
from epsilon_lab.workspace.items import ITEMS, item_value, save_items
from epsilon_lab.workspace.layout import RunDirectory

anything = st.one_of(st.integers(), st.text(), st.lists(st.integers()), st.binary(), st.tuples(st.text()))


@settings(max_examples=30)
@given(st.lists(anything, max_size=12), st.integers(1, 4), st.integers(0, 40))
def test_every_item_comes_back_from_its_place(tmp_path_factory, values, page, limit):
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items, "_PAGE", page)
        patch.setattr(items, "_PAGE_LIMIT", limit)
        saved = save_items(run, map(pack, values))
        assert saved.items == len(values)
        assert [unpack(run.fetch(item_value(place))) for place in range(len(values))] == values
        with pytest.raises(FileNotFoundError, match=f"has no item {len(values)}"):
            run.fetch(item_value(len(values)))
    assert [file.bytes for file in saved.files] == [os.path.getsize(run.locate(file.path)) for file in saved.files]


def test_a_large_item_has_a_file_of_its_own(tmp_path):
    run = RunDirectory(tmp_path)
    saved = save_items(run, [pack("x" * 100_000), pack("y")])
    assert [file.path for file in saved.files] == ["inputs/item-000000.json", ITEMS, "items.idx"]
    assert unpack(run.fetch(item_value(0))) == "x" * 100_000
    assert unpack(run.fetch(item_value(1))) == "y"
    lines = run.read_text(ITEMS).splitlines()
    assert [msgspec.json.decode(line) for line in lines] == [{"file": "inputs/item-000000.json"}, {"json": "y"}]


def test_what_is_not_whole_has_no_name(tmp_path):
    def broken():
        yield pack(1)
        raise KeyError("stop")

    with pytest.raises(KeyError):
        save_items(RunDirectory(tmp_path), broken())
    assert os.listdir(tmp_path) == []


def test_neighbours_are_read_together(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)
    save_items(run, map(pack, range(1000)))
    reads = []
    real = RunDirectory.read_part
    monkeypatch.setattr(RunDirectory, "read_part", lambda *a: reads.append(a[1]) or real(*a))
    assert [unpack(run.fetch(Value("file", b"items.ndjson#%d" % place))) for place in range(1000)] == list(range(1000))
    assert reads.count(ITEMS) == 4
