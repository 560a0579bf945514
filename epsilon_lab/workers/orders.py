"""What a child is told before it works: where it belongs, and, once it is needed, who it is."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The first line on a child's standard input."""

    address: str
    """The broker's."""

    progress_fd: int
    sys_path: tuple[str, ...]
    cwd: str | None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The second line; a spare waits for it."""

    peer_id: str


def give(address: str, progress_fd: int) -> Orders:
    """Write orders that make a child see the files and modules that this process sees."""
    cwd = None
    with suppress(FileNotFoundError):  # the directory was removed under the kernel
        cwd = str(Path.cwd())
    return Orders(address=address, progress_fd=progress_fd, sys_path=tuple(map(str, sys.path)), cwd=cwd)


def take_up(orders: Orders) -> None:
    """Go where the orders say."""
    sys.path[:] = orders.sys_path
    if orders.cwd is not None:
        os.chdir(orders.cwd)
