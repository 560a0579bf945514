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


HELD_UP = """
import ctypes, os
os.mkfifo("told")
told = os.open("told", os.O_RDWR)
def work(item):
    import os
    if item == 49:
        os.write(os.open("told", os.O_WRONLY), b"x")
    return item
run = lab.start(WorkQueue(range(50), work))
ctypes.PyDLL(None).read(told, ctypes.create_string_buffer(1), 1)
"""
"""A cell that holds the interpreter, as such a call does, until the work that it started is all but done."""


@pytest.fixture
def kernel(jupyters_loop: None) -> Iterator[Kernel]:
    with Kernel() as kernel:
        yield kernel
        end_sidecar(kernel.home / "runs")


@pytest.fixture
def place(place: Path) -> Iterator[Path]:
    yield place
    end_sidecar(place / "runs")


def executed(home: Path) -> list[int]:
    return sorted(map(int, (home / "executed").read_text().split())) if (home / "executed").exists() else []


def begin(kernel: Kernel) -> int:
    """Start work in a sidecar, show it, and say which process the sidecar is."""
    kernel.run(OPEN + HELD)
    assert wait_until(lambda: len(executed(kernel.home)) >= 2, within_s=60)
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


def test_an_interrupt_ends_the_wait_and_reaches_no_one_else(shared: Kernel, place: Path) -> None:
    shared.run(OPEN + HELD)
    waiting = shared.begin("print('waiting', flush=True)\nrun.wait()")
    shared.wait_for(waiting, "waiting")
    shared.interrupt()
    assert "KeyboardInterrupt" in (shared.finish(waiting, timeout_s=60).error or "")
    assert shared.value("run.status") == "running"
    (place / "go").touch()
    shared.run("run.wait(60)")
    assert shared.value("run.results()") == [0, 1]


def test_work_goes_on_while_a_cell_holds_the_interpreter(shared: Kernel, place: Path) -> None:
    shared.run(OPEN)
    shared.run(HELD_UP)
    shared.run("run.wait(60)")
    assert shared.value("run.results()") == list(range(50))
