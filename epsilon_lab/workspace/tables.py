"""Journals as tables: the one door to DuckDB and pandas.

The journals stay the truth. What a query sees are tables in memory, fed with whatever the journals have gained since
the last query: only the tail is read, and only the tables that the query names are brought up to date. A lab in
another process is followed the same way, since all it takes is reading.

A query only reads, and the boundary is DuckDB's, not a look at the text: there is nothing to write to (no file, no
network, no extension, the configuration is locked, Python's variables are out of sight), and the transaction it runs
in is read-only. Against a notebook's own Python that protects nothing, and is not meant to.

Views over files and a database file were weighed: the first need a directory that a query may then also write, the
second admits one process.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from epsilon_lab.errors import InvalidInput, LabError, WorkspaceError
from epsilon_lab.workspace.feed import Feed
from epsilon_lab.workspace.fold import Fold, Row
from epsilon_lab.workspace.layout import JOURNAL
from epsilon_lab.workspace.outputs import SETTLED, superseded
from epsilon_lab.workspace.presence import is_there
from epsilon_lab.workspace.reading import LOCK_DOWN, check_reading
from epsilon_lab.workspace.schema import TABLES, VIEWS

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

_READS = ("SELECT", "EXPLAIN")
_BULK = 2_000
"""Rows of a table nobody asked for that may wait in memory; more are stored, where they take less."""

_JSON = msgspec.json.Encoder()


class Tables:
    """All runs of a workspace as tables, past and present.

    Args:
        workspace: The directory of run directories; one that does not exist is empty.
        live_run_ids: Names the runs that a lab is at. By default the lab's own journal is asked, which is what a
            process does that only looks on.
    """

    def __init__(self, workspace: Path | str, *, live_run_ids: Callable[[], Collection[str]] | None = None) -> None:
        self._workspace = Path(workspace)
        self._live_run_ids = live_run_ids
        self._guard = threading.Lock()
        self._feeds: dict[str | None, Feed] = {}
        self._store: _Store | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"Tables({str(self._workspace)!r})"

    def sql(self, query: str, params: Sequence[object] | dict[str, object] | None = None) -> pd.DataFrame:
        """Answer one SQL statement that reads, over all runs.

        Args:
            query: DuckDB SQL. JSON columns are JSON text here: `scores->>'seconds'`.
            params: Values for `?` or `$name` in the query.

        Raises:
            InvalidInput: The query is not one reading statement, or DuckDB refuses it; its words are in the message.
        """
        with self._answer(query, params) as answer:
            return answer.df()

    def rows(
        self, query: str, params: Sequence[object] | dict[str, object] | None = None, *, run_id: str | None = None
    ) -> list[tuple[Any, ...]]:
        """The same as plain tuples, which takes a fraction of the time where there are few.

        Args:
            query: As for `sql`.
            params: As for `sql`.
            run_id: Read only this run's journal first; None for all.
        """
        with self._answer(query, params, run_id=run_id) as answer:
            return answer.fetchall()

    def frame(
        self, table: str, run_id: str | None = None, *, where: str | None = None, order: str | None = None
    ) -> pd.DataFrame:
        """One table as a frame, of one run or of all, JSON columns decoded; `candidates` with a `score_<name>` each.

        Workers belong to the lab: of any run, `workers` are all of them.

        Args:
            table: Its name.
            run_id: The run; None for all.
            where: Which of these rows: SQL.
            order: In which order: SQL; None for the table's own.

        Raises:
            InvalidInput: There is no such table, or no such run, or DuckDB refuses the SQL.
        """
        if table not in TABLES:
            raise InvalidInput("table", f"there is no {table!r}", f"the tables are {', '.join(TABLES)}")
        if run_id is not None and (Path(run_id).name != run_id or not (self._workspace / run_id).is_dir()):
            raise InvalidInput("run_id", f"there is no run {run_id!r} in {self._workspace}", "see the table runs")
        is_one = run_id is not None and "run_id" in TABLES[table].columns
        rows = f"(select * from {table} where run_id = $run) as {table}" if is_one else table  # noqa: S608 - our own names
        params: dict[str, object] | None = {"run": run_id} if is_one else None
        chosen = "" if where is None else f" where (\n{where}\n)"
        query = f"select * from {rows}{chosen} order by {TABLES[table].order if order is None else order}"  # noqa: S608 - a query of the user's reads, and nothing else
        with self._answer(query, params, run_id=run_id) as answer:
            frame = _typed(answer.df(), TABLES[table].columns)
        return _with_score_columns(frame) if table == "candidates" else frame

    def failures(self, run_id: str) -> pd.DataFrame:
        """A run's tasks that gave no output, with what their last attempt left behind; of one that was done again, what
        its latest revision that is settled says.
        """
        query = f"""
            select task_id, kind, task.status, task.error, traceback, stdout_tail, stderr_tail, finished_at
            from tasks task left join attempts using (run_id, task_id)
            where task.run_id = $run and task.status in ('failed', 'dead') and not {superseded(SETTLED)}
            qualify row_number() over (partition by task_id order by fence desc) = 1
            order by finished_at, task_id
        """  # noqa: S608 - our own names
        with self._answer(query, {"run": run_id}, run_id=run_id) as answer:
            return answer.df()

    def names(self) -> pd.DataFrame:
        """The tables: name, rows, what a row is, columns, and a line of code that opens it."""
        stored = TABLES.keys() - VIEWS.keys() - {"events"}  # events are counted without being loaded
        counts = " union all ".join(f"select '{name}' as name, count(*) as rows from {name}" for name in TABLES)  # noqa: S608 - our own names
        with self._answer(counts, None, tables=stored) as answer:
            frame: pd.DataFrame = answer.df()
        with self._guard:
            frame.loc[frame["name"] == "events", "rows"] = sum(feed.seq for feed in self._feeds.values())
        frame["row"] = [TABLES[name].row for name in frame["name"]]
        frame["columns"] = [", ".join(TABLES[name].columns) for name in frame["name"]]
        frame["example"] = [f'lab.sql("select * from {name} limit 5")' for name in frame["name"]]  # noqa: S608 - shown
        return frame

    def position(self, run_id: str) -> int:
        """How many events of a run there are, after a look: it grows when anything happened."""
        self._refresh(set(), run_id)
        with self._guard:
            feed = self._feeds.get(run_id)
            return 0 if feed is None else feed.seq

    def close(self) -> None:
        """Let go of the memory; closing twice does nothing."""
        with self._guard:
            self._closed = True
            self._empty()

    def _empty(self) -> None:
        """Forget everything; the next query reads the journals from their beginnings."""
        self._feeds.clear()
        if self._store is not None:
            self._store.close()
            self._store = None

    @contextmanager
    def _answer(
        self,
        query: str,
        params: Sequence[object] | dict[str, object] | None,
        *,
        run_id: str | None = None,
        tables: Set[str] | None = None,
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Answer a query from tables brought up to date, on a cursor of its own: none is for several threads."""
        if not isinstance(query, str) or not query.strip():
            raise InvalidInput("query", f"must be an SQL statement, got {query!r}")
        store, cursor = self._refresh(_named(query) if tables is None else tables, run_id)
        try:
            with store.answer(cursor, query, params):
                yield cursor
        finally:
            cursor.close()

    def _refresh(self, tables: Set[str], run_id: str | None) -> tuple[_Store, duckdb.DuckDBPyConnection]:
        """Read what the journals have gained, of one run or of all, and store it as far as the tables ask."""
        live = self._live_run_ids() if self._live_run_ids is not None else None
        with self._guard:
            if self._closed:
                raise LabError("these tables were closed with their lab; open the workspace again: Lab(...)")
            store = self._store = self._store or _Store()
            try:
                notes = self._read(store, tables, run_id, live)
            except BaseException:  # interrupted half-way, nobody knows how far
                self._empty()
                raise
            cursor = store.cursor()
        for note in notes:
            warnings.warn(note, stacklevel=5)
        return store, cursor

    def _read(self, store: _Store, tables: Set[str], run_id: str | None, live: Collection[str] | None) -> list[str]:
        """Bring the store up to date; what could not be read is returned in words."""
        names = [None, *(self._run_ids() if run_id is None else [run_id])]
        if run_id is None:
            for gone in self._feeds.keys() - set(names):
                store.forget(gone)
                del self._feeds[gone]
        notes: list[str] = []
        for name in names:
            feed = self._feeds.get(name)
            if feed is None:
                feed = self._feeds[name] = Feed(name, self._workspace / (name or "lab") / JOURNAL)
            notes += feed.read(store.forget, events="events" in tables)
            if name is None:
                live = _watched_by(feed.fold) if live is None else live
            else:
                feed.fold.watched(live=name in (live or ()))
        store.take([self._feeds[name] for name in names], tables)
        return notes

    def _run_ids(self) -> list[str]:
        try:
            with os.scandir(self._workspace) as entries:
                return sorted(entry.name for entry in entries if entry.name != "lab" and entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise WorkspaceError(
                f"workspace {self._workspace} cannot be listed ({error.strerror}); check that it may be read"
            ) from error


class _Store:
    """The tables in memory, and the connection that only `Tables` writes through."""

    def __init__(self) -> None:
        self._duckdb: Any = importlib.import_module("duckdb")  # takes its time: not before it is used
        self._connection: duckdb.DuckDBPyConnection = self._duckdb.connect(":memory:")
        for name, table in TABLES.items():
            if name not in VIEWS:
                columns = ", ".join(f'"{column}" {kind}' for column, kind in table.columns.items())
                self._connection.execute(f"create table {name} ({columns})")
        for name, view in VIEWS.items():
            self._connection.execute(f"create view {name} as {view.query}")
        for setting in LOCK_DOWN:
            self._connection.execute(setting)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        return self._connection.cursor()

    def close(self) -> None:
        self._connection.close()

    def take(self, feeds: Sequence[Feed], tables: Set[str]) -> None:
        """Store the waiting rows of the tables asked for, and of any table where they are many."""
        for table in TABLES.keys() - VIEWS.keys():
            waiting = [feed for feed in feeds if feed.waiting(table)]
            if not waiting or (table not in tables and sum(feed.waiting(table) for feed in waiting) < _BULK):
                continue
            known = any(table in feed.stored for feed in waiting)
            rows = [row for feed in waiting for row in feed.drain(table)]
            self._connection.execute("begin")
            try:
                for start in range(0, len(rows), 20_000):  # bounds the JSON text in memory
                    self._write(table, rows[start : start + 20_000], replace=known)
                self._connection.execute("commit")
            except BaseException:
                self._connection.execute("rollback")
                raise
            for feed in waiting:
                feed.stored.add(table)

    def _write(self, table: str, rows: list[Row], *, replace: bool) -> None:
        # Rows travel as one JSON text that DuckDB takes apart: the same in 1.x and 2.x, and five times faster for a
        # tail of twenty rows than executemany.
        described = TABLES[table]
        text = _JSON.encode(rows).decode()
        if replace and described.key:
            match = " and ".join(f"{table}.{column} = incoming.{column}" for column in described.key)
            self._connection.execute(
                f"delete from {table} using ({_incoming({c: described.columns[c] for c in described.key})}) incoming "  # noqa: S608 - our own names
                f"where {match}",
                [text],
            )
        self._connection.execute(f"insert into {table} {_incoming(described.columns)}", [text])

    def forget(self, run_id: str | None) -> None:
        """Drop a journal's rows."""
        for table in TABLES.keys() - VIEWS.keys():
            if table == "workers":
                if run_id is None:
                    self._connection.execute("delete from workers")
            else:
                self._connection.execute(f"delete from {table} where run_id is not distinct from ?", [run_id])  # noqa: S608 - our own names

    @contextmanager
    def answer(
        self, cursor: duckdb.DuckDBPyConnection, query: str, params: Sequence[object] | dict[str, object] | None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Run one reading statement in a read-only transaction."""
        try:
            check_reading(cursor, query, _READS)
            cursor.execute("begin transaction read only")
            try:
                yield cursor.execute(query, params)
            finally:
                cursor.execute("rollback")
        except self._duckdb.Error as error:
            raise InvalidInput("query", *self._explained(error)) from error

    def _explained(self, error: Exception) -> tuple[str, str]:
        """DuckDB's words, and what to do about them."""
        said = str(error).strip()
        if isinstance(error, self._duckdb.CatalogException) and "Table with name" in said:
            return said, f"the tables are {', '.join(TABLES)}"
        if isinstance(error, self._duckdb.PermissionException):
            return said, "a query sees the tables and nothing else"
        return said, "mend the query"


def _named(query: str) -> Set[str]:
    """The stored tables a query names; all of them where it names none in plain sight."""
    words = set(re.findall(r"\w+", query.lower()))
    stored = {name for word in words & TABLES.keys() for name in (VIEWS[word].of if word in VIEWS else (word,))}
    return stored or set(TABLES) - set(VIEWS)


def _incoming(columns: dict[str, str]) -> str:
    """A query that takes rows out of one JSON parameter; timestamps come as seconds."""
    kinds = {column: kind.removesuffix(" NOT NULL") for column, kind in columns.items()}
    shape = {column: "DOUBLE" if kind == "TIMESTAMP" else kind for column, kind in kinds.items()}
    values = ", ".join(
        f'make_timestamp((taken."{column}" * 1e6)::BIGINT) as "{column}"'
        if kind == "TIMESTAMP"
        else f'taken."{column}" as "{column}"'
        for column, kind in kinds.items()
    )
    return f"select {values} from (select unnest(from_json(?::JSON, '{_JSON.encode([shape]).decode()}')) as taken)"  # noqa: S608 - our own names


def _watched_by(lab: Fold) -> Collection[str]:
    """The runs of the lab that has the workspace open, as far as its journal and this machine tell."""
    if lab.lab is None or (lab.lab.host == socket.gethostname() and not is_there(lab.lab.pid, lab.lab.born)):
        return ()
    return lab.born


def _typed(frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Give each column the dtype it has whatever the rows: JSON as Python objects (NULL as None), text as text."""
    text = frame.columns.dtype  # `str` in pandas 3, `object` in pandas 2
    dtypes = {
        "VARCHAR": text, "VARCHAR NOT NULL": text, "BIGINT": "Int64", "BIGINT NOT NULL": "int64", "BOOLEAN": "boolean",
        "JSON": object,
    }  # fmt: skip
    frame = frame.astype({column: dtypes[kind] for column, kind in columns.items() if kind in dtypes})
    for column, kind in columns.items():
        if kind == "JSON":
            decoded = frame[column].map(lambda value: msgspec.json.decode(value) if isinstance(value, str) else None)
            frame[column] = decoded.astype(object)
    return frame


def _with_score_columns(frame: pd.DataFrame) -> pd.DataFrame:
    names = sorted({name for scores in frame["scores"] if scores for name in scores})
    for name in names:
        frame[f"score_{name}"] = [(scores or {}).get(name) for scores in frame["scores"]]
        frame[f"score_{name}"] = frame[f"score_{name}"].astype("float64")
    return frame
