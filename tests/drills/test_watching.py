"""A process that only looks on sees a search live, sees that its kernel was killed, and sees another one resume it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from epsilon_lab import Lab
from epsilon_lab.errors import LabError, RunFailed
from epsilon_lab.searches import SearchRun
from epsilon_lab.testing.census import wait_until

if TYPE_CHECKING:
    from tests.drills.conftest import Script

SCRIPT = """
import sys
from epsilon_lab import Lab, PopulationSearch, Problem

def proposer(context):
    import os, select
    while not os.path.exists(f"{here}/go-{context.generation}"):
        select.select([], [], [], 0.02)
    return f"def solve():\\n    return {context.best.score} + {context.dice.randrange(50)}\\n"

here = sys.argv[1]
problem = Problem("toy", "Return a large number.", "def solve():\\n    return 10 + 5\\n", score=float)
with Lab(f"{here}/runs", workers=1) as lab:
    if "watched" in lab.runs:
        run = lab.resume("watched")
    else:
        run = lab.start(PopulationSearch(problem, proposer, population=3, generations=3, fresh=1, elites=1, diverse=1),
                        name="watched")
    print(run.run_id, flush=True)
    run.wait()
"""


@pytest.fixture
def begin(start: Callable[..., Script]) -> Callable[[Path], Script]:
    """Starts the search, or resumes it, and returns once it is live."""

    def begin(place: Path) -> Script:
        script = start(place, "-c", SCRIPT, str(place))
        assert script.stdout is not None
        assert script.stdout.readline().startswith("watched-")
        return script

    return begin


def test_a_search_is_watched_through_the_death_of_its_kernel(place: Path, begin: Callable[[Path], Script]) -> None:
    first = begin(place)
    with Lab(place / "runs", read_only=True) as lab:
        run = lab.runs["watched"]
        assert isinstance(run, SearchRun)
        panel = run.panel()

        def closed(generations: int) -> bool:
            return len(lab.sql("select * from generations")) == generations

        assert run.status == "running"
        assert lab.sql("select count(*) from candidates where generation > 0").iloc[0, 0] == 0
        (place / "go-0").touch()
        assert wait_until(lambda: closed(1), within_s=60)
        panel.update()
        assert "running" in repr(panel)
        assert run.leader is not None
        assert run.plot_scores().png().startswith(b"\x89PNG")
        assert run.status == "running"
        with pytest.raises(TimeoutError):
            run.wait(0.01)
        with pytest.raises(LabError, match="only looks on and cannot resume"):
            lab.resume("watched")

        first.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
        assert run.status == "interrupted", "though the process is a zombie still"
        first.communicate(timeout=60)
        assert f"lab.resume({run.run_id!r})" in run.reason
        panel.update()
        assert "interrupted" in repr(panel)
        with pytest.raises(RunFailed, match="interrupted"):
            run.wait(1)
        assert {"completed", "lost"} <= set(run.frame("attempts")["outcome"]) <= {"completed", "lost", "stale"}

        second = begin(place)
        assert run.status == "running"
        assert run.reason == ""
        (place / "go-1").touch()
        assert wait_until(lambda: closed(2), within_s=60)
        panel = run.panel()
        assert "running" in repr(panel), "a new one: the first was frozen when the run was interrupted"
        (place / "go-2").touch()
        assert run.wait(60).status == "completed"
        assert second.communicate(timeout=60)
        assert second.returncode == 0
        panel.update()
        assert "completed" in repr(panel)
        attempts = run.frame("attempts")
        assert attempts[attempts["outcome"] == "completed"]["task_id"].is_unique
