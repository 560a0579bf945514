"""Answers of short tasks travel together, and none waits for a long one.

A message a task would cost more than the task. So answers are held while tasks just like them have taken next to no
time and more of them follow: for two milliseconds at most, as long as tasks stay short. If the next one is not, this
thread is busy with it; then another, which looks now and then, sends what is held.

No answer is held beside a task with a limit of time: it would be taken for the one that is running, and be charged for
the time the next one takes.
"""

from __future__ import annotations

import threading
import time

from epsilon_lab.broker.client import Peer
from epsilon_lab.messages.tasks import Failure, Result, TaskSpec
from epsilon_lab.workers.answers import send_answers

_QUICK_S = 0.0002
_QUICK_IN_A_ROW = 8
_HOLD_S = 0.002
_HOLD_MOST = 64


class Batch:
    """Answers not sent yet. `add` and `send` belong to the thread of the peer.

    While answers are held, that thread uses the peer for nothing else: before it does, it sends them.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._lock = threading.Lock()
        self._answers: list[Result | Failure] = []
        self._since = 0.0
        self._entry = ""
        self._streak = 0

    def add(self, answer: Result | Failure, task: TaskSpec) -> None:
        """Take the answer of a task, and send what is due."""
        is_quick = type(answer) is Result and answer.ended_at - answer.started_at < _QUICK_S
        self._streak = self._streak + 1 if is_quick and task.entry == self._entry else 0
        self._entry = task.entry
        with self._lock:
            if not self._answers:
                self._since = answer.ended_at or 0.0
            self._answers.append(answer)
            next_one = self._peer.following()
            following = next_one.task if next_one is not None else None
            if (
                self._streak < _QUICK_IN_A_ROW
                or following is None
                or following.entry != task.entry
                or len(self._answers) >= _HOLD_MOST
                or (answer.ended_at or 0.0) - self._since > _HOLD_S
                or _is_timed(task)
                or _is_timed(following)
            ):
                self._send()
                self._peer.receive()

    def send(self) -> None:
        """Send all that are held."""
        with self._lock:
            self._send()

    def send_late(self) -> None:
        """Send, from another thread, what has been held for longer than tasks are short."""
        if self._answers and time.time() - self._since > _HOLD_S and self._lock.acquire(blocking=False):
            try:
                self._send()
            finally:
                self._lock.release()

    def _send(self) -> None:
        if self._answers:
            send_answers(self._peer, self._answers)
            self._answers = []


def _is_timed(task: TaskSpec) -> bool:
    return task.time_limit_s is not None or task.beat_within_s is not None or task.finish_within_s is not None
