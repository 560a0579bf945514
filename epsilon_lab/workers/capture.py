"""What a task prints, down to its C libraries and child processes: the tail is kept, the rest is let go.

Descriptors 1 and 2 of a child are unnamed files, not pipes: a pipe blocks its writer once nobody reads, and a library
that prints while it holds the GIL would stop the very thread that should read. A file takes everything at once; a
thread cuts it down to its tail while tasks run, so a flood costs megabytes and not what it would amount to. The
supervisor holds the same files and can read the tail of a child that died.

A task may put a file of its own in the place of 1 or 2. So files are read and cut by descriptors that nobody else
knows, and whatever a task has put there is left as it is.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from epsilon_lab.settings import TAIL_LIMIT

_CUT_ABOVE = 1 << 20
"""Bytes a file may hold before it is cut."""

_LOOK_S = 0.02

_PUNCH_HOLE = 0x01 | 0x02
"""Linux's FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE (fallocate(2)): free a part of a file where it lies."""


def open_tail() -> IO[bytes]:
    """Open an unnamed file that every writer appends to."""
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file


def read_tail(fd: int) -> str:
    """The last `TAIL_LIMIT` characters of such a file."""
    size = os.fstat(fd).st_size
    data = os.pread(fd, 4 * TAIL_LIMIT, max(0, size - 4 * TAIL_LIMIT))
    return data.decode("utf-8", "replace")[-TAIL_LIMIT:]


class Capture:
    """The two files of one child process.

    Args:
        stdout: Descriptor of the file that standard output appends to.
        stderr: The same for standard error.

    Attributes:
        beside: What the thread does besides, at every look while tasks run.
    """

    def __init__(self, stdout: int = 1, stderr: int = 2) -> None:
        self.beside: Callable[[], object] = lambda: None
        self._fds = (stdout, stderr)
        self._files = tuple(os.dup(fd) for fd in self._fds)
        self._own = tuple((file.st_dev, file.st_ino) for file in map(os.fstat, self._files))
        self._streams = tuple(
            open(fd, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
            for fd in self._fds
        )
        self._libc = ctypes.CDLL(None)
        self._fallocate = getattr(self._libc, "fallocate", None)
        if self._fallocate is not None:
            self._fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        self._busy = threading.Event()
        self._over = False
        self._cutter = threading.Thread(target=self._keep_cutting, name="capture", daemon=True)
        self._cutter.start()

    def begin(self) -> None:
        """Forget what was printed, before a task; give back streams and descriptors that another took or closed."""
        out, err = self._streams
        if sys.stdout is not out or out.closed:
            self._restore(0, "stdout")
        if sys.stderr is not err or err.closed:
            self._restore(1, "stderr")
        for fd, file, own in zip(self._fds, self._files, self._own, strict=True):
            try:
                if not os.lseek(fd, 0, os.SEEK_END):  # the cheapest way to ask whether there is anything in it
                    continue
                found = os.fstat(fd)
            except OSError:  # closed, or no file
                found = None
            if found is None or (found.st_dev, found.st_ino) != own:
                os.dup2(file, fd)
            os.ftruncate(file, 0)

    def tails(self) -> tuple[str, str]:
        """The last of what the task printed to stdout and stderr."""
        self._flush()
        out, err = self._files
        return read_tail(out), read_tail(err)

    def watch(self, *, busy: bool) -> None:
        """Cut while tasks run, and rest while there are none."""
        if busy:
            self._busy.set()
        else:
            self._flush()
            self._busy.clear()

    def close(self) -> None:
        """End the thread."""
        self._over = True
        self._busy.set()
        self._cutter.join()
        for file in self._files:
            os.close(file)

    def _restore(self, index: int, name: str) -> None:
        if self._streams[index].closed:
            renewed = open(  # noqa: SIM115
                self._fds[index], "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
            )
            self._streams = tuple(renewed if i == index else stream for i, stream in enumerate(self._streams))
        setattr(sys, name, self._streams[index])

    def _flush(self) -> None:
        for stream in self._streams:
            with suppress(ValueError, OSError):  # closed by the task; or the disk is full, which the task was told
                stream.flush()
        self._libc.fflush(None)

    def _keep_cutting(self) -> None:
        while True:
            self._busy.wait()
            if self._over:
                return
            time.sleep(_LOOK_S)
            with suppress(MemoryError):  # the task has taken all that it may; it is looked after again when it has less
                self.beside()
                self._cut()

    def _cut(self) -> None:
        """Let go of all but the tails, while whoever prints goes on.

        What lies before the tail is freed in place, because to read the tail, empty the file and write it back would
        lose what is printed in between. The file's size then says what was ever printed, and its blocks what it takes.
        """
        for fd in self._files:
            file = os.fstat(fd)
            before = file.st_size - 4 * TAIL_LIMIT
            if file.st_blocks * 512 <= _CUT_ABOVE or before <= 0:  # some file systems set blocks aside
                continue
            if self._fallocate is None or self._fallocate(fd, _PUNCH_HOLE, 0, before):
                tail = os.pread(fd, 4 * TAIL_LIMIT, before)  # neither this system nor its file system can do better
                os.ftruncate(fd, 0)
                os.write(fd, tail)
