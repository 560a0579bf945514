"""A lab's past, read from a snapshot and what follows it: the same as from the journal alone, or not used."""

import os

import pytest

from epsilon_lab.messages.events import LabOpened, RunBorn, TopicsPublished, message_line
from epsilon_lab.messages.post import Message
from epsilon_lab.workspace import register as register_module
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import JOURNAL
from epsilon_lab.workspace.register import SNAPSHOT, read_register


class Past:
    """A lab's directory, and what its journal is given."""

    def __init__(self, path):
        self.path = path
        self.number = 0

    def live(self, turns=1, segment_bytes=10_000):
        """Let a lab open, so many runs be born and as much be said, and the lab be gone."""
        journal = Journal.open(self.path / JOURNAL, segment_bytes=segment_bytes)
        journal.append(1.0, LabOpened(epoch=self.number + 1, pid=1, host="h"))
        for _ in range(turns):
            self.number += 1
            said = message_line(Message(self.number, "lab", b'"x"', 1.0))
            journal.append(1.0, RunBorn(run_id=f"run-{self.number}"), TopicsPublished(topics={"t": said}))
            journal.commit()
        journal.close()

    def facts(self, **options):
        found = read_register(self.path, **options)
        return found.epoch, sorted(found.births), found.last_values, found.end

    @property
    def snapshot(self):
        return self.path / SNAPSHOT


@pytest.fixture
def past(tmp_path):
    (tmp_path / "lab").mkdir()
    return Past(tmp_path / "lab")


def test_nothing_was_before_the_first(past):
    assert past.facts(every_bytes=0)[:3] == (0, [], {})
    assert not past.snapshot.exists()


@pytest.mark.parametrize("segment_bytes", [100, 10_000])
def test_a_snapshot_and_what_follows_say_what_the_journal_says(past, segment_bytes):
    for turns in (1, 5, 1, 3):
        past.live(turns, segment_bytes)
        whole = past.facts()
        assert whole[0] == past.number - turns + 1
        assert len(whole[1]) == past.number
        assert whole[2]["t"].seq == past.number
        assert past.facts(every_bytes=0) == whole
        assert past.snapshot.exists()
        assert past.facts() == whole


def test_what_lies_before_it_is_not_read_again(past):
    past.live(20)
    whole = past.facts(every_bytes=0)
    data = bytearray((past.path / JOURNAL).read_bytes())
    data[100] ^= 1
    (past.path / JOURNAL).write_bytes(data)
    assert past.facts() == whole


def test_it_is_made_where_it_saves_enough_and_not_by_who_only_looks(past):
    past.live(3)
    past.facts()
    past.facts(every_bytes=100_000)
    assert not past.snapshot.exists()
    past.facts(every_bytes=100)
    made = past.snapshot.read_bytes()
    past.facts(every_bytes=100)
    assert past.snapshot.read_bytes() == made


def test_one_that_was_changed_or_cut_is_passed_over(past):
    past.live(2)
    whole = past.facts(every_bytes=0)
    good = past.snapshot.read_bytes()
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 1
        for bad in (bytes(data), good[:place]):
            past.snapshot.write_bytes(bad)
            assert past.facts() == whole


def test_one_of_another_journal_is_passed_over(past):
    past.live(5)
    past.facts(every_bytes=0)
    (past.path / JOURNAL).unlink()
    past.number = 0
    past.live(2)
    assert past.facts()[:2] == (1, ["run-1", "run-2"])
    past.live(30)
    assert len(past.facts()[1]) == 32


@pytest.mark.parametrize("step", ["fsync", "replace", "second fsync"])
def test_a_crash_at_any_step_leaves_the_one_before_or_the_next(past, monkeypatch, step):
    past.live(2)
    past.facts(every_bytes=0)
    past.live(4)
    whole = past.facts()
    left = {"fsync": 0, "second fsync": 1, "replace": 0}[step]

    class Killed(BaseException):
        pass

    def die(*_):
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(register_module.os, step.removeprefix("second "), die)
        with pytest.raises(Killed):
            past.facts(every_bytes=0)
    assert past.facts() == whole
    assert past.facts(every_bytes=0) == whole


def test_it_is_put_down_in_an_order_that_survives_a_power_cut(past, monkeypatch):
    past.live(2)
    done = []
    fsync, replace = os.fsync, os.replace
    inode = past.path.stat().st_ino
    monkeypatch.setattr(register_module.os, "fsync", lambda fd: done.append(os.fstat(fd).st_ino == inode) or fsync(fd))
    monkeypatch.setattr(register_module.os, "replace", lambda *names: done.append("rename") or replace(*names))
    past.facts(every_bytes=0)
    assert done == [False, "rename", True], "the file, its name, the directory"
