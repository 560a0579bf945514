"""A work queue under QA: what it finds goes back to the items it names."""

from __future__ import annotations

import json

import pytest

from epsilon_lab import Lab, WorkQueue, current_task
from epsilon_lab.errors import InvalidInput


def double(item):
    told = [each.text for each in current_task().feedback]
    return item * 2 if item < 2 or told else item * 2 + 1


def judge(inputs):
    wrong = [name for name, output in inputs.items() if output % 2]
    errors = [{"id": name, "node": name, "description": "is odd"} for name in wrong]
    return {"status": "fail" if wrong else "pass", "errors": errors}


def test_only_the_items_that_qa_names_are_done_again(lab):
    run = lab.start(WorkQueue(range(4), double, qa=judge)).wait(60)
    assert run.reason == "4 of 4 items completed; QA passed in wave 2"
    assert run.results() == run.output == [0, 2, 4, 6]
    again = [task_id for task_id in run.frame("tasks").task_id if "~" in task_id]
    assert sorted(again) == ["item-000002~2", "item-000003~2", "qa~2"]


def test_what_qa_cannot_be_is_refused():
    with pytest.raises(InvalidInput, match="WorkQueue assign: has nothing to assign without qa"):
        WorkQueue([1], double, assign=judge)
    with pytest.raises(InvalidInput, match="WorkQueue qa"):
        WorkQueue([1], double, qa=5)
    with pytest.raises(InvalidInput, match="WorkQueue fix_waves"):
        WorkQueue([1], double, qa=judge, fix_waves=-1)


KERNEL = """
import sys
from pathlib import Path
from epsilon_lab import Lab, WorkQueue, current_task

place = Path(sys.argv[1])

def work(item):
    task = current_task()
    (place / f"ran-{task.task_id}-{task.attempt}").touch()
    while task.task_id == "item-000001~2" and not (place / "go").exists():
        (place / "there").touch()
        task.beat()
    return [each.text for each in task.feedback]

def qa(inputs):
    error = {"description": "x", "node": "item-000001"}
    return True if inputs["item-000001"] else {"status": "fail", "errors": [error]}

Lab(place / "runs", workers=2).start(WorkQueue(range(3), work, qa=qa), name="queue").wait()
"""


def test_a_queue_that_is_killed_while_an_item_is_mended_goes_on(kill_kernel, tmp_path):
    kill_kernel(KERNEL, "there")
    with Lab(tmp_path / "runs", workers=2) as lab:
        run = lab.resume("queue").wait(60)
        assert run.reason == "3 of 3 items completed; QA passed in wave 2"
        assert run.results() == [[], ["x"], []]
        waves = [json.loads((run.path / "qa" / f"wave-{wave}.json").read_text())["status"] for wave in (1, 2)]
        assert waves == ["fail", "pass"]
    ran = sorted(path.name for path in tmp_path.glob("ran-*"))
    assert ran == [f"ran-item-00000{n}-1" for n in range(2)] + [f"ran-item-000001~2-{n}" for n in (1, 2)] + [
        "ran-item-000002-1"
    ]
