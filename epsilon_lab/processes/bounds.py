"""Limits as the kernel counts them, for one process and what it starts.

Apart from limits.py for the sake of keepers: one is started for each outside program, and what it need not load, such
as `dataclasses`, was a sixth of the processor time of its start (10 of 60 ms, November 2026).
"""

from __future__ import annotations

import resource
from collections.abc import Mapping


class Bounds:
    """Kernel limits, ready to be set. None is raised above what this process has."""

    def __init__(self, limits: Mapping[str, tuple[int, int]]) -> None:
        self._limits: list[tuple[int, tuple[int, int]]] = []
        for name, (soft, hard) in limits.items():
            number = getattr(resource, name, None)
            if number is None:
                continue
            ceiling = resource.getrlimit(number)[1]
            if ceiling != resource.RLIM_INFINITY:
                soft, hard = min(soft, ceiling), min(hard, ceiling)
            self._limits.append((number, (soft, hard)))

    def impose(self) -> None:
        """Put this process under them, for good."""
        for number, limit in self._limits:
            resource.setrlimit(number, limit)


def running_processes() -> int:
    """How many processes and threads run on this machine: no fewer than this user's."""
    try:
        with open("/proc/loadavg", "rb") as file:
            return int(file.read().split()[3].partition(b"/")[2])
    except OSError:
        return 1000
