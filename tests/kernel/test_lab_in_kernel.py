"""A lab in a real kernel: cells that block, burn, are interrupted; kernels that restart, are killed, come second."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from epsilon_lab.testing.census import descendants, living, wait_until
from epsilon_lab.testing.kernels import CellFailed, Kernel

pytestmark = pytest.mark.kernel

SHORT_LEASES = """
import os
os.environ |= {"EPSILON_LEASE_S": "1.5", "EPSILON_BEAT_S": "0.3", "EPSILON_TICK_S": "0.1"}
"""
"""So that a cell which blocks for seconds blocks for more than a lease."""

OPEN = """
from epsilon_lab import Lab, WorkQueue
lab = Lab("runs", workers=2)
"""

HELD = """
def hold(item):
    import os, select
    while not os.path.exists("go"):
        select.select([], [], [], 0.02)
    return item
run = lab.start(WorkQueue(range(3), hold))
"""
"""Work that goes on until the file `go` exists."""

ENDLESS = """
from epsilon_lab import Problem, PopulationSearch
def endless(context):
    return f"def solve():\\n    while {context.candidate_id!r}:\\n        pass\\n"
problem = Problem("endless", "Never ends.", "def solve():\\n    return 1.0\\n", score=float, timeout_s=120)
run = lab.start(PopulationSearch(problem, proposer=endless))
"""

OUTCOMES = """dict(lab.sql(
    "select outcome, count(*) from attempts where coalesce(error, '') not like 'recalled%' group by all"
).values.tolist())"""
"""How attempts ended, those aside that were taken back from a busy worker for an idle one."""

EVALUATIONS = "int(lab.sql(\"select count(*) from tasks where kind = 'evaluate' and status = 'running'\").iloc[0, 0])"


@pytest.mark.parametrize(
    ("block", "goes_on"),
    [
        pytest.param("time.sleep(4)", True, id="sleeping", marks=pytest.mark.long),
        pytest.param(
            "end = time.time() + 4\nwhile time.time() < end: sum(range(100))",
            True,
            id="burning-python",
            marks=pytest.mark.long,
        ),
        pytest.param("n = 0\nwhile time.time() < since + 4: n = sum(range(40_000_000))", False, id="holding-the-gil"),
    ],
)
def test_a_blocking_cell_expires_no_lease_and_work_goes_on(kernel: Kernel, block: str, goes_on: bool) -> None:
    kernel.run(SHORT_LEASES + OPEN)
    kernel.run("def work(item):\n    import time; time.sleep(0.02); return item")
    assert wait_until(lambda: kernel.value("len(lab.workers)") == 3, within_s=30), "two children and the async lane"
    kernel.run("run = lab.start(WorkQueue(range(500), work))")
    workers = kernel.value("sorted(lab.workers['pid'])")
    kernel.run(f"import time; since = time.time()\n{block}\nuntil = time.time()")
    kernel.run("run.wait(60)")

    assert kernel.value("run.results()") == list(range(500))
    assert kernel.value(OUTCOMES) == {"completed": 500}
    assert kernel.value("sorted(lab.workers['pid'])") == workers, "no worker was given up"
    if goes_on:
        within = "lab.sql('select count(*) from attempts where epoch(ended_at) between ? and ?', [since, until])"
        assert kernel.value(f"int({within}.iloc[0, 0])") > 50


@pytest.mark.parametrize(
    ("block", "is_told"),
    [
        pytest.param("while time.time() < since + 3: sum(range(150_000_000))", True, id="holding-the-gil"),
        pytest.param("while time.time() < since + 3: sum(range(100))", False, id="burning-python"),
    ],
)
def test_a_cell_that_stopped_the_lab_says_so_at_its_foot(kernel: Kernel, block: str, is_told: bool) -> None:
    kernel.run("import time\n" + OPEN)
    assert wait_until(lambda: kernel.value("len(lab.workers)") == 3, within_s=30)
    cell = kernel.run(f"since = time.time()\n{block}")
    assert ("the lab stood still for" in cell.stderr) == is_told
    assert "broker='sidecar'" in cell.stderr or not is_told
    assert "stood still" not in kernel.run("lab.workers").stderr, "once"
    stalls = "lab.sql(\"select count(*) from events where type = 'lab.stalled'\").iloc[0, 0]"
    assert kernel.value(f"int({stalls})") >= is_told


def test_an_interrupt_ends_the_wait_and_not_the_run(kernel: Kernel) -> None:
    kernel.run(OPEN + HELD)
    cell = kernel.begin("print('waiting', flush=True); run.wait()")
    kernel.wait_for(cell, "waiting")
    kernel.interrupt()
    error = kernel.finish(cell).error
    assert error is not None
    assert error.startswith("KeyboardInterrupt")
    assert kernel.value("run.status") == "running"

    (kernel.home / "go").touch()
    kernel.run("run.wait(30)")
    assert kernel.value("run.results()") == [0, 1, 2]
    assert kernel.value(OUTCOMES) == {"completed": 3}


def test_a_cell_may_await_a_run_or_wait_for_it(kernel: Kernel) -> None:
    kernel.run(OPEN)
    kernel.run("def double(item): return 2 * item\nfirst = await lab.start(WorkQueue([1, 2], double))")
    kernel.run("second = lab.start(WorkQueue([3], double)).wait(30)")
    kernel.run("async def again(): return await lab.start(WorkQueue([4], double))")
    kernel.run("async with Lab('runs', workers=2) as same: third = await again()")
    assert kernel.value("[run.results() for run in (first, second, third)]") == [[2, 4], [6], [8]]
    assert kernel.value("same is lab"), "a with block closes only a lab that it opened"


def test_the_start_cell_can_be_run_again(kernel: Kernel) -> None:
    kernel.run(OPEN + "first = lab")
    kernel.run(OPEN)
    assert kernel.value("lab is first")
    with pytest.raises(CellFailed, match=r"LabError: .*workers=2"):
        kernel.run("Lab('runs', workers=3)")


def test_a_restart_closes_the_lab_and_leaves_no_process(kernel: Kernel) -> None:
    kernel.run(OPEN + HELD)
    run_id = kernel.value("run.run_id")
    assert wait_until(lambda: len(living(kernel.home)) >= 3, within_s=20)
    kernel.restart()
    kernel.wait_for_orphans()
    assert list(living(kernel.home)) == [kernel.pid]
    kernel.run(OPEN)
    assert kernel.value(f"lab.runs[{run_id!r}].status") == "interrupted"


def test_a_killed_kernel_leaves_no_process(kernel: Kernel) -> None:
    kernel.run(OPEN + ENDLESS)
    assert wait_until(lambda: kernel.value(EVALUATIONS) >= 2, within_s=60)
    assert wait_until(lambda: _burning(kernel) >= 2, within_s=30), "two candidates were expected to run"
    kernel.kill()
    kernel.wait_for_orphans()


SEARCH = """
from epsilon_lab import Problem, PopulationSearch
def gated(context):
    import os, select
    while context.generation == 2 and not os.path.exists(go):
        select.select([], [], [], 0.02)
    return f"def solve():\\n    return {context.best.score} + {context.dice.randrange(50)}\\n"
problem = Problem("toy", "Return a large number.", "def solve():\\n    return 15\\n", score=float)
"""


def test_a_search_goes_on_in_another_kernel(kernel: Kernel, second: Kernel) -> None:
    go = kernel.home / "go"
    kernel.run(f"go = {str(go)!r}" + OPEN + SEARCH)
    kernel.run("run = lab.start(PopulationSearch(problem, gated, population=6, generations=4, fresh=1, patience=None))")
    assert wait_until(lambda: kernel.value("len(run.frame('generations'))") == 2, within_s=60)
    run_id = kernel.value("run.run_id")
    done = kernel.value("sorted(run.frame('tasks').query(\"status == 'completed'\")['task_id'])")
    kernel.kill()

    second.run(f"from epsilon_lab import Lab\nlab = Lab({str(kernel.home / 'runs')!r}, workers=2)")
    assert second.value(f"lab.runs[{run_id!r}].status") == "interrupted"
    second.run(f"run = lab.resume({run_id!r})")
    go.touch()
    second.run("run.wait(60)")
    assert second.value("(run.status, run.reason)") == ("completed", "all 4 generations are done")
    again = "run.frame('attempts').query(\"outcome == 'completed'\")['task_id'].value_counts().to_dict()"
    counts = second.value(again)
    assert set(counts.values()) == {1}
    assert set(done) <= set(counts)
    second.run("lab.close()")


def test_closing_ends_endless_candidates(kernel: Kernel) -> None:
    kernel.run(OPEN + ENDLESS)
    assert wait_until(lambda: kernel.value(EVALUATIONS) >= 2, within_s=60)
    assert wait_until(lambda: _burning(kernel) >= 2, within_s=30), "two candidates were expected to run"
    kernel.run("lab.close(); lab.close()")
    assert wait_until(lambda: not descendants(kernel.pid), within_s=20)


def _burning(kernel: Kernel) -> int:
    """How many processes below a kernel have used a quarter of a CPU second and are running: endless candidates."""
    fields = []
    for process in descendants(kernel.pid):
        with suppress(OSError):
            fields.append(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split())
    return sum(field[0] == "R" and int(field[11]) >= 25 for field in fields)


@pytest.fixture
def second() -> Iterator[Kernel]:
    with Kernel() as second:
        yield second


def test_a_second_kernel_is_told_who_has_it_and_may_look_on(kernel: Kernel, second: Kernel) -> None:
    kernel.run(OPEN + HELD)
    path = kernel.home / "runs"
    refused = f"from epsilon_lab import Lab\nLab({str(path)!r})"
    with pytest.raises(CellFailed, match=f"process {kernel.pid} on {socket.gethostname()}") as told:
        second.run(refused)
    assert "read_only=True" in str(told.value)

    second.run(f"lab = Lab({str(path)!r}, read_only=True)\nrun = lab.runs[{kernel.value('run.run_id')!r}]")
    rows = "lab.sql('select status, count(*) from tasks group by all order by all').values.tolist()"
    assert second.value("run.status") == "running"
    assert sum(count for _, count in second.value(rows)) == 3
    (kernel.home / "go").touch()
    kernel.run("run.wait(30)")
    assert second.value(rows) == [["completed", 3]]
    assert second.value("run.status") == "completed"
    with pytest.raises(CellFailed, match="LabError"):
        second.run("from epsilon_lab import WorkQueue\nlab.start(WorkQueue([1], str))")


def test_another_process_can_stop_a_run(kernel: Kernel, second: Kernel) -> None:
    kernel.run(OPEN + HELD)
    second.run("from epsilon_lab import Lab")
    second.run(f"Lab({str(kernel.home / 'runs')!r}, read_only=True).runs[{kernel.value('run.run_id')!r}].stop()")
    kernel.run("run.wait(30)")
    assert kernel.value("run.status") == "stopped"


def test_a_run_shown_in_a_cell_becomes_static_html_when_it_ends(kernel: Kernel) -> None:
    kernel.run(OPEN + HELD)
    cell = kernel.run("run")
    run_id = kernel.value("run.run_id")
    [live] = cell.displays
    assert "application/vnd.jupyter.widget-view+json" in live
    assert run_id in live["text/plain"]

    (kernel.home / "go").touch()
    kernel.run("run.wait(30)")
    kernel.listen(lambda: "application/vnd.jupyter.widget-view+json" not in cell.displays[0], timeout_s=20)
    [frozen] = cell.displays
    assert run_id in frozen["text/html"]
    assert "completed" in frozen["text/html"]
    assert "<script" not in frozen["text/html"]


def test_a_lab_that_closes_leaves_its_panels_readable(kernel: Kernel) -> None:
    kernel.run(OPEN + HELD)
    cell = kernel.run("run")
    kernel.run("lab.close()")
    kernel.listen(lambda: "application/vnd.jupyter.widget-view+json" not in cell.displays[0], timeout_s=20)
    assert "interrupted" in cell.displays[0]["text/html"]


def test_the_workspace_of_a_past_kernel_answers_in_the_next(tmp_path: Path) -> None:
    workspace = tmp_path / "runs"
    opening = f"from epsilon_lab import Lab, WorkQueue\nlab = Lab({str(workspace)!r}, workers=1)"
    with Kernel() as first:
        first.run(f"{opening}\nrun = lab.start(WorkQueue([1, 2], str), name='earlier').wait(30)")
    with Kernel() as later:
        later.run(opening)
        assert later.value("lab.runs['earlier'].results()") == ["1", "2"]
        assert later.value("len(lab.sql('select * from tasks'))") == 2
