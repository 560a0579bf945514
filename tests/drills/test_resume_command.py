"""`python -m epsilon_lab resume`: what it prints, how it fails, and that Ctrl-C leaves the run to be resumed again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from epsilon_lab import Lab
from epsilon_lab.testing.census import wait_until

if TYPE_CHECKING:
    from tests.drills.conftest import Script

SCRIPT = """
import sys
from epsilon_lab import Lab, PopulationSearch, Problem

def proposer(context):
    import os, select
    while context.generation == 1 and not os.path.exists(f"{here}/go"):
        select.select([], [], [], 0.02)
    return f"def solve():\\n    return {context.best.score} + {context.dice.randrange(50)}\\n"

here = sys.argv[1]
problem = Problem("toy", "Return a large number.", "def solve():\\n    return 10 + 5\\n", score=float)
lab = Lab(f"{here}/runs", workers=1)
run = lab.start(PopulationSearch(problem, proposer, population=3, generations=2, fresh=1, elites=1, diverse=1))
print(run.run_id, flush=True)
run.wait()
"""


def test_a_killed_search_is_resumed_from_a_shell(place: Path, start: Callable[..., Script]) -> None:
    script = start(place, "-c", SCRIPT, str(place))
    assert script.stdout is not None
    run_id = script.stdout.readline().strip()
    journal = place / "runs" / run_id / "journal.ndjson"
    assert wait_until(lambda: b"stage.generation" in journal.read_bytes(), within_s=60)
    script.send_signal(signal.SIGKILL)
    script.communicate(timeout=60)

    first = start(place, "-m", "epsilon_lab", "resume", "runs", "toy", "--workers", "1")
    assert first.stdout is not None
    assert first.stdout.readline() == f"resumed {run_id}\n"
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert (first.returncode, said) == (130, "python -m epsilon_lab resume: interrupted\n")
    with Lab(place / "runs", read_only=True) as lab:
        assert lab.runs["toy"].status == "interrupted"

    (place / "go").touch()
    second = start(place, "-m", "epsilon_lab", "resume", "runs", run_id)
    printed, said = second.communicate(timeout=60)
    assert (second.returncode, said) == (0, "")
    assert printed.startswith(f"resumed {run_id}\ncompleted: all 2 generations are done\n")
    assert f"run directory       runs/{run_id}\n" in printed
    assert printed.splitlines()[3].split() == ["rank", "score", "candidate", "strategy", "checked", "parents"]

    third = start(place, "-m", "epsilon_lab", "resume", "runs", run_id)
    _, said = third.communicate(timeout=60)
    assert third.returncode == 1
    assert said.startswith(f"python -m epsilon_lab resume: run {run_id}: is completed")
    fourth = start(place, "-m", "epsilon_lab", "resume", "nosuch", run_id)
    _, said = fourth.communicate(timeout=60)
    assert (fourth.returncode, said.count("\n")) == (1, 1)
    assert "there is no workspace 'nosuch'" in said
    assert not (place / "nosuch").exists()
