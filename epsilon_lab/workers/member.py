"""One child as its supervisor holds it: the process, its lifeline, what it printed, which task it had started.

Processes are started by executing an interpreter anew: a Jupyter kernel has threads and must never be forked. They are
started from the thread of the supervisor's loop, because the kernel may tie a process to the thread that started it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

import epsilon_lab
from epsilon_lab.processes.companion import exit_reason
from epsilon_lab.processes.tree import kill_tree
from epsilon_lab.workers import orders
from epsilon_lab.workers.afar import Afar
from epsilon_lab.workers.capture import open_tail, read_tail
from epsilon_lab.workers.progress import open_progress, read_progress, write_unwanted

_ROOT = str(Path(epsilon_lab.__file__).resolve().parents[1])
_BOOT = "import sys; sys.path.append({root!r}); from epsilon_lab.workers.guardian import main; main({lock})"


class Member:
    """A child process and its guardian.

    Args:
        address: The broker's.
        environment: All of the child's environment.
        lock: A descriptor that the guardian keeps, and the child does not get.
        afar: For a broker on another machine.
    """

    def __init__(
        self,
        address: str,
        environment: Mapping[str, str],
        lock: int | None = None,
        afar: Afar | None = None,
    ) -> None:
        self.peer_id = ""
        self.sentence = ""
        """Why it was killed, if it was on purpose."""

        self._stdout, self._stderr, self._progress = open_tail(), open_tail(), open_progress()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT.format(root=_ROOT, lock=lock)],
            stdin=subprocess.PIPE,
            stdout=self._stdout,
            stderr=self._stderr,
            pass_fds=(self._progress.fileno(), *([] if lock is None else [lock])),
            env=dict(environment),
            start_new_session=True,
            bufsize=0,
        )
        self._tell(orders.give(address, self._progress.fileno(), afar))

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return self._process.poll() is not None

    @property
    def is_ready(self) -> bool:
        """Whether it came as far as greeting the broker."""
        return read_progress(self._progress.fileno())[1]

    @property
    def fence(self) -> int:
        """Of the task it has started; 0 if it is between two."""
        return read_progress(self._progress.fileno())[0]

    @property
    def tails(self) -> tuple[str, str]:
        """The last of its stdout and stderr."""
        return read_tail(self._stdout.fileno()), read_tail(self._stderr.fileno())

    @property
    def reason(self) -> str:
        """How it ended, for people."""
        if self.sentence:
            return self.sentence
        how = exit_reason(self._process.returncode)
        return f"{how} (by someone, or by the system for want of memory)" if how == "killed by SIGKILL" else how

    def employ(self, peer_id: str) -> None:
        """Let it greet the broker under this id."""
        self.peer_id = peer_id
        self._tell(orders.Identity(peer_id=peer_id))

    async def ended(self) -> None:
        """Wait until its process is gone."""
        if self.has_ended:
            return
        if hasattr(os, "pidfd_open"):
            handle = os.pidfd_open(self._process.pid)
            try:
                await anyio.wait_readable(handle)
            finally:
                os.close(handle)
            self._process.wait()
        else:  # macOS
            await anyio.to_thread.run_sync(self._process.wait, abandon_on_cancel=True)

    def interrupt(self, fence: int) -> None:
        """Ask the task under this fence to stop, if that is the one under way."""
        write_unwanted(self._progress.fileno(), fence)
        self._process.send_signal(signal.SIGUSR1)  # its guardian passes it on

    async def kill(self, why: str) -> None:
        """End it and everything it started."""
        self.sentence = why
        await anyio.to_thread.run_sync(kill_tree, self._process.pid)

    def release(self) -> None:
        """Close the lifeline: its guardian ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def close(self, patience_s: float = 2.0) -> None:
        """End it, with force if it does not go, and give back what it held."""
        self.release()
        with anyio.move_on_after(patience_s):
            await self.ended()
        if not self.has_ended:
            await self.kill("closing")
            await self.ended()
        for file in (self._stdout, self._stderr, self._progress):
            file.close()

    def _tell(self, what: orders.Orders | orders.Identity) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is gone already, which is found out soon
            self._process.stdin.write(msgspec.json.encode(what) + b"\n")
