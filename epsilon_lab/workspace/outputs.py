"""What a run's tasks gave, read from its journal when someone asks."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from epsilon_lab.ids import origin, revision
from epsilon_lab.messages.events import RunEnded, TasksCompleted, TasksSubmitted
from epsilon_lab.messages.values import Value, restored
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.scan import START, Record, scan

_COMPLETED = msgspec.json.Decoder(TasksCompleted)


def task_outputs(run: RunDirectory, wanted: Container[str] | None = None) -> dict[str, Value]:
    """Read accepted outputs, by task id, a group of the journal at a time.

    Args:
        run: The run.
        wanted: Of which tasks; None for all.
    """
    outputs: dict[str, Value] = {}

    def take(records: list[Record]) -> None:
        for record in records:
            if record.type == "task.completed":
                for line in _COMPLETED.decode(record.body).tasks:
                    if wanted is None or line.task_id in wanted:
                        outputs[line.task_id] = restored(line.output)

    scan(run.journal, START, take)
    return outputs


SETTLED = ("completed", "failed", "dead", "cancelled")
"""Statuses of tasks that are over."""

Row = TypeVar("Row", bound=Sequence[Any])


def latest(rows: Iterable[Row], otherwise: Mapping[str, Row] = MappingProxyType({})) -> dict[str, Row]:
    """Of each task the row of its latest revision, by the id of its first.

    Args:
        rows: They begin with a task_id, and come in any order.
        otherwise: Rows of tasks that have none among these.
    """
    found: dict[str, Row] = {}
    for row in rows:
        name = origin(row[0])
        if name not in found or revision(found[name][0]) < revision(row[0]):
            found[name] = row
    return {**otherwise, **found}


def superseded(statuses: Sequence[str] = ()) -> str:
    """Whether a later revision speaks for a task, as a condition in SQL on the `tasks` of the run `$run`.

    Revisions are looked for among the few tasks that are some, so that it costs little where tasks are many.

    Args:
        statuses: Of which statuses that revision has to be; none for any.
    """
    wanted = f" and status in {tuple(statuses)}" if statuses else ""
    again = (
        "(select task_id, split_part(task_id, '~', 1) as name, split_part(task_id, '~', 2)::integer as number "  # noqa: S608 - our own names
        f"from tasks where run_id = $run and contains(task_id, '~'){wanted})"
    )
    older = f"select task_id from {again} qualify number < max(number) over (partition by name)"  # noqa: S608 - as above
    return f"task_id in (select name from {again} union all ({older}))"  # noqa: S608 - as above


def submission_order(run: RunDirectory) -> dict[str, int]:
    """The places in which a run's tasks were named on record, by task id: those of its plan."""
    places: dict[str, int] = {}

    def take(records: list[Record]) -> None:
        for record in records:
            if record.type in ("task.waiting", "task.submitted"):
                for line in msgspec.json.decode(record.body, type=TasksSubmitted).tasks:
                    places.setdefault(line.task_id, len(places))

    scan(run.journal, START, take)
    return places


def run_output(run: RunDirectory) -> Value | None:
    """Read the topology's own final output, if it gave one."""
    found: Value | None = None

    def take(records: list[Record]) -> None:
        nonlocal found
        for record in records:
            if record.type == "run.ended":
                output = msgspec.json.decode(record.body, type=RunEnded).output
                found = None if output is None else restored(output)

    scan(run.journal, START, take)
    return found
