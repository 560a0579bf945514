"""A run's tables as Parquet files in one folder, for whoever has no epsilon_lab: pandas, DuckDB, R, a spreadsheet.

They are made from the run's journal, as it is now, in a database of their own: what queries reach can write nowhere.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from epsilon_lab.errors import InvalidInput, WorkspaceError
from epsilon_lab.workspace.feed import Feed
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.schema import TABLES, VIEWS
from epsilon_lab.workspace.store import STORED, Store, load_duckdb

if TYPE_CHECKING:
    import duckdb

_KEY = "epsilon_lab_run"
_PACKED = tuple(name for name in TABLES if name != "workers")


def write_parquet(run: RunDirectory, folder: str | os.PathLike[str], *, live: bool) -> Path:
    """Write each table of a run to `<table>.parquet`, empty ones too, JSON columns as text; `workers` are the lab's.

    Args:
        run: The run.
        folder: Where; made where it is missing. What was written there of the same run is replaced.
        live: A lab is at the run.

    Returns:
        The folder.

    Raises:
        InvalidInput: It is no path, or a file of such a name is there and is none of this run's.
        WorkspaceError: It cannot be written.
    """
    if not isinstance(folder, str | os.PathLike) or not str(folder) or "\0" in str(folder):
        raise InvalidInput("directory", f"must be the path of a folder, got {folder!r}")
    directory = Path(folder).expanduser()
    duckdb = load_duckdb()
    aside = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(":memory:") as connection:
            for name in _PACKED:
                _check_ours(connection, directory / f"{name}.parquet", run.run_id)
            aside = tempfile.mkdtemp(dir=directory, prefix=".part-")
            _fill(connection, run, live=live)
            for name in _PACKED:
                columns = ", ".join(
                    f'"{column}"::VARCHAR as "{column}"' if kind == "JSON" else f'"{column}"'
                    for column, kind in TABLES[name].columns.items()
                )
                path = _quoted(Path(aside) / f"{name}.parquet")
                connection.execute(
                    f"copy (select {columns} from {name} order by {TABLES[name].order}) to {path} "  # noqa: S608 - our own names
                    f"(format parquet, compression zstd, kv_metadata {{{_KEY}: {_quoted(run.run_id)}}})"
                )
        for name in _PACKED:
            os.replace(Path(aside) / f"{name}.parquet", directory / f"{name}.parquet")
    except (OSError, duckdb.IOException) as error:
        raise WorkspaceError(f"{directory} cannot be written ({error}); choose another directory") from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return directory


def _fill(connection: duckdb.DuckDBPyConnection, run: RunDirectory, *, live: bool) -> None:
    store = Store(connection)
    for name, view in VIEWS.items():
        connection.execute(f"create view {name} as {view.query}")
    feed = Feed(run.run_id, run.journal)
    for note in feed.read(lambda _: None, events=True):
        warnings.warn(note, stacklevel=4)
    feed.fold.watched(live=live)
    store.take([feed], set(STORED))


def _check_ours(connection: duckdb.DuckDBPyConnection, path: Path, run_id: str) -> None:
    if not os.path.lexists(path):
        return
    try:
        said = connection.execute(f"select key, value from parquet_kv_metadata({_quoted(path)})").fetchall()  # noqa: S608 - quoted
    except load_duckdb().Error:
        said = []
    if (_KEY.encode(), run_id.encode()) not in [(bytes(key), bytes(value)) for key, value in said]:
        raise InvalidInput(f"{path}", f"is there, and is no table of run {run_id}", "choose another directory")


def _quoted(text: Path | str) -> str:
    return "'" + str(text).replace("'", "''") + "'"
