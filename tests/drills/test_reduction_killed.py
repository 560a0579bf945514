"""kill -9 of the kernel while very many items are mapped and reduced, and `lab.resume` in another process.

Each execution writes its name down before it begins. What was on record at the kill is not executed again, and the
answer is that of a run nobody killed.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from epsilon_lab import Lab
from epsilon_lab.testing.census import wait_until

if TYPE_CHECKING:
    from tests.drills.conftest import Script

SCRIPT = """
import os, sys
from epsilon_lab import Lab, MapReduce, ShardedQueue

workspace, noted, shape = sys.argv[1:]

def note(name):
    with open(noted, "a") as file:
        file.write(name + "\\n")

def square(number):
    note(f"item-{number:06d}")
    if number % 100 == 7:
        raise ValueError("seven")
    return [number * number]

def joined(outputs):
    note("reduce")
    return [each for output in outputs for each in output]

def main():
    items = range(1500)
    wanted = MapReduce(items, square, joined) if shape == "map_reduce" else ShardedQueue(items, square, reduce=joined)
    with Lab(workspace, workers=2) as lab:
        known = lab.runs.get("drill")
        run = known or lab.start(wanted, name="drill")
        if run.status == "interrupted":
            run = lab.resume("drill")
        print(run.run_id, flush=True)
        run.wait()

main()
"""


def _done(place: Path) -> set[str]:
    with Lab(place / "runs", read_only=True) as lab:
        rows = lab.store.rows("select task_id from tasks where status in ('completed', 'failed')")
    return {name for (name,) in rows}


@pytest.mark.long
@pytest.mark.parametrize("shape", ["map_reduce", "sharded_queue"])
def test_what_was_done_at_a_kill_is_not_done_again_and_the_answer_is_one(
    shape: str, place: Path, start: Callable[..., Script]
) -> None:
    noted = place / "noted"
    noted.touch()

    def begin() -> Script:
        return start(place, "-c", SCRIPT, str(place / "runs"), str(noted), shape)

    def kill_after(lines: int) -> set[str]:
        script = begin()
        assert wait_until(lambda: noted.read_bytes().count(b"\n") > lines or script.poll() is not None, within_s=60)
        script.send_signal(signal.SIGKILL)
        script.communicate(timeout=60)
        return _done(place)

    done = [kill_after(lines) for lines in (400, 900)]
    before = Counter(noted.read_text().split())
    script = begin()
    _, said = script.communicate(timeout=120)
    assert (script.returncode, said) == (0, "")
    after = Counter(noted.read_text().split())
    assert done[0] <= done[1]
    assert len(done[1]) > 50
    assert {name for name in done[1] if after[name] != before[name]} == set()
    with Lab(place / "runs", read_only=True) as lab:
        run = lab.runs["drill"]
        assert run.output == [number * number for number in range(1500) if number % 100 != 7]
        assert run.reason == "1485 of 1500 items; 15 without output"
        assert len(run.failures) == 15
