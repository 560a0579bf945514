"""A journal cut anywhere: what is read is a prefix of what happened, and from there the run comes to its end."""

import contextlib
import os
import shutil

import msgspec
import pytest

from epsilon_lab import Lab, WorkQueue
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import BODIES, TasksCompleted
from epsilon_lab.messages.values import restored, unpack
from epsilon_lab.simulation.scenario import play
from epsilon_lab.topologies.recovery import beginning, recover
from epsilon_lab.workspace.fold import Fold
from epsilon_lab.workspace.journal import Journal, read_journal
from epsilon_lab.workspace.layout import JOURNAL, RunDirectory

SEEDS = (1_000_017, 1_000_054)
"""Worlds without a fault, a budget or a second file of a journal."""


def square(item):
    if item == 3:
        raise ValueError("three is refused")
    if item == 5:
        os._exit(1)
    return item * item


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The directory of a real run, with a failure, a dead letter and results."""
    workspace = tmp_path_factory.mktemp("recorded") / "runs"
    with Lab(workspace, workers=2) as lab:
        run = lab.start(WorkQueue(range(8), square, retries=1)).wait(60)
        assert (run.status, len(run.failures)) == ("completed", 2)
    return workspace / run.run_id


def groups(data):
    """Where each group ends."""
    position, ends = 0, [0]
    for line in data.splitlines(keepends=True):
        position += len(line)
        if line.startswith(b'{"commit":'):
            ends.append(position)
    return ends


def rows(records):
    fold = Fold("r")
    for record in records:
        fold.take(record)
    assert fold.unread is None
    return {row["task_id"]: row["status"] for row in fold.drain("tasks")}


def outputs(records):
    lines = [msgspec.json.decode(r.body, type=TasksCompleted) for r in records if BODIES.get(r.type) is TasksCompleted]
    return [(done.task_id, unpack(restored(done.output))) for line in lines for done in line.tasks]


def test_a_real_journal_cut_at_any_byte_is_a_prefix_of_itself(recorded, tmp_path):
    data = (recorded / JOURNAL).read_bytes()
    whole = read_journal(recorded / JOURNAL).records
    ends = groups(data)
    assert ends[-1] == len(data)
    path = tmp_path / JOURNAL
    path.write_bytes(data)
    for cut in range(len(data), -1, -1):
        os.truncate(path, cut)
        end = max(each for each in ends if each <= cut)
        read = read_journal(path)
        assert (read.end.offset, read.torn) == (end, cut - end)
        assert read.records == whole[: len(read.records)]


def test_a_real_journal_cut_anywhere_is_cut_back_to_its_last_group_when_it_is_opened(recorded, tmp_path):
    data = (recorded / JOURNAL).read_bytes()
    ends = groups(data)
    path = tmp_path / JOURNAL
    for cut in {
        *range(0, len(data), 97),
        *(end + near for end in ends[:-1] for near in (0, 1)),
        *(e - 1 for e in ends[1:]),
    }:
        path.write_bytes(data[:cut])
        end = max(each for each in ends if each <= cut)
        with contextlib.closing(Journal.open(path)) as journal:
            assert journal.torn == cut - end
        assert path.read_bytes() == data[:end]


def test_a_real_run_cut_after_any_group_is_recovered_as_its_tables_show_it(recorded, tmp_path):
    shutil.copytree(recorded, tmp_path / recorded.name)
    directory = RunDirectory(tmp_path / recorded.name)
    data = directory.journal.read_bytes()
    settled_before = set()
    for end in groups(data)[1:-1]:
        directory.journal.write_bytes(data[:end])
        records = read_journal(directory.journal).records
        started = beginning(directory.run_id, records)
        found = recover(started.run_id, WorkQueue.restore(directory, records), records)
        shown = rows(records)
        settled = {task for task, status in shown.items() if status in ("completed", "failed", "dead", "cancelled")}
        assert settled_before <= settled, "what was settled stays so"
        assert set(found.left) == set(shown) - settled
        settled_before = settled
    assert settled_before


def test_a_real_run_done_again_in_part_is_recovered_from_any_group_of_it(recorded, tmp_path):
    workspace = tmp_path / "runs"
    shutil.copytree(recorded.parent, workspace)
    with Lab(workspace, workers=2) as lab:
        lab.runs[recorded.name].rerun(["item-000001", "item-000003"], "again")
        lab.runs[recorded.name].wait(60)
    directory = RunDirectory(workspace / recorded.name)
    data = directory.journal.read_bytes()
    opened = set()
    for end in groups(data)[1:-1]:
        directory.journal.write_bytes(data[:end])
        records = read_journal(directory.journal).records
        with contextlib.suppress(InvalidInput):  # it was over there
            beginning(directory.run_id, records)
            found = recover(directory.run_id, WorkQueue.restore(directory, records), records)
            shown = rows(records)
            settled = {task for task, status in shown.items() if status in ("completed", "failed", "dead", "cancelled")}
            assert set(found.left) == set(shown) - settled
            opened |= set(found.left)
    assert {"item-000001~2", "item-000003~2"} <= opened


@pytest.mark.parametrize("share", [0.6, *(pytest.param(share, marks=pytest.mark.long) for share in (0.3, 0.9))])
def test_a_real_run_cut_anywhere_ends_as_it_did(recorded, tmp_path, share):
    workspace = tmp_path / "runs"
    shutil.copytree(recorded.parent, workspace)
    path = workspace / recorded.name / JOURNAL
    data = path.read_bytes()
    first = groups(data)[1]
    os.truncate(path, first + int(share * (len(data) - first - 400)))
    with Lab(workspace, workers=2) as lab:
        with pytest.warns(RuntimeWarning, match="a crash had cut short"):
            run = lab.resume(recorded.name)
        run.wait(60)
        assert run.results(failed="none") == [None if item in (3, 5) else item * item for item in range(8)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_cut_at_any_group_or_within_it_comes_to_the_same_end(seed, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    outcome = play(seed, whole)
    assert not outcome.problems
    for run in sorted(whole.glob("r*")):
        data = (run / JOURNAL).read_bytes()
        end_rows = rows(read_journal(run / JOURNAL).records)
        for number, end in enumerate(groups(data)[1:-1]):
            workspace = tmp_path / f"{run.name}-{number}"
            shutil.copytree(whole, workspace)
            path = workspace / run.name / JOURNAL
            os.truncate(path, end + (number * 37) % 90)
            before = outputs(read_journal(path).records)
            again = play(seed, workspace)
            accused = [each for each in again.problems if not each.startswith(("unproduced", "unexpected"))]
            assert accused == []
            records = read_journal(path).records
            assert rows(records) == end_rows
            after = outputs(records)
            assert after[: len(before)] == before
            assert len({task for task, _ in after}) == len(after)
