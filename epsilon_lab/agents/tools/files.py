"""Files of the workspace, and of nothing else: read, write, edit by unique match.

Links are resolved, and what they lead to must lie in the workspace. Then the way is walked once more, directory by
directory, with no link followed: what a program put in between in the meantime is met there and refused. Pipes and
devices are no files, since to read them is to wait.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from epsilon_lab.agents.tools.tool import ToolContext, ToolError

READ_LIMIT = 4 * 2**20
"""Bytes of a file that is read or edited."""

_ENTRIES = 500
_LINES = 2_000


def read(path: str, context: ToolContext, start: int = 1, lines: int = _LINES) -> str:
    """Read a text file of the workspace, or list a directory of it.

    Args:
        path: Relative to the workspace; `.` lists the workspace itself.
        start: The first line to show, from 1.
        lines: How many lines to show at most.
        context: The task.
    """
    place = _inside(context.workspace, path)
    if place.is_dir():
        return _listing(place)
    text = _text(path, _content(context.workspace, place, path))
    whole = text.splitlines(keepends=True)
    first = max(start, 1) - 1
    part = whole[first : first + max(lines, 1)]
    if len(part) == len(whole):
        return text or "(the file is empty)"
    return f"[lines {first + 1} to {first + len(part)} of {len(whole)}]\n" + "".join(part)


def write(path: str, content: str, context: ToolContext) -> str:
    """Write a whole text file in the workspace; directories are made, a file of that name is replaced.

    Args:
        path: Relative to the workspace.
        content: The whole text.
        context: The task.
    """
    data = content.encode("utf-8", "replace")
    _replace(context.workspace, _inside(context.workspace, path), path, data)
    return f"wrote {len(data):,} bytes to {path}"


def edit(path: str, old: str, new: str, context: ToolContext) -> str:
    """Replace a piece of a text file in the workspace; the piece must occur exactly once.

    Args:
        path: Relative to the workspace.
        old: The text to replace, exactly as it stands in the file, with enough around it to be the only such place.
        new: The text to put there.
        context: The task.
    """
    if not old:
        raise ToolError("old is empty; to write a whole file, use write")
    place = _inside(context.workspace, path)
    text = _text(path, _content(context.workspace, place, path))
    count = text.count(old)
    if count == 0:
        raise ToolError(f"old does not occur in {path}; read the file and copy the text exactly, blanks included")
    if count > 1:
        at = ", ".join(str(text[:index].count("\n") + 1) for index in _places(text, old))
        raise ToolError(f"old occurs {count} times in {path} (lines {at}); give more of the text around it")
    _replace(context.workspace, place, path, text.replace(old, new).encode("utf-8", "replace"))
    return f"replaced 1 place in {path}"


def _places(text: str, piece: str, most: int = 10) -> Iterator[int]:
    index = -1
    for _ in range(most):
        index = text.find(piece, index + 1)
        if index < 0:
            return
        yield index


def _inside(workspace: Path, path: str) -> Path:
    """The place in the workspace that a path means, its links resolved.

    Raises:
        ToolError: It leads outside.
    """
    if "\0" in path:
        raise ToolError("a path holds no NUL character")
    if Path(path).is_absolute() or path.startswith("~"):
        raise ToolError(f"{path!r} is an absolute path; give one relative to the workspace")
    root = workspace.resolve()
    try:
        place = (root / path).resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise ToolError(f"{path!r} leads nowhere ({error})") from None
    if not place.is_relative_to(root):
        raise ToolError(f"{path!r} leads outside the workspace; only files in it can be reached")
    return place


def _listing(place: Path) -> str:
    with os.scandir(place) as entries:
        names = sorted(entry.name + "/" * entry.is_dir(follow_symlinks=False) for entry in entries)
    more = [f"[... {len(names) - _ENTRIES} more]"] if len(names) > _ENTRIES else []
    return "\n".join([*names[:_ENTRIES], *more]) or "(the directory is empty)"


def _text(path: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ToolError(f"{path} is no text: {len(data):,} bytes that begin {data[:16]!r}") from None


@contextmanager
def _directory(workspace: Path, place: Path, path: str, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the directory that a place is in, reached without following a link."""
    root = workspace.resolve()
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(root, flags)
    try:
        for part in place.relative_to(root).parts[:-1]:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
            below = os.open(part, flags, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from None
    finally:
        os.close(handle)


def _content(workspace: Path, place: Path, path: str) -> bytes:
    with _directory(workspace, place, path) as directory:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: the open of a pipe would wait
        with open(os.open(place.name, flags, dir_fd=directory), "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise ToolError(f"{path} is no file")
            if state.st_size > READ_LIMIT:
                raise ToolError(
                    f"{path} has {state.st_size:,} bytes, more than the {READ_LIMIT:,} that can be read at once; "
                    "look at a part of it with a program"
                )
            return file.read(READ_LIMIT)


def _replace(workspace: Path, place: Path, path: str, data: bytes) -> None:
    """Write a whole file beside its place, then move it there; it keeps the mode of the one it replaces."""
    if place == workspace.resolve():
        raise ToolError(f"{path!r} is the workspace itself; give the path of a file in it")
    with _directory(workspace, place, path, make=True) as directory:
        mode = 0o644
        with suppress(FileNotFoundError):
            state = os.stat(place.name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(state.st_mode):
                raise ToolError(f"{path} is a directory")
            mode = stat.S_IMODE(state.st_mode)
        temporary = f".part-{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        try:
            with open(os.open(temporary, flags, mode, dir_fd=directory), "wb") as file:
                file.write(data)
            os.replace(temporary, place.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
