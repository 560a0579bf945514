"""How much room the disk has, looked at before it is gone: what is under way needs some to be finished.

A run whose journal cannot be written has to stop where it is. So while there is still room for what has been begun to
end and be recorded, nothing more is begun. A quota is not seen here, and ends as a write that fails.
"""

from __future__ import annotations

import os
from pathlib import Path

_MB = 1024 * 1024


class Space:
    """The room on a workspace's disk.

    Args:
        path: The workspace.
        reserve_bytes: With less than this nothing more is begun, until there is twice as much.
    """

    def __init__(self, path: Path, reserve_bytes: int) -> None:
        self._path = path
        self._reserve = reserve_bytes
        self._was_short = False

    def free_bytes(self) -> int:
        """What this user may still write."""
        stat = os.statvfs(self._path)
        return stat.f_bavail * stat.f_frsize

    def shortage(self) -> str:
        """Say that the disk is nearly full, and what to do; empty where it is not, or nobody can tell."""
        try:
            free = self.free_bytes()
        except OSError:
            return ""
        self._was_short = free < self._reserve * (2 if self._was_short else 1)
        if not self._was_short:
            return ""
        return (
            f"the disk of {str(self._path)!r} is nearly full ({free // _MB} MB left): what is under way is finished "
            f"and recorded, nothing more is begun. Free {-(-2 * self._reserve // _MB)} MB, and it goes on by itself"
        )
