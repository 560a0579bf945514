"""Nodes with quorums, conditions and bound outputs, done again with reasons: the same from any cut of the journal."""

import hashlib
import random
from typing import ClassVar

import msgspec
import pytest

from epsilon_lab import ids
from epsilon_lab.agents.work import work_of
from epsilon_lab.errors import LabError
from epsilon_lab.messages.call import CALL, Call, Feedback, call_of
from epsilon_lab.messages.events import TasksCancelled, TasksRevised
from epsilon_lab.messages.tasks import TaskSpec
from epsilon_lab.messages.values import Value, as_json, pack, restored
from epsilon_lab.settings import INLINE_LIMIT
from epsilon_lab.topologies.engine import Cancel, Tell
from epsilon_lab.topologies.files import check_files, mend_files
from epsilon_lab.topologies.plan import Add, Condition, Emit, Finish, Node, Plan, Revise, Write
from epsilon_lab.topologies.recovery import Recovered, beginning, recover
from epsilon_lab.topologies.revision import revise
from epsilon_lab.topologies.search_plan import SearchPlan
from epsilon_lab.topologies.work_queue import WorkQueue, WorkQueuePlan
from epsilon_lab.workspace.layout import RunDirectory
from tests.topologies.rehearsal import Rehearsal, completed


def digest(*parts):
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


class Lab(Rehearsal):
    """Nodes answer with what they were given; some fail, some say no, one gives more than a journal holds."""

    def answer(self, task):
        payload = task.payload
        if payload.form == "file":
            payload = Value("json", self.files[payload.data.decode()].encode())
        call = call_of(payload)
        given = [(name, bytes(restored(value).data)) for name, value in call.inputs]
        if int(digest("fails", task.task_id), 16) % 5 == 0:
            return f"{task.task_id} failed"
        fill = "x" * INLINE_LIMIT if task.task_id == "n02" else ""
        seen = digest(given, sorted(call.failed.items()), call.feedback)
        return as_json({"is": int(seen, 16) % 3 > 0, "seen": seen, "fill": fill})


class Waves(Plan):
    """A graph of nodes, all at once; when all are settled some are revised, twice, and what is behind them."""

    limits: ClassVar = {"node": 3}

    def __init__(self, seed):
        dice = random.Random(seed)
        self._nodes = {}
        for i in range(12):
            behind = tuple(f"n{j:02d}" for j in sorted(dice.sample(range(i), k=min(i, dice.randint(0, 4)))))
            when = tuple(Condition(name, ("is",)) for name in behind if dice.random() < 0.2)
            self._nodes[f"n{i:02d}"] = Node(
                task=TaskSpec(
                    task_id=f"n{i:02d}", kind=dice.choice(("node", "free")), lane="process", entry=CALL,
                    payload=as_json(Call(code="x", form="inputs")), depends_on=behind, priority=dice.randint(0, 2),
                ),
                binds=True, when=when, quorum=dice.choice((None, 0.0, 0.5)),
            )  # fmt: skip
        self._latest = dict.fromkeys(self._nodes, 1)
        self._open, self._ends, self._waves = set(self._nodes), {}, 0

    def start(self, now):
        return [Add(tuple(self._nodes.values()))]

    def settled(self, outcome, now):
        self._open.discard(outcome.task_id)
        self._ends[outcome.task_id] = outcome.status
        if self._open:
            return []
        if self._waves < 2:
            self._waves += 1
            return self._revise({"n03": (Feedback("qa", f"wave {self._waves}"),), "n07": ()})
        return [Finish("completed", digest(sorted(self._ends.items())))]

    def told(self, news, now):
        return self._revise(dict(news.feedback)) if isinstance(news, Revise) and not self._open else []

    def _revise(self, feedback):
        for name, node in self._nodes.items():
            if any(other in feedback for other in node.task.depends_on):
                feedback.setdefault(name, ())
        again = []
        for name, why in sorted(feedback.items()):
            self._latest[name] += 1
            node = self._nodes[name]
            task = revise(node.task, self._latest[name], why)

            def now_called(other):
                return ids.revised(other, self._latest[other])

            task = msgspec.structs.replace(task, depends_on=tuple(map(now_called, task.depends_on)))
            when = tuple(msgspec.structs.replace(each, task_id=now_called(each.task_id)) for each in node.when)
            again.append(msgspec.structs.replace(node, task=task, when=when))
        self._open = {node.task.task_id for node in again}
        return [Emit(TasksRevised(feedback=feedback)), Add(tuple(again))]


def types(lab):
    return [record.type for record in lab.records]


@pytest.mark.parametrize("seed", range(4))
def test_cut_between_any_two_lines_nodes_come_to_the_same_end(seed):
    """Each line is a group here, which is worse than any crash: a turn of the lab is one group."""
    whole = Lab(room=3)
    whole.start(Waves(seed))
    whole.play(random.Random(seed))
    assert types(whole).count("task.revised") == 2
    assert "task.cancelled" in types(whole)
    for cut in range(1, len(whole.records)):
        lab = Lab([[record] for record in whole.records[:cut]], epoch=2, room=3)
        done = completed(lab.records)
        lab.resume(Waves(seed))
        lab.play(random.Random(cut))
        assert lab.ended == whole.ended, f"cut after line {cut}"
        assert done.isdisjoint(lab.executed)


def test_some_payload_was_too_large_for_the_journal_and_is_written_again():
    seed = next(seed for seed in range(50) if "inputs/" in " ".join(played(seed).files))
    whole = played(seed)
    for cut in range(1, len(whole.records)):
        found = recover("r", Waves(seed), whole.records[:cut])
        opened = [left.spec.payload for left in found.left.values() if left.spec.payload.form == "file"]
        assert all(found.files[payload.data.decode()].text for payload in opened), "what is to be read can be mended"


def test_a_bound_input_that_was_lost_is_written_again_and_a_given_one_is_missed(tmp_path):
    run = RunDirectory(tmp_path)
    found = Recovered.new("r", queue())
    found.files["inputs/a.json"] = Write("inputs/a.json", "{}", "input")
    found.artifacts["inputs/a.json"] = (3, run.save("inputs/a.json", "{}", kind="input"))
    run.locate("inputs/a.json").unlink()
    check_files(run, found)
    mend_files(run, found)
    assert run.read_text("inputs/a.json") == "{}"
    found.artifacts["inputs/b.json"] = (4, run.save("inputs/b.json", "{}", kind="input"))
    run.locate("inputs/b.json").unlink()
    with pytest.raises(LabError, match=r"its file inputs/b\.json cannot be read"):
        check_files(run, found)


def played(seed):
    lab = Lab()
    lab.start(Waves(seed))
    return lab.play(random.Random(0))


def test_what_a_person_wants_done_again_is_done_after_the_end_from_any_cut():
    whole = Lab()
    whole.start(Waves(2))
    whole.play(random.Random(1))
    first, over = whole.ended, len(whole.groups)
    whole.ended = None
    whole.tell(Tell(Revise({"n00": (Feedback("person", "mind the gap"),)})))
    assert whole.state.status == "running"
    assert beginning("r", whole.records).name == "n", "it can be resumed again"
    whole.play(random.Random(2))
    assert (types(whole).count("run.ended"), types(whole).count("task.revised")) == (2, 3)
    assert whole.ended != first
    for cut in range(over + 1, len(whole.groups)):
        lab = Lab(whole.groups[:cut], epoch=2)
        done = completed(lab.records)
        lab.resume(Waves(2))
        lab.play(random.Random(cut))
        assert lab.ended == whole.ended, f"cut after group {cut}"
        assert done.isdisjoint(lab.executed)


def test_a_run_that_was_over_is_taken_up_by_the_next_lab():
    whole = Lab()
    whole.start(Waves(2))
    whole.play(random.Random(1))
    found = recover("r", Waves(2), whole.records)
    found.tell(Revise({"n00": ()}))
    [line] = [effect.body for effect in found.effects if isinstance(effect, Emit) and "n00" in str(effect)][:1]
    assert "n00" in line.feedback
    assert not found.state.ended


def test_rules_that_do_nothing_again_say_so():
    from tests.topologies.test_recovery import SETTINGS, STAGE

    found = recover("r", SearchPlan(STAGE, SETTINGS), [])
    with pytest.raises(LabError, match="run r does not do evaluate-seed again: its topology has no revisions"):
        found.tell(Revise({"evaluate-seed": ()}))


# -- a work queue ------------------------------------------------------------------------------------------------------


class Queue(Rehearsal):
    def answer(self, task):
        return "no" if task.task_id == "item-1~2" else pack(task.task_id)


def queue(entry="code:x"):
    return WorkQueuePlan(
        tuple(
            TaskSpec(task_id=f"item-{i}", kind="item", lane="process", entry=entry, payload=pack(i)) for i in range(4)
        )
    )


def test_items_done_again_count_once_from_any_cut(tmp_path):
    whole = Queue()
    whole.start(queue())
    whole.settle(["item-0", "item-1"])
    whole.tell(Tell(Revise({"item-0": (), "item-1": (Feedback("rerun", "better"),), "item-2": (), "nobody": ()})))
    assert set(whole.open) == {"item-0~2", "item-1~2", "item-2", "item-3"}, "what is at work is left alone"
    whole.tell(Cancel(("item-3",), "no need"))
    whole.play(random.Random(1))
    assert whole.ended.reason == "2 of 4 items completed, 2 failed"
    whole.ended = None
    whole.tell(Tell(Revise({"item-1": (), "item-3": ()})))
    assert set(whole.open) == {"item-1~3", "item-3~2"}
    whole.play(random.Random(2))
    assert whole.ended.reason == "4 of 4 items completed"
    for cut in range(1, len(whole.groups)):
        lab = Queue(whole.groups[:cut], epoch=2)
        if whole.groups[cut - 1][-1].type == "run.ended":
            continue
        done = completed(lab.records)
        lab.resume(WorkQueue.restore(RunDirectory(tmp_path), lab.records))
        lab.play(random.Random(cut))
        kinds = [record.type for record in lab.records]
        assert kinds.count("task.revised") == [r.type for g in whole.groups[:cut] for r in g].count("task.revised")
        assert done.isdisjoint(lab.executed)
        speaking = {ids.origin(name) for name in completed(lab.records)}
        assert lab.ended.reason.startswith(f"{len(speaking - failed(lab))} of 4 items completed")


def failed(lab):
    """Items whose latest revision gave nothing."""
    names, latest = completed(lab.records), {}
    for record in lab.records:
        if record.type == "task.submitted":
            for line in msgspec.json.decode(record.body)["tasks"]:
                origin = ids.origin(line["task_id"])
                latest[origin] = max(latest.get(origin, 1), ids.revision(line["task_id"]))
    return {name for name, number in latest.items() if (ids.revised(name, number) if number > 1 else name) not in names}


def test_a_stopped_queue_counts_what_it_gave_up_when_some_of_it_is_done_again():
    plan = queue()
    plan.start(0)
    [stopped] = plan.stop("enough", 0)
    assert stopped.reason == "enough; 0 of 4 items were completed"
    [_, add] = plan.told(Revise({"item-1": ()}), 1)
    assert [task.task_id for task in add.tasks] == ["item-1~2"]
    assert plan.told(Revise({"item-1": ()}), 1) == [], "it is at work"


def test_a_plain_function_is_told_in_a_call_and_without_a_reason_nothing_changes():
    lab, plan = Queue(), queue()
    lab.start(plan)
    lab.settle(["item-0", "item-1"])
    [_, add] = plan.told(Revise({"item-0": (), "item-1": (Feedback("rerun", "better"),)}), 0)
    plain, told = add.tasks
    assert (plain.entry, plain.payload) == ("code:x", pack(0))
    call = call_of(told.payload)
    assert (told.entry, call.code, restored(call.argument)) == (CALL, "x", pack(1))
    assert call.feedback == (Feedback("rerun", "better"),)
    again = revise(told, 3, (Feedback("qa", "still not"),))
    assert again.task_id == "item-1~3"
    assert [each.text for each in call_of(again.payload).feedback] == ["better", "still not"]


def test_a_large_item_lies_in_a_file_and_the_rules_can_still_say_why(tmp_path):
    work = work_of("task", "json:dumps")
    payload = work.call(argument="x" * INLINE_LIMIT, instructions="Sum it up.")
    kept, [saved] = work.keep(RunDirectory(tmp_path), payload, "item-0")
    assert (saved.path, saved.task_id) == ("inputs/item-0.json", "item-0")
    spec = TaskSpec(task_id="item-0", kind="item", lane="process", entry=CALL, payload=kept)
    call = call_of(revise(spec, 2, (Feedback("rerun", "shorter"),)).payload)
    assert restored(call.argument) == Value("file", b"inputs/item-0.json")
    assert (call.instructions, call.feedback[0].text) == ("Sum it up.", "shorter")


def test_a_skipped_node_is_on_record_with_its_reason():
    lab = Lab()
    lab.start(Waves(1))
    lab.play(random.Random(1))
    reasons = [
        msgspec.json.decode(record.body, type=TasksCancelled).reason
        for record in lab.records
        if record.type == "task.cancelled"
    ]
    assert all(reason.startswith(("skipped: ", "not started: ")) for reason in reasons)
    assert reasons
