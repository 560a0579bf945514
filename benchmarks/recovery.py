"""How long it takes to take up a run again: `python benchmarks/recovery.py [records] [tasks in a turn]`.

The journal is what a work queue leaves whose tasks are handed out and come back so many at a time; what comes back and
what is handed out next are one turn, so with one, the worst there is, every task has two lines and a group of its own.
Measured is what `lab.resume` does before the broker has the run: read, make the rules again, put every line to them,
open the journal for writing.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from epsilon_lab.messages.events import (
    CompletedLine,
    RunStarted,
    TasksAssigned,
    TasksCompleted,
    TasksSubmitted,
    task_line,
)
from epsilon_lab.messages.values import StoredValue
from epsilon_lab.topologies.catalogue import restore
from epsilon_lab.topologies.engine import RunState, Start, Submit
from epsilon_lab.topologies.recovery import beginning, recover
from epsilon_lab.topologies.work_queue import WorkQueue
from epsilon_lab.workspace.journal import Journal, read_journal
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.tables import Tables

LEFT = 3
"""Tasks that were under way when the lab ended."""


def double(item: int) -> int:
    return 2 * item


def leave(run: RunDirectory, tasks: int, batch: int) -> None:
    """Write what a lab leaves that was killed shortly before the end."""
    queue = WorkQueue(range(tasks), double)
    plan, events = queue.prepare(run)
    journal = Journal.open(run.journal)
    journal.append(0.0, RunStarted(run_id=run.run_id, topology="work_queue", name="q", config=queue.config()), *events)
    [submit] = [e for e in RunState(run.run_id, plan).step(Start(), 0.0) if isinstance(e, Submit)]
    journal.append(0.0, TasksSubmitted(tasks=tuple(map(task_line, submit.tasks))))
    output, fence = StoredValue(json=msgspec.Raw(b"123456")), 1 << 40
    for begin in range(0, tasks, batch):
        some = [(task.task_id, 1, fence + begin + n) for n, task in enumerate(submit.tasks[begin : begin + batch])]
        now = 1_000.0 + begin / 10_000
        journal.append(now, TasksAssigned(worker_id="local-77-1/w1", tasks=tuple(some)))
        journal.commit()  # together with what came back
        done = tuple(
            CompletedLine(task_id=name, attempt=1, fence=fence, output=output, started_at=now, ended_at=now + 0.25)
            for name, _, fence in some
            if begin + batch < tasks - LEFT
        )
        if done:
            journal.append(now + 0.25, TasksCompleted(worker_id="local-77-1/w1", tasks=done))
    journal.close()


def main(records: int, batch: int) -> None:
    with tempfile.TemporaryDirectory(dir="out" if Path("out").is_dir() else None) as place:
        run = RunDirectory(Path(place) / "run")
        run.path.mkdir()
        leave(run, records * batch // 2, batch)
        size = sum(file.stat().st_size for file in run.path.glob("journal*")) / 1e6
        took: dict[str, float] = {}
        began, wall = time.process_time(), time.perf_counter()

        def lap(what: str) -> None:
            took[what] = time.process_time() - began - sum(took.values())

        read = read_journal(run.journal)
        lap("read")
        started = beginning(run.run_id, read.records)
        plan = restore(run, started, read.records)
        lap("restore")
        found = recover(run.run_id, plan, read.records, read=run.fetch)
        lap("recover")
        Journal.open(run.journal, after=read.end).close()
        lap("open")
        wall = time.perf_counter() - wall
        laps = ", ".join(f"{what} {seconds:.2f}" for what, seconds in took.items())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{len(read.records):,} records, {records * batch // 2:,} tasks, {batch} a turn, {size:.0f} MB", end=": ")
        print(f"{wall:.2f} s, processor {sum(took.values()):.2f} ({laps}); {len(found.left)} left; peak {peak:.0f} MB")
        began = time.perf_counter()
        tables = Tables(place)
        tables.sql("select count(*) from tasks")
        print(f"the same as tables: {time.perf_counter() - began:.2f} s")
        tables.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
