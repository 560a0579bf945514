"""What a transport promises, so that rules and tests need not know which one carries them.

Frames arrive whole, once, and in the order in which one peer sent them; a frame may be lost only together with the
connection of its peer, which `Dialer.was_cut` tells where it does not end the peer as well. Each end belongs to the
thread that made it. Nothing here blocks, except `Dialer.poll`.
"""

from __future__ import annotations

from typing import Protocol, Self


class Listener(Protocol):
    """The end that many peers reach; a `with` block closes it."""

    def __enter__(self) -> Self:
        """The end itself."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close it."""
        ...

    @property
    def address(self) -> str:
        """Where peers dial."""
        ...

    @property
    def strangers(self) -> int:
        """How often someone was refused who had no business here, since it was opened."""
        ...

    def receive(self, limit: int = 256) -> list[tuple[str, bytes]]:
        """Take at most `limit` frames that have arrived, oldest first, each with its sender's peer id."""
        ...

    def send(self, peer: str, frame: bytes) -> bool:
        """Send a frame to a peer; False where the peer is not connected or takes no more."""
        ...

    async def wait_readable(self) -> None:
        """Wait until `receive` has something to give; one waiter at a time."""
        ...

    def close(self) -> None:
        """End it; closing twice does nothing."""
        ...


class Dialer(Protocol):
    """The end of one peer; a `with` block closes it."""

    def __enter__(self) -> Self:
        """The end itself."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close it."""
        ...

    @property
    def is_lossy(self) -> bool:
        """Whether the connection can be cut while both ends live."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether the listener is reached, as far as is known."""
        ...

    @property
    def refusal(self) -> str:
        """Why the listener does not let this peer in, for people; empty while it may."""
        ...

    def was_cut(self) -> bool:
        """Tell whether the connection was lost and made anew since the last call: frames on their way may be gone."""
        ...

    def receive(self, limit: int = 256) -> list[bytes]:
        """Take at most `limit` frames that have arrived, oldest first."""
        ...

    def send(self, frame: bytes) -> None:
        """Send a frame; one sent before the listener is there waits for it.

        Raises:
            BadFrame: The frame is larger than `MAX_FRAME`.
            LabError: Too many frames are waiting for the listener.
        """
        ...

    def poll(self, timeout_s: float | None) -> bool:
        """Block until `receive` has something to give, or the connection was cut, for at most `timeout_s` seconds.

        None: for ever.
        """
        ...

    async def wait_readable(self) -> None:
        """Wait until `receive` has something to give; one waiter at a time."""
        ...

    def close(self) -> None:
        """End it; what was sent still goes out if the listener is there. Closing twice does nothing."""
        ...
