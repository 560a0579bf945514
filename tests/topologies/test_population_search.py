"""The rules of a search: one lineage whatever the order of arrival, and a reason for every end."""

import hashlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab.agents.llm import LLM
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import BriefWritten, CandidateSettled, GenerationClosed
from epsilon_lab.messages.tasks import Failure, TaskOutcome
from epsilon_lab.messages.values import pack, unpack
from epsilon_lab.search.problem import Problem
from epsilon_lab.topologies.plan import Add, Emit, Finish, Write
from epsilon_lab.topologies.population_search import PopulationSearch
from epsilon_lab.topologies.search_plan import BriefEdit, SearchPlan, SearchSettings, Stage
from epsilon_lab.workspace.layout import RunDirectory


def problem(**changes):
    return Problem("toy", "Return a number.", "def solve():\n    return 1\n", score=float, **changes)


def plan(**changes):
    numbers = {
        "population": 6,
        "generations": 3,
        "elites": 1,
        "diverse": 1,
        "fresh": 1,
        "top_k": 2,
        "patience": None,
        "min_delta": 0.0,
        "target": None,
        "wall_time_s": None,
        "in_flight": None,
        "seed": 3,
    } | changes
    stage = Stage(
        direction="maximize",
        scorers=None,
        evaluation_limit_s=10,
        seed_hash="h-seed",
        problem_ref="p",
        proposer_ref="q",
        proposer="toy",
        lane="process",
        entry="solve",
        brief_ref=None,
        alternatives={},
    )
    return SearchPlan(stage, SearchSettings(**numbers))


def number(*parts):
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big")


def completed(task, output):
    return TaskOutcome(run_id="r", task_id=task.task_id, status="completed", output=pack(output))


def failed(task, error):
    failure = Failure(run_id="r", task_id=task.task_id, fence=1, outcome="failed", error=error)
    return TaskOutcome(run_id="r", task_id=task.task_id, status="failed", failure=failure)


class World:
    """Answers tasks as a deterministic proposer and judge would; `values` is how many distinct programs there are."""

    def __init__(self, values=40, failing=0, score=None, seed_outcome="scored"):
        self.values, self.failing, self.seed_outcome = values, failing, seed_outcome
        self.score = score or (lambda code: float(number("score", code) % 1000))

    def answer(self, task):
        payload = unpack(task.payload)
        if task.kind == "propose":
            shown = [parent["candidate_id"] for parent in payload["parents"]]
            draw = number(payload["candidate_id"], payload["best"]["score"], *shown)
            if self.failing and draw % 100 < self.failing:
                return failed(task, "no code block")
            result = {
                "candidate_id": payload["candidate_id"],
                "source_ref": f"candidates/{payload['candidate_id']}.py",
                "code_hash": f"h{draw % self.values}",
                "proposer": "toy",
                "prompt_ref": None,
                "reply_ref": None,
                "prompt_sha256": "x",
            }
            self.codes[result["source_ref"]] = result["code_hash"]
            return completed(task, result)
        if task.kind == "evaluate":
            if task.task_id == "evaluate-seed":
                return completed(
                    task,
                    {
                        "outcome": self.seed_outcome,
                        "score": 0.0 if self.seed_outcome == "scored" else None,
                        "checked": self.seed_outcome == "scored",
                        "error": "boom",
                    },
                )
            score = self.score(self.codes[payload["source_ref"]])
            beats = payload["incumbent"] is None or score > payload["incumbent"]
            return completed(task, {"outcome": "scored", "score": score, "checked": True if beats else None})
        return completed(task, {"text": "brief", "author": "rules", "cited": []})

    def run(self, rules, choose=lambda count: 0, at=lambda step: 0.0, hook=None):
        self.codes, rows, bodies, queue, step = {}, {}, [], [], 0
        effects = rules.start(at(0))
        while True:
            for effect in effects:
                if isinstance(effect, Add):
                    queue += effect.tasks
                elif isinstance(effect, Emit):
                    bodies.append(effect.body)
                    if isinstance(effect.body, CandidateSettled):
                        rows[effect.body.candidate_id] = effect.body
                elif isinstance(effect, Finish):
                    return effect, rows, bodies
            step += 1
            task = queue.pop(choose(len(queue)))
            effects = rules.tick(at(step)) or rules.settled(self.answer(task), at(step))
            if hook:
                effects = [*effects, *hook(step, rules, bodies)]


def signature(rows):
    return sorted(
        (r.candidate_id, r.parent_ids, r.code_hash, r.outcome, r.score, r.duplicate_of) for r in rows.values()
    )


def test_the_seed_program_is_judged_before_anything_is_proposed():
    rules = plan()
    (add,) = rules.start(0)
    assert [task.task_id for task in add.tasks] == ["evaluate-seed"]
    finish, rows, _ = World(seed_outcome="crashed").run(plan())
    assert finish.status == "failed"
    assert "seed program does not score (crashed: boom)" in finish.reason
    assert list(rows) == ["seed"]


@settings(max_examples=25)
@given(st.data())
def test_the_lineage_does_not_depend_on_the_order_of_arrival(data):
    world = World(values=data.draw(st.integers(3, 60)), failing=data.draw(st.sampled_from([0, 20])))
    _, straight, _ = world.run(plan())
    _, shuffled, _ = world.run(plan(), choose=lambda count: data.draw(st.integers(0, count - 1)))
    assert signature(straight) == signature(shuffled)


def test_every_slot_is_a_row_and_elites_are_kept_without_one():
    finish, rows, bodies = World().run(plan())
    assert finish.status == "completed"
    assert finish.reason == "all 3 generations are done"
    assert len(rows) == 1 + 6 + 5 + 5
    closed = [body for body in bodies if isinstance(body, GenerationClosed)]
    assert [len(body.elites) for body in closed] == [0, 1, 1]
    assert [body.candidates for body in closed] == [6, 5, 5]
    assert [body.best for body in closed] == sorted(body.best for body in closed)
    assert sum(isinstance(body, BriefWritten) for body in bodies) == 3


def test_a_program_is_judged_once_and_its_twins_are_duplicates():
    _, rows, _ = World(values=2).run(plan())
    scored = [row for row in rows.values() if row.outcome == "scored" and row.candidate_id != "seed"]
    assert len(scored) == 2
    for row in rows.values():
        if row.outcome == "duplicate":
            assert row.score is None
            assert rows[row.duplicate_of].code_hash == row.code_hash
            assert rows[row.duplicate_of].outcome == "scored"


def test_a_failed_proposal_is_a_row_with_its_reason():
    _, rows, _ = World(failing=30).run(plan())
    bad = [row for row in rows.values() if row.outcome == "proposal_failed"]
    assert bad
    assert all(row.error == "no code block" and row.score is None for row in bad)


def test_a_generation_without_a_single_program_ends_the_run_with_the_reason():
    finish, rows, _ = World(failing=100).run(plan())
    assert finish.status == "failed"
    assert "no code block" in finish.reason
    assert len(rows) == 7


def test_patience_counts_generations_without_enough_improvement():
    flat = World(score=lambda code: -1.0)
    finish, _, bodies = flat.run(plan(generations=9, patience=2))
    assert finish.reason == "the best score did not improve in 2 generations (patience)"
    assert [body.stall for body in bodies if isinstance(body, GenerationClosed)] == [0, 1, 2]
    small = World(score=lambda code: 0.5)
    finish, _, bodies = small.run(plan(generations=9, patience=1, min_delta=1.0))
    assert "by more than 1" in finish.reason


def test_target_and_wall_time_end_a_search_and_say_so():
    finish, _, _ = World().run(plan(target=1.0))
    assert finish.reason.startswith("target 1 reached: g000-c00")
    finish, rows, _ = World().run(plan(wall_time_s=5), at=float)
    assert finish.status == "completed"
    assert finish.reason == "the wall time of 5 s was over"
    assert len(rows) == 7
    cut = [row for row in rows.values() if "cut off" in row.error]
    assert cut
    assert all(row.outcome in ("proposal_failed", "scorer_failed") for row in cut)


@settings(max_examples=25)
@given(st.data())
def test_a_search_ends_when_its_evaluations_are_used_up_and_duplicates_use_none(data):
    allowed = data.draw(st.integers(1, 30))
    world = World(values=data.draw(st.integers(2, 60)), failing=data.draw(st.sampled_from([0, 20])))
    finish, rows, _ = world.run(
        plan(generations=8, evaluations=allowed), choose=lambda count: data.draw(st.integers(0, count - 1))
    )
    judged = [row for row in rows.values() if row.outcome == "scored" and row.candidate_id != "seed"]
    assert len(judged) <= allowed
    assert (len(judged) == allowed) == (finish.reason == f"all {allowed} evaluations are done")


def test_where_there_are_fewer_programs_than_evaluations_the_generations_end_it():
    finish, rows, _ = World(values=5).run(plan(generations=4, elites=0, diverse=0, fresh=6, evaluations=6))
    assert finish.reason == "all 4 generations are done"
    assert sum(row.outcome == "scored" for row in rows.values()) == 1 + 5
    assert sum(row.generation == 1 for row in rows.values()) < 6


def test_a_search_that_nobody_reads_briefs_of_writes_none():
    rules = plan()
    rules._stage = msgspec.structs.replace(rules._stage, briefed=False)
    finish, rows, bodies = World().run(rules)
    assert finish.reason == "all 3 generations are done"
    assert len(rows) == 1 + 6 + 5 + 5
    assert not any(isinstance(body, BriefWritten) for body in bodies)


class Priced(World):
    """Proposals by a model, of which the budget pays for so many."""

    def __init__(self, calls, **world):
        super().__init__(**world)
        self.calls = calls

    def answer(self, task):
        if task.kind != "propose":
            return super().answer(task)
        self.calls -= 1
        return super().answer(task) if self.calls >= 0 else failed(task, "budget: the budget was used up")


@settings(max_examples=15)
@given(st.data())
def test_a_budget_used_up_within_a_generation_keeps_what_was_paid_for(data):
    calls = data.draw(st.integers(1, 15))
    finish, rows, bodies = Priced(calls).run(plan(), choose=lambda count: data.draw(st.integers(0, count - 1)))
    assert (finish.status, finish.reason) == ("completed", "the budget was used up")
    outcomes = [row.outcome for row in rows.values() if row.candidate_id != "seed"]
    assert sum(outcome in ("scored", "duplicate") for outcome in outcomes) == calls
    assert len(outcomes) == (6 if calls < 6 else 11 if calls < 11 else 16)
    assert unpack(finish.output)["score"] == max(row.score for row in rows.values() if row.score is not None)
    assert isinstance([b for b in bodies if isinstance(b, BriefWritten | GenerationClosed)][-1], BriefWritten)


def test_a_budget_that_paid_for_no_program_is_a_failure():
    finish, rows, _ = Priced(0).run(plan())
    assert (finish.status, finish.reason) == ("failed", "the budget was used up; no proposal gave a program")
    assert len(rows) == 7


def test_a_budget_used_up_between_generations_ends_with_the_best():
    finish, _, _ = Priced(6).run(plan())
    assert (finish.status, finish.reason) == ("completed", "the budget was used up")


def exhaust(rules, after):
    """Run to the end, saying after so many answers that the time is over."""
    late = {}

    def hook(step, rules, bodies):
        if step == after and not late:
            late["now"] = True
            return rules.exhausted("the time was over", 0.0)
        return []

    return World().run(rules, hook=hook)


def test_when_the_time_is_over_a_model_s_proposals_are_waited_for_and_others_are_not():
    paid = plan()
    paid._stage = msgspec.structs.replace(paid._stage, is_paid=True)
    finish, rows, _ = exhaust(paid, 4)
    assert (finish.status, finish.reason) == ("completed", "the time was over")
    assert not [row for row in rows.values() if "cut off" in row.error]
    assert len(rows) == 7
    finish, rows, _ = exhaust(plan(), 4)
    assert (finish.status, finish.reason) == ("completed", "the time was over")
    assert [row for row in rows.values() if "cut off" in row.error]


def test_when_the_time_is_over_a_brief_under_way_is_waited_for_and_is_the_last():
    told = []

    def hook(step, rules, bodies):
        if rules._awaits_brief and not told:
            told.append(step)
            return rules.exhausted("the time was over", 0.0)
        return []

    finish, rows, bodies = World().run(plan(), hook=hook)
    assert (finish.status, finish.reason) == ("completed", "the time was over")
    assert isinstance(bodies[-1], BriefWritten)
    assert len(rows) == 7


def test_time_that_is_over_before_the_seed_program_was_judged_ends_the_run():
    [finish] = plan().exhausted("the time was over", 0.0)
    assert (finish.status, finish.reason) == ("failed", "the time was over, before the seed program was judged")


def test_stopping_keeps_what_there_is():
    finish, rows, bodies = World().run(plan(), hook=lambda step, rules, _: rules.stop("enough", 0) if step == 5 else [])
    assert finish.status == "stopped"
    assert len(rows) == 7
    assert isinstance([b for b in bodies if isinstance(b, GenerationClosed)][-1], GenerationClosed)


def test_an_edited_brief_reaches_what_has_not_started_and_is_handed_on():
    files, edited = {}, []

    def edit(step, rules, bodies):
        if not edited and any(isinstance(body, BriefWritten) for body in bodies):
            edited.append(step)
            return keep(rules.told(BriefEdit(0, "try primes"), 0))
        return []

    def keep(effects):
        files.update({effect.ref: effect.text for effect in effects if isinstance(effect, Write)})
        return effects

    rules = plan()
    settled = rules.settled
    rules.settled = lambda outcome, now: keep(settled(outcome, now))
    _, _, bodies = World().run(rules, hook=edit)
    versions = [(b.generation, b.version, b.author) for b in bodies if isinstance(b, BriefWritten)]
    assert versions == [(0, 1, "rules"), (0, 2, "HUMAN"), (1, 1, "rules"), (2, 1, "rules")]
    assert files["briefs/g000.md"] == "try primes"
    assert files["briefs/g000-v1.md"] == "brief"
    assert files["briefs/g001.md"].startswith("brief")
    assert files["briefs/g001.md"].endswith("try primes")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"population": 0}, "population"),
        ({"population": 2.5}, "population"),
        ({"population": True}, "population"),
        ({"population": 100_001}, "population: must be an int from 1 to 100000"),
        ({"generations": 10**7}, "generations"),
        ({"seed": 2**63}, "seed"),
        ({"target": 10**400}, "target"),
        ({"generations": 0}, "generations"),
        ({"elites": -1}, "elites"),
        ({"population": 4}, "elites \\+ diverse \\+ fresh"),
        ({"population": 3, "elites": 3, "diverse": 0, "fresh": 0}, "elites"),
        ({"patience": 0}, "patience"),
        ({"min_delta": -0.1}, "min_delta"),
        ({"min_delta": float("nan")}, "min_delta"),
        ({"target": "high"}, "target"),
        ({"wall_time_s": 0}, "wall_time_s"),
        ({"in_flight": 0}, "in_flight"),
        ({"seed": None}, "seed"),
        ({"brief": "please"}, "brief"),
        ({"top_k": 0}, "top_k"),
        ({"proposer": 5}, "proposer"),
        ({"evaluations": 0}, "evaluations"),
        ({"evaluations": 2.5}, "evaluations"),
    ],
)
def test_bad_arguments_are_refused_by_name(changes, word):
    with pytest.raises(InvalidInput, match=word):
        PopulationSearch(problem(), **changes)


def test_a_problem_is_required():
    with pytest.raises(InvalidInput, match="problem"):
        PopulationSearch("cap set")


def test_the_configuration_can_be_written_as_json():
    search = PopulationSearch(problem(), population=np.int64(9), seed=np.uint8(3), target=np.float32(2))
    found = msgspec.json.decode(msgspec.json.encode(search.config()))
    assert (found["population"], found["seed"], found["target"]) == (9, 3, 2)


def test_a_slow_model_is_not_cut_off_before_its_own_limit(tmp_path):
    slow, slower = LLM("openai/toy", timeout_s=900.0), LLM("openai/toy", timeout_s=1800.0)
    rules, _ = PopulationSearch(problem(), slow, brief=slower).prepare(RunDirectory(tmp_path))
    [judge_seed] = rules.start(0.0)[0].tasks
    evaluation = {"outcome": "scored", "score": 1.0, "checked": True}
    [proposals] = [e.tasks for e in rules.settled(completed(judge_seed, evaluation), 0.0) if isinstance(e, Add)]
    assert {task.time_limit_s for task in proposals} == {2 * slow.longest_s}
    for task in proposals[1:]:
        rules.settled(failed(task, "no"), 0.0)
    source = {"candidate_id": "g000-c000", "source_ref": "x", "code_hash": "h", "proposer": "toy"}
    [judging] = [e.tasks for e in rules.settled(completed(proposals[0], source), 0.0) if isinstance(e, Add)]
    [brief] = [e.tasks for e in rules.settled(completed(judging[0], evaluation), 0.0) if isinstance(e, Add)]
    assert brief[0].time_limit_s == 2 * slower.longest_s
