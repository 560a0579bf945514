"""Journal lines in the making: what becomes of many tasks at once is one record a run, not one a task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from epsilon_lab.broker.members import Task
from epsilon_lab.messages.events import (
    Body,
    CompletedLine,
    FailedLine,
    TasksCompleted,
    TasksFailed,
    TasksReleased,
    TasksStale,
)
from epsilon_lab.messages.tasks import AttemptOutcome, Failure, Result
from epsilon_lab.messages.values import stored


class Lines:
    """What became of tasks in one worker's hands, by run."""

    def __init__(self, worker_id: str) -> None:
        self._worker_id = worker_id
        self._completed: defaultdict[str, list[CompletedLine]] = defaultdict(list)
        self._failed: defaultdict[str, list[FailedLine]] = defaultdict(list)
        self._released: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
        self._stale: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)

    def complete(self, task: Task, result: Result) -> None:
        """Note an accepted result."""
        self._completed[task.run.run_id].append(
            CompletedLine(  # by position, which costs half as much as by name
                task.spec.task_id,
                task.attempt,
                task.fence,
                stored(result.output),
                result.started_at,
                result.ended_at,
                result.files,
                tuple(map(stored, result.further)) if result.further else (),
            )
        )

    def fail(self, task: Task, failure: Failure, *, then: str, delay_s: float = 0.0) -> None:
        """Note an attempt that gave no output, and what becomes of its task."""
        self._failed[task.run.run_id].append(
            FailedLine(
                task_id=task.spec.task_id,
                attempt=task.attempt,
                fence=task.fence,
                outcome=failure.outcome,
                error=failure.error,
                then=then,
                delay_s=delay_s,
                traceback=failure.traceback,
                stdout_tail=failure.stdout_tail,
                stderr_tail=failure.stderr_tail,
                started_at=failure.started_at,
                ended_at=failure.ended_at,
            )
        )

    def release(self, task: Task) -> None:
        """Note a task that goes back to the queue, nobody's fault."""
        self._released[task.run.run_id].append((task.spec.task_id, task.attempt, task.fence))

    def stale(self, answer: Result | Failure) -> None:
        """Note an answer that came too late."""
        self._stale[answer.run_id].append((answer.task_id, answer.fence))

    @property
    def stale_fences(self) -> tuple[int, ...]:
        """Of the answers that came too late."""
        return tuple(fence for answers in self._stale.values() for _, fence in answers)

    def records(self, reason: str = "") -> Iterator[tuple[str, Body]]:
        """Give each run's records; `reason` is why tasks were released."""
        worker = self._worker_id
        for run_id, completed in self._completed.items():
            yield run_id, TasksCompleted(worker_id=worker, tasks=tuple(completed))
        for run_id, failed in self._failed.items():
            yield run_id, TasksFailed(worker_id=worker, tasks=tuple(failed))
        for run_id, released in self._released.items():
            yield run_id, TasksReleased(worker_id=worker, reason=reason, tasks=tuple(released))
        for run_id, stale in self._stale.items():
            yield run_id, TasksStale(worker_id=worker, tasks=tuple(stale))


def failure_of(task: Task, outcome: AttemptOutcome, error: str, *, retryable: bool = True) -> Failure:
    """Make the failure that the broker itself finds."""
    return Failure(
        task_id=task.spec.task_id,
        run_id=task.run.run_id,
        fence=task.fence,
        outcome=outcome,
        error=error,
        retryable=retryable,
    )
