"""The harness itself: a real kernel shows, fails, is interrupted, restarted and killed, and nothing of it is left."""

from __future__ import annotations

import os
import signal

import pytest

from epsilon_lab.testing.census import Leftover, living
from epsilon_lab.testing.kernels import CellFailed, Kernel

pytestmark = pytest.mark.kernel


def test_a_cell_shows_and_updates_what_it_showed(kernel: Kernel) -> None:
    cell = kernel.run("place = display('first', display_id=True)\nprint('printed')\n6 * 7")
    assert cell.stdout == "printed\n"
    assert [shown["text/plain"] for shown in cell.displays] == ["'first'", "42"]
    kernel.run("place.update('second')")
    assert cell.displays[0]["text/plain"] == "'second'"
    assert kernel.value("{'a': [1, None]}") == {"a": [1, None]}


def test_a_failing_cell_raises_what_a_user_would_see(kernel: Kernel) -> None:
    with pytest.raises(CellFailed, match="ZeroDivisionError"):
        kernel.run("1 / 0")


def test_an_interrupt_ends_a_cell_and_a_restart_forgets_everything(kernel: Kernel) -> None:
    cell = kernel.begin("x = 1; print('started', flush=True)\nimport threading; threading.Event().wait()")
    kernel.wait_for(cell, "started")
    kernel.interrupt()
    assert kernel.finish(cell).error.startswith("KeyboardInterrupt")
    first = kernel.pid
    kernel.restart()
    assert kernel.pid != first
    assert kernel.value("'x' in globals()") is False


def test_a_killed_kernel_leaves_nothing_that_watches_it(kernel: Kernel) -> None:
    kernel.run("import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1, cwd='/')")
    assert len(living(kernel.home)) == 2
    kernel.kill()  # the child sees its stdin close and ends; the fixture waits for that


def test_an_orphan_is_reported() -> None:
    code = "import signal; signal.pause()"
    with pytest.raises(Leftover, match="pause"), Kernel(settle_s=0.5) as kernel:  # noqa: PT012
        kernel.run(f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {code!r}], cwd='/')")
        child = kernel.value("child.pid")
        kernel.kill()
    os.kill(child, signal.SIGKILL)
