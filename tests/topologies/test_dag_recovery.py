"""A dag under QA that is cut after any of its groups and taken up again comes to the same end, and redoes nothing."""

import hashlib
import random

import pytest

from epsilon_lab.messages.call import Call
from epsilon_lab.messages.values import as_json
from epsilon_lab.topologies.dag import DagPlan, DagRules
from epsilon_lab.topologies.plan import Condition
from epsilon_lab.topologies.quality import Checked, QualityRules
from tests.topologies.rehearsal import Rehearsal, completed
from tests.topologies.test_nodes import spec


def drawn(name, sides):
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % sides


class Build(Rehearsal):
    """What a task answers hangs on nothing but its id: some fail, some say no, QA finds fault with one or another."""

    def answer(self, task):
        if task.kind != "qa":
            return (
                f"{task.task_id} failed" if drawn(task.task_id, 5) == 0 else as_json({"is": drawn(task.task_id, 4) > 0})
            )
        verdict = drawn(f"{self.seed} {task.task_id}", 4)
        if verdict == 0:
            return as_json({"status": "pass"})
        if verdict == 1:
            return as_json("no report")
        return as_json({"status": "fail", "errors": [{"description": "wrong", "node": f"n{verdict}"}]})


def plan(seed):
    dice = random.Random(seed)
    nodes = []
    for place in range(8):
        behind = [f"n{other}" for other in sorted(dice.sample(range(place), k=min(place, dice.randint(0, 3))))]
        when = tuple(Condition(name, ("is",)) for name in behind if dice.random() < 0.15)
        quorum = 0.5 if behind and dice.random() < 0.2 else None
        nodes.append(spec(f"n{place}", *behind, retries=dice.randint(0, 1), when=when, quorum=quorum))
    qa = spec("qa", kind="qa", retries=1, call=Call(code="q"))
    return Checked(DagPlan(DagRules(nodes=tuple(nodes))), QualityRules(qa=qa, fix_waves=2))


@pytest.mark.parametrize("seed", range(6))
def test_a_dag_comes_to_the_same_end_from_any_cut(seed):
    whole = Build()
    whole.seed = seed
    whole.start(plan(seed))
    whole.play(random.Random(seed))
    assert whole.ended.status in ("completed", "failed")
    for cut in range(1, len(whole.groups)):
        again = Build(whole.groups[:cut], epoch=2)
        again.seed = seed
        done = completed(again.records)
        again.resume(plan(seed))
        again.play(random.Random(seed + cut))
        assert (again.ended.status, again.ended.reason) == (whole.ended.status, whole.ended.reason)
        assert again.ended.output == whole.ended.output
        assert not done & set(again.executed), "what was done is not done again"
        assert completed(again.records) == completed(whole.records)
