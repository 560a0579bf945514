"""Every rule of who runs what, as one pure function: a stimulus in, effects out.

No socket, clock, dice or file: `now` is an argument, so a test owns time, and a simulation can own everything. The
rules themselves stand beside this file, one noun each, around one board: submissions, dispatch (with queue and credit),
attempts, notes (with the ledger), membership, deadlines; and post, which routes what agents say to each other.

    submitted ──> queued ──> assigned ──> completed | failed | dead | cancelled      (settled, and out of memory)
                    ^            │
                    └────────────┘  released (nobody's fault) · failed, timed out or lost with tries left

**Fence.** Each assignment carries a number larger than any before it. A member's answer counts only while that number
is the one it holds; anything else is stale: recorded, answered, never applied. So execution is at least once and
acceptance exactly once.

**Credit.** Work is pushed. A member holds as many tasks as it has slots, and in advance as much as `credit_window_s`
of work by the durations measured for that run and kind. The least loaded member is served first; when nothing is ready
and a member is idle, what waits behind another's long task is asked back: it stays where it is until its worker says
that it has not begun it.

**Who is to blame.** A process works in the order assigned, so the first unfinished task is the one that was running
when it died; only that one is counted (`poison_limit` times, then it is dead), and the rest go back unblamed. Failures
of the user's own code are counted apart (`retries`). Being handed out costs nothing.

**Budget.** A note that asks for a request to a model is answered by the run's ledger, in the turn in which it came, or
in a later one when requests in flight have ended. A task's time limit stands still meanwhile.

**Deadlines** are the session's lease, renewed by any frame of any of its members; a task's time limit, from the moment
it heads its member's line; the time it may go on without a sign of progress; and, from its submission, when it must
have begun and be done. If the broker itself was late by d, all of them move by d (`Stalled`).
"""

from __future__ import annotations

from typing import assert_never

from epsilon_lab.broker import attempts, deadlines, dispatch, files, membership, notes, post, submissions
from epsilon_lab.broker.board import Board, Room
from epsilon_lab.broker.members import WorkerRow
from epsilon_lab.broker.stats import Stats
from epsilon_lab.broker.stimuli import (
    Assign,
    CancelTasks,
    CloseBudget,
    CloseRun,
    DiskShort,
    DrainSession,
    Due,
    Effect,
    OpenRun,
    PauseRun,
    Received,
    Reprioritise,
    Requeue,
    RestoreTopics,
    ResumeRun,
    Stalled,
    Stimulus,
    Submit,
    Tick,
    Undelivered,
)
from epsilon_lab.messages.frames import (
    UNKNOWN_PEER,
    Beat,
    Bye,
    Direct,
    Done,
    Drain,
    Fetch,
    Forget,
    Hello,
    Keep,
    Lost,
    Note,
    Publish,
    Read,
    Refused,
    Renew,
    Subscribe,
    ToBroker,
)
from epsilon_lab.settings import BrokerSettings


class BrokerState:
    """The broker's rules, and the board they are played on.

    Args:
        settings: What the rules are tuned by.
        epoch: Larger than that of any broker that knew these runs before.

    Attributes:
        board: All that the broker knows; whoever is not a rule reads it and changes nothing.
    """

    def __init__(self, settings: BrokerSettings, *, epoch: int) -> None:
        self.board = Board(settings, epoch)

    def step(self, stimulus: Stimulus, now: float) -> list[Effect]:
        """Say what follows from a stimulus, in the order in which it must be carried out.

        Args:
            stimulus: What happened.
            now: Seconds on a clock that never goes back.

        Raises:
            InvalidInput: A submission names an unknown run, an id that another task has or an unknown lane, or what is
                to be requeued is not dead; nothing was taken.
            QueueFull: A submission exceeds the marks; nothing was taken.
        """
        board = self.board
        effects = board.effects = []
        match stimulus:
            case Received(peer=peer, message=message):
                _hear(board, peer, message, now)
            case Assign():
                membership.redeem(board, now)
                dispatch.assign(board, now)
                membership.let_go(board)
                board.post.flush(board)
            case RestoreTopics(last=last):
                board.post.restore(last)
            case Submit():
                submissions.submit(board, stimulus, now)
            case Tick():
                deadlines.look(board, now)
                board.post.unpark()
            case Due():
                deadlines.look_at_work(board, now)
            case DiskShort(is_short=is_short):
                board.is_disk_short = is_short
            case Stalled(by=by):
                deadlines.move(board, by, now)
            case Undelivered():
                membership.give_back(board, stimulus, now)
            case CancelTasks():
                submissions.cancel(board, stimulus, now)
            case Reprioritise():
                submissions.reprioritise(board, stimulus)
            case Requeue():
                submissions.requeue(board, stimulus, now)
            case OpenRun():
                submissions.open_run(board, stimulus, now)
            case PauseRun(run_id=run_id):
                board.queue.pause(run_id)
            case ResumeRun(run_id=run_id):
                board.queue.resume(run_id)
            case CloseBudget(run_id=run_id, reason=reason):
                if run_id in board.runs:
                    board.runs[run_id].ledger.close(reason)
            case DrainSession(session=session):
                membership.drain(board, session, now)
            case CloseRun(run_id=run_id):
                submissions.close_run(board, run_id, now)
            case _:
                assert_never(stimulus)
        return effects

    @property
    def epoch(self) -> int:
        """The highest part of its fences; it grows where a run is opened that has seen a larger one."""
        return self.board.epoch

    @property
    def room(self) -> Room:
        """What may still be submitted."""
        return self.board.room

    @property
    def wakes_at(self) -> float | None:
        """When a task that was put off can be handed out; None where there is none."""
        return self.board.delayed.next_at

    @property
    def due_at(self) -> float | None:
        """After which moment a limit or a deadline has passed, unless a stall moves it; None where there is none."""
        return min(
            (at for at in (self.board.limits.next_at, self.board.deadlines.next_at) if at is not None), default=None
        )

    def stats(self) -> Stats:
        """Say how it stands, in numbers."""
        board, counts = self.board, self.board.counts
        held = [(len(member.held), min(len(member.held), member.hello.slots)) for member in board.members()]
        running = sum(begun for _, begun in held)
        return Stats(
            queued=len(board.queue),
            delayed=len(board.delayed),
            running=running,
            prefetched=sum(all_ for all_, _ in held) - running,
            payload_bytes=board.payload_bytes,
            dead=counts.settled["dead"] - counts.requeued,
            rate=counts.rate,
            completed=counts.settled["completed"],
            assigned=counts.assigned,
            redelivered=counts.redelivered,
            adopted=counts.adopted,
            failed=counts.failed,
            crashed=counts.crashed,
            expired=counts.expired,
            overdue=counts.overdue,
            stale=counts.stale,
            stalls=counts.stalls,
            stalled_s=counts.stalled_s,
        )

    def workers(self) -> list[WorkerRow]:
        """List the members that execute tasks."""
        return [member.row for member in self.board.members() if member.hello.slots]


def _hear(board: Board, peer: str, message: ToBroker, now: float) -> None:
    """Let a peer's word renew its lease, and heed it."""
    member = board.member(peer)
    if member is None:
        if isinstance(message, Hello):
            membership.join(board, peer, message, now)
        else:
            board.send(peer, Refused(problem=f"{UNKNOWN_PEER} {peer!r}: say hello first"))
        return
    board.sessions[peer.partition("/")[0]].heard = member.heard = now
    member.away = False
    match message:
        case Done():
            attempts.take_answers(board, member, message, now)
        case Note():
            notes.take_note(board, member, message, now)
        case Publish():
            post.take_publication(board, member, message)
        case Direct():
            post.take_letter(board, member, message)
        case Subscribe() | Read():
            post.take_question(board, member, message)
        case Forget():
            post.give_up_questions(board, member, message)
        case Beat():
            notes.take_beat(member, message, now)
        case Renew():
            pass
        case Hello():
            membership.join(board, peer, message, now)
        case Fetch():
            files.fetch(board, member, message)
        case Keep():
            files.keep(board, member, message)
        case Drain() if not member.hello.lanes:
            membership.drain(board, peer.partition("/")[0], now)
        case Drain():
            board.send(peer, Refused(problem=f"{peer} cannot drain its session: its supervisor can"))
        case Lost():
            membership.bury(board, member, message)
        case Bye():
            membership.say_goodbye(board, member)
        case _:
            assert_never(message)
