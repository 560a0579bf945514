"""What a work queue refuses in its constructor, by name."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.call import CALL_ASYNC, Call, call_of
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import as_json, pack, restored, stored, unpack
from epsilon_lab.topologies.plan import Add, Finish, Revise
from epsilon_lab.topologies.work_queue import WorkQueue, WorkQueuePlan


def double(item: Any) -> Any:
    return 2 * item


async def later(item: Any) -> Any:
    return item


def yields(item: Any) -> Any:
    yield item


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": 3}, r"task: must be a function called with \(item\), got 3"),
        ({"task": lambda: 1}, "task: must be a function called with"),
        ({"task": lambda one, two: 1}, "but its parameters are"),
        ({"task": yields}, "task: is a generator"),
        ({"retries": -1}, "retries"),
        ({"retries": True}, "retries"),
        *(({"time_limit_s": value}, "time_limit_s") for value in (True, 0, -1, math.inf, math.nan, "1")),
    ],
)
def test_a_bad_argument_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=f"WorkQueue {said}" if said[0] in "tr" else said):
        WorkQueue(**{"items": [1], "task": double} | changes)


@pytest.mark.parametrize("task", [double, later, abs, str, max, lambda item, more=1: item])
def test_any_function_of_one_item_is_a_task(task: Any) -> None:
    assert len(WorkQueue([1], task).items) == 1


def test_numpys_numbers_are_numbers() -> None:
    queue = WorkQueue([1], double, retries=np.int64(2), time_limit_s=np.float32(1.5))  # type: ignore[arg-type]
    assert msgspec.json.decode(msgspec.json.encode(queue.config())) == {
        "task": "double",
        "items": 1,
        "retries": 2,
        "time_limit_s": 1.5,
    }


def asking() -> tuple[TaskSpec, ...]:
    """Two items of a queue whose tasks may ask for more."""
    calls = {name: Call(code="0", argument=stored(pack(name)), takes_tasks=True) for name in ("a", "b")}
    return tuple(
        TaskSpec(task_id=name, kind="item", lane="async", entry=CALL_ASYNC, payload=as_json(call), priority=3)
        for name, call in calls.items()
    )


def completed(task_id: str, *further: object) -> TaskOutcome:
    return TaskOutcome(run_id="r", task_id=task_id, status="completed", further=tuple(map(pack, further)))


def test_further_items_are_done_as_the_one_that_asked_for_them() -> None:
    plan = WorkQueuePlan(asking())
    plan.start(0.0)
    [add] = plan.settled(completed("a", "x", {1, 2}), 1.0)
    assert isinstance(add, Add)
    assert [task.task_id for task in add.tasks] == ["a.1", "a.2"]
    assert [unpack(restored(call_of(task.payload).argument)) for task in add.tasks] == ["x", {1, 2}]  # type: ignore[arg-type]
    assert {(task.priority, task.entry) for task in add.tasks} == {(3, CALL_ASYNC)}
    assert plan.settled(completed("b"), 2.0) == []
    [deeper] = plan.settled(completed("a.1", "y"), 3.0)
    assert isinstance(deeper, Add)
    assert [task.task_id for task in deeper.tasks] == ["a.1.1"]
    assert plan.settled(completed("a.2"), 4.0) == []
    assert plan.settled(completed("a.1.1"), 5.0) == [Finish("completed", "5 of 5 items completed")]


def test_an_item_that_is_done_again_asks_for_items_of_new_names() -> None:
    plan = WorkQueuePlan(asking())
    plan.start(0.0)
    plan.settled(completed("a", "x"), 1.0)
    plan.settled(completed("a.1"), 1.0)
    plan.told(Revise({"a": ()}), 2.0)
    [add] = plan.settled(completed("a~2", "x"), 3.0)
    assert isinstance(add, Add)
    assert [task.task_id for task in add.tasks] == ["a.2-1"]
