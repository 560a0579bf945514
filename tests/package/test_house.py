"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from epsilon_lab.messages.events import BODIES

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "epsilon_lab").rglob("*.py"))
TEXTS = [
    ROOT / name for name in ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "environment.yml", ".ci/run")
]

modules = pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


@modules
def test_a_module_begins_with_a_sentence_that_says_why(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    first = docstring.split("\n\n")[0]
    assert len(first.split()) >= 3, "the module's docstring begins with no sentence"
    assert re.search(r"[.:]$|[.] ", first), f"{first!r} does not end"


@modules
def test_a_file_is_named_after_a_noun(module: Path) -> None:
    assert not re.search(r"util|helper|manager|common|misc", module.stem)


@modules
def test_the_library_shows_and_never_prints(module: Path) -> None:
    if module.name == "__main__.py":
        return
    calls = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


@pytest.mark.parametrize("file", [*MODULES, *TEXTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_names_the_machine_it_was_written_on(file: Path) -> None:
    found = re.search(r"(?<![\w.])/(root|work|home|Users)/\w+", file.read_text())
    assert found is None, found


@pytest.mark.parametrize("type_", BODIES)
def test_every_event_type_is_documented_under_its_name(type_: str) -> None:
    assert (BODIES[type_].__doc__ or "").startswith(f"`{type_}`")


def test_the_rooms_keep_their_order() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@modules
def test_a_room_takes_nothing_from_the_front_door(module: Path) -> None:
    """The front door knows every room, so what is taken from it escapes the check of the rooms' order."""
    if module.parent == ROOT / "epsilon_lab":
        return
    imports = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports if node.module == "epsilon_lab" for alias in node.names}
    assert {name for name in names if not (ROOT / "epsilon_lab" / f"{name}.py").exists()} <= {"__version__"}


def test_the_licence_is_apache() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:500]
