"""Which task a child has started, where its supervisor can read it after the child's death.

A page of a file that both hold: a message would be lost with the process that crashes right after sending it, and then
a task that was done would be blamed for the next one.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from typing import IO

_PAGE = struct.Struct("<QQ")  # fence of the started task or 0; whether the child was about to greet the broker
_UNWANTED = struct.Struct("<Q")  # behind them, by the supervisor: fence of the task that is to stop


def open_progress() -> IO[bytes]:
    """Make the file, in the supervisor."""
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
    file.write(bytes(_PAGE.size + _UNWANTED.size))
    return file


def read_progress(fd: int) -> tuple[int, bool]:
    """The fence of the task that was started, 0 between tasks, and whether the child ever was ready."""
    fence, ready = _PAGE.unpack(os.pread(fd, _PAGE.size, 0))
    return fence, bool(ready)


def write_unwanted(fd: int, fence: int) -> None:
    """Name the task that is to stop."""
    os.pwrite(fd, _UNWANTED.pack(fence), _PAGE.size)


class Progress:
    """The child's side."""

    def __init__(self, fd: int) -> None:
        self._page = mmap.mmap(fd, _PAGE.size + _UNWANTED.size)

    @property
    def unwanted(self) -> int:
        """Fence of the task that is to stop; 0 where there was none."""
        return int(_UNWANTED.unpack_from(self._page, _PAGE.size)[0])

    def ready(self) -> None:
        """The broker is about to be greeted."""
        _PAGE.pack_into(self._page, 0, 0, 1)

    def started(self, fence: int) -> None:
        """A task begins."""
        _PAGE.pack_into(self._page, 0, fence, 1)

    def ended(self) -> None:
        """The task is over."""
        _PAGE.pack_into(self._page, 0, 0, 1)
