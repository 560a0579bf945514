"""`python -m epsilon_lab demo`: what it prints, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

SEARCH = """
import os
from epsilon_lab import Lab, PopulationSearch, problems
with Lab(os.environ["EPSILON_WORKSPACE"], workers=1) as lab:
    run = lab.start(PopulationSearch(problems.cap_set(n=3), generations=1, population=3, fresh=1, diverse=0)).wait(60)
    (run.path / "scores.png").touch()
"""


def _demo(directory: Path, cell: str) -> subprocess.CompletedProcess[str]:
    cells = [{"cell_type": "code", "id": "a", "metadata": {}, "source": cell, "outputs": [], "execution_count": None}]
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    (directory / "small.ipynb").write_text(json.dumps(notebook))
    command = [sys.executable, "-m", "epsilon_lab", "demo", "--notebook", "small.ipynb", "--out", "out"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)


def test_it_prints_the_leaderboard_and_where_everything_lies(tmp_path: Path) -> None:
    done = _demo(tmp_path, SEARCH)
    assert (done.returncode, done.stderr) == (0, "")
    [run] = [path for path in (tmp_path / "out" / "runs").iterdir() if path.name != "lab"]
    assert f"run directory       out/runs/{run.name}\n" in done.stdout
    assert f"score curve         out/runs/{run.name}/scores.png\n" in done.stdout
    assert "executed notebook   out/small.ipynb\n" in done.stdout
    lines = done.stdout.splitlines()
    first = lines.index(next(line for line in lines if line.split()[:1] == ["rank"])) + 1
    assert lines[first].split()[0] == "1"
    assert json.loads((tmp_path / "out" / "small.ipynb").read_text())["cells"][0]["execution_count"] == 1


def test_a_failing_cell_is_one_line_and_a_notebook_to_look_at(tmp_path: Path) -> None:
    done = _demo(tmp_path, "1 / 0")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "python -m epsilon_lab demo: a cell failed, as out/small.ipynb shows: ZeroDivisionError: division by zero"
    ]
    assert "ZeroDivisionError" in (tmp_path / "out" / "small.ipynb").read_text()


def test_a_missing_library_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "nbclient.py").write_text("raise ImportError")
    done = _demo(tmp_path, "1")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.endswith("needs nbclient, which is not installed: pip install 'epsilon-lab[dev]'")
