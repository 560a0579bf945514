"""What becomes of an attempt: it is accepted or stale, and what gave no output is charged to the counter it belongs to.

A failure of the user's own code counts against the task's retries; a worker that went down with the task counts
against the poison limit; being handed out and given back counts against nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from epsilon_lab.broker.board import Board, Final
from epsilon_lab.broker.lines import Lines, failure_of
from epsilon_lab.broker.members import Member, Run, Task
from epsilon_lab.broker.notes import record_events, record_paid
from epsilon_lab.broker.retrying import is_tried_again, pause_s
from epsilon_lab.broker.soundness import flag_in, is_flag, result_problem
from epsilon_lab.broker.stimuli import Abandon
from epsilon_lab.errors import DiskFull
from epsilon_lab.messages.events import CaseFlagged, CasesAsked
from epsilon_lab.messages.frames import Cancel, Done, Recall, Stale
from epsilon_lab.messages.tasks import Failure, Result

Flags = tuple[CaseFlagged | CasesAsked, ...]


def take_answers(board: Board, member: Member, done: Done, now: float) -> None:
    """Apply what a member answers under fences that it holds; the rest is stale."""
    lines = Lines(member.peer)
    settled: list[tuple[Task, Final, Result | None, Failure | None, Flags]] = []
    answers: tuple[Result | Failure, ...] = (*done.results, *done.failures)
    for answer in answers:
        if (claim := member.claims.get(answer.fence)) is not None:  # its run may be opened yet
            member.claims[answer.fence] = claim._replace(answer=answer)
            continue
        task = _accept(member, answer)
        if task is None:
            _set_aside(board, lines, answer)
            continue
        flags: Flags = ()
        problem = result_problem(answer) if isinstance(answer, Result) else ""
        if answer.events:
            record_events(board, member, task.run, (event for event in answer.events if not is_flag(event)))
            if isinstance(answer, Result):
                flags, amiss = _flags_in(answer, task.run)
                problem = problem or amiss
        if isinstance(answer, Result) and problem:
            answer = failure_of(task, "failed", f"the worker's answer cannot be recorded: {problem}", retryable=False)
        if isinstance(answer, Result):
            if not member.is_wide:
                task.run.learn(task.spec.kind, answer.ended_at - answer.started_at)
            for flag in flags:
                board.record(answer.run_id, flag)
            lines.complete(task, answer)
            settled.append((task, "completed", answer, None, flags))
            continue
        answer = task.run.concealing(answer)
        if DiskFull.__name__ in answer.error_types:
            release(board, task, lines)
            board.queue.pause(answer.run_id)  # what it would ask of models now, it could not keep
            board.effects.append(Abandon(answer.run_id, answer.error))
        elif status := charge_failure(board, task, answer, lines, now):
            settled.append((task, status, None, answer, ()))
    board.record_lines(lines)
    _take_dropped(board, member, done.dropped)
    member.mark_started(now)
    for task, status, result, failure, flagged in settled:
        board.settle(task, status, result=result, failure=failure, flags=flagged)
    if lines.stale_fences:
        board.counts.stale += len(lines.stale_fences)
        board.send(member.peer, Stale(fences=lines.stale_fences))


def _flags_in(result: Result, run: Run) -> tuple[Flags, str]:
    """The cases that a result flags, as they go on record, or why they cannot."""
    read = [flag_in(event, result.task_id) for event in result.events if is_flag(event)]
    amiss = next((each for each in read if isinstance(each, str)), "")
    return () if amiss else run.abridge([each for each in read if not isinstance(each, str)]), amiss


def charge_failure(board: Board, task: Task, failure: Failure, lines: Lines, now: float) -> Final | None:
    """Count a failure of the task's own; its final status, or None where it is tried again, maybe later."""
    task.failed += 1
    board.counts.failed += 1
    retry = task.spec.retry
    if retry is not None and is_tried_again(retry, failure, task.failed):
        delay_s = pause_s(retry, task.run.run_id, task.spec.task_id, task.attempt, task.failed)
        if task.finish_by is None or now + delay_s < task.finish_by:
            lines.fail(task, failure, then="queued", delay_s=delay_s)
            task.fence = 0  # nobody can come back with it
            if delay_s > 0:
                board.put_off(task, now + delay_s)
            else:
                board.enqueue(task)
            return None
    lines.fail(task, failure, then="failed")
    return "failed"


def charge_loss(board: Board, task: Task, failure: Failure, lines: Lines) -> Final | None:
    """Count a worker that went down with the task; its final status, or None where it is tried again."""
    task.lost += 1
    task.is_suspect = task.lost >= board.settings.poison_limit - 1
    if failure.outcome == "expired":
        board.counts.expired += 1
    else:
        board.counts.crashed += 1
    again = task.lost < board.settings.poison_limit
    lines.fail(task, failure, then="queued" if again else "dead")
    if again:
        board.enqueue(task)
        return None
    return "dead"


def release(board: Board, task: Task, lines: Lines) -> None:
    """Give a task back to the queue, nobody's fault."""
    lines.release(task)
    board.enqueue(task)


def take_back(board: Board, member: Member, fences: Iterable[int], reason: str, now: float) -> None:
    """Release what never reached a member, as far as it still holds it."""
    lines = Lines(member.peer)
    for fence in fences:
        held = member.held.get(fence)
        if held is not None and held.task is not None:
            task = held.task
            member.drop(fence)
            release(board, task, lines)
    member.mark_started(now)
    board.record_lines(lines, reason)


def ask_back(board: Board, member: Member, places: Iterable[tuple[int, Task]], reason: str, now: float) -> None:
    """Have a member give back what waits in its hands, as far as it has not begun it when this reaches it.

    Until it answers, the tasks stay its own: so none is executed twice. One that cannot answer, since its task holds
    the interpreter, has them taken away after a grace (`deadlines`).
    """
    fences = []
    for fence, _ in places:
        member.held[fence].asked_back = (now, reason)
        fences.append(fence)
    if fences:
        board.send(member.peer, Recall(fences=tuple(fences)))


def _take_dropped(board: Board, member: Member, fences: Iterable[int]) -> None:
    """Free the places of what a member was to give back, and did not begin; the rest is still its own."""
    by_reason: defaultdict[str, Lines] = defaultdict(lambda: Lines(member.peer))
    for fence in fences:
        held = member.held.get(fence)
        if held is None or (held.task is not None and held.asked_back is None):
            continue
        member.drop(fence)
        if held.task is not None and held.asked_back is not None:
            release(board, held.task, by_reason[held.asked_back[1]])
    for reason, lines in by_reason.items():
        board.record_lines(lines, reason)


def take_away(board: Board, member: Member, places: Iterable[tuple[int, Task]], reason: str, now: float) -> None:
    """Release what waits in a member's hands, and have it not begin that, or be stale if it has."""
    lines = Lines(member.peer)
    taken = []
    for fence, task in places:
        member.give_up(fence, now)
        release(board, task, lines)
        taken.append(fence)
    board.record_lines(lines, reason)
    if taken:
        board.send(member.peer, Cancel(fences=tuple(taken)))


def _accept(member: Member, answer: Result | Failure) -> Task | None:
    """Take an answer's task out of its member's hands; None where the answer is stale."""
    held = member.held.get(answer.fence)
    if held is None:
        return None
    task = held.task
    if task is not None and (task.spec.task_id, task.run.run_id) != (answer.task_id, answer.run_id):
        return None
    member.drop(answer.fence)
    if task is not None:
        task.holder = task.start_by = None  # it was begun
    return task


def _set_aside(board: Board, lines: Lines, answer: Result | Failure) -> None:
    lines.stale(answer)
    if run := board.runs.get(answer.run_id):
        record_paid(board, run, answer.events)
