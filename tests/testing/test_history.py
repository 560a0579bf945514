"""A history outlives whoever wrote it."""

import os
import signal
import subprocess
import sys

from epsilon_lab.testing.history import History, check, read


def test_lines_of_a_killed_process_are_read_and_its_torn_line_is_passed_over(tmp_path):
    code = f"""
import os, signal
from epsilon_lab.testing.history import History
history = History({str(tmp_path)!r})
history.note("submit", "a")
history.note("acknowledge", "a")
history.note("start", "a")
history.note("end", "a", "mark")
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    (theirs,) = tmp_path.glob("*.history")
    with theirs.open("ab") as file:
        file.write(b'{"kind":"accept","task":"a","at":1.0,"val')
    History(tmp_path).note("accept", "a", "mark")
    verdict = check(read(tmp_path))
    assert verdict.broken == {}
    assert (verdict.acknowledged, verdict.accepted, verdict.executions) == (1, 1, 1)
    assert {event.by for event in read(tmp_path)} == {theirs.stem, str(os.getpid())}
