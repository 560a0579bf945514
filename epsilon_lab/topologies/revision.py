"""A second go at a task: the same work as a task of its own, told why.

The first go stays on record as it was: its attempts, its output, its error. A `Retry` is another thing, the broker's:
it repeats the very same task, and whoever performs it knows nothing of what went before.
"""

from __future__ import annotations

import msgspec

from epsilon_lab import ids
from epsilon_lab.messages.call import CALL, CALL_ASYNC, Call, Feedback, call_of
from epsilon_lab.messages.tasks import TaskSpec
from epsilon_lab.messages.values import Value, as_json, stored


def revise(task: TaskSpec, number: int, feedback: tuple[Feedback, ...], verdicts: str = "") -> TaskSpec:
    """Make a task's revision.

    Args:
        task: The first of its revisions, or any other.
        number: Which this one is, from 2.
        feedback: Why it is done again; a plain function reads it with `current_task().feedback`.
        verdicts: The file of verdicts that it goes by, where it flags cases; empty for none.
    """
    again = msgspec.structs.replace(task, task_id=ids.revised(task.task_id, number))
    if task.entry in (CALL, CALL_ASYNC):
        call = msgspec.structs.replace(call_of(task.payload), verdicts=verdicts)
        return msgspec.structs.replace(again, payload=_told(call, feedback))
    if not feedback:
        return again
    # A plain function's payload is its item, which leaves no room for a reason: it is called as all others are.
    call = Call(code=task.entry.removeprefix("code:"), argument=stored(task.payload))
    entry = CALL if task.lane == "process" else CALL_ASYNC
    return msgspec.structs.replace(again, entry=entry, payload=_told(call, feedback))


def _told(call: Call, feedback: tuple[Feedback, ...]) -> Value:
    return as_json(msgspec.structs.replace(call, feedback=(*call.feedback, *feedback)))
