"""A fold: the same rows however the journal is cut, and no memory of what is settled."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.messages.call import Feedback
from epsilon_lab.messages.events import (
    TYPES,
    Body,
    CandidateSettled,
    CaseFlagged,
    CasesAsked,
    CaseUnsure,
    CaseWithdrawn,
    CompletedLine,
    FailedLine,
    LabClosed,
    LabOpened,
    RunAdopted,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    TaskLine,
    TasksAssigned,
    TasksCancelled,
    TasksCompleted,
    TasksFailed,
    TasksReleased,
    TasksRevised,
    TasksStale,
    TasksSubmitted,
    TasksWaiting,
    VerdictGiven,
    WorkerJoined,
    WorkerLeft,
)
from epsilon_lab.messages.values import StoredValue
from epsilon_lab.workspace.fold import Fold, Row
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.schema import TABLES

NAMES = st.sampled_from(["a", "b", "c"])
FENCES = st.integers(1, 4)
OUTPUT = StoredValue(json=msgspec.Raw(b"1"))


def line(task_id: str) -> TaskLine:
    return TaskLine(task_id=task_id, kind="item", lane="process", entry="code:0", payload=OUTPUT)


BODIES = st.one_of(
    st.builds(lambda n: TasksSubmitted(tasks=(line(n),)), NAMES),
    st.builds(lambda n: TasksWaiting(tasks=(line(n),)), NAMES),
    st.builds(lambda n, f: TasksAssigned(worker_id="w", tasks=((n, 1, f),)), NAMES, FENCES),
    st.builds(
        lambda n, f: TasksCompleted(
            worker_id="w",
            tasks=(CompletedLine(task_id=n, attempt=1, fence=f, output=OUTPUT, started_at=1.0, ended_at=2.0),),
        ),
        NAMES,
        FENCES,
    ),
    st.builds(
        lambda n, f, o, then: TasksFailed(
            worker_id="w", tasks=(FailedLine(task_id=n, attempt=1, fence=f, outcome=o, error="E", then=then),)
        ),
        NAMES,
        FENCES,
        st.sampled_from(["failed", "lost", "expired"]),
        st.sampled_from(["queued", "failed", "dead"]),
    ),
    st.builds(lambda n, f: TasksReleased(worker_id="w", reason="gone", tasks=((n, 1, f),)), NAMES, FENCES),
    st.builds(lambda n, f: TasksStale(worker_id="w", tasks=((n, f),)), NAMES, FENCES),
    st.builds(lambda n: TasksCancelled(task_ids=(n,), reason="stop"), NAMES),
    st.builds(
        lambda n, s: CandidateSettled(candidate_id=n, generation=0, strategy="fresh", score=s), NAMES, st.floats()
    ),
    st.builds(lambda n: CaseFlagged(case_id=n, kind="gate", question="Good?", options=("pass", "reject")), NAMES),
    st.builds(lambda n: CaseWithdrawn(case_id=n, reason="done again"), NAMES),
    st.builds(
        lambda n, k: VerdictGiven(case_id=n, number=k, verdict="pass", decider_kind="HUMAN", decider="ann"),
        NAMES,
        st.integers(1, 2),
    ),
    st.just(RunStarted(run_id="r", topology="t", name="n")),
    st.just(RunPaused()),
    st.just(RunAdopted(epoch=2, pid=1, host="h")),
    st.just(RunResumed()),
    st.just(RunEnded(status="completed", reason="done")),
    st.builds(lambda n: WorkerJoined(worker_id=n, pid=1, host="h", slots=1), NAMES),
    st.builds(lambda n: WorkerLeft(worker_id=n, reason="bye"), NAMES),
    st.just(LabOpened(epoch=1, pid=1, host="h")),
    st.just(LabClosed()),
)


def records(bodies: list[Body]) -> list[Record]:
    return [
        Record(seq, float(seq), TYPES[type(body)], msgspec.Raw(msgspec.json.encode(body)))
        for seq, body in enumerate(bodies, 1)
    ]


def drained(fold: Fold, into: dict[str, dict[object, Row]]) -> None:
    for table, described in TABLES.items():
        for row in fold.drain(table):
            key = tuple(row[column] for column in described.key) or len(into[table])
            into[table][key] = dict(row)


@given(st.lists(BODIES, max_size=30), st.data())
def test_any_way_of_cutting_a_journal_gives_the_same_rows(bodies: list[Body], data: st.DataObject) -> None:
    lines = records(bodies)
    whole: dict[str, dict[object, Row]] = {table: {} for table in TABLES}
    at_once = Fold("r")
    for record in lines:
        at_once.take(record)
    drained(at_once, whole)
    pieces: dict[str, dict[object, Row]] = {table: {} for table in TABLES}
    bit_by_bit = Fold("r")
    for record in lines:
        bit_by_bit.take(record)
        if data.draw(st.booleans()):
            drained(bit_by_bit, pieces)
    drained(bit_by_bit, pieces)
    assert pieces == whole


@given(st.lists(BODIES, max_size=30))
def test_every_row_has_the_columns_of_its_table(bodies: list[Body]) -> None:
    fold = Fold("r")
    for record in records(bodies):
        fold.take(record)
    for table, described in TABLES.items():
        for row in fold.drain(table):
            assert list(row) == list(described.columns)


def test_an_answer_that_comes_after_its_lease_is_a_stale_attempt_and_changes_no_task() -> None:
    fold = Fold("r")
    expired = FailedLine(task_id="a", attempt=1, fence=1, outcome="expired", error="silent", then="queued")
    for record in records(
        [
            TasksSubmitted(tasks=(line("a"),)),
            TasksAssigned(worker_id="w", tasks=(("a", 1, 1),)),
            TasksFailed(worker_id="w", tasks=(expired,)),
            TasksStale(worker_id="w", tasks=(("a", 1),)),
        ]
    ):
        fold.take(record)
    assert [row["outcome"] for row in fold.drain("attempts")] == ["stale"]
    assert [row["status"] for row in fold.drain("tasks")] == ["queued"]


def test_nothing_of_a_run_outlives_its_end() -> None:
    fold = Fold("r")
    for record in records(
        [
            RunStarted(run_id="r", topology="t", name="n"),
            TasksWaiting(tasks=(line("w"),)),
            TasksSubmitted(tasks=(line("q"), line("a"))),
            TasksAssigned(worker_id="w", tasks=(("a", 1, 1),)),
            RunEnded(status="cancelled", reason="stopped"),
        ]
    ):
        fold.take(record)
    tasks = {row["task_id"]: (row["status"], row["finished_at"], row["error"]) for row in fold.drain("tasks")}
    assert tasks == dict.fromkeys(["w", "q", "a"], ("cancelled", 5.0, "its run ended"))
    assert [(row["outcome"], row["ended_at"]) for row in fold.drain("attempts")] == [("cancelled", 5.0)]


def test_open_attempts_of_an_interrupted_run_are_lost_until_a_lab_is_back_at_it() -> None:
    fold = Fold("r")
    for record in records(
        [
            RunStarted(run_id="r", topology="t", name="n"),
            TasksSubmitted(tasks=(line("a"),)),
            TasksAssigned(worker_id="w", tasks=(("a", 1, 1),)),
        ]
    ):
        fold.take(record)
    fold.watched(live=False)
    assert [(row["outcome"], row["ended_at"]) for row in fold.drain("attempts")] == [("lost", None)]
    assert [(row["status"], row["worker_id"]) for row in fold.drain("tasks")] == [("queued", None)]
    fold.watched(live=True)
    assert [row["outcome"] for row in fold.drain("attempts")] == [None]
    assert [(row["status"], row["worker_id"]) for row in fold.drain("tasks")] == [("running", "w")]
    fold.watched(live=False)
    done = CompletedLine(task_id="a", attempt=1, fence=1, output=OUTPUT, started_at=1.0, ended_at=2.0)
    for record in records([TasksCompleted(worker_id="w", tasks=(done,))]):
        fold.take(record)
    assert [row["outcome"] for row in fold.drain("attempts")] == ["completed"]


def test_a_lab_that_adopts_a_run_begins_its_open_tasks_anew() -> None:
    fold = Fold("r")
    first = records(
        [
            RunStarted(run_id="r", topology="t", name="n"),
            TasksSubmitted(tasks=(line("a"), line("b"))),
            TasksAssigned(worker_id="w", tasks=(("a", 1, 1),)),
        ]
    )
    for record in first:
        fold.take(record)
    fold.watched(live=False)
    for record in records([*[RunPaused()] * len(first), RunAdopted(epoch=2, pid=1, host="h")])[len(first) :]:
        fold.take(record)
    fold.watched(live=True)
    assert [(row["status"], row["reason"]) for row in fold.drain("runs")] == [("running", None)]
    assert [(row["outcome"], row["error"]) for row in fold.drain("attempts")] == [
        ("lost", "its lab ended without ending it")
    ]
    assert {(row["task_id"], row["status"], row["worker_id"]) for row in fold.drain("tasks")} == {
        ("a", "queued", None),
        ("b", "queued", None),
    }


def test_a_lab_that_came_and_went_unseen_leaves_nothing_running() -> None:
    fold = Fold("r")
    begun = records([RunStarted(run_id="r", topology="t", name="n"), TasksSubmitted(tasks=(line("a"),))])
    for record in begun:
        fold.take(record)
    fold.watched(live=False)
    assigned = TasksAssigned(worker_id="w", tasks=(("a", 1, 1),))
    for record in records([*[RunPaused()] * len(begun), RunAdopted(epoch=2, pid=1, host="h"), assigned])[len(begun) :]:
        fold.take(record)
    fold.watched(live=False)
    assert [row["status"] for row in fold.drain("runs")] == ["interrupted"]
    assert [row["status"] for row in fold.drain("tasks")] == ["queued"]
    assert [row["outcome"] for row in fold.drain("attempts")] == ["lost"]


def test_settled_work_leaves_memory() -> None:
    fold = Fold("r")
    for i in range(50):
        done = CompletedLine(task_id=f"t{i}", attempt=1, fence=i, output=OUTPUT, started_at=1.0, ended_at=2.0)
        for record in records(
            [
                TasksSubmitted(tasks=(line(f"t{i}"),)),
                TasksAssigned(worker_id="w", tasks=((f"t{i}", 1, i),)),
                TasksCompleted(worker_id="w", tasks=(done,)),
            ]
        ):
            fold.take(record)
    assert not fold._tasks
    assert not fold._attempts


def test_a_revision_is_a_row_of_its_own_and_takes_an_ended_run_up_again() -> None:
    fold = Fold("r")
    begun = [RunStarted(run_id="r", topology="t", name="n"), TasksSubmitted(tasks=(line("a"),))]
    over = [RunEnded(status="completed", reason="all")]
    again = TasksRevised(feedback={"a": (Feedback("rerun", "better"),)})
    for record in records([*begun, *over, again, TasksSubmitted(tasks=(line("a~2"),))]):
        fold.take(record)
    assert [(row["status"], row["reason"], row["ended_at"]) for row in fold.drain("runs")] == [("running", None, None)]
    assert [(row["task_id"], row["status"]) for row in fold.drain("tasks")] == [("a", "cancelled"), ("a~2", "queued")]


def test_workers_leave_with_their_lab() -> None:
    fold = Fold(None)
    for record in records(
        [
            LabOpened(epoch=1, pid=1, host="h"),
            WorkerJoined(worker_id="s/1", pid=2, host="h", slots=1),
            LabOpened(epoch=2, pid=3, host="h"),
        ]
    ):
        fold.take(record)
    (worker,) = fold.drain("workers")
    assert (worker["left_at"], worker["reason"]) == (3.0, "its lab ended")


def test_who_asks_a_case_again_is_said_in_its_row_and_how_it_was_put_last():
    fold = Fold("r")
    flag = CaseFlagged(case_id="c", kind="k", question="?", options=("a", "b"), task_id="t")
    verdict = VerdictGiven(case_id="c", number=1, verdict="a", decider_kind="HUMAN", decider="ann")
    other = CaseFlagged(
        case_id="c", kind="l", question="Really?", options=("b", "c"), task_id="u", evidence=[1], reason="so", score=0.5
    )
    asked = CasesAsked(task_id="t~2", told={"c": None, "unknown": "a"})
    for record in records([flag, asked, verdict, other]):
        fold.take(record)
    [row] = fold.drain("cases")
    assert (row["case_id"], row["tasks"], row["place"], row["status"]) == ("c", ["t", "t~2", "u"], 0, "decided")
    assert (row["kind"], row["question"], bytes(row["evidence"]), row["reason"]) == ("l", "Really?", b"[1]", "so")
    assert (row["score"], row["options"], row["verdict"]) == (0.5, ("b", "c", "a"), "a")


def test_who_is_unsure_stands_in_the_cases_row_and_is_no_verdict():
    fold = Fold("r")
    flag = CaseFlagged(case_id="c", kind="k", question="?", options=("a", "b"), task_id="t")
    said = [CaseUnsure(case_id="c", decider_kind="HUMAN", decider=who, note=note) for who, note in ("ax", "by", "az")]
    for record in records([flag, *said, CaseUnsure(case_id="gone", decider_kind="HUMAN", decider="a")]):
        fold.take(record)
    assert [(row["status"], row["unsure"]) for row in fold.drain("cases")] == [("open", {"a": "z", "b": "y"})]
    assert not fold.drain("verdicts")


def test_a_case_is_open_until_it_is_decided_or_withdrawn():
    flagged = [CaseFlagged(case_id=n, kind="gate", question="Good?", options=("pass", "no")) for n in "abc"]
    fold = Fold("r")
    verdict = VerdictGiven(case_id="a", number=1, verdict="pass", decider_kind="HUMAN", decider="ann", note="fine")
    for seq, body in enumerate([*flagged, verdict, CaseWithdrawn(case_id="b", reason="done again")]):
        fold.take(Record(seq, float(seq), TYPES[type(body)], msgspec.Raw(msgspec.json.encode(body))))
    assert {row["case_id"]: row["status"] for row in fold.drain("cases")} == {
        "a": "decided",
        "b": "withdrawn",
        "c": "open",
    }
    [given] = fold.drain("verdicts")
    assert (given["verdict"], given["decider"], given["note"], given["number"]) == ("pass", "ann", "fine", 1)
