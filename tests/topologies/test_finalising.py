"""Whatever was decided, taken back or cut off, a run that is finalised is what a plain fold with its verdicts gives."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab import Budget, Command, ids
from epsilon_lab.agents.work import work_of
from epsilon_lab.cases.finalisation import Finalisations
from epsilon_lab.errors import LabError, UpToDate
from epsilon_lab.messages.call import Call
from epsilon_lab.messages.cases import Decide, Finalise, Retract
from epsilon_lab.messages.deciders import Decider
from epsilon_lab.messages.events import BODIES, CaseFlagged, TaskLine, TasksRevised
from epsilon_lab.messages.tasks import TaskSpec
from epsilon_lab.messages.values import StoredValue, Value, as_json, pack, restored, stored, unpack
from epsilon_lab.topologies.catalogue import refuse_askers
from epsilon_lab.topologies.dag import DagPlan, DagRules
from epsilon_lab.topologies.engine import Break, Stop, Tell, Tick
from epsilon_lab.topologies.levels import Levels, Spot, by_arity, by_shards
from epsilon_lab.topologies.nodes import NodeSpec
from epsilon_lab.topologies.plan import Plan, Revise
from epsilon_lab.topologies.reduction import ReductionPlan, ReductionRules
from epsilon_lab.workspace.layout import RunDirectory
from tests.cases.record import docket_of
from tests.topologies.rehearsal import Rehearsal, completed

ANN = Decider("ann")
NOTHING = StoredValue(msgspec.Raw(b"null"))
ITEM = TaskLine(task_id="", kind="item", lane="process", entry="code:0", payload=NOTHING)
CALL = stored(as_json(Call(code="1", form="outputs")))
REDUCE = TaskLine(task_id="", kind="reduce", lane="process", entry="epsilon_lab.agents.calling:call", payload=CALL)


def merged(outputs: list[list[str]], verdicts: Mapping[str, str]) -> tuple[list[str], list[CaseFlagged]]:
    """Words, of which two that begin alike may be one; the one that stays is asked about again, against the next."""
    words, flags = sorted({word for output in outputs for word in output}), []
    kept: list[str] = []
    for word in words:
        if kept and kept[-1][0] == word[0]:
            key = [kept[-1], word]
            told = verdicts.get(ids.case_id("merge", key))
            line = {"kind": "merge", "question": "One?", "options": ("same", "different"), "flagged_by": "merge"}
            flags.append(CaseFlagged(case_id=ids.case_id("merge", key), key=key, told=told, **line))
            if told == "same":
                continue
        kept.append(word)
    return kept, flags


class Merging(Rehearsal):
    """A run whose tasks merge words by the verdicts that they are told."""

    def __init__(self, words: list[str], groups: Any = (), epoch: int = 1) -> None:
        super().__init__(groups, epoch)
        self.words = words
        self.outputs: dict[str, Value] = {}
        self.flagged: dict[str, tuple[CaseFlagged, ...]] = {}

    def answer(self, task: TaskSpec) -> Value:
        if task.kind == "item":
            return self._gave(task, [self.words[int(task.task_id[5:11])]])
        data = task.payload.data if task.payload.form == "json" else self.files[task.payload.data.decode()]
        call = msgspec.json.decode(data, type=Call)
        parts = [msgspec.json.decode(self.files[ref], type=list[tuple[str, StoredValue]]) for ref in call.parts]
        given_ = [restored(value) for _, value in (*call.inputs, *(pair for part in parts for pair in part))]
        values = [unpack(value) for value in given_ + [self.outputs[name] for name in call.recorded]]
        if own := call.about.get("word"):
            values.append([own])
        verdicts = msgspec.json.decode(self.files[call.verdicts]) if call.verdicts else {}
        kept, flags = merged(values, verdicts)
        named = (msgspec.structs.replace(line, task_id=task.task_id) for line in flags)
        self.flagged[task.task_id] = tuple({line.case_id: line for line in named}.values())
        return self._gave(task, kept)

    def _gave(self, task: TaskSpec, output: object) -> Value:
        self.outputs[task.task_id] = pack(output)
        return self.outputs[task.task_id]

    def flags(self, task: TaskSpec) -> tuple[CaseFlagged, ...]:
        return self.flagged.get(task.task_id, ())

    def cut(self, plan: Plan, size: int) -> Merging:
        """The same run, of which no more than so many groups of lines reached the disk."""
        again = Merging(self.words, self.groups[:size], self.epoch + 1)
        again.outputs = self.outputs
        again.resume(plan)
        return again

    def verdicts(self) -> dict[str, str]:
        return self.state.docket.verdicts()

    def said(self) -> dict[str, Value]:
        """What the latest revision of each task gave."""
        found: dict[str, str] = {}
        for name in sorted(completed(self.records), key=ids.revision):
            found[ids.origin(name)] = name
        return {name: self.outputs[task_id] for name, task_id in sorted(found.items())}

    def finalise(self, dice: random.Random) -> bool:
        self.ended = None
        before = len(self.records)
        self.tell(Tell(Finalise()))
        if self.state.ended:
            assert len(self.records) == before
            return False
        self.play(dice)
        return True


shapes = st.one_of(
    st.tuples(st.integers(1, 14), st.integers(2, 8)).map(lambda it: (it[0], by_arity(*it), False)),
    st.tuples(st.integers(1, 14), st.integers(1, 4)).map(lambda it: (it[0], by_shards(*it), True)),
)
words = st.lists(st.text("ab", min_size=1, max_size=4), min_size=14, max_size=14)


def plan_of(shape: tuple[int, tuple[int, ...], bool]) -> ReductionPlan:
    items, groups, is_sharded = shape
    rules = ReductionRules(items=items, groups=groups, is_sharded=is_sharded, quorum=0.0, map=ITEM, reduce=REDUCE)
    return ReductionPlan(rules)


def fold(
    shape: tuple[int, tuple[int, ...], bool], given_: list[str], verdicts: Mapping[str, str]
) -> tuple[list[str], set[str]]:
    """What comes of it, and the ids of the cases that are asked."""
    levels = Levels(*shape[:2])
    outputs, asked = [[word] for word in given_[: shape[0]]], set[str]()
    for level in range(1, levels.top + 1):
        spots = (levels.children(Spot(level, place)) for place in range(levels.sizes[level]))
        found = [merged([outputs[child] for child in children], verdicts) for children in spots]
        outputs = [kept for kept, _ in found]
        asked |= {line.case_id for _, flags in found for line in flags}
    return outputs[0], asked


def open_in(run: Merging) -> set[str]:
    """Cases of its tasks that are open by its state, which are those by its record."""
    bodies = (msgspec.json.decode(each.body, type=BODIES[each.type]) for each in run.records)
    of_state, of_record = (
        {case.case_id for case in docket.cases() if case.status == "open"}
        for docket in (run.state.docket, docket_of(bodies))
    )
    assert of_state == of_record
    return {name for name in of_state if run.state.docket[name].tasks}  # and not of verdicts that are in conflict


def finalisations(run: Merging, since: int | None = None) -> Finalisations:
    found = Finalisations(since)
    found.take(run.records)
    return found


def changed(run: Merging, since: int) -> dict[str, tuple[Value | None, Value | None]]:
    """What finalisations have changed, by its record: outputs before and after."""
    found = finalisations(run, since)
    pairs = {
        name: (run.outputs.get(found.before.get(name, name)), run.outputs.get(line.task_id))
        for name, line in found.again.items()
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def decide_something(run: Merging, dice: random.Random) -> None:
    """Decide a case, decide it anew, or take a verdict back."""
    cases = sorted(name for names in run.state.docket.asked().values() for name in names)
    for _ in range(dice.randint(0, 3) if cases else 0):
        name = dice.choice(cases)
        if name in run.verdicts() and dice.random() < 0.4:
            run.tell(Tell(Retract(case_id=name, decider=ANN)))
        else:
            verdict = dice.choice(("same", "same", "different"))
            run.tell(Tell(Decide(case_id=name, verdict=verdict, decider=ANN, force=True)))


@settings(max_examples=60)
@given(shapes, words, st.randoms(use_true_random=False))
def test_finalised_it_is_what_a_plain_fold_gives(
    shape: tuple[int, tuple[int, ...], bool], given_: list[str], dice: random.Random
) -> None:
    run = Merging(given_)
    run.start(plan_of(shape))
    run.play(dice)
    first, last = run.said(), plan_of(shape).name(Spot(len(shape[1]), 0))
    said: dict[int, dict[str, Value]] = {}
    for _ in range(4):
        decide_something(run, dice)
        began, told = len(run.groups), finalisations(run).told
        before = said.setdefault(told, run.said())
        was_done = run.finalise(dice)
        after = run.said()
        found = changed(run, told)
        assert found == {name: (before.get(name), after[name]) for name in after if before.get(name) != after[name]}
        output, asked = fold(shape, given_, run.verdicts())
        assert unpack(run.said()[last]) == output
        if was_done:
            assert open_in(run) == asked - run.verdicts().keys()
        assert not run.finalise(dice)  # nothing is decided otherwise
        if len(run.groups) > began + 1 and dice.random() < 0.5:  # somewhere in the middle of it, the lab is killed
            again = run.cut(plan_of(shape), dice.randint(began + 1, len(run.groups)))
            if not again.state.ended:
                again.play(dice)
            again.finalise(dice)
            assert again.said() == run.said()
            assert open_in(again) == open_in(run)
            if finalisations(again).told == told:
                assert changed(again, told) == found
            run = again
    for name in list(run.verdicts()):
        run.tell(Tell(Retract(case_id=name, decider=ANN)))
        while name in run.verdicts():
            run.tell(Tell(Retract(case_id=name, decider=ANN)))
    run.finalise(dice)
    assert run.said() == first


def ended(given_: list[str], shape: tuple[int, tuple[int, ...], bool]) -> Merging:
    run = Merging(given_)
    run.start(plan_of(shape))
    return run.play(random.Random(1))


def decide(run: Merging, key: list[str], verdict: str = "same") -> None:
    run.tell(Tell(Decide(case_id=ids.case_id("merge", key), verdict=verdict, decider=ANN, force=True)))


EIGHT = ["ann", "bo", "cy", "di", "eve", "eva", "flo", "gus"]


def test_exactly_what_asked_is_made_again_and_what_is_made_of_it() -> None:
    run = ended(EIGHT, (8, by_arity(8, 2), False))
    ran = len(run.executed)
    decide(run, ["eva", "eve"])
    assert run.state.again() == dict.fromkeys(["reduce-l01-n0002", "reduce-l02-n0001", "reduce-l03-n0000"], "1")
    assert run.finalise(random.Random(1))
    assert run.executed[ran:] == ["reduce-l01-n0002~2", "reduce-l02-n0001~2", "reduce-l03-n0000~2"]
    line = next(record for record in run.records if record.type == "task.revised")
    assert msgspec.json.decode(line.body, type=TasksRevised).verdicts == "verdicts/0001.json"
    assert msgspec.json.decode(run.files["verdicts/0001.json"]) == run.verdicts()
    again = run.records[run.records.index(line) :]
    assert {each.type for each in again if each.type in ("case.asked", "case.flagged")} == {"case.asked"}


def test_what_is_done_again_later_goes_by_the_same_verdicts() -> None:
    run = ended(EIGHT, (8, by_arity(8, 2), False))
    decide(run, ["eva", "eve"])
    run.finalise(random.Random(1))
    decide(run, ["eva", "eve"], "different")
    run.ended = None
    run.tell(Tell(Revise({"item-000004": ()})))
    run.play(random.Random(1))
    assert "eve" not in unpack(run.ended.output)
    assert run.finalise(random.Random(1))
    assert "eve" in unpack(run.ended.output)


def test_a_run_that_goes_by_all_verdicts_says_so_and_has_nothing_written() -> None:
    run = ended(EIGHT, (8, by_arity(8, 2), False))
    found = Merging(EIGHT, run.groups).resume(plan_of((8, by_arity(8, 2), False)))
    with pytest.raises(UpToDate, match="run r goes by all verdicts"):
        found.tell(Finalise())


def test_what_a_finalisation_changed_is_told_with_the_next_where_its_lab_was_killed_in_its_midst() -> None:
    shape = (8, by_arity(8, 2), False)
    run = ended(EIGHT, shape)
    assert (finalisations(run).told, finalisations(run, 0).again) == (0, {})
    decide(run, ["eva", "eve"])
    began = len(run.groups)
    run.finalise(random.Random(1))
    made = [f"{name}~2" for name in ("reduce-l01-n0002", "reduce-l02-n0001", "reduce-l03-n0000")]
    assert finalisations(run).told == 1
    for size in range(began + 1, len(run.groups)):
        cut = run.cut(plan_of(shape), size)
        assert finalisations(cut).told == 0  # and it goes on
        cut.play(random.Random(1))
        assert finalisations(cut).told == 0
        assert [line.task_id for line in finalisations(cut, 0).again.values()] == made
        assert not finalisations(cut, 0).before

    decide(cut, ["eva", "eve"], "different")
    cut.finalise(random.Random(1))
    assert finalisations(cut).told == 2
    assert finalisations(cut, since=1).before == dict(zip(map(ids.origin, made), made, strict=True))
    assert [line.task_id for line in finalisations(cut, since=1).again.values()] == [f"{name[:-2]}~3" for name in made]
    assert not finalisations(cut, since=2).again


def test_a_run_that_was_stopped_stays_so_and_one_that_is_stopped_while_it_is_finalised_ends_as_it_had() -> None:
    shape = (8, by_arity(8, 2), False)
    run = Merging(EIGHT)
    run.start(plan_of(shape))
    for names in (sorted(run.open)[:6], ["reduce-l01-n0002"]):
        run.assign(names)
        run.settle(names)
    run.tell(Stop("that will do"))
    assert (run.state.status, run.state.reason) == ("stopped", "that will do; 6 of 8 items were completed")
    for verdict in ("same", "different"):
        decide(run, ["eva", "eve"], verdict)
        began = len(run.groups)
        run.finalise(random.Random(1))
        reason = "that will do; 6 of 8 items were completed; finalised: 6 of 8 items; 2 without output"
        assert (run.ended.status, run.ended.reason) == ("stopped", reason)
        assert ("eve" in unpack(run.ended.output)) == (verdict == "different")
        for size in range(began + 1, len(run.groups)):
            cut = run.cut(plan_of(shape), size)
            cut.play(random.Random(1))
            assert (cut.ended.status, cut.ended.reason) == ("stopped", reason)

    decide(run, ["eva", "eve"])
    run.tell(Tell(Finalise()))
    assert run.cut(plan_of(shape), len(run.groups)).state.step(Break("no disk"), 9e9)[-1].status == "failed"
    run.ended = None
    run.play(random.Random(1))

    run.ended = None
    run.tell(Tell(Revise({"item-000006": (), "item-000007": ()})))  # to go on with its work is something else
    assert run.play(random.Random(1)).ended.status == "completed"
    decide(run, ["eva", "eve"], "different")
    run.ended = None
    run.tell(Tell(Finalise()))
    run.tell(Stop("no, wait"))
    assert run.state.status == "stopped"
    assert run.finalise(random.Random(1))
    assert (run.ended.status, run.ended.reason) == ("completed", "8 of 8 items")


def test_what_is_finalised_is_not_cut_short_by_a_budget_of_seconds() -> None:
    run = Merging(EIGHT)
    run.start(plan_of((8, by_arity(8, 2), False)), Budget(seconds=9_000))
    run.play(random.Random(1))
    decide(run, ["eva", "eve"])
    run.now += 10_000
    run.ended = None
    run.tell(Tell(Finalise()))
    run.tell(Tick())
    assert run.play(random.Random(1)).ended.status == "completed"
    assert not run.exhausted


def test_what_nobody_asks_any_more_is_withdrawn_wherever_it_was_cut_off_and_open_again_once_asked() -> None:
    given_, shape = ["ann", "anna", "anne", "anny"], (4, by_arity(4, 4), False)
    chain = [ids.case_id("merge", list(pair)) for pair in itertools.pairwise(given_)]
    run = ended(given_, shape)
    assert open_in(run) == {*chain}
    decide(run, ["anne", "anny"], "different")
    decide(run, ["ann", "anna"])
    began = len(run.records)
    run.finalise(random.Random(1))
    new = ids.case_id("merge", ["ann", "anne"])  # for anna is gone, and nobody asks about her and anne
    assert open_in(run) == {new}
    assert run.state.docket[chain[1]].reason == "nobody asks it any more"
    lines = [record.type for record in run.records]
    cuts = range(began + 1, len(lines) + 1)
    assert lines[-2:] == ["case.withdrawn", "run.ended"]
    for size in cuts:
        cut = Merging(given_, [run.records[:size]], epoch=2)
        cut.outputs = run.outputs
        cut.resume(plan_of(shape))
        if not cut.state.ended:
            cut.play(random.Random(1))
        assert open_in(cut) == {new}

    cut = Merging(given_, [run.records[: len(lines) - 2]], epoch=2)  # it is decided while nobody is at the run
    by_hand = docket_of(msgspec.json.decode(each.body, type=BODIES[each.type]) for each in cut.records)
    for line in by_hand.hear(Decide(case_id=chain[1], verdict="different", decider=ANN)).lines:
        cut.write(line)
    cut.commit()
    cut.outputs = run.outputs
    cut.resume(plan_of(shape))
    assert cut.state.ended
    again = cut.cut(plan_of(shape), len(cut.groups))
    assert again.state.docket[chain[1]].status == "decided"
    assert open_in(again) == {new}

    run.tell(Tell(Retract(case_id=chain[0], decider=ANN)))
    run.finalise(random.Random(1))
    assert open_in(run) == {*chain[:2]}
    assert run.state.docket[chain[1]].reason == ""


class Naming(DagPlan):
    """Two nodes that ask, one behind the first of them, and one that has nothing to do with any of it."""

    def __init__(self) -> None:
        def node(name: str, word: str, *depends_on: str) -> NodeSpec:
            call = Call(code=f"code of {name}", form="inputs", about={"word": word})
            return NodeSpec(id=name, call=call, lane="process", entry=REDUCE.entry, depends_on=depends_on)

        first, second = node("first", "ann"), node("second", "anna", "first")
        super().__init__(
            DagRules(nodes=(first, second, node("third", "bo", "second"), node("other", "cy")), retries=0, hands={})
        )


def test_a_node_and_those_behind_it_are_done_again_and_no_other() -> None:
    run = Merging([])
    run.start(Naming())
    run.play(random.Random(1))
    ran = len(run.executed)
    decide(run, ["ann", "anna"])
    assert run.state.again() == {"second": "code of second", "third": "code of third"}
    assert run.finalise(random.Random(1))
    assert run.executed[ran:] == ["second~2", "third~2"]
    assert unpack(run.said()["third"]) == ["ann", "bo"]
    assert not run.finalise(random.Random(1))


def test_whoever_is_no_function_is_not_asked_again(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    function, program = (work_of("task", each, form="outputs") for each in (merged_plainly, Command(["true"])))
    for work in (function, program):
        work.save(run)
    refuse_askers(run, {"a": function.sha256})
    with pytest.raises(LabError, match=r"run run cannot be finalised: b would be done again, and it is no function"):
        refuse_askers(run, {"a": function.sha256, "b": program.sha256})
    with pytest.raises(LabError, match=r"a\.gate would be done again, and a person is asked there"):
        refuse_askers(run, {"a": function.sha256, "a.gate": ""})


def merged_plainly(outputs: list[str]) -> list[str]:
    return outputs


def test_taken_up_again_it_is_known_what_its_tasks_were_told_and_a_verdict_taken_back_concerns_them() -> None:
    shape = (8, by_arity(8, 2), False)
    run = ended(EIGHT, shape)
    first = run.said()
    decide(run, ["eva", "eve"])
    run = run.cut(plan_of(shape), len(run.groups))
    assert run.finalise(random.Random(1))
    assert "eve" not in unpack(run.ended.output)
    run.tell(Tell(Retract(case_id=ids.case_id("merge", ["eva", "eve"]), decider=ANN)))
    run = run.cut(plan_of(shape), len(run.groups))
    assert run.finalise(random.Random(1))
    assert run.said() == first
