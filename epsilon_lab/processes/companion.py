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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epsilon_lab.errors import LabError
from epsilon_lab.processes import tree
from epsilon_lab.processes.channel import Channel, ChannelClosed
from epsilon_lab.processes.container import find_engine, new_name, remove_command, start_command
from epsilon_lab.processes.environment import engine_environment

_ROOT = str(Path(__file__).resolve().parents[2])
_BOOT = """
import importlib, sys
sys.path.append(sys.argv[1])
importlib.import_module(sys.argv[2]).main(int(sys.argv[3]))
"""
_BOOT_IN_CONTAINER = """
import sys
from epsilon_lab.processes.relay import main
main(sys.argv[1])
"""
_NOBODY = "65534:65534"
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


@dataclass(frozen=True)
class Cage:
    """A container for a companion: without network, as nobody, with nothing to write to but a /tmp in memory."""

    image: str
    memory_mb: float
    processes: int
    temporary_mb: int


class Companion:
    """A child process running `module.main(fd)`.

    Start it from a thread that lives as long as it should: the kernel ties some companions to that thread.

    Args:
        module: The module whose `main` it runs.
        environment: All of its environment.
        cage: The container that it runs in; None: in none.

    Raises:
        NoEngine: No container engine answers.
    """

    def __init__(self, module: str, *, environment: dict[str, str], cage: Cage | None = None) -> None:
        self.module = module
        self._farewell: list[str] = []
        command = [sys.executable, "-P", "-c", _BOOT, _ROOT, module]
        if cage is not None:
            engine, name = find_engine(), new_name()
            self._farewell = remove_command(engine, name)
            variables = sorted(filter(_means_the_same, environment))
            command = start_command(
                engine, name, cage.image, ["python", "-P", "-c", _BOOT_IN_CONTAINER, module], user=_NOBODY,
                memory_mb=cage.memory_mb, processes=cage.processes, variables=variables,
                temporary_mb=cage.temporary_mb,
            )  # fmt: skip
            environment = environment | engine_environment()
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long as the companion
        try:
            self._process = subprocess.Popen(
                # -P: the working directory is no place to import from. Not -I, which would ignore PYTHONHASHSEED:
                # the order of a set is part of what a program computes.
                command if cage is not None else [*command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL if cage is None else theirs.fileno(),
                stdout=self._log if cage is None else theirs.fileno(),
                stderr=self._log,
                env=environment,
                pass_fds=[theirs.fileno()] if cage is None else [],
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
            if self._farewell:  # its container knows nothing of that
                subprocess.run(self._farewell, env=engine_environment(), capture_output=True, check=False)
        tree.forget(self.pid)
        with self._log:
            size = os.fstat(self._log.fileno()).st_size
            return os.pread(self._log.fileno(), _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace").strip()


def _means_the_same(variable: str) -> bool:
    """Whether a variable names no place of this machine's."""
    return "PATH" not in variable


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
