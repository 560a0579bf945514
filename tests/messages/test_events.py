"""What a journal says of a task is the whole task."""

import msgspec
import pytest

from epsilon_lab.messages.events import TaskLine, task_line, task_spec
from epsilon_lab.messages.tasks import Retry, TaskSpec
from epsilon_lab.messages.values import Value

PLAIN = TaskSpec(task_id="t", kind="k", lane="process", entry="e", payload=Value("json", b"1"))
ODD = TaskSpec(
    task_id="t",
    kind="k",
    lane="async",
    entry="e",
    payload=Value("pickle", b"\x80"),
    depends_on=("a", "b"),
    priority=3,
    time_limit_s=4.0,
    retry=Retry(limit=5, base_s=6.0, cap_s=7.0, final=("ValueError",)),
    prefetch=False,
    delay_s=8.0,
    start_within_s=9.0,
    finish_within_s=10.0,
    beat_within_s=11.0,
    memory_mb=12.0,
)


def test_the_odd_task_is_odd_in_all_there_is():
    told = [name for name, field in msgspec.structs.asdict(ODD).items() if field == getattr(PLAIN, name)]
    assert told == ["task_id", "kind", "entry"]


@pytest.mark.parametrize("spec", [PLAIN, ODD])
def test_a_task_comes_back_from_its_line_whole(spec):
    line = msgspec.json.encode(task_line(spec))
    assert task_spec(msgspec.json.decode(line, type=TaskLine)) == spec


def test_what_is_as_by_default_is_not_said():
    line = msgspec.json.decode(msgspec.json.encode(task_line(PLAIN)))
    assert sorted(line) == ["entry", "kind", "lane", "payload", "task_id"]
