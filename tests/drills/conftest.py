"""Kernels that may be killed: scripts in processes of their own, in short directories; nothing of them is left."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from epsilon_lab.testing.census import wait_until_none

Script = subprocess.Popen[str]


@pytest.fixture
def make_place() -> Iterator[Callable[[], Path]]:
    """Makes short directories; at the end nothing may be alive that belongs to them."""
    with ExitStack() as stack:

        def make() -> Path:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="d-")))
            place.chmod(0o711)  # a candidate's user must reach its own directory below
            stack.callback(wait_until_none, place, within_s=20)
            return place

        yield make


@pytest.fixture
def place(make_place: Callable[[], Path]) -> Path:
    return make_place()


@pytest.fixture
def start(make_place: Callable[[], Path]) -> Iterator[Callable[..., Script]]:
    """Starts Python on these arguments in a place; what still runs at the end is killed."""
    started: list[Script] = []

    def begin(place: Path, *arguments: str) -> Script:
        command = [sys.executable, "-W", "error", *arguments]
        pipe = subprocess.PIPE
        script = subprocess.Popen(
            command,
            stdin=pipe,
            cwd=place,
            env={**os.environ, "TMPDIR": str(place)},
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        started.append(script)
        return script

    yield begin
    for script in started:
        script.kill()
        script.communicate()
