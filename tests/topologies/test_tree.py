"""Trees played without processes or git: any teams, any failures and conflicts, in any order of their ends.

Every run is also cut after some of its lines and taken up again by fresh rules, which have to come to the same end.
"""

from __future__ import annotations

import hashlib
import itertools
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab import Command, Tree
from epsilon_lab.agents.teamwork import RESOLUTION
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import origin, revision
from epsilon_lab.messages.call import call_of
from epsilon_lab.messages.events import CompletedLine, FailedLine, RunEnded, TasksCompleted, TasksFailed
from epsilon_lab.messages.tasks import Failure, TaskOutcome
from epsilon_lab.messages.values import as_json, stored
from epsilon_lab.processes.repository import is_installed
from epsilon_lab.topologies.engine import Settled, Tell
from epsilon_lab.topologies.plan import Revise
from epsilon_lab.topologies.teams import merge_order
from tests.topologies.test_judged_plan import Play, lines

pytestmark = pytest.mark.skipif(not is_installed(), reason="git is not installed: apt-get install git")

folders = itertools.count()


def work(inputs):
    return inputs


def fix(request):
    return request


class TreePlay(Play):
    """A tree whose tasks end as they must: by their ids, the same however often it is played.

    Args:
        chance: (task id, what) -> whether that happens to it.
    """

    def __init__(self, topology, folder, chance, order=lambda names: 0):
        self.chance, self.order, self.conflicts = chance, order, {}
        super().__init__(topology, folder, answer=None)

    def turn(self):
        if self.tasks:  # which of those that are out ends next
            name = list(self.tasks)[self.order(tuple(self.tasks)) % len(self.tasks)]
            self.tasks = {name: self.tasks.pop(name), **self.tasks}
        return super().turn()

    def settle(self, task):
        name = task.task_id
        if task.kind in ("node", "resolve") and self.chance(name, "fails"):
            line = FailedLine(task_id=name, attempt=1, fence=1, outcome="failed", error="Broke: no", then="failed")
            self.write(TasksFailed(worker_id="w", tasks=(line,)))
            failure = Failure(task_id=name, run_id="r", fence=1, outcome="failed", error="Broke: no")
            outcome = TaskOutcome(run_id="r", task_id=name, status="failed", failure=failure)
        else:
            output, files = as_json(self.gives(task)), f"leaves/{name}/1" if task.kind != "commit" else ""
            line = CompletedLine(
                task_id=name, attempt=1, fence=1, output=stored(output), started_at=0.0, ended_at=0.0, files=files
            )
            self.write(TasksCompleted(worker_id="w", tasks=(line,)))
            outcome = TaskOutcome(run_id="r", task_id=name, status="completed", output=output, files=files)
        self.do(self.state.step(Settled((outcome,)), 0))

    def gives(self, task):
        if task.kind not in ("commit", "merge"):
            return task.task_id
        met = self.chance(task.task_id, "conflicts") and origin(task.task_id).endswith((".branch", ".merge"))
        return {"team": "", "commit": "" if met else task.task_id, "conflicts": ["same.txt"] if met else []}


def by_hash(seed, share):
    """Chances that depend on nothing but a seed and the task."""

    def chance(task_id, what):
        return hashlib.sha256(f"{seed} {task_id} {what}".encode()).digest()[0] < 256 * share[what]

    return chance


@st.composite
def teams(draw):
    stated = []
    for place in range(draw(st.integers(2, 4))):
        nodes = []
        for number in range(draw(st.integers(1, 3))):
            needs = draw(st.lists(st.sampled_from([f"n{n}" for n in range(number)]), unique=True)) if number else []
            nodes.append({"id": f"n{number}", "task": work, "depends_on": needs})
        before = [f"t{n}" for n in range(place)]
        needs = draw(st.lists(st.sampled_from(before), unique=True)) if before else []
        stated.append({"id": f"t{place}", "plan": nodes, "depends_on": needs})
    return draw(st.permutations(stated))


@given(teams(), st.integers(0, 999), st.booleans(), st.data())
@settings(max_examples=25, deadline=None)
def test_teams_begin_from_what_they_need_and_nothing_unresolved_is_merged(tmp_path_factory, stated, seed, fixed, data):
    tree = Tree(stated, fixer=fix if fixed else None, fix_waves=2, retries=1)
    chance = by_hash(seed, {"fails": 0.1, "conflicts": 0.2})
    order = lambda names: data.draw(st.integers(0, len(names) - 1))  # noqa: E731
    play = TreePlay(tree, tmp_path_factory.mktemp("trees") / f"r{next(folders)}", chance, order).play()
    assert play.state.ended
    ended: dict[str, dict] = {}
    merged = []
    for record_type, body in ((each.type, each.body) for each in play.records):
        if record_type == "task.completed":
            for line in msgspec.json.decode(body)["tasks"]:
                ended[line["task_id"]] = line["output"]["json"]
        if record_type == "task.submitted":
            for line in msgspec.json.decode(body)["tasks"]:
                name = origin(line["task_id"])
                for needed in line.get("depends_on", ()):
                    assert needed in ended, f"{name} began before {needed}"
                    if origin(needed).endswith((".branch", ".merge")) and not name.endswith(".resolve"):
                        assert ended[needed]["commit"], f"{name} began on conflicts of {needed}"
                if name.endswith(".merge") and revision(line["task_id"]) == 1:
                    merged.append(name.removesuffix(".merge"))
    needs = {team["id"]: team["depends_on"] for team in stated}
    assert merged == merge_order(needs)[: len(merged)], "one after the other, each after those it depends on"
    failed = [name for name in needs for node in ("n0", "n1", "n2") if fails_for_good(play, chance, f"{name}.{node}")]
    if play.state.status == "completed":
        assert not failed
        assert len(merged) == len(needs)
    else:
        assert failed or "conflict" in play.state.reason
    if not fixed and "conflict" in play.state.reason:
        assert "nobody is there to resolve it" in play.state.reason


def fails_for_good(play, chance, node):
    return f"{node}~2" in play.ran and chance(node, "fails") and chance(f"{node}~2", "fails")


@pytest.mark.parametrize("seed", range(4))
def test_a_tree_cut_anywhere_comes_to_the_same_end(tmp_path, seed):
    stated = [
        {"id": "a", "plan": [{"id": "x", "task": work}, {"id": "y", "task": work, "depends_on": ["x"]}]},
        {"id": "b", "task": work, "depends_on": ["a"]},
        {"id": "c", "task": work},
    ]
    chance = by_hash(seed, {"fails": 0.1, "conflicts": 0.3})
    play = TreePlay(Tree(stated, fixer=fix, fix_waves=4), tmp_path / "run", chance).play()
    for place in range(1, len(play.records)):
        again = play.cut(place)
        again.__class__ = TreePlay
        again.play()
        assert (again.state.status, again.state.reason) == (play.state.status, play.state.reason)
        assert sorted(lines(again)[-1:]) == sorted(lines(play)[-1:])


def test_a_merge_is_told_of_every_resolution_there_was(tmp_path):
    """Git begins anew each time: what was resolved in an earlier round conflicts again, and is known by then."""
    tree = Tree([{"id": "a", "task": work}, {"id": "b", "task": work}], fixer=fix)
    twice = lambda task_id, what: what == "conflicts" and task_id in ("b.merge", "b.merge~2")  # noqa: E731
    play = TreePlay(tree, tmp_path / "run", twice)
    asked = {}
    settle = play.settle
    play.settle = lambda task: (asked.update({task.task_id: call_of(task.payload)}), settle(task))
    play.play()
    assert play.state.status == "completed"
    told = [each.id.removeprefix(RESOLUTION) for each in asked["b.merge~3"].feedback]
    assert told == ["leaves/b.merge.resolve/1", "leaves/b.merge.resolve~2/1"]
    assert asked["b.merge.resolve~2"].layers[-1] == "leaves/b.merge~2/1", "a fixer sees what conflicts now"
    assert "leaves/a.work/1" in asked["b.merge.resolve"].layers


def test_where_it_is_finalised_an_agents_answer_stands_for_the_same_conflict_and_it_is_asked_no_other(tmp_path):
    tree = Tree([{"id": "a", "task": work}, {"id": "b", "task": work}], fixer=Command(["true"]))
    met = {"b.merge": "one", "b.merge~3": "one", "b.merge~5": "two", "b.merge~6": "two"}
    play = TreePlay(tree, tmp_path / "run", lambda task_id, what: False)
    gives, told = play.gives, {}

    def conflicting(task):
        told[task.task_id] = [each.id.removeprefix(RESOLUTION) for each in call_of(task.payload).feedback]
        seen = met.get(task.task_id)
        return {"team": "b", "commit": "", "conflicts": ["same.txt"], "seen": seen} if seen else gives(task)

    play.gives = conflicting
    assert play.play().state.status == "completed"
    first, second = Revise({"a.work": ()}, "verdicts/0001.json"), Revise({"a.work": ()}, "verdicts/0002.json")
    play.do(play.state.step(Tell(first), 0))
    assert play.play().state.status == "completed"
    assert told["b.merge~4"] == ["leaves/b.merge.resolve/1"]

    play.do(play.state.step(Tell(second), 0))
    assert play.play().state.status == "failed"
    known = "as they have not before, and where a run is finalised nobody is asked; run.rerun(['b.merge']) has"
    assert f"b.merge: branches conflict in same.txt {known}" in play.state.reason
    assert [name for name in told if name.startswith("b.merge.resolve")] == ["b.merge.resolve"]

    play.do(play.state.step(Tell(Revise({"b.merge": ()})), 0))
    assert play.play().state.status == "completed"
    assert told["b.merge~7"] == ["leaves/b.merge.resolve~6/1"]
    again = play.cut(len(play.records))
    assert (again.state.status, again.state.reason) == (play.state.status, play.state.reason)


def test_a_team_whose_work_is_taken_apart_wrongly_is_told_once_and_ends_no_other(tmp_path):
    parts = {"nodes": [{"id": "x", "task": "do x"}, {"id": "y", "task": "do y"}]}

    told = {}

    class Dividing(TreePlay):
        def gives(self, task):
            told[task.task_id] = [why.text for why in call_of(task.payload).feedback]
            if task.kind != "decompose":
                return super().gives(task)
            again = "~" in task.task_id and task.task_id.startswith(self.mends)
            return parts if task.task_id.startswith("good") or again else self.wrong

    for wrong in ({"nodes": [{"id": "merge", "task": "do"}, {"id": "y", "task": "do"}]}, "no plan"):
        for mends in ("bad", "nobody"):
            Dividing.wrong, Dividing.mends = wrong, mends
            tree = Tree([{"id": "bad", "task": "be bad"}, {"id": "good", "task": "be good"}], agent=fix)
            play = Dividing(tree, tmp_path / f"{mends}-{len(wrong)}", lambda *_: False).play()
            [why] = told["bad.decompose~2"]
            assert "'merge' names a task of the run itself" in why or "is not JSON" in why
            assert "good.commit" in play.ran, "the other team goes on"
            assert play.state.status == ("completed" if mends == "bad" else "failed")
            assert mends == "bad" or "bad.decompose: the work was taken apart wrongly, twice" in play.state.reason


def test_a_run_that_failed_names_the_last_commit_of_main(tmp_path):
    class Conflicting(TreePlay):
        def gives(self, task):
            stuck = {"team": "b", "commit": "", "conflicts": ["same.txt"]}
            return stuck if task.task_id == "b.merge" else super().gives(task)

    tree = Tree([{"id": "a", "task": work}, {"id": "b", "task": work}])
    play = Conflicting(tree, tmp_path / "r", lambda *_: False).play()
    assert play.state.status == "failed"
    [end] = play.told(RunEnded)
    assert msgspec.json.decode(end.output.json) == {"commit": "a.merge", "teams": {"a": "a.commit", "b": "b.commit"}}


def test_a_manifests_teams_name_functions_beside_it_and_nowhere_else(tmp_path):
    (tmp_path / "inside").mkdir()
    for folder in (tmp_path, tmp_path / "inside"):
        (folder / "parts.py").write_text("def work(request):\n    return 1\n")
    path = tmp_path / "inside" / "shop.json"

    def read(task):
        teams = [{"id": "a", "task": task}, {"id": "b", "plan": {"nodes": [{"id": "n", "task": task}]}}]
        for stated in (teams, teams[::-1]):
            path.write_text(json.dumps({"teams": stated}))
            yield lambda: Tree.from_manifest(path)

    for made in read("parts.py:work"):
        assert repr(made()) == "<Tree shop: 2 teams>"
    for elsewhere in ("../parts.py:work", f"{tmp_path / 'inside' / 'parts.py'}:work"):
        for place, refused in zip((r"\.task", r"\.plan\.nodes\[0\]\.task"), read(elsewhere), strict=True):
            with pytest.raises(InvalidInput, match=rf"shop.json: \$\.teams\[0\]{place}: leads outside"):
                refused()
    for wrong in read(3):
        with pytest.raises(InvalidInput, match=r"task: must be a text or 'module:function', got 3"):
            wrong()


def test_an_agent_beside_a_function_is_refused():
    teams = [{"id": "a", "task": work}, {"id": "b", "plan": [{"id": "n", "task": work, "agent": fix}]}]
    with pytest.raises(InvalidInput, match=r"\$\.teams\[1\]\.plan\.nodes\[0\]\.agent: does what is said in words"):
        Tree(teams)
