"""Nobody outlives who it works for.

Two ways, for two cases. `die_with_parent` asks the kernel for SIGKILL when the parent goes: it needs no cooperation,
not even the GIL, but reaches this process alone and is Linux's. `watch_lifeline` is a thread that waits for the other
end of a pipe to close and then kills this process's whole tree: it is portable and thorough, but needs the GIL once.

Neither uses `preexec_fn`: both are called by the new program itself, after it has started.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time

from epsilon_lab.processes.native import PR_SET_PDEATHSIG, prctl
from epsilon_lab.processes.tree import children, kill_tree

TAKES_LEAVE = "takes-leave"
"""An argument by which such a process is known."""

_LEAVE_S = 10.0


def die_with_parent(parent_pid: int) -> None:
    """Have this process killed when its parent dies; if the parent is gone already, exit at once.

    The kernel means the *thread* that started this process: start children from threads that live as long as they
    should, never from a pool's.

    Args:
        parent_pid: The parent's pid as the parent knows it.
    """
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the kernel was asked
        os._exit(1)


def watch_lifeline(fd: int = 0) -> threading.Thread:
    """Start a thread that kills this process and its tree when the other end of a pipe or socket is closed.

    The thread reads nothing, so the descriptor may carry data for others.
    """

    def watch() -> None:
        wait_for_hangup(fd)
        kill_tree(os.getpid())

    thread = threading.Thread(target=watch, name="lifeline", daemon=True)
    thread.start()
    return thread


def let_take_leave() -> None:
    """Wait some seconds for those children that end by themselves, and have something to end that is not below them."""
    until = time.monotonic() + _LEAVE_S
    for pid in children(os.getpid()):
        while is_taking_leave(pid) and time.monotonic() < until:
            time.sleep(0.01)


def is_taking_leave(pid: int) -> bool:
    """Tell whether a process is one of those, and lives."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return TAKES_LEAVE.encode() in file.read().split(b"\0")
    except OSError:
        return False


def wait_for_hangup(fd: int, *others: int) -> bool:
    """Wait until the other end of a pipe or socket is closed, or until one of other descriptors is readable.

    Returns:
        True if it was the hang-up.
    """
    poll = select.poll()
    poll.register(fd, 0)  # a hang-up is reported whether or not it is asked for
    for other in others:
        poll.register(other, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if fd in ready:
            return True
        if ready:
            return False
