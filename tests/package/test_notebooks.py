"""The notebooks as they are committed; that they run is nbval's to show."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@notebooks
def test_a_notebook_is_valid_short_and_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) <= 30
    assert all(cell.source.count("\n") < 60 for cell in notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), "commit it without outputs"


@notebooks
def test_a_notebook_ends_in_a_query_and_closes_its_lab(path: Path) -> None:
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert "lab.sql(" in code[-2]
    assert code[-1] == "lab.close()"


def test_what_their_runs_build_is_not_collected_as_tests(pytestconfig: pytest.Config) -> None:
    assert "runs*" in pytestconfig.getini("norecursedirs")
    assert "notebooks/runs*/" in (Path(__file__).parents[2] / ".gitignore").read_text().splitlines()
