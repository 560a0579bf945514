"""Functions by name: where they are looked for, and as what they are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from epsilon_lab.agents.entry_point import find_function
from epsilon_lab.agents.work import work_of
from epsilon_lab.errors import InvalidInput


def test_a_module_is_found_as_python_does_or_else_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "mine_alone.py").write_text("def f(x): return 'beside'\n")
    monkeypatch.chdir(tmp_path)
    assert find_function("task", "json:dumps")({}) == "{}"
    assert find_function("task", "pack.mine_alone:f")(1) == "beside"
    assert find_function("task", "pack/mine_alone.py:f")(1) == "beside"


def test_a_file_that_was_edited_is_another_function(tmp_path: Path) -> None:
    file = tmp_path / "edited.py"
    file.write_text("def f(request): return 1\n")
    first = work_of("task", f"{file}:f")
    assert work_of("task", f"{file}:f").sha256 == first.sha256
    file.write_text("def f(request): return 2\n")
    assert work_of("task", f"{file}:f").sha256 != first.sha256


def test_a_module_that_needs_what_is_not_there_says_what(tmp_path: Path) -> None:
    (tmp_path / "needy.py").write_text("import nowhere_at_all\n")
    with pytest.raises(InvalidInput, match=r"task: .*needy\.py cannot be imported .*nowhere_at_all"):
        find_function("task", f"{tmp_path / 'needy.py'}:f")
    (tmp_path / "nowhere_at_all.py").write_text("")
    with pytest.raises(InvalidInput, match=rf"nowhere_at_all.*it lies beside it: sys.path.insert\(0, '{tmp_path}'\)"):
        find_function("task", f"{tmp_path / 'needy.py'}:f")
    (tmp_path / "needy.py").write_text("X = 1\n")
    with pytest.raises(InvalidInput, match="has no function X"):
        find_function("task", f"{tmp_path / 'needy.py'}:X")
