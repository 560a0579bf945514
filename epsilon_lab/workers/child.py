"""The loop that takes tasks and answers: one task at a time, in this thread, in the order assigned.

A child has the kernel's `sys.path` and working directory and never imports the kernel's `__main__`. It is told where to
go in one line on its standard input, and who it is in a second one, so that a spare can be started, with everything
imported, before it is needed.

A task is answered at once, unless tasks just like it have taken next to no time lately: then the answers of a few
milliseconds travel together, unless a limit of time is on them or on the task that comes, because the broker takes the
first unanswered task for the one that is running. Which task has begun is written where the supervisor sees it, so an
answer that is lost with its process is a task done again, and never a task blamed for the next one's crash.
"""

from __future__ import annotations

import faulthandler
import os
import socket
from contextlib import closing

import msgspec

from epsilon_lab.broker.client import Peer
from epsilon_lab.messages.frames import Hello
from epsilon_lab.processes import tree
from epsilon_lab.workers.afar import dial, find_runs
from epsilon_lab.workers.batch import Batch
from epsilon_lab.workers.capture import Capture
from epsilon_lab.workers.execution import OpenRunDirectory, local_run
from epsilon_lab.workers.grants import Grants
from epsilon_lab.workers.interruption import Interruption
from epsilon_lab.workers.orders import Identity, Orders, take_up
from epsilon_lab.workers.place import Whereabouts
from epsilon_lab.workers.progress import Progress


def serve(peer: Peer, progress: Progress, capture: Capture, open_run: OpenRunDirectory = local_run) -> None:
    """Greet the broker, then work for ever."""
    me, whereabouts, grants = os.getpid(), Whereabouts(), Grants()
    interruption = Interruption(progress)
    batch = Batch(peer)
    peer.before_waiting = batch.send

    def beside() -> None:
        batch.send_late()
        peer.tend()

    capture.beside = beside
    progress.ready()  # first: whoever was greeted may have to be told of our death
    peer.greet()
    while True:
        while not peer.tasks:
            capture.watch(busy=False)
            peer.poll(None)
            peer.receive()
        capture.watch(busy=True)
        while (assignment := peer.take()) is not None:
            progress.started(assignment.fence)
            whereabouts.go(assignment.run_dir if open_run is local_run else "")
            grants.give(assignment.env)
            answer = interruption.execute(assignment, capture, peer, open_run)
            if os.getpid() != me:  # the task forked, and came back from both; the work here is not the fork's
                os._exit(0)
            tree.reap_children()
            batch.add(answer, assignment.task)  # a process that cannot even answer any more was spoilt by this task
            progress.ended()


def main() -> None:
    """Be a child: take orders from standard input, then serve."""
    with open(0, "rb", closefd=False, buffering=0) as lines:
        orders = msgspec.json.decode(lines.readline(), type=Orders)
        take_up(orders)
        tree.become_subreaper()
        faulthandler.enable(file=2)
        capture = Capture()
        identity = msgspec.json.decode(lines.readline() or b"null", type=Identity | None)
    if identity is None:  # the supervisor went before this spare was needed
        return
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # `input()` in a task meets the end of the file; the guardian keeps the lifeline
    os.close(null)
    with closing(dial(orders.address, identity.peer_id, orders.afar)) as dialer:
        hello = Hello(pid=os.getpid(), host=socket.gethostname(), lanes=("process",), slots=1)
        peer = Peer(dialer, hello)
        serve(peer, Progress(orders.progress_fd), capture, find_runs(peer, orders.afar))
