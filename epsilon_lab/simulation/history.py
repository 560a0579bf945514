"""What a broker may have done, judged from outside: the total-queue check of Jepsen, for tasks.

Nothing a broker says of itself counts here. The submitter writes down what it asked for and what it was promised, each
execution its start and its end, the reader what it was given; all of them somewhere the broker cannot reach. From these
lines alone follows whether a promise was broken, whoever was killed in between. Execution may happen more than once,
so every execution ends with a mark of its own: then it shows whether two of them were believed.

Source of the method: the total-queue checker of Jepsen (github.com/jepsen-io/jepsen, `checker/total-queue`). Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

Kind = Literal["submit", "acknowledge", "refuse", "start", "end", "accept", "give_up"]


class Event(msgspec.Struct, frozen=True):
    """One line of a history."""

    kind: Kind
    """`submit` before the broker is asked, `acknowledge` once it has promised, `refuse` if it took nothing; `start` and
    `end` of an execution; `accept` when the reader is given an output, `give_up` when it is told there will be none."""

    task: str
    """The task, by a name that is unique in the history."""

    at: float
    """Seconds on a monotonic clock that all writers share."""

    value: str = ""
    """Of `end` and `accept`: the mark of the execution; of `give_up`: the task's status."""

    by: str = ""
    """Who says so: a worker, a process id."""


class Verdict(NamedTuple):
    """What a history shows. Each field of names is sorted."""

    submitted: int
    acknowledged: int
    accepted: int
    executions: int

    lost: tuple[str, ...]
    """Acknowledged, and neither accepted nor given up."""

    accepted_twice: tuple[str, ...]
    """Two different executions were believed, or a task was given up as well as accepted, or given up in two ways."""

    unexpected: tuple[str, ...]
    """Accepted or given up although never submitted, or refused."""

    unproduced: tuple[str, ...]
    """Accepted with a mark with which no execution ended."""

    executed_twice: tuple[str, ...]
    """Begun more than once: allowed, and worth a number."""

    redone: tuple[str, ...]
    """Begun after it was accepted. A worker that slept through its lease may do that; a broker that resumes must not,
    so a drill without such workers requires it to be empty."""

    recovered: tuple[str, ...]
    """Accepted or given up though never acknowledged: the submitter was cut off before the promise reached it."""

    @property
    def broken(self) -> dict[str, tuple[str, ...]]:
        """The promises that were broken, and to which tasks; empty if the history is sound."""
        promises = ("lost", "accepted_twice", "unexpected", "unproduced")
        return {promise: tasks for promise in promises if (tasks := getattr(self, promise))}

    def __str__(self) -> str:
        counts = (
            f"{self.submitted} submitted, {self.acknowledged} acknowledged, {self.accepted} accepted, "
            f"{self.executions} executions, {len(self.executed_twice)} executed twice, "
            f"{len(self.recovered)} recovered"
        )
        broken = "".join(f"; {promise}: {', '.join(tasks[:5])}" for promise, tasks in self.broken.items())
        return counts + (broken or "; 0 lost, 0 accepted twice, 0 unexpected")


def check(events: Iterable[Event]) -> Verdict:
    """Judge a history.

    Args:
        events: All lines of all writers, each writer's in its own order.
    """
    at: defaultdict[Kind, defaultdict[str, list[Event]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        at[event.kind][event.task].append(event)
    acknowledged, refused, starts, accepted = at["acknowledge"], at["refuse"], at["start"], at["accept"]
    submitted = at["submit"].keys() | acknowledged.keys()
    told = accepted.keys() | at["give_up"].keys()
    fates = {task: {(e.kind, e.value) for e in accepted[task] + at["give_up"][task]} for task in told}
    ends = {task: {event.value for event in lines} for task, lines in at["end"].items()}
    return Verdict(
        submitted=len(submitted),
        acknowledged=len(acknowledged),
        accepted=sum(bool(lines) for lines in accepted.values()),
        executions=sum(map(len, starts.values())),
        lost=_names(acknowledged.keys() - told),
        accepted_twice=_names(task for task, fate in fates.items() if len(fate) > 1),
        unexpected=_names(task for task in told if task not in submitted or task in refused),
        unproduced=_names(
            task for task in told if not {event.value for event in accepted[task]} <= ends.get(task, set())
        ),
        executed_twice=_names(task for task, lines in starts.items() if len(lines) > 1),
        redone=_names(
            task
            for task, lines in accepted.items()
            if lines and any(begun.at > min(event.at for event in lines) for begun in starts.get(task, ()))
        ),
        recovered=_names(told & submitted - acknowledged.keys()),
    )


def _names(tasks: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(tasks))
