"""What time alone brings about: silent sessions, attempts beyond their limit, workers that were to be killed.

A session's lease is renewed by any frame of any of its members; a task's limit runs from the moment it heads its
member's line. If the broker itself was late, all of them move by as much.
"""

from __future__ import annotations

from epsilon_lab.broker.attempts import charge_failure
from epsilon_lab.broker.board import Board, Final
from epsilon_lab.broker.lines import Lines, failure_of
from epsilon_lab.broker.members import Member, Task
from epsilon_lab.broker.membership import kill, leave
from epsilon_lab.messages.frames import Cancel
from epsilon_lab.messages.tasks import Failure


def look(board: Board, now: float) -> None:
    """Act on every deadline that has passed."""
    for name, session in list(board.sessions.items()):
        if now - session.heard > board.settings.lease_s:
            for member in list(session.members.values()):
                leave(board, member, f"session {name} was silent for {now - session.heard:.1f} s", blame="expired")
            continue
        for member in list(session.members.values()):
            member.away = False  # it may be connected again; the next batch will tell
            _check_limits(board, member, now)


def move(board: Board, by: float, now: float) -> None:
    """Move every deadline by as much as the broker was late, none beyond its full length."""
    for session in board.sessions.values():
        session.heard = min(now, session.heard + by)
        for member in session.members.values():
            for held in member.held.values():
                if held.started is not None:
                    held.started = min(now, held.started + by)
            if member.kill_at is not None:
                member.kill_at += by
            if member.killed_at is not None:
                member.killed_at = min(now, member.killed_at + by)


def _check_limits(board: Board, member: Member, now: float) -> None:
    over = [
        held.task
        for _, held in member.started()
        if held.task is not None
        and held.started is not None
        and held.task.spec.time_limit_s is not None
        and now - held.started > held.task.spec.time_limit_s
        and held.task.fence not in held.task.run.asks
    ]
    if over:
        _time_out(board, member, over, now)
    if member.kill_at is not None and now >= member.kill_at:
        kill(board, member, "it did not stop a cancelled task in time", now)
    if member.killed_at is not None and now - member.killed_at > board.settings.lease_s:
        leave(board, member, "its supervisor did not say that it was killed")


def _time_out(board: Board, member: Member, over: list[Task], now: float) -> None:
    lines = Lines(member.peer)
    settled: list[tuple[Task, Final, Failure]] = []
    for task in over:
        limit = task.spec.time_limit_s
        failure = failure_of(task, "timeout", f"not done within its time limit of {limit:g} s")
        if member.is_wide:
            member.drop(task.fence, now)
        else:
            member.held[task.fence].task = None
        if status := charge_failure(board, task, failure, lines):
            task.holder = None
            settled.append((task, status, failure))
    board.record_lines(lines)
    for task, status, failure in settled:
        board.settle(task, status, failure=failure)
    if member.is_wide:
        board.send(member.peer, Cancel(fences=tuple(task.fence for task in over)))
    else:
        kill(board, member, f"task {over[0].spec.task_id} exceeded its time limit", now)
