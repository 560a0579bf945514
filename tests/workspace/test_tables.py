"""Tables: what the journals say, in SQL and frames; and a query can do nothing but read."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.messages.events import (
    ArtifactSaved,
    Body,
    BriefWritten,
    CandidateSettled,
    CompletedLine,
    FailedLine,
    GenerationClosed,
    LabOpened,
    LlmCall,
    RunBorn,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    TaskLine,
    TasksAssigned,
    TasksCompleted,
    TasksFailed,
    TasksSubmitted,
    WorkerJoined,
)
from epsilon_lab.messages.tasks import Event
from epsilon_lab.messages.values import StoredValue
from epsilon_lab.settings import SEGMENT_BYTES
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import JOURNAL
from epsilon_lab.workspace.patience import GivenUp, Patience
from epsilon_lab.workspace.schema import TABLES
from epsilon_lab.workspace.tables import Tables

HOSTILE = "<script>alert(1)</script> '; drop table runs; -- \x00 é 💥 $\\frac$ \u202e"


class Workspace:
    """A workspace with journals that stay open, as a live lab's do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.segment_bytes = SEGMENT_BYTES
        self.live: set[str] = set()
        self._journals: dict[str, Journal] = {}

    def write(self, run_id: str, *bodies: Body | Event, ts: float = 1_700_000_000.0) -> None:
        if run_id not in self._journals:
            (self.path / run_id).mkdir(exist_ok=True, parents=True)
            self._journals[run_id] = Journal.open(self.path / run_id / JOURNAL, segment_bytes=self.segment_bytes)
        self._journals[run_id].append(ts, *bodies)
        self._journals[run_id].commit()

    def start(self, run_id: str, *, live: bool = True, **fields: object) -> None:
        body = {"topology": "work_queue", "name": run_id, **fields}
        self.write(run_id, RunStarted(run_id=run_id, **body))  # type: ignore[arg-type]
        if live:
            self.live.add(run_id)

    def close(self) -> None:
        for journal in self._journals.values():
            journal.close()
        self._journals.clear()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path / "runs")
    yield made
    made.close()


@pytest.fixture
def tables(workspace: Workspace) -> Iterator[Tables]:
    made = Tables(workspace.path, live_run_ids=lambda: workspace.live)
    yield made
    made.close()


def task(task_id: str, **fields: object) -> TaskLine:
    return TaskLine(
        **{  # type: ignore[arg-type]
            "task_id": task_id,
            "kind": "item",
            "lane": "process",
            "entry": "code:abc",
            "payload": StoredValue(json=msgspec.Raw(b"1")),
            **fields,
        }
    )


def candidate(candidate_id: str, **fields: object) -> CandidateSettled:
    return CandidateSettled(**{"candidate_id": candidate_id, "generation": 0, "strategy": "fresh", **fields})  # type: ignore[arg-type]


# -- what is in them ---------------------------------------------------------------------------------------------------


def test_an_empty_workspace_has_every_table_with_its_columns_and_the_dtypes_of_a_full_one(
    workspace: Workspace, tables: Tables
) -> None:
    empty = {name: tables.frame(name) for name in TABLES}
    for name, frame in empty.items():
        assert list(frame.columns) == list(TABLES[name].columns)
        assert len(frame) == 0
        assert list(tables.sql(f"select * from {name}").columns) == list(TABLES[name].columns)
    workspace.start("r", seed=3)
    workspace.write("r", candidate("seed", score=1.0, checked=True), TasksSubmitted(tasks=(task("a"),)))
    for name in ("runs", "candidates", "tasks", "events"):
        full = tables.frame(name)
        assert len(full) > 0
        assert full.dtypes.to_dict() == empty[name].dtypes.to_dict()


def test_a_run_is_a_row_with_its_json_columns_decoded(workspace: Workspace, tables: Tables) -> None:
    workspace.start(
        "r-1", tags={"who": HOSTILE}, seed=2**53 + 1, config={"items": [1, {"a": None}]}, parent_run_id="r-0"
    )
    row = tables.frame("runs", "r-1").iloc[0]
    assert row["tags"] == {"who": HOSTILE}
    assert row["config"] == {"items": [1, {"a": None}]}
    assert row["seed"] == 2**53 + 1
    assert row["parent_run_id"] == "r-0"
    assert row["started_at"].isoformat() == "2023-11-14T22:13:20"
    assert tables.sql("select tags->>'who' as who from runs")["who"][0] == HOSTILE


def test_a_task_is_followed_from_the_queue_through_a_lost_worker_to_its_output(
    workspace: Workspace, tables: Tables
) -> None:
    def now() -> dict[str, object]:
        return tables.frame("tasks", "r").iloc[0].to_dict()

    workspace.start("r")
    workspace.write("r", TasksSubmitted(tasks=(task("item-0", depends_on=("x",), priority=4),)), ts=100.0)
    row = now()
    assert (row["status"], row["leaf"], row["kind"], row["depends_on"], row["priority"]) == (
        "queued", "code:abc", "item", ["x"], 4,
    )  # fmt: skip
    workspace.write("r", TasksAssigned(worker_id="s/1", tasks=(("item-0", 1, 11),)), ts=101.0)
    assert (now()["status"], now()["worker_id"], now()["attempts"]) == ("running", "s/1", 1)
    crash = FailedLine(task_id="item-0", attempt=1, fence=11, outcome="crashed", error="signal 9", then="queued")
    workspace.write("r", TasksFailed(worker_id="s/1", tasks=(crash,)), ts=102.0)
    assert (now()["status"], now()["error"]) == ("queued", "signal 9")
    workspace.write("r", TasksAssigned(worker_id="s/2", tasks=(("item-0", 2, 12),)), ts=103.0)
    done = CompletedLine(
        task_id="item-0",
        attempt=2,
        fence=12,
        output=StoredValue(json=msgspec.Raw(b"7")),
        started_at=103.5,
        ended_at=104.0,
    )
    workspace.write("r", TasksCompleted(worker_id="s/2", tasks=(done,)), ts=104.1)
    row = now()
    assert (row["status"], row["attempts"], row["worker_id"], row["output_ref"]) == (
        "completed", 2, "s/2", "journal.ndjson#6",
    )  # fmt: skip
    assert tables.sql("select error is null as ok, epoch(finished_at) as t from tasks").values.tolist() == [
        [True, 104.0]
    ]
    attempts = tables.frame("attempts", "r")
    assert attempts["outcome"].tolist() == ["crashed", "completed"]
    assert attempts["worker_id"].tolist() == ["s/1", "s/2"]


def test_failures_say_what_the_last_attempt_left_behind(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    workspace.write("r", TasksSubmitted(tasks=(task("good"), task("bad"), task("dead"))))
    for fence, (name, then) in enumerate((("bad", "queued"), ("bad", "failed"), ("dead", "dead")), 1):
        line = FailedLine(
            task_id=name, attempt=fence, fence=fence, outcome="failed", error=f"E{fence}", then=then,
            traceback=f"T{fence}", stdout_tail="out", stderr_tail="err",
        )  # fmt: skip
        workspace.write("r", TasksFailed(worker_id="w", tasks=(line,)), ts=float(fence))
    frame = tables.failures("r")
    assert frame[["task_id", "error", "traceback", "stdout_tail", "stderr_tail"]].values.tolist() == [
        ["bad", "E2", "T2", "out", "err"],
        ["dead", "E3", "T3", "out", "err"],
    ]
    [letter] = tables.frame("dead_letters", "r").to_dict("records")
    assert (letter["task_id"], letter["error"]) == ("dead", "E3")
    assert letter["history"] == [{"attempt": 3, "outcome": "failed", "error": "E3", "worker_id": "w"}]


def test_a_failure_that_a_later_go_has_settled_is_none(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    ids = ("a", "a~2", "b", "b~2", "b~10", "c", "c~2", "d")
    workspace.write("r", TasksSubmitted(tasks=tuple(map(task, ids))))
    for name in ("a", "b", "b~2", "b~10", "c", "d"):
        line = FailedLine(task_id=name, attempt=1, fence=1, outcome="failed", error=f"E-{name}", then="failed")
        workspace.write("r", TasksFailed(worker_id="w", tasks=(line,)))
    output = StoredValue(json=msgspec.Raw(b"7"))
    done = CompletedLine(task_id="a~2", attempt=1, fence=1, output=output, started_at=0.0, ended_at=0.0)
    workspace.write("r", TasksCompleted(worker_id="w", tasks=(done,)))
    assert tables.failures("r")["error"].tolist() == ["E-b~10", "E-c", "E-d"], "c~2 is not settled"


def test_a_candidates_frame_has_a_column_for_each_score_and_the_seed_first(
    workspace: Workspace, tables: Tables
) -> None:
    workspace.start("r", topology="population_search")
    workspace.write(
        "r",
        candidate("g000-c000", scores={"seconds": 0.5}, score=1.0),
        candidate("g001-c000", generation=1, outcome="timeout", error=HOSTILE),
        candidate("seed", strategy="seed", scores={"seconds": 2.0, "rows": 3.0}, score=0.5, checked=True),
    )
    frame = tables.frame("candidates", "r")
    assert frame["candidate_id"].tolist() == ["seed", "g000-c000", "g001-c000"]
    assert frame["score_seconds"].tolist()[:2] == [2.0, 0.5]
    assert frame["score_rows"].isna().tolist() == [False, True, True]
    assert frame["checked"].tolist()[0] is True
    assert frame["error"].isna().tolist() == [True, True, False]
    assert frame["error"][2] == HOSTILE


def test_a_later_line_of_a_candidate_replaces_its_row(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    workspace.write("r", candidate("seed", score=1.0))
    assert tables.sql("select score from candidates")["score"].tolist() == [1.0]
    workspace.write("r", candidate("seed", score=2.0, checked=True))
    assert tables.sql("select score from candidates")["score"].tolist() == [2.0]


def test_every_other_event_becomes_a_row(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    workspace.write(
        "r",
        ArtifactSaved(path="a.txt", kind="source", sha256="0" * 64, bytes=3, task_id="t"),
        ArtifactSaved(path="a.txt", kind="source", sha256="1" * 64, bytes=4),
        LlmCall(task_id="t", call=0, model="m", outcome="ok", prompt_ref="p", prompt_sha256="x", prompt_tokens=5),
        LlmCall(task_id="t", call=0, model="m", outcome="cached", prompt_ref="p", prompt_sha256="x", cached=True),
        GenerationClosed(
            generation=0, best=1.0, best_id="seed", median=0.5, top=1.0, candidates=4, valid_share=0.75, stall=1,
            elites=("seed",),
        ),
        BriefWritten(generation=0, version=1, author="deterministic", text=HOSTILE, cited=("seed",)),
        BriefWritten(generation=0, version=2, author="HUMAN", text="mine"),
    )  # fmt: skip
    workspace.write("lab", WorkerJoined(worker_id="s/1", pid=4, host="h", slots=1, lanes=("process",)))
    assert tables.frame("artifacts", "r")["bytes"].tolist() == [4]
    calls = tables.frame("llm_calls", "r")
    assert calls["outcome"].tolist() == ["ok", "cached"]
    assert calls["cost_usd"].isna().all()
    generation = tables.frame("generations", "r").iloc[0]
    assert (generation["valid_share"], generation["elites"], generation["stall"]) == (0.75, ["seed"], 1)
    assert tables.frame("briefs", "r")["text"].tolist() == [HOSTILE, "mine"]
    assert tables.frame("workers")["lanes"].tolist() == [["process"]]
    events = tables.frame("events", "r")
    assert events["seq"].tolist() == list(range(1, 9))
    assert events["body"][1]["path"] == "a.txt"
    assert tables.sql("select count(*) as n from events where run_id is null")["n"].tolist() == [1]


def test_names_count_rows_and_give_a_line_of_code(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    workspace.write("r", candidate("seed"))
    names = tables.names().set_index("name")
    assert list(names.index) == list(TABLES)
    assert names["rows"].to_dict() | {"runs": 1, "candidates": 1, "events": 2} == names["rows"].to_dict()
    assert "candidate_id" in names.loc["candidates", "columns"]
    for example in names["example"]:
        assert tables.sql(example.removeprefix('lab.sql("').removesuffix('")')) is not None


# -- who is live -------------------------------------------------------------------------------------------------------


def test_a_run_without_an_end_is_interrupted_unless_a_lab_is_at_it(workspace: Workspace, tables: Tables) -> None:
    def status() -> list[str]:
        return tables.sql("select status from runs where run_id = 'r'")["status"].tolist()

    workspace.start("r")
    assert status() == ["running"]
    workspace.write("r", RunPaused())
    assert status() == ["paused"]
    workspace.live.clear()
    assert status() == ["interrupted"]
    assert "without ending it" in tables.frame("runs", "r")["reason"][0]
    workspace.live.add("r")
    workspace.write("r", RunResumed())
    assert status() == ["running"]
    workspace.write("r", RunEnded(status="stopped", reason="enough"))
    assert status() == ["stopped"]
    workspace.live.clear()
    assert status() == ["stopped"]
    assert tables.frame("runs", "r")["reason"][0] == "enough"


def test_a_process_that_looks_on_learns_from_the_labs_journal_who_is_live(workspace: Workspace) -> None:
    looker = Tables(workspace.path)
    workspace.start("old")
    workspace.write("lab", RunBorn(run_id="old"))
    host = socket.gethostname()
    workspace.write("lab", LabOpened(epoch=2, pid=os.getpid(), host=host), RunBorn(run_id="new"))
    workspace.start("new")
    query = "select run_id, status from runs order by run_id"
    assert looker.sql(query).values.tolist() == [["new", "running"], ["old", "interrupted"]]
    workspace.write("lab", LabOpened(epoch=3, pid=2**22 + 1, host=host), RunBorn(run_id="new"))  # no such process
    assert looker.sql(query).values.tolist() == [["new", "interrupted"], ["old", "interrupted"]]
    looker.close()


# -- following journals ------------------------------------------------------------------------------------------------


def test_a_query_sees_what_was_committed_before_it_and_no_torn_tail(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    for i in range(5):
        workspace.write("r", candidate(f"g000-c{i:03d}"))
        assert tables.sql("select count(*) as n from candidates")["n"][0] == i + 1
    workspace.close()
    path = workspace.path / "r" / JOURNAL
    with path.open("ab") as file:
        file.write(b'{"seq":7,"ts":1.0,"type":"stage.cand')
    assert tables.sql("select count(*) as n from candidates")["n"][0] == 5
    workspace.write("r", candidate("g000-c005"))  # cuts the tail and goes on
    assert tables.sql("select count(*) as n from candidates")["n"][0] == 6


def test_events_asked_for_late_are_all_there_once(workspace: Workspace, tables: Tables) -> None:
    call = LlmCall(task_id="t", call=0, model="m", outcome="ok", prompt_ref="p", prompt_sha256="x")
    workspace.start("r")
    workspace.write("r", call)
    assert len(tables.frame("llm_calls")) == 1
    workspace.write("r", call)
    assert tables.sql("select seq from events order by seq")["seq"].tolist() == [1, 2, 3]
    workspace.write("r", call)
    assert tables.sql("select seq from events order by seq")["seq"].tolist() == [1, 2, 3, 4]
    assert len(tables.frame("llm_calls")) == 3


def test_more_events_than_there_is_room_for_are_refused_and_one_runs_are_given(
    workspace: Workspace, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        workspace.start(name)
    size = sum(path.stat().st_size for path in workspace.path.glob(f"*/{JOURNAL}"))
    monkeypatch.setattr("epsilon_lab.workspace.tables._MOST_EVENTS", size - 1)
    with pytest.raises(InvalidInput, match=r"table events: the journals of 2 runs have .* run by run"):
        tables.sql("select * from events")
    assert tables.sql("select 1").values.tolist() == [[1]], "it may mean any table, but not that one"
    assert len(tables.frame("events", "a")) == 1
    assert len(tables.names()) == len(TABLES)
    monkeypatch.setattr("epsilon_lab.workspace.tables._MOST_EVENTS", size)
    assert tables.rows("select count(*) from events") == [(2,)]


def test_what_a_newer_lab_writes_does_no_harm(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    body = msgspec.to_builtins(candidate("seed", score=1.0)) | {"hue": "red"}
    workspace.write("r", Event("stage.candidate", body), Event("mood.changed", {"to": "good"}))
    assert tables.sql("select score from candidates")["score"].tolist() == [1.0]
    assert tables.sql("select type from events where seq = 3")["type"].tolist() == ["mood.changed"]


def test_an_event_that_does_not_read_is_said_once_and_passed_over(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    workspace.write("r", Event("stage.candidate", {"candidate_id": 5}), candidate("seed", score=1.0))
    with pytest.warns(UserWarning, match=r"event 2 \(stage.candidate\)"):
        assert len(tables.frame("candidates")) == 1
    assert len(tables.frame("candidates")) == 1


def test_directories_that_are_no_runs_are_passed_over(workspace: Workspace, tables: Tables) -> None:
    (workspace.path / "notes").mkdir(parents=True)
    (workspace.path / "empty").mkdir()
    (workspace.path / "empty" / JOURNAL).touch()
    (workspace.path / "file.txt").write_text("x")
    workspace.start("r")
    assert tables.sql("select run_id from runs")["run_id"].tolist() == ["r"]


def test_a_damaged_run_is_named_and_the_others_still_answer(
    workspace: Workspace, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.start("bad")
    workspace.start("good")
    workspace.close()
    path = workspace.path / "bad" / JOURNAL
    path.write_bytes(path.read_bytes().replace(b"bad", b"mad", 1))
    with pytest.warns(UserWarning, match="bad/journal.ndjson is damaged"):
        assert tables.sql("select run_id from runs")["run_id"].tolist() == ["good"]
    assert tables.sql("select run_id from runs")["run_id"].tolist() == ["good"]  # said once
    looked: list[object] = []
    monkeypatch.setattr("epsilon_lab.workspace.feed.scan", lambda *arguments, **_: looked.append(arguments))
    assert tables.sql("select run_id from runs")["run_id"].tolist() == ["good"]
    assert looked == []  # and not read again before it changes


@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_journal_is_followed_over_the_ends_of_its_files(workspace: Workspace, tables: Tables, every: int) -> None:
    workspace.segment_bytes = 300
    workspace.start("r")
    for index in range(9):
        workspace.write("r", candidate(f"g000-c{index:03d}"))
        if index % every == 0:
            assert len(tables.frame("candidates")) == index + 1
    assert (workspace.path / "r" / f"{JOURNAL}.000005").exists()
    assert len(tables.frame("candidates")) == 9
    assert len(tables.frame("events")) == 10
    shutil.copytree(workspace.path / "r", workspace.path / "copy")
    assert len(tables.frame("candidates")) == 18
    workspace.close()
    shutil.rmtree(workspace.path / "r")
    workspace.start("r", name="another")
    assert tables.sql("select run_id, name from runs order by 1").values.tolist() == [["copy", "r"], ["r", "another"]]
    assert len(tables.frame("candidates")) == 9


def test_a_run_that_is_copied_replaced_or_removed_is_followed(workspace: Workspace, tables: Tables) -> None:
    def runs() -> list[list[object]]:
        query = "select run_id, name, count(candidate_id) from runs left join candidates using (run_id) group by all"
        return tables.sql(query + " order by 1").values.tolist()

    workspace.start("r", name="first")
    workspace.write("r", candidate("seed"), candidate("g000-c000"))
    assert runs() == [["r", "first", 2]]
    shutil.copytree(workspace.path / "r", workspace.path / "copy")
    assert runs() == [["copy", "first", 2], ["r", "first", 2]]
    workspace.close()
    shutil.rmtree(workspace.path / "r")
    assert runs() == [["copy", "first", 2]]
    workspace.start("r", name="second")
    workspace.write("r", candidate("seed"))
    assert runs() == [["copy", "first", 2], ["r", "second", 1]]
    workspace.close()
    (workspace.path / "copy" / JOURNAL).replace(workspace.path / "r" / JOURNAL)  # a longer one takes its place
    assert runs() == [["r", "first", 2]]
    (workspace.path / "r" / JOURNAL).unlink()
    workspace.start("r", name="third")
    assert runs() == [["r", "third", 0]]


def test_rows_nobody_asks_for_do_not_pile_up(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    files = [ArtifactSaved(path=f"{i}", kind="source", sha256="0" * 64, bytes=1) for i in range(3_000)]
    workspace.write("r", *files)
    assert len(tables.frame("runs")) == 1
    assert not tables._feeds["r"].fold.touched["artifacts"]
    assert tables.sql("select count(*) as n from artifacts")["n"][0] == 3_000


def test_position_grows_when_anything_happened(workspace: Workspace, tables: Tables) -> None:
    assert tables.position("r") == 0
    workspace.start("r")
    assert tables.position("r") == 1
    workspace.write("r", candidate("seed"), candidate("g000-c000"))
    assert tables.position("r") == 3
    assert tables.position("r") == 3


class Impatient(Patience):
    """One that ends when it was asked about so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times

    @property
    def is_over(self) -> bool:
        self._times -= 1
        return self._times < 0

    def check(self) -> None:
        if self._times < 0:
            raise GivenUp


@pytest.mark.parametrize("times", range(5))
def test_a_look_that_is_given_up_keeps_what_it_has_read(workspace: Workspace, tables: Tables, times: int) -> None:
    for name in ("a", "b"):
        workspace.start(name)
        for number in range(2):
            workspace.write(name, candidate(f"g000-c{number:03d}"))
    with pytest.raises(GivenUp):
        tables._refresh(Impatient(times), {"candidates", "events"}, None)
    begun = {name: feed.seq for name, feed in tables._feeds.items() if name}
    assert sum(begun.values()) == min(times, 3), "it is asked between two runs, and two groups of one"
    assert tables.rows("select count(*), count(distinct (run_id, candidate_id)) from candidates") == [(4, 4)]
    assert tables.rows("select count(*), count(distinct (run_id, seq)) from events") == [(6, 6)]


def test_an_answer_outlives_the_tables_it_is_taken_from(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    database, cursor = tables._refresh(Patience(), {"runs"}, None)
    tables._empty()
    assert tables.rows("select run_id from runs") == [("r",)]
    assert database.answer(cursor, "select run_id from runs", None, lambda answer: answer.fetchall(), Patience()) == [
        ("r",)
    ]
    cursor.close()


def test_a_look_that_fails_starts_again(workspace: Workspace, tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.start("r")
    workspace.write("r", candidate("seed"))
    assert len(tables.frame("candidates")) == 1
    workspace.write("r", candidate("g000-c000"))

    def failing(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("epsilon_lab.workspace.store.Store._write", failing)
        with pytest.raises(MemoryError):
            tables.frame("candidates")
    assert len(tables.frame("candidates")) == 2


def test_many_threads_query_while_a_run_writes(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    seen: list[list[int]] = [[] for _ in range(4)]
    failed: list[BaseException] = []
    done = threading.Event()

    def ask(counts: list[int]) -> None:
        try:
            while not done.is_set():
                counts.append(int(tables.sql("select count(*) as n from candidates")["n"][0]))
                assert len(tables.frame("runs", "r")) == 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(counts,)) for counts in seen]
    for thread in threads:
        thread.start()
    for i in range(60):
        workspace.write("r", candidate(f"g000-c{i:03d}"))
    done.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert all(counts == sorted(counts) for counts in seen)
    assert tables.sql("select count(*) as n from candidates")["n"][0] == 60


# -- whatever lies there -----------------------------------------------------------------------------------------------


def test_a_run_with_ten_thousand_files_costs_what_its_journal_does(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    folder = workspace.path / "r" / "candidates"
    folder.mkdir()
    for number in range(10_000):
        os.close(os.open(f"{folder}/{number}.json", os.O_CREAT))
    workspace.write("r", ArtifactSaved(path="candidates/1.json", kind="source", sha256="0" * 64, bytes=0))
    assert tables.rows("select count(*) from artifacts") == [(1,)]


def test_many_runs_some_of_them_empty_answer_and_go_while_they_are_asked(workspace: Workspace, tables: Tables) -> None:
    for number in range(90):
        workspace.start(f"r{number:03d}", live=False)
        workspace.close()
    for number in range(30):
        (workspace.path / f"empty{number}").mkdir()
    failed: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                [(runs, known)] = tables.rows("select count(*), count(*) filter (status = 'interrupted') from runs")
                assert runs == known
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(0, 90, 3):
        shutil.rmtree(workspace.path / f"r{number:03d}")
    done.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert tables.rows("select count(*) from runs") == [(60,)]


# -- what a query may do -----------------------------------------------------------------------------------------------

REFUSED = [
    "select * from '{file}'",
    "select * from read_text('{file}')",
    "select * from read_csv('{file}')",
    "select * from glob('/etc/*')",
    "copy runs to '{file}'",
    "with d as (copy (select 1) to '{file}') select * from d",
    "with d as (delete from runs returning *) select * from d",
    "explain analyze delete from runs",
    "explain analyze insert into runs (run_id, topology, name, status) values ('x', 'x', 'x', 'x')",
    "delete from runs",
    "insert into runs (run_id, topology, name, status) values ('x', 'x', 'x', 'x')",
    "update runs set name = 'x'",
    "drop table runs",
    "create table t as select 1",
    "create temp table t as select 1",
    "create macro f(x) as x",
    "attach ':memory:' as other",
    "attach '{file}' as other",
    "set temp_directory = '/tmp'",
    "set enable_external_access = true",
    "pragma threads = 1",
    "install httpfs",
    "load httpfs",
    "call pragma_version()",
    "begin transaction",
    "checkpoint",
    "export database '{file}'",
    "detach memory",
    "use temp",
    "vacuum",
    "analyze",
    "prepare p as select 1",
    "execute p",
    "with d as (insert into journals.runs select * from runs returning *) select * from d",
    "with d as (update journals.runs set name = 'x' returning *) select * from d",
    "explain analyze update journals.runs set name = 'x'",
    "explain analyze drop view runs",
    "explain analyze copy runs to '{file}'",
    "explain analyze create table t as select 1",
    "explain analyze set threads = 1",
    "select * from query('copy runs to ''{file}''')",
    "select * from query('select 1; drop view runs')",
    "select * from json_execute_serialized_sql(json_serialize_sql('select * from read_text(''{file}'')'))",
    "select * from read_blob('{file}')",
    "select * from read_json('{file}')",
    "select * from read_parquet('{file}')",
    "select * from sniff_csv('{file}')",
    "select * from 'https://example.org/x.csv'",
    "select * from parquet_metadata('{file}')",
    'from "{file}"',
    "select * from duckdb_extensions(), read_text('{file}')",
    "import database '{file}'",
    "comment on view runs is 'x'",
    "alter view runs rename to r",
    "truncate journals.runs",
    "merge into journals.runs using runs on false when not matched then insert by name",
    "copy (select 1) to '/dev/stdout'",
    "reset threads",
    "select 1; select 2",
    "select 1; drop table runs",
    "",
    "select * from query('drop table runs')",
    "select * from json_execute_serialized_sql('{{}}')",
    "from json_execute_serialized_sql(json_serialize_sql('with d as (delete from journals.runs returning *) from d'))",
    "select (select count(*) from \"JSON_Execute_Serialized_SQL\"('{{}}'))",
    "from query('select 1')",
    "from query($$from json_execute_serialized_sql(json_serialize_sql('from runs'))$$)",
    "from destroy_external_resource('json_execute_serialized_sql', json_serialize_sql('from runs'))",
    "with d as (insert into journals.reread from query('select 1') returning *) from d",
    "explain analyze from query('select 1')",
    "/* /* */ explain select 1 -- */ explain analyze from query('select 1')",
    "-- \r explain analyze from query('select 1') -- \nexplain select 1",
    "explain (analyze /* ) select 1 -- */) from query('select 1')",
    "from checkpoint()",
    "update extensions",
    "pivot runs on status using count(*)",
    "-- nothing",
    "select '\ud800'",
    "select local_frame from local_frame",
    "selec 1",
    "select nothing from runs",
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tables]:
    """Tables of one run that many queries are put to: none of them changes anything."""
    workspace = Workspace(tmp_path_factory.mktemp("asked") / "runs")
    workspace.start("r")
    made = Tables(workspace.path, live_run_ids=lambda: workspace.live)
    yield made
    made.close()
    workspace.close()


@pytest.mark.parametrize("query", REFUSED)
def test_a_query_does_nothing_but_read(asked: Tables, tmp_path: Path, query: str) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    local_frame = asked.sql("select 42 as local_frame")
    assert len(local_frame) == 1
    with pytest.raises(InvalidInput):
        asked.sql(query.format(file=file))
    assert file.read_text() == "a,b\n1,2\n"
    assert asked.rows("select run_id, name from runs") == [("r", "r")]


@pytest.mark.parametrize(
    "query",
    [
        "from runs",
        "describe runs",
        "show tables",
        "summarize runs",
        "explain select * from runs",
        "EXPLAIN (analyze, format json) select * from runs",
        "explain analyze (select 1);",
        "select * from range(3), unnest([1, 2]), duckdb_tables()",
        "pivot runs on status in ('running') using count(*)",
        "select run_id as query from runs",
        "with a as (select 1 as x) select * from a",
        'select * from "runs"',
        "select count(*) from query_table('runs')",
    ],
)
def test_every_way_of_reading_is_welcome(asked: Tables, query: str) -> None:
    assert len(asked.sql(query)) > 0


def test_parameters_are_values_and_never_text(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r", name=HOSTILE)
    assert tables.sql("select run_id from runs where name = ?", [HOSTILE])["run_id"].tolist() == ["r"]
    assert tables.sql("select run_id from runs where name = $n", {"n": HOSTILE})["run_id"].tolist() == ["r"]
    with pytest.raises(InvalidInput):
        tables.sql("select ?", [object(), 2])


def test_an_unknown_table_is_answered_with_the_tables_there_are(asked: Tables) -> None:
    with pytest.raises(InvalidInput, match="the tables are runs, tasks, attempts"):
        asked.sql("select * from candidate")
    with pytest.raises(InvalidInput, match="the tables are runs, tasks, attempts"):
        asked.frame("candidate")
    with pytest.raises(InvalidInput, match="there is no run 'nope'"):
        asked.frame("tasks", "nope")
    with pytest.raises(InvalidInput, match=r"there is no run '\.\./runs/r'"):
        asked.frame("tasks", "../runs/r")
    with pytest.raises(InvalidInput, match="there is no run 'nope'"):
        asked.frame("workers", "nope")


def test_the_workers_of_any_run_are_the_labs(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    workspace.write("lab", WorkerJoined(worker_id="s/1", pid=4, host="h", slots=1, lanes=("process",)))
    assert tables.frame("workers", "r")["worker_id"].tolist() == ["s/1"]


def test_a_request_is_one_row_and_its_last_line_counts(workspace: Workspace, tables: Tables) -> None:
    def call(outcome: str, request: str, number: int = 0) -> LlmCall:
        return LlmCall(
            task_id="t", call=number, model="m", outcome=outcome, prompt_ref="p", prompt_sha256="x", request=request
        )

    workspace.start("r")
    workspace.write("r", call("unknown", "1.0"))
    assert tables.frame("llm_calls", "r")["outcome"].tolist() == ["unknown"]
    workspace.write("r", call("error", "1.0"), call("unknown", "1.1"), call("unknown", "1.0", 1))
    workspace.write("r", call("ok", "1.1"), call("cached", ""), call("cached", ""))
    calls = tables.frame("llm_calls", "r").sort_values(["call", "request"])
    assert sorted(calls["outcome"]) == ["cached", "cached", "error", "ok", "unknown"]


def test_a_query_that_takes_too_long_is_given_up(asked: Tables) -> None:
    with pytest.raises(InvalidInput, match=r"took longer than 0.05 s; ask for less"):
        asked.sql("select count(*) from range(10000000) a, range(10000000) b", timeout_s=0.05)
    assert len(asked.sql("from runs", timeout_s=60)) == 1
    for wrong in (0, -1, True, "1", float("nan"), float("inf"), 1e300):
        with pytest.raises(InvalidInput, match="timeout_s"):
            asked.sql("from runs", timeout_s=wrong)  # type: ignore[arg-type]


def test_ctrl_c_ends_a_query(asked: Tables) -> None:
    assert len(asked.sql("from runs")) == 1
    for query in ("select count(*) from range(10000000) a, range(10000000) b", "select pg_sleep(300)"):
        interrupter = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            asked.sql(query, timeout_s=20)
        interrupter.join()
    assert len(asked.sql("from runs")) == 1


def test_closed_tables_say_so(workspace: Workspace, tables: Tables) -> None:
    workspace.start("r")
    assert len(tables.frame("runs")) == 1
    tables.close()
    tables.close()
    with pytest.raises(LabError, match="closed with their lab"):
        tables.sql("select 1")


def test_the_database_itself_is_locked_whatever_a_query_looks_like(asked: Tables) -> None:
    settings = asked.sql("select name, value from duckdb_settings()").set_index("name")["value"]
    assert settings["enable_external_access"] == "false"
    assert settings["lock_configuration"] == "true"
    assert settings["python_enable_replacements"] == "false"
    assert settings["autoload_known_extensions"] == "false"
    assert not settings["temp_directory"]
