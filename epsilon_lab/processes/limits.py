"""What one program may take: the numbers, and their enforcement by the kernel's own counters.

These stop accidents and bound malice: an endless loop, 8 GiB, a fork bomb, a full disk. They hide nothing: what a
program may read and reach is confinement's business.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass

from epsilon_lab.processes.bounds import Bounds, running_processes

_MIB = 1 << 20
_SPARE = 64 * _MIB
"""Bytes by which a program that ran out of memory may raise its limit, so that it can say where it did."""

_OTHERS = 512
"""Processes that a shared user may start later without making a program's threads fail."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run of a program may take."""

    timeout_s: float
    """Wall seconds; CPU seconds are bounded by this times the number of cores."""

    memory_mb: float
    """MiB of address space on top of the warm interpreter's. Several processes of one program may have it each."""

    output_mb: float
    """MiB of encoded output."""

    processes: int = 32
    """Processes and threads, the program's own included; 1 refuses every fork, so that no CPU time goes unseen."""

    open_files: int = 64
    file_mb: int = 64
    """MiB of one file it writes; of all of them together where its directory is a file system of its own."""

    @property
    def output_bytes(self) -> int:
        """Largest encoded output, bytes."""
        return int(self.output_mb * _MIB)

    def bounds(self, *, alone: bool) -> Bounds:
        """Turn the limits into the kernel's, for forks of this process: once, because a fork is short.

        Args:
            alone: Whether the forks' user runs nothing else, for processes are counted by user.
        """
        cpu = math.ceil(self.timeout_s) * (os.cpu_count() or 1) + 1
        file = int(self.file_mb * _MIB)
        processes = self.processes if alone or self.processes == 1 else self.processes + running_processes() + _OTHERS
        found = {
            "RLIMIT_CPU": (cpu, cpu + 1),
            "RLIMIT_NPROC": (processes, processes),
            "RLIMIT_FSIZE": (file, file),
            "RLIMIT_NOFILE": (self.open_files, self.open_files),
            "RLIMIT_CORE": (0, 0),
            "RLIMIT_MEMLOCK": (0, 0),
        }
        if sys.platform == "linux":
            memory = _address_space() + int(self.memory_mb * _MIB)
            found["RLIMIT_AS"] = (memory, memory + _SPARE)
        return Bounds(found)


def loosen_memory() -> None:
    """After a MemoryError: take the spare room, to be able to report it."""
    with suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


_UNBOUNDED = nullcontext()


def memory_ceiling(memory_mb: float | None) -> AbstractContextManager[None]:
    """Let this process take only so much more memory while this lasts: a bound on accidents, which code may raise.

    It is address space that is counted, so what is reserved and never touched counts as well. On macOS nothing is.

    Args:
        memory_mb: MiB on top of what the process has; each process that it starts may have as much. None: no bound.
    """
    return _UNBOUNDED if memory_mb is None or sys.platform != "linux" else _ceiling(memory_mb)


@contextmanager
def _ceiling(memory_mb: float) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = _address_space() + int(memory_mb * _MIB)
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([ceiling, *known]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _address_space() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
