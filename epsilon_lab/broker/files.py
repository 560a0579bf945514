"""Which files a member far from the disk may read and write: those of runs that it works for, while it does.

A member reads what lies in the directory of a run of which it holds a task, and writes what the attempt that it holds
makes. That the path stays inside that directory, and off what is the lab's own there, is seen to where it is walked.
"""

from __future__ import annotations

from epsilon_lab.broker.board import Board
from epsilon_lab.broker.members import Member
from epsilon_lab.broker.stimuli import Serve
from epsilon_lab.messages.frames import Fetch, File, Keep, Kept


def fetch(board: Board, member: Member, request: Fetch) -> None:
    """Let a member read, if it holds a task of the run."""
    run = board.runs.get(request.run_id)
    if run is not None and any(held.task is not None and held.task.run is run for held in member.held.values()):
        board.effects.append(Serve(member.peer, run.run_dir, request))
    else:
        problem = f"{member.peer} holds no task of run {request.run_id} any more"
        board.send(member.peer, File(note_id=request.note_id, problem=problem))


def keep(board: Board, member: Member, request: Keep) -> None:
    """Let a member write, if it still holds the attempt that the file is of."""
    run = board.runs.get(request.run_id)
    held = member.held.get(request.fence)
    task = held.task if held is not None else None
    if run is not None and task is not None and task.run is run and task.spec.task_id == request.task_id:
        board.effects.append(Serve(member.peer, run.run_dir, request))
    else:
        problem = f"task {request.task_id} of run {request.run_id} is in other hands by now"
        board.send(member.peer, Kept(note_id=request.note_id, problem=problem))
