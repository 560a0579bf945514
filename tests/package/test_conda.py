"""environment.yml asks for what pyproject.toml asks for, under conda-forge's names."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]

CONDA_NAMES = {"duckdb": "python-duckdb", "matplotlib": "matplotlib-base", "playwright": "playwright-python"}


def test_the_environment_matches_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = dict(map(_parted, chain(project["dependencies"], *extras.values())))
    wanted = {CONDA_NAMES.get(name, name): versions for name, versions in wanted.items()}
    wanted["python"] = project["requires-python"]

    listed = re.findall(r"^  - ([a-z].*)$", (ROOT / "environment.yml").read_text(), re.MULTILINE)
    assert dict(_parted(line) for line in listed if line != "conda-forge") == wanted


def _parted(requirement: str) -> tuple[str, str]:
    """Part a requirement into its name and its range of versions."""
    match = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", requirement)
    assert match is not None
    return match[1], match[2].strip()
