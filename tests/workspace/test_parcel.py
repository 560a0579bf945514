"""A run's tables as Parquet files: whole, readable by anyone, and never over a file of somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from epsilon_lab.errors import InvalidInput, WorkspaceError
from epsilon_lab.messages.events import RunEnded, TasksSubmitted
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.parcel import write_parquet
from epsilon_lab.workspace.schema import TABLES
from epsilon_lab.workspace.tables import Tables
from tests.workspace.test_tables import HOSTILE, Workspace, candidate, task


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path / "runs")
    made.start("r", name="it's", tags={"who": HOSTILE})
    made.write("r", candidate("seed", scores={"seconds": 0.5}, score=1.0), TasksSubmitted(tasks=(task("a"),)))
    yield made
    made.close()


def test_every_table_is_a_file_with_the_rows_that_the_lab_sees(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_parquet(RunDirectory(workspace.path / "r"), tmp_path / "it's" / "out", live=True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.parquet" for name in TABLES if name != "workers"
    )
    tables = Tables(workspace.path, live_run_ids=lambda: workspace.live)
    with duckdb.connect() as connection:
        for name in TABLES.keys() - {"workers"}:
            path = str(folder / f"{name}.parquet")
            rows = connection.execute("select * from read_parquet(?) order by all", [path]).fetchall()
            assert rows == tables.rows(f"select * from {name} where run_id = 'r' order by all"), name
            kinds = dict(
                connection.execute(
                    "select column_name, column_type from (describe from read_parquet(?))", [path]
                ).fetchall()
            )
            assert list(kinds) == list(TABLES[name].columns)
            assert "JSON" not in kinds.values()
        read = connection.execute(
            "select scores->>'seconds' from read_parquet(?)", [str(folder / "candidates.parquet")]
        )
        assert read.fetchall() == [("0.5",)]
    tables.close()


def test_it_is_written_again_over_its_own_files_and_no_others(workspace: Workspace, tmp_path: Path) -> None:
    run, folder = RunDirectory(workspace.path / "r"), tmp_path / "out"
    write_parquet(run, folder, live=True)
    (folder / "notes.txt").write_text("mine")
    workspace.write("r", RunEnded(status="completed", reason=""))
    write_parquet(run, folder, live=False)
    with duckdb.connect() as connection:
        rows = connection.execute("select status from read_parquet(?)", [str(folder / "runs.parquet")]).fetchall()
        assert rows == [("completed",)]
        assert (folder / "notes.txt").read_text() == "mine"
        workspace.start("other")
        with pytest.raises(InvalidInput, match="is no table of run other"):
            write_parquet(RunDirectory(workspace.path / "other"), folder, live=True)
        (folder / "tasks.parquet").write_text("a stranger's")
        with pytest.raises(InvalidInput, match=r"tasks.parquet: is there, and is no table of run r"):
            write_parquet(run, folder, live=True)
        assert (folder / "tasks.parquet").read_text() == "a stranger's"
        rows = connection.execute("select run_id from read_parquet(?)", [str(folder / "runs.parquet")]).fetchall()
        assert rows == [("r",)]
    assert not list(folder.glob(".part-*"))


def test_a_folder_that_cannot_be_made_is_named(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkspaceError, match="file/out cannot be written"):
        write_parquet(RunDirectory(workspace.path / "r"), tmp_path / "file" / "out", live=True)


def test_a_folder_may_be_in_ones_home_and_is_a_path(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = RunDirectory(workspace.path / "r")
    assert write_parquet(run, "~/out", live=True) == tmp_path / "out"
    for wrong in (None, 5, "", "a\0b"):
        with pytest.raises(InvalidInput, match="must be the path of a folder"):
            write_parquet(run, wrong, live=True)  # type: ignore[arg-type]
