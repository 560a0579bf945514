"""A query that can only read: what DuckDB is told so that no text, however it is written, reaches anything but tables.

A look at the text is no boundary: `with d as (copy ...) select` is a SELECT to DuckDB and writes a file. What holds is
that there is nothing to write to (no file, no network, no extension, no temporary directory, a configuration that is
locked) and that the transaction is read-only.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from epsilon_lab.errors import InvalidInput

if TYPE_CHECKING:
    import duckdb

_LOCK_DOWN = (
    "set temp_directory = ''",
    "set enable_external_access = false",
    "set global python_enable_replacements = false",
    "set autoload_known_extensions = false",
    "set autoinstall_known_extensions = false",
    "set lock_configuration = true",
)


def lock_down(connection: duckdb.DuckDBPyConnection) -> None:
    """See to it that a database, and whatever is attached to it by now, is all that its connections reach, for good.

    The path of what is attached stays open to them, for writing too.
    """
    for setting in _LOCK_DOWN:
        connection.execute(setting)


@contextmanager
def interrupted_after(cursor: duckdb.DuckDBPyConnection, timeout_s: float | None) -> Iterator[None]:
    """Interrupt a cursor's query that takes longer; DuckDB then raises its `InterruptException`.

    Args:
        cursor: The cursor, for this query alone.
        timeout_s: Seconds; None for ever.
    """
    if timeout_s is None:
        yield
        return
    timer = threading.Timer(timeout_s, cursor.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


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
