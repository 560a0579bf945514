"""What a person says of single tasks while a run is live: first, no more, once more."""

import os
import select
import time

import pytest

from epsilon_lab import Lab, Retry, WorkQueue
from epsilon_lab.errors import InvalidInput


@pytest.fixture(params=["kernel", "sidecar"])
def lab(request, sidecar_path):
    with Lab(sidecar_path, workers=1, broker=request.param) as lab:
        yield lab


class Gate:
    """Where a task waits, once it has said that it is there."""

    def __init__(self, path):
        self.path = path
        self.opened = []
        for name in ("begun", "go"):
            os.mkfifo(path / name)

    def wait(self):
        """In the task."""
        (self.path / "begun").write_text("yes")
        with open(self.path / "go") as lines:
            return lines.read(2)

    def reached(self):
        with open(os.open(self.path / "begun", os.O_RDONLY | os.O_NONBLOCK)) as lines:
            assert select.select([lines], [], [], 60)[0], "nobody came to the gate"
            assert lines.read() == "yes"

    def open(self):
        file = os.open(self.path / "go", os.O_RDWR)  # does not wait for a reader, and keeps the word until one comes
        os.write(file, b"go")
        self.opened.append(file)


@pytest.fixture
def gate(tmp_path):
    gate = Gate(tmp_path)
    yield gate
    for file in gate.opened:
        os.close(file)


def step(item):
    """Wait at a gate, die of a poison, or answer."""
    kind, what = item
    if kind == "gate":
        return what.wait()
    if kind == "poison" and not what.exists():
        os._exit(3)
    return kind


def until(lab, query):
    """Ask until there is an answer."""
    over = time.monotonic() + 60
    while lab.sql(query).empty:
        assert time.monotonic() < over, query


def order(lab):
    return list(lab.sql("select task_id from attempts where outcome = 'completed' order by fence").task_id)


def test_a_task_is_put_first(lab, gate):
    run = lab.start(WorkQueue([("gate", gate), *[(f"{n}", None) for n in range(4)]], step))
    gate.reached()
    run.prioritise("item-000004", 5)
    run.prioritise("item-000002", -5)
    gate.open()
    run.wait(60)
    assert order(lab) == [f"item-00000{n}" for n in (0, 1, 4, 3, 2)], "1 was in the worker's hands"
    assert run.frame("tasks").set_index("task_id").priority["item-000004"] == 5


def test_a_task_is_cancelled_and_the_run_goes_on_in_the_same_worker(lab, gate):
    run = lab.start(WorkQueue([("gate", gate), ("a", None), ("b", None)], step))
    gate.reached()
    workers = list(lab.workers.worker_id)
    run.cancel("item-000000", "item-000002", reason="changed my mind")
    run.wait(60)
    assert run.results(failed="none") == [None, "a", None]
    tasks = run.frame("tasks").set_index("task_id")
    assert list(tasks.status) == ["cancelled", "completed", "cancelled"]
    assert tasks.error["item-000000"] == "changed my mind"
    assert list(lab.workers.worker_id) == workers, "it was asked, and heeded"


def test_a_dead_letter_is_tried_again(lab, gate, tmp_path):
    cure = tmp_path / "cure"
    run = lab.start(WorkQueue([("poison", cure), ("gate", gate)], step))
    gate.reached()
    until(lab, "select 1 from tasks where status = 'dead'")
    cure.touch()
    run.requeue("item-000000")
    gate.open()
    assert run.wait(60).results() == ["poison", "go"]
    assert "2 of 2 items completed" in run.reason


def test_what_makes_no_sense_is_refused_by_name(lab, gate):
    run = lab.start(WorkQueue([("gate", gate), ("a", None)], step))
    gate.reached()
    with pytest.raises(InvalidInput, match="task 'item-9': is no task_id of this run"):
        run.prioritise("item-9", 1)
    with pytest.raises(InvalidInput, match="priority"):
        run.prioritise("item-000001", 1.5)
    with pytest.raises(InvalidInput, match="is running, not dead"):
        run.requeue("item-000000")
    gate.open()
    run.wait(60)
    with pytest.raises(InvalidInput, match="is completed, not waiting"):
        run.cancel("item-000001")


def test_retries_wait_and_final_ones_do_not_come(lab, tmp_path):
    def flaky(name):
        with open(tmp_path / name, "a") as marks:
            marks.write("x")
        if len((tmp_path / name).read_text()) < 3:
            raise FileNotFoundError(name) if name == "final" else RuntimeError(name)
        return name

    run = lab.start(WorkQueue(["a", "final"], flaky, retries=Retry(limit=5, base_s=0.01, final=("OSError",)))).wait(60)
    assert run.results(failed="none") == ["a", None]
    assert list(run.frame("tasks").attempts) == [3, 1]


def test_what_has_not_begun_in_time_fails_and_says_so(lab, gate):
    lab.start(WorkQueue([("a", None)], step)).wait(60)  # by then the worker is at its place
    run = lab.start(WorkQueue([("gate", gate), ("late", None)], step, start_within_s=3))
    until(lab, "select 1 from tasks where status = 'failed'")
    gate.reached()
    gate.open()
    run.wait(60)
    assert list(run.failures.error) == ["not begun within 3 s of its submission"]
