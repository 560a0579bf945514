"""The public names are true, and importing them costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import epsilon_lab

ROOT = Path(__file__).parents[2]
HEAVY = ("IPython", "dask", "duckdb", "ipywidgets", "litellm", "matplotlib", "numpy", "pandas", "playwright", "zmq")


def test_the_front_door_lists_each_name_once() -> None:
    assert len(set(epsilon_lab.__all__)) == len(epsilon_lab.__all__)
    assert dir(epsilon_lab) == sorted(epsilon_lab.__all__)


@pytest.mark.parametrize("name", epsilon_lab.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(epsilon_lab, name)
    assert name == "__version__" or value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Labb'"):
        epsilon_lab.Labb  # noqa: B018


def test_the_import_loads_nothing_heavy() -> None:
    loaded = _modules_after("import epsilon_lab")
    assert loaded.isdisjoint(HEAVY)


def test_stating_a_problem_loads_no_library_of_another_room() -> None:
    loaded = _modules_after("from epsilon_lab import problems; problems.cap_set(n=4)")
    assert loaded.isdisjoint({*HEAVY} - {"numpy"})


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert epsilon_lab.__version__ == project["version"]
    assert f"## {epsilon_lab.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def _modules_after(code: str) -> set[str]:
    code += "\nimport json, sys; sys.stdout.write(json.dumps([n for n in sys.modules if '.' not in n]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))
