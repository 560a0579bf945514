"""SQL over the tables an agent was granted, and over nothing else: `workspace/granted.py`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread

from epsilon_lab.agents.tools.tool import ToolContext, ToolError
from epsilon_lab.agents.tools.with_settings import ToolWithSettings
from epsilon_lab.arguments import number, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.workspace.granted import GrantedTables, check_sources
from epsilon_lab.workspace.schema import TABLES
from epsilon_lab.workspace.tables import Tables


@dataclass(frozen=True, kw_only=True)
class Sql(ToolWithSettings):
    """One SELECT at a time over some tables.

    Args:
        run_tables: Tables of the lab, of which it sees the rows of its own run, as they are when it asks.
        tables: Name -> a pandas frame, a list of dicts, or the path of a CSV, Parquet or JSON file.
        timeout_s: Seconds a query may take.
        rows: Most rows of an answer.
        memory_mb: MiB that the tables and a query may take.

    Raises:
        InvalidInput: An argument has a wrong type or value.
    """

    run_tables: tuple[str, ...] = ()
    tables: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 20.0
    rows: int = 200
    memory_mb: int = 1024

    def __post_init__(self) -> None:
        if not self.run_tables and not self.tables:
            raise InvalidInput("sql", "grants no table", "name one of the lab's, or give one: sql(orders=frame)")
        if unknown := sorted(set(self.run_tables) - set(TABLES)):
            raise InvalidInput("sql", f"there is no table {unknown[0]!r}", f"the tables are {', '.join(TABLES)}")
        if taken := sorted(set(self.run_tables) & set(self.tables)):
            raise InvalidInput("sql", f"grants two tables {taken[0]!r}")
        check_sources(self.tables)
        number("sql timeout_s", self.timeout_s, least=0, above=True)
        whole("sql rows", self.rows, least=1)
        whole("sql memory_mb", self.memory_mb, least=64)

    @property
    def what(self) -> Callable[..., Any]:
        """What the model calls."""
        return self.sql

    @property
    def description(self) -> str:
        """What the model is told of it."""
        return f"{super().description} The tables: {', '.join([*self.run_tables, *self.tables])}."

    async def sql(self, query: str, context: ToolContext) -> str:
        """Answer one SELECT, in DuckDB's SQL, over the tables you were granted, as CSV; `describe name` tells columns.

        Args:
            query: The SELECT.
            context: The task.
        """
        timeout_s = min(self.timeout_s, context.seconds_left)
        return await anyio.to_thread.run_sync(self._answer, query, context, timeout_s)

    def _answer(self, query: str, context: ToolContext, timeout_s: float) -> str:
        run = context.leaf.run
        try:
            own: dict[str, Any] = {}
            if self.run_tables:
                with closing(Tables(run.path.parent)) as lab:
                    own = {name: lab.frame(name, run.run_id) for name in self.run_tables}
            with GrantedTables(own | self.tables, memory_mb=self.memory_mb) as granted:
                names, rows, is_cut = granted.select(query, timeout_s=timeout_s, rows=self.rows)
        except InvalidInput as error:
            raise ToolError(str(error)) from None
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
        more = f"[only the first {self.rows} rows; ask for fewer, or for counts]\n" if is_cut else ""
        return text.getvalue() + more


def sql(*run_tables: str, **tables: Any) -> Sql:
    """Make a tool `sql` over some tables: of the lab, by name, and of one's own, `sql("candidates", orders=frame)`.

    Args:
        *run_tables: Tables of the lab, of which the agent sees the rows of its own run.
        **tables: A pandas frame, a list of dicts, or the path of a CSV, Parquet or JSON file, each.

    Raises:
        InvalidInput: There is no such table, or it cannot be made.
    """
    return Sql(run_tables=run_tables, tables=tables)
