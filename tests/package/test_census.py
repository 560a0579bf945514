"""The census finds who belongs to a directory, however far they went from their parents."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from epsilon_lab.testing.census import Leftover, children, is_zombie, living, wait_until, wait_until_none

Sitter = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def sitter() -> Iterator[Sitter]:
    """Start processes that sit until their stdin is closed, as it is at the end."""
    with ExitStack() as stack:

        def start(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
            code = "import sys; print(flush=True); sys.stdin.read()"
            process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdin=-1, stdout=-1, **options)  # type: ignore[call-overload]
            stack.enter_context(process)
            process.stdout.readline()
            return process

        yield start


def test_a_process_belongs_by_directory_command_line_or_environment(tmp_path: Path, sitter: Sitter) -> None:
    (tmp_path / "below").mkdir()
    by_directory = sitter(cwd=tmp_path / "below", start_new_session=True)
    by_command = sitter(f"--workspace={tmp_path}")
    by_environment = sitter(env={"WORKSPACE": str(tmp_path)})
    stranger = sitter()

    assert set(living(tmp_path)) == {by_directory.pid, by_command.pid, by_environment.pid}
    assert stranger.pid in children()


def test_those_alive_are_named_and_those_gone_are_not(tmp_path: Path, sitter: Sitter) -> None:
    process = sitter(str(tmp_path))
    with pytest.raises(Leftover, match=f"{process.pid}  .*{tmp_path}"):
        wait_until_none(tmp_path, within_s=0)
    process.stdin.close()
    wait_until_none(tmp_path, within_s=60)


def test_a_zombie_belongs_to_nobody_but_its_parent(tmp_path: Path, sitter: Sitter) -> None:
    process = sitter(str(tmp_path))
    process.stdin.close()
    assert wait_until(lambda: is_zombie(process.pid), within_s=60)
    assert living(tmp_path) == {}
    assert process.pid in children()
