"""The process above an outside program: whoever dies first, nothing the program started is left.

A lab's process cannot be what adopts the program's orphans: the kernel has children of its own, and threads. So each
program has a keeper, fresh and small, which runs nobody's code. It sets the program's confinement up, watches what all
its processes take together, and holds one end of a channel: when that closes, because the task was cancelled or its
worker killed, all of it ends.

    the lab's process ── keeper ── first process ── program ── what it starts
                                   adopts orphans; in namespaces it is what they end with

The channel carries one message to here (the setup) and at most three back: `refused`, `error` or `started`, then
`ended`.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
from contextlib import suppress
from typing import Any, NoReturn

from epsilon_lab.processes import namespaces, native, tree
from epsilon_lab.processes.bounds import Bounds, running_processes
from epsilon_lab.processes.channel import Channel, ChannelClosed
from epsilon_lab.processes.confinement import spare_uids, usable_uid
from epsilon_lab.processes.enclosure import Enclosure, Refused
from epsilon_lab.processes.orphans import die_with_parent
from epsilon_lab.processes.scratch import Scratch

_TICK_MS = 50
_MIB = 1 << 20
_SHARED_USER = 512
"""Processes that a shared user may start later without making the program's fail."""

_THREADS = 4
"""The kernel counts threads as processes; so many to each."""

_TEMPORARY_MB = 1024
"""A /tmp of its own lies in memory."""

_EXIT_UNSTARTED = 70


def main(fd: int) -> None:
    """Keep one program."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the channel counts
    tree.become_subreaper()
    channel = Channel(socket.socket(fileno=fd))
    os.set_inheritable(fd, False)
    with suppress(ChannelClosed):
        setup = channel.receive()
        refused: dict[str, str] = {}
        uid = _borrow_uid(setup, refused)
        scratch = Scratch({}, None)
        try:
            _keep(channel, setup, scratch, uid, refused)
        finally:
            tree.reap_children()
            scratch.remove()
            _take_leave(setup)


def _take_leave(setup: dict[str, Any]) -> None:
    """End what is not below this process, a container."""
    if setup["farewell"]:
        _let_go()
        os.waitpid(os.posix_spawn(setup["farewell"][0], setup["farewell"], setup["environment"]), 0)


def _borrow_uid(setup: dict[str, Any], refused: dict[str, str]) -> int | None:
    """Find a spare user id, and show what is ours and the program's as its own."""
    if not {"uid", "namespaces"} <= set(setup["mechanisms"]):
        return None
    uid = usable_uid(spare_uids(0)[:1])
    if uid is None:
        refused["uid"] = "no spare user id can be taken"
        return None
    try:
        namespaces.lend([setup["directory"], *setup["lent"]], (os.geteuid(), os.getegid()), uid)
    except OSError as error:
        refused["uid"] = f"files cannot be lent to another user: {error}"
        return None
    return uid


def _keep(channel: Channel, setup: dict[str, Any], scratch: Scratch, uid: int | None, refused: dict[str, str]) -> None:
    mechanisms = [name for name in setup["mechanisms"] if name != "uid" or uid is not None]
    enclosure = Enclosure(
        setup["directory"],
        scratch.path,
        mechanisms=mechanisms,
        uid=uid,
        network=setup["network"],
        readable=setup["readable"],
        listable=setup["listable"],
        room=min(setup["disk_mb"], _TEMPORARY_MB) * _MIB,
    )
    if "namespaces" in mechanisms:
        try:
            namespaces.enter(uid)
        except OSError as error:
            channel.send({"refused": {"namespaces": str(error)}})
            return
    story, told = os.pipe()
    keeper = os.getpid()
    first = os.fork()
    if first == 0:
        try:
            os.close(story)
            channel.close()
            _be_first(told, keeper, setup, enclosure, alone=uid is not None)
        finally:
            os._exit(_EXIT_UNSTARTED)
    os.close(told)
    _let_go()
    try:
        end = _follow(channel, story, _Watch(first, setup), {"mechanisms": mechanisms, "refused": refused})
    finally:
        tree.kill_tree(first)
        os.waitpid(first, 0)
        tree.reap_children()
    channel.send(end)


def _follow(channel: Channel, story: int, watch: _Watch, facts: dict[str, Any]) -> dict[str, Any]:
    """Wait for the program's end, or for a limit that its processes exceed together; say which.

    Raises:
        ChannelClosed: Nobody wants the program any more.
    """
    poll = select.poll()
    for fd in (channel.fileno(), story):
        poll.register(fd, select.POLLIN)
    heard = b""
    while True:
        ready = dict(poll.poll(_TICK_MS))
        if channel.fileno() in ready:
            raise ChannelClosed("nobody waits for this program")
        if story not in ready:
            if reason := watch.exceeded():
                return {"ended": reason}
            continue
        part = os.read(story, 1 << 16)
        heard += part
        *lines, heard = heard.split(b"\n")
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            if "started" not in message:
                return message
            channel.send(message | facts)
        if not part:
            return {"error": "the process above it was killed"}


class _Watch:
    """What all of a program's processes take together."""

    def __init__(self, first: int, setup: dict[str, Any]) -> None:
        self._first = first
        self._directory = setup["directory"]
        self._most_processes = setup["processes"]
        self._most_bytes = (setup["memory_mb"] or 0) * _MIB
        self._room = setup["disk_mb"] * _MIB
        self._had = _size(self._directory)
        self._free = _free(self._directory)

    def exceeded(self) -> str:
        """Name a limit that is exceeded; empty if none is."""
        found = tree.descendants(self._first)
        if len(found) > self._most_processes:
            return "processes"
        if self._most_bytes and sum(map(_resident, found)) > self._most_bytes < sum(map(_own_share, found)):
            return "memory"
        free = _free(self._directory)
        if self._free - free > self._room // 8:  # much was written, by whomever: worth a look at every file
            self._free = free
            if _size(self._directory) - self._had > self._room:
                return "disk"
        return ""


def _resident(pid: int) -> int:
    with suppress(OSError, IndexError), open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
    return 0


def _own_share(pid: int) -> int:
    """Bytes of a process, those it shares with others divided among them."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) << 10
    return _resident(pid)


def _free(directory: str) -> int:
    with suppress(OSError):
        about = os.statvfs(directory)
        return about.f_bavail * about.f_frsize
    return 0


def _size(directory: str) -> int:
    total, todo = 0, [directory]
    while todo:
        with suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
    return total


# --- in the first process, from here on ------------------------------------------------------------------------------


def _be_first(told: int, keeper: int, setup: dict[str, Any], enclosure: Enclosure, *, alone: bool) -> None:
    """Start the program, adopt what loses its parent, and tell how the program ended once all else has."""
    try:
        is_inside = "namespaces" in setup["mechanisms"]
        if is_inside:
            native.prctl(native.PR_SET_PDEATHSIG, signal.SIGKILL)
            enclosure.seal()
        else:
            die_with_parent(keeper)
            tree.become_subreaper()
        program, trouble = _start(setup, enclosure, alone=alone)
        if trouble:
            os.write(told, trouble)
            return
        _tell(told, {"started": True})
        _let_go()
        while (dead := os.waitpid(-1, 0))[0] != program:
            pass
        if is_inside:
            tree.empty_namespace()
        else:
            tree.reap_children()
        _tell(told, {"ended": "", "code": os.waitstatus_to_exitcode(dead[1])})
    except BaseException as error:  # noqa: BLE001 - the end of this process, told to the lab's
        _tell(told, _account(error))


def _start(setup: dict[str, Any], enclosure: Enclosure, *, alone: bool) -> tuple[int, bytes]:
    """Fork and execute the program; with its pid comes what went wrong, if anything did."""
    trouble, troubled = os.pipe()  # closed by a successful execve
    parent = os.getpid()
    program = os.fork()
    if program == 0:
        try:
            _become(setup, enclosure, parent, alone=alone)
        except BaseException as error:  # noqa: BLE001 - the end of this process, told to the lab's
            _tell(troubled, _account(error))
        finally:
            os._exit(_EXIT_UNSTARTED)
    os.close(troubled)
    with open(trouble, "rb") as file:
        return program, file.read()


def _become(setup: dict[str, Any], enclosure: Enclosure, parent: int, *, alone: bool) -> NoReturn:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(setup["directory"])  # before the change of user, who may not pass through what is above it
    environment = setup["environment"]
    if setup["confined"]:
        _bounds(setup, alone=alone).impose()
        enclosure.enter(parent)
        environment = dict.fromkeys(("HOME", "TMPDIR", "TMP", "TEMP"), enclosure.temporary) | environment
    else:
        die_with_parent(parent)
    os.execve(setup["program"], setup["arguments"], environment)  # noqa: S606 - what this process is for


def _bounds(setup: dict[str, Any], *, alone: bool) -> Bounds:
    """What the kernel counts for each process: stops at once what the keeper, for all of them, sees a moment later."""
    processes = _THREADS * setup["processes"] + (0 if alone else running_processes() + _SHARED_USER)
    limits = {
        "RLIMIT_NPROC": (processes, processes),
        "RLIMIT_FSIZE": (setup["disk_mb"] * _MIB,) * 2,
        "RLIMIT_CORE": (0, 0),
    }
    if setup["memory_mb"] is not None:  # not of address space, of which some runtimes reserve more than machines have
        limits["RLIMIT_DATA"] = (int(setup["memory_mb"] * _MIB),) * 2
    return Bounds(limits)


def _account(error: BaseException) -> dict[str, Any]:
    if isinstance(error, Refused):
        return {"refused": {error.mechanism: str(error)}}
    return {"error": error.strerror if isinstance(error, OSError) and error.strerror else repr(error)}


def _tell(fd: int, message: dict[str, Any]) -> None:
    os.write(fd, json.dumps(message).encode() + b"\n")


def _let_go() -> None:
    """Keep no end of the program's pipes open: their other ends shall see it close them."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
