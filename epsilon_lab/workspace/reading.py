"""A query that can only read: what DuckDB is told so that no text, however it is written, reaches anything but tables.

A look at the text is no boundary: `with d as (copy ...) select` is a SELECT to DuckDB and writes a file. What holds is
that there is nothing to write to (no file, no network, no extension, no temporary directory, a configuration that is
locked) and that the transaction is read-only.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from epsilon_lab.errors import InvalidInput

if TYPE_CHECKING:
    import duckdb

LOCK_DOWN = (
    "set temp_directory = ''",
    "set enable_external_access = false",
    "set global python_enable_replacements = false",
    "set autoload_known_extensions = false",
    "set autoinstall_known_extensions = false",
    "set lock_configuration = true",
)
"""Statements after which a connection to a database in memory reaches nothing else."""


def check_reading(cursor: duckdb.DuckDBPyConnection, query: str, kinds: Collection[str]) -> None:
    """Refuse what is not one statement of some kinds, as DuckDB's own parser tells them.

    Raises:
        InvalidInput: It is not.
    """
    statements = cursor.extract_statements(query)
    if len(statements) != 1:
        raise InvalidInput("query", f"holds {len(statements)} statements", "send them one by one")
    kind = statements[0].type.name
    if kind not in kinds:
        raise InvalidInput("query", f"is a {kind} statement", "tables are read, not changed: use SELECT")
