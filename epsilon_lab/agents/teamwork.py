"""What a tree's run does with git, as tasks: who performs them is told as any agent is, and gives a commit.

A team's nodes work in directories of their own, as all leaves do, and see of git only the files of their team's branch.
These acts, between them, put the teams' work into a repository: begin it, begin a branch, commit, merge. Each is given
the commits it builds on as outputs of the tasks before it, and publishes the files of the commit that it makes, so that
whoever comes next begins with them.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.request import Request
from epsilon_lab.errors import InvalidInput, LeafFailed
from epsilon_lab.ids import origin, revision
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.tasks import Lane
from epsilon_lab.processes.repository import File, Merge, Repository, Step, is_installed
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.leaf_files import read_layer

RESOLUTION = "resolution:"
"""How the id of a feedback begins that names the files in which conflicts are resolved."""

_MARKED = re.compile(rb"^(<{7}|>{7}) .*$", re.MULTILINE)

Act = Literal["create", "branch", "commit", "merge"]


@dataclass(frozen=True)
class GitWork:
    """One act on the run's repository.

    Its request says in `about`: `of`, the team (None: `main`); `onto`, the input that has the commit to begin from;
    `with`, those that have the commits to merge. For `create`: `files`, what teams begin from, each with whether it is
    a program. For `commit`: `since`, the nodes whose files are committed and the revision from which on (none: all of
    the team's), and `messages`, what commits say by node.
    """

    act: Act
    lane: Lane = "process"
    is_function: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """What rows call it."""
        return f"git {self.act}"

    def validate(self, budget: Budget | None = None) -> None:  # noqa: ARG002
        """Refuse to begin where there is no git.

        Raises:
            InvalidInput: There is none.
        """
        if not is_installed():
            raise InvalidInput("Tree", "needs git, which is not installed", "install it (Debian: apt-get install git)")

    def perform(self, request: Request, leaf: Leaf) -> dict[str, Any]:
        """Do it.

        Returns:
            `commit`: the one it made, empty where there are `conflicts`: paths of files that do not come together, and
            `seen`, a SHA-256 of what these are, by which a conflict is known again.

        Raises:
            LeafFailed: It was begun on a machine that has not the run's repository.
            LabError: Git failed.
        """
        if not leaf.run.is_here:
            raise LeafFailed("git work is done where the run directory is, and this worker is elsewhere")
        repository = Repository(leaf.run.path)
        about = request.about
        team: str = about.get("of") or ""
        start = _commit(request, about["onto"]) if "onto" in about else ""
        others = {name.rpartition(".")[0]: _commit(request, name) for name in about.get("with", ())}
        match self.act:
            case "create":
                met = Merge(repository.create(_base(leaf.run, about["files"])))
            case "branch":
                met = repository.branch(team, start, others, _resolved(request, leaf.run))
            case "commit":
                return {"team": team, "commit": repository.commit(team or None, start, _steps(request, leaf.run))}
            case "merge":
                [other] = others.values()
                met = repository.merge(start, other, f"Merge team {team}", _resolved(request, leaf.run))
        tree: Mapping[str, File | None] = repository.files(met.commit or start)
        _show(request.workspace(), {**tree, **met.conflicts})
        told = {"team": team, "commit": met.commit, "conflicts": list(met.conflicts)}
        return {**told, "seen": _seen(met.conflicts)} if met.conflicts else told


def _seen(conflicts: Mapping[str, File | None]) -> str:
    """A digest of files in conflict, but for what git's markers name: commits are others whenever they are made."""
    found = hashlib.sha256()
    for path, file in sorted(conflicts.items()):
        content = b"" if file is None else _MARKED.sub(rb"\1", file.content)
        found.update(repr((path, None if file is None else file.executable, content)).encode(errors="surrogateescape"))
    return found.hexdigest()


def _commit(request: Request, name: str) -> str:
    commit: str = request.inputs[name]["commit"]
    return commit


def _base(run: RunDirectory, files: Mapping[str, bool]) -> dict[str, File]:
    return {path: File(run.read_bytes(f"base/{path}"), executable) for path, executable in files.items()}


def _steps(request: Request, run: RunDirectory) -> list[Step]:
    """A commit for what each of the team's tasks changed, in the order in which they were settled."""
    team, since, messages = (request.about.get(name) for name in ("of", "since", "messages"))
    steps = []
    for layer in request.layers:
        task_id = layer.split("/")[1]
        name = origin(task_id)
        is_theirs = name.startswith(f"{team}.") and name != f"{team}.branch"
        if is_theirs if since is None else revision(task_id) >= since.get(name, math.inf):
            message = (messages or {}).get(name) or f"Work of {name}"
            steps.append(Step(task_id, message, _changes(run, layer)))
    return steps


def _resolved(request: Request, run: RunDirectory) -> dict[str, File | None]:
    """How conflicts were resolved before; a later word on a file is the last."""
    found: dict[str, File | None] = {}
    for said in request.feedback:
        if said.id.startswith(RESOLUTION):
            found |= _changes(run, said.id.removeprefix(RESOLUTION))
    return found


def _changes(run: RunDirectory, layer: str) -> dict[str, File | None]:
    """What a layer adds, changes and takes away, by path."""
    index = read_layer(run, layer)
    changed = {path: File(run.read_bytes(f"{layer}/{path}"), piece.executable) for path, piece in index.files.items()}
    return {**dict.fromkeys(index.deleted), **changed}


def _show(workspace: Path, tree: Mapping[str, File | None]) -> None:
    """Make a workspace hold these files and no others."""
    wanted = {path: file for path, file in tree.items() if file is not None}
    for there in sorted(workspace.rglob("*"), reverse=True):
        if there.is_dir() and not there.is_symlink():
            if not any(there.iterdir()):
                there.rmdir()
        elif there.relative_to(workspace).as_posix() not in wanted:
            there.unlink()
    for path, file in wanted.items():
        place = workspace / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists() or place.read_bytes() != file.content:
            place.write_bytes(file.content)
        place.chmod(0o755 if file.executable else 0o644)
