"""The catalogue: the rows of closed runs, from one file; it changes what a question costs, and never the answer."""

from __future__ import annotations

import ast
import inspect
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import (
    BODIES,
    ArtifactSaved,
    Body,
    CaseFlagged,
    CompletedLine,
    RunAdopted,
    RunEnded,
    TasksAssigned,
    TasksCompleted,
    TasksSubmitted,
    VerdictGiven,
    WorkerJoined,
)
from epsilon_lab.messages.tasks import Event
from epsilon_lab.messages.values import StoredValue
from epsilon_lab.workspace import catalogue, feed, fold, putting
from epsilon_lab.workspace.catalogue import Catalogue
from epsilon_lab.workspace.layout import JOURNAL
from epsilon_lab.workspace.patience import Patience
from epsilon_lab.workspace.schema import TABLES
from epsilon_lab.workspace.tables import Tables
from tests.workspace.test_tables import REFUSED, Workspace, candidate, task

NEVER = 2**62
SOME = ("runs", "candidates")
TOLD = ("runs", "tasks", "attempts", "artifacts", "candidates", "cases", "verdicts", "events")
"""Tables that have rows here."""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path / "runs")
    (made.path / "lab").mkdir(parents=True)
    yield made
    made.close()


def seen(
    workspace: Workspace, worth_keeping: int = 0, *, looks_on: bool = False, names: Collection[str] = TOLD
) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of some tables, as a lab that has just been opened sees them."""
    live = None if looks_on else (lambda: workspace.live)
    tables = Tables(workspace.path, live_run_ids=live, worth_keeping=worth_keeping)
    try:
        return {name: tables.rows(f"select * from {name} order by all") for name in names}
    finally:
        tables.close()


def file(workspace: Workspace) -> Path:
    return workspace.path / "lab" / "tables.duckdb"


def kept_runs(workspace: Workspace) -> list[str]:
    with duckdb.connect(str(file(workspace)), read_only=True) as connection:
        return [name for (name,) in connection.execute("select run_id from kept order by 1").fetchall()]


def close_a_run(workspace: Workspace, run_id: str, candidates: int = 2) -> None:
    workspace.start(run_id, live=False)
    workspace.write(run_id, *(candidate(f"g000-c{n:03d}", score=n / 7) for n in range(candidates)))
    workspace.write(run_id, RunEnded(status="completed", reason=""))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose journals are read, as that happens."""
    names: list[str] = []
    true = feed.scan

    def reading(path: Path, *arguments: Any, **more: Any) -> Any:
        names.append(path.parent.name)
        return true(path, *arguments, **more)

    monkeypatch.setattr(feed, "scan", reading)
    return names


# -- what it spares ----------------------------------------------------------------------------------------------------


def test_what_was_read_once_is_not_read_again(workspace: Workspace, read: list[str]) -> None:
    close_a_run(workspace, "a")
    close_a_run(workspace, "b")
    workspace.start("live")
    workspace.close()
    first = seen(workspace)
    read.clear()
    tables = Tables(workspace.path, live_run_ids=lambda: workspace.live)
    for name in set(TOLD) - {"events"}:
        assert sorted(tables.rows(f"select * from {name}"), key=repr) == sorted(first[name], key=repr)
    assert tables.position("a") == 4
    assert tables.names().set_index("name")["rows"]["events"] == 9
    assert set(read) == {"live"}
    assert tables.rows("select * from events order by all") == first["events"]
    tables.close()


def test_who_only_looks_on_uses_it_and_writes_none(workspace: Workspace, read: list[str]) -> None:
    close_a_run(workspace, "a")
    assert seen(workspace, looks_on=True, names=SOME)["candidates"]
    assert not file(workspace).exists()
    seen(workspace, names=SOME)
    read.clear()
    tables = Tables(workspace.path)
    assert len(tables.rows("select * from candidates")) == 2
    assert read == []
    tables.close()


def test_a_journal_is_what_it_was_when_all_of_its_files_are(workspace: Workspace, read: list[str]) -> None:
    workspace.segment_bytes = 300
    for number in range(6):
        close_a_run(workspace, "a") if number == 0 else workspace.write("a", candidate(f"g001-c{number:03d}"))
    workspace.close()
    true = seen(workspace, names=SOME)
    first = workspace.path / "a" / JOURNAL
    shutil.copy(first, first.with_suffix(".new"))
    first.with_suffix(".new").replace(first)
    read.clear()
    tables = Tables(workspace.path)
    assert len(tables.rows("select * from candidates")) == len(true["candidates"])
    assert read == ["a"]
    tables.close()


def test_little_is_not_worth_keeping(workspace: Workspace) -> None:
    close_a_run(workspace, "a")
    size = (workspace.path / "a" / JOURNAL).stat().st_size
    seen(workspace, worth_keeping=size + 1, names=SOME)
    assert not file(workspace).exists()
    close_a_run(workspace, "b")  # many small ones are worth it
    seen(workspace, worth_keeping=size + 1, names=SOME)
    assert file(workspace).exists()


def test_a_later_lab_adds_to_it_and_drops_what_is_gone(workspace: Workspace, read: list[str]) -> None:
    for name in "abc":
        close_a_run(workspace, name)
    seen(workspace)
    shutil.rmtree(workspace.path / "a")
    close_a_run(workspace, "d")
    read.clear()
    seen(workspace)
    assert read.count("d") == 2, "once for its rows, and once for its events"
    assert read.count("b") == 1, "for its events"
    with duckdb.connect(str(file(workspace)), read_only=True) as connection:
        assert connection.execute("select run_id from kept order by 1").fetchall() == [("b",), ("c",), ("d",)]
        assert connection.execute("select distinct run_id from candidates order by 1").fetchall() == [
            ("b",), ("c",), ("d",),
        ]  # fmt: skip
    assert sorted(path.name for path in file(workspace).parent.iterdir()) == ["tables.duckdb"]


def test_a_live_run_is_never_kept_and_an_interrupted_one_is_read_when_a_lab_takes_it_up(
    workspace: Workspace, read: list[str]
) -> None:
    workspace.start("r")
    workspace.write("r", TasksSubmitted(tasks=(task("t"),)), TasksAssigned(worker_id="s/1", tasks=(("t", 1, 1),)))
    seen(workspace, names=SOME)
    assert not file(workspace).exists() or not Catalogue(workspace.path).attach(duckdb.connect(":memory:"))
    workspace.live.clear()
    assert [row[4] for row in seen(workspace)["runs"]] == ["interrupted"]
    read.clear()
    tables = Tables(workspace.path, live_run_ids=lambda: workspace.live)
    assert tables.rows("select status from runs") == [("interrupted",)]
    assert read == []
    workspace.live.add("r")  # before it has written anything
    assert tables.rows("select status from runs") == [("running",)]
    assert tables.rows("select outcome from attempts") == [(None,)]
    tables.close()


def test_when_it_is_stopped_it_has_the_runs_that_were_read_to_the_end(workspace: Workspace, read: list[str]) -> None:
    for name in "abc":
        close_a_run(workspace, name)
    asked = itertools.count()
    assert Catalogue(workspace.path).grow(
        ["a", "b", "c"], lambda: next(asked) > 3
    )  # once behind each group and each run
    with duckdb.connect(str(file(workspace)), read_only=True) as connection:
        assert connection.execute("select run_id from kept").fetchall() == [("a",)]
        assert connection.execute("select distinct run_id from candidates").fetchall() == [("a",)]
    read.clear()
    assert len(seen(workspace, names=SOME)["candidates"]) == 6
    assert set(read) == {"b", "c"}


# -- what ends while its tables are open -------------------------------------------------------------------------------


def everything(tables: Tables) -> dict[str, list[tuple[Any, ...]]]:
    return {name: tables.rows(f"select * from {name} order by all") for name in TOLD}


@pytest.fixture
def tables(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tables]:
    """A lab's, to which everything is worth keeping."""
    monkeypatch.setattr(putting, "_SHARE", NEVER)
    made = Tables(workspace.path, live_run_ids=lambda: workspace.live, worth_keeping=1)
    yield made
    made.close()


def end(workspace: Workspace, run_id: str) -> None:
    workspace.write(run_id, RunEnded(status="completed", reason=""))
    workspace.live.discard(run_id)


def put_away(tables: Tables) -> None:
    """Ask until nothing is left to be put away."""
    tables.rows("select * from runs")
    assert tables._putting is not None
    assert tables._putting.is_at_it
    while (thread := tables._putting._thread) is not None:
        thread.join()
        tables.rows("select * from runs")


def test_a_run_that_ends_leaves_memory_and_no_answer_changes(
    workspace: Workspace, tables: Tables, read: list[str]
) -> None:
    close_a_run(workspace, "old")
    assert everything(tables)["candidates"]
    close_a_run(workspace, "changed")
    for name in ("ends", "goes on"):
        workspace.start(name)
        workspace.write(name, candidate("seed", score=0.5, feedback={"a": "é 💥"}), *HAPPENINGS[0], *HAPPENINGS[4])
    workspace.write("lab", WorkerJoined(worker_id="s/1", pid=4, host="h", slots=1, lanes=("process",)))
    reader = tables._refresh(Patience(), set(TABLES), None)
    end(workspace, "ends")
    put_away(tables)
    workspace.write("changed", VerdictGiven(case_id="c", number=1, verdict="x", decider_kind="HUMAN", decider="me"))
    true = seen(workspace, NEVER)
    read.clear()
    assert everything(tables) == true
    assert set(read) == {"changed", "ends"}, "one has changed, of the other the events were asked for"
    assert tables._feeds["ends"].kept
    assert tables._feeds["goes on"].kept is None
    told = reader[0].answer(reader[1], "select count(*) from candidates", None, lambda it: it.fetchall(), Patience())
    assert told == [(6,)], "of a look before that"
    reader[1].close()
    workspace.write("goes on", candidate("g000-c000"))
    end(workspace, "goes on")
    put_away(tables)
    read.clear()
    assert len(tables.rows("select * from candidates where run_id = 'goes on'")) == 2
    assert read == []


def test_a_run_with_cases_is_put_away_when_its_lab_is_closed(
    workspace: Workspace, tables: Tables, read: list[str]
) -> None:
    workspace.start("r")
    workspace.write("r", *HAPPENINGS[5])
    workspace.start("left")
    tables.rows("select * from runs")
    end(workspace, "r")
    assert len(tables.rows("select * from cases")) == 1
    assert tables._putting is not None
    assert not tables._putting.is_at_it
    true = everything(tables)
    tables.close()
    assert kept_runs(workspace) == ["r"], "the other may be gone on with"
    read.clear()
    later = Tables(workspace.path, live_run_ids=lambda: workspace.live)
    assert later.rows("select * from cases") == true["cases"]
    assert set(read) == {"left"}
    later.close()


def test_what_was_put_away_and_taken_back_stays(workspace: Workspace, tables: Tables, read: list[str]) -> None:
    workspace.start("r")
    workspace.write("r", candidate("seed"))
    tables.rows("select 1")
    end(workspace, "r")
    put_away(tables)
    read.clear()
    workspace.write("r", candidate("g000-c000"), RunEnded(status="completed", reason=""))
    for _ in range(3):
        assert len(tables.rows("select * from candidates")) == 2
    assert read == ["r"]
    assert tables._putting is not None
    assert not tables._putting.is_at_it
    tables.close()
    with duckdb.connect(str(file(workspace)), read_only=True) as connection:
        assert connection.execute("select count(*) from candidates").fetchall() == [(2,)]


def test_who_looks_on_puts_nothing_away(workspace: Workspace) -> None:
    tables = Tables(workspace.path, worth_keeping=1)
    workspace.start("r", live=False)
    assert len(tables.rows("select * from runs")) == 1
    workspace.write("r", RunEnded(status="completed", reason=""))
    assert len(tables.rows("select * from runs")) == 1
    tables.close()
    assert not file(workspace).exists()


# -- what it may not change --------------------------------------------------------------------------------------------


def value(text: str) -> StoredValue:
    return StoredValue(json=msgspec.Raw(text.encode()))


def done(name: str, fence: int) -> CompletedLine:
    return CompletedLine(task_id=name, attempt=1, fence=fence, output=value("7"), started_at=1.0, ended_at=2.0)


HAPPENINGS: list[tuple[Body | Event, ...]] = [
    (TasksSubmitted(tasks=(task("a"), task("b"))),),
    (TasksAssigned(worker_id="s/1", tasks=(("a", 1, 1),)),),
    (TasksCompleted(worker_id="s/1", tasks=(done("a", 1),)),),
    (candidate("seed", score=0.1, scores={"seconds": float(2**53)}, error="é 💥 \u0000"),),
    (ArtifactSaved(path="a.txt", kind="source", sha256="0" * 64, bytes=3),),
    (CaseFlagged(case_id="c", kind="k", question="?", options=("x", "y"), flagged_by="f"),),
    (VerdictGiven(case_id="c", number=1, verdict="x", decider_kind="HUMAN", decider="me"),),
    (Event("mood.changed", {"to": "good"}), Event("stage.candidate", {"candidate_id": 5})),
    (RunAdopted(epoch=2, pid=1, host="h"),),
    (RunEnded(status="completed", reason="done"),),
]
RUNS = ("a", "b")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(RUNS), st.integers(0, len(HAPPENINGS) - 1)),
        st.tuples(st.sampled_from(RUNS), st.sampled_from(["tear", "remove", "replace", "copy", "damage", "go"])),
    ),
    max_size=12,
)


def perform(workspace: Workspace, run_id: str, what: int | str) -> None:
    """Let something happen to a run, and to its files."""
    path = workspace.path / run_id
    if isinstance(what, int):
        if not (path / JOURNAL).exists():
            workspace.start(run_id, live=False)
        workspace.write(run_id, *HAPPENINGS[what])
        return
    workspace.close()
    if what == "go":
        workspace.live ^= {run_id}
    elif not (path / JOURNAL).exists():
        return
    elif what == "tear":
        with (path / JOURNAL).open("ab") as journal:
            journal.write(b'{"seq":')
    elif what == "remove":
        shutil.rmtree(path)
    elif what == "replace":
        shutil.rmtree(path)
        workspace.start(run_id, live=False, name="another")
    elif what == "copy":
        shutil.copytree(path, workspace.path / f"{run_id}-copy", dirs_exist_ok=True)
    elif what == "damage":
        (path / JOURNAL).rename(path / f"{JOURNAL}.000003")


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=2)
@given(STEPS, STEPS)
def test_the_answers_are_those_of_the_journals(before: list[Any], after: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        workspace = Workspace(Path(directory) / "runs")
        workspace.segment_bytes = 700
        (workspace.path / "lab").mkdir(parents=True)
        for steps in (before, after):
            for run_id, what in steps:
                try:
                    perform(workspace, run_id, what)
                except Exception as error:  # a journal that was damaged is not written to
                    if "damaged" not in str(error):
                        raise
            workspace.close()
            if file(workspace).exists():
                known = seen(workspace, NEVER)
                kept = file(workspace).rename(file(workspace).with_suffix(".aside"))
                plain = seen(workspace, NEVER)
                kept.rename(file(workspace))
                assert known == plain, "it may be out of date"
            else:
                plain = seen(workspace, NEVER)
            assert seen(workspace) == plain, "it has just been brought up to date"
        assert seen(workspace) == plain, "it is up to date"


def test_what_could_not_be_read_is_said_again_by_who_did_not_read_it(workspace: Workspace) -> None:
    close_a_run(workspace, "good")
    workspace.start("odd", live=False)
    workspace.write("odd", Event("stage.candidate", {"candidate_id": 5}), candidate("seed"))
    close_a_run(workspace, "bad")
    workspace.close()
    journal = workspace.path / "bad" / JOURNAL
    journal.write_bytes(journal.read_bytes().replace(b"bad", b"mad", 1))
    for _ in range(2):
        with pytest.warns(UserWarning, match="journal") as said:
            assert len(seen(workspace, names=SOME)["candidates"]) == 3
        words = [str(warning.message) for warning in said]
        assert sum("bad/journal.ndjson is damaged" in text for text in words) == 1
        assert sum("event 2 (stage.candidate)" in text for text in words) == 1


# -- when it is no good ------------------------------------------------------------------------------------------------


def scribble(path: Path) -> None:
    """Damage every page but the first three, which hold what is read when it is attached."""
    data = bytearray(path.read_bytes())
    for place in range(3 * 4096, len(data), 512):
        data[place] ^= 0xFF
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def foreign(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table candidates as select 1 as x")


def outdated(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("update rules set sha256 = 'another'")


def poor(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("drop table candidates")


def bare(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("alter table candidates drop column feedback")


def retyped(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("alter table candidates alter score type VARCHAR")


def babble(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("update kept set how = '[1]'")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # who opens it waits for ever


@pytest.mark.parametrize(
    "harm",
    [
        scribble,
        outdated,
        pipe,
        *(pytest.param(harm, marks=pytest.mark.long) for harm in (babble, cut, retyped, foreign, poor, empty)),
    ],
    ids=lambda harm: harm.__name__,
)
def test_one_that_is_no_good_is_passed_over_and_made_anew(
    workspace: Workspace, harm: Callable[[Path], object], read: list[str]
) -> None:
    for name in "ab":
        close_a_run(workspace, name, candidates=600 if harm is scribble else 2)  # that many fill some pages
    true = seen(workspace, names=SOME)
    harm(file(workspace))
    read.clear()
    assert seen(workspace, looks_on=True, names=SOME) == true
    assert set(read) == set("ab")
    assert seen(workspace, names=SOME) == true
    if harm is scribble:  # found out by a query that came too late to write another
        assert seen(workspace, names=SOME) == true
    read.clear()
    assert seen(workspace, looks_on=True, names=SOME) == true
    assert read == []


def test_its_rules_are_all_that_rows_are_made_by() -> None:
    tree = ast.parse(inspect.getsource(fold))
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("epsilon_lab")
        for name in (
            [f"epsilon_lab.{each.name}" for each in node.names] if node.module == "epsilon_lab" else [node.module]
        )
    }
    formats = {"epsilon_lab.workspace.journal", "epsilon_lab.workspace.layout"}  # what a journal is, and its name
    lines = {body.__module__ for body in BODIES.values()}
    assert (imported | lines) - formats <= {module.__name__ for module in catalogue.RULES}


def test_nothing_in_a_strangers_catalogue_is_run(workspace: Workspace, tmp_path: Path) -> None:
    close_a_run(workspace, "a")
    seen(workspace, names=SOME)
    secret = tmp_path / "secret.txt"
    secret.write_text("x")
    for name in ("rules", "candidates"):
        with duckdb.connect(str(file(workspace))) as connection:
            rules = connection.execute("select sha256 from rules").fetchall()[0][0]
            connection.execute(f"alter table {name} rename to other")
            query = f"select *, '{rules}' as sha256 from read_text('{secret}')"
            connection.execute(f"create view {name} as {query}")
        assert len(seen(workspace, looks_on=True, names=SOME)["candidates"]) == 2
        assert len(seen(workspace, names=SOME)["candidates"]) == 2


def test_where_none_can_be_written_the_journals_are_read(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    close_a_run(workspace, "a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(catalogue.os, "replace", full)
        assert len(seen(workspace, names=SOME)["candidates"]) == 2
    assert list(file(workspace).parent.iterdir()) == []
    (workspace.path / "lab").rmdir()
    assert len(seen(workspace, names=SOME)["candidates"]) == 2


def test_a_query_never_sees_a_run_twice_or_half_while_it_changes(workspace: Workspace) -> None:
    for name in "abc":
        close_a_run(workspace, name)
    seen(workspace, names=SOME)
    tables = Tables(workspace.path, live_run_ids=lambda: workspace.live)
    count = "select count(*), count(distinct (run_id, candidate_id)) from candidates"
    database, cursor = tables._refresh(Patience(), {"candidates"}, None)
    workspace.write("a", VerdictGiven(case_id="c", number=1, verdict="x", decider_kind="HUMAN", decider="me"))
    shutil.rmtree(workspace.path / "b")
    assert tables.rows(count) == [(4, 4)]
    assert database.answer(cursor, count, None, lambda answer: answer.fetchall(), Patience()) == [(6, 6)]
    cursor.close()
    assert tables.rows("select verdict from verdicts") == [("x",)]
    tables.close()


# -- and no way to it --------------------------------------------------------------------------------------------------


ATTACKS = [
    "select count(*) from read_blob('{path}')",
    "select * from read_text('{path}')",
    "from '{path}'",
    "attach '{path}' as other",
    "detach catalogue",
    "insert into catalogue.candidates select * from catalogue.candidates",
    "with d as (insert into catalogue.kept values ('x', 'y') returning *) select * from d",
    "with d as (copy (select 1) to '{path}' (format csv, use_tmp_file false)) select * from d",
    "explain analyze copy (select 1) to '{path}' (format csv, use_tmp_file false)",
    "explain analyze copy (select 1) to '{path}.wal' (format csv, use_tmp_file false)",
    "explain analyze delete from journals.candidates",
    "explain analyze drop view candidates",
]


def test_no_query_reaches_the_file(workspace: Workspace) -> None:
    close_a_run(workspace, "a")
    true = seen(workspace, names=SOME)
    before = file(workspace).read_bytes()
    tables = Tables(workspace.path, live_run_ids=lambda: workspace.live)
    [(attached,)] = tables.rows("select path from duckdb_databases() where database_name = 'catalogue'")
    for query in ATTACKS:
        with pytest.raises(InvalidInput):
            tables.rows(query.format(path=file(workspace)))
        with suppress(InvalidInput):  # DuckDB grants this path; there is nothing
            assert tables.rows(query.format(path=attached)) in ([], [(0,)])
    assert file(workspace).read_bytes() == before
    assert [path.name for path in file(workspace).parent.iterdir()] == ["tables.duckdb"]
    assert len(tables.rows("select * from candidates")) == 2
    tables.close()
    assert seen(workspace, names=SOME) == true


def test_queries_are_refused_over_kept_rows_as_over_read_ones(workspace: Workspace, tmp_path: Path) -> None:
    close_a_run(workspace, "a")
    true = seen(workspace, names=SOME)
    tables = Tables(workspace.path, live_run_ids=lambda: workspace.live)
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    for query in REFUSED:
        with pytest.raises(InvalidInput):
            tables.sql(query.format(file=secret))
    assert secret.read_text() == "a,b\n1,2\n"
    tables.close()
    assert seen(workspace, names=SOME) == true
