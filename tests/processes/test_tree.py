"""A process and everything it started end as one thing."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from epsilon_lab.processes import tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS has no subreaper: only the group is killed")

DOUBLE_FORK = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        print(os.getpid(), flush=True)
        signal.pause()
    os._exit(0)
os.wait()
"""


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def gone(pid: int, within_s: float = 60.0) -> bool:
    """Wait until a process that is not our child has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within_s)[0])
    finally:
        os.close(handle)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_kill_tree_ends_children_and_grandchildren(started: list[subprocess.Popen[str]]) -> None:
    process = start("""
        import os, signal
        for level in range(4):
            if os.fork():
                break
        os.write(1, f"{os.getpid()} ".encode() + bytes([10]))
        signal.pause()
    """)
    started.append(process)
    assert process.stdout is not None
    pids = [int(process.stdout.readline()) for _ in range(4)]
    tree.kill_tree(process.pid)
    assert process.wait(60) == -signal.SIGKILL
    assert all(gone(pid) for pid in pids)


def test_kill_tree_finds_what_forked_twice_below_a_subreaper(started: list[subprocess.Popen[str]]) -> None:
    """killpg alone never gets this one."""
    process = start(
        "from epsilon_lab.processes.tree import become_subreaper\nbecome_subreaper()\n"
        + DOUBLE_FORK
        + "signal.pause()\n"
    )
    started.append(process)
    assert process.stdout is not None
    escaped = int(process.stdout.readline())
    tree.kill_tree(process.pid)
    assert process.wait(60) == -signal.SIGKILL
    assert gone(escaped)


def test_kill_tree_outruns_a_fork_bomb(started: list[subprocess.Popen[str]]) -> None:
    process = start("""
        import os, resource, signal, sys
        from epsilon_lab.processes.tree import become_subreaper
        become_subreaper()
        if os.fork():
            print("armed", flush=True)
            signal.pause()
        os.setsid()
        generation = 0
        while generation < 2000:
            generation += 1
            if os.fork():
                os._exit(0)  # each lives for a moment, its child goes on
        signal.pause()
    """)
    started.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    tree.kill_tree(process.pid)
    assert process.wait(60) == -signal.SIGKILL
    assert select.select([process.stdout], [], [], 60)[0], "somebody is left who holds it"
    assert process.stdout.read() == ""  # end of file


def test_kill_tree_of_a_process_that_is_gone_is_nothing(started: list[subprocess.Popen[str]]) -> None:
    process = start("")
    started.append(process)
    process.wait(60)
    tree.kill_tree(process.pid)


def test_reap_children_ends_leftovers_and_spares_those_kept(started: list[subprocess.Popen[str]]) -> None:
    process = start(f"""
        import os, signal, subprocess, sys
        from epsilon_lab.processes import tree
        tree.become_subreaper()
        helper = subprocess.Popen(["sleep", "1000"])
        tree.keep(helper.pid)
        subprocess.Popen(["sleep", "1000"])
        subprocess.run([sys.executable, "-c", {DOUBLE_FORK!r}], stdout=subprocess.DEVNULL)
        print(tree.reap_children(), tree.children(os.getpid()) == [helper.pid], helper.poll(), flush=True)
        tree.forget(helper.pid)
        print(tree.reap_children(), tree.children(os.getpid()), flush=True)
    """)
    started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline().split() == ["2", "True", "None"]
    assert process.stdout.readline().split() == ["1", "[]"]
    assert process.wait(60) == 0


def test_is_alive_is_false_for_a_zombie() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not tree.is_alive(process.pid)
    process.wait()
    assert tree.is_alive(os.getpid())
