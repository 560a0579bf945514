"""A program's directory begins the same every time, whatever the last one did to it, and none is left for ever."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from epsilon_lab.processes.scratch import Scratch, clear, sweep

FILES = {"a.txt": b"alpha", "b.bin": b"\0\1"}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def scratch(temporary: Path) -> Iterator[Scratch]:
    scratch = Scratch(FILES, None)
    yield scratch
    scratch.remove()
    assert list(temporary.iterdir()) == []


def contents(scratch: Scratch) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(scratch.path).iterdir()}


def test_everything_is_as_it_was_after_restore(scratch: Scratch) -> None:
    work = Path(scratch.path)
    assert contents(scratch) == FILES
    (work / "a.txt").unlink()
    (work / "b.bin").chmod(0o600)
    (work / "b.bin").write_bytes(b"other")
    (work / "sub" / "sub").mkdir(parents=True)
    (work / "sub" / "link").symlink_to("/etc")
    (work / "sub").chmod(0)
    scratch.restore()
    assert contents(scratch) == FILES
    assert Path("/etc/passwd").exists()


def test_wiping_takes_bounded_time(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program litters is removed a little at a time, and the next one starts at once."""
    monkeypatch.setattr("epsilon_lab.processes.scratch._WIPE_S", -1.0)
    (Path(scratch.path) / "litter").write_bytes(b"")
    scratch.restore()
    scratch.restore()
    assert contents(scratch) == FILES


def test_clearing_stops_when_time_is_up(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    before = os.getcwd()
    assert not clear(str(tmp_path), until=-math.inf)
    assert (tmp_path / "a" / "b").exists()
    assert clear(str(tmp_path), until=math.inf)
    assert list(tmp_path.iterdir()) == []
    assert os.getcwd() == before


def test_what_a_killed_sandbox_left_is_swept(temporary: Path) -> None:
    held = Scratch(FILES, None)
    left = temporary / "epsilon-scratch-left"
    (left / "work").mkdir(parents=True)
    (left / "work" / "a.txt").write_bytes(b"")
    (temporary / "epsilon-scratch-link").symlink_to("/etc")
    sweep()
    assert not left.exists()
    assert contents(held) == FILES
    held.remove()
