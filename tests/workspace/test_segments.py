"""A journal of several files is read as one, in order, at any moment of its life."""

import msgspec
import pytest

from epsilon_lab.errors import JournalDamaged, WorkspaceError
from epsilon_lab.messages.events import RunBorn
from epsilon_lab.workspace.journal import Journal, Position, read_journal
from epsilon_lab.workspace.scan import START, segment_path


@pytest.fixture
def long(tmp_path):
    """A journal whose every file holds two groups: its path, and the ids in it."""
    path = tmp_path / "journal.ndjson"
    journal = Journal.open(path, segment_bytes=150)
    names = [f"run-{number}" for number in range(9)]
    for name in names:
        journal.append(1.0, RunBorn(run_id=name))
        journal.commit()
    journal.close()
    return path, names


def births(path, start=START):
    return [msgspec.json.decode(record.body, type=RunBorn).run_id for record in read_journal(path, start).records]


def test_a_full_file_is_followed_by_another_and_all_are_read_in_order(long):
    path, names = long
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "journal.ndjson", "journal.ndjson.000002", "journal.ndjson.000003", "journal.ndjson.000004",
        "journal.ndjson.000005",
    ]  # fmt: skip
    assert births(path) == names
    assert read_journal(path).end.segment == 5
    for number in range(1, 6):
        assert names[births_before(path, number) :] == births(path, place(path, number))


def births_before(path, number):
    return sum(segment_path(path, n).read_bytes().count(b"lab.run") for n in range(1, number))


def place(path, number):
    """Where a file begins."""
    return Position(number, 0, births_before(path, number) + 1)


def test_a_reader_goes_on_over_the_end_of_a_file(tmp_path):
    path = tmp_path / "j"
    journal = Journal.open(path, segment_bytes=150)
    end, seen = START, []
    for number in range(9):
        journal.append(1.0, RunBorn(run_id=f"run-{number}"))
        journal.commit()
        seen += births(path, end)
        end = read_journal(path, end).end
    journal.close()
    assert seen == [f"run-{number}" for number in range(9)]
    assert end.segment == 5


def test_a_writer_goes_on_where_the_last_one_stopped_whatever_the_size_of_files_was(long):
    path, names = long
    for size in (100, 10_000, 1):
        journal = Journal.open(path, segment_bytes=size)
        journal.append(1.0, RunBorn(run_id=f"with-{size}"))
        journal.close()
        names.append(f"with-{size}")
    assert births(path) == names


def test_a_crash_at_any_step_of_the_change_of_files_leaves_what_was_committed(tmp_path):
    """The full file is complete before the next is made, which is empty at first, and then has a torn tail."""
    path = tmp_path / "j"
    journal = Journal.open(path, segment_bytes=1)
    for name in "ab":
        journal.append(1.0, RunBorn(run_id=name))
        journal.commit()
    journal.close()
    second = segment_path(path, 2)
    whole = second.read_bytes()
    for length in (None, *range(len(whole) + 1)):
        second.unlink()
        segment_path(path, 3).unlink(missing_ok=True)
        if length is not None:
            second.write_bytes(whole[:length])
        kept = ["a", "b"] if length == len(whole) else ["a"]
        assert births(path) == kept
        after = Journal.open(path, segment_bytes=1)
        assert after.torn == (0 if length in (None, len(whole)) else length)
        after.append(1.0, RunBorn(run_id="next"))
        after.close()
        assert births(path) == [*kept, "next"]


def test_a_file_that_has_a_successor_is_strict(long):
    path, _ = long
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        for look in (read_journal, Journal.open):
            with pytest.raises(JournalDamaged, match=r"journal goes on|stands where"):
                look(path)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_missing_file_is_named(long, number):
    path, _ = long
    segment_path(path, number).unlink()
    for look in (read_journal, Journal.open):
        with pytest.raises(JournalDamaged, match="this file is missing") as caught:
            look(path)
        assert caught.value.path == str(segment_path(path, number))


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 3), (4, 2)])
def test_files_that_change_places_are_damage(long, one, other):
    path, _ = long
    one, other = segment_path(path, one), segment_path(path, other)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    with pytest.raises(JournalDamaged, match="stands where"):  # the same twice
        read_journal(path)
    other.write_bytes(kept)
    with pytest.raises(JournalDamaged, match="stands where"):
        read_journal(path)


def test_a_copy_of_a_run_at_work_reads_as_the_run_did_at_some_moment(tmp_path):
    """Like `cp -r`: the names are listed first, then each file is read, while the writer goes on."""
    path, copy = tmp_path / "run" / "j", tmp_path / "copy" / "j"
    path.parent.mkdir()
    copy.parent.mkdir()
    journal = Journal.open(path, segment_bytes=150)
    written = []

    def write():
        written.append(f"run-{len(written)}")
        journal.append(1.0, RunBorn(run_id=written[-1]))
        journal.commit()

    for _ in range(5):
        write()
    listed = sorted(path.parent.iterdir(), reverse=True)
    before = list(written)
    for file in listed:
        for _ in range(3):
            write()
        (copy.parent / file.name).write_bytes(file.read_bytes())
    journal.close()
    kept = births(copy)
    assert kept == written[: len(kept)]
    assert len(kept) >= len(before)
    Journal.open(copy).close()


def test_a_failed_change_of_files_loses_nothing_and_is_made_up_for(tmp_path):
    journal = Journal.open(tmp_path / "j", segment_bytes=1)
    journal.append(1.0, RunBorn(run_id="a"))
    journal.commit()
    blocker = segment_path(tmp_path / "j", 2)
    blocker.mkdir()
    journal.append(1.0, RunBorn(run_id="lost"))
    with pytest.raises(WorkspaceError, match="1 records were not recorded"):
        journal.commit()
    blocker.rmdir()
    journal.append(1.0, RunBorn(run_id="b"))
    journal.close()
    assert births(tmp_path / "j") == ["a", "b"]


def test_no_second_look_where_the_journal_was_read_a_moment_ago(long, monkeypatch):
    path, names = long
    read = read_journal(path)
    path.write_bytes(b"not looked at")
    journal = Journal.open(path, after=read.end)
    assert journal.seq == len(names) + 1
    journal.close()
