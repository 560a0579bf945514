"""The guards of conftest.py are themselves tested: each kind of leftover fails the test that left it, and no other."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from epsilon_lab.testing.census import living

CONFTEST = Path(__file__).parents[1] / "conftest.py"

SAMPLES = """
import asyncio, socket, subprocess, sys, threading
import pytest

kept = []

def test_threads():
    threading.Thread(target=threading.Event().wait, args=(30,), daemon=True, name="left-thread").start()

def test_child_processes():
    worker = "input()  # epsilon_lab.workers.guardian"
    kept.append(subprocess.Popen([sys.executable, "-c", worker], stdin=subprocess.PIPE))

def test_orphaned_processes(tmp_path):
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)  # epsilon_lab.workers.guardian']"
    apart = f"subprocess.Popen({sleeper}, start_new_session=True, cwd={str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", "import subprocess, sys; " + apart], check=True)

def test_unfinished_asyncio_tasks():
    loop = asyncio.new_event_loop()
    kept.extend([loop, loop.create_task(asyncio.Event().wait())])
    loop.run_until_complete(asyncio.sleep(0))

def test_descriptors():
    kept.append(socket.socketpair())

def test_asyncio_complaints():
    loop = asyncio.new_event_loop()
    loop.call_exception_handler({"message": "something went unseen"})
    loop.close()

def test_offline():
    with socket.socket() as outward, pytest.raises(PermissionError, match="tests are offline"):
        outward.connect(("192.0.2.1", 80))

def test_tidy(tmp_path):
    (tmp_path / "file").write_text("tidy")
    subprocess.run([sys.executable, "-c", ""], check=True)
    worker = threading.Thread(target=print)
    worker.start()

@pytest.mark.long
def test_long():
    pass
"""

RunSamples = Callable[..., str]


@pytest.fixture
def run_samples(tmp_path: Path) -> RunSamples:
    """Run the samples under a copy of our conftest whose patience is short, in a session of its own."""
    (tmp_path / "conftest.py").write_text(re.sub(r"SETTLE_S = .*", "SETTLE_S = 0.3", CONFTEST.read_text(), count=1))
    (tmp_path / "test_samples.py").write_text(SAMPLES)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = long: long\naddopts = -p no:cacheprovider -p no:nbval\n")

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=line", "--basetemp", str(tmp_path / "base")]
        done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        for pid in living(tmp_path):
            os.kill(pid, signal.SIGKILL)
        return done.stdout

    return run


def test_a_leftover_fails_the_test_that_left_it_and_no_other(run_samples: RunSamples) -> None:
    report = run_samples()
    errors = set(re.findall(r"^ERROR \S+::test_(\w+)", report, re.MULTILINE))
    assert errors == {
        "threads",
        "child_processes",
        "orphaned_processes",
        "unfinished_asyncio_tasks",
        "descriptors",
        "asyncio_complaints",
    }, report
    for what in errors:
        assert f"left behind: {what.replace('_', ' ')}: " in report
    assert "8 passed, 1 skipped, 6 errors" in report
    assert "run with --long" in report


def test_the_long_form_runs_when_asked_for(run_samples: RunSamples) -> None:
    assert "1 passed" in run_samples("--long", "-k", "long")
