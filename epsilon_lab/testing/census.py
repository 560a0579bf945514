"""Who is still alive: the processes that belong to a directory, found without asking anyone's parent.

A process that was orphaned, that left its group or that forked twice is no one's child any more, yet it still works in
its lab's directory, was started with it in its command line, or carries it in its environment. That is what is looked
at, so a test can say "nothing is left" and mean it. Linux only: it reads `/proc`.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from epsilon_lab.errors import LabError


class Leftover(LabError):
    """Processes that should have ended are still alive."""


def living(directory: Path | str, *, among: Collection[int] | None = None) -> dict[int, str]:
    """Find the processes that belong to a directory, this one excepted.

    Args:
        directory: An absolute path; a process belongs to it by working directory, command line or environment.
        among: Process ids to look at; None for all.

    Returns:
        Process id -> command line. Zombies, which run nothing, are left out.
    """
    needle = os.fsencode(os.fspath(directory))
    found = {}
    for pid in pids() if among is None else among:
        if pid == os.getpid():
            continue
        process = Path("/proc") / str(pid)
        try:
            command = (process / "cmdline").read_bytes()
            belongs = needle in command or needle in (process / "environ").read_bytes()
            if not belongs:
                belongs = os.fsencode((process / "cwd").readlink()).startswith(needle)
        except OSError:
            continue  # gone, or another user's: neither is ours
        if belongs and not is_zombie(pid):
            found[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def pids() -> set[int]:
    """All process ids of this machine."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def children() -> dict[int, str]:
    """List the children of this process, zombies too: process id -> command line."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            listed = (task / "children").read_text().split()
        except OSError:
            continue  # the thread ended meanwhile
        for pid in map(int, listed):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                command = ""
            found[pid] = command.strip() or "(ended, never waited for)"
    return found


class Sighting(NamedTuple):
    """A process seen once; its id alone may be another's by now."""

    pid: int
    born: int
    """When it was started, in the kernel's ticks since boot."""


def descendants(pid: int) -> set[Sighting]:
    """Find the processes that descend from one, at this moment."""
    found: set[Sighting] = set()
    unseen = [pid]
    while unseen:
        parent = unseen.pop()
        with suppress(OSError):  # it ended meanwhile
            for listed in Path(f"/proc/{parent}/task").glob("*/children"):
                born = [(child, _born(child)) for child in map(int, listed.read_text().split())]
                found |= {Sighting(child, tick) for child, tick in born if tick is not None}
                unseen += [child for child, _ in born]
    return found


def is_alive(process: Sighting) -> bool:
    """Tell whether this very process still runs something."""
    return _born(process.pid) == process.born and not is_zombie(process.pid)


def _born(pid: int) -> int | None:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return None


def is_zombie(pid: int) -> bool:
    """Tell whether a process has ended and only waits for its parent to ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait_until_none(directory: Path | str, *, within_s: float) -> None:
    """Wait until no process belongs to a directory.

    Args:
        directory: See `living`.
        within_s: Seconds to wait.

    Raises:
        Leftover: Some are still alive; the message names them.
    """
    if not wait_until(lambda: not living(directory), within_s=within_s):
        left = "\n".join(f"  {pid}  {command}" for pid, command in living(directory).items())
        raise Leftover(f"still alive after {within_s} s, and belonging to {directory}:\n{left}")


def wait_until(condition: Callable[[], bool], *, within_s: float, watching: int | None = None) -> bool:
    """Look at a condition again and again until it holds.

    Args:
        condition: What must come true.
        within_s: Seconds to go on looking.
        watching: A descriptor (of a pipe, a process) that makes it worth looking at once when it is readable.

    Returns:
        Whether it held in time.
    """
    deadline = monotonic() + within_s
    while not condition():
        left = deadline - monotonic()
        if left <= 0:
            return False
        ready = select.select([watching] if watching is not None else [], [], [], min(left, 0.02))[0]
        if ready:
            return condition()
    return True
