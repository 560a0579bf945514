"""Whatever is done to a journal's bytes: what was written is read, or called torn, or refused; never anything else."""

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.errors import JournalDamaged
from epsilon_lab.messages.events import LabOpened, RunBorn, RunEnded, TasksStale
from epsilon_lab.workspace.journal import Journal, read_journal
from epsilon_lab.workspace.scan import segment_path

FILES = 3


@pytest.fixture(scope="module")
def recorded():
    """The files of a journal, in order, with the byte offsets behind each of their commits, and its records."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "j"
        journal = Journal.open(path, segment_bytes=1600)
        ends = {1: [0]}
        for number in range(12):
            journal.append(
                float(number),
                *[RunBorn(run_id=f"run-{number}-{k}") for k in range(number % 3)],
                LabOpened(epoch=number, pid=7, host="höst"),
                TasksStale(worker_id="s/c1", tasks=(("t", 3),)),
                RunEnded(status="completed", reason='"}}\n{"commit":{"records":1,"crc32c":"00000000"}}\n'),
            )
            journal.commit()
            ends.setdefault(journal._segment, [0]).append(segment_path(path, journal._segment).stat().st_size)
        journal.close()
        read = read_journal(path)
        assert len(ends) == FILES
        yield [segment_path(path, number).read_bytes() for number in ends], list(ends.values()), facts(read.records)


def facts(records):
    return [(record.seq, record.ts, record.type, bytes(record.body)) for record in records]


def look(files):
    """Read these files as a journal: its facts, and the torn bytes behind them; None where it is refused."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "j"
        for number, data in enumerate(files, 1):
            segment_path(path, number).write_bytes(data)
        try:
            read = read_journal(path)
        except JournalDamaged:
            with pytest.raises(JournalDamaged, match="Restore the file from a copy") as caught:
                Journal.open(path)
            assert str(path) in caught.value.path, "it names the file"
            assert [segment_path(path, n).read_bytes() for n in range(1, len(files) + 1)] == files, "nothing changed"
            return None
        return facts(read.records), read.torn


def changed(files, number, data):
    return [data if n == number else file for n, file in enumerate(files)]


@given(data=st.data())
def test_a_changed_byte_is_refused(recorded, data):
    files, _, _ = recorded
    number = data.draw(st.integers(0, FILES - 1))
    place = data.draw(st.integers(0, len(files[number]) - 1))
    flipped = bytearray(files[number])
    flipped[place] ^= data.draw(st.integers(1, 255))
    assert look(changed(files, number, bytes(flipped))) is None


@given(data=st.data())
def test_a_cut_is_a_torn_tail_in_the_last_file_and_refused_in_others(recorded, data):
    files, ends, whole = recorded
    number = data.draw(st.integers(0, FILES - 1))
    length = data.draw(st.integers(0, len(files[number]) - 1))
    found = look(changed(files, number, files[number][:length]))
    if number < FILES - 1:
        assert found is None
        return
    kept, torn = found
    assert kept == whole[: len(kept)]
    assert torn == length - max(end for end in ends[number] if end <= length)


@given(data=st.data())
def test_groups_that_are_doubled_left_out_or_change_places_are_refused(recorded, data):
    files, ends, whole = recorded
    groups = [
        file[begin:end] for file, offsets in zip(files, ends, strict=True) for begin, end in itertools.pairwise(offsets)
    ]
    order = data.draw(st.lists(st.integers(0, len(groups) - 1), min_size=1, max_size=len(groups) + 3))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), min_size=2, max_size=2)))
    parts = [order[: cuts[0]], order[cuts[0] : cuts[1]], order[cuts[1] :]]
    found = look([b"".join(groups[n] for n in part) for part in parts])
    if order == list(range(len(order))):
        assert found is not None
        assert found[0] == whole[: len(found[0])], "a beginning, which reads like a journal that ended there"
    else:
        assert found is None


@given(data=st.data())
def test_foreign_bytes_at_the_end_are_torn_or_refused(recorded, data):
    files, _, whole = recorded
    rest = data.draw(st.binary(min_size=1, max_size=40))
    found = look([*files[:-1], files[-1] + rest])
    assert found is None or found == (whole, len(rest))


def test_a_directory_of_files_is_copied_as_it_is(recorded, tmp_path):
    files, _, whole = recorded
    for number, data in enumerate(files, 1):
        segment_path(tmp_path / "run" / "j", number).parent.mkdir(exist_ok=True)
        segment_path(tmp_path / "run" / "j", number).write_bytes(data)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert facts(read_journal(tmp_path / "copy" / "j").records) == whole
