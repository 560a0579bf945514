"""The same lab from a script: sync, async, and forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from epsilon_lab.testing.census import wait_until, wait_until_none

pytestmark = pytest.mark.kernel

SYNC = """
from epsilon_lab import Lab, WorkQueue
def double(item): return 2 * item
with Lab("runs", workers=1) as lab:
    print(lab.start(WorkQueue([1, 2, 3], double)).wait(60).results())
"""

ASYNC = """
import asyncio
from epsilon_lab import Lab, WorkQueue
async def double(item):
    await asyncio.sleep(0)
    return 2 * item
async def main():
    async with Lab("runs", workers=1) as lab:
        run = lab.start(WorkQueue([1, 2, 3], double))
        await run
        print(run.results())
asyncio.run(main())
"""

FORGOTTEN = """
from epsilon_lab import Lab, WorkQueue
def endless(item):
    while True: pass
lab = Lab("runs", workers=1)
lab.start(WorkQueue([1], endless))
print("the end")
"""

KILLED = FORGOTTEN.replace('print("the end")', 'print("started", flush=True)\ninput()')


@pytest.fixture
def place() -> Iterator[Path]:
    """A short directory; at the end nothing may be alive that belongs to it."""
    with tempfile.TemporaryDirectory(prefix="s-") as name:
        yield Path(name)
        wait_until_none(name, within_s=60)


def _start(code: str, place: Path) -> subprocess.Popen[str]:
    (place / "script.py").write_text(code)
    environment = {**os.environ, "TMPDIR": str(place)}
    pipe = subprocess.PIPE
    command = [sys.executable, "-W", "error", str(place / "script.py")]
    return subprocess.Popen(command, cwd=place, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize(("code", "printed"), [(SYNC, "[2, 4, 6]"), (ASYNC, "[2, 4, 6]"), (FORGOTTEN, "the end")])
def test_a_script_ends_by_itself(place: Path, code: str, printed: str) -> None:
    with _start(code, place) as script:
        stdout, stderr = script.communicate(timeout=120)
    assert (script.returncode, stdout.strip(), stderr) == (0, printed, "")


def test_a_killed_script_leaves_no_process(place: Path) -> None:
    with _start(KILLED, place) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "started\n"
        journals = [path for path in (place / "runs").glob("*/journal.ndjson") if path.parent.name != "lab"]
        assert wait_until(lambda: "task.assigned" in journals[0].read_text(), within_s=60)
        script.send_signal(signal.SIGKILL)
        script.wait(60)
    wait_until_none(place, within_s=60)
