"""A kill in the middle of a write leaves any part of it, and a journal opens on whatever that is."""

import contextlib
import random

import pytest

from epsilon_lab.messages.events import WorkerLeft
from epsilon_lab.simulation.disk import Disk, Killed
from epsilon_lab.workspace.journal import Journal, read_journal


def write(journal, *names):
    journal.append(1.0, *(WorkerLeft(worker_id=name, reason="r") for name in names))
    journal.commit()


@pytest.mark.parametrize("seed", range(20))
def test_the_armed_commit_is_the_last_and_leaves_a_part_of_itself(tmp_path, seed):
    deaths = []
    disk = Disk(random.Random(seed), lambda: deaths.append("dead"), "process")
    journal = disk.open(tmp_path / "journal.ndjson")
    write(journal, "a")
    whole = journal.path.read_bytes()
    disk.kill_at(1)
    write(journal, "b")
    between = journal.path.read_bytes()
    with pytest.raises(Killed):
        write(journal, "c", "d")
    assert deaths == ["dead"]
    left = journal.path.read_bytes()
    assert left.startswith(between)
    assert len(between) > len(whole)
    write(journal, "from the grave")
    journal.close()
    assert journal.path.read_bytes() == left
    with contextlib.closing(Journal.open(journal.path)) as again:
        assert again.torn in (0, len(left) - len(between))
    assert len(read_journal(tmp_path / "journal.ndjson").records) in (2, 4)


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_takes_nothing_that_was_synced_and_any_part_of_the_rest(tmp_path, seed):
    disk = Disk(random.Random(seed), lambda: None, "disk")
    journal = disk.open(tmp_path / "journal.ndjson")
    write(journal, "synced")
    synced = journal.path.read_bytes()
    journal.append(1.0, WorkerLeft(worker_id="not synced", reason="r"))
    journal.write()
    whole = journal.path.read_bytes()
    disk.die()
    journal.close()
    left = journal.path.read_bytes()
    assert left.startswith(synced)
    assert whole.startswith(left)
    assert len(read_journal(journal.path).records) in (1, 2)
