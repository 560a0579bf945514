"""Teams' work comes together in a repository that a killed worker cannot break and a stranger's file cannot leave."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.processes.repository import File, Repository, Step, is_installed

pytestmark = pytest.mark.skipif(not is_installed(), reason="git is not installed: apt-get install git")


def of(contents: dict[str, bytes | None]) -> dict[str, Any]:
    return {path: None if content is None else File(content) for path, content in contents.items()}


def contents(repository: Repository, commit: str) -> dict[str, bytes]:
    return {path: file.content for path, file in repository.files(commit).items()}


def git(place: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=place, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_two_teams_work_apart_and_come_together(repository: Repository) -> None:
    start = repository.create(of({"README": b"hello\n"}))
    ends = {}
    for team in ("api", "web"):
        assert repository.branch(team, start).commit == start
        ends[team] = repository.commit(
            team,
            start,
            [Step(f"{team}.one", "first", of({f"{team}/a.py": b"1\n"})), Step(f"{team}.two", "", of({"README": None}))],
        )
        assert (repository.worktree(team) / team / "a.py").read_bytes() == b"1\n"
    first = repository.merge(start, ends["api"], "Merge team api")
    both = repository.merge(first.commit, ends["web"], "Merge team web")
    assert contents(repository, both.commit) == {"api/a.py": b"1\n", "web/a.py": b"1\n"}
    assert (repository.path / "web" / "a.py").exists()
    assert git(repository.path, "log", "--format=%an", "team/api").splitlines() == ["api.two", "api.one", "epsilon_lab"]


def test_a_team_begins_from_what_it_depends_on(repository: Repository) -> None:
    start = repository.create({})
    repository.branch("api", start)
    repository.branch("data", start)
    api = repository.commit("api", start, [Step("a", "a", of({"api.py": b"a"}))])
    data = repository.commit("data", start, [Step("d", "d", of({"data.py": b"d"}))])
    begun = repository.branch("web", start, {"api": api, "data": data})
    begins = ["Begin with the work of team data", "Begin with the work of team api"]
    assert git(repository.path, "log", "--merges", "--format=%s", "team/web").splitlines() == begins
    assert contents(repository, begun.commit) == {"api.py": b"a", "data.py": b"d"}


def test_a_conflict_is_told_file_by_file_and_leaves_main_as_it_was(repository: Repository) -> None:
    start = repository.create(of({"a": b"1\n", "b": b"1\n"}))
    ends = []
    for team in ("x", "y"):
        repository.branch(team, start)
        ends.append(
            repository.commit(team, start, [Step(team, "", of({"a": team.encode() + b"\n", f"{team}.py": b""}))])
        )
    x = repository.merge(start, ends[0], "x").commit
    met = repository.merge(x, ends[1], "y")
    assert met.commit == ""
    assert list(met.conflicts) == ["a"]
    assert b"<<<<<<<" in met.conflicts["a"].content  # type: ignore[union-attr]
    assert git(repository.path, "rev-parse", "main") == x
    assert git(repository.path, "status", "--porcelain") == ""

    half = repository.merge(x, ends[1], "y", of({"a": b"<<<<<<< HEAD\nx\n=======\ny\n>>>>>>> other\n"}))
    assert list(half.conflicts) == ["a"], "what still has markers is not resolved"
    whole = repository.merge(x, ends[1], "y", of({"a": b"xy\n", "b": b"not asked for\n"}))
    assert contents(repository, whole.commit) == {"a": b"xy\n", "b": b"1\n", "x.py": b"", "y.py": b""}
    gone = repository.merge(x, ends[1], "y", of({"a": None}))
    assert "a" not in contents(repository, gone.commit)


def test_a_team_whose_dependencies_conflict_is_told_so(repository: Repository) -> None:
    start = repository.create(of({"a": b"1"}))
    ends = []
    for team in ("x", "y"):
        repository.branch(team, start)
        ends.append(repository.commit(team, start, [Step(team, "", of({"a": team.encode()}))]))
    assert list(repository.branch("z", start, dict(zip("xy", ends, strict=True))).conflicts) == ["a"]


def test_every_act_may_be_done_again_after_a_worker_died_in_it(repository: Repository, tmp_path: Path) -> None:
    start = repository.create(of({"a": b"1"}))
    assert contents(repository, repository.create(of({"a": b"1"}))) == {"a": b"1"}
    start = git(repository.path, "rev-parse", "main")
    repository.branch("x", start)
    step = Step("x", "", of({"b": b"2"}))
    repository.commit("x", start, [step])
    for lock in (".git/index.lock", ".git/worktrees/x/index.lock", ".git/refs/heads/main.lock"):
        (repository.path / lock).write_bytes(b"")
    (repository.worktree("x") / "half").write_bytes(b"left behind")
    again = repository.commit("x", start, [step])
    assert contents(repository, again) == {"a": b"1", "b": b"2"}
    assert repository.branch("x", start).commit == start
    again = repository.commit("x", start, [step])
    (repository.path / "half").write_bytes(b"left behind")
    once = repository.merge(start, again, "x")
    twice = repository.merge(start, again, "x")
    assert contents(repository, once.commit) == contents(repository, twice.commit) == {"a": b"1", "b": b"2"}
    assert repository.merge(once.commit, again, "x").commit == once.commit, "what is merged already stays as it is"
    assert repository.commit(None, once.commit, [Step("x", "", of({"a": b"1"}))]) == once.commit, "nothing changed"


@pytest.mark.parametrize("path", ["../out", "/tmp/out", ".git/hooks/pre-commit", "a/.GIT/config", "", "a\0b", "link/x"])
def test_a_strangers_path_is_refused(repository: Repository, tmp_path: Path, path: str) -> None:
    start = repository.create({})
    (tmp_path / "elsewhere").mkdir()
    (repository.path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput):
        repository.create(of({path: b"x"})) if path != "link/x" else repository._commit(
            repository.path, Step("x", "", of({path: b"x"}))
        )
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "elsewhere").iterdir())
    assert start


def test_no_hook_and_no_configuration_of_the_user_is_in_reach(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    hook = tmp_path / "hooks" / "pre-commit"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {said}\n")
    hook.chmod(0o755)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text(f"[core]\n hooksPath = {hook.parent}\n[user]\n name = someone\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    commit = repository.create(of({".gitattributes": b"* filter=evil\n", ".gitignore": b"*.py\n", "a.py": b"kept\n"}))
    assert contents(repository, commit)["a.py"] == b"kept\n", "what .gitignore names is part of the work all the same"
    assert not said.exists()
    monkeypatch.delenv("GIT_DIR")
    assert git(repository.path, "log", "-1", "--format=%an") == "epsilon_lab"


def test_names_and_contents_of_any_kind_come_back(repository: Repository) -> None:
    files = {"naïve – ☃.txt": b"\0\xff", "with space\tand tab": b"", "a/b/c": b"\r\n", "-dash": b"-", "new\nline": b"x"}
    commit = repository.create(of(files))
    assert contents(repository, commit) == files
    turned = repository.commit(None, commit, [Step("x", "", of({"a": b"a file now"}))])
    assert contents(repository, turned)["a"] == b"a file now"
    run = repository.commit(None, turned, [Step("x", "", {"run": File(b"#!/bin/sh", executable=True)})])
    assert repository.files(run)["run"].executable
    assert os.access(repository.path / "run", os.X_OK)
    back = repository.commit(None, turned, [Step("x", "", of({"a/b": b"a directory again"}))])
    assert "a/b" in contents(repository, back)


def test_what_git_says_is_passed_on(repository: Repository) -> None:
    repository.create({})
    with pytest.raises(LabError, match="git worktree failed in"):
        repository.branch("x", "0" * 39 + "g")
    os.rename(repository.path, repository.path.with_name("moved"))
    with pytest.raises(LabError, match="is gone"):
        contents(repository, "main")
