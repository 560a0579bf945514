"""One writer a workspace, because two brokers that believe in the same journal would each undo the other.

The lock is an flock on `lab/lock`: the system drops it when its holder dies, however it dies, so a stale lock does not
exist and is never "broken". The file's text only says who holds it.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import msgspec

from epsilon_lab.errors import WorkspaceError, WorkspaceLocked


class _Holder(msgspec.Struct, frozen=True):
    pid: int | None = None
    host: str | None = None


class WorkspaceLock:
    """The right to write to a workspace; held by at most one process (and one lock object) at a time."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self._handle: int | None = None

    def __repr__(self) -> str:
        return f"WorkspaceLock({str(self.directory)!r}, {'held' if self.is_held else 'not held'})"

    @property
    def path(self) -> Path:
        """The lock file."""
        return self.directory / "lab" / "lock"

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._handle is not None

    def acquire(self) -> None:
        """Take the lock at once or not at all; makes the workspace and its `lab/` where missing.

        Raises:
            WorkspaceLocked: Another process, or another lock object of this one, holds it.
            WorkspaceError: The directory cannot be made or written to.
        """
        if self._handle is not None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise WorkspaceError(
                f"workspace {str(self.directory)!r} cannot be written to ({error.strerror}); "
                f"name a directory you may write to, or look on: Lab({str(self.directory)!r}, read_only=True)"
            ) from error
        try:
            self._take(handle)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def release(self) -> None:
        """Give the lock back; releasing twice does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _take(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(handle)
            raise WorkspaceLocked(str(self.directory), holder.pid, holder.host) from None
        except OSError as error:
            raise WorkspaceError(
                f"workspace {str(self.directory)!r} cannot be locked ({error.strerror}); "
                f"its file system has no locks: use a directory on a local disk"
            ) from error
        try:
            text = msgspec.json.encode(_Holder(os.getpid(), socket.gethostname()))
            os.ftruncate(handle, 0)
            os.pwrite(handle, text, 0)
        except OSError as error:
            raise WorkspaceError(
                f"workspace {str(self.directory)!r} cannot be written to ({error.strerror}); free space on its disk"
            ) from error


def _read(handle: int) -> _Holder:
    try:
        return msgspec.json.decode(os.pread(handle, 4096, 0), type=_Holder)
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError):
        return _Holder()
