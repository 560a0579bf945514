"""A lab opens once a process, refuses what it cannot do, and leaves runs that answer from disk."""

import asyncio
import inspect
import json
import os
import subprocess
import sys
import threading
import warnings

import pandas as pd
import pytest

from epsilon_lab import Lab, LabError, WorkQueue
from epsilon_lab.errors import InvalidInput, RunFailed, WorkspaceError
from epsilon_lab.hosts.sidecar import end_sidecar
from epsilon_lab.workspace.journal import read_journal
from epsilon_lab.workspace.lock import holder_of


@pytest.fixture(scope="module", params=["kernel", "sidecar"])
def lab(request, tmp_path_factory):
    """The same promises, wherever the work is done; one lab for all tests that leave it without a live run."""
    path = tmp_path_factory.mktemp("lab") / "runs"
    with Lab(path, workers=2, broker=request.param) as lab:
        yield lab
    end_sidecar(path)


def double(item):
    return item * 2


async def triple(item):
    await asyncio.sleep(0)
    return item * 3


def picky(item):
    print("looking at", item)
    if item == 2:
        raise ValueError("two is not for me")
    return item


# -- opening ---------------------------------------------------------------------------------------------------------


def test_a_notebooks_help_names_the_arguments():
    named = ["path", "workers", "durability", "broker", "bind", "read_only"]
    assert list(inspect.signature(Lab).parameters) == named


def test_the_same_path_gives_the_same_live_lab_and_other_arguments_are_refused(tmp_path):
    with Lab(tmp_path, workers=1) as lab:
        assert Lab(tmp_path) is lab
        assert Lab(str(tmp_path), workers=1) is lab
        with pytest.raises(LabError, match="workers=1"):
            Lab(tmp_path, workers=3)
        with Lab(tmp_path):
            pass
        assert lab.start(WorkQueue([1], double)).wait(60).results() == [2]


def test_with_closes_only_a_lab_it_opened(tmp_path):
    lab = Lab(tmp_path, workers=1)
    with Lab(tmp_path):
        pass
    assert "closed" not in repr(lab)
    lab.close()
    lab.close()
    assert "closed" in repr(lab)
    with pytest.raises(LabError, match="closed"):
        lab.sql("select 1")
    with pytest.raises(LabError, match="closed"):
        lab.start(WorkQueue([1], double))


@pytest.mark.parametrize(
    "arguments",
    [
        {"workers": 0},
        {"workers": True},
        {"workers": 10**6},
        {"durability": "hope"},
        {"broker": "cloud"},
        {"bind": "0.0.0.0"},
    ],
)
def test_bad_arguments_are_refused_by_name(tmp_path, arguments):
    with pytest.raises(InvalidInput, match=next(iter(arguments))):
        Lab(tmp_path, **arguments)
    Lab(tmp_path, workers=1).close()


@pytest.mark.parametrize("broker", ["kernel", "sidecar"])
def test_a_torn_end_of_the_labs_own_journal_is_cut_reported_once_and_on_record(sidecar_path, broker):
    Lab(sidecar_path, workers=1).close()
    journal = sidecar_path / "lab" / "journal.ndjson"
    torn = b'{"seq":99,"ts":1.0,"type":"lab.cl'
    with journal.open("ab") as file:
        file.write(torn)
    with pytest.warns(RuntimeWarning, match=rf"last {len(torn)} bytes of {journal}") as told:
        lab = Lab(sidecar_path, workers=1, broker=broker)
    assert told[0].filename == __file__
    with lab:
        opened = [json.loads(bytes(each.body)) for each in read_journal(journal).records if each.type == "lab.opened"]
        assert [each.get("torn", 0) for each in opened] == [0, len(torn)]
    Lab(sidecar_path, workers=1, broker=broker).close()


def test_a_workspace_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(WorkspaceError, match="file"):
        Lab(tmp_path / "file")


def test_a_second_process_is_refused_with_pid_and_host_and_may_look_on(lab):
    lab.start(WorkQueue([1, 2, 3], double), name="numbers").wait(60)
    code = (
        "import sys\n"
        "from epsilon_lab import Lab, LabError\n"
        "try:\n    Lab(sys.argv[1])\nexcept LabError as error:\n    print(error)\n"
        "with Lab(sys.argv[1], read_only=True) as seen:\n"
        "    run = seen.runs['numbers']\n"
        "    print(run.status, run.results(), seen.sql('select count(*) as n from tasks').n[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(lab.path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert f"process {holder_of(lab.path).pid} on " in first
    assert "read_only=True" in first
    assert second == "completed [2, 4, 6] 3"


def test_a_reader_cannot_start_anything(lab):
    with Lab(lab.path, read_only=True) as reader:
        with pytest.raises(LabError, match="looks on"):
            reader.start(WorkQueue([1], double))
        assert isinstance(reader.sql("select * from runs"), pd.DataFrame)
        assert "read only" in repr(reader)


def test_looking_on_needs_a_workspace(tmp_path):
    with pytest.raises(WorkspaceError, match="nowhere"):
        Lab(tmp_path / "nowhere", read_only=True)


def test_who_only_looks_on_has_no_workers_to_be_reached(tmp_path):
    with pytest.raises(InvalidInput, match="bind: has no meaning with read_only=True"):
        Lab(tmp_path, bind="tcp://127.0.0.1:0", read_only=True)


def test_a_script_that_forgets_to_close_ends_by_itself(tmp_path):
    code = (
        "import sys\nfrom epsilon_lab import Lab, WorkQueue\n"
        "lab = Lab(sys.argv[1], workers=1)\nprint(lab.start(WorkQueue([1, 2], abs)).wait(60).results())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[1, 2]"), done.stderr


# -- running ---------------------------------------------------------------------------------------------------------


def test_a_work_queue_answers_in_item_order(lab):
    run = lab.start(WorkQueue(range(50), double))
    assert run.wait(60) is run
    assert run.results() == [2 * i for i in range(50)]
    assert run.output == run.results()
    assert (run.status, run.reason) == ("completed", "50 of 50 items completed")


def test_functions_of_a_cell_closures_and_async_functions_travel(lab):
    shift = 10

    def shifted(item):
        return item + shift

    assert lab.start(WorkQueue([1, 2], shifted)).wait(60).results() == [11, 12]
    assert lab.start(WorkQueue([1, 2], triple)).wait(60).results() == [3, 6]


def test_a_failed_item_is_one_row_and_the_rest_goes_on(lab):
    run = lab.start(WorkQueue([1, 2, 3], picky)).wait(60)
    assert run.status == "completed"
    assert "1 failed" in run.reason
    (row,) = run.failures.to_dict("records")
    assert row["task_id"] == "item-000001"
    assert row["error"] == "ValueError: two is not for me"
    assert "two is not for me" in row["traceback"]
    assert "looking at 2" in row["stdout_tail"]
    with pytest.raises(RunFailed, match="item-000001"):
        run.results()
    assert run.results("none") == [1, None, 3]
    assert isinstance(run.results("keep")[1], LabError)
    with pytest.raises(InvalidInput, match="failed"):
        run.results("never")


def test_a_run_fails_when_it_can_give_no_output(lab):
    run = lab.start(WorkQueue([2, 2], picky))
    with pytest.raises(RunFailed, match="two is not for me"):
        run.wait(60)
    assert run.status == "failed"


def test_items_of_any_kind_and_size_travel(lab):
    items = [None, {1, 2}, "x" * 200_000, pd.DataFrame({"a": [1, 2]})]
    results = lab.start(WorkQueue(items, lambda item: item)).wait(60).results()
    assert results[:3] == items[:3]
    assert results[3].equals(items[3])


def test_a_coroutine_can_wait(lab):
    async def main():
        run = lab.start(WorkQueue([1], double))
        assert await run is run
        return run.results()

    assert asyncio.run(main()) == [2]

    async def inside(item):
        return threading.current_thread().name

    assert lab.start(WorkQueue([1], inside)).wait(60).results() == ["lab-leaves"]


def test_a_labs_own_thread_cannot_wait(tmp_path):
    with Lab(tmp_path, workers=1) as lab:
        run = lab.start(WorkQueue([1], double))
        with pytest.raises(LabError, match="await"):
            lab._core.on_loop(run.wait)
        run.wait(60)


def test_waiting_has_an_end_and_the_run_goes_on(lab):
    run = lab.start(WorkQueue([1], _until_stopped))
    with pytest.raises(TimeoutError, match="goes on"):
        run.wait(0.2)
    assert run.status == "running"
    run.stop()
    assert run.wait(60).status == "stopped"
    assert "stopped by the user" in run.reason


def test_a_stop_file_ends_a_run_from_anywhere(lab):
    run = lab.start(WorkQueue([1], _until_stopped))
    (run.path / "STOP").touch()
    assert run.wait(60).status == "stopped"
    assert not (run.path / "STOP").exists()


def test_a_paused_run_assigns_nothing_until_it_is_resumed(lab, tmp_path):
    go = tmp_path / "go"

    def wait_for_go(item):
        while not go.exists():
            pass
        return item

    run = lab.start(WorkQueue(range(8), wait_for_go))
    run.pause()
    assert run.status == "paused"
    go.touch()
    other = lab.start(WorkQueue(range(30), double)).wait(60)
    assert other.status == "completed"
    assert len(run.frame("tasks").query("status == 'completed'")) < 8
    run.resume()
    assert run.wait(60).results() == list(range(8))


def _until_stopped(item):
    while True:
        pass


def test_a_live_name_is_taken_and_a_default_name_makes_room(lab):
    run = lab.start(WorkQueue([1], _until_stopped), name="mine")
    with pytest.raises(InvalidInput, match=run.run_id):
        lab.start(WorkQueue([1], double), name="mine")
    second = lab.start(WorkQueue([1], _until_stopped))
    third = lab.start(WorkQueue([1], _until_stopped))
    assert third.name == f"{second.name}-2"
    assert lab.runs["mine"] is run
    for each in (run, second, third):
        each.stop()
        each.wait(60)
    again = lab.start(WorkQueue([1], double), name="mine").wait(60)
    assert lab.runs["mine"].run_id == again.run_id


@pytest.mark.parametrize("topology", [None, "dag", WorkQueue])
def test_only_a_topology_can_be_started(lab, topology):
    with pytest.raises(InvalidInput, match="topology"):
        lab.start(topology)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"items": "abc", "task": double}, "items"),
        ({"items": [1], "task": None}, "task"),
        ({"items": [1], "task": double, "retries": -1}, "retries"),
        ({"items": [1], "task": double, "time_limit_s": 0}, "time_limit_s"),
        ({"items": [1], "task": double, "memory_mb": 0}, "memory_mb"),
        ({"items": [1], "task": triple, "memory_mb": 100}, "memory_mb"),
        ({"items": [threading.Lock()], "task": double}, "item 0"),
    ],
)
def test_bad_work_queues_are_refused_by_name(arguments, word):
    with pytest.raises(InvalidInput, match=word):
        WorkQueue(**arguments)


def test_an_empty_queue_is_done(lab):
    run = lab.start(WorkQueue([], double)).wait(60)
    assert run.results() == []


def test_a_time_limit_ends_an_attempt_and_nothing_else(lab):
    def slow_on_one(item):
        while item == 1:
            pass
        return item

    run = lab.start(WorkQueue([0, 1, 2], slow_on_one, time_limit_s=1.0)).wait(60)
    assert run.results("none") == [0, None, 2]
    assert "1" in run.failures.error[0]
    assert run.frame("attempts").query("outcome == 'timeout'").task_id.unique().tolist() == ["item-000001"]


def test_a_worker_that_dies_costs_one_task_at_most(lab):
    def die_on_three(item):
        if item == 3:
            os._exit(7)
        return item

    run = lab.start(WorkQueue(range(6), die_on_three)).wait(60)
    assert run.results("none") == [0, 1, 2, None, 4, 5]
    assert run.frame("tasks").set_index("task_id").status["item-000003"] == "dead"


# -- looking back ----------------------------------------------------------------------------------------------------


def test_runs_are_found_by_id_and_name_and_outlive_their_lab(tmp_path):
    with Lab(tmp_path, workers=1, durability="disk") as lab:
        run = lab.start(WorkQueue([1, 2], double), name="early", tags={"why": "test"}).wait(60)
    with Lab(tmp_path, workers=1) as lab:
        past = lab.runs["early"]
        assert past.run_id == run.run_id
        assert (past.status, past.name, past.topology) == ("completed", "early", "work_queue")
        assert past.results() == [2, 4]
        assert list(lab.runs) == [run.run_id]
        assert len(lab.runs) == 1
        with pytest.raises(KeyError, match="early"):
            lab.runs["late"]
        with pytest.raises(LabError, match="not live"):
            past.pause()
        assert lab.sql("select tags->>'why' as why from runs").why[0] == "test"


def test_closing_leaves_a_run_interrupted(tmp_path):
    with Lab(tmp_path, workers=1) as lab:
        run = lab.start(WorkQueue([1], _until_stopped))
    assert run.status == "interrupted"
    with pytest.raises(RunFailed, match="interrupted"):
        run.wait()
    with Lab(tmp_path, read_only=True) as reader:
        assert reader.runs[run.run_id].status == "interrupted"


def test_tables_workers_and_isolation_say_what_there_is(lab):
    lab.start(WorkQueue([1], double)).wait(60)
    assert {"runs", "tasks", "attempts", "candidates", "events"} <= set(lab.tables["name"])
    workers = lab.workers
    assert list(workers.columns) == ["worker_id", "pid", "host", "slots", "running", "last_seen"]
    assert len(workers) >= 2
    assert lab.isolation
    with pytest.raises(InvalidInput, match="tables"):
        lab.sql("select * from nonsense")
    for thing in (lab, lab.runs, lab.runs[next(iter(lab.runs))]):
        assert "\n" not in repr(thing)
        assert "<" in thing._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\udc80"}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": 5}, "name"),
        ({"tags": [1]}, "tags"),
        ({"tags": "abc"}, "tags"),
        ({"tags": {"a\udc80": "x"}}, "tags"),
        ({"budget": 5}, "budget"),
        ({"env": ["TOKEN"]}, "env"),
    ],
)
def test_what_cannot_be_started_leaves_nothing_behind(lab, arguments, word):
    runs, paths = len(lab.runs), set(lab.path.iterdir())
    with pytest.raises(InvalidInput, match=word):
        lab.start(WorkQueue([1], double), **arguments)
    assert not lab._core.live()
    assert len(lab.runs) == runs
    assert set(lab.path.iterdir()) == paths


def test_handles_answer_from_disk_after_their_lab_has_closed(tmp_path):
    with Lab(tmp_path, workers=1) as lab:
        run = lab.start(WorkQueue([1, 2], double), name="early").wait(60)
        stuck = lab.start(WorkQueue([1], _until_stopped), name="stuck")
        panel = stuck.panel()
    assert run.results() == [2, 4]
    assert (run.name, run.status, stuck.status) == ("early", "completed", "interrupted")
    assert "early" in lab.runs._repr_html_()
    assert "completed" in repr(run.show())
    assert "interrupted" in repr(panel)
    assert "interrupted" in panel._repr_html_()
    run._ipython_display_()


def test_a_fork_has_no_lab_and_leaves_its_parent_s_alone(lab):
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking a threaded process is the mistake on trial
        child = os.fork()
    if child == 0:
        try:
            lab.close()
            lab.sql("select 1")
        except LabError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        assert f"belongs to process {os.getpid()}" in answer.read().decode()
    os.waitpid(child, 0)
    assert lab.start(WorkQueue([1], double)).wait(60).results() == [2]


def test_runs_are_asked_for_by_words(lab):
    with pytest.raises(KeyError, match="3"):
        lab.runs[3]
    assert 3 not in lab.runs
    with pytest.raises(InvalidInput, match="runs"):
        lab.compare([3])
    with pytest.raises(InvalidInput, match="path"):
        Lab("a\0b")


def test_a_reader_waits_for_a_run_of_another_process(lab):
    code = (
        "import sys\nfrom epsilon_lab import Lab\n"
        "with Lab(sys.argv[1], read_only=True) as seen:\n"
        "    run = seen.runs['elsewhere']\n    print(run.status, flush=True)\n"
        "    try:\n        run.wait(0.3)\n    except TimeoutError:\n        print('patient', flush=True)\n"
        "    run.stop()\n    print(run.wait(60).status)\n"
    )
    lab.start(WorkQueue([1], _until_stopped), name="elsewhere")
    done = subprocess.run(
        [sys.executable, "-c", code, str(lab.path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["running", "patient", "stopped"], done.stderr
