"""Pipelines and supervisors played without processes: whatever gates, reviews and people say, in whatever order.

Every run is also cut after each of its lines and taken up again by fresh rules, which have to come to the same end.
"""

import itertools
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab import Person, Pipeline, Supervisor
from epsilon_lab.errors import BudgetExhausted
from epsilon_lab.ids import origin, revision
from epsilon_lab.messages.call import Feedback, call_of
from epsilon_lab.messages.cases import Decide
from epsilon_lab.messages.deciders import Decider
from epsilon_lab.messages.events import (
    TYPES,
    CaseFlagged,
    CaseWithdrawn,
    CompletedLine,
    FailedLine,
    RunEnded,
    RunStarted,
    StageReviewed,
    TasksCompleted,
    TasksFailed,
    TasksSubmitted,
    VerdictGiven,
    task_line,
    task_spec,
)
from epsilon_lab.messages.tasks import Failure, TaskOutcome
from epsilon_lab.messages.values import pack, stored
from epsilon_lab.topologies.engine import CancelAll, End, RunState, Settled, Start, Stop, Submit, Tell
from epsilon_lab.topologies.plan import Cancel, Emit, Requeue, Revise, Write
from epsilon_lab.topologies.recovery import recover
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory

ANN = Decider("ann")


class Broke(Exception):
    """What a task does that fails."""


class Play:
    """A run and its lines.

    Args:
        topology: What is played.
        folder: The run directory; prepared where it is new.
        answer: A task -> its output; it may raise `Broke`.
        decide: A case -> (verdict, note), or None to leave it open.
    """

    def __init__(self, topology, folder, answer, decide=lambda case: None):
        self.run = RunDirectory(folder)
        self.topology, self.answer, self.decide = topology, answer, decide
        if not folder.exists():
            folder.mkdir()
            topology.prepare(self.run)
        self.plan = topology.restore(self.run, [])
        self.records, self.tasks, self.cases, self.files = [], {}, [], {}
        self.steps = 0
        self.state = RunState("r", self.plan)
        self.write(RunStarted(run_id="r", topology=topology.topology, name="r"))
        self.do(self.state.step(Start(), 0))

    def write(self, body):
        raw = msgspec.Raw(msgspec.json.encode(body))
        self.records.append(Record(len(self.records), 0.0, TYPES[type(body)], raw))

    def do(self, effects):
        for effect in effects:
            match effect:
                case Submit(tasks=tasks):
                    self.write(TasksSubmitted(tasks=tuple(map(task_line, tasks))))
                    self.tasks |= {task.task_id: task for task in tasks}
                case Emit(body=body):
                    self.write(body)
                    if isinstance(body, CaseFlagged):
                        self.cases.append(body)
                    if isinstance(body, VerdictGiven | CaseWithdrawn):
                        self.cases = [case for case in self.cases if case.case_id != body.case_id]
                case Write(ref=ref, text=text):
                    self.files[ref] = text
                case CancelAll():
                    self.tasks.clear()
                case End():
                    pass
                case Requeue():
                    pass

    def turn(self):
        """Answer one task, or decide one case; False where there is nothing to do."""
        self.steps += 1
        assert self.steps < 400, "it goes on for ever"
        if self.state.ended:
            return False
        if self.tasks:
            self.settle(self.tasks.pop(next(iter(self.tasks))))
            return True
        for case in self.cases:
            if (said := self.decide(case)) is not None:
                self.say(case.case_id, *said)
                return True
        return False

    def settle(self, task):
        name = task.task_id
        try:
            output = pack(self.answer(task))
        except Broke as error:
            line = FailedLine(task_id=name, attempt=1, fence=1, outcome="failed", error=str(error), then="failed")
            self.write(TasksFailed(worker_id="w", tasks=(line,)))
            failure = Failure(task_id=name, run_id="r", fence=1, outcome="failed", error=str(error))
            outcome = TaskOutcome(run_id="r", task_id=name, status="failed", failure=failure)
        else:
            line = CompletedLine(task_id=name, attempt=1, fence=1, output=stored(output), started_at=0.0, ended_at=0.0)
            self.write(TasksCompleted(worker_id="w", tasks=(line,)))
            outcome = TaskOutcome(run_id="r", task_id=name, status="completed", output=output)
        self.do(self.state.step(Settled((outcome,)), 0))

    def say(self, case_id, verdict, note="", *, number=None, force=False):
        said = Decide(case_id=case_id, verdict=verdict, decider=ANN, note=note, number=number, force=force)
        self.tell(said)

    def tell(self, news):
        self.do(self.state.step(Tell(news), 0))

    def play(self):
        while self.turn():
            pass
        return self

    def told(self, kind):
        name = TYPES[kind]
        return [msgspec.json.decode(each.body, type=kind) for each in self.records if each.type == name]

    @property
    def ran(self):
        return [line.task_id for each in self.told(TasksSubmitted) for line in each.tasks]

    def cut(self, place):
        """The same run, taken up again after that many lines."""
        again = object.__new__(Play)
        again.__dict__.update(self.__dict__)
        again.records = self.records[:place]
        again.plan = type(self.topology).restore(self.run, again.records)
        found = recover("r", again.plan, again.records)
        again.state = found.state
        again.tasks = {name: task.spec for name, task in found.left.items()}
        again.cases = [case for case in again.told(CaseFlagged) if again.state.docket.is_open(case.case_id)]
        again.files, again.steps = {}, 0
        again.do(found.effects)
        return again


def lines(play):
    return [(each.type, bytes(each.body)) for each in play.records]


def double(number):
    return number * 2


def three(*gates, **more):
    """Three stages, a, b and c, with these gates behind them."""
    stages = [{"id": name, "task": double, "gate": gate} for name, gate in zip("abc", gates, strict=False)]
    return Pipeline(stages, input=1, **more)


def fits(number):
    return None


def last_of(task):
    inputs = call_of(task.payload).inputs
    return None if not inputs else msgspec.json.decode(inputs[-1][1].json)


def works(task):
    """What the stages above give."""
    if task.kind == "gate":
        return True
    given = last_of(task)
    return 2 if given is None else given * 2


def scripted(gates):
    """Stages that work, and gates that say in turn what is in their lists; then they pass."""
    left = {name: list(said) for name, said in gates.items()}

    def answer(task):
        name = origin(task.task_id)
        if not name.endswith(".gate"):
            return works(task)
        said = left.get(name.removesuffix(".gate"), [])
        return said.pop(0) if said else True

    return answer


@pytest.fixture(scope="module")
def plays(tmp_path_factory):
    return tmp_path_factory.mktemp("plays")


@pytest.fixture(scope="module")
def folders(plays):
    numbers = itertools.count()
    return lambda: plays / f"r{next(numbers)}"


_KEPT = {}


def kept(make, *gates, **more):
    """A topology, made once: to pack its functions takes longer than to play it."""
    key = (make.__name__, gates, tuple(map(repr, more.items())))
    if key not in _KEPT:
        _KEPT[key] = make(*gates, **more)
    return _KEPT[key]


# -- pipelines ---------------------------------------------------------------------------------------------------------


def test_stages_follow_each_other_and_each_gets_what_all_before_gave(folders):
    play = Play(three(None, fits, None), folders(), works).play()
    assert play.ran == ["a", "b", "b.gate", "c"]
    assert (play.state.status, play.state.reason) == ("completed", "3 stages are done")
    assert msgspec.json.decode(play.told(RunEnded)[0].output.json) == 8
    last = next(line for each in play.told(TasksSubmitted) for line in each.tasks if line.task_id == "c")
    assert last.depends_on == ("a", "b")


def test_a_rejected_stage_is_done_again_by_whoever_did_it_who_is_told_why(folders):
    play = Play(three(fits, None, None, retries=2), folders(), scripted({"a": ["too small", False]})).play()
    assert play.ran == ["a", "a.gate", "a~2", "a.gate~2", "a~3", "a.gate~3", "b", "c"]
    assert call_of(task_of(play, "a~2").payload).feedback == (Feedback("review", "too small", "a.gate"),)
    assert call_of(task_of(play, "a~3").payload).feedback == (Feedback("review", "rejected", "a.gate~2"),)
    assert [(each.then, each.reason) for each in play.told(StageReviewed)] == [
        ("revised", "too small"),
        ("revised", "rejected"),
        ("accepted", ""),
    ]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (["no", "no"], "a: its gate fits rejected it 2 times: no"),
        ([3], "a: its gate fits gave no verdict but 3"),
        ([Broke("it broke")], "a: its gate fits failed: it broke"),
    ],
)
def test_what_a_gate_does_not_pass_ends_the_run_there_and_nothing_behind_it_begins(folders, answers, reason):
    def answer(task):
        said = scripted_answers(task)
        if isinstance(said, Broke):
            raise said
        return said

    scripted_answers = scripted({"a": answers})
    play = Play(three(fits, None, None), folders(), answer).play()
    assert (play.state.status, play.state.reason) == ("failed", f"0 of 3 stages are done; {reason}")
    assert not {"b", "c"} & set(play.ran)


def test_a_stage_that_fails_is_tried_again_and_then_ends_the_run(folders):
    def answer(task):
        if origin(task.task_id) == "b":
            raise Broke("no more")
        return works(task)

    play = Play(three(None, fits, None), folders(), answer).play()
    assert play.ran == ["a", "b", "b~2"]
    assert play.state.reason == "1 of 3 stages are done; b: no more"


def test_a_person_s_gate_keeps_the_run_waiting_with_nothing_to_do(folders):
    play = Play(three(Person(question="Good?", options=("yes", "no")), None, None), folders(), works).play()
    assert (play.state.status, play.tasks) == ("running", {})
    [case] = play.cases
    assert (case.case_id, case.question, case.options) == ("a", "Good?", ("yes", "no"))
    assert case.evidence == {"stage": "a", "output": 2}
    play.say("a", "maybe")
    play.say("b", "yes")
    assert play.state.status == "running"
    assert not play.told(VerdictGiven)
    play.say("a", "yes")
    assert play.play().state.status == "completed"


def test_what_a_person_rejects_is_done_again_with_the_note_and_asked_about_again(folders):
    play = Play(three("person", None, None), folders(), works).play()
    play.say("a", "reject", "in metres")
    play.play()
    assert play.ran == ["a", "a~2"]
    assert [case.case_id for case in play.cases] == ["a~2"]
    play.say("a~2", "reject", "still not")
    assert play.play().state.reason == "0 of 3 stages are done; a: its gate ann rejected it 2 times: still not"


def test_a_person_may_think_better_of_it_while_the_run_lasts(folders):
    play = Play(three("person", None, "person"), folders(), works).play()
    play.say("a", "pass")
    play.play()
    play.say("a", "reject", "look again", number=2)
    assert len(play.told(VerdictGiven)) == 1, "not without force"
    play.say("a", "reject", "look again", number=2, force=True)
    play.play()
    assert play.ran == ["a", "b", "c", "a~2"]
    assert [line.case_id for line in play.told(CaseWithdrawn)] == ["c"]
    assert [case.case_id for case in play.cases] == ["a~2"]
    play.say("a", "pass", number=3, force=True)
    assert play.play().ran == ["a", "b", "c", "a~2"], "it is about what was done again since"


def test_a_stage_is_done_again_with_all_that_follow_where_someone_asks_for_it(folders):
    play = Play(three(None, fits, "person"), folders(), works, lambda case: ("pass", "")).play()
    assert play.state.status == "completed"
    play.tell(Revise({"b": (Feedback("rerun", "in metres"),), "nobody": ()}))
    assert play.play().state.status == "completed"
    assert play.ran == ["a", "b", "b.gate", "c", "b~2", "b.gate~2", "c~2"]
    assert [line.case_id for line in play.told(CaseFlagged)] == ["c", "c~2"]


def test_what_a_gate_says_of_what_is_done_again_since_changes_nothing(folders):
    play = Play(three(fits, None, None, retries=0), folders(), scripted({"a": ["no"]}))
    play.turn()
    late = play.tasks.pop("a.gate")
    play.tell(Revise({"a": ()}))
    play.settle(late)
    assert play.state.status == "running"
    assert play.play().state.status == "completed"
    assert "b" in play.ran


def test_a_run_that_was_stopped_is_done_to_its_end_where_a_stage_is_done_again(folders):
    play = Play(three(None, fits, None), folders(), works)
    play.turn()
    play.do(play.state.step(Stop("enough"), 0))
    assert (play.state.status, play.state.reason) == ("stopped", "enough; 1 nodes are done")
    play.tell(Revise({"a": ()}))
    assert play.play().state.status == "completed"


SAID = st.sampled_from([True, None, False, "no", {"verdict": "fail", "reason": "bad"}, 7, Broke("broke")])


@settings(max_examples=settings.default.max_examples // 3)
@given(
    gates=st.lists(st.sampled_from(["none", "code", "person"]), min_size=3, max_size=3),
    said=st.lists(SAID, max_size=12),
    retries=st.integers(0, 2),
    data=st.data(),
)
def test_no_script_of_verdicts_goes_on_for_ever_or_passes_what_was_rejected(plays, gates, said, retries, data):
    """And cut after any line the run comes to the same end."""
    left, passed = list(said), set()

    def answer(task):
        if task.kind != "gate":
            return works(task)
        given = left.pop(0) if left else True
        if isinstance(given, Broke):
            raise given
        if given in (True, None):
            passed.add(task.depends_on[0])
        return given

    def decide(case):
        verdict = left.pop(0) if left else True
        if verdict in (True, None):
            passed.add(case.case_id)
            return ("pass", "")
        return ("reject", "no")

    kinds = {"none": None, "code": fits, "person": "person"}
    name = "-".join([*gates, str(retries)])
    play = Play(kept(three, *map(kinds.__getitem__, gates), retries=retries), plays / name, answer, decide).play()
    assert play.state.ended
    assert play.state.reason
    assert (play.state.status == "completed") == (play.state.reason == "3 stages are done")
    judged = {name for name, kind in zip("abc", gates, strict=True) if kind != "none"}
    stages = [name for name in play.ran if not origin(name).endswith(".gate")]
    assert max(map(revision, stages)) <= retries + 1
    for behind, name in enumerate(stages):
        for before in stages[:behind]:
            if origin(before) < origin(name) and origin(before) in judged and origin(before) != origin(name):
                assert any(origin(each) == origin(before) for each in passed), "nothing goes past a gate"
    replay(play, play.cut(data.draw(st.integers(1, len(play.records) - 1))))


# -- supervisors -------------------------------------------------------------------------------------------------------


def work(inputs):
    return None


def diamond(**more):
    """Four nodes: b and c need a, d needs both."""
    plan = [
        {"id": "a", "task": work},
        {"id": "b", "task": work, "depends_on": ["a"]},
        {"id": "c", "task": work, "depends_on": ["a"]},
        {"id": "d", "task": work, "depends_on": ["b", "c"]},
    ]
    return Supervisor(plan, **more)


def review(record):
    return None


def other(inputs):
    return None


def reviewed(said, fails=()):
    """Nodes that work but for these tasks, and reviews that say in turn what is in the lists of their nodes."""
    left = {name: list(answers) for name, answers in said.items()}

    def answer(task):
        if task.kind != "review":
            if task.task_id in fails:
                raise Broke(f"{task.task_id} broke")
            return {name: msgspec.json.decode(value.json) for name, value in call_of(task.payload).inputs} or 1
        node = origin(task.task_id).removesuffix(".review")
        given = left[node].pop(0) if left.get(node) else True
        if isinstance(given, Broke):
            raise given
        return given

    return answer


def supervised(folders, said=(), fails=(), **more):
    return Play(diamond(review=review, **more), folders(), reviewed(dict(said), fails)).play()


def story(play):
    return [(each.task_id, each.verdict, each.then) for each in play.told(StageReviewed)]


def test_each_node_is_reviewed_before_anything_builds_on_it_and_others_go_on_meanwhile(folders):
    play = supervised(folders)
    assert play.state.status == "completed"
    assert play.ran == ["a", "a.review", "b", "c", "b.review", "c.review", "d", "d.review"]
    told = msgspec.json.decode(call_of(task_of(play, "b.review").payload).argument.json)
    assert (told["node"], told["status"], told["retries_left"], told["workers"]) == ("b", "completed", 2, [])
    assert json.loads(play.files["stage_history.json"])[0]["node"] == "a"


def task_of(play, name):
    return next(task_spec(line) for each in play.told(TasksSubmitted) for line in each.tasks if line.task_id == name)


def test_a_node_is_done_again_by_whoever_did_it_and_then_fails_with_what_needs_it_and_nothing_else(folders):
    play = supervised(folders, {"b": ["in metres", "in metres", "in metres"]})
    assert story(play)[1:] == [
        ("b", "retry", "revised"),
        ("c", "pass", "accepted"),
        ("b~2", "retry", "revised"),
        ("b~3", "fail", "failed"),
    ]
    assert call_of(task_of(play, "b~2").payload).feedback == (Feedback("review", "in metres", "b.review"),)
    assert play.state.status == "failed"
    assert "b: its review asks for another go, and it has had its 2 retries: in metres" in play.state.reason
    assert "d" not in play.ran


def test_a_node_that_failed_is_reviewed_too_and_cannot_pass(folders):
    play = supervised(folders, {"b": [True]}, fails=["b"])
    assert ("b", "fail", "failed") in story(play)
    assert "its review passed it, but it has no output" in play.state.reason
    again = supervised(folders, {"b": ["mind the gap"]}, fails=["b"])
    assert again.state.status == "completed"
    why = call_of(task_of(again, "b~2").payload).feedback
    assert [(each.source, each.text) for each in why] == [("failure", "b broke"), ("review", "mind the gap")]


def test_a_node_is_given_to_another_who_does_it_from_then_on(folders):
    play = supervised(folders, {"b": [{"verdict": "reassign", "to": "ann", "reason": "slow"}, "again"]}, workers=ANNS)
    assert play.state.status == "completed"
    codes = [call_of(task_of(play, name).payload).code for name in ("b", "b~2", "b~3", "c")]
    assert codes[0] == codes[3] != codes[1] == codes[2]
    assert [each.to for each in play.told(StageReviewed) if each.verdict == "reassign"] == ["ann"]


ANNS = {"ann": other}


@pytest.mark.parametrize("chained", [False, True])
def test_the_parts_of_a_node_stand_for_it_joined_once_all_of_them_pass(folders, chained):
    parts = [{"task": "one half"}, {"task": "the other", "worker": "ann"}]
    split = {"verdict": "split", "parts": parts, "chained": chained}
    play = supervised(folders, {"b": [split], "b.2": ["not yet"]}, workers=ANNS)
    assert play.state.status == "completed"
    assert task_of(play, "b.2").depends_on == (("a", "b.1") if chained else ("a",))
    assert call_of(task_of(play, "b.2~2").payload).instructions == "the other"
    assert task_of(play, "b~2").depends_on == ("b.1", "b.2~2")
    assert task_of(play, "d").depends_on == ("b~2", "c")
    assert "b~2.review" not in play.ran, "its parts were reviewed"
    play.tell(Revise({"b": (Feedback("rerun", "in feet"),)}))
    assert play.play().state.status == "completed"
    assert call_of(task_of(play, "b.1~2").payload).feedback == (Feedback("rerun", "in feet"),)
    assert {"b.1~2", "b.2~3", "b~3", "d~2"} <= set(play.ran)


def test_a_part_that_does_not_pass_fails_its_node(folders):
    split = {"verdict": "split", "parts": [{"task": "one"}, {"task": "two"}]}
    play = supervised(folders, {"b": [split], "b.1": [{"verdict": "fail", "reason": "hopeless"}]})
    assert play.state.status == "failed"
    assert "b.1: hopeless" in play.state.reason
    assert not {"b~2", "d"} & set(play.ran)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (7, "the review gave no verdict but 7"),
        (Broke("no model"), "its review review failed: no model"),
        ({"verdict": "split", "parts": [{"task": "x"}] * 9}, "splits it into 9 parts"),
    ],
)
def test_a_review_that_is_none_fails_the_node(folders, said, why):
    play = supervised(folders, {"b": [said]})
    assert play.state.status == "failed"
    assert why in play.state.reason
    assert "d" not in play.ran


def test_a_node_that_lacks_what_was_refused_does_not_begin_because_something_else_is_done_again(folders):
    play = supervised(folders, {"b": ["no"], "c": [TO_ANN]}, workers=ANNS, retries=0)
    assert play.ran == ["a", "a.review", "b", "c", "b.review", "c.review", "c~2", "c.review~2"]
    assert play.state.status == "failed"


def test_without_a_review_what_fails_is_tried_again_and_then_given_to_others(folders):
    fails = ["b", "b~2", "b~3"]
    play = Play(diamond(workers=ANNS), folders(), reviewed({}, fails)).play()
    assert play.state.status == "completed"
    assert play.ran == ["a", "b", "c", "b~2", "b~3", "b~4", "d"]
    assert call_of(task_of(play, "b~4").payload).code != call_of(task_of(play, "b~3").payload).code
    none = Play(diamond(retries=0), folders(), reviewed({}, fails)).play()
    assert none.state.status == "failed"
    assert "b: b broke" in none.state.reason


def test_where_a_run_is_finalised_nobody_else_is_given_a_nodes_work_and_what_was_cancelled_stays_so(folders):
    play = Play(diamond(workers=ANNS, retries=0), folders(), reviewed({}, ["b~2"]))
    play.do(play.state.step(Cancel(("c",), "not wanted"), 0))
    assert play.play().ran == ["a", "b"]
    for revise, ran in [(Revise({"b": ()}, "verdicts/0001.json"), ["b~2"]), (Revise({"b": ()}), ["b~3", "c~2", "d~2"])]:
        began = len(play.ran)
        play.do(play.state.step(Tell(revise), 0))
        assert play.play().ran[began:] == ran
    assert play.state.status == "completed"


def test_what_no_other_go_can_help_is_not_tried_again(folders):
    spent = f"{BudgetExhausted.PREFIX} the run may spend no more"

    def answer(task):
        if task.task_id == "b":
            raise Broke(spent)
        return reviewed({})(task)

    play = Play(diamond(review=review), folders(), answer).play()
    assert play.state.status == "failed"
    assert not {"b.review", "b~2"} & set(play.ran)


SPLIT = {"verdict": "split", "parts": [{"task": "x"}, {"task": "y", "worker": "ann"}]}
TO_ANN = {"verdict": "reassign", "to": "ann"}
SAYS = st.sampled_from([True, True, "no", SPLIT, TO_ANN, {"verdict": "fail"}, 7, Broke("broke")])


@settings(max_examples=settings.default.max_examples // 3)
@given(
    said=st.lists(SAYS, max_size=30),
    fails=st.lists(st.booleans(), max_size=30),
    limits=st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)),
    has_review=st.booleans(),
    data=st.data(),
)
def test_no_script_of_reviews_goes_on_for_ever_or_builds_on_what_did_not_pass(
    plays, said, fails, limits, has_review, data
):
    """And cut after any line the run comes to the same end."""
    left, failing = list(said), list(fails)

    def answer(task):
        if task.kind == "review":
            given = left.pop(0) if left else True
            if isinstance(given, Broke):
                raise given
            return given
        if failing and failing.pop(0):
            raise Broke("it broke")
        return 1

    retries, reassigns, splits = limits
    more = {"retries": retries, "reassign_depth": reassigns, "split_depth": splits}
    topology = kept(diamond, review=review if has_review else None, workers=ANNS, **more)
    play = Play(topology, plays / f"{limits} {has_review}", answer).play()
    assert play.state.ended
    assert play.state.reason
    then = {each.task_id: each.then for each in play.told(StageReviewed)}
    joined = {f"{each.node}~{revision(each.task_id) + 1}" for each in play.told(StageReviewed) if each.then == "split"}
    for each in play.told(TasksSubmitted):
        for line in each.tasks:
            if line.kind in ("node", "part"):
                assert all(then.get(name) == "accepted" or name in joined for name in line.depends_on)
    most = (retries + 1) * (reassigns + 1) + 1
    assert max(revision(name) for name in play.ran) <= most
    place = data.draw(st.integers(1, len(play.records) - 1))
    replay(play, play.cut(place))


def replay(whole, again):
    """Go on as the whole run did, and come to the same lines."""
    outcomes = {}
    for kind in (TasksCompleted, TasksFailed):
        for each in whole.told(kind):
            for line in each.tasks:
                outcomes[line.task_id] = line
    verdicts = {line.case_id: line for line in whole.told(VerdictGiven)}

    def answer(task):
        line = outcomes[task.task_id]
        if isinstance(line, FailedLine):
            raise Broke(line.error)
        return msgspec.json.decode(line.output.json)

    def decide(case):
        line = verdicts[case.case_id]
        return line.verdict, line.note

    again.answer, again.decide = answer, decide
    again.play()
    assert lines(again) == lines(whole)
