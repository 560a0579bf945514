"""A lab in a real kernel: cells that block, burn, are interrupted; kernels that restart, are killed, come second."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from epsilon_lab.testing.census import descendants, living, wait_until
from epsilon_lab.testing.kernels import CellFailed, Kernel

pytestmark = pytest.mark.kernel

SHORT_LEASES = {"EPSILON_LEASE_S": "3", "EPSILON_BEAT_S": "0.3", "EPSILON_TICK_S": "0.1"}
"""So that a cell which blocks for seconds blocks for more than a lease."""

HOLD = "import ctypes; ctypes.PyDLL(None).usleep({seconds} * 1_000_000)"
"""A cell that holds the interpreter for so long: such a call gives it to no other thread meanwhile."""

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


@pytest.fixture
def short_leases(shared: Kernel) -> Iterator[None]:
    """Labs that the shared kernel opens meanwhile give work to others soon."""
    shared.run(f"import os; os.environ |= {SHORT_LEASES}")
    yield
    shared.run(f"for name in {list(SHORT_LEASES)}: del os.environ[name]")


@pytest.mark.usefixtures("short_leases")
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
        pytest.param(HOLD.format(seconds=4), False, id="holding-the-gil"),
    ],
)
def test_a_blocking_cell_expires_no_lease_and_work_goes_on(
    shared: Kernel, place: Path, block: str, goes_on: bool
) -> None:
    items = 500 if goes_on else 100
    shared.run(OPEN)
    shared.run("def work(item):\n    import time; time.sleep(0.02); return item")  # so that it lasts for some leases
    assert wait_until(lambda: shared.value("len(lab.workers)") == 3, within_s=60), "two children and the async lane"
    shared.run(f"run = lab.start(WorkQueue(range({items}), work))")
    workers = shared.value("sorted(lab.workers['pid'])")
    shared.run(f"import time; since = time.time()\n{block}\nuntil = time.time()")
    shared.run("run.wait(60)")

    assert shared.value("run.results()") == list(range(items))
    assert shared.value(OUTCOMES) == {"completed": items}
    assert shared.value("sorted(lab.workers['pid'])") == workers, "no worker was given up"
    if goes_on:
        within = "lab.sql('select count(*) from attempts where epoch(ended_at) between ? and ?', [since, until])"
        assert shared.value(f"int({within}.iloc[0, 0])") > 50


def test_a_cell_that_stopped_the_lab_says_so_at_its_foot(shared: Kernel, place: Path) -> None:
    shared.run(OPEN)
    foot = shared.run(HOLD.format(seconds=2)).stderr
    assert "the lab stood still for" in foot
    assert "broker='sidecar'" in foot
    later = shared.run("lab.workers").stderr
    told = [float(seconds) for seconds in re.findall(r"stood still for ([0-9.]+) s", foot + later)]
    assert sum(told) <= shared.value("lab._core.stood_still_s()") + 0.1 * len(told), "each second once, to a tenth"
    stalls = "lab.sql(\"select count(*) from events where type = 'lab.stalled'\").iloc[0, 0]"
    assert shared.value(f"int({stalls})") >= 1


def test_an_interrupt_ends_the_wait_and_not_the_run(shared: Kernel, place: Path) -> None:
    shared.run(OPEN + HELD)
    cell = shared.begin("print('waiting', flush=True); run.wait()")
    shared.wait_for(cell, "waiting")
    shared.interrupt()
    error = shared.finish(cell).error
    assert error is not None
    assert error.startswith("KeyboardInterrupt")
    assert shared.value("run.status") == "running"

    (place / "go").touch()
    shared.run("run.wait(60)")
    assert shared.value("run.results()") == [0, 1, 2]
    assert shared.value(OUTCOMES) == {"completed": 3}


def test_a_cell_may_await_a_run_or_wait_for_it(shared: Kernel, place: Path) -> None:
    shared.run(OPEN)
    shared.run("def double(item): return 2 * item\nfirst = await lab.start(WorkQueue([1, 2], double))")
    shared.run("second = lab.start(WorkQueue([3], double)).wait(60)")
    shared.run("async def again(): return await lab.start(WorkQueue([4], double))")
    shared.run("async with Lab('runs', workers=2) as same: third = await again()")
    assert shared.value("[run.results() for run in (first, second, third)]") == [[2, 4], [6], [8]]
    assert shared.value("same is lab"), "a with block closes only a lab that it opened"


def test_the_start_cell_can_be_run_again(shared: Kernel, place: Path) -> None:
    shared.run(OPEN + "first = lab")
    shared.run(OPEN)
    assert shared.value("lab is first")
    with pytest.raises(CellFailed, match=r"LabError: .*workers=2"):
        shared.run("Lab('runs', workers=3)")


def test_a_restart_closes_the_lab_leaves_no_process_and_what_is_done_is_there(kernel: Kernel) -> None:
    kernel.run(OPEN + "lab.start(WorkQueue([1, 2], str), name='earlier').wait(60)" + HELD)
    run_id = kernel.value("run.run_id")
    assert wait_until(lambda: len(living(kernel.home)) >= 3, within_s=60)
    kernel.restart()
    kernel.wait_for_orphans()
    assert list(living(kernel.home)) == [kernel.pid]
    kernel.run(OPEN)
    assert kernel.value(f"lab.runs[{run_id!r}].status") == "interrupted"
    assert kernel.value("lab.runs['earlier'].results()") == ["1", "2"]
    assert kernel.value("len(lab.sql('select * from tasks'))") == 5


def test_a_killed_kernel_leaves_no_process(kernel: Kernel) -> None:
    kernel.run(OPEN + ENDLESS)
    assert wait_until(lambda: kernel.value(EVALUATIONS) >= 2, within_s=60)
    assert wait_until(lambda: _burning(kernel) >= 2, within_s=60), "two candidates were expected to run"
    kernel.kill()
    kernel.wait_for_orphans()


SEARCH = """
from epsilon_lab import Problem, PopulationSearch
def gated(context):
    import os, select
    if context.generation == 2:
        open(there, "w").close()
    while context.generation == 2 and not os.path.exists(go):
        select.select([], [], [], 0.02)
    return f"def solve():\\n    return {context.best.score} + {context.dice.randrange(50)}\\n"
problem = Problem("toy", "Return a large number.", "def solve():\\n    return 15\\n", score=float)
"""


def test_a_search_goes_on_in_another_kernel(kernel: Kernel, second: Kernel) -> None:
    go, there = kernel.home / "go", kernel.home / "there"
    kernel.run(f"go, there = {str(go)!r}, {str(there)!r}" + OPEN + SEARCH)
    kernel.run("shape = dict(population=4, generations=3, elites=1, diverse=1, fresh=1, patience=None)")
    kernel.run("run = lab.start(PopulationSearch(problem, gated, **shape))")
    assert wait_until(there.exists, within_s=60), "two generations are done, and the third begins"
    assert kernel.value("len(run.frame('generations'))") == 2
    run_id = kernel.value("run.run_id")
    done = kernel.value("sorted(run.frame('tasks').query(\"status == 'completed'\")['task_id'])")
    kernel.kill()

    second.run(f"from epsilon_lab import Lab\nlab = Lab({str(kernel.home / 'runs')!r}, workers=2)")
    assert second.value(f"lab.runs[{run_id!r}].status") == "interrupted"
    second.run(f"run = lab.resume({run_id!r})")
    go.touch()
    second.run("run.wait(60)")
    assert second.value("(run.status, run.reason)") == ("completed", "all 3 generations are done")
    again = "run.frame('attempts').query(\"outcome == 'completed'\")['task_id'].value_counts().to_dict()"
    counts = second.value(again)
    assert set(counts.values()) == {1}
    assert set(done) <= set(counts)
    second.run("lab.close()")


def test_closing_ends_endless_candidates(shared: Kernel, place: Path) -> None:
    shared.run(OPEN + ENDLESS)
    assert wait_until(lambda: shared.value(EVALUATIONS) >= 2, within_s=60)
    assert wait_until(lambda: _burning(shared) >= 2, within_s=60), "two candidates were expected to run"
    shared.run("lab.close(); lab.close()")
    assert wait_until(lambda: not descendants(shared.pid), within_s=60)


def _burning(kernel: Kernel) -> int:
    """How many processes below a kernel have used a quarter of a CPU second and are running: endless candidates."""
    fields = []
    for process in descendants(kernel.pid):
        with suppress(OSError):
            fields.append(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split())
    return sum(field[0] == "R" and int(field[11]) >= 25 for field in fields)


@pytest.fixture(scope="module")
def second(jupyters_loop: None) -> Iterator[Kernel]:
    """Another one beside it; a test closes what it opens there."""
    with Kernel() as second:
        yield second


def test_a_second_kernel_is_told_who_has_it_and_may_look_on(shared: Kernel, place: Path, second: Kernel) -> None:
    shared.run(OPEN + HELD)
    path = place / "runs"
    refused = f"from epsilon_lab import Lab\nLab({str(path)!r})"
    with pytest.raises(CellFailed, match=f"process {shared.pid} on {socket.gethostname()}") as told:
        second.run(refused)
    assert "read_only=True" in str(told.value)

    second.run(f"lab = Lab({str(path)!r}, read_only=True)\nrun = lab.runs[{shared.value('run.run_id')!r}]")
    rows = "lab.sql('select status, count(*) from tasks group by all order by all').values.tolist()"
    assert second.value("run.status") == "running"
    assert sum(count for _, count in second.value(rows)) == 3
    (place / "go").touch()
    shared.run("run.wait(60)")
    assert second.value(rows) == [["completed", 3]]
    assert second.value("run.status") == "completed"
    with pytest.raises(CellFailed, match="LabError"):
        second.run("from epsilon_lab import WorkQueue\nlab.start(WorkQueue([1], str))")
    second.run("lab.close()")


def test_another_process_can_stop_a_run(shared: Kernel, place: Path, second: Kernel) -> None:
    shared.run(OPEN + HELD)
    second.run(f"from epsilon_lab import Lab\nlab = Lab({str(place / 'runs')!r}, read_only=True)")
    second.run(f"lab.runs[{shared.value('run.run_id')!r}].stop(); lab.close()")
    shared.run("run.wait(60)")
    assert shared.value("run.status") == "stopped"


def test_a_run_shown_in_a_cell_becomes_static_html_when_it_ends(shared: Kernel, place: Path) -> None:
    shared.run(OPEN + HELD)
    cell = shared.run("run")
    run_id = shared.value("run.run_id")
    [live] = cell.displays
    assert "application/vnd.jupyter.widget-view+json" in live
    assert run_id in live["text/plain"]

    (place / "go").touch()
    shared.run("run.wait(60)")
    shared.listen(lambda: "application/vnd.jupyter.widget-view+json" not in cell.displays[0], timeout_s=60)
    [frozen] = cell.displays
    assert run_id in frozen["text/html"]
    assert "completed" in frozen["text/html"]
    assert "<script" not in frozen["text/html"]


def test_a_lab_that_closes_leaves_its_panels_readable(shared: Kernel, place: Path) -> None:
    shared.run(OPEN + HELD)
    cell = shared.run("run")
    shared.run("lab.close()")
    shared.listen(lambda: "application/vnd.jupyter.widget-view+json" not in cell.displays[0], timeout_s=60)
    assert "interrupted" in cell.displays[0]["text/html"]
