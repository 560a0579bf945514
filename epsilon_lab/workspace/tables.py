"""Journals as tables: the one door to DuckDB and pandas.

The journals stay the truth. What a query sees are tables in memory, fed with whatever the journals have gained since
the last query: only the tail is read, and only the tables that the query names are brought up to date. A lab in
another process is followed the same way, since all it takes is reading. Rows of runs that nobody is at come from a file
(catalogue.py) where it has them: a table is a view over both.

A query only reads, and the boundary is DuckDB's, not a look at the text: there is nothing to write to (no file, no
network, no extension, the configuration is locked, Python's variables are out of sight), and the transaction it runs
in is read-only. Against a notebook's own Python that protects nothing, and is not meant to.

Views over files were weighed: they need a directory that a query may then also write.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from epsilon_lab.errors import InvalidInput, LabError, WorkspaceError
from epsilon_lab.messages.events import VerdictGiven
from epsilon_lab.workspace.catalogue import KEPT, Catalogue
from epsilon_lab.workspace.database import CatalogueDamaged, Database
from epsilon_lab.workspace.feed import Feed, Kept, looks
from epsilon_lab.workspace.fold import Fold, Row
from epsilon_lab.workspace.layout import JOURNAL
from epsilon_lab.workspace.outputs import SETTLED, superseded
from epsilon_lab.workspace.patience import GivenUp, Patience, answered
from epsilon_lab.workspace.presence import is_there
from epsilon_lab.workspace.putting import Putting
from epsilon_lab.workspace.schema import TABLES, VIEWS
from epsilon_lab.workspace.sheets import SUFFIXES, Sheet, named_sheets
from epsilon_lab.workspace.store import PENDING, STORED

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

_WORTH_KEEPING = 4 * 1024 * 1024
"""Bytes of journals that take longer to read than they should every time: 0.2 s."""

_ASKED_AGAIN_S = 0.1
"""Seconds that pass until whoever waits for another reader asks again which runs are live."""

_LONG = 32 * 1024 * 1024
"""Bytes of journals that nobody waits for without being told."""

_MOST_EVENTS = 1 << 30
"""Bytes of journals whose events are held at a time; in memory they take 1.6 times that, and to read them 17 s of
processor time."""

_LISTED = 50
"""Files of runs that are named among the tables."""

_SHEETS = f"""
select '"' || replace(run_id || '/' || path, '"', '""') || '"' as name from artifacts
where regexp_matches(lower(path), '\\.({"|".join(SUFFIXES)})$') order by created_at desc, path limit {_LISTED}
"""  # noqa: S608 - our own names

_Answer = TypeVar("_Answer")


class Tables:
    """All runs of a workspace as tables, past and present.

    Args:
        workspace: The directory of run directories; one that does not exist is empty.
        live_run_ids: Names the runs that a lab is at. By default the lab's own journal is asked, which is what a
            process does that only looks on. Who knows adds to the catalogue.
        worth_keeping: Bytes of journals of runs that nobody is at, from which on their rows are kept in the catalogue.
    """

    def __init__(
        self,
        workspace: Path | str,
        *,
        live_run_ids: Callable[[], Collection[str]] | None = None,
        worth_keeping: int = _WORTH_KEEPING,
    ) -> None:
        self._workspace = Path(workspace)
        self._live_run_ids = live_run_ids
        self._worth_keeping = worth_keeping
        self._guard = threading.Lock()
        catalogue = Catalogue(self._workspace)
        self._catalogue: Catalogue | None = catalogue
        self._putting = None if live_run_ids is None else Putting(catalogue, worth_keeping)
        self._is_grown = live_run_ids is None
        self._feeds: dict[str | None, Feed] = {}
        self._database: Database | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"Tables({str(self._workspace)!r})"

    def sql(
        self,
        query: str,
        params: Sequence[object] | dict[str, object] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> pd.DataFrame:
        """Answer one SQL statement that reads, over all runs; Ctrl-C ends one that takes too long.

        Args:
            query: DuckDB SQL. JSON columns are JSON text here: `scores->>'seconds'`. A CSV, NDJSON or Parquet file that
                a run has made is a table too, by the run's name or id and the file's path: `from "my-run/links.csv"`.
            params: Values for `?` or `$name` in the query.
            timeout_s: Seconds after which the query is given up; None for ever.

        Raises:
            InvalidInput: The query is not one reading statement, takes longer, or DuckDB refuses it; its words are in
                the message.
        """
        if timeout_s is not None and not (
            isinstance(timeout_s, int | float) and timeout_s is not True and 0 < timeout_s <= threading.TIMEOUT_MAX
        ):
            raise InvalidInput("timeout_s", f"must be seconds above 0 or None, got {timeout_s!r}")
        return self._asked(query, params, lambda answer: answer.df(), names_files=True, timeout_s=timeout_s)

    def rows(
        self, query: str, params: Sequence[object] | dict[str, object] | None = None, *, run_id: str | None = None
    ) -> list[tuple[Any, ...]]:
        """The same as plain tuples, which takes a fraction of the time where there are few.

        Args:
            query: As for `sql`.
            params: As for `sql`.
            run_id: Read only this run's journal first; None for all.
        """
        return self._asked(query, params, lambda answer: answer.fetchall(), run_id=run_id)

    def frame(
        self,
        table: str,
        run_id: str | None = None,
        *,
        where: str | None = None,
        order: str | None = None,
        limit: int | None = None,
        params: Mapping[str, object] | None = None,
    ) -> pd.DataFrame:
        """One table as a frame, of one run or of all, JSON columns decoded; `candidates` with a `score_<name>` each.

        Workers belong to the lab: of any run, `workers` are all of them.

        Args:
            table: Its name.
            run_id: The run; None for all.
            where: Which of these rows: SQL.
            order: In which order: SQL; None for the table's own.
            limit: How many of them at most, the first; None for all.
            params: Values for `$name` in `where`; `$run` is the run.

        Raises:
            InvalidInput: There is no such table, or no such run, or DuckDB refuses the SQL.
        """
        if table not in TABLES:
            raise InvalidInput("table", f"there is no {table!r}", f"the tables are {', '.join(TABLES)}")
        if run_id is not None and (Path(run_id).name != run_id or not (self._workspace / run_id).is_dir()):
            raise InvalidInput("run_id", f"there is no run {run_id!r} in {self._workspace}", "see the table runs")
        is_one = run_id is not None and "run_id" in TABLES[table].columns
        rows = f"(select * from {table} where run_id = $run) as {table}" if is_one else table  # noqa: S608 - our own names
        values = {**({"run": run_id} if is_one else {}), **(params or {})}
        chosen = "" if where is None else f" where (\n{where}\n)"
        query = f"select * from {rows}{chosen} order by {TABLES[table].order if order is None else order}"  # noqa: S608 - a query of the user's reads, and nothing else
        if limit is not None:
            query += f"\nlimit {limit:d}"
        frame = self._asked(query, values or None, lambda answer: answer.df(), run_id=run_id)
        frame = _typed(frame, TABLES[table].columns)
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
        return self._asked(query, {"run": run_id}, lambda answer: answer.df(), run_id=run_id)

    def names(self) -> pd.DataFrame:
        """The tables: name, rows, what a row is, columns, and a line of code that opens it.

        Behind them the last files of runs that are tables as well, which are not read for that: without their rows and
        columns.
        """
        stored = set(STORED) - {"events"}  # events are counted without being loaded
        counts = " union all ".join(f"select '{name}' as name, count(*) as rows from {name}" for name in TABLES)  # noqa: S608 - our own names
        query = f"from ({counts}) union all select name, null from ({_SHEETS})"  # noqa: S608 - as above
        frame = self._asked(query, None, lambda answer: answer.df(), tables=stored)
        with self._guard:
            frame.loc[frame["name"] == "events", "rows"] = sum(feed.seq for feed in self._feeds.values())
        files = frame["name"].str.startswith('"')
        frame["row"] = [TABLES[name].row if name in TABLES else "a row of a run's file" for name in frame["name"]]
        frame["columns"] = [", ".join(TABLES[name].columns) if name in TABLES else "" for name in frame["name"]]
        frame["example"] = [f'lab.sql("select * from {name} limit 5")' for name in frame["name"]]  # noqa: S608 - shown
        frame.loc[files, "example"] = [f"lab.sql('select * from {name} limit 5')" for name in frame["name"][files]]  # noqa: S608 - shown
        return frame

    def case(self, run_id: str, case_id: str) -> tuple[Row, tuple[VerdictGiven, ...]] | None:
        """One case of a run and all that was decided about it, as the journal tells: no row is stored for that, which
        takes a fraction of a query's time where a run is decided about case by case.

        Returns:
            None where there is none, or its rows are kept: a query knows.
        """

        def ask(patience: Patience) -> tuple[Row, tuple[VerdictGiven, ...]] | None:
            with self._reading(patience) as live:
                self._read(patience, set(), run_id, live)
                feed = self._feeds.get(run_id)
                return None if feed is None else feed.fold.case(case_id)

        return answered(ask)

    def position(self, run_id: str) -> int:
        """How many events of a run there are, after a look: it grows when anything happened."""

        def ask(patience: Patience) -> int:
            with self._reading(patience) as live:
                self._read(patience, set(), run_id, live)
                feed = self._feeds.get(run_id)
                return 0 if feed is None else feed.seq

        return answered(ask)

    def close(self) -> None:
        """Let go of the memory, and keep what has ended by now in the catalogue; closing twice does nothing."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            if self._putting is not None:
                self._putting.finish()
                if self._database is not None:
                    due = self._putting.due(self._feeds.values(), (), at_the_end=True)
                    self._put_away(self._putting.put, self._database, due)
            self._empty()

    def _empty(self) -> None:
        """Forget everything; the next query reads the journals from their beginnings."""
        self._feeds.clear()
        self._database = None  # not closed: queries may be at it, and it goes with the last of them

    def _asked(
        self,
        query: str,
        params: Sequence[object] | dict[str, object] | None,
        fetch: Callable[[duckdb.DuckDBPyConnection], _Answer],
        *,
        run_id: str | None = None,
        tables: Set[str] | None = None,
        names_files: bool = False,
        timeout_s: float | None = None,
    ) -> _Answer:
        """Answer a query, for as long as its caller waits."""
        if not isinstance(query, str) or not query.strip():
            raise InvalidInput("query", f"must be an SQL statement, got {query!r}")

        def rows(patience: Patience, query: str, params: dict[str, object]) -> list[tuple[Any, ...]]:
            return self._answer(patience, query, params, lambda answer: answer.fetchall(), _named(query))

        def ask(patience: Patience) -> _Answer:
            sheets = named_sheets(query, self._workspace, partial(rows, patience)) if names_files else ()
            named = _named(query) if tables is None else tables
            if tables is None and not named:  # none in plain sight: it may be any, and of files alone it is none
                named = set() if sheets else set(STORED) - {"events"}
            return self._answer(patience, query, params, fetch, named, run_id, sheets)

        try:
            return answered(ask, timeout_s)
        except TimeoutError as error:
            raise InvalidInput("query", f"took longer than {timeout_s} s", "ask for less, or give it more") from error

    def _answer(
        self,
        patience: Patience,
        query: str,
        params: Sequence[object] | dict[str, object] | None,
        fetch: Callable[[duckdb.DuckDBPyConnection], _Answer],
        named: Set[str],
        run_id: str | None = None,
        sheets: Sequence[Sheet] = (),
    ) -> _Answer:
        """Answer a query from tables brought up to date, on a cursor of its own: none is for several threads."""
        database, cursor = self._refresh(patience, named, run_id, sheets)
        with closing(cursor), suppress(CatalogueDamaged):
            return database.answer(cursor, query, params, fetch, patience)
        self._do_without(database)
        database, cursor = self._refresh(patience, named, run_id, sheets)
        with closing(cursor):
            return database.answer(cursor, query, params, fetch, patience)

    def _do_without(self, database: Database) -> None:
        """The catalogue turned out to be damaged: read journals instead, and have it made anew another time."""
        with self._guard:
            if self._putting is not None:
                self._putting.finish()
            if self._catalogue is not None and self._live_run_ids is not None:
                self._catalogue.discard()
            self._catalogue = self._putting = None
            if self._database is database:
                self._empty()

    def _refresh(
        self, patience: Patience, tables: Set[str], run_id: str | None, sheets: Sequence[Sheet] = ()
    ) -> tuple[Database, duckdb.DuckDBPyConnection]:
        """Read what the journals have gained, of one run or of all, and store it as far as the tables ask."""
        while True:
            with self._reading(patience) as live:
                database = self._read(patience, tables, run_id, live)
                missing = database.missing(sheets)
                cursor = database.loader() if missing else database.reader(sheets)
            if not missing:
                return database, cursor
            with closing(cursor):
                for sheet in missing:
                    database.load(cursor, sheet, patience)

    @contextmanager
    def _reading(self, patience: Patience) -> Iterator[Collection[str] | None]:
        """Be the one that reads; the runs that a lab is at, if known."""
        while True:
            live = self._live_run_ids() if self._live_run_ids is not None else None
            if self._guard.acquire(timeout=_ASKED_AGAIN_S):
                break
            patience.check()
        try:
            yield live
        finally:
            self._guard.release()

    def _read(self, patience: Patience, tables: Set[str], run_id: str | None, live: Collection[str] | None) -> Database:
        """Bring the tables up to date; where patience ends, as far as it lasted, and the rest another time."""
        if self._closed:
            raise LabError("these tables were closed with their lab; open the workspace again: Lab(...)")
        if "events" in tables and run_id is None:
            self._check_events(patience)
        database = self._database = self._database or Database(self._catalogue)
        try:
            if run_id is None and not self._is_grown and live is not None:
                database = self._database = self._grown(database, live, patience)
                patience.check()
                self._is_grown = True
            if run_id is None and self._putting is not None and (gone := self._putting.done()):
                database = self._database = self._without(database, gone)
            database.begin()
            self._follow(database, tables, run_id, live, patience)
            database.commit()
            if run_id is None and live is not None and self._putting is not None and not self._putting.is_at_it:
                self._put_away(self._putting.begin, database, self._putting.due(self._feeds.values(), live))
        except GivenUp:
            raise
        except BaseException:  # nobody knows how far it came
            self._empty()
            raise
        patience.check()
        return database

    def _put_away(
        self,
        put: Callable[[dict[str, Kept], duckdb.DuckDBPyConnection], object],
        database: Database,
        feeds: Mapping[str, Feed],
    ) -> None:
        """Have some runs' rows put away."""
        found = {name: feed.keep() for name, feed in feeds.items()}
        if kept := {name: each for name, each in found.items() if each is not None}:
            database.take([feeds[name] for name in kept], set(KEPT))
            put(kept, database.reader())

    def _without(self, database: Database, gone: Set[str]) -> Database:
        """Go on with the catalogue as it is now, which has the rows of some runs, and leave them out of memory."""
        fresh = Database(self._catalogue)
        if not gone <= fresh.kept.keys():  # someone else has written it since
            return database
        left = set()
        for name, feed in list(self._feeds.items()):
            if name in gone or (feed.kept is not None and feed.kept != fresh.kept.get(name or "")):
                left.add(name or "")
                del self._feeds[name]
            elif feed.kept is None and name in fresh.kept:
                fresh.forget(name)
        fresh.inherit(database, left)
        return fresh

    def _grown(self, database: Database, live: Collection[str], patience: Patience) -> Database:
        """Have the catalogue take in what nobody is at, if that is much, and begin again with it."""
        files = {name: looks(self._journal(name)) for name in self._run_ids() if name not in live}
        fresh = [name for name, found in files.items() if found and not database.has(name, found)]
        size = sum(look.size for name in fresh for look in files[name])
        if self._catalogue is None or size < self._worth_keeping:
            return database
        if size >= _LONG:
            patience.waits_for = (
                f"reading {size / 1e6:,.0f} MB of journals of {len(fresh):,} runs, which is done once; "
                "Ctrl-C ends it, and keeps what is read by then"
            )
        is_grown = self._catalogue.grow(fresh, lambda: patience.is_over)
        patience.waits_for = ""
        if not is_grown:
            return database
        self._empty()
        return Database(self._catalogue)

    def _follow(
        self,
        database: Database,
        tables: Set[str],
        run_id: str | None,
        live: Collection[str] | None,
        patience: Patience,
    ) -> None:
        """Read the tails of journals, and store the rows."""
        names = [None, *(self._run_ids() if run_id is None else [run_id])]
        if run_id is None:
            for gone in (self._feeds.keys() | database.kept.keys()) - set(names):
                database.forget(gone)
                self._feeds.pop(gone, None)
        waiting, pending = list[Feed](), 0
        for name in names:
            feed = self._feeds.get(name) or self._begin(database, name)

            def pause(feed: Feed = feed) -> bool:
                if feed.pending > PENDING:
                    database.take([feed], tables)
                return patience.is_over

            notes = feed.read(database.forget, events="events" in tables, live=name in (live or ()), stop=pause)
            patience.notes += notes
            if name is None:
                live = _watched_by(feed.fold) if live is None else live
            else:
                feed.fold.watched(live=name in (live or ()))
            waiting.append(feed)
            pending += feed.pending
            if pending > PENDING:
                database.take(waiting, tables)
                waiting, pending = [], 0
            if patience.is_over:
                break
        database.take(waiting, tables)
        patience.waits_for = ""

    def _check_events(self, patience: Patience) -> None:
        """Refuse to hold more events than there is room for; which runs a query means, nobody knows beforehand."""
        sizes = {name: sum(look.size for look in looks(self._journal(name))) for name in self._run_ids()}
        if (size := sum(sizes.values())) > _MOST_EVENTS:
            raise InvalidInput(
                "table events",
                f"the journals of {len(sizes):,} runs have {size / 1e6:,.0f} MB, and the events of no more than "
                f"{_MOST_EVENTS / 1e6:,.0f} MB are held at a time",
                "take them run by run: lab.runs[name].frame('events')",
            )
        held = {name for name, feed in self._feeds.items() if feed.has_events}
        if (size := sum(size for name, size in sizes.items() if name not in held)) >= _LONG:
            patience.waits_for = f"reading the events of {size / 1e6:,.0f} MB of journals; Ctrl-C ends it"

    def _begin(self, database: Database, name: str | None) -> Feed:
        journal = self._journal(name)
        kept = database.kept.get(name or "")
        if kept is not None and kept.files != looks(journal):
            database.forget(name)
            kept = None
        feed = self._feeds[name] = Feed(name, journal, kept)
        return feed

    def _journal(self, name: str | None) -> Path:
        return self._workspace / (name or "lab") / JOURNAL

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


def _named(query: str) -> Set[str]:
    """The stored tables a query names in plain sight."""
    words = set(re.findall(r"\w+", query.lower()))
    return {name for word in words & TABLES.keys() for name in (VIEWS[word].of if word in VIEWS else (word,))}


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
