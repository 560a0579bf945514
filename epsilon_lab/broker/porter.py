"""Files on their way to and from workers that are far from the disk: a part at a time, a few a turn.

A worker asks for each part, so what is on its way is bounded by what it asked for, and a file of any size holds up the
broker's turn no longer than a few parts take. Nothing is remembered of what is read: each part is told with a tag of
the file as it was then, and parts of two writings are not put together. What is written grows beside its place under a
name of its own and takes its place whole, once its size and digest are what the worker said.

A worker's files go where tasks write: never to the top of the run directory, where its journal is, and never to the
folders of what tasks are given (`code`, `problem`), nor to the files of another attempt (`leaves`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from contextlib import suppress
from pathlib import Path, PurePosixPath

from epsilon_lab.broker.stimuli import Serve
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import leaf_ref
from epsilon_lab.messages.frames import Fetch, File, Keep, Kept
from epsilon_lab.workspace.layout import LEAVES, RunDirectory

PART = 256 * 1024
"""Most bytes of a file that a frame carries."""

_PARTS_A_TURN = 8
_ABANDONED_S = 60.0
"""A file of which no further part came for so long is given up."""

_GIVEN = ("code", "problem")


class Porter:
    """Hands out and takes in parts of files. It belongs to the thread of the broker."""

    def __init__(self) -> None:
        self._waiting: deque[Serve] = deque()
        self._growing: dict[tuple[str, int, str], _Growing] = {}
        self._now = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a request waits."""
        return bool(self._waiting)

    def take(self, request: Serve) -> None:
        """Put a request in line."""
        self._waiting.append(request)

    def serve(self, now: float) -> list[tuple[str, File | Kept]]:
        """Carry out the first few requests in line; each answer with the peer it is for."""
        answers: list[tuple[str, File | Kept]] = []
        self._now = now
        for _ in range(min(_PARTS_A_TURN, len(self._waiting))):
            each = self._waiting.popleft()
            run = RunDirectory(each.run_dir)
            match each.request:
                case Fetch():
                    answers.append((each.peer, _read(run, each.request)))
                case Keep():
                    answers.append((each.peer, self._keep(each.peer, run, each.request)))
        return answers

    def clear(self, now: float) -> None:
        """Give up files whose worker has gone, or stopped sending."""
        for key, growing in list(self._growing.items()):
            if now - growing.touched > _ABANDONED_S:
                del self._growing[key]
                growing.abandon()

    def close(self) -> None:
        """Give up every file that is not whole."""
        self.clear(float("inf"))

    def _keep(self, peer: str, run: RunDirectory, part: Keep) -> Kept:
        key = (peer, part.fence, part.ref)
        try:
            if part.offset == 0:
                if (begun := self._growing.pop(key, None)) is not None:
                    begun.abandon()
                self._growing[key] = _Growing(_place(run, part))
            growing = self._growing.get(key)
            if growing is None:
                return Kept(note_id=part.note_id, problem="the parts before are gone", must_begin_again=True)
            growing.touched = self._now
            growing.add(part)
            if growing.size >= part.size:
                del self._growing[key]
                growing.finish(part)
        except (OSError, InvalidInput) as error:
            if (begun := self._growing.pop(key, None)) is not None:
                begun.abandon()
            return Kept(note_id=part.note_id, problem=_said(error))
        return Kept(note_id=part.note_id)


class _Growing:
    """A file of which not all parts have come."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.size = 0
        self.touched = 0.0
        self._path = path
        self._digest = hashlib.sha256()
        self._temporary = path.with_name(f".part-{os.urandom(6).hex()}")
        self._file = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def add(self, part: Keep) -> None:
        """Append a part; one that came before, before a connection was cut, is passed over."""
        if part.offset + len(part.content) <= self.size:
            return
        if part.offset != self.size or self.size + len(part.content) > part.size:
            raise InvalidInput(f"part of {part.ref} at {part.offset}", f"does not follow the {self.size} bytes before")
        view = memoryview(part.content)
        while view:
            view = view[os.write(self._file, view) :]
        self._digest.update(part.content)
        self.size += len(part.content)

    def finish(self, part: Keep) -> None:
        """Put it in its place."""
        os.close(self._file)
        if self._digest.hexdigest() != part.sha256:
            self._temporary.unlink()
            raise InvalidInput(part.ref, "did not arrive as it was sent")
        os.replace(self._temporary, self._path)

    def abandon(self) -> None:
        """Leave nothing of it."""
        with suppress(OSError):
            os.close(self._file)
        self._temporary.unlink(missing_ok=True)


def _read(run: RunDirectory, part: Fetch) -> File:
    try:
        file = os.open(run.locate(part.ref), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            state = os.fstat(file)
            if not stat.S_ISREG(state.st_mode):
                return File(note_id=part.note_id, problem=f"{part.ref} is no file")
            return File(
                note_id=part.note_id,
                content=os.pread(file, PART, part.offset),
                size=state.st_size,
                tag=f"{state.st_ino}-{state.st_size}-{state.st_mtime_ns}",
            )
        finally:
            os.close(file)
    except (OSError, InvalidInput, ValueError) as error:
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return File(note_id=part.note_id, problem=_said(error), is_missing=is_missing)


def _place(run: RunDirectory, part: Keep) -> Path:
    parts, own = PurePosixPath(part.ref).parts, PurePosixPath(leaf_ref(part.task_id, part.fence))
    is_others = parts[:1] == (LEAVES,) and not (own in PurePosixPath(part.ref).parents or part.ref == f"{own}.json")
    if len(parts) < 2 or parts[0] in _GIVEN or is_others:
        raise InvalidInput(f"reference {part.ref!r}", "is not a place for what this task writes")
    return run.locate(part.ref)


def _said(error: Exception) -> str:
    return f"{error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
