"""A process and everything it started, as one thing that can be ended whole.

A process group is not enough: a program that forks twice and calls `setsid` survives `killpg` every time. So on Linux a
process that starts others becomes a *subreaper*: whatever loses its parent below it becomes its own child, and can
therefore be found. Killing goes from the top: the tree is stopped first, because a stopped process cannot fork and a
stopped parent reaps nothing, so no pid that was found can come to mean another process before it is killed.

On macOS there is neither a subreaper nor `/proc`: there the process group is killed, and what left it survives.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Container, Iterable
from contextlib import suppress

from epsilon_lab.processes.native import PR_SET_CHILD_SUBREAPER, prctl

_PATIENCE_S = 2.0
"""Seconds that something may go on living after it was killed."""

_LINUX = sys.platform == "linux"

_kept: set[int] = set()


def become_subreaper() -> bool:
    """Adopt every descendant that loses its parent, from now on. Returns False where the system knows no such thing."""
    if not _LINUX:
        return False
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    return True


def keep(pid: int) -> None:
    """Exempt a child of this process (and its own tree) from `reap_children`: a helper of ours, not of a task."""
    _kept.add(pid)


def forget(pid: int) -> None:
    """Take back `keep`; call it before the child's pid is reaped."""
    _kept.discard(pid)


def children(pid: int) -> list[int]:
    """Pids of a process's direct children, dead but unreaped ones too; empty if the process is gone."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found.extend(map(int, file.read().split()))
    return found


def descendants(pid: int) -> list[int]:
    """Pids of everything below a process, nearest first; a snapshot, which a fork may outrun."""
    found = children(pid)
    for one in found:  # it grows meanwhile
        found += children(one)
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is more than a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split(None, 1)[0] not in (b"Z", b"X")
    except OSError:
        if _LINUX:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _signal(pid: int, number: int) -> bool:
    """Send a signal; False if the process is not ours to signal (another user's, by way of a setuid program)."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    return True


def _end(roots: Iterable[int]) -> set[int]:
    """Stop the trees below and with these processes, then kill all of them; return who may not be killed."""
    stopped: dict[int, bool] = {}
    todo = list(roots)
    while todo:
        stopped.update((pid, _signal(pid, signal.SIGSTOP)) for pid in todo)
        # A parent that was stopped in the middle of a fork may show its child only in the next look.
        todo = [pid for root in list(stopped) for pid in children(root) if pid not in stopped and is_alive(pid)]
    return {pid for pid, was_ours in stopped.items() if not (was_ours and _signal(pid, signal.SIGKILL))}


def kill_descendants(pid: int, *, spare: Container[int] = ()) -> bool:
    """Kill everything below a process until nothing is left there; the process itself goes on.

    Args:
        pid: The process.
        spare: Direct children that are left alone, and what is below them.

    Returns:
        False if something is left that lives two seconds after it was killed (another user's process, or one that hangs
        in the kernel), or if ever new ones appear for twenty: on a busy machine a fork bomb may be ahead for a while.
    """
    began = time.monotonic()
    deadline = began + _PATIENCE_S
    immune: set[int] = set()
    seen: set[int] = set()
    while living := [p for p in children(pid) if p not in immune and p not in spare and is_alive(p)]:
        immune |= _end(living)
        now = time.monotonic()
        if not seen.issuperset(living):
            seen.update(living)
            deadline = min(now, began + 9 * _PATIENCE_S) + _PATIENCE_S
        if now > deadline:
            return False
        time.sleep(0.0002)  # death is prompt but not immediate
    return not immune


def kill_tree(pid: int) -> None:
    """Kill a process and everything it started, double-forked descendants too if it is a subreaper.

    It is the caller's to reap the process if it is its child. The caller's own tree may be killed this way as well:
    then the call does not return.
    """
    if _LINUX:
        if pid != os.getpid():
            _signal(pid, signal.SIGSTOP)
        kill_descendants(pid)
    with suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    _signal(pid, signal.SIGKILL)


def reap_children(*, kill: bool = True) -> int:
    """End what a task left behind, in a subreaper: every child of this process that is not kept, and all below them.

    Args:
        kill: Kill the living first; otherwise only the dead are reaped.

    Returns:
        How many children were reaped.
    """
    reaped = 0
    while not is_childless():
        if kill:
            kill_descendants(os.getpid(), spare=_kept)
        dead = [pid for pid in children(os.getpid()) if pid not in _kept and not is_alive(pid)]
        for pid in dead:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        reaped += len(dead)
        if not dead:
            break
    return reaped


def empty_namespace() -> None:
    """In the first process of a process namespace: end and reap every other one in it."""
    while not is_childless():
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        os.waitpid(-1, 0)


def is_childless() -> bool:
    """Tell in one system call what is nearly always true after a task."""
    if not _LINUX:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False
