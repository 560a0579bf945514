"""What submitters say: runs are opened and closed, tasks come and are given up."""

from __future__ import annotations

from collections import defaultdict
from typing import get_args

from epsilon_lab.broker.board import Board
from epsilon_lab.broker.lines import failure_of
from epsilon_lab.broker.members import Run, Task
from epsilon_lab.broker.stimuli import CancelTasks, OpenRun, Submit
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import TasksCancelled, TasksSubmitted, task_line
from epsilon_lab.messages.frames import MAX_FRAME, Cancel
from epsilon_lab.messages.tasks import Lane
from epsilon_lab.settings import INLINE_LIMIT


def open_run(board: Board, opened: OpenRun, now: float) -> None:
    """Take a run in, with what another broker left of it."""
    run = board.runs.setdefault(opened.run_id, Run(opened.run_id, opened.run_dir, opened.ledger))
    board.epoch = max(board.epoch, opened.epoch + 1)
    for left in opened.tasks:
        task = board.take(run, left.spec, now - left.age_s)
        task.attempt, task.lost, task.failed = left.attempt, left.lost, left.failed
        if left.attempt:
            task.start_by = None
        _queue(board, task, left.delay_s, now)


def submit(board: Board, submitted: Submit, now: float) -> None:
    """Queue tasks; all of them, or none.

    Raises:
        InvalidInput: The run is unknown, or a task is known or cannot be executed.
    """
    run_id, tasks = submitted.run_id, submitted.tasks
    run = board.runs.get(run_id)
    if run is None:
        raise InvalidInput(f"run {run_id}", "is not open in this lab", "start or resume it first")
    seen: set[str] = set()
    for spec in tasks:
        if spec.task_id in run.known or spec.task_id in seen:
            raise InvalidInput(f"task {spec.task_id}", f"was submitted to run {run_id} before", "give it its own id")
        if spec.lane not in get_args(Lane):
            raise InvalidInput(f"task {spec.task_id}", f"names the unknown lane {spec.lane!r}")
        if len(spec.payload.data) > MAX_FRAME // 2:
            raise InvalidInput(
                f"task {spec.task_id}",
                f"has a payload of {len(spec.payload.data)} bytes",
                f"put what exceeds {INLINE_LIMIT} bytes into a file of the run directory",
            )
        seen.add(spec.task_id)
    for spec in tasks:
        _queue(board, board.take(run, spec, now), spec.delay_s, now)
    if tasks:
        board.record(run_id, TasksSubmitted(tasks=tuple(map(task_line, tasks))))


def cancel(board: Board, cancelled: CancelTasks, now: float) -> None:
    """Settle tasks that are no longer wanted, wherever they are."""
    run_id, reason = cancelled.run_id, cancelled.reason
    run = board.runs.get(run_id)
    if run is None:
        return
    ids = tuple(run.tasks) if cancelled.task_ids is None else cancelled.task_ids
    tasks = [run.tasks[task_id] for task_id in dict.fromkeys(ids) if task_id in run.tasks]
    if not tasks:
        return
    _give_up(board, tasks, now)
    board.record(run_id, TasksCancelled(task_ids=tuple(task.spec.task_id for task in tasks), reason=reason))
    for task in tasks:
        board.settle(task, "cancelled", failure=failure_of(task, "cancelled", reason))


def close_run(board: Board, run_id: str, now: float) -> None:
    """Forget a run; what it still has is given up without a record."""
    run = board.runs.pop(run_id, None)
    if run is not None:
        _give_up(board, list(run.tasks.values()), now)
        for task in run.tasks.values():
            board.deadlines.forget(task.ticket)
        board.queue.drop(run_id)


def _queue(board: Board, task: Task, delay_s: float, now: float) -> None:
    if delay_s > 0:
        board.put_off(task, now + delay_s)
    else:
        board.enqueue(task)


def _give_up(board: Board, tasks: list[Task], now: float) -> None:
    """Take tasks from the queue and from their holders; a process that works on one has a grace to finish it."""
    cancelled: defaultdict[str, list[int]] = defaultdict(list)
    for task in tasks:
        member = task.holder
        if member is None:
            board.withdraw(task)
            continue
        held = member.held[task.fence]
        if held.started is not None and not member.is_wide:
            held.task = None
            member.kill_at = now + board.settings.grace_s
        else:
            member.drop(task.fence, now)
            cancelled[member.peer].append(task.fence)
        task.holder = None
    for peer, fences in cancelled.items():
        board.send(peer, Cancel(fences=tuple(fences)))
