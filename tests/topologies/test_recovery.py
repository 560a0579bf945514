"""A run's journal, cut after any commit, leads back to the state the run was in: one lineage, nothing done twice."""

import hashlib
import random

import msgspec
import pytest

from epsilon_lab.broker.ledger import Deny
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import (
    BriefWritten,
    CandidateSettled,
    CompletedLine,
    FailedLine,
    LlmCall,
    RunAdopted,
    TasksAdopted,
    TasksCompleted,
    TasksExpired,
    TasksFailed,
)
from epsilon_lab.messages.tasks import Retry, TaskSpec
from epsilon_lab.messages.values import Value, pack, stored, unpack
from epsilon_lab.topologies.engine import (
    Cancel,
    Pause,
    Prioritise,
    Reprioritise,
    Resume,
    Stop,
    Tell,
    Tick,
)
from epsilon_lab.topologies.plan import Add, Finish, Requeue, Revise, Write
from epsilon_lab.topologies.recovery import beginning, recover
from epsilon_lab.topologies.search_plan import BriefEdit, SearchPlan, SearchSettings, Stage
from epsilon_lab.topologies.work_queue import WorkQueue, WorkQueuePlan
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory
from tests.topologies.rehearsal import Rehearsal, completed

SETTINGS = SearchSettings(
    population=7, generations=4, elites=1, diverse=1, fresh=1, top_k=2, patience=None, min_delta=0.0, target=None,
    wall_time_s=None, in_flight=2, seed=3,
)  # fmt: skip
STAGE = Stage(
    direction="maximize", scorers=None, evaluation_limit_s=10, seed_hash="h-seed", problem_ref="p", proposer_ref="q",
    proposer="toy", lane="process", entry="solve", brief_ref=None, alternatives={},
)  # fmt: skip


def search(**changes):
    return SearchPlan(STAGE, msgspec.structs.replace(SETTINGS, **changes))


def number(*parts):
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big")


def code_of(name):
    return f"h{number('code', name) % 12}"  # few enough that some programs are the same


def answer(task):
    """What becomes of a task, as a function of the task alone: an output, or an error."""
    payload = unpack(task.payload)
    match task.kind:
        case "propose":
            name = payload["candidate_id"]
            if number("fails", name) % 9 == 0:
                return "no code block"
            return pack(
                {"candidate_id": name, "source_ref": f"candidates/{name}.py", "code_hash": code_of(name),
                 "proposer": "toy", "prompt_ref": None, "reply_ref": None, "prompt_sha256": "x"}
            )  # fmt: skip
        case "evaluate":
            name = task.task_id.removeprefix("evaluate-")
            score = 0 if name == "seed" else number("score", code_of(name)) % 1000
            return pack({"outcome": "scored", "score": score, "checked": True})
        case "brief":
            return pack({"text": f"what {task.task_id} taught", "author": "rules", "cited": []})
        case _:
            return pack(payload * 2)


class Lab(Rehearsal):
    """One whose tasks are those of a search, and items that are doubled."""

    def answer(self, task):
        return answer(task)


def lineage(lab):
    rows = {}
    for record in lab.records:
        if record.type == "stage.candidate":
            row = msgspec.json.decode(record.body, type=CandidateSettled)
            rows[row.candidate_id] = row
    return rows


@pytest.fixture(scope="module")
def unbroken():
    lab = Lab()
    lab.start(search())
    return lab.play(random.Random(5))


def test_cut_after_any_commit_a_run_ends_as_the_unbroken_one(unbroken):
    assert len(lineage(unbroken)) > 15
    for cut in range(1, len(unbroken.groups)):
        lab = Lab(unbroken.groups[:cut], epoch=2)
        done = completed(lab.records)
        lab.resume(search())
        lab.play(random.Random(cut))
        assert lineage(lab) == lineage(unbroken), f"cut after commit {cut}"
        assert lab.ended == unbroken.ended
        assert done.isdisjoint(lab.executed), "what was completed is not executed again"
        assert len(completed(lab.records)) == len(completed(unbroken.records)), "each program is judged once"


def test_a_run_may_be_cut_again_and_again(unbroken):
    for seed in range(10):
        dice = random.Random(seed)
        lab = Lab(unbroken.groups[: dice.randrange(1, 12)], epoch=2)
        while True:
            lab.resume(search())
            lab.play(dice)
            grown = len(lab.groups)
            cut = dice.randrange(grown - 6, grown + 3)
            if cut >= grown:
                break
            lab = Lab(lab.groups[:cut], epoch=lab.epoch + 1)
        assert lineage(lab) == lineage(unbroken)
        counts = [name for r in lab.records if r.type == "task.completed" for name in completed([r])]
        assert len(counts) == len(set(counts)), "nothing was completed twice"


def test_what_was_said_is_said_again():
    edit = BriefEdit(0, "Think of symmetry.")
    lab = Lab()
    lab.start(search())
    while not any(record.type == "stage.brief" for record in lab.records):
        lab.settle([min(lab.open)])
    for stimulus in (Tell(edit), Pause(), Tell(edit)):
        lab.tell(stimulus)
    lab.settle([min(lab.open)])
    paused = list(lab.groups)
    lab.tell(Resume())
    lab.play(random.Random(1))
    briefs = [msgspec.json.decode(r.body, type=BriefWritten) for r in lab.records if r.type == "stage.brief"]
    assert sum(brief.author == "HUMAN" for brief in briefs) == 2

    again = Lab(paused, epoch=2)
    found = again.resume(search())
    assert [r.type for r in again.records[-2:]] == ["run.adopted", "run.resumed"], (
        "whoever resumes a run wants it to run"
    )
    assert found.files["briefs/g000.md"] == Write("briefs/g000.md", edit.text, "brief")
    again.play(random.Random(2))
    assert lineage(again) == lineage(lab)
    told = [msgspec.json.decode(r.body, type=BriefWritten) for r in again.records if r.type == "stage.brief"]
    assert told == briefs


def test_a_task_keeps_its_attempts_its_losses_and_its_failures():
    lab = Lab()
    lab.start(search())
    name = "evaluate-seed"
    for outcome in ("failed", "crashed", "timeout", "expired", "lost"):
        lab.assign([name])
        line = FailedLine(task_id=name, attempt=1, fence=1, outcome=outcome, error="x", then="queued")
        lab.write(TasksFailed(worker_id="s/w1", tasks=(line,)))
    lab.assign([name])
    left = recover("r", search(), lab.records).left[name]
    assert (left.attempt, left.failed, left.lost) == (6, 2, 3), "the one under way blames nobody"


def test_the_epoch_is_that_of_whoever_was_at_the_run_last():
    lab = Lab(epoch=4)
    lab.start(search())
    assert recover("r", search(), lab.records).epoch == 4
    lab.write(RunAdopted(epoch=7, pid=1, host="h"))
    lab.commit()
    assert recover("r", search(), lab.records).epoch == 7
    lab.epoch = 9
    lab.assign(["evaluate-seed"])
    assert recover("r", search(), lab.records).epoch == 9


def test_time_while_nobody_was_at_a_run_does_not_count():
    lab = Lab()
    lab.start(search(wall_time_s=50.0))
    for _ in range(3):
        lab.now += 10.0
        lab.settle([min(lab.open)])
    again = Lab(lab.groups, epoch=2)
    again.now += 10_000.0
    found = again.resume(search(wall_time_s=50.0))
    assert found.elapsed_s == 30.0
    again.now += 19.0
    again.tell(Tick())
    assert again.ended is None
    again.now += 1.0
    again.tell(Tick())
    assert "wall time of 50 s" in again.ended.reason
    lab = Lab(lab.groups, epoch=2)
    lab.now += 10_000.0
    lab.resume(search())
    lab.now += 5.0
    lab.settle([min(lab.open)])
    assert recover("r", search(), lab.records).elapsed_s == 35.0


def test_a_budget_of_seconds_that_was_used_up_stays_so():
    def paid():
        return SearchPlan(msgspec.structs.replace(STAGE, is_paid=True), SETTINGS)

    lab = Lab()
    lab.start(paid(), Budget(seconds=3.0))
    while not any(record.type == "stage.generation" for record in lab.records):
        lab.now += 0.1
        lab.settle([min(lab.open)])
    lab.now += 3.0
    lab.tell(Tick())
    assert lab.records[-1].type == "run.exhausted"
    [brief] = lab.open
    lab.settle([brief])
    assert lab.ended.reason == "the budget of 3 s was used up"
    for cut in range(len(lab.groups) - 3, len(lab.groups)):
        again = Lab(lab.groups[:cut], epoch=2)
        found = again.resume(paid())
        if again.ended is None:
            assert list(again.open) == [brief], "nothing new is begun"
            call = LlmCall(task_id="t", call=0, model="m", outcome="unknown", prompt_ref="p", prompt_sha256="x")
            assert again.exhausted == (cut > len(lab.groups) - 3)
            assert isinstance(found.ledger.admit(call), Deny) == again.exhausted
            again.now += 3.0
            again.tell(Tick())
            again.settle([brief])
        assert again.ended == lab.ended
        assert lineage(again) == lineage(lab)


def test_a_work_queue_is_made_again_from_its_tasks(tmp_path):
    tasks = tuple(
        TaskSpec(
            task_id=f"item-{i}", kind="item", lane="process", entry="code:x", payload=pack(i), retry=Retry(limit=2)
        )
        for i in range(7)
    )
    whole = Lab()
    whole.start(WorkQueuePlan(tasks))
    whole.play(random.Random(1))
    for cut in range(1, len(whole.groups)):
        lab = Lab(whole.groups[:cut], epoch=2)
        lab.resume(WorkQueue.restore(RunDirectory(tmp_path), lab.records))
        lab.play(random.Random(cut))
        assert lab.ended == whole.ended
        assert completed(lab.records) == {task.task_id for task in tasks}


def test_an_output_in_a_file_is_read_where_the_rules_read_outputs():
    lab = Lab()
    lab.start(search())
    lab.settle(["evaluate-seed"])
    [place] = [i for i, record in enumerate(lab.records) if record.type == "task.completed"]
    line = CompletedLine(
        task_id="evaluate-seed", attempt=1, fence=1, output=stored(Value("file", b"outputs/x.json")), started_at=1.0,
        ended_at=1.0,
    )  # fmt: skip
    body = msgspec.json.encode(TasksCompleted(worker_id="w", tasks=(line,)))
    records = [*lab.records]
    records[place] = msgspec.structs.replace(records[place], body=msgspec.Raw(body))
    whole = pack({"outcome": "scored", "score": 0, "checked": True})

    def taken_back(outcome):
        return msgspec.structs.replace(outcome, output=whole) if outcome.output.form == "file" else outcome

    assert recover("r", search(), records, read=taken_back).state


def test_waits_and_ages_go_on_where_they_were():
    """Off the run's own clock: the hours in which no lab was at the run are nobody's."""
    wait = TaskSpec(task_id="b", kind="item", lane="process", entry="x", payload=pack(1), delay_s=50.0)
    tasks = (TaskSpec(task_id="a", kind="item", lane="process", entry="x", payload=pack(1), retry=Retry(limit=2)), wait)
    lab = Lab()
    lab.start(WorkQueuePlan(tasks))
    lab.now += 3.0
    failed = FailedLine(task_id="a", attempt=1, fence=1, outcome="failed", error="no", then="queued", delay_s=20.0)
    lab.write(TasksFailed(worker_id="w", tasks=(failed,)))
    lab.now += 5.0
    lab.write(TasksAdopted(worker_id="v", tasks=(("a", 1, 1),)))
    lab.now += 10_000.0
    lab.write(RunAdopted(epoch=2, pid=1, host="h"))
    lab.commit()
    found = recover("r", WorkQueuePlan(tasks), lab.records).left
    assert [(left.age_s, left.delay_s, left.failed) for left in found.values()] == [(8.0, 15.0, 1), (8.0, 42.0, 0)]
    assert (found["a"].worker_id, found["a"].fence) == ("v", 1)


def test_what_expired_is_settled():
    tasks = (TaskSpec(task_id="a", kind="item", lane="process", entry="x", payload=pack(1), start_within_s=5.0),)
    lab = Lab()
    lab.start(WorkQueuePlan(tasks))
    lab.write(TasksExpired(tasks=(("a", "not begun within 5 s of its submission"),)))
    lab.commit()
    found = recover("r", WorkQueuePlan(tasks), lab.records)
    assert found.left == {}
    assert "first failure: a: not begun within 5 s" in found.state.reason


def resumed(whole, plan, room, check):
    """Cut a journal behind some of its commits, go on from there, and check how it ends."""
    for cut in random.Random(room).sample(range(1, len(whole.groups)), k=12):
        lab = Lab(whole.groups[:cut], epoch=2, room=room)
        lab.resume(plan())
        check(lab.play(random.Random(cut)))


def test_a_full_broker_holds_tasks_back_and_the_run_is_the_same(unbroken):
    for room in (1, 2, 5):
        lab = Lab(room=room)
        lab.start(search())
        lab.play(random.Random(room))
        assert lineage(lab).keys() == lineage(unbroken).keys()
        ends = []
        resumed(lab, search, room, lambda again, ends=ends: ends.append((again.ended, lineage(again))))
        assert ends == [(lab.ended, lineage(lab))] * len(ends)


def test_a_queue_in_parts_is_completed_from_any_cut(tmp_path):
    tasks = tuple(
        TaskSpec(task_id=f"item-{i}", kind="item", lane="process", entry="code:x", payload=pack(i)) for i in range(9)
    )
    lab = Lab(room=2)
    lab.start(WorkQueuePlan(tasks))
    assert len(lab.open) == 2
    lab.play(random.Random(1))

    def check(again):
        assert again.ended == lab.ended
        assert completed(again.records) == {task.task_id for task in tasks}

    for cut in range(1, len(lab.groups)):
        again = Lab(lab.groups[:cut], epoch=2, room=2)
        again.resume(WorkQueue.restore(RunDirectory(tmp_path), again.records))
        check(again.play(random.Random(cut)))


def test_what_was_not_submitted_by_the_rules_is_told():
    tasks = tuple(TaskSpec(task_id=n, kind="item", lane="process", entry="x", payload=pack(n)) for n in "abc")
    lab = Lab()
    lab.start(WorkQueuePlan(tasks))
    other = Lab()
    other.start(WorkQueuePlan((*tasks[:2], msgspec.structs.replace(tasks[2], kind="odd"))))
    with pytest.raises(LabError, match=r"its tasks.2.kind is 'odd', where they give 'item'"):
        recover("r", WorkQueuePlan(tasks), other.records)
    with pytest.raises(LabError, match="the rules give no such line there"):
        recover("r", WorkQueuePlan(tasks), [*lab.records, lab.records[-1]])


def test_what_a_person_said_of_tasks_holds_from_any_cut():
    """One raised before the broker had it, one after; one cancelled, one dead and requeued."""
    tasks = tuple(
        TaskSpec(task_id=f"item-{i}", kind="item", lane="process", entry="x", payload=pack(i)) for i in range(8)
    )
    lab = Lab(room=4)
    lab.start(WorkQueuePlan(tasks))
    lab.tell(Prioritise("item-1", 5))
    lab.tell(Prioritise("item-6", 7))
    lab.tell(Cancel(("item-0",), "no need"))
    lab.die("item-2")
    lab.tell(Tell(Requeue(("item-2", "item-3"))))
    assert "item-2" in lab.open
    found = recover("r", WorkQueuePlan(tasks), lab.records)
    assert found.left["item-1"].priority == 5
    assert Reprioritise("item-6", 7) in found.effects
    lab.play(random.Random(3))
    assert "7 of 8 items completed, 1 failed" in lab.ended.reason

    for cut in range(1, len(lab.groups)):
        again = Lab(lab.groups[:cut], epoch=2, room=4)
        again.resume(WorkQueuePlan(tasks))
        again.play(random.Random(cut))
        got = completed(again.records)
        lines = {record.type for group in lab.groups[:cut] for record in group}
        assert ("item-0" in got) == ("task.cancelled" not in lines)
        dead = any(r.type == "task.failed" for group in lab.groups[:cut] for r in group)
        assert ("item-2" in got) == (not dead or "task.requeued" in lines)
        assert {f"item-{i}" for i in (1, 3, 4, 5, 6, 7)} <= got


def test_a_run_that_was_stopped_is_made_again_and_goes_on_where_tasks_are_done_again():
    tasks = tuple(
        TaskSpec(task_id=f"item-{i}", kind="item", lane="process", entry="x", payload=pack(i)) for i in range(6)
    )
    lab = Lab(room=3)
    lab.start(WorkQueuePlan(tasks))
    lab.assign(["item-1"])
    lab.settle(["item-1"])
    lab.tell(Stop("enough"))
    assert lab.ended.status == "stopped"
    found = recover("r", WorkQueuePlan(tasks), lab.records)
    assert (found.state.status, found.state.reason) == ("stopped", "enough; 1 of 6 items were completed")
    found.tell(Revise({"item-4": ()}))
    again = Lab(lab.groups, epoch=2)
    again.resume(WorkQueuePlan(tasks))
    again.ended = None
    again.tell(Tell(Revise({"item-4": ()})))
    assert list(again.open) == ["item-4~2"]
    again.play(random.Random(1))
    assert again.ended.reason == "2 of 6 items completed, 4 failed"
    recover("r", WorkQueuePlan(tasks), again.records)


class Chain:
    """Three tasks in a row, and two beside them; what is blocked by a failure is settled with it."""

    reads_outputs = False
    runs_strangers = False
    models = ()

    def __init__(self):
        self.limits, self.seen = {}, []

    def start(self, now):
        def task(name, *depends_on):
            return TaskSpec(
                task_id=name, kind="propose", lane="process", entry="x", payload=pack({"candidate_id": name}),
                depends_on=depends_on,
            )  # fmt: skip

        return [Add((task("bad"), task("then", "bad"), task("last", "then"), task("good")))]

    def settled(self, outcome, now):
        self.seen.append(outcome.task_id)
        return [Finish("completed", " ".join(self.seen))] if len(self.seen) == 4 else []

    def tick(self, now):
        return []

    def told(self, news, now):
        return []

    def news_in(self, line):
        return None

    def stop(self, reason, now):
        return [Finish("stopped", reason)]


def test_how_many_outcomes_came_together_does_not_matter(monkeypatch):
    monkeypatch.setitem(globals(), "number", lambda *parts: int(parts != ("fails", "bad")))
    together, apart = Lab(), Lab()
    for lab in (together, apart):
        lab.start(Chain())
    together.settle(["bad", "good"])
    apart.settle(["bad"])
    apart.settle(["good"])
    assert together.ended.reason == apart.ended.reason == "bad then last good"
    cut = next(i for i, group in enumerate(together.groups) if group[0].type == "task.failed")
    again = Lab(together.groups[: cut + 1], epoch=2)
    again.resume(Chain())
    assert again.ended.reason == together.ended.reason


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_other_rules_are_told_from_the_first_line_that_differs(unbroken):
    records = unbroken.records[:-1]
    with pytest.raises(
        LabError, match=r"line 2 .*, task.submitted,.*: its tasks.0.payload.json.seed is 3, .* give 4\."
    ):
        recover("r", search(seed=4), records)


def test_a_changed_score_is_told(unbroken):
    place, record = next((i, r) for i, r in enumerate(unbroken.records) if r.type == "stage.candidate" and i > 20)
    row = msgspec.json.decode(record.body, type=CandidateSettled)
    changed = msgspec.Raw(msgspec.json.encode(msgspec.structs.replace(row, score=10_000.0)))
    records = [*unbroken.records[:-1]]
    records[place] = msgspec.structs.replace(record, body=changed)
    with pytest.raises(LabError, match=rf"line {record.seq} .*its score is 10000.0, where they give"):
        recover("r", search(), records)


def test_lines_that_say_the_same_in_other_words_are_the_same(unbroken):
    """Another version, or another encoder, may order fields differently, or leave out what is as by default."""

    def said_otherwise(record):
        fields = sorted(msgspec.json.decode(record.body).items(), reverse=True)
        return msgspec.structs.replace(record, body=msgspec.Raw(msgspec.json.encode(dict(fields))))

    records = list(map(said_otherwise, unbroken.records[:-1]))
    assert any(bytes(one.body) != bytes(other.body) for one, other in zip(records, unbroken.records, strict=False))
    assert recover("r", search(), records).effects


def test_a_line_too_many_is_told(unbroken):
    place = next(i for i, r in enumerate(unbroken.records) if r.type == "stage.generation")
    records = unbroken.records[: place + 1]
    with pytest.raises(
        LabError, match=r"stage.generation, is not what its rules make .*the rules give no such line there"
    ):
        recover("r", search(), [*records, records[-1]])
    again = next(r for r in records if r.type == "task.completed")
    with pytest.raises(LabError, match=r"task.completed, .*the rules cannot take it in \(KeyError"):
        recover("r", search(), [*records, again])


def test_what_a_newer_version_wrote_is_passed_over(unbroken):
    place = next(i for i, r in enumerate(unbroken.records) if r.type == "stage.candidate")
    records = unbroken.records[: place + 1]
    news = Record(0, 1.0, "weather.changed", msgspec.Raw(b"{}"))
    fields = msgspec.json.decode(records[-1].body) | {"mood": "good"}
    records[-1] = msgspec.structs.replace(records[-1], body=msgspec.Raw(msgspec.json.encode(fields)))
    assert recover("r", search(), [*records, news]).state.status == "running"


def test_a_run_that_never_began_or_has_ended_is_refused(unbroken):
    with pytest.raises(InvalidInput, match="nothing of it is on record"):
        beginning("r", [])
    assert beginning("r", unbroken.records[:-1]).name == "n"
    with pytest.raises(InvalidInput, match=r"run r: is completed \(all 4 generations are done\)"):
        beginning("r", unbroken.records)
    lab = Lab()
    lab.start(search())
    lab.tell(Stop("enough"))
    with pytest.raises(InvalidInput, match="is stopped"):
        beginning("r", lab.records)
