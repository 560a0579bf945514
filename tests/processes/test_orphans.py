"""Nobody outlives who it works for."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

GRANDCHILD = """
import os, sys
from epsilon_lab.processes.orphans import die_with_parent, watch_lifeline
{guard}
print(os.getpid(), flush=True)
{body}
"""

PARENT = """
import os, signal, subprocess, sys
subprocess.Popen([sys.executable, "-c", {code!r}.replace("PARENT", str(os.getpid()))], stdin=subprocess.PIPE)
signal.pause()
"""


def outlives(guard: str, body: str) -> bool:
    """SIGKILL a process and tell whether its child is still there."""
    code = PARENT.format(code=GRANDCHILD.format(guard=guard, body=body))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    handle = os.pidfd_open(pid)
    try:
        parent.kill()
        parent.wait()
        lives = not select.select([handle], [], [], 60.0 if guard else 0.2)[0]
        if lives:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        return lives
    finally:
        os.close(handle)
        parent.stdout.close()


def test_without_a_guard_a_child_does_outlive_its_parent() -> None:
    """Else the tests below would prove nothing."""
    assert outlives("", "import signal; signal.pause()")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's own")
def test_die_with_parent_needs_no_gil() -> None:
    assert not outlives("die_with_parent(PARENT)", "sum(range(10**12))")


def test_die_with_parent_notices_a_parent_that_is_gone_already() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from epsilon_lab.processes.orphans import die_with_parent; die_with_parent(1 << 30)"],
        check=False,
    )
    assert done.returncode == 1


def test_a_lifeline_ends_a_process_that_is_busy() -> None:
    assert not outlives("watch_lifeline()", "while True: pass")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a subreaper")
def test_a_lifeline_ends_what_the_process_started_too() -> None:
    """The one that reports is the grandchild, in a session of its own."""
    body = "import signal; signal.pause()"
    guard = (
        "watch_lifeline()\n"
        "import subprocess\n"
        "subprocess.run([sys.executable, '-c', 'import os, signal; os.setsid(); print(os.getpid(), flush=True); "
        "signal.pause()'])"
    )
    assert not outlives(guard, body)


def test_a_lifeline_leaves_the_data_to_others() -> None:
    code = "from epsilon_lab.processes.orphans import watch_lifeline; watch_lifeline(); print(input(), flush=True)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("a line\n")
    process.stdin.flush()
    assert process.stdout.readline() == "a line\n"
    process.stdin.close()
    process.wait(60)
    process.stdout.close()
