"""The work of a lab in a process of its own, as a kernel holds it: the same things a core does, asked for by command.

The sidecar is found by what the workspace's lock says of its holder, and started where nobody has the workspace. From
then on an attached kernel holds one connection, which says that it is there; each command has one of its own, so that
threads never wait for each other and an interrupted cell leaves nothing half read.

A run that is handed over is a run whose lab died in its first turn: the kernel prepares the directory and writes the
first lines, up to the tasks that the rules submit first, and the sidecar goes on from there as from any crash.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

import msgspec

import epsilon_lab
from epsilon_lab.broker.members import WorkerRow
from epsilon_lab.broker.stats import Glance, Stats
from epsilon_lab.clock import SystemClock
from epsilon_lab.errors import BadFrame, LabError, SidecarLost, WorkspaceError, WorkspaceLocked
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
    Refusal,
    Said,
    Standing,
    Steer,
    Terms,
    decode_answer,
    encode,
    length_of,
    raised,
)
from epsilon_lab.messages.cases import Finalise
from epsilon_lab.messages.events import Body, RunStarted, TaskLine, TasksSubmitted, TasksWaiting, task_line
from epsilon_lab.topologies.engine import RunState, Start, Stimulus, Submit, Tell
from epsilon_lab.topologies.plan import Emit, Plan, Requeue, Revise, Write
from epsilon_lab.workers.place import Place
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import SIDECAR_LOG, RunDirectory
from epsilon_lab.workspace.lock import Holder, holder_of

T = TypeVar("T")

LINGER_S = 10.0
"""Seconds that a sidecar stays when nothing runs and nobody is attached: a kernel that restarts finds it there."""

_PATIENCE_S = 2.0
"""Seconds that whoever can do without an answer waits for it."""

_ANSWER_S = 5.0
"""Seconds in which one that is well has answered whoever looks."""

_START_S = 60.0
_END_S = 30.0
_LOOK_S = 0.02
_ROOT = str(Path(epsilon_lab.__file__).resolve().parents[1])
_BOOT = "import sys; sys.path.append({root!r}); from epsilon_lab.hosts.daemon import main; main()"


class Sidecar:
    """A workspace's sidecar, attached to. Methods may be called from any thread.

    Args:
        path: The workspace; made where it is missing.
        terms: What to start it with where there is none.
        insists_on: Names of the terms that a running one has to have too.

    Attributes:
        pid: Its process id.
        terms: What it was started with.
        endpoint: Where workers reach its broker: from other machines, where it is bound to an address for them.
        near: Where this machine's own reach it.
        torn: Bytes that were cut off the end of the lab's own journal, if nobody was told before.
        threads: None of the kernel's belong to it.

    Raises:
        WorkspaceLocked: A kernel has the workspace, or a sidecar on another machine.
        InvalidInput: A running sidecar has other terms than are insisted on.
        WorkspaceError: The directory cannot be written to.
        LabError: The sidecar does not start; the message has what it said.
    """

    threads: frozenset[int] = frozenset()

    def __init__(self, path: Path, terms: Terms, insists_on: Iterable[str] = ()) -> None:
        self.path = path
        self._clock = SystemClock()
        self._presence, standing = _attach(path, Attach(terms, tuple(insists_on)))
        self.pid, self.terms = standing.pid, standing.terms
        self.endpoint, self.near = standing.endpoint, standing.near
        self.torn = standing.torn
        self._live = standing.live
        self._address = cast(str, self._presence.getpeername())

    def __repr__(self) -> str:
        return f"<Sidecar of {str(self.path)!r}: process {self.pid}>"

    def __str__(self) -> str:
        if self.failure is not None:
            return f"its sidecar, process {self.pid}, has ended"
        return f"{self.terms.workers} workers in sidecar process {self.pid}"

    def close(self) -> None:
        """Detach; what runs goes on."""
        self._presence.close()

    @property
    def failure(self) -> SidecarLost | None:
        """That the sidecar has ended; None while it is there."""
        try:
            is_lost = not self._presence.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:  # nothing to read: it is there
            return None
        except OSError:
            is_lost = True
        return SidecarLost(str(self.path), self.pid) if is_lost else None

    # -- runs --------------------------------------------------------------------------------------------------------

    def live(self) -> dict[str, str]:
        """The runs it is at: run id -> name. None once it has ended; as last known while it does not answer."""
        try:
            self._live = self._ask(Look(), Standing, _PATIENCE_S).live
        except SidecarLost:
            self._live = {}
        except TimeoutError:
            pass
        return self._live

    def is_at(self, run_id: str) -> bool:
        """Tell whether a run is live in it."""
        return run_id in self.live()

    def begin(self, run: RunDirectory, plan: Plan, started: RunStarted, events: Sequence[Body]) -> None:
        """Write a run's first lines, and hand it over.

        Raises:
            InvalidInput: A live run has its name.
            WorkspaceError: Its journal cannot be written.
            SidecarLost: The sidecar ended; whether it has the run, the run's journal says.
        """
        opening = self._opening(run, plan)
        journal = Journal.open(run.journal, self.terms.durability)
        try:
            journal.append(self._clock.wall(), started, *events, *opening)
            journal.commit()
        finally:
            journal.close()
        self.resume(run.run_id, trust=False)

    def _opening(self, run: RunDirectory, plan: Plan) -> list[Body]:
        """What a run's rules write as it begins, up to the last task they submit, and a broker with so much room."""
        room, weight = self._ask(Announce(run.run_id), Standing).room, 0
        effects = RunState(run.run_id, plan).step(Start(), 0.0)
        submits = [place for place, effect in enumerate(effects) if isinstance(effect, Submit)]
        lines: list[Body] = []
        taken: list[TaskLine] = []
        held: list[TaskLine] = []
        for effect in effects[: max(submits, default=-1) + 1]:
            match effect:
                case Submit(tasks=tasks):
                    for task in tasks:
                        weight += len(task.payload.data)
                        fits = not held and len(taken) < room.tasks and weight <= room.payload_bytes
                        (taken if fits else held).append(task_line(task))
                case Write(ref=ref, text=text, kind=kind):
                    lines.append(run.save(ref, text, kind=kind))
                case Emit(body=body):
                    lines.append(body)
        lines += [TasksSubmitted(tasks=tuple(taken))] if taken else []
        lines += [TasksWaiting(tasks=tuple(held))] if held else []
        return lines

    def resume(self, run_id: str, *, trust: bool, news: Requeue | Revise | Finalise | None = None) -> Adopted:
        """Have it go on with a run, unless it does; with tasks to take up again, one that is over too.

        Raises:
            LabError: As `Core.resume`.
            SidecarLost: The sidecar ended.
        """
        adopted = self._ask(Adopt(run_id, trust, Place.here(), dict(os.environb), news), Adopted)
        self._live = {**self._live, run_id: adopted.name}
        return adopted

    def obey(self, run_id: str, stimulus: Stimulus) -> bool:
        """Tell a live run what a person says; it is on record then. False where there is no such live run."""
        said = stimulus.news if isinstance(stimulus, Tell) else stimulus
        return self._ask(Steer(run_id, cast(Said, said)), Done).is_so

    def drain(self, worker: str) -> None:
        """Let a worker on another machine finish what it has begun, and go.

        Raises:
            InvalidInput: There is no such worker, or it is one of the sidecar's own.
        """
        self._ask(Drain(worker), Done)

    def await_end(self, run_id: str, timeout_s: float | None) -> None:
        """Wait until a run has ended, or the sidecar has, or the time is up."""
        with suppress(TimeoutError, SidecarLost):
            self._ask(Await(run_id), Done, timeout_s)

    async def ended(self, run_id: str) -> None:
        """Wait for the same from a coroutine of asyncio."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as line, suppress(OSError):
            line.setblocking(False)
            await loop.sock_connect(line, self._address)
            await loop.sock_sendall(line, encode(Await(run_id)))
            await loop.sock_recv(line, 1)

    # -- looking -----------------------------------------------------------------------------------------------------

    def workers(self) -> list[WorkerRow]:
        """Who is at work; `last_seen` in wall seconds."""
        return list(self._look().at_work)

    def stats(self) -> Stats:
        """What waits and what runs, and what happened since it began."""
        return self._look().stats

    def glance(self) -> Glance:
        """All that a live view shows, by one question."""
        standing = self._look()
        return Glance(standing.stats, list(standing.at_work), standing.live)

    @property
    def trouble(self) -> str:
        """Why nothing is begun; empty while all is well."""
        try:
            return self._ask(Look(), Standing, _PATIENCE_S).trouble
        except TimeoutError:
            return self._silence(_PATIENCE_S)

    def _look(self) -> Standing:
        try:
            return self._ask(Look(), Standing, _ANSWER_S)
        except TimeoutError:
            raise LabError(self._silence(_ANSWER_S)) from None

    def _silence(self, seconds: float) -> str:
        return (
            f"the sidecar of {str(self.path)!r}, process {self.pid}, has not answered for {seconds:g} s: it is busy, "
            f"or stopped. If it stays so, kill -9 {self.pid} ends it, and lab.resume() goes on with what it was at"
        )

    def _ask(self, command: Command, kind: type[T], timeout_s: float | None = None) -> T:
        if (failure := self.failure) is not None:
            raise failure
        try:
            return _expect(kind, _ask(self._address, command, timeout_s))
        except TimeoutError:
            raise
        except OSError as error:
            raise SidecarLost(str(self.path), self.pid) from error


def end_sidecar(path: Path) -> int | None:
    """End a workspace's sidecar in good order and wait until it is gone.

    Returns:
        Its process id; None where there is none.

    Raises:
        LabError: It is another machine's, or does not end.
    """
    holder = holder_of(path)
    if holder.control is None or holder.is_gone():
        return None
    _refuse_elsewhere(path, holder)
    until = time.monotonic() + _END_S
    with suppress(OSError):  # it is ending already, or does not answer
        _expect(Done, _ask(holder.control, End(), _END_S))
    while not holder.is_gone():
        if time.monotonic() > until:
            raise LabError(
                f"the sidecar of {str(path)!r}, process {holder.pid}, does not end; "
                f"kill -9 {holder.pid} does it, and lab.resume() goes on with what it was at"
            )
        time.sleep(_LOOK_S)
    return holder.pid


def _attach(path: Path, attach: Attach) -> tuple[socket.socket, Standing]:
    """Attach to the sidecar that has the workspace; start one where nobody has it."""
    until = time.monotonic() + _START_S
    while True:
        holder = holder_of(path)
        if holder.control is None or holder.is_gone():
            try:
                _start(path, attach)
            except WorkspaceLocked:
                if holder_of(path).control is None:  # else by a sidecar that someone else has just started
                    raise
            continue
        _refuse_elsewhere(path, holder)
        try:
            return _connect(holder.control, attach)
        except OSError as error:  # it is starting, or ending
            if time.monotonic() > until:
                raise LabError(
                    f"the sidecar of workspace {str(path)!r}, process {holder.pid}, does not answer ({error}); "
                    f"look on: Lab({str(path)!r}, read_only=True), or end it: kill -9 {holder.pid}"
                ) from error
        time.sleep(_LOOK_S)


def _refuse_elsewhere(path: Path, holder: Holder) -> None:
    if not holder.is_here:
        raise WorkspaceLocked(str(path), holder.pid, holder.host, is_sidecar=True)


def _connect(address: str, attach: Attach) -> tuple[socket.socket, Standing]:
    line = socket.socket(socket.AF_UNIX)
    try:
        line.settimeout(_START_S)
        line.connect(address)
        line.sendall(encode(attach))
        standing = _expect(Standing, _receive(line))
        line.settimeout(None)
        return line, standing
    except BaseException:
        line.close()
        raise


def _start(path: Path, attach: Attach) -> None:
    """Start a sidecar, and wait until it can be attached to."""
    log = path / SIDECAR_LOG
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise WorkspaceError(
            f"workspace {str(path)!r} cannot be written to ({error.strerror}); "
            f"name a directory you may write to, or look on: Lab({str(path)!r}, read_only=True)"
        ) from error
    ready, theirs = os.pipe()
    order = Order(workspace=str(path), terms=attach.terms, linger_s=LINGER_S, ready=theirs)
    try:
        began = os.fstat(said).st_size
        boot = subprocess.run(  # it forks and ends: the sidecar is no child of the kernel's
            [sys.executable, "-P", "-c", _BOOT.format(root=_ROOT), msgspec.json.encode(order)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=[theirs],
            start_new_session=True,
            check=False,
        )
        os.close(theirs)
        theirs = -1
        word = _read_word(ready) if boot.returncode == 0 else b""
    finally:
        for handle in (said, ready, theirs):
            if handle >= 0:
                os.close(handle)
    if not word:
        tail = log.read_bytes()[began:].decode(errors="replace").strip()[-2_000:]
        raise LabError(f"the sidecar of workspace {str(path)!r} does not start: {tail or 'it said nothing'}")
    _expect(Done, decode_answer(word))


def _read_word(ready: int) -> bytes:
    """What a new sidecar says, once: that it is ready, or why not. Nothing where it died, or is too slow."""
    word = b""
    until = time.monotonic() + _START_S
    while select.select([ready], [], [], max(0.0, until - time.monotonic()))[0]:
        part = os.read(ready, 65536)
        if not part:
            return word[LENGTH.size :]
        word += part
    return b""


def _ask(address: str, command: Command, timeout_s: float | None = None) -> Answer:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout_s)
        line.connect(address)
        line.sendall(encode(command))
        return _receive(line)


def _receive(line: socket.socket) -> Answer:
    return decode_answer(_exactly(line, length_of(_exactly(line, LENGTH.size))))


def _exactly(line: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = line.recv(size - len(found))
        if not part:
            raise ConnectionResetError("the other end is gone")
        found += part
    return bytes(found)


def _expect(kind: type[T], answer: Answer) -> T:
    if isinstance(answer, Refusal):
        raise raised(answer)
    if not isinstance(answer, kind):
        raise BadFrame(f"the sidecar answered with {type(answer).__name__}, where {kind.__name__} was expected")
    return answer
