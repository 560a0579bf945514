"""One answer, whatever the shape, the order in which tasks end, and what fails: the rules against a plain fold."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab import ids
from epsilon_lab.errors import ModelRefused
from epsilon_lab.messages.call import Call, Feedback
from epsilon_lab.messages.events import RunEnded, TaskLine, TasksRevised
from epsilon_lab.messages.tasks import Failure, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import StoredValue, Value, pack, restored, stored, unpack
from epsilon_lab.topologies import reduction
from epsilon_lab.topologies.engine import (
    CancelTasks,
    Exhaust,
    RunState,
    Settled,
    Start,
    Stop,
    Submit,
    Tell,
    cancelled_outcome,
)
from epsilon_lab.topologies.levels import Levels, Spot, by_arity, by_shards
from epsilon_lab.topologies.plan import Emit, Requeue, Revise, Write
from epsilon_lab.topologies.quality import Inspection
from epsilon_lab.topologies.reduction import ReductionPlan, ReductionRules, reduction_plan
from tests.topologies.rehearsal import Rehearsal, completed

NOTHING = StoredValue(msgspec.Raw(b"null"))
ITEM = TaskLine(task_id="", kind="item", lane="process", entry="code:0", payload=NOTHING)
CALL = stored(Value("json", msgspec.json.encode(Call(code="1", form="outputs"))))
REDUCE = TaskLine(task_id="", kind="reduce", lane="process", entry="epsilon_lab.agents.calling:call", payload=CALL)


def rules(items: int, groups: tuple[int, ...], *, quorum: float = 0.0, is_sharded: bool = False) -> ReductionRules:
    return ReductionRules(
        items=items,
        groups=groups if items else (),
        is_sharded=is_sharded,
        quorum=quorum,
        map=ITEM,
        reduce=REDUCE if groups else None,
    )


class Play:
    """A run of these rules in which tasks end in the order that the dice say; outputs are lists, which are joined."""

    def __init__(
        self, plan: ReductionPlan, dice: random.Random, fails: Callable[[str], bool] = lambda _: False
    ) -> None:
        self.state = RunState("run", plan)
        self.dice = dice
        self.fails = fails
        self.out: dict[str, TaskSpec] = {}
        self.most_out = 0
        self.outputs: dict[str, Value] = {}
        self.files: dict[str, str] = {}
        self.said: list[object] = []
        self.begun: list[str] = []
        self.take(self.state.step(Start(), 0.0))

    def take(self, effects: list[Any]) -> None:
        for effect in effects:
            match effect:
                case Submit(tasks=tasks):
                    self.out.update((task.task_id, task) for task in tasks)
                    self.begun += [task.task_id for task in tasks]
                case Write(ref=ref, text=text):
                    self.files[ref] = text
                case Emit(body=body):
                    self.said.append(body)
        self.most_out = max(self.most_out, len(self.out))

    def settle(self, task_id: str, status: Any = "failed") -> None:
        task = self.out.pop(task_id)
        if self.fails(task_id):
            failure = Failure(task_id=task_id, run_id="run", fence=1, outcome="failed", error=f"{task_id} broke")
            outcome = TaskOutcome(run_id="run", task_id=task_id, status=status, failure=failure)
        else:
            output = self.outputs[task_id] = pack(self.output(task))
            outcome = TaskOutcome(run_id="run", task_id=task_id, status="completed", output=output)
        self.take(self.state.step(Settled((outcome,)), 0.0))

    def output(self, task: TaskSpec) -> list[str]:
        if task.kind == "item":
            item = task.payload
            if ids.revision(task.task_id) > 1 and item.form == "json":  # told why
                call = msgspec.json.decode(item.data, type=Call)
                assert call.feedback
                item = restored(call.argument)
            return [f"{item.data.decode().partition('#')[2]}~{ids.revision(task.task_id)}"]
        data = task.payload.data if task.payload.form == "json" else self.files[task.payload.data.decode()]
        call = msgspec.json.decode(data, type=Call)
        parts = [msgspec.json.decode(self.files[ref], type=list[tuple[str, StoredValue]]) for ref in call.parts]
        given_ = [*call.inputs, *(pair for part in parts for pair in part)]
        if parts:
            given_.sort(key=lambda pair: pair[0])
        values = [restored(value) for _, value in given_] + [self.outputs[name] for name in call.recorded]
        assert len(values) == call.about["child_count"]
        return [each for value in values for each in unpack(value)]

    def run(self) -> Play:
        while self.out and not self.state.ended:
            self.settle(self.dice.choice(sorted(self.out)))
        return self

    @property
    def answer(self) -> Any:
        ended = [body for body in self.said if isinstance(body, RunEnded)]
        return None if not ended or ended[-1].output is None else unpack(restored(ended[-1].output))


shapes = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(2, 9)).map(lambda it: (it[0], by_arity(*it), False)),
    st.tuples(st.integers(1, 40), st.integers(1, 9)).map(lambda it: (it[0], by_shards(*it), True)),
)
few = settings(max_examples=80)


@few
@given(shapes)
def test_every_item_is_below_one_group_of_each_level(shape: tuple[int, tuple[int, ...], bool]) -> None:
    items, groups, _ = shape
    levels = Levels(items, groups)
    for level in range(1, levels.top + 1):
        spots = [Spot(level, place) for place in range(levels.sizes[level])]
        assert [place for spot in spots for place in levels.children(spot)] == list(range(levels.sizes[level - 1]))
        sizes = [len(levels.children(spot)) for spot in spots]
        assert max(sizes) - min(sizes) <= 1
        assert all(levels.parent(Spot(level - 1, place)) == spot for spot in spots for place in levels.children(spot))
    assert groups[-1] == 1


def test_no_reducer_is_given_more_than_its_arity():
    for items in range(1, 200):
        for arity in (2, 3, 8):
            levels = Levels(items, by_arity(items, arity))
            assert max(len(levels.children(spot)) for spot in levels.groups()) <= arity


@few
@given(shapes, st.randoms(use_true_random=False), st.sets(st.integers(0, 39)))
def test_any_order_and_any_failed_items_come_to_the_fold_of_the_rest(shape, dice, failed) -> None:
    items, groups, is_sharded = shape
    lost = {f"item-{place:06d}" for place in failed}
    play = Play(ReductionPlan(rules(items, groups, is_sharded=is_sharded)), dice, lost.__contains__).run()
    expected = [f"{place}~1" for place in range(items) if place not in failed]
    assert play.state.status == ("completed" if expected else "failed")
    assert (play.answer or []) == expected
    missing = items - len(expected)
    if expected:
        assert play.state.reason == f"{len(expected)} of {items} items" + f"; {missing} without output" * bool(missing)
    else:
        assert play.state.reason.startswith(f"none of {items} items is in the output; first failure: item-0000")
    assert len(set(play.begun)) == len(play.begun)


@few
@given(shapes, st.randoms(use_true_random=False), st.floats(0, 1), st.floats(0, 0.6))
def test_reducers_may_fail_too_and_the_quorum_is_kept(shape, dice, quorum, share) -> None:
    items, groups, _ = shape
    plan = ReductionPlan(rules(items, groups, quorum=quorum))
    chances = random.Random(dice.random())
    fate: dict[str, bool] = {}
    play = Play(plan, dice, lambda name: fate.setdefault(name, chances.random() < share)).run()
    reached = len(play.answer or [])
    if play.state.status == "completed":
        assert reached >= max(1, quorum * items)
        assert play.state.reason.startswith(f"{reached} of {items} items")
    else:
        assert any(fate.values())
    assert play.answer is None or play.answer == sorted(play.answer, key=lambda each: int(each.partition("~")[0]))


@few
@given(shapes, st.randoms(use_true_random=False), st.integers(0, 30), st.data())
def test_what_is_done_again_is_in_the_answer_and_nothing_else_is_done_twice(shape, dice, when, data) -> None:
    items, groups, is_sharded = shape
    play = Play(ReductionPlan(rules(items, groups, is_sharded=is_sharded)), dice)
    for _ in range(when):
        if play.out and not play.state.ended:
            play.settle(dice.choice(sorted(play.out)))
    again = data.draw(st.sets(st.integers(0, items - 1), min_size=1, max_size=3))
    names = {f"item-{place:06d}" for place in again}
    play.take(play.state.step(Tell(Revise({name: (Feedback("person", "again"),) for name in sorted(names)})), 0.0))
    said = {name for body in play.said if isinstance(body, TasksRevised) for name in body.feedback}
    play.run()
    assert (play.state.status, play.state.reason) == ("completed", f"{items} of {items} items")
    revised = {int(name.partition("-")[2]) for name in said}
    assert play.answer == [f"{place}~{2 if place in revised else 1}" for place in range(items)]
    assert [name for name in play.begun if name.startswith("item")].count("item-000000~3") == 0
    assert len(set(play.begun)) == len(play.begun)
    done_twice = {ids.origin(name) for name in play.begun if "~" in name and name.startswith("item")}
    assert done_twice == said


def test_a_dead_letter_that_is_requeued_joins_the_answer_after_the_end():
    dead = {"item-000003"}
    play = Play(ReductionPlan(rules(9, by_arity(9, 3))), random.Random(1), dead.__contains__)
    while play.out:
        play.settle(min(play.out), status="dead")
    assert play.state.reason == "8 of 9 items; 1 without output"
    dead.clear()
    play.take(play.state.step(Tell(Requeue(("item-000003",))), 0.0))
    play.out["item-000003"] = TaskSpec(
        task_id="item-000003", kind="item", lane="process", entry="code:0", payload=reduction.item_value(3)
    )
    play.run()
    assert play.state.reason == "9 of 9 items"
    assert play.answer == [f"{place}~1" for place in range(9)]
    assert [name for name in play.begun if "~" in name] == ["reduce-l01-n0001~2", "reduce-l02-n0000~2"]


def test_a_run_that_was_stopped_reduces_what_it_has_when_one_task_is_done_again():
    play = Play(ReductionPlan(rules(6, by_arity(6, 2))), random.Random(1))
    for name in ("item-000000", "item-000001", "item-000002"):
        play.settle(name)
    play.out.clear()
    play.take(play.state.step(Stop("enough"), 0.0))
    assert (play.state.status, play.state.reason) == ("stopped", "enough; 3 of 6 items were completed")
    play.out.clear()
    play.take(play.state.step(Tell(Revise({"item-000005": ()})), 0.0))
    play.run()
    assert play.answer == ["0~1", "1~1", "2~1", "5~2"]


@pytest.mark.parametrize(
    "name", ["item-000009", "item-x", "reduce-l03-n0000", "reduce-final", "qa", "", "item-0000001"]
)
def test_what_is_no_task_of_the_run_is_not_done_again(name):
    play = Play(ReductionPlan(rules(9, by_arity(9, 3))), random.Random(1)).run()
    assert play.state.step(Tell(Revise({name: ()})), 0.0) == []


def test_a_reducer_is_done_again_with_the_same_inputs():
    play = Play(ReductionPlan(rules(9, by_shards(9, 3), is_sharded=True)), random.Random(1)).run()
    play.take(play.state.step(Tell(Revise({"reduce-shard-001": ()})), 0.0))
    play.run()
    assert play.begun[-2:] == ["reduce-shard-001~2", "reduce-final~2"]
    assert play.answer == [f"{place}~1" for place in range(9)]


def test_only_a_window_of_items_is_out_and_a_long_shard_lies_on_disk(monkeypatch):
    monkeypatch.setattr(reduction, "WINDOW", 64)
    monkeypatch.setattr(reduction, "_STEP", 16)
    monkeypatch.setattr(reduction, "INLINE_LIMIT", 400)
    plan = ReductionPlan(rules(1000, by_shards(1000, 2), is_sharded=True))
    play = Play(plan, random.Random(3)).run()
    assert play.answer == [f"{place}~1" for place in range(1000)]
    assert play.most_out <= 64 + 2
    parts = [ref for ref in play.files if "part" in ref]
    assert len(parts) > 5
    assert max(len(text) for ref, text in play.files.items() if "shard" in ref and "part" in ref) < 800


def test_a_run_in_which_nothing_works_is_told_so_without_a_look_at_all_for_each():
    play = Play(ReductionPlan(rules(20_000, by_arity(20_000, 2))), random.Random(1), lambda _: True)
    while play.out and not play.state.ended:
        play.settle(next(iter(play.out)))
    assert play.state.reason == "none of 20000 items is in the output; first failure: item-000000: item-000000 broke"


def spend(play: Play) -> None:
    """Use the budget of seconds up, and have the broker cancel what is not wanted any more."""
    effects = play.state.step(Exhaust("the budget of 1 s was used up"), 0.0)
    play.take(effects)
    gone = [name for effect in effects if isinstance(effect, CancelTasks) for name in effect.task_ids]
    for name in gone:
        del play.out[name]
    play.take(play.state.step(Settled(tuple(cancelled_outcome("run", name, "spent") for name in gone)), 0.0))


@few
@given(shapes, st.randoms(use_true_random=False), st.integers(0, 60))
def test_when_time_is_up_what_is_done_is_reduced_and_nothing_else_is_begun(shape, dice, when) -> None:
    items, groups, is_sharded = shape
    play = Play(ReductionPlan(rules(items, groups, is_sharded=is_sharded)), dice)
    for _ in range(when):
        if not play.state.ended:
            play.settle(dice.choice(sorted(play.out)))
    done = sorted(int(unpack(output)[0].partition("~")[0]) for name, output in play.outputs.items() if "item" in name)
    ended = play.state.ended
    spend(play)
    assert play.state.ended or all(name.startswith("reduce") for name in play.out)
    play.run()
    assert (play.answer or []) == [f"{place}~1" for place in done]
    missing = f"; {items - len(done)} without output" * (len(done) < items)
    if not done:
        assert play.state.reason == f"the budget of 1 s was used up; 0 of {items} items were completed"
    elif not ended:
        assert play.state.reason == f"the budget of 1 s was used up; {len(done)} of {items} items{missing}"
    assert play.state.status == ("completed" if done else "failed")


class Journal(Rehearsal):
    """Tasks answer with a word of their own, or fail."""

    def answer(self, task):
        return "broken" if task.task_id.endswith("3") else pack(f"{task.task_id} given {hash_of(task.payload.data)}")


def hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


@pytest.mark.parametrize("quality", [False, True])
def test_cut_between_any_two_lines_a_run_whose_time_is_up_comes_to_the_same_end(quality: bool) -> None:
    inspection = Inspection.of("MapReduce", qa, None, 3)
    stated = rules(20, by_arity(20, 3))
    stated = msgspec.structs.replace(stated, quality=inspection.rules() if quality and inspection else None)
    whole = Journal(room=9)
    whole.start(reduction_plan(stated))
    for place in (0, 1, 2, 4, 7):
        whole.settle([f"item-{place:06d}"])
    whole.tell(Exhaust("the budget of 1 s was used up"))
    whole.play(random.Random(1))
    assert whole.ended.reason.startswith("the budget of 1 s was used up; 5 of 20 items; 15 without output")
    assert whole.ended.status == ("failed" if quality else "completed")
    types = [record.type for record in whole.records]
    assert "stage.qa" not in types, "it would be begun after the time was up"
    for cut in range(types.index("run.exhausted") + 1, len(types)):
        lab = Journal([[record] for record in whole.records[:cut]], epoch=2, room=9)
        done = completed(lab.records)
        lab.resume(reduction_plan(stated))
        lab.play(random.Random(cut))
        assert lab.ended == whole.ended, f"cut after line {cut}"
        assert done.isdisjoint(lab.executed)


def qa(outputs: dict[str, str]) -> bool:
    return bool(outputs)


def test_items_that_were_not_handed_out_when_time_is_up_are_lost_and_the_quorum_still_holds(monkeypatch):
    monkeypatch.setattr(reduction, "WINDOW", 8)
    monkeypatch.setattr(reduction, "_STEP", 2)
    for quorum, status in ((0.0, "completed"), (0.15, "failed")):
        play = Play(ReductionPlan(rules(60, by_shards(60, 5), quorum=quorum)), random.Random(1))
        for _ in range(5):
            play.settle(min(play.out))
        assert len(play.begun) < 20
        spend(play)
        play.run()
        assert play.state.status == status
        assert play.answer == ([f"{place}~1" for place in range(5)] if status == "completed" else None)
        assert "the budget of 1 s was used up" in play.state.reason


def test_a_model_that_refuses_all_ends_the_items_and_a_reducer_that_it_refuses_too_ends_the_run():
    refused = f"{ModelRefused.PREFIX}the key is wrong"
    for reducers_too in (False, True):
        play = Play(
            ReductionPlan(msgspec.structs.replace(rules(9, by_arity(9, 3)), asks=("code/m.pkl",))), random.Random(1)
        )
        play.settle("item-000000")
        fail = Failure(task_id="item-000001", run_id="run", fence=1, outcome="failed", error=refused)
        del play.out["item-000001"]
        outcome = TaskOutcome(run_id="run", task_id="item-000001", status="failed", failure=fail)
        effects = play.state.step(Settled((outcome,)), 0.0)
        gone = next(effect.task_ids for effect in effects if isinstance(effect, CancelTasks))
        assert len(gone) == 7
        play.take(effects)
        play.out.clear()
        play.take(play.state.step(Settled(tuple(cancelled_outcome("run", name, refused) for name in gone)), 0.0))
        assert list(play.out) == ["reduce-l01-n0000"]
        if reducers_too:
            fail = msgspec.structs.replace(fail, task_id="reduce-l01-n0000")
            outcome = TaskOutcome(run_id="run", task_id="reduce-l01-n0000", status="failed", failure=fail)
            play.take(play.state.step(Settled((outcome,)), 0.0))
            assert play.state.reason.startswith(f"none of 9 items is in the output; {refused}; first failure")
        assert play.run().state.status == ("failed" if reducers_too else "completed")


def test_no_items_is_no_failure():
    assert Play(ReductionPlan(rules(0, ())), random.Random(1)).state.reason == "there were no items"


def test_a_quorum_that_cannot_be_met_any_more_ends_the_run_at_once():
    lost = {"item-000000", "item-000001"}
    play = Play(ReductionPlan(rules(10, by_arity(10, 5), quorum=0.9)), random.Random(1), lost.__contains__)
    play.settle("item-000000")
    assert play.state.status == "running"
    play.settle("item-000001")
    assert play.state.status == "failed"
    assert play.state.reason == (
        "9 of 10 items are asked for by quorum=0.9, and at most 8 can be in the output; "
        "first failure: item-000000: item-000000 broke"
    )
