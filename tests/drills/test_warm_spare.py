"""kill -9 of a worker: its task begins again in a child that was waiting, warm; how soon, is printed."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from epsilon_lab import Lab, WorkQueue
from epsilon_lab.testing.census import descendants, wait_until

KILLS = 9


def _calm() -> Callable[[], bool]:
    """Tells whether nobody below this process has had anything to do for a while: the spare has got up."""
    looks: list[bool] = []

    def look() -> bool:
        states = []
        for process in descendants(os.getpid()):
            with suppress(OSError):  # it has ended meanwhile
                states.append(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0])
        looks.append(len(states) >= 4 and set(states) == {"S"})
        return len(looks) >= 5 and all(looks[-5:])

    return look


def test_a_killed_workers_task_begins_again_at_once(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def work(item: int) -> int:
        """Say when, and stay, the first time."""
        is_first = not begun.exists() or f"\n{item} " not in f"\n{begun.read_text()}"
        with begun.open("a") as file:
            file.write(f"{item} {os.getpid()} {time.monotonic()}\n")
        if is_first:
            time.sleep(1000)
        return item

    def lines() -> list[list[str]]:
        return [line.split() for line in begun.read_text().splitlines(keepends=True) if line.endswith("\n")]

    waits = []
    with Lab(tmp_path / "runs", workers=1) as lab:
        for item in range(KILLS):
            run = lab.start(WorkQueue([item], work))
            assert wait_until(lambda item=item: begun.exists() and len(lines()) == 2 * item + 1, within_s=60)
            assert wait_until(_calm(), within_s=60)
            _, pid, _ = lines()[-1]
            killed = time.monotonic()
            os.kill(int(pid), signal.SIGKILL)
            assert run.wait(60).results() == [item]
            _, _, again = lines()[-1]
            waits.append(float(again) - killed)
    shown = ", ".join(f"{1000 * wait:.0f}" for wait in sorted(waits))
    median = statistics.median(waits)
    print(f"\nkill -9 of a worker to its task's next start: median {1000 * median:.0f} ms ({shown})")
    assert median < 5.0, "a cold start takes less"
