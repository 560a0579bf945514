"""How much a member may hold: its slots, and in advance as much as `credit_window_s` of work, so that short tasks flow
without a round trip each and long ones do not wait behind each other. Pure.
"""

from __future__ import annotations

from epsilon_lab.broker.members import Member, Task
from epsilon_lab.settings import BrokerSettings

RECALL_S = 0.1
"""Seconds a task must have been running before what waits behind it is given to an idle member."""


def is_open(member: Member, lane: str) -> bool:
    """Tell whether a member can be given tasks of this lane at all."""
    if lane not in member.hello.lanes or member.away or member.killed_at is not None:
        return False
    return member.is_wide or not any(claim.answer is None for claim in member.claims.values())  # else it is at that


def may_take(member: Member, task: Task, estimate: float | None, settings: BrokerSettings) -> bool:
    """Tell whether a member may be given one more task.

    Args:
        member: An open member.
        task: What it would get.
        estimate: Seconds that tasks of this kind take; None while nothing is known.
        settings: Window, prefetch and limit.
    """
    holds, slots = len(member.held), member.slots
    if task.is_suspect:
        return not holds
    if holds < slots:
        return slots == 1 or not _holds_a_suspect(member)
    if member.is_wide or not task.spec.prefetch:
        return False
    if estimate is None:
        has_room = holds < slots + settings.prefetch
    else:
        has_room = holds < settings.credit_max and member.backlog + estimate <= settings.credit_window_s
    return has_room and _may_be_waited_behind(member)


def waiting_since(member: Member, now: float) -> float | None:
    """Since when a member has worked on what it should not let others wait behind; None where it has not."""
    since = next((held.started for held in member.held.values()), None)
    return since if since is not None and now - since > RECALL_S and not member.is_wide else None


def waiting(member: Member) -> list[tuple[int, Task]]:
    """List what a member holds and has not begun."""
    return [(fence, held.task) for fence, held in member.held.items() if held.started is None and held.task is not None]


def _may_be_waited_behind(member: Member) -> bool:
    """Tell so of a member that works on one task at a time, which is the first it holds."""
    task = next(iter(member.held.values())).task
    return task is not None and task.spec.prefetch and not task.is_suspect


def _holds_a_suspect(member: Member) -> bool:
    """A suspect is handed to empty hands only, so it is the first."""
    first = next(iter(member.held.values()), None)
    return first is not None and first.task is not None and first.task.is_suspect
