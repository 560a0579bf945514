"""The rows of runs that nobody is at, kept in one file, so that what was read once is not read again.

To read a million rows out of journals takes minutes; to open this file a millisecond, and it stays outside of memory.
The journals are the truth and this is a copy: it may be deleted at any time, and one that is damaged, was made by other
rules, or cannot be had is passed over without a word. A run is believed to be as it was kept while each of its
journal's files has the same inode, size and time of change; else its journal is read.

One DuckDB file for all runs, and no Parquet file for each: a query over a thousand runs then opens one file instead of
a thousand (2.5 ms against 97 ms), rows of a run lie together, so that one run's are found without the others', and runs
are added to a copy of the file instead of it being made anew. Events are not in it: they are the journals' lines
themselves, most of their bytes, and seldom asked for. A query that does reads the journals: 1.4 s of processor time and
144 MB of memory for 89 MB of them; above a bound it is refused and one run's are to be asked for (tables.py).

Who works in the workspace adds to it: when first asked for all runs, where reading them takes long anyhow, and later
what has ended meanwhile, whose rows are in memory by then and need only be written down (putting.py). It is written
beside and renamed: whoever has the old one open goes on with that. Two who write at once (kernels on one sidecar) lose
at most what one of them added.

While it is attached DuckDB grants its path to every query, to read and to write (`copy ... to` overwrites the file). So
it is attached by a name in a directory that is gone before the first query comes.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from epsilon_lab import ids
from epsilon_lab.messages import cases, deciders, events
from epsilon_lab.workspace import feed as feeding
from epsilon_lab.workspace import fold, schema
from epsilon_lab.workspace.feed import Feed, Kept, looks
from epsilon_lab.workspace.layout import JOURNAL
from epsilon_lab.workspace.reading import lock_down
from epsilon_lab.workspace.schema import TABLES
from epsilon_lab.workspace.store import PENDING, STORED, Handed, Store, load_duckdb

if TYPE_CHECKING:
    import duckdb

KEPT = tuple(name for name in STORED if name not in ("events", "workers"))
"""Tables whose rows of closed runs are kept; workers are the lab's."""

NAME = "catalogue"
"""The database, where it is attached."""

_LINES = {import_module(body.__module__) for body in events.BODIES.values()}
RULES = (ids, cases, deciders, events, *sorted(_LINES, key=lambda module: module.__name__), schema, fold, feeding)
"""Modules that rows depend on besides the journals."""

_FILE = "tables.duckdb"
_ASIDE = ".tables-"
_ABANDONED_S = 86_400.0


class Catalogue:
    """The file of a workspace that keeps the rows of closed runs.

    Args:
        workspace: The directory of run directories.
    """

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self.path = workspace / "lab" / _FILE

    def attach(self, connection: duckdb.DuckDBPyConnection) -> dict[str, Kept]:
        """Attach it to a database, read-only, as `NAME`, and lock that; the runs in it.

        None, and nothing attached, where it is no good. Nothing in it is looked at before the database is locked: it
        may have come with a stranger's workspace.
        """
        duckdb = load_duckdb()
        with suppress(OSError, duckdb.Error), self._aside() as directory:
            path = directory / _FILE
            os.link(self.path, path)
            if not stat.S_ISREG(path.lstat().st_mode):
                raise OSError("is no plain file: to open a pipe would take for ever")
            connection.execute(f"attach '{_quoted(path)}' as {NAME} (read_only)")
        lock_down(connection)
        kept = _kept(connection, NAME)
        if not kept:
            connection.execute(f"detach database if exists {NAME}")
        return kept

    def grow(self, run_ids: Collection[str], stop: Callable[[], bool] = lambda: False) -> bool:
        """Read some runs' journals into it, in place of what it has of them; leave out runs that are no more.

        Args:
            run_ids: Runs that nobody is at.
            stop: Asked again and again; where it says so, the runs that are not read to the end are left for another
                time.

        Returns:
            Whether it could be written.
        """
        try:
            with self._anew(run_ids) as (connection, store):
                waiting: list[Feed] = []
                for run_id in run_ids:
                    journal = self._workspace / run_id / JOURNAL
                    before = looks(journal)
                    feed = Feed(run_id, journal)

                    def pause(feed: Feed = feed) -> bool:
                        if feed.pending > PENDING:
                            store.take([feed], set(KEPT))
                        return stop()

                    feed.read(lambda _: None, events=False, stop=pause)
                    feed.fold.watched(live=False)
                    kept = feed.keep(before)
                    if kept is not None:
                        _note(connection, run_id, kept)
                        waiting.append(feed)
                    elif feed.stored:
                        store.forget(run_id)
                    if sum(each.pending for each in waiting) > PENDING:
                        store.take(waiting, set(KEPT))
                        waiting = []
                    if stop():
                        break
                store.take(waiting, set(KEPT))
        except (OSError, load_duckdb().Error):
            return False
        return True

    def add(self, kept: Mapping[str, Kept], rows: Callable[[str], Handed]) -> bool:
        """Take in the rows of some runs as another database has them, in place of what it has of them.

        Args:
            kept: The runs, and what their journals were.
            rows: Gives their rows of a table.

        Returns:
            Whether it could be written.
        """
        try:
            with self._anew(kept) as (connection, _):
                for table in KEPT:
                    rows(table).insert(connection, table)
                for run_id, how in kept.items():
                    _note(connection, run_id, how)
        except (OSError, load_duckdb().Error):
            return False
        return True

    @property
    def size(self) -> int:
        """Bytes of its file, which are copied whenever it grows."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def discard(self) -> None:
        """Remove it."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _begin(self, part: Path) -> None:
        """Begin with a copy of what is there, if that is any good."""
        duckdb = load_duckdb()
        with suppress(OSError, duckdb.Error):
            shutil.copyfile(self.path, part)
            with duckdb.connect(str(part), read_only=True) as connection:
                lock_down(connection)
                if _kept(connection, part.stem):
                    return
        part.unlink(missing_ok=True)

    @contextmanager
    def _anew(self, run_ids: Collection[str]) -> Iterator[tuple[duckdb.DuckDBPyConnection, Store]]:
        """A copy of it, to be written in its place, without the rows of some runs and of those that are no more."""
        self._sweep()
        with self._aside() as directory:
            part = directory / _FILE
            self._begin(part)
            with load_duckdb().connect(str(part)) as connection:
                lock_down(connection)
                store = Store(connection, tables=KEPT)
                connection.execute("create table if not exists rules (sha256 VARCHAR)")
                connection.execute("create table if not exists kept (run_id VARCHAR, how VARCHAR)")
                connection.execute("begin")
                for (known,) in connection.execute("select run_id from kept").fetchall():
                    if known in run_ids or not (self._workspace / known).is_dir():
                        store.forget(known)
                        connection.execute("delete from kept where run_id = ?", [known])
                yield connection, store
                connection.execute("delete from rules")
                connection.execute("insert into rules values (?)", [_rules()])
                connection.execute("commit")
                connection.execute("checkpoint")
            os.replace(part, self.path)

    @contextmanager
    def _aside(self) -> Iterator[Path]:
        """A directory of its own beside the file, for a moment."""
        directory = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=_ASIDE))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what a killed process has left behind."""
        for directory in self.path.parent.glob(f"{_ASIDE}*"):
            if directory.stat().st_mtime < time.time() - _ABANDONED_S:
                shutil.rmtree(directory, ignore_errors=True)


def _note(connection: duckdb.DuckDBPyConnection, run_id: str, kept: Kept) -> None:
    connection.execute("insert into kept values (?, ?)", [run_id, msgspec.json.encode(kept).decode()])


def _kept(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, Kept]:
    """The runs in a catalogue; none where it is not one, or was made by other rules."""
    query = """
        select table_name, column_name, data_type from duckdb_columns() join duckdb_tables()
        using (database_name, schema_name, table_name) where database_name = ?
    """  # a view of such a name would be a stranger's query
    wanted = {
        (table, column, kind.removesuffix(" NOT NULL"))
        for table in KEPT
        for column, kind in TABLES[table].columns.items()
    } | {("rules", "sha256", "VARCHAR"), ("kept", "run_id", "VARCHAR"), ("kept", "how", "VARCHAR")}
    try:
        if not wanted <= set(connection.execute(query, [name]).fetchall()):
            return {}
        if connection.execute(f"select sha256 from {name}.rules").fetchall() != [(_rules(),)]:  # noqa: S608 - our own names
            return {}
        rows = connection.execute(f"select run_id, how from {name}.kept").fetchall()  # noqa: S608 - as above
        return {run_id: msgspec.json.decode(how, type=Kept) for run_id, how in rows}
    except (load_duckdb().Error, msgspec.MsgspecError):
        return {}


@functools.cache
def _rules() -> str:
    """What tells one set of rules from another."""
    source = "".join(inspect.getsource(module) for module in RULES)
    return hashlib.sha256(source.encode()).hexdigest()


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
