"""Two listeners as one: the near end for this machine's own, the far end for those who dialed with a key.

The ends share one space of names, so each keeps to its part of it: whoever came from afar is called `remote-...`, and
nobody near is. Else a worker elsewhere could take the name, and with it the tasks, of one of the lab's own.
"""

from __future__ import annotations

from typing import Self

import anyio

from epsilon_lab.ids import REMOTE
from epsilon_lab.transport.base import Listener


class JoinedListener:
    """See `Listener`; closing it closes both ends.

    Args:
        near: For peers of any name that does not begin with `REMOTE`.
        far: For peers whose name does.
    """

    def __init__(self, near: Listener, far: Listener) -> None:
        self._near, self._far = near, far
        self._is_far_first = False
        self._misnamed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Where peers from afar dial."""
        return self._far.address

    @property
    def strangers(self) -> int:
        """How often someone was refused, with frames under a name of the other end counted in."""
        return self._near.strangers + self._far.strangers + self._misnamed

    def receive(self, limit: int = 256) -> list[tuple[str, bytes]]:
        """Take frames that have arrived; the ends are first in turn, so that neither starves the other."""
        self._is_far_first = not self._is_far_first
        taken: list[tuple[str, bytes]] = []
        for is_far in (self._is_far_first, not self._is_far_first):
            frames = (self._far if is_far else self._near).receive(limit - len(taken))
            named = [frame for frame in frames if frame[0].startswith(REMOTE) is is_far]
            self._misnamed += len(frames) - len(named)
            taken += named
        return taken

    def send(self, peer: str, frame: bytes) -> bool:
        """Send a frame to a peer; False where the peer is not connected or takes no more."""
        return (self._far if peer.startswith(REMOTE) else self._near).send(peer, frame)

    async def wait_readable(self) -> None:
        """Wait until `receive` has something to give."""

        async def wait(end: Listener) -> None:
            await end.wait_readable()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(wait, self._near)
            group.start_soon(wait, self._far)

    def close(self) -> None:
        """End both."""
        self._near.close()
        self._far.close()
