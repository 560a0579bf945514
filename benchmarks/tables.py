"""How long a query takes over a live run: `python benchmarks/tables.py [candidates]`.

A run of 10,000 candidates goes on being written while it is asked: before every query twenty more candidates, with
their tasks, attempts and files, are committed, so each figure includes reading the tail. Beside them stands a bare
DuckDB query over the same rows, measured in the same minute.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import duckdb
import msgspec

from epsilon_lab.messages.events import (
    ArtifactSaved,
    Body,
    CandidateSettled,
    CompletedLine,
    RunStarted,
    TaskLine,
    TasksAssigned,
    TasksCompleted,
    TasksSubmitted,
)
from epsilon_lab.messages.values import StoredValue
from epsilon_lab.views.snapshot import Observer
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.tables import Tables

VALUE = StoredValue(json=msgspec.Raw(b'{"score":1.0}'))
STRATEGIES = ("fresh", "diverse", "offspring")


def happens(index: int) -> Iterator[Body]:
    """What a candidate leaves in the journal."""
    name, task_id = f"g{index // 100:03d}-c{index % 100:03d}", f"evaluate-{index:06d}"
    line = TaskLine(task_id=task_id, kind="evaluate", lane="process", entry="epsilon_lab.search:x", payload=VALUE)
    done = CompletedLine(task_id=task_id, attempt=1, fence=index, output=VALUE, started_at=1.0, ended_at=2.0)
    yield TasksSubmitted(tasks=(line,))
    yield TasksAssigned(worker_id="s/1", tasks=((task_id, 1, index),))
    yield ArtifactSaved(path=f"candidates/{name}.py", kind="source", sha256="0" * 64, bytes=900, task_id=task_id)
    yield TasksCompleted(worker_id="s/1", tasks=(done,))
    yield CandidateSettled(
        candidate_id=name, generation=index // 100, strategy=STRATEGIES[index % 3], parent_ids=("seed",),
        code_hash="0" * 64, score=index % 97 / 7, scores={"seconds": 0.25}, feedback={"hint": "fewer passes"},
        checked=index % 97 == 96 or None, proposer="variation", source_ref=f"candidates/{name}.py",
        duration_s=0.25, cpu_s=0.2, peak_mb=31.0,
    )  # fmt: skip


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as workspace:
        run = RunDirectory(Path(workspace) / "live")
        run.path.mkdir()
        journal = Journal.open(run.journal)
        config: dict[str, object] = {"population": 100, "generations": 200, "elites": 0}
        journal.append(0.0, RunStarted(run_id="live", topology="population_search", name="live", config=config))
        written = 0

        def write(more: int) -> None:
            nonlocal written
            for index in range(written, written + more):
                journal.append(time.time(), *happens(index))
            written += more
            journal.commit()

        write(count)
        tables = Tables(workspace, live_run_ids=lambda: ["live"])
        began = time.perf_counter()
        tables.sql("select count(*) from candidates")
        size = run.journal.stat().st_size / 1e6
        print(f"{count:,} candidates, journal {size:.1f} MB; first look {time.perf_counter() - began:.2f} s")

        def measure(what: str, ask: Callable[[], object], *, tail: int = 20) -> None:
            took, worked = [], []
            for _ in range(15):
                if tail:
                    write(tail)
                began, work = time.perf_counter(), time.process_time()
                ask()
                took.append((time.perf_counter() - began) * 1e3)
                worked.append((time.process_time() - work) * 1e3)
            middle, work = statistics.median(took), statistics.median(worked)
            print(f"{middle:7.1f} ms, worst {max(took):6.1f}, processor {work:5.1f}   {what}")

        few = "select candidate_id, generation, strategy, score, outcome from candidates"
        measure(few, lambda: tables.sql(few))
        measure("  the same, nothing new", lambda: tables.sql(few), tail=0)
        bare = duckdb.connect(":memory:")
        bare.register("rows", tables.sql("select * from candidates"))
        bare.execute("create table candidates as select * from rows")
        measure("  the same, bare DuckDB", lambda: bare.execute(few).df(), tail=0)
        bare.close()
        for query in (
            "select strategy, count(*), max(score) from candidates group by strategy",
            "select * from candidates order by score desc limit 10",
            "select status, count(*) from tasks group by status",
            "select * from candidates",
        ):
            measure(query, partial(tables.sql, query))
        measure('frame("candidates"), JSON decoded', lambda: tables.frame("candidates", "live"))
        observer = Observer(tables, run)
        measure("a panel's snapshot", observer)
        measure("a panel's snapshot, nothing new", observer, tail=0)
        tables.close()
        journal.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
