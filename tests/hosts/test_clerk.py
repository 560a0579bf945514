"""The clerk: a thousand cases of a run that nobody is at, on disk one by one, whatever happens in between."""

import os
import random

import pytest

from epsilon_lab.cases.book import CaseBook
from epsilon_lab.clock import SystemClock
from epsilon_lab.errors import InvalidInput, JournalDamaged, WorkspaceError
from epsilon_lab.hosts.clerk import Clerk
from epsilon_lab.messages.cases import Decide, speaking
from epsilon_lab.messages.deciders import Decider
from epsilon_lab.messages.events import CaseFlagged, RunEnded, RunStarted
from epsilon_lab.messages.tasks import Event
from epsilon_lab.workspace.journal import Journal, read_journal
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.tables import Tables

OPTIONS = ("yes", "no", "unsure")


def case(number):
    return CaseFlagged(
        case_id=f"c-{number:04d}", kind="ask", question=f"{number}?", options=OPTIONS, key=str(number), task_id="t",
        flagged_by="ask", evidence={"number": number},
    )  # fmt: skip


def write(workspace, run_id, cases=3):
    (workspace / run_id).mkdir(parents=True)
    run = RunDirectory(workspace / run_id)
    journal = Journal.open(run.journal)
    journal.append(1.0, RunStarted(run_id=run_id, topology="work_queue", name=run_id), *map(case, range(cases)))
    journal.append(2.0, RunEnded(status="completed", reason="done"))
    journal.close()
    return run


def no_panel(*_):
    raise AssertionError("nobody looks here")


class Desk:
    """A clerk, and the case book of one run, which can be left and come back to."""

    def __init__(self, run):
        self.run = run
        self.open()

    def open(self):
        self.clerk = Clerk(SystemClock())
        self.tables = Tables(self.run.path.parent, live_run_ids=tuple)
        self.book = CaseBook(self.run.run_id, self.tables, self.tell, lambda _: True, no_panel)

    def tell(self, news):
        self.clerk.obey(self.run, news)

    def close(self):
        self.clerk.close()
        self.tables.close()


@pytest.fixture
def desk(tmp_path):
    desk = Desk(write(tmp_path / "runs", "line"))
    yield desk
    desk.close()


def test_a_thousand_cases_decided_and_undone_in_random_order_equal_the_model(tmp_path):
    dice = random.Random(17)
    desk = Desk(write(tmp_path / "runs", "line", cases=1_000))
    lines, authority = {}, ("HUMAN", "CODE", "LLM")
    for act in range(300):
        name = f"c-{dice.choice((dice.randrange(1_000), dice.randrange(30))):04d}"
        mine = lines.setdefault(name, [])
        last = speaking(mine, authority)
        match dice.choice(("decide", "decide", "force", "undo", "rank" if act % 10 == 0 else "decide")):
            case "rank":
                authority = tuple(dice.sample(authority, 3))
                desk.book.rank(*authority)
            case "undo" if last is None:
                with pytest.raises(InvalidInput, match="no verdict to take back"):
                    desk.book.undo(name)
            case "undo":
                mine.append(desk.book.undo(name, decider="bo").verdicts[-1])
                assert (mine[-1].retracted, mine[-1].supersedes, mine[-1].decider) == (True, last.number, "bo")
            case how:
                decider = Decider("x", dice.choice(authority))
                verdict = dice.choice(OPTIONS)
                if last is not None and how != "force":
                    with pytest.raises(InvalidInput, match="is decided"):
                        desk.book.decide(name, verdict, decider=decider)
                    continue
                mine.append(desk.book.decide(name, verdict, decider=decider, force=True, note="n").verdicts[-1])
                assert (mine[-1].verdict, mine[-1].decider_kind) == (verdict, decider.kind)
        if act % 60 == 59:
            desk.close()
            desk.open()
    expected = {name: last.verdict for name, mine in sorted(lines.items()) if (last := speaking(mine, authority))}
    assert desk.book.verdicts() == expected
    frame = desk.book.frame("status = 'decided'", order="case_id")
    assert dict(zip(frame["case_id"], frame["verdict"], strict=True)) == expected
    assert {name: list(desk.book[name].verdicts) for name in lines} == lines
    assert len(desk.book.open) == 1_000 - len(expected)
    desk.close()


def test_a_verdict_is_on_disk_before_it_is_answered(desk, monkeypatch):
    desk.book.decide("c-0000", "yes")
    on_disk = []
    fdatasync = os.fdatasync
    monkeypatch.setattr(
        os, "fdatasync", lambda handle: (on_disk.append(desk.run.journal.read_bytes()), fdatasync(handle))
    )
    desk.book.decide("c-0001", "no")
    assert b'"case_id":"c-0001","number":1,"verdict":"no"' in on_disk[-1]


def test_a_click_reads_one_case_and_asks_no_query(desk, monkeypatch):
    desk.book.decide("c-0000", "yes")
    monkeypatch.setattr(Tables, "_answer", lambda *_, **__: pytest.fail("a query"))
    decided = desk.book.decide("c-0001", "no", note="clear")
    assert (decided.verdict, decided.evidence, decided.speaks.note) == ("no", {"number": 1}, "clear")
    assert desk.book["c-0002"].status == "open"
    assert desk.book.undo("c-0001").status == "open"


def test_a_torn_tail_is_cut_and_said(desk):
    desk.book.decide("c-0000", "yes")
    desk.close()
    whole = desk.run.journal.read_bytes()
    desk.run.journal.write_bytes(whole + b'{"seq":9')
    desk.open()
    with pytest.warns(RuntimeWarning, match="the last 8 bytes"):
        desk.book.decide("c-0001", "no")
    assert desk.book.verdicts() == {"c-0000": "yes", "c-0001": "no"}
    assert read_journal(desk.run.journal).torn == 0


def test_a_verdict_that_cannot_be_written_is_none_and_the_next_one_may_be(desk, monkeypatch):
    desk.book.decide("c-0000", "yes")

    def full(handle, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(WorkspaceError, match="No space left"):
            desk.book.decide("c-0001", "no")
    assert desk.book["c-0001"].status == "open"
    assert desk.book.decide("c-0001", "yes").verdicts[0].number == 1


def test_a_damaged_journal_and_a_run_that_is_not_there_are_refused(desk, tmp_path):
    data = desk.run.journal.read_bytes()
    desk.run.journal.write_bytes(data.replace(b"c-0001", b"c-0009"))
    with pytest.raises(JournalDamaged):
        desk.book.decide("c-0000", "yes")
    (tmp_path / "runs" / "other").mkdir()
    for _ in range(2):
        with pytest.raises(InvalidInput, match="run other: has no journal here"):
            desk.clerk.obey(RunDirectory(tmp_path / "runs" / "other"), None)


def test_few_books_stay_open_and_none_is_opened_once_it_is_closed(desk, tmp_path):
    runs = [write(tmp_path / "runs", f"run-{number}") for number in range(6)]
    for run in [*runs, *runs]:
        desk.run = run
        CaseBook(run.run_id, desk.tables, desk.tell, lambda _: True, no_panel).decide("c-0000", "yes", force=True)
    handles = (f"/proc/self/fd/{handle}" for handle in os.listdir("/proc/self/fd"))
    held = [os.readlink(handle) for handle in handles if os.path.exists(handle)]
    assert sum(path.startswith(str(tmp_path)) for path in held) == 4
    desk.clerk.close("someone else has the workspace")
    with pytest.raises(WorkspaceError, match="someone else has the workspace"):
        desk.book.decide("c-0000", "yes")


def test_a_line_that_does_not_read_is_told_with_its_place_and_nothing_is_decided(desk):
    journal = Journal.open(desk.run.journal, after=read_journal(desk.run.journal).end)
    journal.append(3.0, Event("verdict.given", {"case_id": "c-0001", "verdict": ["yes", "no"]}))
    journal.close()
    size = desk.run.journal.stat().st_size
    with pytest.raises(WorkspaceError, match=r"line 6 of .*verdict\.given.* does not read: .*Try a newer epsilon_lab"):
        desk.tell(Decide(case_id="c-0001", verdict="yes", decider=Decider("ann")))
    assert desk.run.journal.stat().st_size == size
