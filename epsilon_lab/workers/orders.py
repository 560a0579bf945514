"""What a child is told before it works: where it belongs, and, once it is needed, who it is."""

from __future__ import annotations

import os
import sys

import msgspec

from epsilon_lab.workers.afar import Afar
from epsilon_lab.workers.place import Place


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The first line on a child's standard input."""

    address: str
    """The broker's."""

    progress_fd: int
    place: Place
    afar: Afar | None = None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The second line; a spare waits for it."""

    peer_id: str


def give(address: str, progress_fd: int, afar: Afar | None = None) -> Orders:
    """Write orders that make a child see the files and modules that this process sees."""
    return Orders(address=address, progress_fd=progress_fd, afar=afar, place=Place.here())


def take_up(orders: Orders) -> None:
    """Go where the orders say."""
    sys.path[:] = orders.place.sys_path
    if orders.place.cwd is not None:
        os.chdir(orders.place.cwd)
