"""Workers that outlive a killed kernel for a moment keep its workspace locked: no late write meets a resumed run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from epsilon_lab import Lab
from epsilon_lab.errors import WorkspaceLocked
from epsilon_lab.testing.census import descendants

if TYPE_CHECKING:
    from tests.drills.conftest import Script

SCRIPT = """
import sys
from epsilon_lab import Lab, WorkQueue

def pids(item):
    import os
    return os.getppid()

lab = Lab(f"{sys.argv[1]}/runs", workers=1)
[guardian] = lab.start(WorkQueue([1], pids)).wait(60).results()
print(guardian, flush=True)
sys.stdin.readline()
"""


def test_a_workspace_is_free_once_the_dead_kernels_workers_have_ended(
    place: Path, start: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = start(place, "-c", SCRIPT, str(place))
    assert kernel.stdout is not None
    guardian = int(kernel.stdout.readline())
    assert guardian in {process.pid for process in descendants(kernel.pid)}
    os.kill(guardian, signal.SIGSTOP)
    try:
        kernel.send_signal(signal.SIGKILL)
        kernel.wait(60)
        with monkeypatch.context() as patch:
            patch.setattr("epsilon_lab.workspace.lock._PATIENCE_S", 0.2)
            with pytest.raises(WorkspaceLocked, match=f"held by workers of process {kernel.pid} .*, which is gone"):
                Lab(place / "runs")
    finally:
        os.kill(guardian, signal.SIGCONT)
    Lab(place / "runs", workers=1).close()
