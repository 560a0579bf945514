"""A worker on another machine: the supervisor and the async lane that a lab has of its own, in a process of their own.

It shares no file system with the lab. Its children dial the lab's broker themselves, with the same key file; what
they read of a run is copied over, and what they write is handed over. It has the modules and the working directory of
its own machine: what a task needs of the kernel's own travels with the task.

The broker may go away and come back at the same address: what runs goes on meanwhile, and is taken up where it still
counts. If it stays away for `give_up_s`, the worker ends, and its children with it; so they do when it dies.
"""

from __future__ import annotations

import secrets
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import anyio
from anyio.from_thread import start_blocking_portal

from epsilon_lab.agents import llm
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.ids import REMOTE
from epsilon_lab.processes.scratch import Scratch
from epsilon_lab.transport import curve
from epsilon_lab.transport.keys import read_client_key
from epsilon_lab.workers.afar import Afar
from epsilon_lab.workers.leaves import AsyncLane
from epsilon_lab.workers.supervisor import Supervisor

_LONGEST_NAME = 64


class RemoteWorker:
    """One session of a lab, from elsewhere.

    Args:
        address: Where the lab is reached, `lab.endpoint`.
        key_file: `worker.key`, as the lab made it.
        slots: Child processes, each running one task at a time.
        name: What it is called in `lab.workers`; None for the host's name.
        give_up_s: Seconds without reaching the lab, after which it ends.

    Raises:
        InvalidInput: An argument is wrong, or the key file is not good.
    """

    def __init__(
        self,
        address: str,
        key_file: Path,
        *,
        slots: int = 1,
        name: str | None = None,
        give_up_s: float = 300.0,
    ) -> None:
        curve.checked(address)
        read_client_key(key_file)
        title = socket.gethostname() if name is None else name
        if not title.isprintable() or "/" in title or not 0 < len(title) <= _LONGEST_NAME:
            raise InvalidInput("name", f"must be up to {_LONGEST_NAME} printable characters without '/', got {title!r}")
        if not give_up_s > 0:
            raise InvalidInput("give_up_s", f"must be more than 0 seconds, got {give_up_s}")
        self.session = f"{REMOTE}{title}-{secrets.token_hex(2)}"
        self._address = address
        self._key_file = key_file.absolute()
        self._slots = slots
        self._give_up_s = give_up_s
        self._was_told_to_stop = False

    def run(self, say: Callable[[str], object]) -> None:
        """Work until drained, or told to stop. Call it from the main thread: it takes SIGTERM and SIGINT.

        Args:
            say: Told what is worth a line: where it is at work, that it is leaving.

        Raises:
            LabError: The lab does not admit the key, speaks another version, or has been gone for too long.
            KeyboardInterrupt: SIGINT, or a second SIGTERM; what ran is ended and given back.
        """
        with ExitStack() as stack:
            scratch = Scratch({}, None)
            stack.callback(scratch.remove)
            afar = Afar(key_file=str(self._key_file), mirror=scratch.path)
            leaves = stack.enter_context(start_blocking_portal("asyncio", name="lab-leaves"))
            lane = AsyncLane(self._address, f"{self.session}/leaves", afar=afar)
            stack.callback(leaves.call, llm.aclose)
            leaving = leaves.start_task_soon(lane.serve)
            stack.callback(leaving.cancel)
            supervisor = Supervisor(self._address, self.session, self._slots, afar=afar, give_up_s=self._give_up_s)
            try:
                anyio.run(self._serve, supervisor, say)
            except BaseExceptionGroup as errors:
                raise _reason(errors) from errors
        if self._was_told_to_stop:
            raise KeyboardInterrupt

    async def _serve(self, supervisor: Supervisor, say: Callable[[str], object]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._heed_signals, supervisor, say, group.cancel_scope)
            group.start_soon(self._tell, supervisor, say)
            await supervisor.serve()
            group.cancel_scope.cancel()

    async def _heed_signals(
        self, supervisor: Supervisor, say: Callable[[str], object], scope: anyio.CancelScope
    ) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            is_leaving = False
            async for number in signals:
                if is_leaving or number == signal.SIGINT:
                    self._was_told_to_stop = True
                    scope.cancel()
                    return
                is_leaving = True
                supervisor.drain()
                say("takes nothing more, and ends once what has begun is finished; again to end now")

    async def _tell(self, supervisor: Supervisor, say: Callable[[str], object]) -> None:
        await supervisor.welcomed.wait()
        say(f"at work as {self.session}")


def _reason(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What is worth telling of what went wrong at once."""
    error: BaseException = errors.subgroup(LabError) or errors
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
