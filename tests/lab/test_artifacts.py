"""A run's files as a user holds them: found, read, compared, looked at; gone, altered, turned into something else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from epsilon_lab import Lab, LabError, Run, WorkQueue, current_task
from epsilon_lab.artifacts import Artifacts
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import ArtifactSaved
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.tables import Tables

HOSTILE = "<script>alert(1)</script>"


def write(item: int) -> None:
    place = current_task().workspace
    (place / "plots").mkdir()
    (place / "plots" / "scores.txt").write_text(f"scores of {item}\n")
    (place / "rows.csv").write_text("name,score\n" + "".join(f"{HOSTILE}{n},{n / 2}\n" for n in range(item)))
    (place / f"only-[{item}].json").write_text(f'{{"item": {item}}}')


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    path = tmp_path_factory.mktemp("artifacts") / "runs"
    with Lab(path, workers=1) as lab:
        for name in ("read", "changed", "moved"):
            lab.start(WorkQueue([2, 3], write), name=name).wait(60)
        alive = lab.runs["read"].artifacts
        count = len(alive)
    assert len(alive) == count, "a list outlives its lab"
    with Lab(path, read_only=True) as looking:
        yield looking


@pytest.fixture
def run(looking: Lab) -> Run:
    return looking.runs["read"]


def test_files_are_found_read_and_compared(run: Run) -> None:
    files = run.artifacts
    assert len(files) == len(list(files)) == len(run.frame("artifacts"))
    assert sorted(path.split("/", 3)[-1] for path in files.glob("*.csv")) == ["rows.csv", "rows.csv"]
    assert [path.split("/", 3)[-1] for path in files.glob("leaves/item-000001/*.txt")] == ["plots/scores.txt"]
    assert len(files.glob("plots/*")) == len(files.glob("scores.txt")) == 2
    assert len(files.glob("score")) == 0
    assert list(files.glob("rows.csv").frame()["task_id"]) == ["item-000000", "item-000001"]

    rows = files["rows.csv"]
    assert files[rows.path].path == rows.path
    assert (rows.task_id, rows.kind, rows.frame().shape) == ("item-000001", "file", (3, 2)), "the one that counts"
    assert files["only-[2].json"].json() == {"item": 2}
    before, after = (files[path] for path in files.glob("scores.txt"))
    assert before.diff(after).splitlines()[2:] == ["@@ -1 +1 @@", "-scores of 2", "+scores of 3"]
    with pytest.raises(KeyError, match=r"^run \S+ has no artifact 'row.csv'; close to it are .*rows\.csv'"):
        files["row.csv"]
    assert "row.csv" not in files
    with pytest.raises(InvalidInput, match="is no JSON"):
        rows.json()
    with pytest.raises(InvalidInput, match="is no table"):
        before.frame()
    with pytest.raises(InvalidInput, match="another of run"):
        before.diff("text")


def test_a_cell_shows_the_list_and_each_file(run: Run) -> None:
    files = run.artifacts
    shown = files._repr_html_()
    assert "rows.csv" in shown
    assert "6 file" in shown
    rows = files["rows.csv"]
    assert "3 rows × 2 columns" in rows._repr_html_()
    assert "item-000001" in rows._repr_html_()
    assert "altered" not in rows._repr_html_()
    assert "<script" not in rows._repr_html_()
    assert "background" in rows.diff(files["only-[2].json"])._repr_html_()


def test_what_became_of_a_file_since_is_said(looking: Lab, tmp_path: Path) -> None:
    run = looking.runs["changed"]
    files, outside = run.artifacts, tmp_path / "secret"
    changed = "x" * files["rows.csv"].bytes
    outside.write_text("secret")
    for change, said in {
        "altered": lambda place: place.write_text(changed),
        "is gone": lambda place: None,
        "leads outside": lambda place: place.symlink_to(outside),
        "cannot be read": lambda place: place.symlink_to(run.path / "journal.ndjson"),
        "is no plain file": lambda place: os.mkfifo(place),
    }.items():
        rows = files["rows.csv"]
        place = run.path / rows.path
        place.unlink(missing_ok=True)
        said(place)
        assert change in rows._repr_html_()
        assert "secret" not in rows._repr_html_()
        if change == "altered":
            with pytest.warns(RuntimeWarning, match="was altered since it was recorded"):
                assert rows.read_text() == changed
        else:
            with pytest.raises(LabError, match=change):
                rows.read_bytes()


def test_a_link_in_the_place_of_a_folder_leads_nowhere(looking: Lab, tmp_path: Path) -> None:
    run = looking.runs["moved"]
    scores = run.artifacts["plots/scores.txt"]
    folder = (run.path / scores.path).parent
    folder.rename(tmp_path / "plots")
    folder.symlink_to(tmp_path / "plots")
    assert "leads outside the run directory" in scores._repr_html_()
    with pytest.raises(LabError, match="leads outside the run directory"):
        scores.read_text()


def test_a_file_that_the_run_has_written_anew_is_not_called_altered(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "toy")
    run.path.mkdir()
    with closing(Journal.open(run.journal)) as journal, closing(Tables(tmp_path)) as tables:
        for text in ("first", "second"):
            journal.append(1.0, run.save("note", text, kind="toy"))
            journal.commit()
            if text == "first":
                note = Artifacts(lambda: tables, run)["note"]
        assert note.read_text() == "second"
        assert "altered" not in note._repr_html_()


@pytest.mark.parametrize("path", ["../secret", "/etc/hostname", "a/../../secret", "a\0b"])
def test_a_record_that_leads_out_of_the_run_is_not_followed(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_text("secret")
    run = RunDirectory(tmp_path / "toy")
    run.path.mkdir()
    with closing(Journal.open(run.journal)) as journal, closing(Tables(tmp_path)) as tables:
        journal.append(1.0, ArtifactSaved(path=path, kind=HOSTILE, sha256="", bytes=6))
        journal.commit()
        files = Artifacts(lambda: tables, run)
        assert "leads outside the run directory" in files[path]._repr_html_()
        assert "<script" not in files[path]._repr_html_() + files._repr_html_()
        with pytest.raises(InvalidInput, match="leads outside"):
            files[path].read_bytes()


def test_a_file_is_a_table_and_a_run_is_a_folder_of_parquet(looking: Lab, run: Run, tmp_path: Path) -> None:
    rows = looking.sql('select name, score from "read/item-000001/rows.csv" order by score')
    assert rows["score"].tolist() == [0.0, 0.5, 1.0]
    assert rows["name"][0] == f"{HOSTILE}0"
    with pytest.raises(InvalidInput, match="2 files have that name"):
        looking.sql('from "read/rows.csv"')
    assert f'"{run.run_id}/{run.artifacts["rows.csv"].path}"' in looking.tables["name"].tolist()
    folder = run.to_parquet(tmp_path / "read")
    with closing(duckdb.connect()) as anyone:
        tasks = anyone.execute(
            "select task_id, status from read_parquet(?)", [str(folder / "tasks.parquet")]
        ).fetchall()
    assert tasks == [("item-000000", "completed"), ("item-000001", "completed")]
