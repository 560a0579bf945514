"""In a container, where no socket is inherited: its standard streams, made into the channel that a sandbox expects.

Two processes: the sandbox, and this one, which passes bytes on until either side closes and then ends both. The engine
closes our standard input when its client is gone, so a sandbox whose lab was killed ends by itself.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import socket

_READ = 1 << 18


def main(module: str) -> None:
    """Run `module.main(fd)` with a channel over standard input and output."""
    ours, theirs = socket.socketpair()
    served = os.fork()
    if served == 0:
        try:
            ours.close()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(2, 1)  # what it prints is its log
            importlib.import_module(module).main(theirs.detach())
        finally:
            os._exit(0)
    theirs.close()
    try:
        _pass_on(ours.fileno())
    finally:
        os.kill(served, signal.SIGKILL)
        os.waitpid(served, 0)


def _pass_on(channel: int) -> None:
    poll = select.poll()
    ways = {0: channel, channel: 1}
    for source in ways:
        poll.register(source, select.POLLIN)
    while True:
        for source, _ in poll.poll():
            part = os.read(source, _READ)
            if not part:
                return
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(ways[source], rest) :]
