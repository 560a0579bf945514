"""The commands that the README promises."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_command_of_the_readme_exists() -> None:
    commands = set(re.findall(r"\bmake (\w+)", README))
    assert {"demo", "test", "lab"} <= commands
    assert commands <= set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
def test_every_cell_of_the_readme_is_python(block: str) -> None:
    compile(block, "README.md", "exec")


def test_the_full_run_ends_in_the_readmes_test_command() -> None:
    assert (ROOT / ".ci" / "run").read_text().rstrip().splitlines()[-1] == "exec make test </dev/null"


def test_a_python_that_is_too_old_is_refused_in_one_clear_line(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    command = ["make", "setup", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "epsilon_lab needs Python 3.11 or later" in done.stderr
    assert not (tmp_path / "venv").exists()
