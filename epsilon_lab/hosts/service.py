"""A core in a process of its own: it answers kernels' commands, and ends when it is told to or nobody needs it.

Its own loop, on the main thread, serves the control socket and the signals; the core has its two threads as in a
kernel. What a command waits for (a journal that is read, a run that ends) holds up no other. A command that is no
command, or that fails, is refused by name, and the loop goes on.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.hosts.commands import (
    LENGTH,
    Adopt,
    Adopted,
    Announce,
    Answer,
    Attach,
    Await,
    Command,
    Done,
    Drain,
    End,
    Look,
    Order,
    Question,
    Standing,
    Steer,
    Terms,
    decode_command,
    encode,
    length_of,
    refusal,
)
from epsilon_lab.hosts.core import Core
from epsilon_lab.settings import broker_settings
from epsilon_lab.topologies.engine import Pause, Resume, Stop, Tell
from epsilon_lab.topologies.plan import Cancel, Prioritise
from epsilon_lab.transport.zeromq import private_address
from epsilon_lab.workspace.layout import SIDECAR_LOG

_LOOK_S = 0.5
"""Seconds between looks at whether anybody needs it, and at the log's size."""

_LOG_LIMIT = 1 << 20
_LOG_KEPT = 1 << 16
_GONE = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Service:
    """One workspace's sidecar.

    Args:
        core: What does the work; the caller closes it.
        terms: What it was started with.
        linger_s: Seconds to stay while nothing is live and nobody is attached; None to stay for ever.
        log: The file that descriptor 2 appends to, if it is to be kept short.
    """

    def __init__(self, core: Core, terms: Terms, *, linger_s: float | None = None, log: Path | None = None) -> None:
        self._core = core
        self._terms = terms
        self._linger_s = linger_s
        self._log = log
        self._attached = 0
        self._torn = core.torn
        self._ends: dict[str, anyio.Event] = {}
        self._over = anyio.Event()

    async def serve(self, control: str, ready: Callable[[], object]) -> None:
        """Answer until it is over.

        Args:
            control: Path of the socket.
            ready: Called once kernels can attach.
        """
        async with (
            await anyio.create_unix_listener(control, mode=0o600) as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(self._watch_signals)
            group.start_soon(self._watch_need)
            group.start_soon(listener.serve, self._converse)
            ready()
            await self._over.wait()
            group.cancel_scope.cancel()

    async def _watch_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for _ in signals:
                self._over.set()

    async def _watch_need(self) -> None:
        """End once nobody has needed it for some seconds, or it has broken down."""
        needed = anyio.current_time()
        while self._core.failure is None:
            await anyio.sleep(_LOOK_S)
            if self._log is not None:
                _cut(self._log)
            now = anyio.current_time()
            if self._attached or self._core.live():
                needed = now
            if self._linger_s is not None and now - needed >= self._linger_s:
                break
        self._over.set()

    async def _converse(self, stream: SocketStream) -> None:
        async with stream:
            with suppress(*_GONE):
                try:
                    command = await _receive(stream)
                    if isinstance(command, Attach):
                        await self._attend(command, stream)
                        return
                    answer = await self._answer(command, stream)
                except _GONE:  # it has nothing more to say, or to hear
                    return
                except LabError as error:
                    answer = refusal(error)
                except Exception as error:  # noqa: BLE001 - one command's mistake ends no other, and no run
                    answer = refusal(LabError(f"{type(error).__name__} in the sidecar: {error}"))
                await stream.send(encode(answer))

    async def _attend(self, attach: Attach, stream: SocketStream) -> None:
        """Count a kernel as attached for as long as its connection stands."""
        self._refuse_other(attach)
        if self._over.is_set():  # it waits for the end, and starts another
            return
        self._attached += 1
        try:
            torn, self._torn = self._torn, 0
            await stream.send(encode(msgspec.structs.replace(self._standing(), torn=torn)))
            await _hang_up(stream)
        finally:
            self._attached -= 1

    async def _answer(self, command: Question, stream: SocketStream) -> Answer:
        match command:
            case Look():
                return self._standing()
            case Announce(run_id=run_id):
                await anyio.to_thread.run_sync(self._core.announce, _a_run(run_id))
                return self._standing()
            case Adopt():
                return await anyio.to_thread.run_sync(self._adopt, command)
            case Steer(run_id=run_id, said=said):
                stimulus = said if isinstance(said, Pause | Resume | Stop | Prioritise | Cancel) else Tell(said)
                return Done(await anyio.to_thread.run_sync(self._core.obey, run_id, stimulus))
            case Await(run_id=run_id):
                return Done(await self._await_end(run_id, stream))
            case Drain(worker=worker):
                await anyio.to_thread.run_sync(self._core.drain, worker)
                return Done()
            case End():
                self._over.set()
                return Done()

    def _refuse_other(self, attach: Attach) -> None:
        """Refuse a kernel that insists on other terms."""
        for name in attach.insists_on:
            asked, given = getattr(attach.terms, name, None), getattr(self._terms, name, None)
            if asked != given:
                raise InvalidInput(
                    name,
                    f"the sidecar of this workspace, process {os.getpid()}, has {name}={given!r}, not {asked!r}",
                    f"leave it out, or end that sidecar first: "
                    f"python -m epsilon_lab broker {shlex.quote(str(self._core.path))} --stop",
                )

    def _standing(self) -> Standing:
        return Standing(
            pid=os.getpid(),
            terms=self._terms,
            endpoint=self._core.endpoint,
            near=self._core.near,
            live=self._core.live(),
            trouble=self._core.trouble,
            at_work=tuple(self._core.workers()),
            room=self._core.room,
            stats=self._core.stats(),
        )

    def _adopt(self, command: Adopt) -> Adopted:
        _a_run(command.run_id)
        # Async leaves read keys and import modules in this process, as they would in the kernel.
        os.environb.update(command.environment)
        sys.path += [path for path in command.place.sys_path if path not in sys.path]
        environ = {os.fsdecode(name): os.fsdecode(value) for name, value in command.environment.items()}
        live = self._core.resume(
            command.run_id, trust=command.trust, place=command.place, news=command.news, environ=environ
        )
        return Adopted(live.name, live.topology, live.runs_strangers, live.torn)

    async def _await_end(self, run_id: str, stream: SocketStream) -> bool:
        ended = self._ends.get(run_id)
        if ended is None:
            live = self._core.at(run_id)
            if live is None:
                return False
            ended = self._ends[run_id] = anyio.Event()
            loop = asyncio.get_running_loop()
            live.runner.done.add_done_callback(
                lambda _: loop.is_closed() or loop.call_soon_threadsafe(self._ended, run_id)
            )
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, stream, group.cancel_scope)
            await ended.wait()
            group.cancel_scope.cancel()
        return True

    def _ended(self, run_id: str) -> None:
        self._ends.pop(run_id).set()


def _a_run(run_id: str) -> str:
    if run_id in ("", "lab", "..") or run_id != Path(run_id).name:
        raise InvalidInput("run_id", f"must be the name of a run directory, got {run_id!r}")
    return run_id


async def _receive(stream: SocketStream) -> Command:
    buffered = BufferedByteReceiveStream(stream)
    length = length_of(await buffered.receive_exactly(LENGTH.size))
    return decode_command(await buffered.receive_exactly(length))


async def _hang_up(stream: SocketStream) -> None:
    """Wait until the other end is gone; it has nothing more to say."""
    with suppress(*_GONE):
        while True:
            await stream.receive()


async def _cancel_when_gone(stream: SocketStream, scope: anyio.CancelScope) -> None:
    await _hang_up(stream)
    scope.cancel()


def serve(
    workspace: Path,
    terms: Terms,
    *,
    linger_s: float | None = None,
    log: Path | None = None,
    ready: Callable[[], object],
) -> None:
    """Be a workspace's sidecar, on the main thread, until a signal, a command or want of need ends it.

    Args:
        workspace: The workspace; made where it is missing.
        terms: What it is started with.
        linger_s: Seconds to stay while nothing is live and nobody is attached; None to stay for ever.
        log: The file that descriptor 2 appends to, if it is to be kept short.
        ready: Called once kernels can attach.

    Raises:
        WorkspaceLocked: Another process has the workspace.
        LabError: It cannot be opened, or the core broke down.
    """
    settings = broker_settings(os.environ)
    with ExitStack() as stack:
        address = stack.enter_context(private_address(is_lasting=True))
        control = str(Path(address.removeprefix("ipc://")).with_name("control"))
        core = Core(
            workspace,
            workers=terms.workers,
            durability=terms.durability,
            settings=settings,
            address=address,
            control=control,
            bind=terms.bind,
        )
        stack.callback(core.close)
        service = Service(core, terms, linger_s=linger_s, log=log)
        anyio.run(service.serve, control, ready)
    if core.failure is not None:
        raise LabError(f"the sidecar broke down: {core.failure}") from core.failure


def serve_quietly(words: str) -> None:
    """The same for a kernel, which is told once whether it came to be; then nothing is said but to the log.

    Args:
        words: The JSON of an `Order`.

    Raises:
        LabError: It broke down after that.
    """
    faulthandler.enable()
    order = msgspec.json.decode(words, type=Order)
    is_open = True

    def say(answer: Answer) -> None:
        nonlocal is_open
        if is_open:
            is_open = False
            os.write(order.ready, encode(answer))
            os.close(order.ready)

    try:
        serve(
            Path(order.workspace),
            order.terms,
            linger_s=order.linger_s,
            log=Path(order.workspace, SIDECAR_LOG),
            ready=lambda: say(Done()),
        )
    except LabError as error:
        if not is_open:
            raise
        say(refusal(error))


def _cut(log: Path) -> None:
    """Cut a log that has become long down to its tail."""
    with suppress(OSError):  # someone has removed it
        if log.stat().st_size > _LOG_LIMIT:
            with log.open("rb") as file:
                file.seek(-_LOG_KEPT, os.SEEK_END)
                tail = file.read()
            os.ftruncate(2, 0)
            os.write(2, tail)
