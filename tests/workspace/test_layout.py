"""A reference never leads outside, and a reader never meets half a file."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.values import Value, pack
from epsilon_lab.settings import INLINE_LIMIT
from epsilon_lab.workspace.layout import RunDirectory


@pytest.mark.parametrize("ref", ["/etc/passwd", "../other", "a/../../b", "", "a\0b", "..", "."])
def test_references_that_lead_outside_are_refused(tmp_path, ref):
    with pytest.raises(InvalidInput, match="run directory"):
        RunDirectory(tmp_path).locate(ref)


def test_a_link_that_leads_outside_is_refused(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "out").symlink_to("/etc")
    with pytest.raises(InvalidInput, match="outside"):
        RunDirectory(run).read_text("out/passwd")


def test_a_link_among_files_that_were_read_before_is_refused(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.save("a/fine", "x", kind="note")
    assert run.read_text("a/fine") == "x"
    (run.path / "a/out").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="outside"):
        run.read_text("a/out")


@given(text=st.text())
def test_what_is_saved_is_read(tmp_path_factory, text):
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    saved = run.save("a/b.txt", text, kind="note")
    assert run.read_bytes("a/b.txt") == text.encode("utf-8", "surrogatepass")
    assert saved.bytes == len(run.read_bytes("a/b.txt"))
    assert saved.path == "a/b.txt"


def test_saving_again_replaces_the_whole_file_and_leaves_no_parts(tmp_path):
    run = RunDirectory(tmp_path)
    run.save("f", "long " * 1000, kind="note")
    run.save("f", "short", kind="note")
    assert run.read_text("f") == "short"
    assert os.listdir(tmp_path) == ["f"]


def test_a_failed_save_leaves_the_old_file(tmp_path):
    run = RunDirectory(tmp_path)
    run.save("f", "old", kind="note")
    with pytest.raises(TypeError):
        run.save("f", ["no text"], kind="note")
    assert run.read_text("f") == "old"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("value", [{"a": 1}, {1, 2}])
def test_a_small_value_stays_and_a_large_one_moves_to_a_file(tmp_path, value):
    run = RunDirectory(tmp_path)
    small = pack(value)
    assert run.keep(small, "x", kind="output") == (small, [])
    large = Value(small.form, small.data + b" " * INLINE_LIMIT)
    kept, saved = run.keep(large, "outputs/x", kind="output", task_id="t")
    assert kept.form == "file"
    assert [s.task_id for s in saved] == ["t"]
    assert run.fetch(kept) == large
