"""How long a query takes, over a live run and over closed ones: `python benchmarks/tables.py [candidates] [runs]`.

Live: a run of 10,000 candidates goes on being written while it is asked: before every query twenty more candidates,
with their tasks, attempts and files, are committed, so each figure includes reading the tail. Beside them stands a bare
DuckDB query over the same rows, measured in the same minute.

Closed: 100 runs of 10,000 candidates, each with its task, and then 1,000 runs of ten. Each is asked first by a process
that has to read the journals, once without and once with a catalogue to write, and then by one that finds the
catalogue; the peak is that of the process. The canary is DuckDB alone with the catalogue's file. The goals: under 20 ms
over the live run, under 200 ms over the million.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
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
    RunEnded,
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


def live(count: int) -> None:
    """A run that goes on while it is asked."""
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


QUERIES = (
    "select count(*) from candidates",
    "select run_id, count(*), max(score) from candidates group by run_id",
    "select status, count(*) from tasks group by status",
    "select run_id, candidate_id, score from candidates order by score desc limit 50",
    "select * from candidates order by score desc limit 50",
    "select * from candidates where run_id = 'run-0003' order by score desc limit 50",
)


def leave(workspace: Path, runs: int, rows: int) -> int:
    """Write the journals of runs that are over; their bytes."""
    dice = random.Random(7)
    (workspace / "lab").mkdir(parents=True)
    for number in range(runs):
        run = RunDirectory(workspace / f"run-{number:04d}")
        run.path.mkdir()
        journal = Journal.open(run.journal)
        journal.append(0.0, RunStarted(run_id=run.run_id, topology="population_search", name=run.run_id))
        for start in range(0, rows, 100):
            some = range(start, min(start + 100, rows))
            journal.append(1.0, *_turn(some, dice))
            journal.commit()
        journal.append(2.0, RunEnded(status="completed", reason=""))
        journal.close()
    return sum(file.stat().st_size for file in workspace.glob("*/journal*"))


def _turn(some: range, dice: random.Random) -> Iterator[Body]:
    ids = [(f"g{i // 100:03d}-c{i % 100:03d}", f"evaluate-{i:06d}", i) for i in some]
    yield TasksSubmitted(
        tasks=tuple(
            TaskLine(task_id=name, kind="evaluate", lane="process", entry="x:y", payload=VALUE) for _, name, _ in ids
        )
    )
    yield TasksCompleted(
        worker_id="s/1",
        tasks=tuple(
            CompletedLine(task_id=name, attempt=1, fence=i, output=VALUE, started_at=1.0, ended_at=2.0)
            for _, name, i in ids
        ),
    )
    for name, _, i in ids:
        yield CandidateSettled(
            candidate_id=name, generation=i // 100, strategy=STRATEGIES[i % 3], parent_ids=("seed",),
            code_hash=f"{dice.getrandbits(256):064x}", score=dice.random(), scores={"seconds": dice.random()},
            feedback={"hint": "fewer passes"}, proposer="variation", source_ref=f"candidates/{name}.py",
            duration_s=dice.random(), cpu_s=0.2, peak_mb=31.0,
        )  # fmt: skip


def look(workspace: Path, *, writes: bool) -> None:
    """Ask as a process does that has just begun: the first query, then each of them again and again."""
    duckdb.sql("select 1").df()  # loads pandas, which is no matter of tables
    began, work = time.perf_counter(), time.process_time()
    tables = Tables(workspace, live_run_ids=tuple if writes else None)
    tables.sql(QUERIES[0])
    took, worked = (time.perf_counter() - began) * 1e3, (time.process_time() - work) * 1e3
    print(f"{took:10.1f} ms  the first query, processor {worked:.1f}; peak {_peak_mb():.0f} MB")
    for query in QUERIES:
        print(f"{_median_ms(partial(tables.sql, query)):10.1f} ms  {query}")
    print(f"{'':10}     peak {_peak_mb():.0f} MB")
    tables.close()


def _median_ms(ask: Callable[[], object]) -> float:
    took = []
    for _ in range(9):
        began = time.perf_counter()
        ask()
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


def _peak_mb() -> float:
    """Since this program began; `ru_maxrss` begins with what the parent had."""
    [line] = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def closed(runs: int, rows: int) -> None:
    """Runs that are over, asked by one process after another."""
    with tempfile.TemporaryDirectory(dir="out" if Path("out").is_dir() else None) as place:
        workspace = Path(place) / "runs"
        size = leave(workspace, runs, rows)
        print(f"\n{runs:,} closed runs of {rows:,} candidates and tasks each, journals {size / 1e6:.0f} MB")
        for what, option in (
            ("looks on, journals only", "--look"),
            ("reads the journals and writes the catalogue, if that is worth it", "--write"),
            ("with what that left", "--write"),
            ("looks on, with what that left", "--look"),
        ):
            print(what, flush=True)
            subprocess.run([sys.executable, __file__, option, str(workspace)], check=True)
        file = workspace / "lab" / "tables.duckdb"
        if file.exists():
            with duckdb.connect(str(file), read_only=True) as bare:
                canary = _median_ms(lambda: bare.execute(QUERIES[1]).df())
            print(f"{canary:10.1f} ms  canary: {QUERIES[1]}; the file has {file.stat().st_size / 1e6:.0f} MB")
        shutil.rmtree(workspace)


def main(candidates: int, runs: int) -> None:
    print(time.strftime("%Y-%m-%d %H:%M"), "load", *(f"{each:.1f}" for each in os.getloadavg()))
    live(candidates)
    closed(runs, 10_000)
    closed(10 * runs, 10)
    print(time.strftime("%Y-%m-%d %H:%M"), "load", *(f"{each:.1f}" for each in os.getloadavg()))


if __name__ == "__main__":
    if sys.argv[1:2] in (["--look"], ["--write"]):
        look(Path(sys.argv[2]), writes=sys.argv[1] == "--write")
    else:
        main(*(int(each) for each in [*sys.argv[1:], *("10000", "100")[len(sys.argv) - 1 :]]))
