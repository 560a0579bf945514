"""A file that a run has on record, read as it is now: whole, as a table, or its beginning.

What lies in a run directory may have been changed, removed or replaced by anybody since, and a copied run is a
stranger's. So a file is opened once, as a plain file or not at all, and everything is read through that one opening:
what was checked is what is read. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.workspace.feed import Look, look
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.store import load_duckdb

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

READERS = {
    ".csv": "read_csv(?, sample_size=-1)",
    ".tsv": "read_csv(?, sample_size=-1)",
    ".ndjson": "read_json(?, format='newline_delimited', sample_size=-1)",
    ".jsonl": "read_json(?, format='newline_delimited', sample_size=-1)",
    ".parquet": "read_parquet(?)",
    ".json": "read_json(?, sample_size=-1)",
}
"""How DuckDB reads a file as a table, by its suffix."""

_REOPENED = Path("/proc/self/fd")
"""Where a system lets a file that is open be opened once more (Linux). Elsewhere `/dev/fd` gives the same opening
again, with its place in the file, so that a second reader would begin where the first one stopped."""

_MEMORY = "4GB"
"""What its rows may take: a few bytes of Parquet can be many rows."""

_WORDS = 1_000
"""Characters of what DuckDB says about a file."""

COUNTED = 64 << 20
"""Bytes up to which a table is read through to tell its columns' types, and a look counts its rows."""


class Listed(NamedTuple):
    """A file as it is on record: its row of the table `artifacts`."""

    path: str
    kind: str
    bytes: int
    sha256: str
    task_id: str | None
    created_at: datetime


class Sample(NamedTuple):
    """The beginning of a table."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    total: int | None
    """How many rows it has; None where it is too large to be counted for a look."""


class Opened(NamedTuple):
    """A plain file, open for reading."""

    path: str
    handle: int
    size: int
    """Bytes, now."""

    @property
    def look(self) -> Look:
        """What tells whether it was changed since."""
        return look(self.handle)

    def head(self, size: int) -> bytes:
        """Its first bytes."""
        return os.pread(self.handle, size, 0)

    def sha256(self) -> str:
        """What its content is known by."""
        with os.fdopen(os.dup(self.handle), "rb") as file:
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()

    def read(self) -> bytes:
        """All of it."""
        with os.fdopen(os.dup(self.handle), "rb") as file:
            file.seek(0)
            return file.read()

    def frame(self) -> pd.DataFrame:
        """All of it as a table.

        Raises:
            InvalidInput: Its name tells of no kind of table, or it cannot be read as one.
        """
        with self.table() as (connection, source, place):
            frame: pd.DataFrame = connection.execute(f"select * from {source}", place).df()  # noqa: S608 - our own name
            return frame

    def sample(self, rows: int) -> Sample:
        """Its first rows.

        Raises:
            InvalidInput: As for `frame`.
        """
        with self.table() as (connection, source, place):
            found = connection.execute(f"select * from {source} limit {rows}", place)  # noqa: S608 - our own name
            columns = [str(column[0]) for column in found.description or ()]
            first = found.fetchall()
            if len(first) < rows:
                return Sample(columns, first, len(first))
            if self.size > COUNTED:
                return Sample(columns, first, None)
            counted = connection.execute(f"select count(*) from {source}", place).fetchone()  # noqa: S608 - as above
            return Sample(columns, first, None if counted is None else int(counted[0]))

    @contextmanager
    def table(
        self, memory: str = _MEMORY, read_through: int = COUNTED
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, str, list[str]]]:
        """A database of its own, what to select from to read the file there, and the values for that.

        Args:
            memory: What the database may take, as DuckDB counts it.
            read_through: Bytes up to which all of it is read to tell what its columns hold; else its beginning tells.

        Raises:
            InvalidInput: As for `frame`, of whatever DuckDB says meanwhile.
        """
        reader = READERS.get(PurePosixPath(self.path).suffix.lower())
        if reader is None:
            raise InvalidInput(f"file {self.path!r}", "is no table", f"one ends in {', '.join(READERS)}; read_bytes()")
        if self.size > read_through:
            reader = reader.replace(", sample_size=-1", "")
        duckdb = load_duckdb()
        with self._place() as place:
            connection = duckdb.connect(
                ":memory:",
                config={
                    "memory_limit": memory,
                    "temp_directory": "",
                    "autoload_known_extensions": False,
                    "autoinstall_known_extensions": False,  # a file is no reason to fetch anything
                },
            )
            try:
                yield connection, reader, [place]
            except duckdb.Error as error:
                said = str(error).partition("\n\nLINE 1:")[0].strip().replace(place, self.path)
                if len(said) > _WORDS:  # a line of the file may be among them, whatever its length
                    said = f"{said[:_WORDS]} ..."
                raise InvalidInput(f"file {self.path!r}", f"cannot be read as a table: {said}") from error
            finally:
                connection.close()

    @contextmanager
    def _place(self) -> Iterator[str]:
        """A path to what is open, whatever its own leads to by now; where the system has none, to a copy."""
        if _REOPENED.is_dir():
            yield str(_REOPENED / str(self.handle))
            return
        with tempfile.TemporaryDirectory(prefix="table-") as directory:
            copy = Path(directory) / "copy"
            with os.fdopen(os.dup(self.handle), "rb") as file, copy.open("xb") as whole:
                file.seek(0)
                shutil.copyfileobj(file, whole)
            yield str(copy)


@contextmanager
def opened(run: RunDirectory, ref: str) -> Iterator[Opened]:
    """Open a file of a run.

    Raises:
        LabError: It is gone, leads out of the run directory, is no plain file, or cannot be read.
    """
    what = f"file {ref!r} of run {run.run_id}"
    try:
        handle = os.open(run.locate(ref), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise LabError(f"{what} is gone; it was there when it was recorded") from None
    except OSError as error:
        raise LabError(f"{what} cannot be read ({error.strerror}); it was a plain file when it was recorded") from None
    try:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise LabError(f"{what} is no plain file any more, and is not opened")
        yield Opened(ref, handle, state.st_size)
    finally:
        os.close(handle)
