"""Files of the workspace, and of nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epsilon_lab.agents.tools import ToolError, edit, read, write
from epsilon_lab.agents.tools.files import READ_LIMIT

from .conftest import Hand


def test_a_file_is_written_read_and_edited(hand: Hand) -> None:
    assert hand.call(write, path="a/b/c.txt", content="one\ntwo\n") == "wrote 8 bytes to a/b/c.txt"
    assert hand.call(read, path="a/b/c.txt") == "one\ntwo\n"
    hand.call(edit, path="a/b/c.txt", old="two", new="drei")
    assert (hand.workspace / "a/b/c.txt").read_text() == "one\ndrei\n"
    assert hand.call(read, path="a") == "b/"
    assert hand.call(read, path="a/b/c.txt", start=2, lines=1) == "[lines 2 to 2 of 2]\ndrei\n"


def test_an_edit_needs_the_one_place_it_means(hand: Hand) -> None:
    hand.call(write, path="a.txt", content="x = 1\ny = 1\nz = 2\n")
    for old, said in [("= 1", r"occurs 2 times in a.txt \(lines 1, 2\)"), ("= 3", "does not occur"), ("", "is empty")]:
        with pytest.raises(ToolError, match=said):
            hand.call(edit, path="a.txt", old=old, new="?")
    assert (hand.workspace / "a.txt").read_text() == "x = 1\ny = 1\nz = 2\n"


def test_line_ends_and_the_mode_of_a_file_stay(hand: Hand) -> None:
    script = hand.workspace / "run.sh"
    script.write_bytes(b"#!/bin/sh\r\necho one\r\n")
    script.chmod(0o755)
    hand.call(edit, path="run.sh", old="one", new="two")
    assert script.read_bytes() == b"#!/bin/sh\r\necho two\r\n"
    assert script.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in hand.workspace.iterdir()] == ["run.sh"]


@pytest.fixture
def outside(hand: Hand, tmp_path: Path) -> Path:
    """Ways out, as a program in the workspace could make them."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (hand.workspace / "link.txt").symlink_to(secret)
    (hand.workspace / "up").symlink_to(tmp_path)
    (hand.workspace / "relative").symlink_to("../../../..")
    (hand.workspace / "loop").symlink_to("loop")
    (hand.workspace / "inner").mkdir()
    (hand.workspace / "inside").symlink_to("inner")
    return secret


@pytest.mark.parametrize(
    "path",
    ["../secret.txt", "../../../../secret.txt", "inner/../../x", "link.txt", "up/secret.txt", "up/new.txt",
     "relative/secret.txt", "/etc/passwd", "~/x", "loop", "a\0b", "loop/x"],
)  # fmt: skip
def test_no_path_leads_out(hand: Hand, outside: Path, path: str) -> None:
    for tool, arguments in [(read, {}), (write, {"content": "x"}), (edit, {"old": "secret", "new": "x"})]:
        with pytest.raises(ToolError):
            hand.call(tool, path=path, **arguments)
    assert outside.read_text() == "secret"
    assert sorted(path.name for path in outside.parent.iterdir()) == ["run-1", "secret.txt"]


def test_the_whole_path_of_a_file_in_the_workspace_is_refused_with_the_remedy(hand: Hand) -> None:
    with pytest.raises(ToolError, match="is an absolute path; give one relative to the workspace"):
        hand.call(read, path=str(hand.workspace / "a.txt"))


def test_a_link_inside_the_workspace_is_followed(hand: Hand, outside: Path) -> None:
    hand.call(write, path="inside/a.txt", content="x")
    assert (hand.workspace / "inner/a.txt").read_text() == "x"
    assert hand.call(read, path="inside/a.txt") == "x"


def test_a_link_put_in_between_is_not_followed(hand: Hand, outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program swaps a directory for a link after the path was looked at."""
    real = Path.resolve
    swapped: list[Path] = []

    def resolve(path: Path, strict: bool = False) -> Path:
        found = real(path, strict)
        if found.name == "secret.txt" and found.parent.name == "inner" and not swapped:
            swapped.append(found)
            (hand.workspace / "inner").rmdir()
            (hand.workspace / "inner").symlink_to(outside.parent)
        return found

    monkeypatch.setattr(Path, "resolve", resolve)
    with pytest.raises(ToolError):
        hand.call(write, path="inner/secret.txt", content="x")
    assert swapped
    assert outside.read_text() == "secret"


def test_what_is_no_text_file_is_refused(hand: Hand) -> None:
    os.mkfifo(hand.workspace / "pipe")
    (hand.workspace / "image.png").write_bytes(b"\x89PNG\xff")
    with (hand.workspace / "large").open("wb") as file:
        file.truncate(READ_LIMIT + 1)
    for path, said in [("pipe", "is no file"), ("image.png", "is no text: 5 bytes"), ("large", "more than the")]:
        with pytest.raises(ToolError, match=said):
            hand.call(read, path=path)
    for path in (".", "inner"):
        (hand.workspace / "inner").mkdir(exist_ok=True)
        with pytest.raises(ToolError, match=r"is the workspace itself|is a directory"):
            hand.call(write, path=path, content="x")
    (hand.workspace / f".part-{os.getpid()}").symlink_to("../../../../secret.txt")
    hand.call(write, path="a.txt", content="x")
    assert (hand.workspace / "a.txt").read_text() == "x"
    assert not (hand.workspace / "../../../../secret.txt").exists()
