"""Named nodes run after what they depend on, are done again with their reasons, and nothing runs twice without one."""

import msgspec
import pytest

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.call import Call, Feedback, call_of
from epsilon_lab.messages.events import TasksCancelled, TasksWaiting
from epsilon_lab.messages.tasks import Failure, TaskOutcome
from epsilon_lab.messages.values import pack
from epsilon_lab.topologies.engine import RunState, Settled, Start, Submit, Tell
from epsilon_lab.topologies.nodes import Nodes, NodeSpec
from epsilon_lab.topologies.plan import Condition, Emit, Finish, Plan, Requeue, Revise


def spec(name, *depends_on, **more):
    more = {"call": Call(code="c")} | more
    return NodeSpec(id=name, lane="process", entry="x", depends_on=depends_on, **more)


class Bare(Plan):
    """A plan of nodes and nothing else, over when they are."""

    reads_outputs = True

    def __init__(self, *specs):
        self.specs = specs
        self.nodes = Nodes()
        self.meanings = []

    def start(self, now):
        return self.nodes.add(self.specs)

    def settled(self, outcome, now):
        meaning = self.nodes.settled(outcome)
        if meaning is None:
            return []
        self.meanings.append((meaning.node, meaning.state))
        return meaning.effects

    def told(self, news, now):
        match news:
            case Revise(feedback=feedback):
                return self.nodes.revise(feedback)
            case Requeue(task_ids=task_ids):
                return self.nodes.requeue(task_ids)

    def stop(self, reason, now):
        return [*self.nodes.close(reason), Finish("stopped", reason)]


class Play:
    """A plan under the engine, and a broker that does what it is told."""

    def __init__(self, *specs):
        self.plan = Bare(*specs)
        self.nodes = self.plan.nodes
        self.state = RunState("r", self.plan)
        self.out = {}
        self.begun = []
        self.lines = []
        self.take(self.state.step(Start(), 0.0))

    def take(self, effects):
        for effect in effects:
            if isinstance(effect, Submit):
                for task in effect.tasks:
                    self.out[task.task_id] = task
                    self.begun.append(task.task_id)
            elif isinstance(effect, Requeue):
                self.out.update(dict.fromkeys(effect.task_ids))
            elif isinstance(effect, Emit):
                self.lines.append(effect.body)

    def end(self, task_id, status="completed", output=None, files="", error="Boom: no", outcome="failed"):
        self.out.pop(task_id)
        failure = None
        if status != "completed":
            failure = Failure(
                task_id=task_id, run_id="r", fence=1, outcome=outcome, error=error, stderr_tail="the last words\n"
            )
        done = TaskOutcome(
            run_id="r",
            task_id=task_id,
            status=status,
            output=pack(output) if failure is None else None,
            failure=failure,
            files=files,
        )
        self.take(self.state.step(Settled((done,)), 0.0))

    def call(self, task_id):
        return call_of(self.out[task_id].payload)


def test_a_node_begins_as_soon_as_all_it_depends_on_is_done_and_gets_their_outputs():
    play = Play(spec("a"), spec("b"), spec("c", "b"), spec("d", "a", "c"))
    assert list(play.out) == ["a", "b"]
    waiting = play.lines[0]
    assert isinstance(waiting, TasksWaiting)
    assert [line.task_id for line in waiting.tasks] == ["a", "b", "c", "d"]  # the plan's order, that of results
    assert [line.depends_on for line in waiting.tasks][2:] == [("b",), ("a", "c")]
    play.end("b", output=2)
    assert list(play.out) == ["a", "c"]  # it did not wait for a
    play.end("c", output={"x": 3})
    play.end("a", output=1)
    inputs = {name: msgspec.json.decode(value.json) for name, value in play.call("d").inputs}
    assert inputs == {"a": 1, "c": {"x": 3}}
    play.end("d", output=4)
    assert not play.nodes.open
    assert play.nodes.final() == ("d",)
    assert {name: msgspec.json.decode(value.data) for name, value in play.nodes.outputs().items()} == {
        "a": 1,
        "b": 2,
        "c": {"x": 3},
        "d": 4,
    }


def test_a_failed_node_is_tried_again_with_how_it_went_and_those_behind_it_wait_on():
    play = Play(spec("a", retries=2), spec("b", "a"))
    play.end("a", "failed", error="ValueError: one")
    assert play.plan.meanings == [("a", "running")]
    assert play.call("a~2").feedback == (Feedback("failure", "ValueError: one\nthe last words", "a"),)
    play.end("a~2", "failed", error="ValueError: two")
    assert [each.id for each in play.call("a~3").feedback] == ["a", "a~2"]
    assert play.nodes.state("b") == "waiting"
    play.end("a~3", output=7)
    assert play.out["b"].depends_on == ("a~3",)
    assert play.begun == ["a", "a~2", "a~3", "b"]


def test_what_depends_on_a_failed_node_is_stopped_at_once_to_the_last_and_comes_back_with_it():
    play = Play(spec("a"), spec("slow"), spec("b", "a", "slow"), spec("c", "b"))
    play.end("a", "failed")
    assert play.plan.meanings == [("a", "failed"), ("b", "stopped"), ("c", "stopped")]
    assert list(play.out) == ["slow"]
    assert sorted(play.nodes.failures()) == ["a", "b", "c"]
    assert "depends on task a" in play.nodes.failures()["b"].error
    play.take(play.state.step(Tell(Revise({"a": (Feedback("person", "use b instead"),)})), 0.0))
    assert list(play.out) == ["slow", "a~2"]
    assert [each.text for each in play.call("a~2").feedback] == ["use b instead"]
    play.end("slow")
    play.end("a~2", output=1)
    assert play.out["b~2"].depends_on == ("a~2", "slow")
    play.end("b~2")
    play.end("c~2")
    assert not play.nodes.failures()
    assert play.begun == ["a", "slow", "a~2", "b~2", "c~2"]


@pytest.mark.parametrize("error", ["budget: 10 tokens are used up", "model refused: no key"])
def test_what_would_fail_again_for_certain_is_not_tried_again(error):
    play = Play(spec("a", retries=5))
    play.end("a", "failed", error=error)
    assert play.plan.meanings == [("a", "failed")]


@pytest.mark.parametrize(("status", "state"), [("dead", "failed"), ("cancelled", "cancelled")])
def test_neither_a_dead_letter_nor_what_a_person_cancelled_is_tried_again_by_itself(status, state):
    play = Play(spec("a", retries=5), spec("b", "a"))
    play.end("a", status, outcome="crashed" if status == "dead" else "cancelled", error="not wanted")
    assert play.plan.meanings[0] == ("a", state)
    assert not play.out


def test_a_dead_letter_that_is_requeued_brings_back_those_behind_it():
    play = Play(spec("a"), spec("b", "a"), spec("c"))
    play.end("a", "dead", outcome="crashed")
    assert play.nodes.open == {"c"}
    play.take(play.state.step(Tell(Requeue(("a", "c", "zzz"))), 0.0))
    assert sorted(play.out) == ["a", "c"]
    play.end("a")
    assert sorted(play.out) == ["b~2", "c"]


def test_a_dead_letter_that_a_review_refused_can_be_requeued_and_is_used_again():
    play = Play(spec("a", is_reviewed=True), spec("b", "a"))
    play.end("a", "dead", outcome="crashed")
    play.take(play.state._carry(play.nodes.refuse("a", "it crashed"), 0.0))
    play.take(play.state.step(Tell(Requeue(("a",))), 0.0))
    play.end("a", output=1)
    play.take(play.state._carry(play.nodes.accept("a"), 0.0))
    assert play.call("b~2").inputs[0][0] == "a"


def test_a_rerun_does_a_node_again_and_all_that_used_it_and_nothing_else():
    play = Play(spec("a"), spec("b", "a"), spec("c", "b"), spec("d"))
    for name in ("a", "b", "d"):
        play.end(name, output=name)
    assert list(play.out) == ["c"]
    play.take(play.state.step(Tell(Revise({"a": ()})), 0.0))
    assert list(play.out) == ["c", "a~2"]
    play.end("c", output="of old inputs")  # under way when the rerun was asked for: nothing follows from it any more
    assert play.nodes.state("c") == "waiting"
    play.end("a~2", output="new")
    play.end("b~2", output="new")
    assert play.out["c~2"].depends_on == ("b~2",)
    play.end("c~2")
    assert not play.nodes.open


def test_a_mended_node_leaves_those_behind_it_alone_where_the_product_is_files():
    play = Play(spec("a"), spec("b", "a"), spec("plain"), spec("user", "plain"))
    play.end("a", files="leaves/a/1")
    play.end("b", files="leaves/b/2")
    play.end("plain", output=1)
    play.end("user", output=2)
    why = {"a": (Feedback("qa", "test_a fails", "e1"),), "plain": (Feedback("qa", "wrong"),)}
    effects = play.nodes.revise(why, mends=True)
    play.take(play.state._carry(effects, 0.0))
    assert sorted(play.out) == ["a~2", "plain~2"]
    assert play.call("a~2").layers == ("leaves/a/1", "leaves/b/2")  # all of the product is there to be mended
    play.end("plain~2", output=3)
    assert "user~2" in play.out
    play.end("a~2", files="leaves/a~2/9")
    assert "b~2" not in play.out
    assert play.nodes.layers() == ("leaves/a/1", "leaves/b/2", "leaves/a~2/9")
    assert play.nodes.owners()["leaves/a~2/9"] == "a"


def test_a_node_sees_the_files_of_all_it_depends_on_in_the_order_they_were_settled_and_no_others():
    play = Play(spec("a"), spec("b"), spec("other"), spec("c", "a"), spec("d", "c", "b"))
    for name in ("b", "other", "a"):
        play.end(name, files=f"leaves/{name}/1")
    assert play.call("c").layers == ("leaves/a/1",)
    play.end("c", files="leaves/c/1")
    assert play.call("d").layers == ("leaves/b/1", "leaves/a/1", "leaves/c/1")


def test_a_node_done_again_from_nothing_takes_its_earlier_files_out_of_the_product():
    play = Play(spec("a"), spec("b", "a"))
    play.end("a", files="leaves/a/1")
    play.end("b", files="leaves/b/2")
    play.take(play.state.step(Tell(Revise({"a": ()})), 0.0))
    assert play.call("a~2").layers == ()
    play.end("a~2", files="leaves/a~2/3")
    assert play.call("b~2").layers == ("leaves/a~2/3",)
    play.end("b~2")
    assert play.nodes.layers() == ("leaves/a~2/3",)


def test_with_a_quorum_a_node_goes_on_without_those_that_failed():
    play = Play(spec("a"), spec("b"), spec("c", "a", "b", quorum=0.5))
    play.end("a", "failed", error="ValueError: no")
    assert play.nodes.state("c") == "waiting"
    play.end("b", output=1)
    assert [name for name, _ in play.call("c").inputs] == ["b"]
    assert list(play.call("c").failed) == ["a"]


def test_a_node_whose_condition_does_not_hold_is_skipped_with_those_that_need_it():
    hold = (Condition("a", ("verdict",), "no"),)
    play = Play(spec("a"), spec("b", "a", when=hold), spec("c", "b"), spec("d", "a", "c", quorum=0.0))
    play.end("a", output={"verdict": "yes"})
    assert play.plan.meanings[1:] == [("b", "skipped"), ("c", "skipped")]
    assert list(play.out) == ["d"]
    assert not play.nodes.failures()
    play.take(play.state.step(Tell(Revise({"a": ()})), 0.0))
    play.end("a~2", output={"verdict": "no"})
    assert "b~2" in play.out


def test_nothing_follows_from_a_reviewed_node_until_its_reviewer_said_so():
    play = Play(spec("a", is_reviewed=True), spec("b", "a"))
    play.end("a", output=1)
    assert not play.out
    assert play.nodes.open == {"a", "b"}
    play.take(play.state._carry(play.nodes.revise({"a": (Feedback("review", "more"),)}), 0.0))
    play.end("a~2", output=2)
    play.take(play.state._carry(play.nodes.accept("a"), 0.0))
    assert play.out["b"].depends_on == ("a~2",)


def test_those_that_wait_for_a_node_can_be_sent_to_others():
    play = Play(spec("a", is_reviewed=True), spec("b", "a"))
    play.end("a", "failed")
    effects = play.nodes.add([spec("a1"), spec("a2", "a1")])
    play.nodes.redirect("a", ("a2",))
    play.take(play.state._carry([*effects, *play.nodes.accept("a")], 0.0))
    assert list(play.out) == ["a1"]
    play.end("a1")
    play.end("a2")
    assert play.out["b"].depends_on == ("a2",)


def test_what_still_waits_when_the_run_ends_is_cancelled_on_record():
    play = Play(spec("a"), spec("b", "a"))
    [line] = [effect.body for effect in play.nodes.close("enough")]
    assert line == TasksCancelled(task_ids=("b",), reason="enough")


def test_a_name_that_is_taken_or_not_there_is_refused():
    nodes = Nodes()
    nodes.add([spec("a")])
    with pytest.raises(InvalidInput, match="'a'"):
        nodes.add([spec("a")])
    with pytest.raises(InvalidInput, match="'x'"):
        nodes.add([spec("b", "x")])


def test_specs_come_back_from_json_as_they_were():
    one = spec("a", "b", priority=3, retries=1, when=(Condition("b", ("x", 0), 1.5),), quorum=0.5, time_limit_s=2.0)
    assert msgspec.json.decode(msgspec.json.encode(one), type=NodeSpec) == one
