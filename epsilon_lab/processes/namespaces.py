"""A world of its own for a sandbox: no network, no process but its programs', nothing to write to but one directory.

A process that calls `enter` gets a new user namespace, and its next child is the first process of a new process
namespace: it cannot be signalled from inside, and when it ends so does everything in there. That child calls `seal`.
The way is made once for a sandbox, so a program's fork costs nothing more.

User ids mean the same inside as outside. Only those that are needed exist inside.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from epsilon_lab.processes.native import call
from epsilon_lab.processes.syscall_numbers import NUMBERS

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = (
    0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 1 << 12, 1 << 14, 1 << 18
_MNT_DETACH = 2
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
_AT_FDCWD, _AT_RECURSIVE, _AT_EMPTY_PATH = -100, 0x8000, 0x1000
_OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 4
_READ_ONLY, _NO_SUID, _MAP_IDS = 1, 2, 1 << 20
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


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


def lend(paths: Iterable[str], owner: tuple[int, int], uid: int) -> None:
    """Show files and directories to a spare user as its own: what it makes there belongs, on the disk, to their owner.

    This process gets its own table of mounts for it. It needs the rights of root outside any user namespace; call it
    before `enter`.

    Args:
        paths: Files and directories, without links; one may lie in another.
        owner: User and group id on the disk.
        uid: The spare user and group id.

    Raises:
        OSError: The machine refuses, or a file system maps no ids. Nothing is lent then.
    """
    with ExitStack() as held:
        mapping = held.enter_context(_mapping(owner, uid))
        trees: list[tuple[str, int]] = []
        for path in sorted(set(paths)):  # a directory before what is in it
            tree = call("syscall", _OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC)
            held.callback(os.close, tree)
            _set_attributes(tree, b"", _AT_EMPTY_PATH, add=_MAP_IDS, mapping=mapping)
            trees.append((path, tree))
        call("unshare", _CLONE_NEWNS)
        call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
        for path, tree in trees:
            call("syscall", _MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(path), _MOVE_MOUNT_F_EMPTY_PATH)


@contextmanager
def _mapping(owner: tuple[int, int], uid: int) -> Iterator[int]:
    """A descriptor of a user namespace that is nothing but a mapping of ids."""
    stay, leave = os.pipe()
    ready, tell = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            os.close(leave)
            call("unshare", _CLONE_NEWUSER)
            os.write(tell, b"!")
            os.read(stay, 1)
        finally:
            os._exit(0)
    os.close(tell)
    try:
        os.read(ready, 1)
        for kind, ours in zip(("uid", "gid"), owner, strict=True):
            _write(f"/proc/{holder}/{kind}_map", f"{ours} {uid} 1\n")
        mapping = os.open(f"/proc/{holder}/ns/user", os.O_RDONLY)
        try:
            yield mapping
        finally:
            os.close(mapping)
    finally:
        for end in (stay, leave, ready):
            os.close(end)
        os.waitpid(holder, 0)


def _set_attributes(place: int, path: bytes, flags: int, *, add: int = 0, clear: int = 0, mapping: int = 0) -> None:
    attributes = struct.pack("<QQQQ", add, clear, 0, mapping)
    call("syscall", _MOUNT_SETATTR, place, path, flags, attributes, len(attributes))


def seal(*, network: bool = False) -> None:
    """In the first process of the process namespace: cut off the network, and make every file read-only.

    Args:
        network: Leave the network as it is; without it there is one of its own, which reaches nobody.

    Raises:
        OSError: The machine refuses.
    """
    call("unshare", _CLONE_NEWNS | _CLONE_NEWIPC | (0 if network else _CLONE_NEWNET))
    call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    freeze("/")
    # Without this the machine's processes can be listed, though not reached. In a container whose own is half hidden
    # the kernel refuses.
    with suppress(OSError):
        call("mount", b"proc", b"/proc", b"proc", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None)


def freeze(root: str, writable: Iterable[str] = ()) -> None:
    """Make every file system below a mount read-only, except some mounts."""
    _set_attributes(_AT_FDCWD, os.fsencode(root), _AT_RECURSIVE, add=_READ_ONLY | _NO_SUID)
    for path in writable:
        _set_attributes(_AT_FDCWD, os.fsencode(path), 0, clear=_READ_ONLY)


def show(path: str, root: str) -> None:
    """Let a file, directory or link be seen by the same path below another root, if there is one."""
    parent, name = os.path.split(path)
    for link in filter(os.path.islink, _above(path)):
        show(link, root)
    there = root + os.path.join(os.path.realpath(parent), name)
    if os.path.islink(path):
        if not os.path.lexists(there):
            os.makedirs(os.path.dirname(there), exist_ok=True)
            os.symlink(os.readlink(path), there)
    elif os.path.exists(path):
        if os.path.isdir(path):
            os.makedirs(there, exist_ok=True)
        elif not os.path.exists(there):
            os.makedirs(os.path.dirname(there), exist_ok=True)
            os.close(os.open(there, os.O_CREAT | os.O_WRONLY, 0o644))
        call("mount", os.fsencode(path), os.fsencode(there), None, _MS_BIND | _MS_REC, None)


def _above(path: str) -> list[str]:
    return [str(one) for one in reversed(Path(path).parents)]


def change_root(root: str) -> None:
    """Make a mount the root directory of this process; what was to be seen before is gone."""
    os.chdir(root)
    call("syscall", NUMBERS[os.uname().machine]["pivot_root"], b".", b".")
    call("umount2", b".", _MNT_DETACH)
    os.chdir("/")


def mount_scratch(path: str, *, size: int, inodes: int, mode: int = 0o700) -> None:
    """Put an empty file system in memory over a directory.

    Args:
        path: The directory.
        size: Bytes it can hold.
        inodes: Files and directories it can hold.
        mode: Who may use it.
    """
    options = f"size={size},nr_inodes={inodes},mode={mode:o}"
    call("mount", b"scratch", os.fsencode(path), b"tmpfs", _MS_NOSUID | _MS_NODEV, options.encode())


def raise_loopback() -> None:
    """In a network of one's own: let its processes reach each other by 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name = struct.pack("16sH22x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, name), 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def unmount(path: str) -> None:
    """Take away the uppermost file system on a directory, with all that is in it."""
    call("umount2", os.fsencode(path), _MNT_DETACH)
