"""Whether a process that was written down is still there.

Its id alone does not tell: another process may have the id by now (after a container was started again, very likely
so), and one that was killed keeps it until its parent asks. So the moment of its birth is written down with it. Where
there is no `/proc`, the id has to do.
"""

from __future__ import annotations

import os
from pathlib import Path


def birth(pid: int) -> int | None:
    """When a process was started, in the kernel's ticks since boot; None where it has ended, or nobody can tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_there(pid: int, born: int | None) -> bool:
    """Tell whether a process of this machine is still running.

    Args:
        pid: Its id.
        born: Its `birth`, as it was written down.
    """
    if born is not None:
        return birth(pid) == born
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # someone else's process
        return True
    return True
