"""A git repository of a run, the one door to git: teams work on branches of it, each in a worktree of its own.

Git is what people who read a team's work already have: history, authorship, three-way merges with conflicts told apart
file by file. Every act here begins from a commit that it is given and ends in a commit that it returns, and repeats to
the same content: a worker may die in the middle of one, and a second worker does it again.

What is committed comes from strangers. So no hook, no user's or machine's configuration and no network is in reach, no
file is written outside the worktree or into `.git`, and nothing that is committed is ever executed by git.

Needs git 2.28 or later (2020) for `init -b`.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.processes.environment import candidate_environment

MAIN = "main"
"""The branch that teams' branches are merged into."""

_PLACE, _WORKTREES, _LOCK = "repository", "worktrees", "repository.lock"
_HOUSE = "epsilon_lab"
_MARKERS = re.compile(rb"^(<{7} |={7}$|>{7} )", re.MULTILINE)

# Ours alone: no configuration of the user or the machine, no hook, no credential, no transport.
_CONFIG = {
    "advice.detachedHead": "false",
    "commit.gpgSign": "false",
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "merge.conflictStyle": "merge",
    "protocol.allow": "never",
    "safe.directory": "*",
}


class File(NamedTuple):
    """A file of a commit."""

    content: bytes
    executable: bool = False


class Step(NamedTuple):
    """One commit in the making."""

    author: str
    message: str
    files: Mapping[str, File | None]
    """By path; None for a file that is taken away."""


class Merge(NamedTuple):
    """What came of a merge."""

    commit: str
    """The merge; empty where it has conflicts."""

    conflicts: Mapping[str, File | None] = {}
    """By path: what lies there, with git's markers where it is a text; None where nothing does."""


def is_installed() -> bool:
    """Tell whether there is a git on this machine."""
    return shutil.which("git") is not None


class Repository:
    """A repository below a run directory: `repository/` has the branch `main`, `worktrees/<team>/` the teams'.

    Args:
        root: The run directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.path = root / _PLACE

    def worktree(self, team: str) -> Path:
        """Where a team's branch is checked out."""
        return self._root / _WORKTREES / team

    def create(self, files: Mapping[str, File]) -> str:
        """Make the repository, anew where there is one, with what teams begin from.

        Returns:
            The first commit of `main`.

        Raises:
            InvalidInput: A path leads outside, or into `.git`.
            LabError: Git failed.
        """
        with self._alone():
            shutil.rmtree(self._root / _WORKTREES, ignore_errors=True)
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir()
            self._git(self.path, "init", "-q", "-b", MAIN)
            return self._commit(self.path, Step(_HOUSE, "What the teams begin from", files))

    def branch(
        self,
        team: str,
        start: str,
        others: Mapping[str, str] | None = None,
        resolved: Mapping[str, File | None] | None = None,
    ) -> Merge:
        """Check out a team's branch, anew where there is one, in its own worktree.

        Args:
            team: Its name; the branch is `team/<name>`.
            start: The commit to begin from.
            others: Commits of the teams it depends on, by their names, merged in turn, up to one that conflicts.
            resolved: What to put where they conflict, as for `merge`.

        Raises:
            InvalidInput: A path leads outside, or into `.git`.
            LabError: Git failed.
        """
        place = self.worktree(team)
        with self._alone():
            if place.exists():
                shutil.rmtree(place)
            self._git(self.path, "worktree", "prune")
            self._git(self.path, "worktree", "add", "-q", "-f", "-B", f"team/{team}", str(place), start)
            merged = Merge(start)
            for name, other in (others or {}).items():
                merged = self._merge(place, other, f"Begin with the work of team {name}", resolved or {})
                if not merged.commit:
                    return merged
            return merged

    def commit(self, team: str | None, start: str, steps: Sequence[Step]) -> str:
        """Put a team's work on its branch, or a repair on `main`: a commit a step that changes anything.

        Args:
            team: The team; None for `main`.
            start: The commit that the branch is at, and is brought back to first.
            steps: The commits, in order.

        Returns:
            The last commit; `start` where nothing changed.

        Raises:
            InvalidInput: A path leads outside, or into `.git`.
            LabError: Git failed.
        """
        place = self.path if team is None else self.worktree(team)
        with self._alone():
            self._reset(place, start)
            for step in steps:
                start = self._commit(place, step)
            return start

    def merge(self, start: str, other: str, message: str, resolved: Mapping[str, File | None] | None = None) -> Merge:
        """Merge a commit into `main`.

        Args:
            start: The commit that `main` is at, and is brought back to first.
            other: What to merge.
            message: The merge's own message.
            resolved: What to put where the two conflict: by path, None to take the file away. A conflict that is not
                among them, or whose content still has git's markers, stays one.

        Raises:
            InvalidInput: A path leads outside, or into `.git`.
            LabError: Git failed.
        """
        with self._alone():
            self._reset(self.path, start)
            return self._merge(self.path, other, message, resolved or {})

    def files(self, commit: str) -> dict[str, File]:
        """Read every file of a commit, by path; a link is left out.

        Raises:
            LabError: There is no such commit.
        """
        listed = self._git(self.path, "ls-tree", "-r", "-z", commit).split(b"\0")
        entries = [entry.decode(errors="surrogateescape").split("\t", 1) for entry in listed if entry]
        kinds = {path: kind.split() for kind, path in entries if kind.startswith("100")}
        answer = self._git(
            self.path, "cat-file", "--batch", given="".join(f"{kind[2]}\n" for kind in kinds.values()).encode()
        )
        found, at = {}, 0
        for path, (mode, *_) in kinds.items():
            end = answer.index(b"\n", at)
            size = int(answer[at:end].split()[2])
            found[path] = File(answer[end + 1 : end + 1 + size], mode == "100755")
            at = end + size + 2
        return found

    # -- in one place, by one process at a time -----------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes out, and clear away what one that was killed had locked."""
        with (self._root / _LOCK).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for stale in (self.path / ".git").rglob("*.lock"):
                stale.unlink(missing_ok=True)
            yield

    def _reset(self, place: Path, start: str) -> None:
        self._git(place, "reset", "-q", "--hard", start)
        self._git(place, "clean", "-q", "-f", "-d", "-x")

    def _commit(self, place: Path, step: Step) -> str:
        for path, file in step.files.items():
            _put(place, path, file)
        self._git(place, "add", "-A", "-f")
        head = self._git(place, "rev-parse", "-q", "--verify", "HEAD", codes=(0, 1)).decode().strip()
        if head and not self._git(place, "diff", "--cached", "--name-only", "-z"):
            return head
        self._git(place, "commit", "-q", "--allow-empty", "-F", "-", given=_text(step.message), author=step.author)
        return self._head(place)

    def _merge(self, place: Path, other: str, message: str, resolved: Mapping[str, File | None]) -> Merge:
        self._git(place, "merge", "-q", "--no-ff", "--no-commit", other, codes=(0, 1))
        unmerged = self._git(place, "diff", "--name-only", "--diff-filter=U", "-z").split(b"\0")
        conflicts: dict[str, File | None] = {}
        for path in (name.decode(errors="surrogateescape") for name in unmerged if name):
            given, there = resolved.get(path), place / path
            if path in resolved and (given is None or not _MARKERS.search(given.content)):
                _put(place, path, given)
                self._git(place, "add", "-A", "-f", "--", path)
            elif given is not None or not there.is_file() or there.is_symlink():
                conflicts[path] = given
            else:
                conflicts[path] = File(there.read_bytes(), bool(there.stat().st_mode & stat.S_IXUSR))
        if conflicts:
            self._reset(place, "HEAD")
            return Merge("", conflicts)
        if (Path(self._git(place, "rev-parse", "--absolute-git-dir").decode().strip()) / "MERGE_HEAD").exists():
            self._git(place, "commit", "-q", "-F", "-", given=_text(message))
        return Merge(self._head(place))

    def _head(self, place: Path) -> str:
        return self._git(place, "rev-parse", "HEAD").decode().strip()

    def _git(
        self, place: Path, *arguments: str, given: bytes = b"", author: str = _HOUSE, codes: Sequence[int] = (0,)
    ) -> bytes:
        name = re.sub(r"[^\w. ~-]", "_", author) or _HOUSE
        people = {"AUTHOR": name, "COMMITTER": _HOUSE}
        environment = candidate_environment() | {
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "HOME": os.devnull,
            "LC_ALL": "C",
            **{f"GIT_{role}_NAME": person for role, person in people.items()},
            **{f"GIT_{role}_EMAIL": f"{person.replace(' ', '.')}@{_HOUSE}" for role, person in people.items()},
        }
        settings = [part for name, value in _CONFIG.items() for part in ("-c", f"{name}={value}")]
        try:
            done = subprocess.run(
                ["git", *settings, *arguments],  # noqa: S607 - the user's own git
                cwd=place,
                env=environment,
                input=given,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError as error:
            if not place.is_dir():
                raise LabError(f"{place} is gone; the run's repository cannot be used") from error
            raise LabError("git is not installed; install it (Debian: apt-get install git)") from error
        if done.returncode not in codes:
            said = " ".join(done.stderr.decode(errors="replace").split())[-300:]
            raise LabError(f"git {arguments[0]} failed in {place} ({done.returncode}): {said}")
        return done.stdout


def _text(message: str) -> bytes:
    return (message.strip() or "(no message)").encode(errors="replace")


def _put(place: Path, path: str, file: File | None) -> None:
    """Write or take away a file of a worktree, and nothing else.

    Raises:
        InvalidInput: The path leads outside, or into `.git`.
    """
    pure = PurePosixPath(path)
    parts = [part.casefold() for part in pure.parts]
    if pure.is_absolute() or not parts or ".." in parts or ".git" in parts or "\0" in path:
        raise InvalidInput(f"file {path!r}", "leads outside the worktree, or into .git", "give it another name")
    target = place.joinpath(*pure.parts)
    if not target.parent.resolve().is_relative_to(place.resolve()):
        raise InvalidInput(f"file {path!r}", "lies behind a link that leads outside the worktree")
    if file is None:
        target.unlink(missing_ok=True)
        return
    for above in reversed(target.relative_to(place).parents[:-1]):
        if (place / above).is_file():  # what was a file is a directory now
            (place / above).unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink():
        target.unlink()
    elif target.is_dir():
        shutil.rmtree(target)
    target.write_bytes(file.content)
    target.chmod(0o755 if file.executable else 0o644)
