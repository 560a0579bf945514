"""How a task that nobody wants any more is asked to stop: by an exception in it, and in no other.

A plain function cannot be stopped from outside without its process, and a process costs its warmth; so it is asked
first. The supervisor writes the task's fence where the child sees it and has it signalled; the handler, which Python
runs between two instructions of the task, raises `Interrupted` if that very task is under way. What has just ended, or
what comes next, is never hit. A task that holds the interpreter in a C call, or that goes on all the same, meets the
grace that the broker gives it, and then loses its process.
"""

from __future__ import annotations

import signal
from types import FrameType

from epsilon_lab.broker.client import Peer
from epsilon_lab.messages.tasks import Assignment, Failure, Result
from epsilon_lab.workers.capture import Capture
from epsilon_lab.workers.execution import OpenRunDirectory, error_line, execute
from epsilon_lab.workers.progress import Progress


class Interrupted(KeyboardInterrupt):
    """The task is not wanted any more. `except Exception` lets it pass, `finally` sees it."""


class Interruption:
    """The child's side, in its main thread.

    Args:
        progress: Where the supervisor names the task to be stopped.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._fence = 0
        signal.signal(signal.SIGINT, self._heed)

    def execute(
        self, assignment: Assignment, capture: Capture, peer: Peer, open_run: OpenRunDirectory
    ) -> Result | Failure:
        """Execute a task that may be asked to stop."""
        try:
            self._fence = assignment.fence
            answer = execute(assignment, capture, peer, open_run)
            self._fence = 0
        except Interrupted as error:  # it came just before or behind the task itself
            return Failure(
                task_id=assignment.task.task_id,
                run_id=assignment.run_id,
                fence=assignment.fence,
                outcome="cancelled",
                error=error_line(error),
                retryable=False,
            )
        return answer

    def _heed(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._fence and self._fence == self._progress.unwanted:
            self._fence = 0  # once
            raise Interrupted("the task was cancelled")
