"""One writer a workspace, because two brokers that believe in the same journal would each undo the other.

The lock is an flock on `lab/lock`: the system drops it when its holder dies, however it dies, so a stale lock does not
exist and is never "broken". The file's text only says who holds it, and where a sidecar is spoken to.

The guardians of the holder's workers hold it too, until nothing of their workers is left. So whoever gets the workspace
after a kernel was killed knows that no worker of the dead one can still write into it; that takes milliseconds, which
are waited for.

On a network file system, where a lock may be lost without a word, a lease beside it decides instead (lease.py); there
the guardians' share in it is worth nothing, and a holder on another machine is waited for until its lease runs out.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from epsilon_lab.errors import WorkspaceError, WorkspaceLocked
from epsilon_lab.workspace.lease import Lease
from epsilon_lab.workspace.mounts import file_system, is_remote
from epsilon_lab.workspace.presence import birth, is_there

_PATIENCE_S = 10.0
"""Seconds that the workers of a holder who is gone get to end."""

_LOOK_S = 0.01


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who holds, or held, a workspace, as far as its lock file says."""

    pid: int | None = None
    host: str | None = None
    born: int | None = None
    control: str | None = None
    """Path of the socket on which a sidecar takes commands; None where the holder is a kernel."""

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    def is_gone(self) -> bool:
        """Whether it is known to have ended."""
        return self.pid is not None and self.is_here and not is_there(self.pid, self.born)


class WorkspaceLock:
    """The right to write to a workspace; held by at most one process (and one lock object) at a time.

    Args:
        directory: The workspace.
        control: Path of the socket on which this process takes commands, if it is a sidecar.
        lost: Called in a thread of the lock's own, where it is a lease and someone else has taken it.
    """

    def __init__(
        self, directory: Path | str, control: str | None = None, *, lost: Callable[[], object] = lambda: None
    ) -> None:
        self.directory = Path(directory)
        self._control = control
        self._lost = lost
        self._lease: Lease | None = None
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

    def fileno(self) -> int:
        """The descriptor that holds the lock; a process that inherits it holds the lock as well.

        Raises:
            WorkspaceError: The lock is not held.
        """
        if self._handle is None:
            raise WorkspaceError(f"{self!r}: only a lock that is held can be shared")
        return self._handle

    def acquire(self) -> None:
        """Take the lock at once or not at all, unless only workers of a dead holder have it, which end by themselves.

        Makes the workspace and its `lab/` where missing.

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
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _take(self, handle: int) -> None:
        if is_remote(file_system(self.directory)):
            self._take_lease(handle)
        else:
            self._take_lock(handle)
        try:
            text = msgspec.json.encode(Holder(os.getpid(), socket.gethostname(), birth(os.getpid()), self._control))
            os.ftruncate(handle, 0)
            os.pwrite(handle, text, 0)
        except OSError as error:
            raise WorkspaceError(
                f"workspace {str(self.directory)!r} cannot be written to ({error.strerror}); free space on its disk"
            ) from error

    def _take_lease(self, handle: int) -> None:
        holder = _read(handle)
        lease = Lease(self.path.with_name("lease"), self._lost)
        try:
            taken = lease.acquire(holder.is_gone)
        except OSError as error:
            raise WorkspaceError(
                f"workspace {str(self.directory)!r} cannot be leased ({error.strerror}); "
                f"use a directory on a local disk"
            ) from error
        if taken is not None:
            raise WorkspaceLocked(
                str(self.directory),
                holder.pid,
                holder.host,
                is_sidecar=holder.control is not None,
                for_s=taken.for_s,
            )
        self._lease = lease

    def _take_lock(self, handle: int) -> None:
        until = time.monotonic() + _PATIENCE_S
        try:
            while not _lock(handle):
                holder = _read(handle)
                if not holder.is_gone() or time.monotonic() > until:
                    raise WorkspaceLocked(
                        str(self.directory),
                        holder.pid,
                        holder.host,
                        is_gone=holder.is_gone(),
                        is_sidecar=holder.control is not None,
                    )
                time.sleep(_LOOK_S)
        except OSError as error:
            raise WorkspaceError(
                f"workspace {str(self.directory)!r} cannot be locked ({error.strerror}); "
                f"its file system has no locks: use a directory on a local disk"
            ) from error


def holder_of(directory: Path | str) -> Holder:
    """Read who holds a workspace, or was the last to hold it; without taking the lock."""
    try:
        handle = os.open(WorkspaceLock(directory).path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return Holder()
    try:
        return _read(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(handle: int) -> Holder:
    try:
        return msgspec.json.decode(os.pread(handle, 4096, 0), type=Holder)
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError):
        return Holder()
