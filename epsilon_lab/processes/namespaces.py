"""A world of its own for a sandbox: no network, no process but its programs', nothing to write to but one directory.

A process that calls `enter` gets a new user namespace, and its next child is the first process of a new process
namespace: it cannot be signalled from inside, and when it ends so does everything in there. That child calls `seal`.
The way is made once for a sandbox, so a program's fork costs nothing more.

User ids mean the same inside as outside. Only those that are needed exist inside.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress

from epsilon_lab.processes.native import call

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = (
    0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 1 << 14, 1 << 18
_MNT_DETACH = 2
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000  # the number is the same on every architecture
_READ_ONLY_NO_SUID = 0b11


def enter(uid: int | None) -> None:
    """Enter a new user namespace; the next child will be the first process of a new process namespace.

    Args:
        uid: The spare user and group id that shall exist inside besides this process's own; None for no other.

    Raises:
        OSError: The machine refuses. This process may then be half inside, and is good for nothing but to say so.
    """
    ask, asked = os.pipe()
    mapper = os.fork()
    if mapper == 0:  # only a process outside may write down which ids exist inside
        try:
            os.close(asked)
            if os.read(ask, 1):
                _map_ids(os.getppid(), uid)
                os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
        finally:
            os._exit(1)
    os.close(ask)
    try:
        call("unshare", _CLONE_NEWUSER | _CLONE_NEWPID)
        os.write(asked, b"!")
    finally:
        os.close(asked)
        number = os.waitstatus_to_exitcode(os.waitpid(mapper, 0)[1])
    if number != 0:
        raise OSError(number, f"user ids cannot be mapped: {os.strerror(abs(number))}")


def _map_ids(pid: int, uid: int | None) -> None:
    spare = "" if uid is None else f"{uid} {uid} 1\n"
    if uid is None:
        _write(f"/proc/{pid}/setgroups", "deny")  # a user may map its own group only so
    _write(f"/proc/{pid}/uid_map", f"{os.geteuid()} {os.geteuid()} 1\n{spare}")
    _write(f"/proc/{pid}/gid_map", f"{os.getegid()} {os.getegid()} 1\n{spare}")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())  # at once, or the kernel refuses
    finally:
        os.close(fd)


def seal() -> None:
    """In the first process of the process namespace: cut off the network, and make every file read-only.

    Raises:
        OSError: The machine refuses.
    """
    call("unshare", _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC)
    call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    attributes = struct.pack("<QQQQ", _READ_ONLY_NO_SUID, 0, 0, 0)
    call("syscall", _MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, attributes, len(attributes))
    # Without this the machine's processes can be listed, though not reached. In a container whose own is half hidden
    # the kernel refuses.
    with suppress(OSError):
        call("mount", b"proc", b"/proc", b"proc", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None)


def mount_scratch(path: str, *, size: int, inodes: int) -> None:
    """Put an empty file system in memory over a directory.

    Args:
        path: The directory.
        size: Bytes it can hold.
        inodes: Files and directories it can hold.
    """
    options = f"size={size},nr_inodes={inodes},mode=700"
    call("mount", b"scratch", os.fsencode(path), b"tmpfs", _MS_NOSUID | _MS_NODEV, options.encode())


def unmount(path: str) -> None:
    """Take away the uppermost file system on a directory, with all that is in it."""
    call("umount2", os.fsencode(path), _MNT_DETACH)
