"""What time alone brings about: silent sessions, attempts and tasks beyond their limits, workers that are to be killed.

A session's lease is renewed by any frame of any of its members; an attempt's limits run from the moment it heads its
member's line; a task's deadlines run from its submission. If the broker itself was late, all of them move by as much,
none beyond its full length. Only what is due is looked at, apart from sessions and members, which are few; so limits
and deadlines are kept to the millisecond, and leases, which are looked at in turn (`tick_s`), to half a second.
"""

from __future__ import annotations

from collections import defaultdict

from epsilon_lab.broker.attempts import charge_failure, take_away
from epsilon_lab.broker.board import Board, Final
from epsilon_lab.broker.credit import waiting
from epsilon_lab.broker.lines import Lines, failure_of
from epsilon_lab.broker.members import Held, Member, Task
from epsilon_lab.broker.membership import kill, leave
from epsilon_lab.messages.events import TasksExpired
from epsilon_lab.messages.frames import Cancel
from epsilon_lab.messages.tasks import Failure


def look(board: Board, now: float) -> None:
    """Act on every deadline that has passed."""
    _look_at_members(board, now)
    look_at_work(board, now)
    _forget_settled(board, now)
    board.counts.measure(now)


def look_at_work(board: Board, now: float) -> None:
    """Act on what has passed of the limits of attempts and the deadlines of tasks, and look at nothing else."""
    _look_at_attempts(board, now)
    _look_at_tasks(board, now)


def _look_at_members(board: Board, now: float) -> None:
    for name, session in list(board.sessions.items()):
        if now - session.heard > board.settings.lease_s:
            for member in list(session.members.values()):
                leave(board, member, f"session {name} was silent for {now - session.heard:.1f} s", blame="expired")
    for member in list(board.members()):
        member.away = False  # it may be connected again; the next batch will tell
        if not member.is_wide and len(member.held) > member.slots:
            _take_unanswered(board, member, now)
        if (since := member.given_up_since) is not None and now - since >= board.settings.grace_s:
            kill(board, member, "it did not stop a cancelled task in time", now)
        if member.killed_at is not None and now - member.killed_at > board.settings.lease_s:
            leave(board, member, "its supervisor did not say that it was killed")


def _take_unanswered(board: Board, member: Member, now: float) -> None:
    """Take away what a member was to give back if it has not begun it, and it is too busy to tell."""
    by_reason: defaultdict[str, list[tuple[int, Task]]] = defaultdict(list)
    for fence, task in waiting(member):
        asked = member.held[fence].asked_back
        if asked is not None and now - asked[0] >= board.settings.grace_s:
            by_reason[asked[1]].append((fence, task))
    for reason, places in by_reason.items():
        take_away(board, member, places, reason, now)


def move(board: Board, by: float, now: float) -> None:
    """Move every deadline by as much as the broker was late; each is told so when it comes up for a look."""
    board.counts.stalls += 1
    board.counts.stalled_s += by
    for session in board.sessions.values():
        session.heard = min(now, session.heard + by)
        for member in session.members.values():
            for held in member.held.values():
                if held.started is not None:
                    held.started = min(now, held.started + by)
                if held.beat is not None:
                    held.beat = min(now, held.beat + by)
            if member.killed_at is not None:
                member.killed_at = min(now, member.killed_at + by)
    for task in board.deadlines:
        spec = task.spec
        if task.start_by is not None and spec.start_within_s is not None:
            task.start_by = min(now + spec.start_within_s, task.start_by + by)
        if task.finish_by is not None and spec.finish_within_s is not None:
            task.finish_by = min(now + spec.finish_within_s, task.finish_by + by)


def _forget_settled(board: Board, now: float) -> None:
    if now - board.forgot_at >= board.settings.key_lifetime_s:
        board.forgot_at = now
        for run in board.runs.values():
            run.forget_settled()


# -- attempts beyond a limit of their own -----------------------------------------------------------------------------


def _look_at_attempts(board: Board, now: float) -> None:
    over: dict[str, tuple[Member, list[tuple[Task, Failure]]]] = {}
    for held in board.limits.due(now):
        task, over_at = held.task, held.over_at
        if task is None or task.holder is None or over_at is None:
            continue
        if task.fence in task.run.asks:  # the broker itself lets it wait
            board.limits.set(task.fence, now + board.settings.tick_s, held)
        elif over_at >= now:
            board.limits.set(task.fence, over_at, held)
        else:
            found = (task, failure_of(task, "timeout", _why_over(held, task, now)))
            over.setdefault(task.holder.peer, (task.holder, []))[1].append(found)
    for member, failures in over.values():
        _time_out(board, member, failures, now)


def _why_over(held: Held, task: Task, now: float) -> str:
    limit, beat = task.spec.time_limit_s, task.spec.beat_within_s
    if limit is not None and held.started is not None and held.started + limit < now:
        return f"not done within its time limit of {limit:g} s"
    return f"no sign of progress within {beat:g} s"


def _time_out(board: Board, member: Member, failures: list[tuple[Task, Failure]], now: float) -> None:
    lines = Lines(member.peer)
    settled: list[tuple[Task, Final, Failure]] = []
    for task, failure in failures:
        member.give_up(task.fence, now)
        if status := charge_failure(board, task, failure, lines, now):
            task.holder = None
            settled.append((task, status, failure))
    board.record_lines(lines)
    for task, status, failure in settled:
        board.settle(task, status, failure=failure)
    if member.is_wide:
        board.send(member.peer, Cancel(fences=tuple(failure.fence for _, failure in failures)))
    else:
        kill(board, member, f"task {failures[0][0].spec.task_id} exceeded its time limit", now)


# -- tasks beyond a deadline ------------------------------------------------------------------------------------------


def _look_at_tasks(board: Board, now: float) -> None:
    expired: dict[str, list[tuple[Task, str]]] = {}
    for task in board.deadlines.due(now):
        expires, member = task.expires, task.holder
        if expires is None:
            continue
        if expires >= now:
            board.deadlines.set(task.ticket, expires, task)
            continue
        reason = _why_expired(task, now)
        if member is not None and member.held[task.fence].started is not None:
            failure = failure_of(task, "timeout", f"it was under way, but {reason}", retryable=False)
            _time_out(board, member, [(task, failure)], now)
            continue
        if member is not None:
            take_away(board, member, [(task.fence, task)], reason, now)
        board.withdraw(task)
        expired.setdefault(task.run.run_id, []).append((task, reason))
    for run_id, tasks in expired.items():
        board.record(run_id, TasksExpired(tasks=tuple((task.spec.task_id, reason) for task, reason in tasks)))
        board.counts.overdue += len(tasks)
        for task, reason in tasks:
            board.settle(task, "failed", failure=failure_of(task, "expired", reason, retryable=False))


def _why_expired(task: Task, now: float) -> str:
    if task.start_by is not None and task.start_by < now:
        return f"not begun within {task.spec.start_within_s:g} s of its submission"
    return f"not done within {task.spec.finish_within_s:g} s of its submission"
