"""Dead letters tried again: while the run goes on, after it was over, after its lab was, and by another lab."""

from __future__ import annotations

import os
import select
from functools import partial
from pathlib import Path

import pytest

from epsilon_lab import Lab, LabError, WorkQueue
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.census import wait_until


def fragile(place: Path, item: int) -> int:
    """Kills its process for item 2 until someone has mended it."""
    (place / f"tried-{item}").open("a").write("x")
    if item == 2 and not (place / "mended").exists():
        os._exit(3)
    return 10 * item


def tries(place: Path) -> list[int]:
    return [(place / f"tried-{item}").stat().st_size for item in range(4)]


@pytest.fixture(params=["kernel", "sidecar"])
def broker(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_run_that_was_over_goes_on_for_its_dead_letters(tmp_path: Path, sidecar_path: Path, broker: str) -> None:
    with Lab(sidecar_path, workers=2, broker=broker) as lab:
        run = lab.start(WorkQueue(range(4), partial(fragile, tmp_path))).wait(60)
        assert run.results("none") == [0, 10, None, 30]
        with pytest.raises(RunFailed, match=r"item-000002 is dead: .*; requeue\(\) tries it again, "):
            run.results()
        with pytest.raises(InvalidInput, match=r"task \['item-000002'\]: is no task_id"):
            run.requeue(list(run.failures.task_id))
        assert run.reason == "3 of 4 items completed, 1 failed"
        first, second, _, last = tries(tmp_path)  # more than one where an answer went down with item 2's process

        run.requeue()
        run.wait(60)
        assert run.results("none") == [0, 10, None, 30], "it is not mended yet"

        (tmp_path / "mended").touch()
        run.requeue("item-000002")
        run.wait(60)
        assert (run.status, run.reason) == ("completed", "4 of 4 items completed")
        assert run.results() == [0, 10, 20, 30]
        assert lab.dead_letters.empty
        assert tries(tmp_path) == [first, second, 7, last], "what was finished is not done again"
        with pytest.raises(InvalidInput, match="no dead letters"):
            run.requeue()
        with pytest.raises(InvalidInput, match="completed, not dead"):
            run.requeue("item-000001")


def stubborn(place: Path, item: int) -> int:
    """Kills its process for item 2 three times, and then waits for someone to say go."""
    tried = place / f"tried-{item}"
    tried.open("a").write("x")
    if item == 2 and tried.stat().st_size <= 3:
        os._exit(3)
    while item == 2 and not (place / "go").exists():
        select.select([], [], [], 0.02)
    return 10 * item


def test_a_run_that_was_reopened_and_left_can_be_resumed(tmp_path: Path) -> None:
    with Lab(tmp_path / "runs", workers=2) as lab:
        run_id = lab.start(WorkQueue(range(4), partial(stubborn, tmp_path))).wait(60).run_id
    with Lab(tmp_path / "runs", workers=1) as lab:
        with pytest.raises(InvalidInput, match="nothing left of it to resume"):
            lab.resume(run_id)
        lab.runs[run_id].requeue()
        assert lab.runs[run_id].status == "running"
        assert wait_until(lambda: tries(tmp_path)[2] == 4, within_s=60)
    with Lab(tmp_path / "runs", workers=1) as lab:
        assert lab.runs[run_id].status == "interrupted"
        (tmp_path / "go").touch()
        assert lab.resume(run_id).wait(60).results() == [0, 10, 20, 30]
        assert tries(tmp_path) == [1, 1, 5, 1]


def test_who_only_looks_on_requeues_nothing(tmp_path: Path) -> None:
    with Lab(tmp_path / "runs", workers=1) as lab:
        run_id = lab.start(WorkQueue(range(3), partial(fragile, tmp_path))).wait(60).run_id
    with Lab(tmp_path / "runs", read_only=True) as lab, pytest.raises(LabError, match="only looks on"):
        lab.runs[run_id].requeue()
