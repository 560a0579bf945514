"""The async lane: model calls and the user's async functions, many at once on the loop thread `lab-leaves`.

Each leaf is a task of its own, with a context of its own; what one raises, its answer says, and no other notices. Plain
functions are refused here, because one that blocks would stop them all.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from contextlib import closing

import anyio
import anyio.to_thread

from epsilon_lab.broker.client import Peer
from epsilon_lab.errors import BudgetExhausted, LabError
from epsilon_lab.messages.frames import Cancel, Denied, Hello, Note, Recorded
from epsilon_lab.messages.tasks import Assignment, Event, Failure, Result
from epsilon_lab.workers.afar import Afar, dial, find_runs
from epsilon_lab.workers.answers import send_answers
from epsilon_lab.workers.current import CURRENT, AsyncCurrentTask
from epsilon_lab.workers.execution import Attempt, OpenRunDirectory


class AsyncLane:
    """The member of a session that executes async leaves.

    Args:
        address: The broker's.
        peer_id: `<session>/<member>`.
        slots: Most leaves at once.
        afar: For a broker on another machine.
    """

    def __init__(self, address: str, peer_id: str, slots: int = 256, afar: Afar | None = None) -> None:
        self._address = address
        self._afar = afar
        self._peer_id = peer_id
        self._slots = slots
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._answers: list[Result | Failure] = []
        self._has_answers = anyio.Event()

    async def serve(self) -> None:
        """Run leaves until cancelled; what still runs then is cancelled too."""
        self._has_answers = anyio.Event()
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = max(limiter.total_tokens, 2 * self._slots)  # any leaf may wait for a program in one
        with closing(dial(self._address, self._peer_id, self._afar)) as dialer:
            hello = Hello(pid=os.getpid(), host=socket.gethostname(), lanes=("async",), slots=self._slots)
            peer = Peer(dialer, hello)
            open_run = find_runs(peer, self._afar)
            peer.greet()
            async with anyio.create_task_group() as group:
                group.start_soon(self._answer, peer)
                while True:
                    await peer.wait()
                    for message in peer.receive():
                        if isinstance(message, Cancel):
                            for fence in message.fences:
                                if fence in self._scopes:
                                    self._scopes[fence].cancel()
                    while peer.tasks:
                        assignment = peer.tasks.popleft()
                        group.start_soon(self._run, peer, open_run, assignment, name=f"leaf {assignment.task.task_id}")

    async def _run(self, peer: Peer, open_run: OpenRunDirectory, assignment: Assignment) -> None:
        attempt = Attempt(assignment, open_run(assignment), functools.partial(_record, peer, assignment))
        attempt.leaf.post = task = AsyncCurrentTask(assignment, peer, attempt.leaf)
        CURRENT.set(task)
        answer: Result | Failure | None = None
        with anyio.CancelScope() as scope:
            self._scopes[assignment.fence] = scope
            try:
                entry, arguments = attempt.prepare(in_async_lane=True)
                value = await entry.call(*arguments)
                if attempt.leaf.files is not None and attempt.leaf.run.is_here:
                    await anyio.to_thread.run_sync(attempt.publish)  # others go on while files are read
                else:
                    attempt.publish()
                answer = attempt.completed(value)
            except BaseException as error:  # user code may raise anything; the lane lives on
                if _is_cancelled(error):
                    raise
                answer = attempt.failed(error)
            finally:
                del self._scopes[assignment.fence]
        if answer is None and attempt.leaf.events:
            # Nobody waits for this answer, but what it paid for belongs on record.
            answer = attempt.cancelled()
        if answer is not None:
            self._answers.append(answer)
            self._has_answers.set()

    async def _answer(self, peer: Peer) -> None:
        """Send what has finished since the last time round the loop, in one frame."""
        while True:
            await self._has_answers.wait()
            self._has_answers = anyio.Event()
            answers, self._answers = self._answers, []
            send_answers(peer, answers)


async def _record(peer: Peer, assignment: Assignment, events: tuple[Event, ...]) -> int | None:
    note = Note(
        run_id=assignment.run_id, task_id=assignment.task.task_id, note_id=0, events=events, fence=assignment.fence
    )
    match await peer.answer(note):
        case Recorded(reply_tokens=most):
            return most
        case Denied(reason=reason):
            raise BudgetExhausted(reason)
        case unexpected:
            raise LabError(f"a note was answered by {type(unexpected).__name__}")


def _is_cancelled(error: BaseException) -> bool:
    """Tell a cancellation by us from a `CancelledError` that user code raised by itself."""
    task = asyncio.current_task()
    return isinstance(error, anyio.get_cancelled_exc_class()) and task is not None and task.cancelling() > 0
