"""Cells of SQL in a real kernel: what they show and keep, what they refuse, and what Tab offers in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from epsilon_lab.testing.kernels import CellFailed, Kernel

pytestmark = pytest.mark.kernel

OPEN = """
%load_ext epsilon_lab
import numpy as np, pandas as pd
from epsilon_lab import Lab, WorkQueue
from epsilon_lab import current_task
def write(item):
    (current_task().workspace / "links.csv").write_text("a,b")
lab = Lab("runs", workers=1)
files = lab.start(WorkQueue([1], write), name="files").wait(60)
run = lab.start(WorkQueue(range(80), abs), name="orders").wait(60)
other = lab.start(WorkQueue([7], abs), name="o'brien").wait(60)
"""


@pytest.fixture(scope="module")
def notebook(jupyters_loop: None) -> Iterator[Kernel]:
    with Kernel() as kernel:
        kernel.run(OPEN)
        yield kernel


def test_a_cell_of_sql_is_shown_as_a_frame_and_kept_whole(notebook: Kernel) -> None:
    cell = notebook.run("%%labsql slow\nselect task_id, status from tasks where run_id = $run\norder by task_id;")
    [shown] = cell.displays
    assert "<table" in shown["text/html"]
    assert shown["text/plain"].count("item-") < 80
    assert notebook.value("(len(slow), list(slow.columns), slow.task_id[79])") == (
        80,
        ["task_id", "status"],
        "item-000079",
    )
    notebook.run("count = %labsql select count(*) as n from tasks where run_id = :run")
    assert notebook.value("int(count.n[0])") == 80
    assert notebook.run("%%labsql\ndescribe tasks").displays
    notebook.run('links = %labsql select * from "files/links.csv"')
    assert notebook.value("links.equals(files.artifacts['links.csv'].frame())")
    assert notebook.value("(list(links.columns), len(links))") == (["a", "b"], 0)


def test_values_of_variables_are_bound_and_never_pasted(notebook: Kernel) -> None:
    notebook.run("""hostile = "x'; drop table tasks; --" """)
    notebook.run("""ids, most, names = pd.Series(["item-000003", "item-000005"]), np.int64(4), {"orders"}""")
    cell = """%%labsql got
        select $hostile as told, '$most' as text, count(*)::int as n -- of $nothing
        from tasks join runs using (run_id) where task_id in $ids and 4=:most and name in $names
    """
    notebook.run(cell)
    assert notebook.value("got.values.tolist()") == [["x'; drop table tasks; --", "$most", 2]]
    notebook.run("line = %labsql select $hostile as told")
    assert notebook.value("line.told[0] == hostile")
    notebook.run("def ask(local):\n    got = %labsql select $local + 1 as it\n    return int(got.it[0])")
    assert notebook.value("ask(5)") == 6


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%%labsql\nselect nothing from tasks", 'Referenced column "nothing" not found'),
        ("%%labsql\nselect nothing from tasks", "LINE 1: select nothing from tasks\n               ^^^^^^^\n"),
        ("%%labsql\nselect * from orders", "the tables are runs, tasks"),
        ("%%labsql\n   \n", "must be an SQL statement"),
        ("%labsql", "must be an SQL statement"),
        ("%%labsql\nselect 1; select 2", "holds 2 statements"),
        ("%%labsql\ndelete from tasks", "is a DELETE statement"),
        ("%%labsql\nwith d as (copy (select 1) to 'stolen') select * from d", "disabled"),
        ("%%labsql a-b\nselect 1", "'a-b' is no name for a variable"),
        ("%%labsql class\nselect 1", "'class' is no name for a variable"),
        ("%%labsql lab\nselect 1", "--lab lab"),
        ("%%labsql --lab run\nselect 1", "'run' is no variable that holds a Lab; those that do: lab"),
        ("%%labsql --table x\nselect 1", "no option --table"),
        ("%%labsql\nselect $nobody", "$nobody: is no variable of this notebook"),
    ],
)
def test_what_cannot_be_answered_is_one_line_without_a_traceback(notebook: Kernel, cell: str, says: str) -> None:
    with pytest.raises(CellFailed) as failed:
        notebook.run(cell)
    message = str(failed.value)
    assert says in message
    assert message.startswith("InvalidInput: ")
    assert "Traceback" not in message
    assert ".py" not in message
    assert notebook.value("len(lab.sql('select * from tasks'))") == 82, "the tables are untouched"
    assert not (notebook.home / "stolen").exists()


@pytest.mark.parametrize(
    ("text", "offers"),
    [
        ("%%labsql\nselect * from ta|", ["%%labsql\nselect * from tasks"]),
        ("%%labsql\nselect t.trac| from tasks t", ["%%labsql\nselect t.trace_id from tasks t"]),
        ("%%labsql kept\nselect outc| from attempts", ["%%labsql kept\nselect outcome from attempts"]),
        (
            "%%labsql\nselect 1 from runs\nWHE|",
            ["%%labsql\nselect 1 from runs\nWHERE", "%%labsql\nselect 1 from runs\nWHEN"],
        ),
        ("%%labsql\nselect * from runs where name = 'o|'", None),
        ('%%labsql\nselect * from "files/li|', ['%%labsql\nselect * from "files/links.csv']),
        ("%%labsql\nselect $hos|", ["%%labsql\nselect $hostile"]),
        ("%%labsql --lab la|\nselect 1", ["%%labsql --lab lab\nselect 1"]),
        ("x = %labsql select dur| from candidates", ["x = %labsql select duration_s from candidates"]),
        (
            "a = 1\n%labsql --lab lab select * from dead_|\nb = 2",
            ["a = 1\n%labsql --lab lab select * from dead_letters\nb = 2"],
        ),
    ],
)
def test_tab_offers_what_may_be_written_next(notebook: Kernel, text: str, offers: list[str] | None) -> None:
    notebook.run("hostile = 1")
    found = notebook.complete(text)
    if offers is None:
        assert f"%%labsql\nselect * from runs where name = '{notebook.value('run.run_id')}'" in found
        assert "%%labsql\nselect * from runs where name = 'o''brien'" in found
        offers = found
    assert sorted(found) == sorted(offers)


def test_other_cells_are_completed_as_before(notebook: Kernel) -> None:
    assert "run.results" in notebook.complete("run.resul|")
    assert "%labsql" in notebook.complete("%labs|")


def test_which_lab_is_asked_is_clear_or_asked_for(notebook: Kernel) -> None:
    notebook.run("lab.close()")
    with pytest.raises(CellFailed, match=r'^LabError: no lab is open in this notebook.*Lab\("runs"\)\n'):
        notebook.run("%%labsql\nselect 1")
    notebook.run("past = Lab('runs', read_only=True)\npast = Lab('runs', read_only=True)\npast")
    notebook.run("past_runs = %labsql select * from runs")
    assert notebook.value("len(past_runs)") == 3
    notebook.run("lab = Lab('new', workers=1)")
    with pytest.raises(CellFailed, match=r"^LabError: 2 labs are open; .*--lab lab, --lab past"):
        notebook.run("%%labsql\nselect 1")
    notebook.run("%%labsql --lab past kept\nselect * from runs")
    assert notebook.value("len(kept)") == 3
    notebook.run("past.close()\n%labsql select 1")
    notebook.run("%reload_ext epsilon_lab\n%unload_ext epsilon_lab")
    assert "not found" in notebook.run("%labsql select 1").stderr
    notebook.run("lab.close()")
