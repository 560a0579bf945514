"""The process that a history is about: it submits small queues until it is told that it is enough, and may be killed.

    python submitter.py PLACE DURABILITY HOST [FAILPOINT]

If there is a file `far`, workers elsewhere may come.
Started again in the same place, it takes up what was left and goes on. A test says that it is enough by a file of that
name; the process then waits for its runs and ends. What was asked, promised and executed is in `PLACE/history`.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from random import Random

from epsilon_lab import Lab, WorkQueue
from epsilon_lab.testing.history import History

ITEMS = 24
LIVE = 3
"""Queues that are in the broker's hands at once."""


def work(item: tuple[History, str, float]) -> str:
    """Take some time, and say so; the output tells this execution from any other."""
    import os
    import time

    history, name, seconds = item
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    history.note("start", name)
    time.sleep(seconds)
    history.note("end", name, mark)
    return mark


def main(place: Path, durability: str, host: str) -> None:
    history = History(place / "history")
    warnings.filterwarnings("ignore", "the last .* bytes of .* were lines that a crash had cut short")
    bind = "tcp://127.0.0.1:0" if (place / "far").exists() else None
    with Lab(place / "runs", workers=2, durability=durability, broker=host, bind=bind) as lab:
        left = lab.sql("select run_id from runs where status in ('running', 'interrupted') order by started_at")
        live = [lab.resume(run_id) for run_id in left["run_id"]]  # one that is live is given back as it is
        (place / "endpoint.part").write_text(lab.endpoint)
        (place / "endpoint.part").rename(place / "endpoint")
        while not (place / "enough").exists():
            if len(live) >= LIVE:
                live.pop(0).wait(60)
            number = len(list(place.glob("batch-*")))
            batch = place / f"batch-{number:04d}"
            batch.touch()  # a name is used once, whatever became of its batch
            dice = Random(number)
            items = [
                (history, f"{batch.name}/{n}", dice.choice((0.0, 0.001, 0.001, 0.005, 0.05))) for n in range(ITEMS)
            ]
            for _, name, _ in items:
                history.note("submit", name)
            live.append(lab.start(WorkQueue(items, work), name=batch.name))
            for _, name, _ in items:
                history.note("acknowledge", name)
        for run in live:
            run.wait(60)


if __name__ == "__main__":
    place, durability, host, *failpoint = sys.argv[1:]
    if failpoint:
        import failpoints

        failpoints.arm(*failpoint)
    main(Path(place), durability, host)
