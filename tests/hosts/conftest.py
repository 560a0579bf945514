"""Workspaces with sidecars, which end with the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from epsilon_lab import Lab
from epsilon_lab.hosts.sidecar import end_sidecar

Script = subprocess.Popen[str]


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """A workspace; whatever sidecar it has at the end is ended."""
    yield tmp_path / "runs"
    end_sidecar(tmp_path / "runs")


@pytest.fixture
def lab(runs: Path) -> Iterator[Lab]:
    with Lab(runs, workers=2, broker="sidecar") as lab:
        yield lab


@pytest.fixture
def start() -> Iterator[Callable[..., Script]]:
    """Starts Python on these arguments; what still runs at the end is killed."""
    started: list[Script] = []

    def begin(*arguments: str) -> Script:
        pipe = subprocess.PIPE
        script = subprocess.Popen(
            [sys.executable, "-W", "error", *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=os.environ
        )
        started.append(script)
        return script

    yield begin
    for script in started:
        script.kill()
        script.communicate()
