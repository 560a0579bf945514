"""A broker's end for tests of workers: the real transport and the real frames, with the test deciding what is said."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from epsilon_lab.agents.function import pack_function
from epsilon_lab.messages.frames import (
    Done,
    Hello,
    Recorded,
    Tasks,
    ToBroker,
    ToPeer,
    Welcome,
    decode_from_peer,
    encode,
)
from epsilon_lab.messages.tasks import Assignment, Failure, Lane, Result, TaskSpec
from epsilon_lab.messages.values import pack
from epsilon_lab.transport.zeromq import ZeroMQListener, listen, private_address
from epsilon_lab.workspace.layout import RunDirectory


class _Nothing:
    """A message that never comes."""


class Desk:
    """The other end of the line: hears what workers say, says what a test wants said. It belongs to one thread."""

    def __init__(self, listener: ZeroMQListener, run: RunDirectory) -> None:
        self.address = listener.address
        self.run = run
        self.heard: list[tuple[str, ToBroker]] = []
        self._listener = listener
        self._fences = 0
        self._entries: dict[Callable[..., Any], str] = {}

    def assignment(
        self, function: Callable[..., Any] | str, item: Any = None, *, lane: Lane = "process", **options: Any
    ) -> Assignment:
        """Make an assignment; functions are packed into the run directory."""
        entry = function
        if not isinstance(function, str):
            if function not in self._entries:
                packed = pack_function(function)
                self.run.save(f"code/{packed.sha256}.pkl", packed.blob, kind="code")
                self._entries[function] = f"code:{packed.sha256}"
            entry = self._entries[function]
        self._fences += 1
        task = TaskSpec(
            task_id=f"item-{self._fences}", kind="item", lane=lane, entry=str(entry), payload=pack(item), **options
        )
        return Assignment(run_id=self.run.run_id, run_dir=str(self.run.path), task=task, attempt=1, fence=self._fences)

    def assign(self, peer: str, *assignments: Assignment) -> None:
        self.say(peer, Tasks(assignments=assignments))

    def say(self, peer: str, message: ToPeer) -> None:
        assert self._listener.send(peer, encode(message))

    async def hear(self, *kinds: type[Any], where: Callable[[Any], bool] = lambda _: True) -> tuple[str, Any]:
        """Wait for the next message of these kinds; others stay in `heard`. Everyone who says hello is welcomed."""
        with anyio.fail_after(60, reason=f"no {[kind.__name__ for kind in kinds]} came"):
            while True:
                for place, (peer, message) in enumerate(self.heard):
                    if isinstance(message, kinds) and where(message):
                        del self.heard[place]
                        return peer, message
                await self._listener.wait_readable()
                for peer, frame in self._listener.receive():
                    message = decode_from_peer(frame)
                    self.heard.append((peer, message))
                    if isinstance(message, Hello):
                        # one that died meanwhile hears nothing
                        self._listener.send(peer, encode(Welcome(epoch=1, lease_s=10.0, beat_s=0.05)))

    async def listen_for(self, seconds: float) -> None:
        """Take in what is said for a while; nobody waits for an answer."""
        with anyio.move_on_after(seconds):
            await self.hear(_Nothing)

    async def child(self) -> tuple[str, Hello]:
        """Wait for the next child to say hello."""
        return await self.hear(Hello, where=lambda hello: hello.lanes == ("process",))

    async def answers(self, count: int) -> list[Result | Failure]:
        """Wait for so many answers, from anyone."""
        found: list[Result | Failure] = []
        while len(found) < count:
            _, done = await self.hear(Done)
            found += [*done.results, *done.failures]
        return found

    def record(self, peer: str, note_id: int) -> None:
        self.say(peer, Recorded(note_id=note_id))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    run = RunDirectory(tmp_path / "a-run")
    run.path.mkdir()
    with private_address() as address:
        listener = listen(address)
        try:
            yield Desk(listener, run)
        finally:
            listener.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def ended(*pids: int, within_s: float = 60.0) -> bool:
    """Wait until processes that are not our children have ended."""
    import os

    deadline = time.monotonic() + within_s
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
        finally:
            os.close(handle)
    return True


@pytest.fixture(name="ended")
def _ended() -> Callable[..., bool]:
    return ended
