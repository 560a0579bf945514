"""Who is at work: peers come, are killed, die or leave, and what they held is charged or given back.

A process works in the order assigned, so the first unfinished task is the one that was running when it died; only that
one is charged, and the rest go back unblamed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import get_args

import msgspec

from epsilon_lab.broker.attempts import ask_back, charge_loss, release, take_answers, take_away, take_back
from epsilon_lab.broker.board import FENCE_BITS, Board
from epsilon_lab.broker.credit import waiting
from epsilon_lab.broker.lines import Lines, failure_of
from epsilon_lab.broker.members import Claim, Member, Session, Task
from epsilon_lab.broker.stimuli import Undelivered
from epsilon_lab.messages.events import TasksAdopted, WorkerJoined, WorkerLeft
from epsilon_lab.messages.frames import (
    Cancel,
    Done,
    Drained,
    Hello,
    Interrupt,
    Kill,
    Lost,
    News,
    Refused,
    Tasks,
    Welcome,
)
from epsilon_lab.messages.tasks import AttemptOutcome, Failure, Result

_Adopted = defaultdict[str, list[tuple[str, int, int]]]

_MOST_SLOTS = 10_000

_OUTCOMES: dict[str, AttemptOutcome] = {outcome: outcome for outcome in get_args(AttemptOutcome)}


def join(board: Board, peer: str, hello: Hello, now: float) -> None:
    """Let a peer in, or hear what it says anew of itself."""
    name, slash, member_name = peer.partition("/")
    if not (name and slash and member_name and peer.isprintable()):
        board.send(peer, Refused(problem=f"peer id {peer!r} is not of the form <session>/<member>"))
        return
    if not 0 <= hello.slots <= _MOST_SLOTS or bool(hello.slots) != bool(hello.lanes):
        board.send(peer, Refused(problem=f"{hello.slots} slots for lanes {hello.lanes}: both or neither, if any"))
        return
    session = board.sessions.setdefault(name, Session(now))
    session.heard = now
    known = session.members.get(peer)
    if known is not None and known.hello.pid != hello.pid:
        leave(board, known, f"replaced by process {hello.pid}", blame="lost")
        session = board.sessions.setdefault(name, session)
        known = None
    if known is None:
        member = session.members[peer] = Member(peer, hello, now, board.limits)
    else:
        member = known
        known.greet(hello)
    if known is None and hello.slots:
        joined = WorkerJoined(worker_id=peer, pid=hello.pid, host=hello.host, slots=hello.slots, lanes=hello.lanes)
        board.record(None, joined)
    if hello.held is not None and hello.slots:
        _reconcile(board, member, hello.held, now)
    member.mark_started(now)
    settings = board.settings
    board.send(peer, Welcome(epoch=board.epoch, lease_s=settings.lease_s, beat_s=settings.beat_s))


def _reconcile(board: Board, member: Member, named: tuple[tuple[str, str, int], ...], now: float) -> None:
    """Hold what a member says it has against what it was given."""
    fences = {fence for _, _, fence in named}
    missing = [(fence, held.task) for fence, held in member.held.items() if fence not in fences]
    # Lost on its way, or on its way still: only the member can tell, so until then it keeps the places.
    take_away(board, member, [(fence, task) for fence, task in missing if task], "its worker does not have it", now)
    gone = [fence for fence, task in missing if task is None]
    member.claims = {fence: claim for fence, claim in member.claims.items() if fence in fences or claim.answer}
    adopted: _Adopted = defaultdict(list)
    for run_id, task_id, fence in named:
        if fence in member.held:
            continue
        if run_id not in board.runs and fence >> FENCE_BITS < board.epoch:
            member.claims.setdefault(fence, Claim(run_id, task_id))
        elif not _adopt(board, member, run_id, task_id, fence, adopted):
            gone.append(fence)
            member.reserve(fence)  # it may hang in it
    _record_adopted(board, member, adopted)
    if gone:
        board.send(member.peer, Cancel(fences=tuple(gone)))


def redeem(board: Board, now: float) -> None:
    """Leave tasks of runs that were opened just now to the workers that had brought them."""
    runs, board.opened = {run.run_id for run in board.opened}, []
    if not runs:
        return
    for member in list(board.members()):
        adopted: _Adopted = defaultdict(list)
        answers: list[Result | Failure] = []
        gone = []
        for fence, claim in list(member.claims.items()):
            if claim.run_id not in runs:
                continue
            del member.claims[fence]
            if not _adopt(board, member, claim.run_id, claim.task_id, fence, adopted):
                gone.append(fence)
                if claim.answer is None:
                    member.reserve(fence)
            elif claim.answer is not None:
                answers.append(claim.answer)
        _record_adopted(board, member, adopted)
        if gone:
            board.send(member.peer, Cancel(fences=tuple(gone)))
        member.mark_started(now)
        if answers:
            results = tuple(answer for answer in answers if isinstance(answer, Result))
            failures = tuple(answer for answer in answers if isinstance(answer, Failure))
            take_answers(board, member, Done(results=results, failures=failures), now)


def _adopt(board: Board, member: Member, run_id: str, task_id: str, fence: int, adopted: _Adopted) -> bool:
    """Leave a task to a member that says it has it, if nobody else has, and that attempt has not ended."""
    run = board.runs.get(run_id)
    task = run.tasks.get(task_id) if run is not None else None
    if task is None or task.holder is not None or task.fence != fence or task.spec.lane not in member.hello.lanes:
        return False
    board.withdraw(task)
    task.holder, task.wake_at = member, None
    member.hold(task, task.run.durations.get(task.spec.kind, 0.0))
    adopted[run_id].append((task_id, task.attempt, fence))
    return True


def _record_adopted(board: Board, member: Member, adopted: _Adopted) -> None:
    for run_id, tasks in adopted.items():
        board.counts.adopted += len(tasks)
        board.record(run_id, TasksAdopted(worker_id=member.peer, tasks=tuple(tasks)))


def bury(board: Board, boss: Member, lost: Lost) -> None:
    """Hear from a supervisor that one of its members died."""
    member = board.member(lost.member)
    if boss.hello.lanes or lost.member.partition("/")[0] != boss.peer.partition("/")[0]:
        board.send(boss.peer, Refused(problem=f"{boss.peer} does not supervise {lost.member}"))
    elif member is not None and member.killed_at is not None:
        leave(board, member, lost.reason)  # we had it killed, for a task that was charged then
    elif member is not None:
        leave(board, member, lost.reason, blame=_OUTCOMES.get(lost.outcome, "crashed"), lost=lost)


def say_goodbye(board: Board, member: Member) -> None:
    """Let a member leave in good order; a supervisor takes its whole session with it."""
    session = board.sessions[member.peer.partition("/")[0]]
    for each in [member] if member.hello.lanes else list(session.members.values()):
        leave(board, each, "left in good order")


def drain(board: Board, name: str, now: float) -> None:
    """Give a session nothing more, and give what it has not begun to others."""
    session = board.sessions.get(name)
    if session is None or session.draining:
        return
    session.draining = True
    for member in session.members.values():
        if places := waiting(member):
            ask_back(board, member, places, "its worker is leaving", now)


def let_go(board: Board) -> None:
    """Tell supervisors whose session has nothing left to do that they may go."""
    for session in board.sessions.values():
        if session.draining and not session.drained and not any(member.held for member in session.members.values()):
            session.drained = True
            for boss in session.members.values():
                if not boss.hello.lanes:
                    board.send(boss.peer, Drained())


def leave(
    board: Board, member: Member, reason: str, *, blame: AttemptOutcome | None = None, lost: Lost | None = None
) -> None:
    """Let a member go: what it worked on is charged (unless `blame` is None), the rest is released."""
    name = member.peer.partition("/")[0]
    session = board.sessions[name]
    del session.members[member.peer]
    board.post.forget(member.peer)
    if not session.members:
        del board.sessions[name]
    guilty: set[int] = set()
    if blame is not None:
        known = lost.fence if lost is not None else None
        guilty = {known} if known is not None else {fence for fence, _ in member.started()}
    for fence in member.held:
        board.limits.forget(fence)
    lines = Lines(member.peer)
    dead: list[tuple[Task, Failure]] = []
    for fence, held in member.held.items():
        task = held.task
        if task is None:
            continue
        if blame is None or fence not in guilty:
            release(board, task, lines)
            continue
        failure = failure_of(task, blame, f"worker {member.peer} was lost: {reason}")
        if lost is not None:
            tails = {"stdout_tail": lost.stdout_tail, "stderr_tail": lost.stderr_tail}
            failure = task.run.concealing(msgspec.structs.replace(failure, **tails))
        if charge_loss(board, task, failure, lines):
            dead.append((task, failure))
    board.record_lines(lines, reason)
    if member.hello.slots:
        board.record(None, WorkerLeft(worker_id=member.peer, reason=reason))
    for task, failure in dead:
        board.settle(task, "dead", failure=failure)


def kill(board: Board, member: Member, reason: str, now: float) -> None:
    """Have a member's process ended by its supervisor, once."""
    if member.killed_at is not None:
        return
    member.killed_at = now
    _tell_supervisor(board, member, Kill(member=member.peer, reason=reason))


def interrupt(board: Board, member: Member, fence: int) -> None:
    """Have a member's supervisor ask a task to stop."""
    _tell_supervisor(board, member, Interrupt(member=member.peer, fence=fence))


def _tell_supervisor(board: Board, member: Member, message: Kill | Interrupt) -> None:
    for boss in board.sessions[member.peer.partition("/")[0]].members.values():
        if not boss.hello.lanes:
            board.send(boss.peer, message)


def give_back(board: Board, undelivered: Undelivered, now: float) -> None:
    """Release tasks that did not reach their member."""
    member = board.member(undelivered.peer)
    if isinstance(undelivered.message, News):
        board.post.park(undelivered.peer, undelivered.message)
    if member is None or not isinstance(undelivered.message, Tasks):
        return
    member.away = undelivered.is_gone
    fences = [each.fence for each in undelivered.message.assignments]
    take_back(board, member, fences, "could not be delivered", now)
