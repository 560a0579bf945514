"""A long run is given to the broker piece by piece; nothing is lost, or done twice, whatever happens in between."""

import time

from epsilon_lab import Lab, WorkQueue
from epsilon_lab.topologies import runner

ITEMS = 60


def double(item):
    return 2 * item


def test_all_pieces_are_done(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_AT_ONCE", 7)
    with Lab(tmp_path / "runs", workers=1) as lab:
        run = lab.start(WorkQueue(range(ITEMS), double)).wait()
        assert run.results() == [2 * item for item in range(ITEMS)]
        (pieces,) = lab.sql("select count(*) as n from events where type = 'task.submitted'").n
        assert pieces == -(-ITEMS // 7)
        assert lab.sql("select 1 from events where type = 'task.waiting'").empty, "the broker had room for all"


def test_a_run_that_is_stopped_between_pieces_tells_of_every_task(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_AT_ONCE", 7)
    with Lab(tmp_path / "runs", workers=1) as lab:
        run = lab.start(WorkQueue(range(ITEMS), double))
        run.stop()
        run.wait()
        told = run.frame("tasks").status.value_counts().to_dict()
        assert sum(told.values()) == ITEMS
        assert set(told) <= {"completed", "cancelled"}


def test_a_run_whose_lab_closes_between_pieces_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_AT_ONCE", 7)
    with Lab(tmp_path / "runs", workers=1) as lab:
        run_id = lab.start(WorkQueue(range(ITEMS), double)).run_id
    with Lab(tmp_path / "runs", workers=1) as lab:
        run = lab.runs[run_id] if lab.runs[run_id].status == "completed" else lab.resume(run_id)
        assert run.wait().results() == [2 * item for item in range(ITEMS)]
        assert run.frame("attempts").query("outcome == 'completed'").task_id.is_unique


def test_a_task_that_was_not_given_yet_can_be_put_first(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_AT_ONCE", 7)
    with Lab(tmp_path / "runs", workers=1) as lab:
        go = tmp_path / "go"

        def double_once_told(item):
            while not go.exists():  # or all might be done before anyone says a word
                time.sleep(0.01)
            return 2 * item

        run = lab.start(WorkQueue(range(ITEMS), double_once_told))
        run.prioritise(f"item-{ITEMS - 1:06d}", 9)
        go.touch()
        assert run.wait().results() == [2 * item for item in range(ITEMS)]


def test_what_the_broker_has_no_room_for_waits_in_its_run_and_is_done_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("EPSILON_QUEUE_TASKS", "5")
    with Lab(tmp_path / "runs", workers=1) as lab:
        run = lab.start(WorkQueue(range(ITEMS), double)).wait()
        assert run.results() == [2 * item for item in range(ITEMS)]
        assert not lab.sql("select 1 from events where type = 'task.waiting'").empty


def test_inputs_that_weigh_more_than_the_broker_takes_wait_too(tmp_path, monkeypatch):
    monkeypatch.setenv("EPSILON_QUEUE_BYTES", "5000")
    with Lab(tmp_path / "runs", workers=1) as lab:
        run = lab.start(WorkQueue(["x" * 1_000] * 20, len)).wait()
        assert run.results() == [1_000] * 20
        assert not lab.sql("select 1 from events where type = 'task.waiting'").empty
