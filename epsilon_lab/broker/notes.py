"""What an attempt has to say before it ends: lines to be made safe, and requests to models that a budget must admit."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from epsilon_lab.broker.board import Board
from epsilon_lab.broker.ledger import Admit, Deny, Wait
from epsilon_lab.broker.members import Ask, Member, Run
from epsilon_lab.broker.soundness import call_of, event_problem, is_flag, is_of_cases, is_paid
from epsilon_lab.errors import BudgetExhausted
from epsilon_lab.messages.events import LlmCall
from epsilon_lab.messages.frames import Beat, Denied, Note, Recorded, Refused
from epsilon_lab.messages.tasks import Event


def take_note(board: Board, member: Member, note: Note, now: float) -> None:
    """Record what a note says, and answer it, now or when the ledger has a word on what it asks for."""
    run = board.runs.get(note.run_id)
    if run is None:
        board.send(member.peer, Refused(problem=f"run {note.run_id} is not open: its events were not recorded"))
        return
    task = run.tasks.get(note.task_id)
    is_holder = task is not None and task.holder is member and note.fence in (None, task.fence)
    if task is not None and is_holder:
        member.held[task.fence].beat = now
    events, asked = [], None
    for event in note.events:
        call = call_of(event)
        if call is not None and call.outcome == "unknown" and not (is_holder and run.ledger.knows(call)):
            asked = Ask(member.peer, note.note_id, call, now)
        elif is_holder or is_paid(event):
            events.append(event)
    record_events(board, member, run, events)
    if asked is None:
        board.send(member.peer, Recorded(note_id=note.note_id), note.run_id)
    elif task is not None and is_holder and asked.call.task_id == note.task_id:
        run.asks[task.fence] = asked
    else:
        _deny(board, run, asked, "its task is in other hands by now")


def take_beat(member: Member, beat: Beat, now: float) -> None:
    """Note that attempts make progress."""
    for fence in beat.fences:
        if (held := member.held.get(fence)) is not None:
            held.beat = now


def record_events(board: Board, member: Member, run: Run, events: Iterable[Event]) -> None:
    """Record events and charge what they say was spent; tell which of them cannot be recorded."""
    for event in events:
        if problem := _record_event(board, run, event):
            board.send(member.peer, Refused(problem=f"event {event.type!r} was not recorded: {problem}"))


def record_paid(board: Board, run: Run, events: Iterable[Event]) -> None:
    """Record of a stale answer's events what was paid for."""
    for event in filter(is_paid, events):
        _record_event(board, run, event)


def answer_asks(board: Board, run: Run, now: float) -> None:
    """Admit the requests that the run's budget allows, first come, first served."""
    run.asks = {fence: ask for fence, ask in run.asks.items() if run.is_held(ask.call.task_id, fence)}
    run.ledger.land(run.is_held)
    for fence, ask in list(run.asks.items()):
        match run.ledger.admit(ask.call):
            case Admit(call=call):
                _admit(board, run, ask, call, fence, now)
            case Deny(reason=reason):
                _deny(board, run, ask, f"{BudgetExhausted.PREFIX}{reason}")
            case Wait():
                return
        del run.asks[fence]


def _record_event(board: Board, run: Run, event: Event) -> str:
    """Record an event and charge what it says was spent; say why, where it cannot be recorded."""
    if is_flag(event):
        return "it counts with its task's result, and is recorded with that"
    if is_of_cases(event):
        return "a task may flag a case, and decides none"
    if problem := event_problem(event):
        return problem
    if call := call_of(event):
        run.ledger.take(call)
    board.record(run.run_id, event)
    return ""


def _admit(board: Board, run: Run, ask: Ask, call: LlmCall, fence: int, now: float) -> None:
    run.ledger.take(call, fence)
    board.record(run.run_id, call)
    granted = None if call is ask.call or call.most is None else call.most.reply_tokens
    board.send(ask.peer, Recorded(note_id=ask.note_id, reply_tokens=granted), run.run_id)
    holder = run.tasks[call.task_id].holder
    if holder is not None and (started := holder.held[fence].started) is not None:
        holder.held[fence].started = started + now - ask.since


def _deny(board: Board, run: Run, ask: Ask, reason: str) -> None:
    board.record(run.run_id, msgspec.structs.replace(ask.call, outcome="refused", error=reason))
    board.send(ask.peer, Denied(note_id=ask.note_id, reason=reason), run.run_id)
