"""`task.`: what becomes of tasks, told by the broker (`task.waiting`, by the engine)."""

from __future__ import annotations

from typing import cast

import msgspec

from epsilon_lab.messages.call import Feedback
from epsilon_lab.messages.events.body import Body
from epsilon_lab.messages.tasks import AttemptOutcome, Lane, Retry, TaskSpec
from epsilon_lab.messages.values import StoredValue, restored, stored

_BACKOFF = (Retry().base_s, Retry().cap_s)


class TaskLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A `TaskSpec` as a journal shows it; what is not said is as by default."""

    task_id: str
    kind: str
    lane: str
    entry: str
    payload: StoredValue
    depends_on: tuple[str, ...] = ()
    priority: int = 0
    time_limit_s: float | None = None
    retries: int = 0
    prefetch: bool = True
    backoff: tuple[float, float] = _BACKOFF
    """Of `Retry`: `base_s` and `cap_s`."""

    final: tuple[str, ...] = ()
    delay_s: float = 0
    start_within_s: float | None = None
    finish_within_s: float | None = None
    beat_within_s: float | None = None
    memory_mb: float | None = None


def task_line(task: TaskSpec) -> TaskLine:
    """Show a task as a journal does."""
    retry = task.retry
    return TaskLine(  # by position: by name it takes a microsecond, five times as long
        task.task_id,
        task.kind,
        task.lane,
        task.entry,
        stored(task.payload),
        task.depends_on,
        task.priority,
        task.time_limit_s,
        0 if retry is None else retry.limit,
        task.prefetch,
        _BACKOFF if retry is None else (retry.base_s, retry.cap_s),
        () if retry is None else retry.final,
        task.delay_s or 0,  # the very 0 that is the default: another equal one would be written down
        task.start_within_s,
        task.finish_within_s,
        task.beat_within_s,
        task.memory_mb,
    )


def task_spec(line: TaskLine) -> TaskSpec:
    """Take a task back from a journal."""
    return TaskSpec(
        task_id=line.task_id,
        kind=line.kind,
        lane=cast("Lane", line.lane),
        entry=line.entry,
        payload=restored(line.payload),
        depends_on=line.depends_on,
        priority=line.priority,
        time_limit_s=line.time_limit_s,
        retry=_retry(line),
        prefetch=line.prefetch,
        delay_s=line.delay_s,
        start_within_s=line.start_within_s,
        finish_within_s=line.finish_within_s,
        beat_within_s=line.beat_within_s,
        memory_mb=line.memory_mb,
    )


def _retry(line: TaskLine) -> Retry | None:
    if not (line.retries or line.final) and line.backoff == _BACKOFF:
        return None
    base_s, cap_s = line.backoff
    return Retry(limit=line.retries, base_s=base_s, cap_s=cap_s, final=line.final)


class TasksWaiting(Body, frozen=True, kw_only=True):
    """`task.waiting`: known, but not all of its dependencies are done."""

    tasks: tuple[TaskLine, ...]


class TasksSubmitted(Body, frozen=True, kw_only=True):
    """`task.submitted`: in the queue."""

    tasks: tuple[TaskLine, ...]


class TasksAssigned(Body, frozen=True, kw_only=True):
    """`task.assigned`: one line a batch."""

    worker_id: str
    tasks: tuple[tuple[str, int, int], ...]
    """(task_id, attempt, fence)."""


class CompletedLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One accepted result."""

    task_id: str
    attempt: int
    fence: int
    output: StoredValue
    started_at: float
    ended_at: float
    files: str = ""
    """Reference of the files it published; its commit names each of them in a line of its own."""

    further: tuple[StoredValue, ...] = ()
    """Items of further tasks that it asked for."""


class TasksCompleted(Body, frozen=True, kw_only=True):
    """`task.completed`: result and change of state in one line."""

    worker_id: str
    tasks: tuple[CompletedLine, ...]


class FailedLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt that gave no output."""

    task_id: str
    attempt: int
    fence: int
    outcome: AttemptOutcome
    error: str
    then: str
    """What became of the task: `queued` (another attempt), `failed` or `dead`."""

    delay_s: float = 0.0
    """Seconds from now before which another attempt is not begun."""

    traceback: str = ""
    stdout_tail: str = ""
    stderr_tail: str = ""
    started_at: float | None = None
    ended_at: float | None = None


class TasksFailed(Body, frozen=True, kw_only=True):
    """`task.failed`."""

    worker_id: str
    tasks: tuple[FailedLine, ...]


class TasksReleased(Body, frozen=True, kw_only=True):
    """`task.released`: back to the queue, not started as far as anyone knows, nobody blamed."""

    worker_id: str
    reason: str
    tasks: tuple[tuple[str, int, int], ...]


class TasksStale(Body, frozen=True, kw_only=True):
    """`task.stale`: answers that came too late; not applied."""

    worker_id: str
    tasks: tuple[tuple[str, int], ...]
    """(task_id, fence)."""


class TasksExpired(Body, frozen=True, kw_only=True):
    """`task.expired`: not begun in time, and not to be begun any more; they failed without an attempt."""

    tasks: tuple[tuple[str, str], ...]
    """(task_id, error)."""


class TasksAdopted(Body, frozen=True, kw_only=True):
    """`task.adopted`: a worker came back with what it had been given, and goes on with it under the same fences."""

    worker_id: str
    tasks: tuple[tuple[str, int, int], ...]
    """(task_id, attempt, fence)."""


class TasksRequeued(Body, frozen=True, kw_only=True):
    """`task.requeued`: dead letters that are tried again, their losses and failures forgiven."""

    task_ids: tuple[str, ...]


class TasksRevised(Body, frozen=True, kw_only=True):
    """`task.revised`: these are to be done again, and what depends on them; they come back as revisions."""

    feedback: dict[str, tuple[Feedback, ...]]
    """Task -> why; it names the first of its revisions."""

    verdicts: str = ""
    """The file of verdicts, by case, that these revisions are to go by; empty where they go by none."""


class TaskPrioritised(Body, frozen=True, kw_only=True):
    """`task.prioritised`: someone put a task before or behind others of its run."""

    task_id: str
    priority: int


class TasksCancelled(Body, frozen=True, kw_only=True):
    """`task.cancelled`."""

    task_ids: tuple[str, ...]
    reason: str
