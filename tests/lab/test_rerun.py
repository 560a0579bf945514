"""Items done again as revisions: while the run goes on, after it was over, after its lab was, and by another lab."""

from __future__ import annotations

import select
from functools import partial
from pathlib import Path

import pytest

from epsilon_lab import Lab, LabError, MapReduce, PopulationSearch, WorkQueue, current_task, problems
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.census import wait_until


def patient(place: Path, item: int) -> int:
    """Counts its tries and puts down what it is told; item 3 waits for a go, item 1 fails once it is broken."""
    tried = place / f"tried-{item}"
    tried.open("a").write("x")
    (place / f"told-{item}").write_text("; ".join(each.text for each in current_task().feedback))
    while item == 3 and not (place / "go").exists():
        select.select([], [], [], 0.02)
    if item == 1 and (place / "broken").exists():
        raise ValueError("broken meanwhile")
    return 10 * item + tried.stat().st_size


def tries(place: Path) -> list[int]:
    return [(place / f"tried-{item}").stat().st_size for item in range(4)]


@pytest.mark.parametrize("broker", ["kernel", "sidecar"])
def test_items_are_done_again_live_and_after_the_end(tmp_path: Path, sidecar_path: Path, broker: str) -> None:
    with Lab(sidecar_path, workers=2, broker=broker) as lab:
        run = lab.start(WorkQueue(range(4), partial(patient, tmp_path)))
        assert wait_until(lambda: list(run.frame("tasks").status).count("completed") == 3, within_s=60)
        assert wait_until(lambda: (tmp_path / "tried-3").exists(), within_s=60)
        with pytest.raises(InvalidInput, match="task 'item-000003': is running, not completed or failed"):
            run.rerun(["item-000000", "item-000003"])
        run.rerun("item-000000", feedback="once more")
        assert wait_until(lambda: tries(tmp_path)[0] == 2, within_s=60), "while the run goes on"
        assert wait_until(lambda: (tmp_path / "told-0").read_text() == "once more", within_s=60)
        (tmp_path / "go").touch()
        run.wait(60)
        assert (run.results(), run.reason) == ([2, 11, 21, 31], "4 of 4 items completed")

        run.rerun(["item-000000~2", "item-000002"], {"item-000002": "think twice"})
        run.wait(60)
        assert (run.results(), run.output) == ([3, 11, 22, 31], [3, 11, 22, 31]), "after it was over"
        (tmp_path / "broken").touch()
        run.rerun(["item-000001"])
        run.wait(60)
        with pytest.raises(RunFailed, match="task item-000001~2 is failed: ValueError: broken meanwhile"):
            run.results()
        assert run.results("none") == [3, None, 22, 31], "the latest revision speaks, also by failing"
        assert run.reason == "3 of 4 items completed, 1 failed"
        assert tries(tmp_path) == [3, 2, 2, 1], "nothing else is done again"
        assert [(tmp_path / f"told-{item}").read_text() for item in range(4)] == ["", "", "think twice", ""]

        tasks = run.frame("tasks").set_index("task_id")
        assert tasks.status.to_dict() == {
            "item-000000": "completed", "item-000001": "completed", "item-000002": "completed",
            "item-000003": "completed", "item-000000~2": "completed", "item-000000~3": "completed",
            "item-000002~2": "completed", "item-000001~2": "failed",
        }  # fmt: skip
        revised = run.frame("events")
        said = [body["feedback"] for body in revised[revised.type == "task.revised"].body]
        assert said == [
            {"item-000000": [{"source": "rerun", "text": "once more"}]},
            {"item-000000": [], "item-000002": [{"source": "rerun", "text": "think twice"}]},
            {"item-000001": []},
        ]


def total(outputs: list[int]) -> int:
    return sum(outputs)


@pytest.mark.parametrize("topology", ["work_queue", "map_reduce"])
def test_a_run_that_was_stopped_is_taken_up_where_its_tasks_are_done_again(tmp_path: Path, topology: str) -> None:
    held = partial(patient, tmp_path)
    work = WorkQueue([3] * 6, held) if topology == "work_queue" else MapReduce([3] * 6, held, total)
    with Lab(tmp_path / "runs", workers=2) as lab:
        run = lab.start(work)
        assert wait_until(lambda: (tmp_path / "tried-3").exists(), within_s=60)
        run.stop()
        assert run.wait(60).status == "stopped"
        (tmp_path / "go").touch()
        run.rerun(["item-000001", "item-000004"])
        assert run.wait(60).status == "completed"
        done = [place for place, output in enumerate(run.results("none")) if output is not None]
        assert done == [1, 4], "what was stopped stays as it was, and nothing else is done"
        assert topology == "work_queue" or run.output == sum(run.results("none")[place] for place in done)


def test_what_cannot_be_done_again_is_refused_before_anything_changes(tmp_path: Path) -> None:
    with Lab(tmp_path / "runs", workers=2) as lab:
        run = lab.start(WorkQueue([1, 2], abs)).wait(60)
        for tasks, said in (
            ("nobody", "task 'nobody': is no task_id"),
            ([], "tasks: names none"),
            (None, "must be a task_id or"),
        ):
            with pytest.raises(InvalidInput, match=said):
                run.rerun(tasks)
        with pytest.raises(InvalidInput, match="feedback for 'item-000001': is for none of the tasks"):
            run.rerun("item-000000", {"item-000001": "no"})
        with pytest.raises(InvalidInput, match="feedback"):
            run.rerun("item-000000", {"item-000000": 3})  # type: ignore[dict-item]
        search = PopulationSearch(problems.cap_set(n=3), population=1, generations=1, elites=0, diverse=0, fresh=1)
        search_run = lab.start(search).wait(120)
        with pytest.raises(LabError, match="does not do evaluate-seed again: its topology has no revisions"):
            search_run.rerun("evaluate-seed")
        assert search_run.status == "completed"
        assert list(search_run.frame("events").type)[-1] == "run.ended"
        run_id = run.run_id
    with Lab(tmp_path / "runs", read_only=True) as lab, pytest.raises(LabError, match="only looks on"):
        lab.runs[run_id].rerun("item-000000")


def test_what_was_to_be_done_again_when_a_lab_ended_is_done_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with Lab(tmp_path / "runs", workers=2) as lab:
        run_id = lab.start(WorkQueue(range(4), partial(patient, tmp_path))).wait(60).run_id
    (tmp_path / "go").unlink()
    with Lab(tmp_path / "runs", workers=2) as lab:
        run = lab.runs[run_id]
        run.rerun(["item-000000", "item-000003"])
        assert wait_until(lambda: tries(tmp_path) == [2, 1, 1, 2], within_s=60)
        assert wait_until(lambda: list(run.frame("tasks").status).count("completed") == 5, within_s=60)
    with Lab(tmp_path / "runs", workers=1) as lab:
        assert (lab.runs[run_id].status, lab.runs[run_id].results()) == ("interrupted", [2, 11, 21, 31])
        (tmp_path / "go").touch()
        assert lab.resume(run_id).wait(60).results() == [2, 11, 21, 33]
        assert tries(tmp_path) == [2, 1, 1, 3], "what was done again stays done"
