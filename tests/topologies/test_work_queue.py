"""What a work queue refuses in its constructor, by name."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from epsilon_lab.errors import InvalidInput
from epsilon_lab.topologies.work_queue import WorkQueue


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
