"""Any plan, any failures, any order: the nodes behave as a model of them does that is too simple to be wrong."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab.ids import origin, revised
from epsilon_lab.messages.call import Feedback
from epsilon_lab.topologies.engine import Tell
from epsilon_lab.topologies.plan import Revise
from tests.topologies.test_nodes import Play, spec

OVER = ("done", "failed", "stopped")


@st.composite
def plans(draw):
    """Some nodes; each may depend on any before it, and the plan has them in any order."""
    count = draw(st.integers(1, 9))
    specs = []
    for place in range(count):
        before = [str(other) for other in range(place)]
        depends_on = draw(st.lists(st.sampled_from(before), unique=True, max_size=4)) if before else []
        quorum = draw(st.sampled_from([None, None, 0.0, 0.5, 1.0])) if depends_on else None
        more = {"retries": draw(st.integers(0, 2)), "quorum": quorum, "priority": draw(st.integers(-1, 1))}
        specs.append(spec(str(place), *depends_on, **more))
    return draw(st.permutations(specs))


class Model:
    """The same, looking at everything each time."""

    def __init__(self, specs):
        self.specs = {each.id: each for each in specs}
        self.revision = dict.fromkeys(self.specs, 1)
        self.tries = dict.fromkeys(self.specs, 0)
        self.state = dict.fromkeys(self.specs, "waiting")
        self.look()

    def task_id(self, name):
        return revised(name, self.revision[name]) if self.revision[name] > 1 else name

    def look(self):
        before = None
        while before != self.state:
            before = dict(self.state)
            for name, each in self.specs.items():
                if self.state[name] == "waiting":
                    self.state[name] = self.judge(each)

    def judge(self, each):
        found = [self.state[name] for name in each.depends_on]
        lacking = sum(state in ("failed", "stopped") for state in found)
        if each.quorum is None and lacking:
            return "stopped"
        if any(state not in OVER for state in found):
            # With a quorum the engine may know early that there can never be enough; it is asked only once all is over.
            return "waiting"
        needed = max(1, math.ceil(each.quorum * len(found))) if each.quorum is not None else len(found)
        return "running" if len(found) - lacking >= needed else "stopped"

    def end(self, name, is_done):
        if is_done:
            self.state[name] = "done"
        elif self.tries[name] < self.specs[name].retries:
            self.tries[name] += 1
            self.revision[name] += 1
        else:
            self.state[name] = "failed"
        self.look()

    def revise(self, names):
        reached = set(names)
        while more := {
            each.id
            for each in self.specs.values()
            if each.id not in reached and self.state[each.id] != "waiting" and reached & set(each.depends_on)
            if not self.is_kept_back(each, reached)
        }:
            reached |= more
        for name in reached:
            if self.state[name] != "waiting":
                self.revision[name] += 1
                self.tries[name] = 0
            self.state[name] = "waiting"
        self.look()

    def is_kept_back(self, each, reached):
        """Stopped, and it would be again."""
        lacking = {name for name in each.depends_on if self.state[name] in ("failed", "stopped")}
        return self.state[each.id] == "stopped" and each.quorum is None and not lacking <= reached


def compare(play, model):
    assert {name: play.nodes.state(name) for name in play.nodes} == model.state
    assert {name: play.nodes.task_id(name) for name in play.nodes} == {
        name: model.task_id(name) for name in model.specs
    }
    latest = {task_id for task_id in play.out if play.nodes.task_id(origin(task_id)) == task_id}
    assert latest == {model.task_id(name) for name, state in model.state.items() if state == "running"}
    assert play.nodes.open == {name for name, state in model.state.items() if state not in OVER}


@given(plans(), st.data())
@settings(max_examples=150, deadline=None)
def test_nodes_do_what_a_naive_model_does(specs, data):
    play, model = Play(*specs), Model(specs)
    compare(play, model)
    for _ in range(data.draw(st.integers(0, 25))):
        if data.draw(st.integers(0, 5)) == 0:
            names = data.draw(st.lists(st.sampled_from([each.id for each in specs]), unique=True, min_size=1))
            why = (Feedback("rerun", "once more"),) if data.draw(st.booleans()) else ()
            play.take(play.state.step(Tell(Revise(dict.fromkeys(names, why))), 0.0))
            model.revise(names)
        elif play.out:
            task_id = data.draw(st.sampled_from(sorted(play.out)))
            is_done = data.draw(st.booleans())
            is_latest = play.nodes.task_id(origin(task_id)) == task_id
            play.end(task_id, "completed" if is_done else "failed", output=0)
            if is_latest:
                model.end(origin(task_id), is_done)
        compare(play, model)
    assert len(play.begun) == len(set(play.begun)), "no task is begun twice"


@given(plans(), st.data())
@settings(max_examples=100, deadline=None)
def test_every_node_begins_after_what_it_depends_on_and_its_fate_does_not_hang_on_the_order_of_others(specs, data):
    """Which attempts fail is laid down; in whatever order they end, the same tasks run and the same nodes are done."""
    fails = set()
    for each in specs:
        tries = data.draw(st.integers(0, each.retries + 1))
        fails |= {each.id if number == 1 else revised(each.id, number) for number in range(1, tries + 1)}

    def played(order):
        play = Play(*specs)
        while play.out:
            task_id = order(sorted(play.out))
            settled = {name for name in play.nodes if play.nodes.state(name) in OVER}
            assert set(play.nodes.spec(origin(task_id)).depends_on) <= settled
            play.end(task_id, "failed" if task_id in fails else "completed", output=task_id)
        return {name: play.nodes.state(name) for name in play.nodes}, sorted(play.begun), sorted(play.nodes.failures())

    first = played(lambda names: names[0])
    assert first == played(lambda names: names[-1])
    assert first == played(lambda names: data.draw(st.sampled_from(names)))
    assert all(state in OVER for state in first[0].values()), "nothing is left waiting"
