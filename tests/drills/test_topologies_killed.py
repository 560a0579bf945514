"""kill -9 of the kernel in the middle of a run of each topology, and `lab.resume` in another process.

Each execution writes its task's name down before it begins, in a file outside the workspace. A run is killed after a
number of executions drawn by seed: where it stands, with all that is under way, or, every other time, a little
after it went on. In the end the outcome is that of a run nobody killed; what was on record at the kill was not executed
again; what was executed again was under way.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from epsilon_lab import Lab
from epsilon_lab.hosts.sidecar import end_sidecar
from epsilon_lab.processes.repository import is_installed
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.topology_examples import EXAMPLES, Example
from epsilon_lab.topologies.catalogue import TOPOLOGIES

if TYPE_CHECKING:
    from tests.drills.conftest import Script

SCRIPT = """
import sys
from pathlib import Path
from epsilon_lab import Lab
from epsilon_lab.testing.topology_examples import EXAMPLES, by_functions

place, topology, host = Path(sys.argv[1]), *sys.argv[2:]
with Lab(place / "runs", workers=2, broker=host) as lab:
    hand = by_functions(place / "orders")
    run = lab.runs.get("drill") or lab.start(EXAMPLES[topology].make(hand), name="drill")
    if run.status == "interrupted":
        run = lab.resume("drill")
    print(run.path, flush=True)
    run.wait()
"""

STEPS = ("item-", "reduce-", "propose-")
"""How the tasks that write their names down begin, where they have no names of their own."""


def _begun(place: Path) -> Counter[str]:
    ran = place / "orders" / "ran"
    return Counter(ran.read_text().split() if ran.exists() else ())


def _statuses(place: Path) -> dict[str, str]:
    with Lab(place / "runs", read_only=True) as lab:
        return dict(lab.store.rows("select task_id, status from tasks"))


def _begin(start: Callable[..., Script], place: Path, topology: str, host: str) -> Script:
    script = start(place, "-c", SCRIPT, str(place), topology, host)
    assert script.stdout is not None
    assert script.stdout.readline(), script.communicate()
    return script


def _drill(start: Callable[..., Script], place: Path, example: Example, number: int, host: str = "kernel") -> str:
    """Kill a run's kernel once and go on with it; how the run stood when it was killed."""
    dice = random.Random(f"{example.topology} {number}")
    orders = place / "orders"
    orders.mkdir()
    steps = [name for name in example.tasks if name.startswith(STEPS)] or example.results
    (orders / "hold").write_text(str(dice.randrange(len(steps))))
    script = _begin(start, place, example.topology, host)
    assert wait_until(lambda: any(orders.glob("held-*")) or script.poll() is not None, within_s=60)
    if number % 2:
        (orders / "hold").unlink()
        time.sleep(dice.random() * 0.01)
    script.send_signal(signal.SIGKILL)
    script.communicate(timeout=60)
    (orders / "hold").unlink(missing_ok=True)
    with Lab(place / "runs", read_only=True) as lab:
        [status] = [run.status for run in lab.runs.values()]
    done = {name for name, status in _statuses(place).items() if status == "completed"}
    before = _begun(place)

    script = _begin(start, place, example.topology, host)
    _, said = script.communicate(timeout=60)
    assert (script.returncode, said) == (0, "")
    assert _statuses(place) == dict.fromkeys(example.tasks, "completed")
    with Lab(place / "runs", read_only=True) as lab:
        [run] = lab.runs.values()
        assert (run.status, run.results()) == ("completed", list(example.results))
        assert example.read(run.output) == example.output
        lost = set(run.frame("attempts").query("outcome == 'lost'")["task_id"])
    after = _begun(place)
    if host == "kernel":
        assert {name for name in done if after[name] != before[name]} == set(), "what was on record is not done again"
        again = {name for name, count in after.items() if count > 1}
        assert again <= lost, "nor anything else that was not in a worker's hands"
    else:
        assert set(after.values()) == {1}, "a sidecar goes on: nothing is done again"
    return status


EVERY_DAY = ("map_reduce", "population_search", "tree", "work_queue")
"""One on each kind of plan; the long form kills all eight, often."""


@pytest.fixture(
    params=[each if each in EVERY_DAY else pytest.param(each, marks=pytest.mark.long) for each in TOPOLOGIES]
)
def example(request: pytest.FixtureRequest) -> Example:
    if request.param == "tree" and not is_installed():
        pytest.skip("git is not installed: apt-get install git")
    return EXAMPLES[request.param]


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.long)])
def test_a_run_survives_a_kill_at_any_moment(
    example: Example, kills: int, make_place: Callable[[], Path], start: Callable[..., Script]
) -> None:
    stood = [_drill(start, make_place(), example, number) for number in range(kills)]
    assert set(stood[::2]) == {"interrupted"}, "killed in the middle"


def test_a_run_in_a_sidecar_does_not_notice(place: Path, start: Callable[..., Script]) -> None:
    try:
        _drill(start, place, EXAMPLES["dag"], 0, "sidecar")
    finally:
        end_sidecar(place / "runs")
