"""The files of a run as a user holds them: found by path or pattern, read, and looked at in a cell.

The table `artifacts` says which there are; their content is the disk's, read when someone asks (workspace/recorded.py),
and shown as what it is and never as what it says (views/previews.py).
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from epsilon_lab import formats
from epsilon_lab.errors import InvalidInput, LabError, NoSuchArtifact
from epsilon_lab.views import previews
from epsilon_lab.workspace.layout import LEAVES, RunDirectory
from epsilon_lab.workspace.leaf_files import product
from epsilon_lab.workspace.recorded import Listed, Opened, opened

if TYPE_CHECKING:
    import pandas as pd

    from epsilon_lab.workspace.tables import Tables

_SHOWN = 20
_CHECKED = 64 << 20
"""Bytes up to which a look at a file compares all of it with its record."""

_DIFFERED = 8 << 20
"""Bytes up to which a file is compared line by line."""

_COLUMNS = ", ".join(Listed._fields)
_MATCHING = "run_id = $run and (path glob $pattern or path glob '*/' || $pattern)"


class Artifacts(Mapping[str, "Artifact"]):
    """The files that a run has on record, by path, the first recorded first.

        run.artifacts                            a list of them, in a cell
        run.artifacts["leaderboard.csv"].frame()
        run.artifacts.glob("*.png")

    A file that a task has left in its workspace is also found by the path it had there.

    Args:
        store: Gives the tables.
        run: The run directory.
        pattern: Which files, as a shell would match their paths, or the ends of these; `*` also matches `/`.
    """

    def __init__(self, store: Callable[[], Tables], run: RunDirectory, pattern: str = "*") -> None:
        self._store = store
        self._run = run
        self._pattern = pattern

    def glob(self, pattern: str) -> Artifacts:
        """Those whose path, or the end of it, matches a pattern: `*.csv`, `prompts/*`, `plots/run-[0-9].png`.

        Raises:
            InvalidInput: The pattern is no text.
        """
        if not isinstance(pattern, str) or not pattern:
            raise InvalidInput("pattern", f"must be a str such as '*.csv', got {pattern!r}")
        return Artifacts(self._store, self._run, pattern)

    def frame(self) -> pd.DataFrame:
        """All of them as a table: path, kind, bytes, sha256, task_id, created_at."""
        query = f"select {_COLUMNS} from artifacts where {_MATCHING} order by created_at, path"  # noqa: S608 - our own
        return self._store().sql(query, self._values())

    def __getitem__(self, path: str) -> Artifact:
        if not isinstance(path, str):
            raise NoSuchArtifact(self._run.run_id, repr(path), ())
        row = self.row(path) or self.row(self._published(path))
        if row is None:
            raise NoSuchArtifact(self._run.run_id, repr(path), self._like(path))
        return Artifact(self, self._run, row)

    def __iter__(self) -> Iterator[str]:
        return iter([path for (path,) in self._rows("path", "order by created_at, path")])

    def __len__(self) -> int:
        return int(self._rows("count(*)")[0][0])

    def row(self, path: str) -> Listed | None:
        """What is on record about a file now."""
        rows = self._rows(_COLUMNS, "and path = $path", path=path)
        return Listed(*rows[0]) if rows else None

    def _published(self, path: str) -> str:
        """Where a file lies that was published under a path; of several the one that counts."""
        leaves = "and starts_with(path, $leaves) and ends_with(path, $end) limit 1"
        if not self._rows("path", leaves, leaves=f"{LEAVES}/", end=f"/{path}"):
            return ""
        source = product(self._run).get(path)
        return "" if source is None else f"{source.layer}/{path}"

    def _like(self, path: str) -> tuple[str, ...]:
        order = (
            "order by greatest(jaro_winkler_similarity(path, $path), "
            "jaro_winkler_similarity(split_part(path, '/', -1), $path)) desc, path limit 3"
        )
        return tuple(name for (name,) in self._rows("path", order, path=path))

    def _rows(self, columns: str, more: str = "", **values: object) -> list[tuple[Any, ...]]:
        query = f"select {columns} from artifacts where {_MATCHING} {more}"  # noqa: S608 - our own words
        return self._store().rows(query, {**self._values(), **values}, run_id=self._run.run_id)

    def _values(self) -> dict[str, object]:
        return {"run": self._run.run_id, "pattern": self._pattern}

    def __repr__(self) -> str:
        which = "" if self._pattern == "*" else f", {self._pattern!r}"
        try:
            count, size = self._rows("count(*), coalesce(sum(bytes), 0)::bigint")[0]
        except LabError as error:
            return f"<Artifacts of {self._run.run_id}{which}: {formats.one_line(error)}>"
        return (
            f"<Artifacts of {self._run.run_id}{which}: {count:,} file{'' if count == 1 else 's'}, {formats.size(size)}>"
        )

    def _repr_html_(self) -> str:
        try:
            kinds = self._rows("kind, count(*)", "group by kind order by kind <> 'file', count(*) desc, kind")
            rows = self._rows(_COLUMNS, f"order by kind <> 'file', created_at desc, path limit {_SHOWN}")
        except LabError:
            return f"<code>{formats.escape(repr(self))}</code>"
        return previews.listing(repr(self)[1:-1], kinds, [Listed(*row) for row in rows])


class Artifact:
    """A file that a run has on record; in a cell it shows what is in it.

    Attributes:
        path: Below the run directory.
        kind: What it is: `file` (a task's own), `source`, `prompt`, `reply`, `brief`, ...
        bytes: Its size, as recorded.
        sha256: What its content is known by, as recorded.
        task_id: The task that made it; None for the run itself.
        created_at: When it was recorded, UTC.
    """

    def __init__(self, book: Artifacts, run: RunDirectory, row: Listed) -> None:
        self._book = book
        self._run = run
        self._take(row)

    def _take(self, row: Listed) -> None:
        self.path, self.kind, self.bytes, self.sha256, self.task_id, self.created_at = row

    def read_bytes(self) -> bytes:
        """Its content, as it is now; a warning says so where that is not what was recorded.

        Raises:
            LabError: It is gone, or no plain file any more.
        """
        with self._read() as file:
            return file.read()

    def read_text(self) -> str:
        """The same as text: UTF-8, and a sign where it is none."""
        return self.read_bytes().decode("utf-8", "replace")

    def json(self) -> Any:
        """What it says as JSON.

        Raises:
            InvalidInput: It is none.
            LabError: As for `read_bytes`.
        """
        try:
            return msgspec.json.decode(self.read_bytes())
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InvalidInput(
                f"file {self.path!r}", f"is no JSON ({error})", "read_text() gives it as it is"
            ) from None

    def frame(self) -> pd.DataFrame:
        """A CSV, TSV, JSON, NDJSON or Parquet file as a table.

        Raises:
            InvalidInput: It is none of these, or cannot be read as such.
            LabError: As for `read_bytes`.
        """
        with self._read() as file:
            return file.frame()

    def diff(self, other: Artifact) -> Diff:
        """How to get from this text to another, as a unified diff; in a cell its lines are coloured.

        Raises:
            InvalidInput: That is no artifact, or one of them is larger than 8 MiB.
            LabError: As for `read_bytes`.
        """
        if not isinstance(other, Artifact):
            raise InvalidInput("other", f"must be another of run.artifacts, got {other!r}")
        for each in (self, other):
            if each.bytes > _DIFFERED:
                raise InvalidInput(f"file {each.path!r}", f"is too large to compare ({formats.size(each.bytes)})")
        before, after = self.read_text().splitlines(), other.read_text().splitlines()
        return Diff("\n".join(difflib.unified_diff(before, after, self.path, other.path, lineterm="")))

    @contextmanager
    def _read(self) -> Iterator[Opened]:
        with opened(self._run, self.path) as file:
            if not self._is_as_recorded(file):
                warnings.warn(
                    f"file {self.path!r} of run {self._run.run_id} was altered since it was recorded",
                    RuntimeWarning,
                    stacklevel=4,
                )
            yield file

    def _is_as_recorded(self, file: Opened) -> bool:
        if self._is(file):
            return True
        if (row := self._book.row(self.path)) is not None:  # a live run may have written it anew
            self._take(row)
        return self._is(file)

    def _is(self, file: Opened) -> bool:
        return file.size == self.bytes and file.sha256() == self.sha256

    def __repr__(self) -> str:
        return f"<Artifact {formats.one_line(self.path)}: {self.kind}, {formats.size(self.bytes)}>"

    def _repr_html_(self) -> str:
        note = ""
        try:
            with opened(self._run, self.path) as file:
                if file.size <= _CHECKED and not self._is_as_recorded(file):
                    note = "altered since it was recorded"
                shown = previews.content(file)
        except LabError as error:
            note, shown = str(error), ""
        facts = (self.kind, formats.size(self.bytes), self.task_id or "", f"{self.created_at:%Y-%m-%d %H:%M:%S} UTC")
        return previews.captioned(self.path, facts, shown, note)


class Diff(str):
    """A unified diff of two texts; in a cell its lines are coloured."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return formats.diff(self) if self else f"<code>{formats.escape('no difference')}</code>"
