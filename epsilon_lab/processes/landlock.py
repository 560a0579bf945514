"""Which files a program may read and write: the kernel's landlock, which any process may put upon itself.

It governs paths whatever their owner and mode. Where the kernel is new enough it also refuses TCP, signals to others
and abstract sockets. It hides no names and no sizes, and does not govern a file's mode, times and owner.

Source of the numbers: the kernel's `include/uapi/linux/landlock.h`, Linux 6.12 (ABI 6).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress

from epsilon_lab.processes.native import call

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_ASK_VERSION = 1
_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
_EXECUTE = 1
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | 1 << 15
_EXECUTE_AND_DEVICES = _EXECUTE | 1 << 6 | 1 << 11 | 1 << 15
_ALL_TCP = 0b11
_ALL_SCOPES = 0b11

_NEWEST = 6


def _files_governed(abi: int) -> int:
    return (1 << 13) - 1 | (abi >= 2) << 13 | (abi >= 3) << 14 | (abi >= 5) << 15


def version() -> int:
    """Tell which version of landlock this kernel has.

    Raises:
        OSError: None, or it was not enabled when the machine started.
    """
    return call("syscall", _CREATE, None, 0, _ASK_VERSION)


class Ruleset:
    """What may be read and written, and whether programs may be started from there; nothing else may be.

    Args:
        readable: Files and directories; one that is missing is left out.
        writable: Directories in which anything may be made and removed.
        devices: Files that may be read and written.
        listable: Directories whose names, and those of all below them, may be read, and no content.
        programs: Whether what may be read may be executed.
        tcp: Whether TCP connections may be made and taken.

    Raises:
        OSError: The kernel has no landlock.
    """

    def __init__(
        self,
        readable: Iterable[str],
        writable: Iterable[str],
        devices: Iterable[str] = (),
        *,
        listable: Iterable[str] = (),
        programs: bool = False,
        tcp: bool = False,
    ) -> None:
        abi = min(version(), _NEWEST)
        governed = _files_governed(abi)
        ports = _ALL_TCP if abi >= 4 and not tcp else 0
        execute = _EXECUTE if programs else 0
        scopes = _ALL_SCOPES if abi >= 6 else 0
        attributes = struct.pack(
            "<QQQ", governed, ports, scopes
        )  # an older kernel accepts what it does not know as zero
        self._fd = call("syscall", _CREATE, attributes, len(attributes), 0)
        try:
            for path in readable:
                self._allow(path, governed & (_READ_FILE | _READ_DIR | execute))
            for path in devices:
                self._allow(path, governed & (_READ_FILE | _WRITE_FILE | _TRUNCATE))
            for path in listable:
                self._allow(path, governed & _READ_DIR)
            for path in writable:
                self._allow(path, governed & (~_EXECUTE_AND_DEVICES | execute))
        except BaseException:
            self.close()
            raise

    def _allow(self, path: str, rights: int) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                if not stat.S_ISDIR(os.fstat(fd).st_mode):
                    rights &= _OF_FILES
                call("syscall", _ADD, self._fd, _BENEATH, struct.pack("<Qi", rights, fd), 0)
            finally:
                os.close(fd)

    def restrict(self) -> None:
        """Put this process under the rules, for good; it must have renounced new privileges.

        Raises:
            OSError: The kernel refuses.
        """
        call("syscall", _RESTRICT, self._fd, 0)

    def close(self) -> None:
        """Forget the rules; processes under them stay so."""
        os.close(self._fd)
