"""A session: a supervisor keeps a number of children at work, and tells the broker about those that die.

It runs no user code, so its beats go out whatever the tasks do. It knows of a death at once, from the process and not
from a lease: the broker hears which task had been started, and a spare that was waiting with everything imported takes
the place. The first spare starts with the first beat, when the processors have got those up that work waits for; a lab
that is open for a moment has none. Children that do not even start are tried again ever more slowly, and `failure` says
why.
"""

from __future__ import annotations

import itertools
import math
import os
import socket
from collections.abc import Iterable
from contextlib import closing, suppress

import anyio

from epsilon_lab.broker.client import Peer
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.messages.frames import Drained, Hello, Interrupt, Kill, Welcome
from epsilon_lab.processes.environment import worker_environment
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.workers.afar import Afar, dial
from epsilon_lab.workers.member import Member

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_PATIENT_STARTS = 2
"""Starts that may go wrong in a row before it is called a failure."""


class Supervisor:
    """Child processes of one session.

    Args:
        address: The broker's.
        session: The session's id; its peers are `<session>/boss` and `<session>/w1`, `<session>/w2` ...
        workers: How many children are at work.
        settings: For the beat, until the broker says its own.
        env: Names of environment variables that tasks get although they look like secrets.
        lock: A descriptor that guardians inherit and keep for as long as anything of their child is left.
        afar: For a broker on another machine.
        give_up_s: Seconds without reaching the broker, after which it ends.

    Attributes:
        failure: Why workers do not start, with what they said last; empty while they do.
        welcomed: Set once the broker knows this session.

    Raises:
        InvalidInput: `workers` is not an int of at least 1.
    """

    def __init__(
        self,
        address: str,
        session: str,
        workers: int,
        *,
        settings: BrokerSettings | None = None,
        env: Iterable[str] = (),
        lock: int | None = None,
        afar: Afar | None = None,
        give_up_s: float = math.inf,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise InvalidInput("workers", f"must be an int of at least 1, got {workers!r}")
        self.failure = ""
        self.welcomed = anyio.Event()
        self._address = address
        self._session = session
        self._workers = workers
        self._settings = settings or BrokerSettings()
        self._env = tuple(env)
        self._lock = lock
        self._afar = afar
        self._numbers = itertools.count(1)
        self._members: set[Member] = set()
        self._spare: Member | None = None
        self._bad_starts = 0
        self._peer: Peer | None = None
        self._is_draining = False
        self._give_up_s = give_up_s

    def drain(self) -> None:
        """Take nothing more, finish what has begun, and end; from the thread that serves."""
        self._is_draining = True
        if self._peer is not None:
            self._peer.drain()

    async def serve(self) -> None:
        """Keep children at work until cancelled or drained; then say goodbye and end them all.

        Raises:
            LabError: The broker does not let this session in, speaks another version, or has been gone for too long.
        """
        with closing(dial(self._address, f"{self._session}/boss", self._afar)) as dialer:
            self._peer = peer = Peer(dialer, Hello(pid=os.getpid(), host=socket.gethostname()))
            peer.greet()
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._beat, peer)
                    for _ in range(self._workers):
                        group.start_soon(self._fill_a_place, peer)
                    await self._listen(peer)
                    group.cancel_scope.cancel()
            finally:
                with anyio.CancelScope(shield=True):
                    with suppress(LabError):  # nobody listens
                        peer.bye()
                    await self._end_all()

    async def _beat(self, peer: Peer) -> None:
        seen = anyio.current_time()
        while True:
            await anyio.sleep(peer.welcome.beat_s if peer.welcome is not None else self._settings.beat_s)
            if peer.is_up:
                seen = anyio.current_time()
                peer.renew()
            elif peer.refusal:
                raise LabError(peer.refusal)
            elif anyio.current_time() - seen > self._give_up_s:
                raise LabError(f"{self._address} has not been reached for {self._give_up_s:g} s; is the lab open?")
            if any(member.is_ready for member in self._members):
                self.failure = ""
            if self._spare is None and not self._bad_starts:
                self._spare = self._start()

    async def _listen(self, peer: Peer) -> None:
        """Do as the broker says, until it says that this session may go."""
        async with anyio.create_task_group() as group:
            async for message in peer:
                match message:
                    case Kill():
                        for member in self._members:
                            if member.peer_id == message.member and not member.sentence:
                                group.start_soon(member.kill, message.reason)
                    case Interrupt():
                        for member in self._members:
                            if member.peer_id == message.member:
                                member.interrupt(message.fence)
                    case Welcome():
                        self.welcomed.set()
                        if self._is_draining:  # it may be another broker, who was not told
                            peer.drain()
                    case Drained():
                        return

    async def _fill_a_place(self, peer: Peer) -> None:
        """One child after another."""
        while True:
            member = self._take()
            member.employ(f"{self._session}/w{next(self._numbers)}")
            await member.ended()
            await self._mourn(peer, member)

    def _take(self) -> Member:
        """The spare, whom another follows, or a fresh one.

        A spare that died unseen is found out as soon as it is at its place.
        """
        if self._spare is None:
            return self._start()
        spare, self._spare = self._spare, None if self._bad_starts else self._start()
        return spare

    def _start(self) -> Member:
        member = Member(self._address, worker_environment(self._env), self._lock, self._afar)
        self._members.add(member)
        return member

    async def _mourn(self, peer: Peer, member: Member) -> None:
        stdout_tail, stderr_tail = member.tails
        if member.is_ready:
            self._bad_starts = 0
            peer.lost(
                member.peer_id,
                member.reason,
                "timeout" if member.sentence else "crashed",
                fence=member.fence,
                stdout_tail=stdout_tail,
                stderr_tail=stderr_tail,
            )
        self._members.discard(member)
        is_bad = not member.is_ready
        with anyio.CancelScope(shield=True):
            await member.close()
        if is_bad:
            self._bad_starts += 1
            if self._bad_starts > _PATIENT_STARTS:
                said = stderr_tail.strip() or "it said nothing"
                self.failure = f"{self._bad_starts} workers in a row did not start ({member.reason}): {said}"
            await anyio.sleep(min(_FIRST_PAUSE_S * 2 ** min(self._bad_starts - 1, 10), _LONGEST_PAUSE_S))

    async def _end_all(self) -> None:
        for member in self._members:
            member.release()
        async with anyio.create_task_group() as group:
            for member in self._members:
                group.start_soon(member.close)
        self._members.clear()
