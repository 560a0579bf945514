"""The files of leaves: a directory for an attempt, what it leaves behind, and the tree that all of it comes to.

An attempt's directory is `leaves/<task id>/<fence>/` of the run directory. It begins with copies of what others have
published (never with links: what is written there reaches nobody else's file). Once the attempt is done, what it
changed is described in an index beside the directory, and the lines that name each file are recorded in the very commit
that accepts the result. So files are published all at once or not at all, and only those of the attempt that counts:
to what a failed, lost or stale one wrote, nothing ever points.

Names and kinds of what is there are a stranger's. What is no plain file is refused by name, except for links to plain
files of the same directory, which are published as copies.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from epsilon_lab.errors import InvalidInput, LabError, LeafFailed, WorkspaceError
from epsilon_lab.ids import leaf_ref
from epsilon_lab.messages.events import ArtifactSaved, TasksCompleted
from epsilon_lab.settings import LEAF_BYTES, LEAF_FILES
from epsilon_lab.workspace import trees
from epsilon_lab.workspace.journal import read_journal
from epsilon_lab.workspace.layers import Layer, Piece, Source, check_path, difference, overlay
from epsilon_lab.workspace.layout import LEAVES, RunDirectory, needing_room

_DEEPEST = 64
_PART = 1 << 20
_LAID_OUT_NS = 1_000_000_000 * 10**9
"""When files that are laid out seem to have been written, so that what is written since shows."""

_KINDS = {
    stat.S_IFLNK: "a link that leads out of it",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class LeafFiles:
    """One attempt's directory.

    Args:
        run: The run directory.
        task_id: The task.
        fence: The attempt's.
        below: References of the layers it begins with, oldest first.

    Raises:
        LabError: A layer is not there, or not as it was published.
        DiskFull: There is no room.

    Attributes:
        path: The directory.
    """

    def __init__(self, run: RunDirectory, task_id: str, fence: int, below: tuple[str, ...] = ()) -> None:
        self._run = run
        self._task_id = task_id
        self._below = below
        self.reference = leaf_ref(task_id, fence)
        self.path = run.locate(self.reference)
        _clear_before(self.path.parent, fence)
        self._given: dict[str, Piece] = {}
        self._states: dict[str, tuple[int, int, int]] = {}
        with needing_room(self.reference):
            self.path.mkdir(parents=True)
            for path, source in tree_of(run, below).items():
                self._lay_out(path, source)

    def publish(self, needs: tuple[str, ...] = ()) -> tuple[str, list[ArtifactSaved]]:
        """Make what was changed a layer, that counts once the lines about it are recorded.

        Args:
            needs: Paths that must be files by now.

        Returns:
            The layer's reference, and the lines; an empty reference where nothing was changed.

        Raises:
            LeafFailed: A file that must be there is missing, or something there cannot be published.
            DiskFull: There is no room.
        """
        try:
            found = self._found()
            refuse_missing(needs, found)
            changed, deleted = difference(self._given, found)
            for path in found.keys() - changed.keys():  # they lie where they came from
                (self.path / path).unlink()
            if not changed and not deleted:
                self.discard()
                return "", []
            with needing_room(self.reference):
                return self.reference, self._saved(Layer(files=changed, deleted=deleted, below=self._below))
        except FileNotFoundError as error:
            raise LeafFailed(f"the workspace changed while it was published ({error.filename!r} is gone)") from error

    def discard(self) -> None:
        """Leave nothing of it."""
        trees.remove(self.path)
        with suppress(OSError):
            self.path.parent.rmdir()

    def _lay_out(self, path: str, source: Source) -> None:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with suppress(FileNotFoundError), target.open("xb") as file:
            while part := self._run.read_part(f"{source.layer}/{path}", file.tell(), _PART):
                digest.update(part)
                file.write(part)
        if digest.hexdigest() != source.piece.sha256:
            raise LabError(
                f"file {path!r} of {source.layer} is not there as run {self._run.run_id} has it on record; put it back"
            )
        target.chmod(0o755 if source.piece.executable else 0o644)
        os.utime(target, ns=(_LAID_OUT_NS, _LAID_OUT_NS))
        self._given[path] = source.piece
        self._states[path] = _mark(target.stat())

    def _found(self) -> dict[str, Piece]:
        """What is there now, by path."""
        found: dict[str, Piece] = {}
        room = LEAF_BYTES
        try:
            for path, state in trees.entries(self.path, deepest=_DEEPEST):
                _check_name(path)
                given = self._given.get(path)
                if given is not None and stat.S_ISREG(state.st_mode) and self._states[path] == _mark(state):
                    is_executable = bool(state.st_mode & stat.S_IXUSR)
                    found[path] = Piece(given.sha256, given.size, is_executable)
                    continue
                state = self._own(path, state)
                room -= state.st_size
                if room < 0 or len(found) - len(self._given) >= LEAF_FILES:
                    raise LeafFailed(
                        f"the workspace holds more than a task may publish, {LEAF_FILES:,} files of "
                        f"{LEAF_BYTES >> 20:,} MiB in all; remove what is not wanted before the task ends"
                    )
                found[path] = _piece(self.path / path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise LeafFailed(f"the workspace cannot be read ({error.strerror}: {error.filename!r})") from error
        return found

    def _own(self, path: str, state: os.stat_result) -> os.stat_result:
        """Make a link to a file of the workspace, or a file that has other names too, one that stands for itself."""
        place = self.path / path
        if stat.S_ISREG(state.st_mode) and state.st_nlink == 1:
            return state
        if stat.S_ISLNK(state.st_mode):
            with suppress(OSError, RuntimeError):  # a circle of links
                target = place.resolve(strict=True)
                if target.is_relative_to(self.path.resolve()) and stat.S_ISREG(target.lstat().st_mode):
                    return _replace(place, target)
        elif stat.S_ISREG(state.st_mode):
            return _replace(place, place)
        kind = _KINDS.get(stat.S_IFMT(state.st_mode), "no file")
        if stat.S_ISLNK(state.st_mode) and place.is_dir() and place.resolve().is_relative_to(self.path.resolve()):
            kind = "a link to a directory"
        raise LeafFailed(f"{path!r} in the workspace is {kind}, which is not published; remove it, or make it a file")

    def _saved(self, layer: Layer) -> list[ArtifactSaved]:
        saved = []
        for path, piece in layer.files.items():
            reference, place = f"{self.reference}/{path}", self.path / path
            if self._run.is_here:
                place.chmod(0o555 if piece.executable else 0o444)
                line = ArtifactSaved(
                    path=reference, kind="file", sha256=piece.sha256, bytes=piece.size, task_id=self._task_id
                )
            else:
                line = self._run.save(reference, place.read_bytes(), kind="file", task_id=self._task_id)
            saved.append(line)
        index = msgspec.json.format(msgspec.json.encode(layer))
        saved.append(self._run.save(f"{self.reference}.json", index, kind="layer", task_id=self._task_id))
        if not self._run.is_here:
            self.discard()
        return saved


def refuse_missing(needs: Iterable[str], found: Mapping[str, object]) -> None:
    """Refuse an attempt that has not made what it was to make.

    Raises:
        LeafFailed: Naming what is missing.
    """
    if missing := [path for path in needs if path not in found]:
        raise LeafFailed(f"output file{'s' * (len(missing) > 1)} missing: {', '.join(map(repr, missing))}")


# -- reading -----------------------------------------------------------------------------------------------------------


def tree_of(run: RunDirectory, layers: Iterable[str]) -> dict[str, Source]:
    """Lay layers of a run over each other.

    Args:
        run: The run directory.
        layers: Their references, oldest first.

    Returns:
        Path -> where its content is.

    Raises:
        LabError: A layer is not there, or its index cannot be read.
    """
    return overlay((reference, read_layer(run, reference)) for reference in layers)


def read_layer(run: RunDirectory, reference: str) -> Layer:
    """Read a layer's index.

    Raises:
        LabError: It is not there, or cannot be read.
    """
    try:
        layer = msgspec.json.decode(run.read_bytes(f"{reference}.json"), type=Layer)
        for path in (*layer.files, *layer.deleted):
            check_path(f"{reference}.json", path)
    except (OSError, msgspec.MsgspecError, InvalidInput) as error:
        raise LabError(f"the files {reference} of run {run.run_id} cannot be read ({error})") from error
    return layer


def published(run: RunDirectory) -> Iterator[tuple[str, str]]:
    """(task id, reference) of all files that a run's tasks published, in the order in which they were settled."""
    for record in read_journal(run.journal).records:
        if record.type == "task.completed":
            for line in msgspec.json.decode(record.body, type=TasksCompleted).tasks:
                if line.files:
                    yield line.task_id, line.files


def product(run: RunDirectory, task_id: str | None = None) -> dict[str, Source]:
    """The files of a run, or those that one of its tasks saw at its end.

    Raises:
        InvalidInput: That task has published none.
        LabError: They cannot be read.
    """
    layers = list(published(run))
    if task_id is None:
        return tree_of(run, (reference for _, reference in layers))
    reference = dict(layers).get(task_id)
    if reference is None:
        some = ", ".join([each for each, _ in layers][:3]) or "none did"
        raise InvalidInput(f"task {task_id!r}", f"published no files in run {run.run_id}", f"those that did: {some}")
    return tree_of(run, (*read_layer(run, reference).below, reference))


def locate_files(run: RunDirectory, task_id: str | None = None) -> dict[str, Path]:
    """Say where the files of a run lie, or those of one of its tasks: path -> place.

    Raises:
        InvalidInput: That task has published none.
        LabError: They cannot be read.
    """
    return {path: run.locate(f"{source.layer}/{path}") for path, source in product(run, task_id).items()}


def export_files(run: RunDirectory, directory: Path, task_id: str | None = None) -> Path:
    """Write the files of a run, or of one of its tasks, to a directory, and return it; what else is there stays.

    Raises:
        InvalidInput: That task has published none, or the directory has a link where a file would be written.
        WorkspaceError: They cannot be written.
    """
    target, tree = RunDirectory(directory), product(run, task_id)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, source in tree.items():
            target.save(path, run.read_bytes(f"{source.layer}/{path}"), kind="export")
            target.locate(path).chmod(0o755 if source.piece.executable else 0o644)
    except OSError as error:
        raise WorkspaceError(f"{error.filename!r} cannot be written to {directory} ({error.strerror})") from error
    return directory


def sweep(run: RunDirectory) -> None:
    """Remove what attempts left that never counted, once the run is over."""
    home = run.path / LEAVES
    if not home.is_dir():
        return
    kept = {reference for _, reference in published(run)}
    for task in home.iterdir():
        for attempt in list(task.iterdir()) if task.is_dir() and not task.is_symlink() else ():
            if f"{LEAVES}/{task.name}/{attempt.name.removesuffix('.json')}" not in kept:
                _remove(attempt)
        with suppress(OSError):
            task.rmdir()
    with suppress(OSError):
        home.rmdir()


def _clear_before(home: Path, fence: int) -> None:
    """Remove what earlier attempts of a task left; theirs was not accepted, or there would be no other one."""
    with suppress(FileNotFoundError):
        for attempt in list(home.iterdir()):
            name = attempt.name.removesuffix(".json")
            if name.isdecimal() and int(name) < fence:
                _remove(attempt)


def _remove(attempt: Path) -> None:
    if attempt.is_dir() and not attempt.is_symlink():
        trees.remove(attempt)
    else:
        attempt.unlink(missing_ok=True)


# -- one file ----------------------------------------------------------------------------------------------------------


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise LeafFailed(
            f"a file in the workspace has a name that is no text, {path.encode(errors='surrogateescape')!r}; rename it"
        ) from None


def _mark(state: os.stat_result) -> tuple[int, int, int]:
    """By what a file that nobody has written to is known."""
    return state.st_ino, state.st_size, state.st_mtime_ns


def _piece(place: Path) -> Piece:
    """What a file holds; it is a plain one, or it is not opened."""
    with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        state = os.fstat(file.fileno())
        return Piece(hashlib.file_digest(file, "sha256").hexdigest(), state.st_size, bool(state.st_mode & stat.S_IXUSR))


def _replace(place: Path, content: Path) -> os.stat_result:
    """Put a copy in the place of a link or of one name among several."""
    mode = content.stat().st_mode
    temporary = place.with_name(f".part-{os.urandom(6).hex()}")
    with needing_room(str(place)):
        temporary.write_bytes(content.read_bytes())
    temporary.chmod(stat.S_IMODE(mode))
    temporary.replace(place)
    return place.lstat()
