"""What an outside program sees and may touch: the system, what it was given, its directory, and nothing of the user's.

Confinement of candidates (confinement.py) forbids to start programs, and candidates need no path but one. An outside
program is the opposite: it starts others, and finds everything by path. So the same mechanisms are set otherwise:

    namespaces   a root directory of its own, made of the system's directories and of what it was given, all read-only
                 but its working directory, and of a /tmp in memory; no network but a loopback of its own; no process
                 but those it started, which end with it
    landlock     writing below its working directory and /tmp alone; without namespaces also reading: the system and
                 what it was given
    seccomp      no namespaces, no tracing, and no sockets but those of the network it was granted: a path is also the
                 address of a local service, such as the lab's broker or a container engine, which obeys who may write
                 to it
    uid          a user id that owns nothing. Its working directory is shown to it as its own (namespaces.lend); on the
                 disk the files stay the user's. Only together with namespaces, and where we may change user

Where only landlock and seccomp hold, a program can change mode and times of the user's files, which landlock does not
govern; programs are of no use without `chmod`.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress

from epsilon_lab.processes import namespaces
from epsilon_lab.processes.confinement import become, renounce
from epsilon_lab.processes.landlock import Ruleset
from epsilon_lab.processes.orphans import die_with_parent
from epsilon_lab.processes.seccomp import Filter

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store")
_FACTS = "/sys/devices/system/cpu"
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the program's own, in namespaces
_TEMPORARY = "/tmp"  # noqa: S108 - the same
_INODES = 1 << 18
_SMALL = 1 << 20
_NETWORK = (socket.AF_INET, socket.AF_INET6, 16)  # 16: AF_NETLINK, by which a C library lists interfaces


class Refused(OSError):
    """A mechanism is not to be had on this machine.

    Attributes:
        mechanism: Its name.
    """

    def __init__(self, mechanism: str, reason: object) -> None:
        self.mechanism = mechanism
        super().__init__(f"{reason}")


class Enclosure:
    """What one outside program enters.

    Args:
        directory: Its working directory, resolved.
        scratch: A directory that is its own; in namespaces only the place where its root is put together.
        mechanisms: Those to use.
        uid: Its user and group id; None for ours.
        network: Whether it may reach the network.
        readable: Files and directories that it may read, and execute, besides the system's.
        listable: Directories of which it may know names.
        room: Bytes that its /tmp can hold.
    """

    def __init__(
        self,
        directory: str,
        scratch: str,
        *,
        mechanisms: Sequence[str],
        uid: int | None,
        network: bool,
        readable: Iterable[str],
        listable: Iterable[str] = (),
        room: int,
    ) -> None:
        self._directory = directory
        self._scratch = scratch
        self._mechanisms = mechanisms
        self._uid = uid
        self._network = network
        self._room = room
        self._listable = list(listable)
        self._readable = [*SYSTEM, *_settings(is_root=uid is None and os.geteuid() == 0), *readable]
        self.temporary = _TEMPORARY if self._is_inside else scratch
        """Its directory for temporary files."""

    @property
    def _is_inside(self) -> bool:
        return "namespaces" in self._mechanisms

    def seal(self) -> None:
        """In the first process of a process namespace: put the program's root directory together, and move there.

        Raises:
            Refused: The machine does not let us.
        """
        try:
            namespaces.seal(network=self._network)
            if not self._network:
                namespaces.raise_loopback()
            self._build(self._scratch)
        except OSError as error:
            raise Refused("namespaces", error) from error

    def _build(self, root: str) -> None:
        open_to_all = [root + path for path in (_TEMPORARY, _SHARED_MEMORY)]
        namespaces.mount_scratch(root, size=_SMALL, inodes=_INODES, mode=0o755)
        for path in open_to_all:
            os.makedirs(path)
            namespaces.mount_scratch(path, size=self._room, inodes=_INODES, mode=0o1777)
        visible = {*self._readable, *_DEVICES, _FACTS, "/proc", self._directory}
        for path in sorted(visible):  # a directory before what is in it
            namespaces.show(path, root)
        for name, target in _LINKS.items():
            os.symlink(target, f"{root}/dev/{name}")
        namespaces.freeze(root, [*open_to_all, root + self._directory])
        namespaces.change_root(root)

    def enter(self, parent: int) -> None:
        """Confine this process, for good; it dies with its parent.

        Args:
            parent: The parent's process id.

        Raises:
            Refused: The machine lacks a mechanism.
            OSError: It cannot even give up its rights.
        """
        if self._uid is not None:
            become(self._uid)
        renounce()
        die_with_parent(parent)  # after the change of user, which cancels it
        for name, step in (("landlock", self._restrict), ("seccomp", self._filter)):
            if name in self._mechanisms:
                try:
                    step()
                except OSError as error:
                    raise Refused(name, error) from error

    def _restrict(self) -> None:
        if self._is_inside:  # where nothing else is to be seen
            readable, writable = ["/"], [self._directory, _TEMPORARY, _SHARED_MEMORY]
        else:
            readable, writable = [*self._readable, _FACTS, "/proc"], [self._directory, self._scratch]
        ruleset = Ruleset(
            readable,
            writable,
            _DEVICES,
            listable=self._listable,
            programs=True,
            tcp=self._network or self._is_inside,
        )
        ruleset.restrict()
        ruleset.close()

    def _filter(self) -> None:
        Filter(guard_files=False, families=_NETWORK if self._network or self._is_inside else ()).install()


def _settings(*, is_root: bool) -> list[str]:
    """What of /etc may be read: all that its modes let anyone read, which as root they cannot keep back."""
    if not is_root:
        return ["/etc"]
    with suppress(OSError), os.scandir("/etc") as entries:
        return [entry.path for entry in entries if _is_public(entry)]
    return []


def _is_public(entry: os.DirEntry[str]) -> bool:
    try:
        return bool(entry.stat().st_mode & stat.S_IROTH)
    except OSError:  # a link that leads nowhere
        return False


def belongings(program: str) -> list[str]:
    """What an executable needs: its own file, and the tree it was installed as, unless that is somebody's home.

    Args:
        program: Its path.
    """
    home = os.path.expanduser("~")
    found = []
    for path in {os.path.abspath(program), os.path.realpath(program)}:
        found.append(path)
        prefix, folder = os.path.split(os.path.dirname(path))
        if folder == "bin" and not (home + os.sep).startswith(prefix.rstrip(os.sep) + os.sep):
            found.append(prefix)
    return found
