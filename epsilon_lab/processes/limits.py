"""What one program may take: the numbers, and their enforcement by the kernel's own counters.

These stop accidents and bound malice: an endless loop, 8 GiB, a fork bomb, a full disk. They hide nothing: what a
program may read and reach is confinement's business.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass

_MIB = 1 << 20
_SPARE = 64 * _MIB
"""Bytes by which a program that ran out of memory may raise its limit, so that it can say where it did."""


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
    """MiB of one file it writes."""

    @property
    def output_bytes(self) -> int:
        """Largest encoded output, bytes."""
        return int(self.output_mb * _MIB)

    def impose(self, *, alone: bool) -> None:
        """Put this process under the limits, for good.

        Args:
            alone: Whether its user runs nothing else, for processes are counted by user.
        """
        cpu = math.ceil(self.timeout_s) * (os.cpu_count() or 1) + 1
        _limit("RLIMIT_CPU", cpu, cpu + 1)
        if sys.platform == "linux":
            memory = _address_space() + int(self.memory_mb * _MIB)
            _limit("RLIMIT_AS", memory, memory + _SPARE)
        processes = self.processes if alone or self.processes == 1 else self.processes + _running()
        _limit("RLIMIT_NPROC", processes)
        _limit("RLIMIT_FSIZE", int(self.file_mb * _MIB))
        _limit("RLIMIT_NOFILE", self.open_files)
        _limit("RLIMIT_CORE", 0)
        _limit("RLIMIT_MEMLOCK", 0)


def loosen_memory() -> None:
    """After a MemoryError: take the spare room, to be able to report it."""
    with suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _limit(name: str, soft: int, hard: int | None = None) -> None:
    number = getattr(resource, name, None)
    if number is None:
        return
    ceiling = resource.getrlimit(number)[1]
    hard = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(number, (soft, hard))


def _address_space() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _running() -> int:
    """How many processes and threads run on this machine: no fewer than this user's."""
    try:
        with open("/proc/loadavg", "rb") as file:
            return int(file.read().split()[3].partition(b"/")[2])
    except OSError:
        return 1000
