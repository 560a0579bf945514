"""A few tables and nothing else, for whoever may ask anything of them: an agent's SQL.

They are copied into a database in memory, which is then locked (reading.py). The text of a query comes from a model, so
its time and memory are bounded as well, and its answer is text of bounded length.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.workspace.patience import Patience, answered
from epsilon_lab.workspace.reading import check_reading, lock_down

if TYPE_CHECKING:
    import duckdb

_READERS = {
    ".csv": "read_csv_auto", ".tsv": "read_csv_auto", ".parquet": "read_parquet", ".json": "read_json_auto",
    ".ndjson": "read_json_auto", ".jsonl": "read_json_auto",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")

Source = Any
"""A pandas frame, a list of dicts, or the path of a CSV, Parquet or JSON file."""


def check_sources(sources: Mapping[str, Source]) -> None:
    """Refuse what cannot be made a table, before it is asked for.

    Raises:
        InvalidInput: Naming the table.
    """
    for name, source in sources.items():
        what = f"sql table {name!r}"
        if not _NAME.fullmatch(name):
            raise InvalidInput(what, "has no name that SQL can say without quotes")
        if isinstance(source, str | Path):
            if Path(source).suffix.lower() not in _READERS:
                raise InvalidInput(what, f"must be one of {', '.join(_READERS)}, got {str(source)!r}")
            if not Path(source).is_file():
                raise InvalidInput(what, f"there is no file {str(source)!r}")
        elif not (hasattr(source, "columns") and hasattr(source, "to_dict")) and not (
            isinstance(source, list) and source and all(isinstance(row, dict) for row in source)
        ):
            raise InvalidInput(what, f"must be a frame, a list of dicts or a file, got a {type(source).__name__}")


class GrantedTables:
    """Some tables in memory; close it.

    Args:
        sources: Name -> what it is made of.
        memory_mb: MiB that all of it may take, queries included.

    Raises:
        LabError: A table cannot be made.
    """

    def __init__(self, sources: Mapping[str, Source], *, memory_mb: int = 1024) -> None:
        self._duckdb: Any = importlib.import_module("duckdb")  # takes its time: not before it is used
        self._connection: duckdb.DuckDBPyConnection = self._duckdb.connect(
            ":memory:", config={"memory_limit": f"{memory_mb}MB", "threads": 1}
        )
        try:
            for name, source in sources.items():
                self._make(name, source)
            lock_down(self._connection)
        except self._duckdb.Error as error:
            self.close()
            raise LabError(f"a granted table cannot be made: {error}") from error

    def _make(self, name: str, source: Source) -> None:
        if isinstance(source, str | Path):
            reader = _READERS[Path(source).suffix.lower()]
            self._connection.execute(f'create table "{name}" as select * from {reader}(?)', [os.fspath(source)])  # noqa: S608 - a checked name
            return
        frame = source
        if isinstance(source, list):
            frame = importlib.import_module("pandas").DataFrame(source)
        for column in frame.columns:
            if frame[column].dtype == object and frame[column].map(lambda value: isinstance(value, dict | list)).any():
                told = frame[column].map(lambda value: None if value is None else json.dumps(value, default=str))
                frame = frame.assign(**{str(column): told})
        self._connection.register("incoming_rows", frame)
        self._connection.execute(f'create table "{name}" as select * from incoming_rows')  # noqa: S608 - a checked name
        self._connection.unregister("incoming_rows")

    def __enter__(self) -> GrantedTables:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the memory."""
        self._connection.close()

    def described(self) -> str:
        """The tables and their columns, a line each."""
        columns = self._connection.execute(
            "select table_name, string_agg(column_name || ' ' || data_type, ', ' order by ordinal_position) "
            "from information_schema.columns group by table_name order by table_name"
        ).fetchall()
        return "\n".join(f"{name}({told})" for name, told in columns)

    def select(self, query: str, *, timeout_s: float, rows: int) -> tuple[list[str], list[tuple[Any, ...]], bool]:
        """Answer one SELECT.

        Args:
            query: DuckDB SQL.
            timeout_s: Seconds after which it is given up.
            rows: Most rows of the answer.

        Returns:
            The columns' names, the rows, and whether there are more.

        Raises:
            InvalidInput: It is not one SELECT, or DuckDB refuses it; its words are in the message.
        """
        cursor = self._connection.cursor()
        try:
            check_reading(cursor, query, ("SELECT",))
            cursor.execute("begin transaction read only")

            def ask(patience: Patience) -> list[tuple[Any, ...]]:
                with patience.running(cursor):
                    return cursor.execute(query).fetchmany(rows + 1)

            found = answered(ask, timeout_s)
            names = [str(column[0]) for column in cursor.description or ()]
            cursor.execute("rollback")
        except TimeoutError as error:
            raise InvalidInput("query", f"took longer than {timeout_s:g} s", "ask for less") from error
        except self._duckdb.Error as error:
            raise InvalidInput("query", str(error).strip(), f"the tables are:\n{self.described()}") from error
        finally:
            cursor.close()
        return names, found[:rows], len(found) > rows
