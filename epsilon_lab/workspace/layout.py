"""Where things lie in a workspace, and the only way to a path.

A workspace is a directory of run directories and one `lab/`. A run directory is complete in itself: copy it, open it
elsewhere, it answers. Everything in it is the journal, or a file that is written whole (to a temporary name, then
renamed), so that a reader never meets half a file.

    runs/                           the workspace
    ├── lab/journal.ndjson          epochs, sessions, births of runs
    ├── lab/snapshot.json           what the beginning of that came to (register.py)
    ├── lab/lock                    who holds the workspace
    ├── lab/sidecar.log             what a sidecar said
    ├── lab/tables.duckdb           rows of closed runs, read from their journals once (catalogue.py); may be deleted
    └── cap-set-4-20261121-…/       a run
        ├── journal.ndjson          everything that happened; from 64 MiB on it goes on in journal.ndjson.000002 …
        ├── STOP                    put there by anyone to end the run
        ├── items.ndjson, items.idx what a run of very many items works on, and where each line ends
        ├── plan.json               the rules the run is played by, where they are more than its tasks
        ├── place.json              where its code belongs, under a sidecar: working directory, sys.path
        ├── code/<sha256>.pkl       functions that travel, pickled once
        ├── candidates/g001-c003.py
        ├── prompts/g001-c003-0.md, replies/g001-c003-0.md
        ├── briefs/g001-v1.md
        ├── leaves/<task>/<fence>/  what an attempt wrote that asked for a directory; <fence>.json: its index
        ├── inputs/<task>.json|pkl  payloads over 64 KiB
        ├── outputs/<task>.json|pkl outputs over 64 KiB
        ├── qa/wave-1.json          QA's reports, and who was told to mend what
        ├── problem/                statement, seed program, public files
        └── leaderboard.json|csv, generation_history.json, best_solution.py, scores.png
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from epsilon_lab.errors import DiskFull, InvalidInput
from epsilon_lab.messages.events import ArtifactSaved
from epsilon_lab.messages.values import Value
from epsilon_lab.settings import INLINE_LIMIT
from epsilon_lab.workspace.items import read_item

JOURNAL = "journal.ndjson"
STOP = "STOP"
PLAN = "plan.json"
PLACE = "place.json"
LEAVES = "leaves"
SIDECAR_LOG = "lab/sidecar.log"


class RunDirectory:
    """One run's files. Reading never unpickles; writing replaces whole files."""

    is_here = True
    """Whether its path is where the run's files lie, and not where copies of them are kept."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._hash = hash(self.path)
        self._known: set[Path] = set()  # directories seen to be inside; no stranger writes here, so they stay there

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.path == other.path

    def __hash__(self) -> int:
        return self._hash  # what is cached by run is looked up for each task

    @property
    def run_id(self) -> str:
        """The run's id, which is the directory's name."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """Path of the run's journal, which is that of its first file."""
        return self.path / JOURNAL

    def locate(self, ref: str) -> Path:
        """Turn a reference (a relative POSIX path) into a path inside the run directory.

        Raises:
            InvalidInput: The reference leads outside.
        """
        pure = PurePosixPath(ref)
        if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\0" in ref:
            raise InvalidInput(f"reference {ref!r}", "leads outside the run directory", "use a relative path below it")
        path = self.path.joinpath(*pure.parts)
        if path.parent not in self._known or path.is_symlink():
            if not path.resolve().is_relative_to(self.path.resolve()):
                raise InvalidInput(f"reference {ref!r}", "is a link that leads outside the run directory")
            self._known.add(path.parent)
        return path

    def save(self, ref: str, content: str | bytes, *, kind: str, task_id: str | None = None) -> ArtifactSaved:
        """Write a whole file and describe it; the caller journals the description.

        Args:
            ref: Path below the run directory.
            content: Text is written as UTF-8.
            kind: What it is, for people: `source`, `prompt`, `reply`, `leaderboard`.
            task_id: The task that made it.
        """
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        path = self.locate(ref)
        try:
            _write(path, data)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, data)
        digest = hashlib.sha256(data).hexdigest()
        return ArtifactSaved(path=ref, kind=kind, sha256=digest, bytes=len(data), task_id=task_id)

    def keep(
        self, value: Value, stem: str, *, kind: str, task_id: str | None = None
    ) -> tuple[Value, list[ArtifactSaved]]:
        """Keep a value that is too large for the journal in a file; a small one comes back as it is.

        Args:
            value: A `json` or `pickle` value.
            stem: Where, without the suffix.
            kind: What it is, for people.
            task_id: The task it belongs to.

        Raises:
            DiskFull: There is no room for it.
        """
        if value.form == "file" or len(value.data) <= INLINE_LIMIT:
            return value, []
        ref = f"{stem}.{'json' if value.form == 'json' else 'pkl'}"
        with needing_room(ref):
            saved = self.save(ref, value.data, kind=kind, task_id=task_id)
        return Value("file", ref.encode()), [saved]

    def fetch(self, value: Value) -> Value:
        """Take a value back from its file, or its line of a file; one that is not in a file comes back as it is."""
        if value.form != "file":
            return value
        ref, _, place = value.data.decode().partition("#")
        if place:
            return read_item(self, ref, int(place))
        return Value("json" if ref.endswith(".json") else "pickle", self.read_bytes(ref))

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Keep room on the disk for what is about to be paid for, and give it back just before that is written.

        Args:
            size: Bytes.

        Raises:
            DiskFull: There is none.
        """
        with needing_room(f"{size:,} bytes for what is to come"), tempfile.TemporaryFile(dir=self.path) as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, size)
            yield

    def read_text(self, ref: str) -> str:
        """Read a text file of the run."""
        return self.read_bytes(ref).decode("utf-8", "replace")

    def read_bytes(self, ref: str) -> bytes:
        """Read a file of the run."""
        return self.locate(ref).read_bytes()

    def read_part(self, ref: str, offset: int, size: int) -> bytes:
        """Read so many bytes of a file of the run, fewer at its end."""
        handle = os.open(self.locate(ref), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(handle, size, offset)
        finally:
            os.close(handle)

    def exists(self, ref: str) -> bool:
        """Tell whether the run has this file."""
        return self.locate(ref).is_file()


@contextmanager
def needing_room(ref: str) -> Iterator[None]:
    """Tell a disk without room for a file of the run from any other failure to write it.

    Raises:
        DiskFull: There is no room for it.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"{ref} cannot be written ({error.strerror}); free space on that disk") from error


def _write(path: Path, data: bytes) -> None:
    """Write a whole file in as few system calls as there are: at each, another thread may take the interpreter."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
