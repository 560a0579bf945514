"""Files of runs as tables: a CSV, NDJSON or Parquet file that a run has made is read when a query names it.

    select * from "cap-set-4-20261121-…/links.csv"

A path may be the end of one, and begin with the task that made it (`"my-run/extract/links.csv"`), as long as one file
is meant: the last of that task.

What queries reach holds no file and opens none, so each is read here, by a connection that no query ever sees, within
bounds, and then handed over as rows. Only what a run's `artifacts` name can be had, and only where it lies in the run
directory, as a plain file (recorded.py). The contents are a stranger's: DuckDB parses them, in this process, and says
what is wrong with them.

Reading takes as long as the file and the disk below it make it take. So it holds no lock that another query needs, and
ends with the patience of whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.ids import origin
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.patience import Patience
from epsilon_lab.workspace.recorded import Opened, opened
from epsilon_lab.workspace.sql_text import quoted_names
from epsilon_lab.workspace.store import Handed

SUFFIXES = ("csv", "tsv", "ndjson", "jsonl", "parquet")
_NAMED = re.compile(rf".+/.+\.(?:{'|'.join(SUFFIXES)})", re.IGNORECASE | re.DOTALL)
_ASCII = re.compile("[A-Z]+")

LARGEST = 256 * 1024 * 1024
"""Bytes of a file that is made a table."""

_MEMORY = "1GB"
"""What its rows may take while they are read: a few bytes of Parquet can be many rows."""

Place = tuple[Path, str]
"""Where a file lies: its run's directory, and its path in there."""

Rows = Callable[[str, dict[str, object]], list[tuple[Any, ...]]]
"""Answers a query of the tables."""


class Sheet:
    """A file that a query names.

    Attributes:
        name: As the query says it.
        key: Names that DuckDB does not tell apart have the same.
        place: Where it lies.
        look: What it was when it was looked at.
    """

    def __init__(self, name: str, run: RunDirectory, ref: str) -> None:
        self.name = name
        self.key = _ASCII.sub(lambda found: found[0].lower(), name)
        self._run, self._ref = run, ref
        self.place: Place = (run.path, ref)
        with self._opened() as file:
            self.look = file.look
        if file.size > LARGEST:
            raise InvalidInput(
                f"table {name!r}",
                f"its file has {file.size:,} bytes, and no more than {LARGEST:,} are made a table",
                f"read it where it lies: {run.path / ref}",
            )

    @contextmanager
    def read(self, patience: Patience) -> Iterator[Handed]:
        """Read it into a database of its own, for a while.

        Raises:
            InvalidInput: It is no plain file any more, or DuckDB cannot make a table of it; its words are in the
                message.
            GivenUp: Nobody waits for it any more.
        """
        with self._opened() as file, file.table(_MEMORY, LARGEST) as (connection, source, place):
            with patience.running(connection):
                connection.execute(f"create table sheet as select * from {source}", place)  # noqa: S608 - our own name
            yield Handed(connection, "from sheet")

    @contextmanager
    def _opened(self) -> Iterator[Opened]:
        try:
            with opened(self._run, self._ref) as file:
                yield file
        except LabError as error:
            raise InvalidInput(f"table {self.name!r}", str(error)) from error


def named_sheets(query: str, workspace: Path, rows: Rows) -> list[Sheet]:
    """Find the files of runs that a query names, `"run/path"` in double quotes; other names are left to DuckDB.

    Args:
        query: What was asked.
        workspace: The directory of run directories.
        rows: Answers a query of the tables.

    Raises:
        InvalidInput: A run has no such file, or several of that name; it is gone, no file of the run, or too large.
    """
    found: dict[str, Sheet] = {}
    for name in filter(_NAMED.fullmatch, quoted_names(query)):
        said, _, path = name.partition("/")
        of = "select run_id from runs where run_id = $run or name = $run order by run_id = $run desc, started_at desc"
        for (run_id,) in rows(f"{of} limit 1", {"run": said}):
            ref = _reference(name, path, rows(_ARTIFACTS, {"run": run_id, "path": path}))
            if ref is None:
                hint = f"lab.runs[{run_id!r}].artifacts has those that it made"
                raise InvalidInput(f"table {name!r}", f"run {run_id} has no such file", hint)
            sheet = Sheet(name, RunDirectory(workspace / run_id), ref)
            if other := found.get(sheet.key):
                told = f"and {other.name!r} are one name to DuckDB, which passes over upper and lower case"
                raise InvalidInput(f"table {name!r}", told, "give one of them by its run's id, or its whole path")
            found[sheet.key] = sheet
    return list(found.values())


_ARTIFACTS = """
select path, task_id from artifacts
where run_id = $run and (
    path = $path or ends_with(path, '/' || $path)
    or exists(
        from (select unnest([task_id, split_part(task_id, '~', 1)]) as task)
        where starts_with($path, task || '/') and ends_with(path, '/' || substr($path, length(task) + 2))
    )
)
order by path = $path desc, created_at desc, path desc
"""


def _reference(name: str, path: str, artifacts: list[tuple[Any, ...]]) -> str | None:
    """Choose the file: the one of that path, or else the last that one task, revised or not, has made of that name."""
    if not artifacts or artifacts[0][0] == path or len({origin(task_id or "") for _, task_id in artifacts}) == 1:
        return str(artifacts[0][0]) if artifacts else None
    several = ", ".join(sorted(ref for ref, _ in artifacts)[:5])
    said = f"{len(artifacts)} files have that name: {several}"
    raise InvalidInput(f"table {name!r}", said, 'name the task too, "run/task/path", or the whole path')
