"""What a leaf is given of others, wherever it stands: in its call, in files, or in the run's journal."""

from __future__ import annotations

import msgspec
import pytest

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.request import Request
from epsilon_lab.messages.call import Call
from epsilon_lab.messages.events import CompletedLine, TasksCompleted
from epsilon_lab.messages.values import pack, stored
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import RunDirectory


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path)


def asked(run, **fields):
    return Request(Call(code="0", form="outputs", **fields), Leaf(run, "reduce-final", 1, 1))


def test_inputs_in_parts_come_in_the_order_of_the_items_whenever_they_were_written(run):
    pairs = [(f"item-{number:06d}", stored(pack([number]))) for number in range(9)]
    run.save("inputs/one.json", msgspec.json.encode([pairs[5], pairs[0], pairs[7]]), kind="input")
    run.save("inputs/two.json", msgspec.json.encode([pairs[1], pairs[6]]), kind="input")
    rest = tuple(pairs[number] for number in (2, 3, 4, 8))
    request = asked(run, inputs=rest, parts=("inputs/one.json", "inputs/two.json"))
    assert request.arguments() == ([[number] for number in range(9)],)


def test_inputs_on_record_are_the_outputs_of_those_tasks_and_of_no_others(run):
    journal = Journal.open(run.journal)
    lines = (CompletedLine(name, 1, 1, stored(pack(name.upper())), 0.0, 1.0) for name in ("a", "b", "b~2", "c"))
    journal.append(1.0, TasksCompleted(worker_id="w", tasks=tuple(lines)))
    journal.close()
    assert asked(run, recorded=("b~2", "a")).inputs == {"b": "B~2", "a": "A"}
