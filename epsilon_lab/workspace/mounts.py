"""Which file system a path lies on, because on some of them what a journal and a lock promise does not hold.

A network file system may answer a sync from a cache, lose a lock without a word when its server restarts, and show
other machines old bytes. So a workspace there is warned of, is kept by a lease instead of a lock, and is not promised
to survive a power cut. What the system says in `/proc/self/mountinfo` (proc(5)) is taken for true; where there is no
such file (macOS), every file system counts as local.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from epsilon_lab.errors import InvalidInput

MOUNTINFO = Path("/proc/self/mountinfo")

_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs", "fuse.davfs", "fuse.rclone"})


def file_system(path: Path | str) -> str:
    """Name the type of the file system that a path lies on, or would lie on: `ext4`, `nfs4`; empty where unknown."""
    try:
        mounts = MOUNTINFO.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
    return type_of(os.path.realpath(path), mounts)


def caution(workspace: Path, durability: str) -> str:
    """What to say to someone who opens a workspace where it lies; empty where it lies well.

    Raises:
        InvalidInput: `disk` cannot be promised there.
    """
    kind = file_system(workspace)
    if not is_remote(kind):
        return ""
    if durability == "disk":
        raise InvalidInput(
            "durability",
            f"'disk' cannot be promised: {str(workspace)!r} lies on {kind}, where another machine may answer a sync "
            f"before its disk has the bytes",
            "use 'process', or a workspace on a local disk",
        )
    return (
        f"the workspace {str(workspace)!r} lies on {kind}, a network file system: it is slower there, is kept by a "
        f"lease instead of a lock, and what other machines see of it may be late. Use a local disk; copy what is done"
    )


def type_of(path: str, mounts: str) -> str:
    """The same, from what `mountinfo` says.

    Args:
        path: Absolute, without links.
        mounts: Lines `id parent major:minor root mount-point options ... - type source options`; a later line lies on
            top of an earlier one of the same mount point.
    """
    best, found = -1, ""
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = PurePath(_unescaped(fields[4]))
        if len(point.parts) >= best and PurePath(path).is_relative_to(point):
            best, found = len(point.parts), after.split(" ")[0]
    return found


def is_remote(kind: str) -> bool:
    """Whether files of this type are served by another machine."""
    return kind in _REMOTE


def _unescaped(text: str) -> str:
    """Blanks and backslashes are written as octal numbers there."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text
