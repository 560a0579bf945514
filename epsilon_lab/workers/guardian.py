"""The process above each child: whoever dies first, nothing the child started is left.

A child cannot see to that itself. If it is killed, what its tasks started is orphaned, and the supervisor cannot find
it; if the kernel process is killed, a child that holds the GIL cannot even run a thread. The guardian runs no user
code. It adopts what the child leaves (it is a subreaper), waits for the child's end or for the lifeline, a pipe from
the supervisor, to close, ends the tree, and then ends in the same way as the child did, so that the supervisor sees
`SIGSEGV` where there was one.

It forks the child before anything heavy is imported, so it stays as small as an interpreter can be.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
from contextlib import suppress

from epsilon_lab.processes import tree
from epsilon_lab.processes.orphans import die_with_parent, let_take_leave, wait_for_hangup


def main(lock: int | None = None) -> None:
    """Be the guardian of one child.

    Args:
        lock: A descriptor to keep from the child, and open until nothing of it is left.

    Descriptor 0 is the lifeline, and carries what the child is told first.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # jupyter signals whole groups; only the lifeline counts
    tree.become_subreaper()
    wake, alarm = os.pipe()
    for end in (wake, alarm):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    guardian = os.getpid()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        for fd in (wake, alarm, *([] if lock is None else [lock])):
            os.close(fd)
        die_with_parent(guardian)
        gc.disable()  # nothing that is imported goes again, and looking for it took a tenth of the start
        work = importlib.import_module("epsilon_lab.workers.child").main
        gc.freeze()
        gc.enable()
        work()
        return
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(child, signal.SIGINT))  # the task it names is to stop
    status: int | None = None
    while status is None:
        if wait_for_hangup(0, wake):
            os._exit(_end(child))
        with suppress(BlockingIOError):
            os.read(wake, 4096)
        status = _reap(child)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    let_take_leave()
    tree.reap_children()
    _end_likewise(status)


def _reap(child: int) -> int | None:
    """Take in the dead; return the child's wait status if it was among them."""
    found = None
    with suppress(ChildProcessError):
        while (dead := os.waitpid(-1, os.WNOHANG))[0]:
            if dead[0] == child:
                found = dead[1]
    return found


def _end(child: int) -> int:
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)  # what it started is adopted here
    os.waitpid(child, 0)
    let_take_leave()
    tree.reap_children()
    return 0


def _end_likewise(status: int) -> None:
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child has written its core, if any is wanted
        number = os.WTERMSIG(status)
        with suppress(OSError, ValueError):  # SIGKILL has no handler
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))
