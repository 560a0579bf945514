"""What a run's tasks gave, read from its journal when someone asks."""

from __future__ import annotations

import msgspec

from epsilon_lab.messages.events import RunEnded, TasksCompleted
from epsilon_lab.messages.values import Value, restored
from epsilon_lab.workspace.journal import read_journal
from epsilon_lab.workspace.layout import RunDirectory


def task_outputs(run: RunDirectory) -> dict[str, Value]:
    """Read every accepted output, by task id."""
    outputs: dict[str, Value] = {}
    for record in read_journal(run.journal).records:
        if record.type == "task.completed":
            for line in msgspec.json.decode(record.body, type=TasksCompleted).tasks:
                outputs[line.task_id] = restored(line.output)
    return outputs


def run_output(run: RunDirectory) -> Value | None:
    """Read the topology's own final output, if it gave one."""
    for record in reversed(read_journal(run.journal).records):
        if record.type == "run.ended":
            output = msgspec.json.decode(record.body, type=RunEnded).output
            return None if output is None else restored(output)
    return None
