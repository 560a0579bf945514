"""A warm process of ours at the other end of a channel: started fresh, asked one thing at a time, replaced when lost.

It is always executed, never forked from a process with threads, and inherits one descriptor: its end of the channel.
It ends when that channel closes, so it cannot outlive the process that asks.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from epsilon_lab.errors import LabError
from epsilon_lab.processes import tree
from epsilon_lab.processes.channel import Channel, ChannelClosed

_ROOT = str(Path(__file__).resolve().parents[2])
_BOOT = """
import importlib, sys
sys.path.append(sys.argv[1])
importlib.import_module(sys.argv[2]).main(int(sys.argv[3]))
"""
_PARTING_S = 5.0
_TAIL = 2_000


class CompanionLost(LabError):
    """A companion ended or fell silent; it has been killed and its tree with it.

    Attributes:
        timed_out: It was alive, and gave no answer in time.
        tail: The last of what it wrote to stdout and stderr.
    """

    def __init__(self, message: str, *, timed_out: bool, tail: str) -> None:
        self.timed_out, self.tail = timed_out, tail
        super().__init__(message)


class Companion:
    """A child process running `module.main(fd)`.

    Start it from a thread that lives as long as it should: the kernel ties some companions to that thread.

    Args:
        module: The module whose `main` it runs.
        environment: All of its environment.
    """

    def __init__(self, module: str, *, environment: dict[str, str]) -> None:
        self.module = module
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as the companion
        try:
            self._process = subprocess.Popen(
                # -P: the working directory is no place to import from. Not -I, which would ignore PYTHONHASHSEED:
                # the order of a set is part of what a program computes.
                [sys.executable, "-P", "-c", _BOOT, _ROOT, module, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            self._log.close()
            raise
        finally:
            theirs.close()
        tree.keep(self._process.pid)
        self._channel = Channel(ours)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def call(self, message: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """Send a message and wait for the answer.

        Raises:
            CompanionLost: It ended, or gave no answer in `timeout_s` seconds. It is dead by then.
        """
        try:
            self._channel.send(message, timeout_s)
            return self._channel.receive(timeout_s)
        except TimeoutError:
            tail = self._end()
            raise CompanionLost(f"no answer in {timeout_s:g} s", timed_out=True, tail=tail) from None
        except ChannelClosed:
            tail = self._end(grace_s=_PARTING_S)
            raise CompanionLost(exit_reason(self._process.returncode), timed_out=False, tail=tail) from None

    def close(self) -> None:
        """End it and everything it started; at once, unless it does so itself."""
        self._channel.close()
        self._end(grace_s=_PARTING_S)

    def _end(self, grace_s: float = 0.0) -> str:
        """Reap it, with force after some seconds of grace; return the last of what it wrote."""
        self._channel.close()
        if self._log.closed:
            return ""
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            tree.kill_tree(self.pid)
            self._process.wait()
        tree.forget(self.pid)
        with self._log:
            size = os.fstat(self._log.fileno()).st_size
            return os.pread(self._log.fileno(), _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace").strip()


def exit_reason(returncode: int) -> str:
    """Say how a process ended, from its return code as `subprocess` gives it."""
    if returncode >= 0:
        return f"exit code {returncode}"
    return f"killed by {signal_name(-returncode)}"


def signal_name(number: int) -> str:
    """`SIGSEGV` for 11; the number where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
