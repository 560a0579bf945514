"""Handing out: who gets what is ready, and what is taken back for those who have nothing to do.

Work is pushed. A member holds as many tasks as it has slots, and in advance as much as its credit allows (credit.py).
The least loaded member is served first; when nothing is ready and a member is idle, what waits behind another's long
task is asked back.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import get_args

from epsilon_lab.broker.attempts import ask_back
from epsilon_lab.broker.board import Board
from epsilon_lab.broker.credit import is_open, may_take, waiting, waiting_since
from epsilon_lab.broker.members import Member, Task
from epsilon_lab.broker.notes import answer_asks
from epsilon_lab.messages.events import TasksAssigned
from epsilon_lab.messages.frames import Tasks
from epsilon_lab.messages.tasks import Assignment, Lane

_Batches = dict[str, tuple[Member, list[Assignment]]]


def assign(board: Board, now: float) -> None:
    """Hand out what is ready, one batch a member, and admit requests to models; nothing where it cannot be recorded."""
    if board.is_disk_short:
        return
    for run in board.runs.values():
        if run.asks:
            answer_asks(board, run, now)
    for task in board.delayed.due(now):
        board.enqueue(task)
    batches: _Batches = {}
    for lane in get_args(Lane):
        open_members = [
            member
            for session in board.sessions.values()
            if not session.draining
            for member in session.members.values()
            if is_open(member, lane)
        ]
        if not open_members:
            continue
        _hand_out(board, lane, open_members, batches, now)
        _recall(board, open_members, now)
    for member, assignments in batches.values():
        member.mark_started(now)
        by_run: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
        for each in assignments:
            by_run[each.run_id].append((each.task.task_id, each.attempt, each.fence))
        for run_id, tasks in by_run.items():
            board.record(run_id, TasksAssigned(worker_id=member.peer, tasks=tuple(tasks)))
        board.send(member.peer, Tasks(assignments=tuple(assignments)))


def _hand_out(board: Board, lane: str, members: list[Member], batches: _Batches, now: float) -> None:
    """Give tasks to the least loaded member, one by one, as long as it may take the next."""
    heap = [(len(member.held) / member.slots, place) for place, member in enumerate(members)]
    heapq.heapify(heap)
    queue, settings = board.queue, board.settings
    while heap and (task := queue.peek(lane)) is not None:
        if (expires := task.expires) is not None and expires <= now:
            queue.pop(lane)
            board.put_off(task, now + settings.tick_s)  # the next look at deadlines decides: the broker may be late
            continue
        _, place = heap[0]
        member = members[place]
        estimate = task.run.durations.get(task.spec.kind)
        if not may_take(member, task, estimate, settings):
            heapq.heappop(heap)
            continue
        queue.pop(lane)
        if member.peer not in batches:
            batches[member.peer] = (member, [])
        batches[member.peer][1].append(_hand(board, member, task, estimate or 0.0))
        heapq.heapreplace(heap, (len(member.held) / member.slots, place))


def _hand(board: Board, member: Member, task: Task, estimate: float) -> Assignment:
    task.fence = board.next_fence()
    task.attempt += 1
    board.counts.assigned += 1
    if task.attempt > 1:
        board.counts.redelivered += 1
    task.holder = member
    member.hold(task, estimate)
    return Assignment(
        run_id=task.run.run_id,
        run_dir=task.run.run_dir,
        task=task.spec,
        attempt=task.attempt,
        fence=task.fence,
        env=task.run.env if task.spec.lane == "process" else None,
    )


def _recall(board: Board, members: list[Member], now: float) -> None:
    """Ask back, for idle members, what waits behind tasks that have been running for long."""
    idle = sum(not member.held for member in members)
    if not idle:
        return
    donors: list[tuple[float, Member, list[tuple[int, Task]]]] = []
    for member in members:
        since = waiting_since(member, now)
        if since is not None:
            places = [place for place in waiting(member) if not board.queue.is_paused(place[1].run.run_id)]
            fresh = [place for place in places if member.held[place[0]].asked_back is None]
            idle -= len(places) - len(fresh)  # those will come, or were begun
            if fresh:
                donors.append((since, member, fresh))
    for _, member, places in sorted(donors, key=lambda each: each[0]):
        if idle <= 0:
            break
        ask_back(board, member, places[:idle], "recalled for an idle worker", now)
        idle -= len(places)
