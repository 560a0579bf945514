"""An assignment becomes a result or a failure: the one boundary where any exception is caught.

Whatever user code does inside Python, an answer comes out: a raise, `sys.exit`, a result that cannot travel. What it
does to the process (`os._exit`, a segfault) is the supervisor's to see. Both lanes share the same three steps: resolve
and read, call, pack.
"""

from __future__ import annotations

import functools
import os
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CoroutineType, TracebackType
from typing import Any

import msgspec

import epsilon_lab
from epsilon_lab.agents.function import Entry, resolve
from epsilon_lab.agents.leaf import Leaf, Recorder
from epsilon_lab.broker.client import Peer
from epsilon_lab.errors import BudgetExhausted, DiskFull, InvalidInput, LabError, LeafFailed, ModelRefused
from epsilon_lab.messages.call import CALL, CALL_ASYNC, is_users
from epsilon_lab.messages.events import ArtifactSaved
from epsilon_lab.messages.secrets import conceal
from epsilon_lab.messages.tasks import Assignment, AttemptOutcome, Failure, Result
from epsilon_lab.messages.values import as_json, pack, unpack
from epsilon_lab.processes.account import printable
from epsilon_lab.processes.environment import held_secrets
from epsilon_lab.processes.limits import memory_ceiling
from epsilon_lab.workers.capture import Capture
from epsilon_lab.workers.current import CURRENT, CurrentTask
from epsilon_lab.workspace.layout import RunDirectory

_HOUSE = str(Path(epsilon_lab.__file__).parent) + os.sep
OpenRunDirectory = Callable[[Assignment], RunDirectory]

_ERROR_LIMIT = 500
_TRACEBACK_LIMIT = 20_000


class Refused(LabError):
    """The framework, and no user code, says why this attempt can have no output; another attempt would be the same."""


class Attempt:
    """One assignment, on its way to an answer."""

    _published: tuple[str, Sequence[ArtifactSaved]] = "", ()

    def __init__(self, assignment: Assignment, run: RunDirectory, recorder: Recorder | None = None) -> None:
        self.started_at = time.time()
        self._assignment = assignment
        self.leaf = Leaf(run, assignment.task.task_id, assignment.attempt, assignment.fence, recorder)

    def prepare(self, *, in_async_lane: bool) -> tuple[Entry, tuple[Any, ...]]:
        """Find what to call, and with what.

        Raises:
            Refused: There is no such function, it belongs in the other lane, or its input cannot be read.
        """
        task = self._assignment.task
        try:
            entry = resolve(task.entry, self.leaf.run)
            payload = self.leaf.run.fetch(task.payload)
            given = payload if task.entry in (CALL, CALL_ASYNC) else unpack(payload)
        except Exception as error:
            raise Refused(error_line(error)) from error
        if entry.is_async is not in_async_lane:
            lane, other = ("async", "a plain function") if in_async_lane else ("process", "an async function")
            raise Refused(f"task {task.task_id} was sent to lane {lane!r}, but {task.entry} is {other}")
        return entry, (given, self.leaf) if entry.takes_leaf else (given,)

    def publish(self) -> None:
        """Make a layer of the files that it wrote, once its work is done; it counts if the result is accepted.

        Raises:
            LeafFailed: A file that must be there is missing, or something there cannot be published.
        """
        if self.leaf.files is not None or self.leaf.request is not None:
            self._published = self.leaf.publish()

    def completed(self, value: Any) -> Result:
        """Pack the output; a large one becomes a file.

        Raises:
            Refused: It cannot travel, or cannot be written.
            DiskFull: There is no room for its file.
        """
        task_id = self._assignment.task.task_id
        if isinstance(value, CoroutineType):
            value.close()
        try:
            packed = pack(value) if is_users(self._assignment.task.entry) else as_json(value)
            kept, saved = self.leaf.run.keep(packed, f"outputs/{task_id}", kind="output", task_id=task_id)
        except InvalidInput as error:
            raise Refused(f"the output, {error}") from error
        except RecursionError as error:
            raise Refused(f"the output, a value of type {type(value).__name__}, is nested too deeply") from error
        except OSError as error:
            raise Refused(f"the output could not be written: {error}") from error
        files, lines = self._published
        for line in (*saved, *lines, *self.leaf.flags):
            self.leaf.emit(line)
        return Result(
            task_id=task_id,
            run_id=self._assignment.run_id,
            fence=self._assignment.fence,
            output=kept,
            started_at=self.started_at,
            ended_at=time.time(),
            events=tuple(self.leaf.events),
            files=files,
            further=self.leaf.further,
        )

    def failed(self, error: BaseException, tails: tuple[str, str] = ("", "")) -> Failure:
        """Say why there is no output, in words without this process's keys, which the kernel's own process has.

        What it wrote is left to be looked at, unless nobody could.
        """
        if self.leaf.files is not None and (isinstance(error, KeyboardInterrupt) or not self.leaf.run.is_here):
            self.leaf.files.discard()
        told = functools.partial(conceal, secrets=held_secrets())
        return Failure(
            task_id=self._assignment.task.task_id,
            run_id=self._assignment.run_id,
            fence=self._assignment.fence,
            outcome=_outcome(error),
            error=told(error_line(error) + self._bound(error)),
            traceback=told(_traceback(error)),
            stdout_tail=told(printable(tails[0])),
            stderr_tail=told(printable(tails[1])),
            started_at=self.started_at,
            ended_at=time.time(),
            error_types=tuple(kind.__name__ for kind in type(error).__mro__[:-1]),
            retryable=not isinstance(error, Refused | InvalidInput | BudgetExhausted | ModelRefused),
            events=tuple(self.leaf.events),
        )

    def _bound(self, error: BaseException) -> str:
        limit = self._assignment.task.memory_mb
        return f" (it may take {limit:g} MiB)" if limit is not None and isinstance(error, MemoryError) else ""

    def cancelled(self) -> Failure:
        """Say that nobody wants the output any more; what was emitted goes along."""
        return msgspec.structs.replace(self.failed(Refused("cancelled")), outcome="cancelled")


def local_run(assignment: Assignment) -> RunDirectory:
    """Find the files of an assignment's run where the broker's machine has them."""
    return _run_directory(assignment.run_dir)


@functools.lru_cache(maxsize=64)
def _run_directory(path: str) -> RunDirectory:
    return RunDirectory(path)


def execute(
    assignment: Assignment,
    capture: Capture | None = None,
    peer: Peer | None = None,
    open_run: OpenRunDirectory = local_run,
) -> Result | Failure:
    """Run a task of the process lane, here and now.

    Args:
        assignment: The task.
        capture: Where its output goes, for the tails of a failure.
        peer: The line by which it may speak to others while it runs.
        open_run: What finds its run's files.
    """
    if capture is not None:
        capture.begin()
    attempt = Attempt(assignment, open_run(assignment))
    task = CurrentTask(assignment, peer, attempt.leaf) if peer is not None else None
    CURRENT.set(task)
    try:
        entry, arguments = attempt.prepare(in_async_lane=False)
        if entry.takes_leaf:
            attempt.leaf.plain_post = task  # a cycle, which a user's function need not leave to the collector
        with memory_ceiling(assignment.task.memory_mb):
            value = entry.call(*arguments)
        attempt.publish()
        return attempt.completed(value)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything, and the child lives on
        return attempt.failed(error, capture.tails() if capture is not None else ("", ""))
    finally:
        CURRENT.set(None)


def error_line(error: BaseException) -> str:
    """One line: type and message. A leaf's own words stand alone."""
    try:
        message = printable(" ".join(str(error).split()))
    except Exception:  # noqa: BLE001 - a stranger's __str__
        message = "(its message could not be read)"
    if isinstance(error, LeafFailed | Refused | DiskFull) and message:
        return message[:_ERROR_LIMIT]
    return (type(error).__qualname__ + (f": {message}" if message else ""))[:_ERROR_LIMIT]


def _outcome(error: BaseException) -> AttemptOutcome:
    return "memory" if isinstance(error, MemoryError) else "failed"


def _traceback(error: BaseException) -> str:
    """The user's part of a traceback: our frames above it are left out, and all of it where there is no user's part."""
    if isinstance(error, Refused):
        return ""
    frame = error.__traceback__
    while frame is not None and _is_ours(frame):
        frame = frame.tb_next
    if frame is None and isinstance(error, LeafFailed):
        return ""
    try:
        lines = traceback.format_exception(type(error), error, frame or error.__traceback__)
    except Exception:  # noqa: BLE001 - a stranger's exception
        return error_line(error)
    text = printable("".join(lines))
    return text if len(text) <= _TRACEBACK_LIMIT else f"...\n{text[-_TRACEBACK_LIMIT:]}"


def _is_ours(frame: TracebackType) -> bool:
    return frame.tb_frame.f_code.co_filename.startswith(_HOUSE)
