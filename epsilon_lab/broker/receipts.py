"""What a submitter is told of what was taken: where it stands in the queue, and when it may begin.

Both are counted as if no priority and no other run's turn came in between, which is cheap; so the position is the worst
that can be, for as long as nothing more urgent is submitted, and the time is an estimate.
"""

from __future__ import annotations

from epsilon_lab.broker.board import Board
from epsilon_lab.broker.credit import is_open
from epsilon_lab.broker.members import Run
from epsilon_lab.broker.stimuli import Receipt
from epsilon_lab.messages.tasks import TaskSpec


class Desk:
    """Writes the receipts of one submission, each before its task is queued."""

    def __init__(self, board: Board, run: Run) -> None:
        self._board = board
        self._run = run
        self._slots: dict[str, int] = {}

    def new(self, spec: TaskSpec) -> Receipt:
        """The receipt of a task that is about to be queued."""
        if spec.delay_s > 0:
            return Receipt(spec.task_id, None, spec.delay_s)
        return self._standing(spec, self._board.queue.waiting(spec.lane))

    def again(self, spec: TaskSpec) -> Receipt:
        """The receipt of a task that was taken before."""
        task = self._run.tasks.get(spec.task_id)
        if task is None or task.holder is not None or task.wake_at is not None:
            return Receipt(spec.task_id, None, None)
        return self._standing(spec, self._board.queue.waiting(spec.lane) - 1)

    def _standing(self, spec: TaskSpec, position: int) -> Receipt:
        seconds = self._run.durations.get(spec.kind)
        slots = self._slots_of(spec.lane)
        return Receipt(spec.task_id, position, position * seconds / slots if slots and seconds is not None else None)

    def _slots_of(self, lane: str) -> int:
        if lane not in self._slots:
            members = self._board.members()
            self._slots[lane] = sum(member.hello.slots for member in members if is_open(member, lane))
        return self._slots[lane]
