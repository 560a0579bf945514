"""TCP between machines: CURVE on every connection, and a listener that admits known keys alone, on the loopback too.

The listener asks itself about each key, over ZeroMQ's own inproc protocol (ZAP): the library's authenticators want
zmq.asyncio or a thread of their own for what is one comparison.

A network that swallows packets says nothing, so there are heartbeats here, which libzmq's own thread sends: a task that
holds the interpreter does not look dead. A connection that is cut is made anew by itself, but the frames that were on
their way are gone; `was_cut` says so, and a peer then says hello again with what it holds. ZeroMQ tells both ends about
their connections through a monitor socket. Only the events that are read are asked for, since libzmq's thread waits
for a monitor whose queue is full.
"""

from __future__ import annotations

import math
import re
import struct
import time
from collections.abc import Iterator

import anyio
import zmq
from zmq.utils import z85

from epsilon_lab.errors import BadFrame, InvalidInput, LabError
from epsilon_lab.transport.keys import ClientKeys, ServerKeys
from epsilon_lab.transport.zeromq import ZeroMQDialer, ZeroMQListener, checked_id

BEAT_MS, DEAF_MS = 1000, 4000
"""A ping after so long without one; a connection that has given no sign of life for so long is cut."""

_HANDSHAKE_MS = 10_000
"""A handshake that takes longer is begun anew."""

_RETRY_MS, _RETRY_MOST_MS = 100, 5000
"""Between attempts to connect: at first, and at most."""

_PATIENT_HANDSHAKES = 20
"""Handshakes that may break off in a row before it counts as a refusal: a listener that ends breaks one off, too."""

_FORM = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_EVENT = struct.Struct("=Hi")  # its number and its value
_ADMITTED, _REFUSED = (b"200", b"", b"worker", b""), (b"400", b"unknown key", b"", b"")


def listen(address: str, keys: ServerKeys) -> CurveListener:
    """Open the end that many peers reach.

    Args:
        address: `tcp://<host>:<port>`; port 0 for a free one, an IPv6 host in brackets.
        keys: Its own, and those it admits.

    Raises:
        InvalidInput: The address is not of that form.
        WorkspaceError: It cannot be bound.
    """
    return CurveListener(checked(address), keys)


def dial(address: str, peer_id: str, keys: ClientKeys) -> CurveDialer:
    """Open a peer's end; the listener may come later.

    Raises:
        InvalidInput: The address is not of the form `tcp://<host>:<port>`, or the id is not fit for a name.
    """
    return CurveDialer(checked(address), checked_id(peer_id), keys)


def checked(address: str, what: str = "address") -> str:
    """Give an address back if it is of the form `tcp://<host>:<port>`.

    Raises:
        InvalidInput: It is not.
    """
    tcp = _FORM.fullmatch(address) if isinstance(address, str) else None
    if tcp is None or int(tcp["port"]) >= 1 << 16:
        raise InvalidInput(
            f"{what} {address!r}", "is not of the form tcp://<host>:<port>", "for example tcp://127.0.0.1:5555"
        )
    return address


def _configure(socket: zmq.Socket[bytes], *, public: str, secret: str) -> None:
    for option, value in (
        (zmq.IPV6, 1),
        (zmq.HEARTBEAT_IVL, BEAT_MS),
        (zmq.HEARTBEAT_TIMEOUT, DEAF_MS),
        (zmq.HEARTBEAT_TTL, BEAT_MS + DEAF_MS),
        (zmq.HANDSHAKE_IVL, _HANDSHAKE_MS),
        (zmq.CURVE_PUBLICKEY, public.encode()),
        (zmq.CURVE_SECRETKEY, secret.encode()),
    ):
        socket.setsockopt(option, value)


def _drain(socket: zmq.Socket[bytes]) -> Iterator[list[bytes]]:
    while not socket.closed:
        try:
            yield socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return


async def first_signal(*sockets: zmq.Socket[bytes]) -> None:
    """Wait for an edge of any of these."""

    async def wait(socket: zmq.Socket[bytes]) -> None:
        await anyio.wait_readable(socket.fileno())
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for socket in sockets:
            group.start_soon(wait, socket)


class _Monitor:
    """What libzmq tells about the connections of a socket."""

    def __init__(self, socket: zmq.Socket[bytes], events: int) -> None:
        self._watched = socket
        self.socket: zmq.Socket[bytes] = socket.get_monitor_socket(events)

    def events(self) -> Iterator[int]:
        """Take each event that has come."""
        for parts in _drain(self.socket):
            yield _EVENT.unpack(parts[0])[0]

    def close(self) -> None:
        self._watched.disable_monitor()
        self.socket.close(0)


class CurveListener(ZeroMQListener):
    """A bound ROUTER with keys; see `Listener`."""

    def __init__(self, address: str, keys: ServerKeys) -> None:
        self._keys = keys
        self._is_ipv6 = "[" in address
        self._strangers = 0
        super().__init__(address)
        port = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2]
        self.address = f"{address.rpartition(':')[0]}:{port}"

    def _prepare(self) -> None:
        _configure(self._socket, public=self._keys.public, secret=self._keys.secret)
        self._socket.setsockopt(zmq.IPV6, self._is_ipv6)
        self._socket.setsockopt(zmq.CURVE_SERVER, 1)
        self._socket.setsockopt(zmq.ZAP_DOMAIN, b"epsilon_lab")
        self._socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        self._gate: zmq.Socket[bytes] = self._context.socket(zmq.REP)
        self._gate.bind("inproc://zeromq.zap.01")
        self._monitor = _Monitor(self._socket, _FAILED)

    @property
    def strangers(self) -> int:
        """How often someone was refused who has no known key."""
        self._tend()
        return self._strangers

    def receive(self, limit: int = 256) -> list[tuple[str, bytes]]:
        """Take frames that have arrived."""
        self._tend()
        return super().receive(limit)

    def _is_readable(self) -> bool:
        self._tend()
        return super()._is_readable()

    async def _signal(self) -> None:
        await first_signal(self._socket, self._gate, self._monitor.socket)

    def _tend(self) -> None:
        """Let in whoever has a known key, and count who has not."""
        for request in _drain(self._gate):
            self._gate.send_multipart((b"1.0", request[1], *(_ADMITTED if self._is_known(request) else _REFUSED)))
        self._strangers += sum(1 for _ in self._monitor.events())

    def _is_known(self, request: list[bytes]) -> bool:
        mechanism, key = request[5], request[6:]
        return mechanism == b"CURVE" and len(key) == 1 and z85.encode(key[0]).decode() in self._keys.admitted

    def close(self) -> None:
        """End it; closing twice does nothing."""
        if not self._socket.closed:
            self._monitor.close()
            self._gate.close(0)
        super().close()


class CurveDialer(ZeroMQDialer):
    """A connected DEALER with keys; see `Dialer`."""

    def __init__(self, address: str, peer_id: str, keys: ClientKeys) -> None:
        self._keys = keys
        self._is_up = False
        self._connections = 0
        self._broken_off = 0
        self._was_cut = False
        self._refusal = ""
        super().__init__(address, peer_id)

    def _prepare(self) -> None:
        _configure(self._socket, public=self._keys.public, secret=self._keys.secret)
        self._socket.setsockopt(zmq.CURVE_SERVERKEY, self._keys.server.encode())
        self._socket.setsockopt(zmq.CONNECT_TIMEOUT, _HANDSHAKE_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _RETRY_MS)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RETRY_MOST_MS)
        self._monitor = _Monitor(self._socket, _FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)

    @property
    def is_lossy(self) -> bool:
        """Networks are."""
        return True

    @property
    def is_up(self) -> bool:
        """Whether the listener is reached, as far as is known."""
        self._tend()
        return self._is_up

    @property
    def refusal(self) -> str:
        """Why the listener does not let this peer in; empty while it may."""
        self._tend()
        return self._refusal

    def was_cut(self) -> bool:
        """Tell whether the connection was lost and made anew since the last call."""
        self._tend()
        was_cut, self._was_cut = self._was_cut, False
        return was_cut

    def send(self, frame: bytes) -> None:
        """Send a frame; one sent before the listener is there waits for it."""
        try:
            super().send(frame)
        except BadFrame:
            raise
        except LabError as error:
            raise LabError(self.refusal or str(error)) from error

    def poll(self, timeout_s: float | None) -> bool:
        """Block until `receive` has something to give, for at most `timeout_s` seconds (None: for ever)."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor.socket, zmq.POLLIN)
        while not self._is_readable():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not poller.poll(None if left is None else math.ceil(left * 1000)):
                return False
        return True

    def _is_readable(self) -> bool:
        self._tend()
        return self._was_cut or super()._is_readable()

    async def _signal(self) -> None:
        await first_signal(self._socket, self._monitor.socket)

    def _tend(self) -> None:
        """Take in what became of the connection."""
        for event in self._monitor.events():
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._is_up, self._refusal = True, ""
                self._was_cut = self._connections > 0
                self._connections += 1
            elif event == zmq.EVENT_DISCONNECTED:
                self._is_up = False
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._refusal = f"{self._address} does not admit this key; take worker.key from the lab's keys/ again"
            elif not self._connections:  # whoever was admitted once waits: the lab is being restarted
                self._broken_off += 1
                if self._broken_off >= _PATIENT_HANDSHAKES:
                    self._refusal = (
                        f"{self._address} breaks every handshake off: the key file is another lab's, "
                        f"or it is no lab that listens there"
                    )

    def close(self) -> None:
        """End it; what was sent still goes out if the listener is there. Closing twice does nothing."""
        if not self._socket.closed:
            self._monitor.close()
        super().close()
