"""A query that can only read: what DuckDB is told so that no text, however it is written, reaches anything but tables.

A look at the text is no boundary: `with d as (copy ...) select` is a SELECT to DuckDB and writes a file. What holds is
that there is nothing to write to (no file, no network, no extension, no temporary directory, a configuration that is
locked) and that the transaction is read-only.

That leaves the functions that a query reads from: some run what they are given in a connection of their own, outside
of that transaction (`json_execute_serialized_sql`, `destroy_external_resource`), and a new DuckDB may have more. So
those that are known to do no harm are named, and found in the query as DuckDB has parsed it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
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

_SOURCES = """
    range generate_series unnest repeat repeat_row json_each json_tree query_table summary histogram histogram_values
    test_all_types icu_calendar_names pg_timezone_names
"""
_HARMLESS = re.compile(rf"{'|'.join(_SOURCES.split())}|(?:duckdb|pragma)_\w+", re.I)
"""Functions that a query may read from: what those of the last kind tell, DuckDB knows of itself."""

_CALLED = re.compile(r'"type":"TABLE_FUNCTION".*?"function_name":"((?:[^"\\]|\\.)*)"', re.S)
"""Each of them in a query, as DuckDB writes one out."""

_EXPLAIN = re.compile(r"\s*explain\b(?:\s+analyze\b|\s*\(\s*(?:analyze|format)\b[\w\s,]*\))?", re.I)
"""What stands before a query that is explained; no comment, since one that DuckDB reads otherwise hid the rest."""

_INSTEAD = {"MULTI": "a PIVOT says which values become columns: on status in ('completed', 'failed')"}


def lock_down(connection: duckdb.DuckDBPyConnection) -> None:
    """See to it that a database, and whatever is attached to it by now, is all that its connections reach, for good.

    The path of what is attached stays open to them, for writing too.
    """
    for setting in _LOCK_DOWN:
        connection.execute(setting)


def check_reading(cursor: duckdb.DuckDBPyConnection, query: str, kinds: Collection[str]) -> None:
    """Refuse what is not one statement of some kinds, as DuckDB's own parser tells them, or what may do more than read.

    Raises:
        InvalidInput: It is not.
    """
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("query", f"is no text: {error.reason} at position {error.start}") from error
    statements = cursor.extract_statements(query)
    if len(statements) != 1:
        raise InvalidInput("query", f"holds {len(statements) or 'no'} statements", "send one at a time")
    try:
        kind = statements[0].type.name
    except ValueError:  # one that DuckDB's own Python does not know
        kind = "foreign"
    if kind not in kinds:
        raise InvalidInput(
            "query", f"is a {kind} statement", _INSTEAD.get(kind, "tables are read, not changed: use SELECT")
        )
    text = statements[0].query
    if kind == "EXPLAIN":
        text = _EXPLAIN.sub("", text, count=1)
    [(tree,)] = cursor.execute("select json_serialize_sql($1::varchar)", [text]).fetchall()
    if tree.startswith('{"error":true'):
        raise InvalidInput("query", "cannot be looked through", "EXPLAIN stands first, and one SELECT behind it")
    for name in _CALLED.findall(tree):
        if not _HARMLESS.fullmatch(name):
            raise InvalidInput("query", f"reads from {name}(...)", "a query sees the tables and nothing else")
