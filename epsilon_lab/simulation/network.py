"""Wires between peers and their broker that keep what a transport promises, and not one bit more.

Promised (transport/base.py): frames arrive whole, once, in the order in which one peer sent them, and are lost only
together with their connection. So each peer has a connection, and each connection a wire up and a wire down, on which a
frame takes its time. A cut wire keeps what is on it until it is mended, as TCP does; a connection that ends takes along
what is on both. What a peer sends while nobody listens waits in its own hands.

An unruly network breaks the promise: single frames are lost, doubled and late. Then work may stand still for ever, and
still nothing may be believed twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Self

from epsilon_lab.errors import BadFrame
from epsilon_lab.messages.frames import MAX_FRAME
from epsilon_lab.simulation.world import Process, World


class _Wire:
    """One direction of a connection."""

    def __init__(self, world: World, dice: Random, slowest_s: float, deliver: Callable[[bytes], object]) -> None:
        self.is_cut = False
        self._world = world
        self._dice = dice
        self._slowest_s = slowest_s
        self._deliver = deliver
        self._frames: deque[bytes] = deque()
        self._last = 0.0
        self._age = 0

    def send(self, frame: bytes) -> None:
        self._frames.append(frame)
        if not self.is_cut:
            self._expect()

    def mend(self) -> None:
        """Bring what was kept, again in its time."""
        self.is_cut = False
        self._age += 1
        for _ in self._frames:
            self._expect()

    def lose(self) -> None:
        """Forget what is on its way."""
        self._age += 1
        self._frames.clear()

    def _expect(self) -> None:
        delay = self._slowest_s * self._dice.random() ** 4  # mostly quick, now and then slow
        self._last = max(self._last, self._world.now + delay)
        age = self._age
        self._world.at(self._last, lambda: self._arrive(age))

    def _arrive(self, age: int) -> None:
        if age == self._age and not self.is_cut:
            self._deliver(self._frames.popleft())


class Network:
    """One address, and all connections to it.

    Args:
        world: Whose time it takes.
        slowest_s: Seconds a frame may take; most take far less.

    Attributes:
        is_unruly: Whether the promise is broken.
    """

    def __init__(self, world: World, slowest_s: float) -> None:
        self.is_unruly = False
        self.listener: VirtualListener | None = None
        self._whims = world.dice("whims")
        self._world = world
        self._slowest_s = slowest_s
        self._dialers: dict[str, VirtualDialer] = {}
        self._cuts: set[tuple[str, str]] = set()

    def listen(self) -> VirtualListener:
        """Open the one end that all peers reach; those that are there already connect again, by and by."""
        assert self.listener is None, "one listener at a time"
        self.listener = VirtualListener(self)
        for dialer in list(self._dialers.values()):
            self._connect(dialer)
        return self.listener

    def dial(self, process: Process, peer_id: str, on_frames: Callable[[], object], *, is_lossy: bool) -> VirtualDialer:
        """Open a peer's end.

        Args:
            process: Whose end it is.
            peer_id: A peer that dials again takes over its name.
            on_frames: Called in that process when a frame has arrived, or a lost connection was made anew.
            is_lossy: Whether its connection can be lost while both ends live, as one to another machine can.
        """
        before = self._dialers.get(peer_id)
        if before is not None:
            before.vanish()
        dice = self._world.dice("wire", peer_id, len(self._dialers))
        dialer = self._dialers[peer_id] = VirtualDialer(self, process, peer_id, on_frames, is_lossy=is_lossy)
        dialer.up = _Wire(self._world, dice, self._slowest_s, lambda frame: self._up(peer_id, frame))
        dialer.down = _Wire(self._world, dice, self._slowest_s, lambda frame: self._treat(frame, dialer.arrive))
        dialer.up.is_cut, dialer.down.is_cut = (self._is_cut(peer_id, way) for way in ("up", "down"))
        self._connect(dialer)
        return dialer

    def cut(self, prefix: str, way: str) -> None:
        """Keep back all frames of peers whose id begins so: `up` to the broker, or `down` to them."""
        self._cuts.add((prefix, way))
        for dialer in self._dialers.values():
            if dialer.peer_id.startswith(prefix):
                (dialer.up if way == "up" else dialer.down).is_cut = True

    def mend(self, prefix: str, way: str) -> None:
        """Bring what was kept back."""
        self._cuts.discard((prefix, way))
        for dialer in list(self._dialers.values()):
            wire = dialer.up if way == "up" else dialer.down
            if wire.is_cut and not self._is_cut(dialer.peer_id, way):
                wire.mend()

    def reset(self, prefix: str) -> None:
        """End the connections of peers whose id begins so; they are made anew by and by."""
        for dialer in list(self._dialers.values()):
            if dialer.peer_id.startswith(prefix):
                dialer.disconnect()
                self._connect(dialer)

    def find(self, peer_id: str) -> VirtualDialer | None:
        """Find a peer's end."""
        return self._dialers.get(peer_id)

    def deafen(self) -> None:
        """End the listener with all connections, as its process's death does."""
        self.listener = None
        for dialer in self._dialers.values():
            dialer.disconnect()

    def forget(self, dialer: VirtualDialer) -> None:
        """Have no such peer any more."""
        if self._dialers.get(dialer.peer_id) is dialer:
            del self._dialers[dialer.peer_id]

    def _is_cut(self, peer_id: str, way: str) -> bool:
        return any(peer_id.startswith(prefix) and way == cut for prefix, cut in self._cuts)

    def _connect(self, dialer: VirtualDialer) -> None:
        listener = self.listener
        if listener is None:
            return
        delay = self._world.dice("connect", dialer.peer_id, int(self._world.now * 1e6)).uniform(0.0, 0.05)
        self._world.after(delay, lambda: dialer.connect() if self.listener is listener else None)

    def _up(self, peer_id: str, frame: bytes) -> None:
        listener = self.listener
        if listener is not None:
            self._treat(frame, lambda frame: listener.arrive(peer_id, frame))

    def _treat(self, frame: bytes, arrive: Callable[[bytes], None]) -> None:
        """Deliver a frame, or as it pleases an unruly network."""
        if not self.is_unruly or (whim := self._whims.random()) < 0.7:
            arrive(frame)
        elif whim < 0.95:
            for _ in range(1 + (whim < 0.85)):
                self._world.after(self._whims.random() ** 3 * 5.0, lambda: arrive(frame))


class VirtualListener:
    """See `Listener`; it belongs to the loop that waits for it."""

    address = "virtual://broker"
    strangers = 0

    def __init__(self, network: Network) -> None:
        self._network = network
        self._frames: deque[tuple[str, bytes]] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def arrive(self, peer_id: str, frame: bytes) -> None:
        """Take in a frame, and wake who waits."""
        self._frames.append((peer_id, frame))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def receive(self, limit: int = 256) -> list[tuple[str, bytes]]:
        """Take frames that have arrived."""
        return [self._frames.popleft() for _ in range(min(limit, len(self._frames)))]

    def send(self, peer: str, frame: bytes) -> bool:
        """Send a frame to a peer; False where the peer is not connected."""
        dialer = self._network.find(peer)
        if dialer is None or not dialer.is_up or self._network.listener is not self:
            return False
        dialer.down.send(frame)
        return True

    async def wait_readable(self) -> None:
        """Wait until `receive` has something to give."""
        if not self._frames:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        """End it."""
        if self._network.listener is self:
            self._network.deafen()


class VirtualDialer:
    """See `Dialer`. It calls its owner when frames have arrived, because a world cannot stand still and wait."""

    refusal = ""
    up: _Wire
    down: _Wire

    def __init__(
        self, network: Network, process: Process, peer_id: str, on_frames: Callable[[], object], *, is_lossy: bool
    ) -> None:
        self.peer_id = peer_id
        self.is_lossy = is_lossy
        self.is_up = False
        self._network = network
        self._process = process
        self._on_frames = on_frames
        self._was_up = self._was_cut = False
        self._unsent: deque[bytes] = deque()
        self._frames: deque[bytes] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        """Be connected from now on, and send what waited; where it was connected before, have its process know."""
        self._was_cut, self._was_up, self.is_up = self._was_up, True, True
        while self._unsent:
            self.up.send(self._unsent.popleft())
        if self._was_cut:
            self._process.at(self._process.world.now, self._on_frames)

    def disconnect(self) -> None:
        """Lose the connection, with what is on its way."""
        self.is_up = False
        self.up.lose()
        self.down.lose()

    def vanish(self) -> None:
        """End with the process; what it had sent still arrives, what came for it does not."""
        self.is_up = False
        self.down.lose()
        self._network.forget(self)

    def arrive(self, frame: bytes) -> None:
        """Take in a frame, and have its process look at it."""
        self._frames.append(frame)
        self._process.at(self._process.world.now, self._on_frames)

    def was_cut(self) -> bool:
        """Tell whether the connection was lost and made anew since the last call."""
        was_cut, self._was_cut = self._was_cut, False
        return was_cut

    def receive(self, limit: int = 256) -> list[bytes]:
        """Take frames that have arrived."""
        return [self._frames.popleft() for _ in range(min(limit, len(self._frames)))]

    def send(self, frame: bytes) -> None:
        """Send a frame; one sent before the listener is there waits for it."""
        if len(frame) > MAX_FRAME:
            raise BadFrame(f"frame of {len(frame)} bytes; at most {MAX_FRAME} travel, put the value in a file")
        if self.is_up:
            self.up.send(frame)
        else:
            self._unsent.append(frame)

    def poll(self, timeout_s: float | None) -> bool:  # noqa: ARG002
        """Tell whether `receive` has something to give; nobody can wait here."""
        return bool(self._frames)

    async def wait_readable(self) -> None:
        """Refuse: its owner is called."""
        raise NotImplementedError("a peer of a simulation is called when frames have arrived")

    def close(self) -> None:
        """End it in good order."""
        self.vanish()
