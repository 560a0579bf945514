"""The database that queries see: rows of journals in memory, rows kept in the catalogue, and a lock on both.

A query reads in a transaction that began right after the journals were read, before anyone else could go on: what it
sees of several tables belongs together, whatever other threads read or forget meanwhile.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Sequence, Set
from typing import TYPE_CHECKING, TypeVar

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.workspace.catalogue import KEPT, NAME, Catalogue
from epsilon_lab.workspace.feed import Feed, Kept, Look
from epsilon_lab.workspace.patience import Patience
from epsilon_lab.workspace.reading import check_reading, lock_down
from epsilon_lab.workspace.schema import TABLES, VIEWS
from epsilon_lab.workspace.sheets import Place, Sheet
from epsilon_lab.workspace.store import STORED, Handed, Store, listed, load_duckdb

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
        self._sheets: dict[Place, tuple[Look, str]] = {}
        self._loaded: deque[tuple[Sheet, str]] = deque()
        self._numbers = itertools.count(1)
        self._connection.execute("create schema sheets")
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

    def inherit(self, other: Database, run_ids: Collection[str]) -> None:
        """Take over the rows that another has read of journals, but for those of some runs."""
        for table in STORED:
            but = "" if table == "workers" else f" where run_id is null or run_id not in ({listed(run_ids)})"
            Handed(other._connection, f"from journals.{table}{but}").insert(self._connection, f"journals.{table}")

    def missing(self, sheets: Sequence[Sheet]) -> list[Sheet]:
        """Those of some files that are not held as they are now."""
        while self._loaded:
            sheet, table = self._loaded.popleft()
            self._drop(sheet.place)
            self._sheets[sheet.place] = (sheet.look, table)
        return [sheet for sheet in sheets if self._sheets.get(sheet.place, (None,))[0] != sheet.look]

    def _drop(self, place: Place) -> None:
        if place in self._sheets:
            self._connection.execute(f"drop table {self._sheets.pop(place)[1]}")

    def loader(self) -> duckdb.DuckDBPyConnection:
        """A connection to `load` with, while others go on with theirs; close it."""
        return self._connection.cursor()

    def load(self, loader: duckdb.DuckDBPyConnection, sheet: Sheet, patience: Patience) -> None:
        """Have a file's rows held, for this query and perhaps a few more.

        Raises:
            InvalidInput: It cannot be made a table.
            GivenUp: Nobody waits for it any more.
        """
        with sheet.read(patience) as handed, patience.running(loader):
            table = f"sheets.s{next(self._numbers)}"
            loader.register("handed", handed)
            loader.execute(f"create table {table} as select * from handed")  # noqa: S608 - our own name
            self._loaded.append((sheet, table))

    def reader(self, sheets: Sequence[Sheet] = ()) -> duckdb.DuckDBPyConnection:
        """A cursor that sees the tables as they are now, and changes nothing; close it.

        Args:
            sheets: Files that it sees by their names too; none of them is `missing`.
        """
        cursor = self._connection.cursor()
        for sheet in sheets:
            look, table = self._sheets.pop(sheet.place)
            self._sheets[sheet.place] = (look, table)  # the last one asked for goes last
            cursor.execute(f"create temp view {_quoted(sheet.key)} as from {table}")
        cursor.execute("begin transaction read only")
        cursor.execute("select 1 from journals.reread limit 0").fetchall()  # from the first look on it sees no change
        for place in list(self._sheets)[: -max(_SHEETS, len(sheets))]:
            self._drop(place)
        return cursor

    def answer(
        self,
        cursor: duckdb.DuckDBPyConnection,
        query: str,
        params: Sequence[object] | dict[str, object] | None,
        fetch: Callable[[duckdb.DuckDBPyConnection], _Answer],
        patience: Patience,
    ) -> _Answer:
        """Have one reading statement answered.

        Args:
            cursor: A `reader`.
            query: DuckDB SQL.
            params: Values for `?` or `$name` in it.
            fetch: Takes the answer off the cursor.
            patience: Of whoever asks.

        Raises:
            InvalidInput: It is none, or DuckDB refuses it; its words are in the message.
            CatalogueDamaged: Ask again without the catalogue.
            GivenUp: Nobody waits for it any more.
        """
        try:
            with patience.running(cursor):
                check_reading(cursor, query, _READS)
                return fetch(cursor.execute(query, params))
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
