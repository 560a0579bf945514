"""What submitters say: runs are opened and closed, tasks come, are put before others, given up, or tried once more.

A task's id is its key: submitted again just so, it is answered again and not taken again; another body under a known
id is refused. Ids of settled tasks are remembered for `key_lifetime_s` at least. What exceeds the marks of
`queue_tasks` and `queue_bytes` is refused as a whole, and nothing that was taken is ever dropped for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import get_args

from epsilon_lab.broker.board import Board
from epsilon_lab.broker.lines import failure_of
from epsilon_lab.broker.members import Run, Task
from epsilon_lab.broker.membership import interrupt
from epsilon_lab.broker.receipts import Desk
from epsilon_lab.broker.stimuli import Accepted, CancelTasks, OpenRun, OpenTask, Reprioritise, Requeue, Submit
from epsilon_lab.broker.topics import Mailbox
from epsilon_lab.errors import InvalidInput, QueueFull
from epsilon_lab.ids import LOCAL
from epsilon_lab.messages.events import TasksCancelled, TasksRequeued, TasksSubmitted, task_line
from epsilon_lab.messages.frames import MAX_FRAME, Cancel
from epsilon_lab.messages.tasks import Lane, TaskSpec
from epsilon_lab.settings import INLINE_LIMIT

_LANES = get_args(Lane)


def open_run(board: Board, opened: OpenRun, now: float) -> None:
    """Take a run in, with what another broker left of it; its workers may still be at what that one handed out."""
    run = Run(
        opened.run_id,
        opened.run_dir,
        opened.ledger,
        remembers=opened.remembers,
        env=opened.env,
        abridge=opened.abridge,
    )
    run = board.runs.setdefault(opened.run_id, run)
    board.opened.append(run)
    board.queue.weigh(opened.run_id, opened.weight)
    board.epoch = max(board.epoch, opened.epoch + 1)
    for left in opened.tasks:
        may_come_back = left.fence and not left.worker_id.startswith(LOCAL)
        grace_s = board.settings.adoption_grace_s if may_come_back else 0.0
        _queue(board, _retake(board, run, left, now), max(left.delay_s, grace_s), now)
    for left in opened.dead:
        task = _retake(board, run, left, now)
        board.forget(task)
        run.dead[left.spec.task_id] = task


def submit(board: Board, submitted: Submit, now: float) -> None:
    """Queue tasks; all of them, or none.

    Raises:
        InvalidInput: The run is unknown, another task has an id, or a task cannot be executed.
        QueueFull: There are too many tasks already.
    """
    run = _known(board, submitted.run_id)
    new: dict[str, TaskSpec] = {}
    for spec in submitted.tasks:
        known = run.knows(spec)
        if known is None or ((same := new.setdefault(spec.task_id, spec)) is not spec and same != spec):
            raise InvalidInput(
                f"task {spec.task_id}", f"was submitted to run {run.run_id} before, as another", "give it its own id"
            )
        if known:
            del new[spec.task_id]
        else:
            _check(spec)
    _check_room(board, run, new.values())
    desk = Desk(board, run)
    receipts = []
    for spec in submitted.tasks:
        if spec.task_id in new and spec.task_id not in run.tasks:
            receipts.append(desk.new(spec))
            _queue(board, board.take(run, spec, now), spec.delay_s, now)
        else:
            receipts.append(desk.again(spec))
    if new:
        board.record(run.run_id, TasksSubmitted(tasks=tuple(map(task_line, new.values()))))
    board.effects.append(Accepted(tuple(receipts)))


def reprioritise(board: Board, wanted: Reprioritise) -> None:
    """Put a task before or behind others, now if it waits, else when it comes back."""
    run = board.runs.get(wanted.run_id)
    task = run.tasks.get(wanted.task_id) if run is not None else None
    if task is None:
        return
    task.priority = wanted.priority
    if task.holder is None and task.wake_at is None:
        board.withdraw(task)
        board.enqueue(task)


def requeue(board: Board, wanted: Requeue, now: float) -> None:
    """Try dead tasks once more, with nothing behind them and their deadlines ahead of them; all of them, or none.

    Raises:
        InvalidInput: The run is unknown, or a task is not dead.
    """
    run = _known(board, wanted.run_id)
    task_ids = tuple(dict.fromkeys(wanted.task_ids))
    for task_id in task_ids:
        if task_id not in run.dead:
            raise InvalidInput(f"task {task_id}", f"is no dead letter of run {run.run_id}", "see lab.dead_letters")
    for task_id in task_ids:
        dead = run.dead.pop(task_id)
        task = board.take(run, dead.spec, now)
        task.attempt, task.priority = dead.attempt, dead.priority
        board.enqueue(task)
    board.counts.requeued += len(task_ids)
    board.record(run.run_id, TasksRequeued(task_ids=task_ids))


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
        tasks = list(run.tasks.values())
        _give_up(board, tasks, now)
        for task in tasks:
            board.forget(task)
        run.dead.clear()  # no collector finds the way from a task to its run
        board.queue.drop(run_id)
        for box in run.mailboxes.values():
            board.post.close(board, box)


def _known(board: Board, run_id: str) -> Run:
    run = board.runs.get(run_id)
    if run is None:
        raise InvalidInput(f"run {run_id}", "is not open in this lab", "start or resume it first")
    return run


def _check(spec: TaskSpec) -> None:
    """Refuse what cannot be executed."""
    if spec.lane not in _LANES:
        raise InvalidInput(f"task {spec.task_id}", f"names the unknown lane {spec.lane!r}")
    if len(spec.payload.data) > MAX_FRAME // 2:
        raise InvalidInput(
            f"task {spec.task_id}",
            f"has a payload of {len(spec.payload.data)} bytes",
            f"put what exceeds {INLINE_LIMIT} bytes into a file of the run directory",
        )


def _check_room(board: Board, run: Run, tasks: Collection[TaskSpec]) -> None:
    room, weight = board.room, sum(len(spec.payload.data) for spec in tasks)
    if tasks and (len(tasks) > room.tasks or weight > room.payload_bytes):
        what = f"{len(tasks):,} tasks of run {run.run_id}, {weight:,} bytes of payload, were"
        raise QueueFull(what, tasks=room.tasks, payload_bytes=room.payload_bytes)


def _retake(board: Board, run: Run, left: OpenTask, now: float) -> Task:
    task = board.take(run, left.spec, now - left.age_s)
    task.attempt, task.lost, task.failed, task.fence = left.attempt, left.lost, left.failed, left.fence
    task.is_suspect = 0 < task.lost >= board.settings.poison_limit - 1
    if left.priority is not None:
        task.priority = left.priority
    if left.attempt:
        task.start_by = None
    if left.messages:
        run.mailboxes[left.spec.task_id] = Mailbox(left.messages)
    return task


def _queue(board: Board, task: Task, delay_s: float, now: float) -> None:
    if delay_s > 0:
        board.put_off(task, now + delay_s)
    else:
        board.enqueue(task)


def _give_up(board: Board, tasks: list[Task], now: float) -> None:
    """Take tasks from the queue and from their holders; a process that works on one is asked to stop, with a grace."""
    cancelled: defaultdict[str, list[int]] = defaultdict(list)
    for task in tasks:
        member = task.holder
        if member is None:
            board.withdraw(task)
            continue
        if member.held[task.fence].started is not None and not member.is_wide:
            interrupt(board, member, task.fence)
        member.give_up(task.fence, now)
        cancelled[member.peer].append(task.fence)
        task.holder = None
    for peer, fences in cancelled.items():
        board.send(peer, Cancel(fences=tuple(fences)))
