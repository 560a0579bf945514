"""A sidecar beside a real kernel: restarts, kills, interrupts and cells that hold the interpreter do not reach it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from epsilon_lab.hosts.sidecar import end_sidecar
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.kernels import Kernel

pytestmark = pytest.mark.kernel

OPEN = """
from epsilon_lab import Lab, WorkQueue
lab = Lab("runs", broker="sidecar", workers=2)
"""

HELD = """
def hold(item):
    import os, select
    with open("executed", "a") as file:
        file.write(f"{item}\\n")
    while not os.path.exists("go"):
        select.select([], [], [], 0.02)
    return item
run = lab.start(WorkQueue(range(2), hold), name="long")
"""
"""Work that goes on until the file `go` exists, and notes each of its executions."""


@pytest.fixture
def kernel(jupyters_loop: None) -> Iterator[Kernel]:
    with Kernel() as kernel:
        yield kernel
        end_sidecar(kernel.home / "runs")


def executed(home: Path) -> list[int]:
    return sorted(map(int, (home / "executed").read_text().split())) if (home / "executed").exists() else []


def begin(kernel: Kernel) -> int:
    """Start work in a sidecar, show it, and say which process the sidecar is."""
    kernel.run(OPEN + HELD)
    assert wait_until(lambda: len(executed(kernel.home)) >= 2, within_s=30)
    cell = kernel.run("run")
    assert "running" in cell.displays[0]["text/plain"]
    return int(kernel.value("lab._core.pid"))


def go_on(kernel: Kernel, home: Path, sidecar: int) -> None:
    """Find that work in another kernel, and see it end without anything being done twice."""
    kernel.run(f"import os; os.chdir({str(home)!r})" + OPEN)
    assert kernel.value("lab._core.pid") == sidecar
    kernel.run("run = lab.runs['long']")
    assert kernel.value("run.status") == "running"
    cell = kernel.run("run")
    assert "running" in cell.displays[0]["text/plain"]
    (home / "go").touch()
    kernel.run("run.wait(60)")
    assert kernel.value("run.results()") == [0, 1]
    assert executed(home) == [0, 1], "nothing was executed twice"
    errors = kernel.value("run.frame('attempts').query(\"outcome != 'completed'\")['error'].tolist()")
    assert not [error for error in errors if not error.startswith("recalled")]


def test_a_run_goes_on_while_its_kernel_restarts(kernel: Kernel) -> None:
    sidecar = begin(kernel)
    kernel.restart()
    go_on(kernel, kernel.home, sidecar)


def test_a_run_goes_on_when_its_kernel_is_killed(kernel: Kernel) -> None:
    sidecar = begin(kernel)
    kernel.kill()
    with Kernel() as second:
        go_on(second, kernel.home, sidecar)


def test_an_interrupt_ends_the_wait_and_reaches_no_one_else(kernel: Kernel) -> None:
    kernel.run(OPEN + HELD)
    waiting = kernel.begin("print('waiting', flush=True)\nrun.wait()")
    kernel.wait_for(waiting, "waiting")
    kernel.interrupt()
    assert "KeyboardInterrupt" in (kernel.finish(waiting, timeout_s=20).error or "")
    assert kernel.value("run.status") == "running"
    (kernel.home / "go").touch()
    kernel.run("run.wait(60)")
    assert kernel.value("run.results()") == [0, 1]


def test_work_goes_on_while_a_cell_holds_the_interpreter(kernel: Kernel) -> None:
    kernel.run(OPEN)
    kernel.run("def work(item):\n    import time; time.sleep(0.02); return item")
    assert wait_until(lambda: kernel.value("len(lab.workers)") == 3, within_s=30), "two children and the async lane"
    kernel.run("run = lab.start(WorkQueue(range(2000), work))")
    kernel.run(
        "import time; since = time.time(); n = 0\nwhile time.time() < since + 4: n = sum(range(40_000_000))\n"
        "until = time.time()"
    )
    within = "lab.sql('select count(*) from attempts where epoch(ended_at) between ? and ?', [since, until])"
    assert kernel.value(f"int({within}.iloc[0, 0])") > 50
    kernel.run("run.stop(); run.wait(30)")
