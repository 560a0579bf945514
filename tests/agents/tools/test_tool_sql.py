"""SQL over granted tables, and over nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from epsilon_lab.agents.tools import Sql, ToolError, sql
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import RunStarted, ToolCalled, event
from epsilon_lab.workspace.journal import Journal

from .conftest import Hand

ORDERS = [{"id": 1, "what": "roses", "more": {"red": True}}, {"id": 2, "what": "violets", "more": None}]


def test_a_select_is_answered_as_csv(hand: Hand, tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("what,price\nroses,3\n")
    tool = sql(orders=ORDERS, prices=tmp_path / "prices.csv", frame=pd.DataFrame({"x": [1.5]}))
    query = "select id, price, more->>'red' red, x from orders join prices using (what), frame"
    assert hand.call(tool, query=query) == "id,price,red,x\n1,3,true,1.5\n"
    assert "The tables: orders, prices, frame." in tool.description


def test_an_agent_sees_its_own_runs_rows_of_the_labs_tables(hand: Hand) -> None:
    for run_id in ("run-1", "run-2"):
        path = hand.leaf.run.path.parent / run_id
        path.mkdir(exist_ok=True)
        journal = Journal.open(path / "journal.ndjson")
        called = {"attempt": 1, "step": 0, "place": 0, "tool": "read", "outcome": "ok", "duration_s": 0.0}
        journal.append(
            1.0,
            event(RunStarted(run_id=run_id, topology="work_queue", name=run_id)),
            event(ToolCalled(task_id=f"item-of-{run_id}", **called)),  # type: ignore[arg-type]
        )
        journal.commit()
        journal.close()
    assert (
        hand.call(sql("tool_calls"), query="select task_id, tool from tool_calls")
        == "task_id,tool\nitem-of-run-1,read\n"
    )
    with pytest.raises(ToolError, match="runs"):
        hand.call(sql("tool_calls"), query="select * from runs")


def test_a_long_answer_is_cut_and_said(hand: Hand) -> None:
    said = hand.call(Sql(tables={"t": ORDERS}, rows=1), query="select id from t order by id")
    assert said == "id\n1\n[only the first 1 rows; ask for fewer, or for counts]\n"


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_text('{secret}')",
        "select * from '{secret}'",
        "select * from read_csv('{secret}')",
        "select * from glob('/*')",
        "copy orders to '{out}'",
        "with d as (copy (select 1) to '{out}') select * from d",
        "select * from query('copy orders to ''{out}''')",
        "select * from json_execute_serialized_sql(json_serialize_sql('copy orders to ''{out}'''))",
        "from json_execute_serialized_sql(json_serialize_sql('with d as (delete from orders returning *) from d'))",
        "export database '{out}'",
        "attach '{out}'",
        "attach ':memory:' as other",
        "select * from read_parquet('http://127.0.0.1:9/x')",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "reset lock_configuration",
        "pragma database_list",
        "select getenv('PATH')",
        "delete from orders",
        "with d as (delete from orders returning *) select * from d",
        "explain analyze delete from orders",
        "create table t as select 1",
        "create or replace view orders as select 1",
        "call pragma_version()",
        "prepare p as delete from orders",
        "begin; delete from orders; commit",
        "select 1; drop table orders",
        "",
        "nonsense",
        "select count(*) from range(1000000000000)",
        "select string_agg(repeat('x', 1000000), '') from range(1000000)",
    ],
)
def test_nothing_else_is_reached(hand: Hand, tmp_path: Path, query: str) -> None:
    secret, out = tmp_path / "secret.csv", tmp_path / "out"
    secret.write_text("a\nsecret\n")
    tool = Sql(tables={"orders": ORDERS}, timeout_s=0.3, memory_mb=128)
    with pytest.raises(ToolError, match=r"^query: "):
        hand.call(tool, query=query.format(secret=secret, out=out))
    assert not out.exists()


@pytest.mark.parametrize(
    ("run_tables", "tables", "said"),
    [
        ((), {}, "grants no table"),
        (("nonsense",), {}, "there is no table 'nonsense'"),
        (("tasks",), {"tasks": ORDERS}, "grants two tables 'tasks'"),
        ((), {"a b": ORDERS}, "has no name"),
        ((), {"a": "none.csv"}, "there is no file"),
        ((), {"a": "x.xls"}, "must be one of .csv"),
        ((), {"a": []}, "must be a frame, a list of dicts or a file"),
        ((), {"a": 3}, "must be a frame, a list of dicts or a file"),
    ],
)
def test_what_is_no_table_is_refused(run_tables: tuple[str, ...], tables: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        sql(*run_tables, **tables)
