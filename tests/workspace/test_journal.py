"""A journal survives what a crash can do to it, and refuses everything else."""

import errno
import os
import resource
import subprocess
import sys
import textwrap

import msgspec
import pytest

from epsilon_lab.errors import InvalidInput, JournalDamaged, WorkspaceError
from epsilon_lab.messages.events import BODIES, LabOpened, RunBorn, RunEnded, TasksStale, event
from epsilon_lab.messages.tasks import Event
from epsilon_lab.workspace import journal as journal_module
from epsilon_lab.workspace.journal import Journal, Position, read_journal
from epsilon_lab.workspace.scan import START, segment_path

GROUPS = [
    [LabOpened(epoch=1, pid=7, host="höst")],
    [RunBorn(run_id="a"), TasksStale(worker_id="s/c1", tasks=(("t", 3),)), RunBorn(run_id="b")],
    [RunEnded(status="completed", reason="line one\nline two")],
]


@pytest.fixture
def recorded(tmp_path):
    """A journal of three groups: its path, and the byte offset behind each commit."""
    path = tmp_path / "journal.ndjson"
    journal = Journal.open(path)
    ends = [0]
    for number, group in enumerate(GROUPS):
        journal.append(float(number), *group)
        journal.commit()
        ends.append(path.stat().st_size)
    journal.close()
    return path, ends


def bodies(records):
    return [msgspec.json.decode(record.body, type=BODIES[record.type]) for record in records]


def test_what_was_committed_is_read_back(recorded):
    path, ends = recorded
    read = read_journal(path)
    assert bodies(read.records) == [body for group in GROUPS for body in group]
    assert [record.seq for record in read.records] == [1, 2, 3, 4, 5]
    assert [record.ts for record in read.records] == [0.0, 1.0, 1.0, 1.0, 2.0]
    assert (read.end, read.torn) == (Position(1, ends[-1], 6), 0)


def test_a_reader_goes_on_where_it_stopped(recorded):
    path, ends = recorded
    end = Position(1, ends[-1], 6)
    assert [r.seq for r in read_journal(path, Position(1, ends[1], 2)).records] == [2, 3, 4, 5]
    assert read_journal(path, end) == ([], end, 0)
    with pytest.raises(JournalDamaged, match="record 2 stands where 3 belongs"):
        read_journal(path, Position(1, ends[1], 3))
    with pytest.raises(JournalDamaged, match="shorter"):
        read_journal(path, end._replace(offset=ends[-1] + 1))


def test_a_missing_journal_is_empty(tmp_path):
    assert read_journal(tmp_path / "none") == ([], START, 0)


def test_nothing_is_on_disk_before_the_commit(tmp_path):
    journal = Journal.open(tmp_path / "j")
    journal.append(1.0, RunBorn(run_id="a"))
    assert (tmp_path / "j").read_bytes() == b""
    assert journal.pending == 1
    journal.commit()
    assert len(read_journal(tmp_path / "j").records) == 1
    journal.close()


def test_a_turn_is_one_write(tmp_path, monkeypatch):
    journal = Journal.open(tmp_path / "j")
    writes = []
    write = os.write
    monkeypatch.setattr(journal_module.os, "write", lambda fd, data: writes.append(1) or write(fd, data))
    for name in "abc":
        journal.append(1.0, RunBorn(run_id=name), event(RunBorn(run_id=name)))
    journal.commit()
    journal.commit()
    assert len(writes) == 1
    journal.close()


def test_closing_commits_and_a_closed_journal_says_so(tmp_path):
    journal = Journal.open(tmp_path / "j")
    journal.append(1.0, RunBorn(run_id="a"))
    journal.close()
    journal.close()
    assert len(read_journal(tmp_path / "j").records) == 1
    with pytest.raises(WorkspaceError, match="closed"):
        journal.append(1.0, RunBorn(run_id="b"))


def test_a_tail_torn_at_any_byte_is_cut_and_the_journal_goes_on(recorded, tmp_path):
    path, ends = recorded
    whole = path.read_bytes()
    torn = tmp_path / "torn"
    for length in range(len(whole) + 1):
        torn.write_bytes(whole[:length])
        end = max(e for e in ends if e <= length)
        kept = [body for group in GROUPS[: ends.index(end)] for body in group]

        read = read_journal(torn)
        assert (bodies(read.records), read.end.offset, read.torn) == (kept, end, length - end)
        assert torn.stat().st_size == length, "reading changes nothing"

        journal = Journal.open(torn)
        assert (journal.torn, journal.seq) == (length - end, len(kept) + 1)
        journal.append(9.0, RunBorn(run_id="next"))
        journal.close()
        assert bodies(read_journal(torn).records) == [*kept, RunBorn(run_id="next")]


@pytest.mark.parametrize("mask", [0x01, 0x80, 0x2A])
def test_a_changed_byte_anywhere_is_refused_and_nothing_is_touched(recorded, tmp_path, mask):
    path, _ = recorded
    whole = path.read_bytes()
    damaged = tmp_path / "damaged"
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= mask
        damaged.write_bytes(data)
        with pytest.raises(JournalDamaged, match="nothing was changed") as caught:
            Journal.open(damaged)
        assert caught.value.offset <= position
        with pytest.raises(JournalDamaged):
            read_journal(damaged)
        assert damaged.read_bytes() == data


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_group_is_damage(recorded, lost):
    path, ends = recorded
    whole = path.read_bytes()
    path.write_bytes(whole[: ends[lost]] + whole[ends[lost + 1] :])
    with pytest.raises(JournalDamaged, match="belongs"):
        Journal.open(path)


def test_zeros_behind_the_last_commit_are_a_torn_tail(recorded):
    """What ext4 may leave after a power cut: the length was kept, the bytes were not."""
    path, ends = recorded
    with path.open("ab") as file:
        file.write(bytes(512))
    journal = Journal.open(path)
    assert journal.torn == 512
    assert path.stat().st_size == ends[-1]
    journal.close()


def test_a_body_that_is_not_json_adds_nothing(tmp_path):
    journal = Journal.open(tmp_path / "j")
    with pytest.raises(InvalidInput, match=r"usage\.odd"):
        journal.append(1.0, RunBorn(run_id="a"), Event("usage.odd", {"x": object()}))
    assert (journal.pending, journal.seq) == (0, 1)
    journal.close()


def test_an_unknown_durability_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="durability 'fast'"):
        Journal.open(tmp_path / "j", "fast")
    assert not (tmp_path / "j").exists()


def test_a_journal_in_a_missing_directory_names_the_path(tmp_path):
    with pytest.raises(WorkspaceError, match="none/j"):
        Journal.open(tmp_path / "none" / "j")


@pytest.mark.parametrize(("durability", "syncs"), [("memory", 0), ("process", 0), ("disk", 3)])
def test_only_disk_waits_for_the_disk(tmp_path, monkeypatch, durability, syncs):
    calls = []
    monkeypatch.setattr(journal_module.os, "fdatasync", lambda fd: calls.append(os.fstat(fd).st_size))
    journal = Journal.open(tmp_path / "j", durability)
    for name in "ab":
        journal.append(1.0, RunBorn(run_id=name))
        journal.commit()
    journal.close()
    assert len(calls) == syncs
    assert calls == sorted(calls), "the bytes were written before they were synced"


def test_creating_a_disk_journal_syncs_its_directory(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(journal_module.os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino) or fsync(fd))
    Journal.open(tmp_path / "j", "disk").close()
    assert tmp_path.stat().st_ino in synced


def test_a_failed_sync_is_never_tried_again(tmp_path, monkeypatch):
    """After a failed fsync the kernel may have dropped the pages: a later success would be a lie."""
    journal = Journal.open(tmp_path / "j", "disk")
    journal.append(1.0, RunBorn(run_id="a"))

    def fail(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "fdatasync", fail)
        with pytest.raises(WorkspaceError, match="could not be put on disk"):
            journal.commit()
    with pytest.raises(WorkspaceError, match="broke earlier"):
        journal.append(1.0, RunBorn(run_id="b"))
    journal.close()
    for _ in range(2):
        with pytest.raises(WorkspaceError, match=f"failed before in this process.*copy the directory {tmp_path}"):
            Journal.open(tmp_path / "j", "disk")
    (tmp_path / "copy").write_bytes((tmp_path / "j").read_bytes())
    Journal.open(tmp_path / "copy", "disk").close()
    Journal.open(tmp_path / "j", "process").close()


def test_a_full_disk_leaves_no_half_group(tmp_path):
    """A real limit in a real process: the write is short, the rest is refused by the system."""
    script = textwrap.dedent(
        """
        import resource, sys
        from epsilon_lab.errors import WorkspaceError
        from epsilon_lab.messages.events import RunBorn
        from epsilon_lab.workspace.journal import Journal, read_journal

        path = sys.argv[1]
        journal = Journal.open(path)
        journal.append(1.0, RunBorn(run_id="kept"))
        journal.commit()
        good = journal.seq
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        for _ in range(2):
            journal.append(2.0, *[RunBorn(run_id=f"lost-{n}") for n in range(100)])
            try:
                journal.commit()
            except WorkspaceError as error:
                assert path in str(error) and "Free space" in str(error), error
            else:
                raise AssertionError("the limit did not hold")
            assert journal.seq == good
            read = read_journal(path)
            assert (len(read.records), read.torn) == (1, 0), read
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.append(3.0, RunBorn(run_id="after"))
        journal.close()
        """
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "j")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert bodies(read_journal(tmp_path / "j").records) == [RunBorn(run_id="kept"), RunBorn(run_id="after")]


def test_a_half_group_that_cannot_be_cut_ends_the_journal(tmp_path, monkeypatch):
    journal = Journal.open(tmp_path / "j")
    write = os.write

    def short(fd, data):
        if len(data) < 30:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[: len(data) // 2])

    def refuse(fd, size):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "write", short)
        patch.setattr(journal_module.os, "ftruncate", refuse)
        journal.append(1.0, RunBorn(run_id="a"))
        with pytest.raises(WorkspaceError, match="No space left"):
            journal.commit()
    with pytest.raises(WorkspaceError, match="broke earlier"):
        journal.append(1.0, RunBorn(run_id="b"))
    journal.close()
    assert read_journal(tmp_path / "j").torn > 0


def births(path):
    return [body.run_id for body in bodies(read_journal(path).records)]


# -- on disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def synced(monkeypatch):
    """What was put on disk so far: (inode, size)."""
    done = []
    for name in ("fsync", "fdatasync"):
        system = getattr(os, name)

        def sync(fd, system=system):
            system(fd)
            done.append((os.fstat(fd).st_ino, os.fstat(fd).st_size))

        monkeypatch.setattr(journal_module.os, name, sync)
    return done


def facts(path):
    return path.stat().st_ino, path.stat().st_size


def test_writing_and_waiting_for_the_disk_are_two_steps(tmp_path, synced):
    journal = Journal.open(tmp_path / "j", "disk")
    del synced[:]
    assert not journal.is_behind
    for name in "ab":
        journal.append(1.0, RunBorn(run_id=name))
        journal.write()
        assert journal.is_behind
    assert (len(births(tmp_path / "j")), synced) == (2, [])
    journal.sync()
    journal.sync()
    assert (synced, journal.is_behind) == ([facts(tmp_path / "j")], False)
    journal.close()


def test_what_is_written_while_the_disk_is_waited_for_is_not_taken_for_safe(tmp_path, monkeypatch):
    journal = Journal.open(tmp_path / "j", "disk")
    journal.append(1.0, RunBorn(run_id="a"))
    journal.write()

    def sync(fd):
        journal.append(1.0, RunBorn(run_id="b"))
        journal.write()

    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "fdatasync", sync)
        journal.sync()
    assert journal.is_behind
    journal.close()
    assert not journal.is_behind


def test_a_single_group_may_ask_for_the_disk_and_takes_all_before_it_along(tmp_path, synced):
    """A person's verdict is safe only if what it refers to is."""
    path = tmp_path / "j"
    journal = Journal.open(path, "process", segment_bytes=150)
    for number in range(5):
        journal.append(1.0, RunBorn(run_id=f"run-{number}"))
        journal.commit()
    assert synced == []
    journal.append(1.0, RunBorn(run_id="verdict"))
    journal.to_disk()
    journal.commit()
    files = [segment_path(path, number) for number in (1, 2, 3)]
    assert [file in synced for file in map(facts, files)] == [True, True, True]
    assert facts(tmp_path)[0] in [inode for inode, _ in synced], "their names are safe too"
    del synced[:]
    journal.append(1.0, RunBorn(run_id="more"))
    journal.commit()
    assert synced == []
    journal.close()


def test_a_full_file_is_on_disk_before_the_next_one_is_made(tmp_path, monkeypatch, synced):
    path = tmp_path / "j"
    journal = Journal.open(path, "disk", segment_bytes=1)
    journal.append(1.0, RunBorn(run_id="a"))
    journal.write()
    full = facts(path)
    opened = os.open

    def look(name, *arguments):
        if str(name).endswith(".000002") and arguments[0] & os.O_EXCL:
            assert full in synced
        return opened(name, *arguments)

    monkeypatch.setattr(journal_module.os, "open", look)
    journal.append(1.0, RunBorn(run_id="b"))
    journal.commit()
    assert segment_path(path, 2).exists()
    assert facts(tmp_path)[0] in [inode for inode, _ in synced[-2:]]
    journal.close()
