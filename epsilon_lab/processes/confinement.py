"""What keeps a program away from everything else, as strong as this machine allows, under a name that says which.

A tier is the list of the mechanisms that hold, strongest first:

    namespaces   the sandbox has no network, sees no process but its programs, and can write to one small file system
                 in memory; whatever a program starts ends with it. Once a sandbox: namespaces.py
    landlock     a program reads the interpreter and its libraries, and writes to its directory: landlock.py
    seccomp      a program starts no process, opens no socket, signals and traces nobody: seccomp.py
    uid          it runs under a user id that owns nothing. Needs the right to change user (root, mostly)
    limits       named where nothing but perhaps the uid holds: the kernel's limits alone protect from accidents, not
                 from malice. A program can read, and send away, whatever the user can

A mechanism is believed only after a process has entered it and a hostile program has met it: probe.py.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterable
from contextlib import suppress

from epsilon_lab.errors import InvalidInput
from epsilon_lab.processes import native
from epsilon_lab.processes.landlock import Ruleset
from epsilon_lab.processes.orphans import die_with_parent
from epsilon_lab.processes.seccomp import Filter

MECHANISMS = ("namespaces", "landlock", "seccomp", "uid")

_CAP_SETGID, _CAP_SETUID = 6, 7
_CAPABILITIES_3 = b"\x22\x05\x08\x20" + bytes(4)  # version 3, this process
_PER_PROCESS = 16
_FAR_UIDS = 1_900_000_000  # above the ranges that distributions and containers hand out, below 2**31
_NEAR_UIDS = 64_000  # where a user namespace maps only 16 bits
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
_FACTS = ("/usr/share/zoneinfo", "/etc/localtime", "/sys/devices/system/cpu")
_SOURCES = ("/dev/random", "/dev/urandom", "/dev/zero")
_SINKS = ("/dev/null", "/dev/full")


def tier(mechanisms: Iterable[str]) -> str:
    """Name what holds: `namespaces+landlock+seccomp+uid`, `limits+uid`, `limits`."""
    given = set(mechanisms)
    held = [name for name in MECHANISMS if name in given]
    return "+".join(held if set(held) - {"uid"} else ["limits", *held])


def mechanisms(name: str | None) -> list[str]:
    """Tell which mechanisms a tier may use; None for all.

    Raises:
        InvalidInput: There is no such tier.
    """
    if name is None:
        return list(MECHANISMS) if sys.platform == "linux" else ["uid"]
    wanted = [part for part in name.split("+") if part != "limits"]
    if tier(wanted) != name:
        known = "'limits', or some of " + ", ".join(MECHANISMS) + " in this order, joined by '+'"
        raise InvalidInput("tier", f"{name!r} is none", f"use {known}")
    return wanted


class Confinement:
    """What the programs of one sandbox enter.

    Args:
        uid: The user and group id that they run under, used by nothing else; None for the user's own.
        in_namespaces: Whether the sandbox is in namespaces of its own.
        readable: Directories of libraries, besides the interpreter's own.

    Attributes:
        refused: Mechanism -> why this machine does not give it.
    """

    def __init__(self, uid: int | None, *, in_namespaces: bool, readable: Iterable[str] = ()) -> None:
        self.uid = uid
        self.refused: dict[str, str] = {}
        self._in_namespaces = in_namespaces
        self._readable = [*_of_the_interpreter(), *_LIBRARIES, *_FACTS, *_SOURCES, *readable]
        self._ruleset: Ruleset | None = None
        self._filter: Filter | None = None

    def add_landlock(self, directory: str) -> None:
        """Let programs write to this directory alone, if the machine can; again after the directory was replaced."""
        try:
            ruleset = Ruleset(self._readable, [directory], _SINKS)
        except OSError as error:
            self.refused["landlock"] = str(error)
            return
        if self._ruleset is not None:
            self._ruleset.close()
        elif self._is_refused("landlock", ruleset.restrict):
            ruleset.close()
            return
        self._ruleset = ruleset

    def add_seccomp(self) -> None:
        """Refuse programs every system call that is not theirs to make, if the machine can."""
        try:
            filter_ = Filter(guard_files=self.uid is None and not self._in_namespaces)
        except OSError as error:
            self.refused["seccomp"] = str(error)
            return
        if not self._is_refused("seccomp", filter_.install):
            self._filter = filter_

    def renew(self, directory: str) -> None:
        """Tell that the directory which programs write to is another one."""
        if self._ruleset is not None:
            self.add_landlock(directory)

    @property
    def held(self) -> list[str]:
        """The mechanisms that programs enter."""
        there = (self._in_namespaces, self._ruleset is not None, self._filter is not None, self.uid is not None)
        return [name for name, is_there in zip(MECHANISMS, there, strict=True) if is_there]

    def enter(self, parent: int) -> None:
        """Confine this process, for good; it dies with its parent.

        Args:
            parent: The parent's process id.

        Raises:
            OSError: The machine refuses.
        """
        if self.uid is not None:
            become(self.uid)
        renounce()
        if sys.platform == "linux":
            die_with_parent(parent)  # after the change of user, which cancels it; before seccomp, which refuses it
        if self._ruleset is not None:
            self._ruleset.restrict()
        if self._filter is not None:
            self._filter.install()

    def _is_refused(self, name: str, step: Callable[[], None]) -> bool:
        def tried() -> None:
            renounce()
            step()

        number = _in_a_fork(tried)
        if number:
            self.refused[name] = os.strerror(abs(number))
        return number != 0


def become(uid: int) -> None:
    """Change to a user id that has no groups and owns nothing, for good.

    Raises:
        OSError: The machine refuses.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def renounce() -> None:
    """Give up every capability, and the ways to get one back."""
    if sys.platform == "linux":
        native.call("capset", _CAPABILITIES_3, bytes(24))
        native.prctl(native.PR_SET_NO_NEW_PRIVS, 1)


def spare_uids(number: int) -> list[int]:
    """User ids to try for a spawner of this process: of this machine's living processes, none else uses them.

    Args:
        number: Tells this process's spawners apart.
    """
    if not _may_change_user():
        return []
    own = os.getpid() * _PER_PROCESS + number % _PER_PROCESS
    return [_FAR_UIDS + own, _NEAR_UIDS + own % 900]


def usable_uid(uids: list[int]) -> int | None:
    """Find the first user id that a process can really take; whatever survives under it is killed."""
    for uid in uids:

        def purge(uid: int = uid) -> None:
            become(uid)
            if uid and os.getresuid() == (uid, uid, uid):
                with suppress(ProcessLookupError):  # nobody there
                    os.kill(-1, signal.SIGKILL)

        while (number := _in_a_fork(purge)) < 0:  # a survivor killed it first; then once more
            pass
        if number == 0:
            return uid
    return None


def _in_a_fork(step: Callable[[], None]) -> int:
    """Try something in a process of its own.

    Returns:
        0, the number of its OSError, or minus the number of the signal that killed it.
    """
    pid = os.fork()
    if pid == 0:
        number = 255
        try:
            step()
            number = 0
        except OSError as error:
            number = error.errno or 255
        finally:
            os._exit(number)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _of_the_interpreter() -> list[str]:
    found = {path for key, path in sysconfig.get_paths().items() if key.endswith("lib")}
    for prefix in (sys.prefix, sys.base_prefix):
        found.update(os.path.join(prefix, part) for part in ("lib", "lib64", "share/zoneinfo"))
    return sorted(found)


def _may_change_user() -> bool:
    try:
        with open("/proc/self/status") as file:
            held = int(next(line for line in file if line.startswith("CapEff:")).split()[1], 16)
    except (OSError, StopIteration):
        return os.geteuid() == 0
    return bool(held >> _CAP_SETUID & 1 and held >> _CAP_SETGID & 1)
