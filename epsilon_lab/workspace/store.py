"""A DuckDB database that holds the tables of schema.py, and the one way rows come into it.

The same in memory (what a query sees), in a file (catalogue.py) and for an export: whoever owns the connection makes
the tables in a schema of his choice and has feeds fill them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence, Set
from typing import TYPE_CHECKING, Any

import msgspec

from epsilon_lab.workspace.feed import Feed
from epsilon_lab.workspace.fold import Row
from epsilon_lab.workspace.schema import TABLES, VIEWS

if TYPE_CHECKING:
    import duckdb

STORED = tuple(name for name in TABLES if name not in VIEWS)
"""Tables that have rows of their own."""

PENDING = 20_000
"""Rows that may wait in memory while journals are read."""

_BULK = 2_000
"""Rows of a table nobody asked for that may wait in memory; more are stored, where they take less."""

_JSON = msgspec.json.Encoder()


def load_duckdb() -> Any:
    """Import DuckDB, which takes its time: not before it is used."""
    return importlib.import_module("duckdb")


class Store:
    """Rows of journals in a database.

    Args:
        connection: A connection that nobody else writes through.
        schema: Where its tables are; they are made where they are missing.
        tables: Which.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, schema: str = "main", tables: Sequence[str] = STORED
    ) -> None:
        self.connection = connection
        self._schema, self._tables = schema, tables
        for name in tables:
            columns = ", ".join(f'"{column}" {kind}' for column, kind in TABLES[name].columns.items())
            connection.execute(f"create table if not exists {schema}.{name} ({columns})")

    def take(self, feeds: Sequence[Feed], tables: Set[str]) -> None:
        """Store the waiting rows of the tables asked for, and of any table where they are many."""
        for table in self._tables:
            waiting = [feed for feed in feeds if feed.waiting(table)]
            if not waiting or (table not in tables and sum(feed.waiting(table) for feed in waiting) < _BULK):
                continue
            known = any(table in feed.stored for feed in waiting)
            rows = [row for feed in waiting for row in feed.drain(table)]
            for start in range(0, len(rows), 20_000):  # bounds the JSON text in memory
                self._write(table, rows[start : start + 20_000], replace=known)
            for feed in waiting:
                feed.stored.add(table)

    def _write(self, table: str, rows: list[Row], *, replace: bool) -> None:
        # Rows travel as one JSON text that DuckDB takes apart: the same in 1.x and 2.x, and five times faster for a
        # tail of twenty rows than executemany.
        described, place = TABLES[table], f"{self._schema}.{table}"
        text = _JSON.encode(rows).decode()
        if replace and described.key:
            match = " and ".join(f"{table}.{column} = incoming.{column}" for column in described.key)
            self.connection.execute(
                f"delete from {place} using ({_incoming({c: described.columns[c] for c in described.key})}) incoming "  # noqa: S608 - our own names
                f"where {match}",
                [text],
            )
        self.connection.execute(f"insert into {place} {_incoming(described.columns)}", [text])

    def forget(self, run_id: str | None) -> None:
        """Drop a journal's rows."""
        for table in self._tables:
            if table == "workers":
                if run_id is None:
                    self.connection.execute(f"delete from {self._schema}.workers")  # noqa: S608 - our own names
            else:
                query = f"delete from {self._schema}.{table} where run_id is not distinct from ?"  # noqa: S608 - as above
                self.connection.execute(query, [run_id])


class Handed:
    """A query's rows, as DuckDB takes them from whoever speaks Arrow: from one database into another."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, query: str) -> None:
        self._connection, self._query = connection, query

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._connection.sql(self._query).__arrow_c_stream__(requested_schema)

    def insert(self, connection: duckdb.DuckDBPyConnection, table: str) -> None:
        """Add them to a table of another database that has these columns."""
        connection.register("handed", self)
        try:
            connection.execute(f"insert into {table} by name select * from handed")  # noqa: S608 - our own names
        finally:
            connection.unregister("handed")


def listed(names: Iterable[str]) -> str:
    """Names as SQL's strings."""
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names)


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
