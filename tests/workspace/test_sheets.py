"""Files of runs as tables: read when a query names them, within bounds, and no other file by any name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import ArtifactSaved
from epsilon_lab.workspace import recorded, sheets
from epsilon_lab.workspace.database import Database
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.patience import GivenUp, Patience
from epsilon_lab.workspace.tables import Tables
from tests.workspace.test_tables import REFUSED, Workspace

CSV = 'name,born,score\nAda,1815-12-10,1.5\n"Émilie, du Châtelet",1706-12-17,\n'


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path / "runs")
    made.start("r-1", name="first")
    yield made
    made.close()


@pytest.fixture
def tables(workspace: Workspace) -> Iterator[Tables]:
    made = Tables(workspace.path, live_run_ids=lambda: workspace.live)
    yield made
    made.close()


def publish(
    workspace: Workspace, path: str, content: str | bytes, *, task_id: str | None = None, ts: float = 1.0
) -> Path:
    place = workspace.path / "r-1" / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)
    workspace.write("r-1", ArtifactSaved(path=path, kind="file", sha256="0" * 64, bytes=1, task_id=task_id), ts=ts)
    return place


def test_a_file_is_a_table_by_its_runs_name_or_id_and_its_types_are_sane(workspace: Workspace, tables: Tables) -> None:
    publish(workspace, "leaves/t/1/links.csv", CSV)
    for name in ("first/links.csv", "r-1/links.csv", "r-1/leaves/t/1/links.csv", "first/LINKS.CSV".lower()):
        rows = tables.sql(f'select * from "{name}" order by score nulls last')
        assert rows["name"].tolist() == ["Ada", "Émilie, du Châtelet"]
    assert tables.sql('describe "first/links.csv"')["column_type"].tolist() == ["VARCHAR", "DATE", "DOUBLE"]
    joined = 'select count(*) as n from "first/links.csv" one join "r-1/links.csv" two using (name, born)'
    assert tables.sql(joined)["n"].tolist() == [2]


def test_lines_of_json_and_parquet_are_tables_too(workspace: Workspace, tables: Tables, tmp_path: Path) -> None:
    publish(workspace, "a.jsonl", '{"id": 9007199254740993, "tags": ["x"]}\n{"id": null, "late": true}\n')
    publish(workspace, "b.NDJSON", '{"a": 1}\n')
    with duckdb.connect() as connection:
        connection.execute(f"copy (select 1 as x, [1.5] as y, {{'k': 'v'}} as z) to '{tmp_path}/c.parquet'")
    publish(workspace, "c.parquet", (tmp_path / "c.parquet").read_bytes())
    assert tables.sql('select id::varchar as id from "first/a.jsonl" where id is not null')["id"].tolist() == [
        "9007199254740993"
    ]
    assert len(tables.sql('from "first/b.NDJSON"')) == 1
    assert tables.sql('select z.k as k from "first/c.parquet"')["k"].tolist() == ["v"]


def test_a_file_that_changed_is_read_again_and_few_are_held(
    workspace: Workspace, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epsilon_lab.workspace.database._SHEETS", 2)
    publish(workspace, "a.csv", "x\n1\n")
    assert tables.sql('from "first/a.csv"')["x"].tolist() == [1]
    publish(workspace, "a.csv", "x\n1\n2\n")
    assert tables.sql('from "first/a.csv"')["x"].tolist() == [1, 2]
    for n in range(3):
        publish(workspace, f"many/{n}.csv", f"x\n{n}\n")
        assert tables.sql(f'from "first/many/{n}.csv"')["x"].tolist() == [n]
    held = tables.rows("select count(*) from duckdb_tables() where schema_name = 'sheets'")
    assert held == [(2,)]
    assert tables.sql('from "first/a.csv"')["x"].tolist() == [1, 2]


def test_one_query_may_name_many_files(workspace: Workspace, tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epsilon_lab.workspace.database._SHEETS", 2)
    for n in range(4):
        publish(workspace, f"{n}.csv", f"x\n{n}\n")
    columns = ", ".join(f'(from "first/{n}.csv") as c{n}' for n in range(4))
    for _ in range(2):
        assert tables.rows("select 1") == [(1,)]
        assert tables.sql(f"select {columns}").values.tolist() == [[0, 1, 2, 3]]


def test_names_that_differ_in_case_are_told_apart_or_refused(workspace: Workspace, tables: Tables) -> None:
    for n, name in enumerate(("Up.csv", "up.csv", "É.csv", "é.csv")):
        publish(workspace, name, f"x\n{n}\n")
        assert tables.sql(f'from "first/{name}"')["x"].tolist() == [n]
    assert tables.sql('select (from "first/É.csv") as a, (from "first/é.csv") as b').values.tolist() == [[2, 3]]
    with pytest.raises(InvalidInput, match=r"'first/up.csv': and 'first/Up.csv' are one name to DuckDB"):
        tables.sql('select (from "first/Up.csv"), (from "first/up.csv")')
    assert tables.sql('select (from "first/Up.csv") as a, (from "r-1/up.csv") as b').values.tolist() == [[0, 1]]


def test_a_file_that_a_run_does_not_have_is_named_and_none_is_looked_for_in_strings(
    workspace: Workspace, tables: Tables
) -> None:
    with pytest.raises(InvalidInput, match=r"table 'first/none.csv': run r-1 has no such file; lab.runs\['r-1'\]"):
        tables.sql('from "first/none.csv"')
    assert tables.sql("""select '"first/none.csv"' as said -- "first/none.csv" """)["said"].tolist() == [
        '"first/none.csv"'
    ]


def test_of_a_tasks_files_the_last_is_meant_and_of_several_tasks_it_has_to_be_said(
    workspace: Workspace, tables: Tables
) -> None:
    publish(workspace, "leaves/a/1/x.csv", "n\n1\n", task_id="a", ts=1.0)
    publish(workspace, "leaves/a/2/x.csv", "n\n2\n", task_id="a", ts=2.0)
    assert tables.sql('from "first/x.csv"')["n"].tolist() == [2]
    publish(workspace, "leaves/a~2/9/x.csv", "n\n9\n", task_id="a~2", ts=2.5)
    assert tables.sql('from "first/x.csv"')["n"].tolist() == [9], "a revision speaks for its task"
    publish(workspace, "leaves/b/3/x.csv", "n\n3\n", task_id="b", ts=3.0)
    with pytest.raises(InvalidInput, match=r"4 files have that name: leaves/a/1/x.csv"):
        tables.sql('from "first/x.csv"')
    assert tables.sql('from "first/b/3/x.csv"')["n"].tolist() == [3]
    assert tables.sql('from "first/a/x.csv"')["n"].tolist() == tables.sql('from "first/a~2/x.csv"')["n"].tolist() == [9]


def test_a_query_of_files_alone_reads_no_events(workspace: Workspace, tables: Tables) -> None:
    publish(workspace, "x.csv", "n\n1\n")
    assert len(tables.sql('from "first/x.csv"')) == 1
    assert not tables._feeds["r-1"].stored & {"events"}
    assert len(tables.sql("select count(*) from query_table('events')")) == 1
    assert len(tables.sql("select 1")) == 1


def test_the_list_of_tables_names_files(workspace: Workspace, tables: Tables) -> None:
    assert len(tables.names()) == len(tables.names().dropna())
    publish(workspace, "leaves/t/1/links.csv", CSV)
    publish(workspace, "notes.md", "# no table")
    listed = tables.names()
    assert listed["name"].tolist()[-1] == '"r-1/leaves/t/1/links.csv"'
    assert listed["rows"].isna().tolist()[-1]
    example = listed["example"].tolist()[-1].removeprefix("lab.sql('").removesuffix("')")
    assert len(tables.sql(example)) == 2


def test_only_what_a_run_has_made_can_be_read(workspace: Workspace, tables: Tables, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("password\nhunter2\n")
    (workspace.path / "r-1" / "private.csv").write_text("password\nhunter2\n")  # lies there, and is no artifact
    publish(workspace, "link.csv", "x\n1\n").unlink()
    (workspace.path / "r-1" / "link.csv").symlink_to(secret)
    publish(workspace, "fifo.csv", "x\n").unlink()
    os.mkfifo(workspace.path / "r-1" / "fifo.csv")
    for lie in ("../../secret.csv", str(secret)):
        workspace.write("r-1", ArtifactSaved(path=lie, kind="file", sha256="0" * 64, bytes=1))
    publish(workspace, "[ab].csv", "x\n7\n")
    (workspace.path / "r-1" / "a.csv").write_text("x\n8\n")
    for name in (
        "first/private.csv", "first/link.csv", "first/fifo.csv", "first/../../secret.csv", f"first/{secret}",
        "first/secret.csv", "../secret.csv", str(secret), f"/{secret}", "r-1/a.csv", "nobody/x.csv",
    ):  # fmt: skip
        with pytest.raises(InvalidInput) as refused:
            tables.sql(f'select * from "{name}"')
        assert "hunter2" not in str(refused.value)
    assert tables.sql('from "first/[ab].csv"')["x"].tolist() == [7], "no other file matches"
    assert tables.sql('select 1 as "a/b.csv"').columns.tolist() == ["a/b.csv"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.parquet", b"PAR1 and no more PAR1"),
        ("x.parquet", b""),
        ("x.jsonl", b'{"a": 1}\n{"a": \n'),
        ("x.csv", bytes(range(256)) * 20),
        ("x.ndjson", b"[" * 100_000),
    ],
)
def test_of_a_file_that_is_no_table_duckdb_says_why(
    workspace: Workspace, tables: Tables, name: str, content: bytes
) -> None:
    publish(workspace, name, content)
    with pytest.raises(InvalidInput, match=rf"table 'first/{name}'") as refused:
        tables.sql(f'from "first/{name}"')
    assert "sheet-" not in str(refused.value)
    assert tables.rows("select run_id from runs") == [("r-1",)]


def test_a_file_that_is_too_large_is_refused_by_its_size_and_by_its_rows(
    workspace: Workspace, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(workspace, "x.csv", "x\n" + "1\n" * 100)
    with monkeypatch.context() as patch:
        patch.setattr(sheets, "LARGEST", 100)
        with pytest.raises(InvalidInput, match="has 202 bytes, and no more than 100"):
            tables.sql('from "first/x.csv"')
    with duckdb.connect() as connection:
        connection.execute(f"copy (select 'x' as x from range(1_000_000)) to '{tmp_path}/bomb.parquet'")
    publish(workspace, "bomb.parquet", (tmp_path / "bomb.parquet").read_bytes())
    monkeypatch.setattr(sheets, "_MEMORY", "4MB")
    with pytest.raises(InvalidInput, match="Out of Memory"):
        tables.sql('from "first/bomb.parquet"')
    assert len(tables.sql('from "first/x.csv"')) == 100


def test_while_a_file_is_read_other_queries_are_answered_and_whoever_asked_may_leave(
    workspace: Workspace, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(workspace, "x.csv", "x\n1\n")
    publish(workspace, "y.csv", "y\n2\n")
    load = Database.load

    def reading(database: Database, loader: Any, sheet: sheets.Sheet, patience: Patience) -> None:
        with ThreadPoolExecutor(1) as another:
            assert another.submit(tables.rows, "select count(*) from runs").result(60) == [(1,)]
        load(database, loader, sheet, patience)

    monkeypatch.setattr(Database, "load", reading)
    assert tables.sql('select x, y from "first/x.csv", "first/y.csv"').values.tolist() == [[1, 2]]
    patience = Patience()
    patience.end()
    sheet = sheets.Sheet("first/x.csv", RunDirectory(workspace.path / "r-1"), "x.csv")
    with pytest.raises(GivenUp), sheet.read(patience):
        raise AssertionError


def test_many_threads_ask_for_more_files_than_are_held(
    workspace: Workspace, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("epsilon_lab.workspace.database._SHEETS", 1)
    for n in range(3):
        publish(workspace, f"{n}.csv", f"x\n{n}\n")
    with ThreadPoolExecutor(3) as threads:
        asked = [(n % 3, threads.submit(tables.sql, f'from "first/{n % 3}.csv"')) for n in range(6)]
        assert [answer.result(60)["x"].tolist() for _, answer in asked] == [[n] for n, _ in asked]
    assert tables.rows("select count(*) from duckdb_tables() where schema_name = 'sheets'") == [(1,)]


def test_where_a_system_opens_no_open_file_again_a_copy_is_read(
    workspace: Workspace, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "_REOPENED", workspace.path / "none")
    place = publish(workspace, "x.csv", "x\n" + "7\n" * 50)
    assert len(tables.sql('from "first/x.csv"')) == 50
    with recorded.opened(RunDirectory(workspace.path / "r-1"), "x.csv") as file:
        place.unlink()
        place.write_text("another\n1\n")
        for _ in range(2):
            assert file.sha256()  # moves the place in the file
            assert file.frame()["x"].tolist() == [7] * 50
            assert file.sample(2) == recorded.Sample(["x"], [(7,), (7,)], 50)


def test_with_a_file_open_queries_do_nothing_but_read_still(
    workspace: Workspace, tables: Tables, tmp_path: Path
) -> None:
    publish(workspace, "x.csv", "x\n1\n")
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    assert len(tables.sql('from "first/x.csv"')) == 1
    for query in (*REFUSED, 'drop table "first/x.csv"', 'with d as (delete from "first/x.csv" returning *) from d'):
        with pytest.raises(InvalidInput):
            tables.sql(query.format(file=secret))
    with pytest.raises(InvalidInput):
        tables.sql("select * from handed")
    assert secret.read_text() == "a,b\n1,2\n"
    assert len(tables.sql('from "first/x.csv"')) == 1
