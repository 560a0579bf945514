"""The database that queries see: rows of journals in memory, rows kept in the catalogue, and a lock on both.

A query reads in a transaction that began right after the journals were read, before anyone else could go on: what it
sees of several tables belongs together, whatever other threads read or forget meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.workspace.catalogue import KEPT, NAME, Catalogue
from epsilon_lab.workspace.feed import Feed, Kept, Look
from epsilon_lab.workspace.reading import check_reading, finished, lock_down
from epsilon_lab.workspace.schema import TABLES, VIEWS
from epsilon_lab.workspace.sheets import Handed, Sheet
from epsilon_lab.workspace.store import STORED, Store, load_duckdb

if TYPE_CHECKING:
    import duckdb

_READS = ("SELECT", "EXPLAIN")
_DAMAGE = ("Corrupt database file", "Could not read enough bytes")

_SHEETS = 8
"""Files of runs that are held as tables at a time."""

_Answer = TypeVar("_Answer")


class CatalogueDamaged(LabError):
    """The catalogue is broken somewhere inside: its runs' journals have to be read."""


class Database:
    """Tables that a query sees, and the connection that only `Tables` writes through.

    Args:
        catalogue: Where rows of runs that nobody is at are kept; None to do without.

    Attributes:
        kept: The runs whose rows are read from the catalogue, as long as nobody forgets them.
    """

    def __init__(self, catalogue: Catalogue | None) -> None:
        self._duckdb = load_duckdb()
        self._connection: duckdb.DuckDBPyConnection = self._duckdb.connect(":memory:")
        self.kept: dict[str, Kept] = {}
        if catalogue is not None:
            self.kept = catalogue.attach(self._connection)
        else:
            lock_down(self._connection)
        self._has_catalogue = bool(self.kept)
        self._sheets: dict[str, tuple[Path, Look]] = {}
        self._connection.execute("create schema journals")
        self._store = Store(self._connection, "journals")
        self._connection.execute("create table journals.reread (run_id VARCHAR)")
        for name in STORED:
            query = f"select * from journals.{name}"  # noqa: S608 - our own names
            if self._has_catalogue and name in KEPT:
                columns = ", ".join(f'"{column}"' for column in TABLES[name].columns)
                query += (
                    f" union all select {columns} from {NAME}.{name} "  # noqa: S608 - as above
                    f"where run_id not in (select run_id from journals.reread)"
                )
            self._connection.execute(f"create view {name} as {query}")
        for name, view in VIEWS.items():
            self._connection.execute(f"create view {name} as {view.query}")

    def has(self, run_id: str, files: tuple[Look, ...]) -> bool:
        """Whether a run's rows are kept as its files are now."""
        return run_id in self.kept and self.kept[run_id].files == files

    def begin(self) -> None:
        """Begin to change the tables; nobody sees of it before `commit`."""
        self._connection.execute("begin")

    def commit(self) -> None:
        """Show what was changed."""
        self._connection.execute("commit")

    def take(self, feeds: Sequence[Feed], tables: Set[str]) -> None:
        """Store the waiting rows of the tables asked for, and of any table where they are many."""
        self._store.take(feeds, tables)

    def forget(self, run_id: str | None) -> None:
        """Drop a journal's rows, and see no more of those that are kept of it."""
        self._store.forget(run_id)
        if run_id is not None and self.kept.pop(run_id, None) is not None:
            self._connection.execute("insert into journals.reread values (?)", [run_id])

    def hold(self, sheets: Sequence[Sheet]) -> None:
        """Have files' rows as tables of their names; a few more are kept, while their files are as they were.

        Raises:
            InvalidInput: One cannot be made a table.
        """
        for sheet in sheets:
            known = (sheet.path, sheet.look)
            if self._sheets.get(sheet.key) == known:
                self._sheets[sheet.key] = self._sheets.pop(sheet.key)  # the last one asked for goes last
                continue
            with closing(sheet.read()) as read:
                self._drop([each for each in self._sheets if each == sheet.key])
                self._connection.register("handed", Handed(read))
                try:
                    self._connection.execute(f"create table {_quoted(sheet.key)} as select * from handed")  # noqa: S608 - quoted
                except self._duckdb.Error as error:
                    raise InvalidInput(f"table {sheet.name!r}", str(error).strip()) from error
                finally:
                    self._connection.unregister("handed")
            self._sheets[sheet.key] = known
        self._drop(list(self._sheets)[: -max(_SHEETS, len(sheets))])

    def _drop(self, keys: Sequence[str]) -> None:
        for key in keys:
            del self._sheets[key]
            self._connection.execute(f"drop table {_quoted(key)}")

    def reader(self) -> duckdb.DuckDBPyConnection:
        """A cursor that sees the tables as they are now, and changes nothing; close it."""
        cursor = self._connection.cursor()
        cursor.execute("begin transaction read only")
        cursor.execute("select 1 from journals.reread limit 0").fetchall()  # from the first look on it sees no change
        return cursor

    def close(self) -> None:
        """Let go of the memory; cursors that are still there keep it."""
        self._connection.close()

    def answer(
        self,
        cursor: duckdb.DuckDBPyConnection,
        query: str,
        params: Sequence[object] | dict[str, object] | None,
        fetch: Callable[[duckdb.DuckDBPyConnection], _Answer],
        *,
        timeout_s: float | None = None,
    ) -> _Answer:
        """Have one reading statement answered.

        Args:
            cursor: A `reader`.
            query: DuckDB SQL.
            params: Values for `?` or `$name` in it.
            fetch: Takes the answer off the cursor.
            timeout_s: Seconds after which it is given up; None for ever.

        Raises:
            InvalidInput: It is none, or DuckDB refuses it; its words are in the message.
            CatalogueDamaged: Ask again without the catalogue.
        """
        try:
            check_reading(cursor, query, _READS)
            return finished(cursor, lambda: fetch(cursor.execute(query, params)), timeout_s)
        except TimeoutError as error:
            raise InvalidInput("query", f"took longer than {timeout_s} s", "ask for less, or give it more") from error
        except self._duckdb.Error as error:
            if self._has_catalogue and self._is_damage(error):
                raise CatalogueDamaged(str(error)) from error
            raise InvalidInput("query", *self._explained(error)) from error

    def _is_damage(self, error: Exception) -> bool:
        """Whether it tells of a file that is broken; DuckDB has several classes for that, and most serve others too."""
        broken = (self._duckdb.FatalException, self._duckdb.InternalException, self._duckdb.SerializationException)
        return isinstance(error, broken) or any(words in str(error) for words in _DAMAGE)

    def _explained(self, error: Exception) -> tuple[str, str]:
        """DuckDB's words, and what to do about them."""
        said = str(error).strip()
        if isinstance(error, self._duckdb.CatalogException) and "Table with name" in said:
            return said, f'the tables are {", ".join(TABLES)}, and files in table artifacts by "run/path"'
        if isinstance(error, self._duckdb.PermissionException):
            return said, "a query sees the tables, files of runs as lab.tables names them, and nothing else"
        return said, ""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
