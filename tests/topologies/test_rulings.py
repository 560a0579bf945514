"""Verdicts on candidates of a search that goes on: what they take out is out at once, on record, until taken back."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from epsilon_lab import ids
from epsilon_lab.messages.cases import Decide, Finalise, Flag, Retract
from epsilon_lab.messages.deciders import Decider
from epsilon_lab.messages.events import CandidateSettled, CaseFlagged, GenerationClosed
from epsilon_lab.messages.tasks import TaskSpec
from epsilon_lab.messages.values import Value, pack, unpack
from epsilon_lab.topologies.engine import Tell
from epsilon_lab.topologies.recovery import recover
from tests.topologies.rehearsal import Rehearsal
from tests.topologies.test_recovery import answer, search

ANN = Decider("ann")
CHEAT = "g000-c002"
"""A candidate that nobody beats."""


def flagged(name: str) -> CaseFlagged:
    return CaseFlagged(
        case_id=ids.case_id("doubt", name),
        kind="doubt",
        question="Genuine?",
        options=("genuine", "reject"),
        key=name,
        flagged_by="doubt",
        task_id="",
    )


class Search(Rehearsal):
    """A search whose judge puts to the strict check what beats the incumbent, as the real one does."""

    def __init__(self, *given: Any, **changes: Any) -> None:
        super().__init__(*given, **changes)
        self.proposals: dict[str, dict[str, Any]] = {}

    def answer(self, task: TaskSpec) -> Value | str:
        if task.kind == "propose":
            self.proposals[unpack(task.payload)["candidate_id"]] = unpack(task.payload)
        if task.kind == "propose" and unpack(task.payload)["candidate_id"] == CHEAT:
            name = {"candidate_id": CHEAT, "source_ref": f"candidates/{CHEAT}.py", "code_hash": "cheat"}
            rest: dict[str, Any] = {"proposer": "toy", "prompt_ref": None, "reply_ref": None, "prompt_sha256": "x"}
            return pack(name | rest)
        if task.kind != "evaluate":
            return answer(task)
        asked, name = unpack(task.payload), ids.origin(task.task_id).removeprefix("evaluate-")
        first = msgspec.structs.replace(task, task_id=f"evaluate-{name}")
        score = 1e6 if name == CHEAT else unpack(answer(first))["score"]
        is_put = asked["must_check"] or asked["incumbent"] is None or score > asked["incumbent"]
        return pack({"outcome": "scored", "score": score, "checked": True if is_put else None})

    def decide(self, *names: str, verdict: str = "reject") -> None:
        self.tell(Tell(Flag(tuple(map(flagged, names)))))
        for name in names:
            self.tell(
                Tell(Decide(case_id=flagged(name).case_id, verdict=verdict, decider=ANN, note="peeks", force=True))
            )

    def undo(self, name: str) -> None:
        self.tell(Tell(Retract(case_id=flagged(name).case_id, decider=ANN)))

    def until(self, name: str, dice: random.Random) -> Search:
        """Go on until this task is open, and all of it that was before is settled."""
        while name not in self.open:
            self.now += 1.0
            names = dice.sample(sorted(self.open), k=min(len(self.open), dice.randint(1, 3)))
            self.assign(names)
            self.settle(names)
        return self

    def lines(self, kind: type, name: str) -> list[Any]:
        return [msgspec.json.decode(each.body, type=kind) for each in self.records if each.type == name]

    @property
    def rows(self) -> dict[str, CandidateSettled]:
        return {row.candidate_id: row for row in self.lines(CandidateSettled, "stage.candidate")}

    @property
    def bests(self) -> list[str | None]:
        """The best by the end of each generation."""
        return [line.best_id for line in self.lines(GenerationClosed, "stage.generation")]

    def shown(self, number: int) -> set[str]:
        """Whom proposals of a generation are made of, or were shown."""
        found = set[str]()
        for name, asked in self.proposals.items():
            if name.startswith(f"g{number:03d}"):
                found.update(one["candidate_id"] for one in (asked["best"], *asked["top"], *asked["parents"]))
        return found


def started(**changes: Any) -> Search:
    run = Search()
    run.start(search(**changes))
    return run


@pytest.mark.parametrize("when", ["brief-g000", "propose-g001-c000", "brief-g001"])
def test_a_candidate_that_is_rejected_is_out_from_the_next_selection_on(when: str) -> None:
    run = started().until(when, random.Random(1))
    assert run.bests[-1] == CHEAT
    assert CHEAT in run.files["leaderboard.json"]
    run.decide(CHEAT)
    row = run.rows[CHEAT]
    assert (row.outcome, row.score, row.checked, row.scores) == ("check_failed", None, False, {"rejected": 1e6})
    assert row.error.startswith("rejected by ann: peeks (case c-")
    assert CHEAT not in [place["candidate_id"] for place in msgspec.json.decode(run.files["leaderboard.json"])]
    run.play(random.Random(2))
    made_since = 1 if when == "brief-g000" else 2
    assert [CHEAT in run.shown(number) for number in (1, 2, 3)] == [number < made_since for number in (1, 2, 3)]
    assert run.ended.output is not None
    scores = {name: row.score for name, row in run.rows.items() if row.score is not None}
    assert unpack(run.ended.output)["candidate_id"] == max(scores, key=lambda name: (scores[name], name < "h"))


def test_whoever_leads_then_is_put_to_the_strict_check_before_anything_is_made_of_it() -> None:
    """Until then nothing was the best that was better than the rejected one, so nothing else was checked."""
    run = started().until("brief-g002", random.Random(1))
    unchecked = [row for row in run.rows.values() if row.score and not row.checked]
    leader = max(unchecked, key=lambda row: row.score or 0.0).candidate_id
    run.decide(CHEAT)
    assert not any(name.endswith("~2") for name in run.open), "what is under way is waited for"
    run.play(random.Random(2))
    assert run.rows[leader].checked
    checked_again = [name for name in run.executed if name.endswith("~2")]
    assert checked_again == [f"evaluate-{leader}~2"], "one that stands ends the search for one"
    assert leader in run.shown(3)


def test_a_verdict_that_is_taken_back_brings_the_candidate_back() -> None:
    run = started().until("propose-g001-c000", random.Random(1))
    before, leaderboard = run.rows[CHEAT], run.files["leaderboard.json"]
    run.decide(CHEAT)
    run.decide(CHEAT, verdict="genuine")
    assert (run.rows[CHEAT], run.files["leaderboard.json"]) == (before, leaderboard)
    run.decide(CHEAT)
    run.until("propose-g003-c000", random.Random(2))
    assert run.bests[1] != CHEAT
    run.undo(CHEAT)
    assert run.rows[CHEAT] == before
    run.play(random.Random(3))
    assert run.bests[-1] == CHEAT
    assert unpack(run.ended.output)["candidate_id"] == CHEAT


def test_one_of_the_open_generation_can_be_rejected() -> None:
    run = started().until(f"evaluate-{CHEAT}", random.Random(1))
    run.settle([f"evaluate-{CHEAT}"])
    run.until(later := max(name for name in run.open if name.startswith("evaluate-g000")), random.Random(1))
    later = later.removeprefix("evaluate-")
    run.decide(CHEAT, later)
    assert run.rows[CHEAT].outcome == "check_failed"
    run.play(random.Random(1))
    assert run.rows[later].outcome == "check_failed", "also where it was judged after that"
    assert {CHEAT, later}.isdisjoint(run.bests)


def test_where_all_are_rejected_there_is_no_best_and_the_run_says_so() -> None:
    run = started(generations=1).until("brief-g000", random.Random(1))
    run.decide(*[name for name, row in run.rows.items() if row.score is not None])
    assert run.rows["seed"].error.startswith("rejected by ann")
    assert run.files["best_solution.py"].startswith("# There is no best program")
    assert run.files["leaderboard.json"] == "[]\n"
    run.play(random.Random(1))
    assert (run.ended.status, run.ended.output) == ("completed", None)
    assert run.ended.reason.endswith("there is no best: every candidate that passed its check is rejected")
    run.undo("seed")
    run.tell(Tell(Finalise()))
    assert unpack(run.ended.output)["candidate_id"] == "seed"
    assert run.ended.reason == "all 1 generations are done"


def test_a_search_goes_on_where_all_so_far_are_rejected() -> None:
    run = started(generations=3).until("brief-g000", random.Random(1))
    run.decide(*[name for name, row in run.rows.items() if row.score is not None])
    run.play(random.Random(1))
    assert run.shown(1) == {"seed"}, "the seed program is what there is to begin with"
    assert run.bests[0] == CHEAT
    assert run.bests[1] not in (None, CHEAT, "seed")


def test_a_target_reached_by_one_that_is_rejected_is_not_reached() -> None:
    run = started(target=5e5, patience=1).until("brief-g000", random.Random(1))
    run.decide(CHEAT)
    run.play(random.Random(1))
    assert len(run.bests) > 1
    assert "target" not in run.ended.reason


def test_generations_that_only_a_rejected_candidate_made_look_stalled_do_not_end_a_search() -> None:
    run = started(patience=1).until("brief-g001", random.Random(1))
    run.decide(CHEAT)
    run.play(random.Random(1))
    assert len(run.bests) > 2


def test_the_lineage_after_a_verdict_does_not_depend_on_the_order_of_arrival() -> None:
    found = []
    for seed in range(4):
        run = started().until("brief-g001", random.Random(seed))
        run.decide(CHEAT)
        run.play(random.Random(seed + 10))
        found.append({name: row.parent_ids for name, row in run.rows.items()} | {"": run.bests})
    assert all(each == found[0] for each in found)


def test_cut_anywhere_a_run_with_verdicts_goes_on_as_it_was() -> None:
    dice = random.Random(7)
    run = started()
    while run.ended is None:
        run.now += 1.0
        names = dice.sample(sorted(run.open), k=min(len(run.open), 2))
        run.assign(names)
        run.settle(names)
        known = sorted(run.rows)
        if run.ended is None and dice.random() < 0.4:
            run.decide(dice.choice(known), verdict=dice.choice(["reject", "reject", "genuine"]))
    assert len([record for record in run.records if record.type == "stage.ruled"]) > 3
    for length in range(1, len(run.records) + 1):
        recover("r", search(), run.records[:length])
    for cut in range(1, len(run.groups), 5):
        again = Search(run.groups[:cut], epoch=2)
        again.resume(search())
        again.play(random.Random(cut))
        assert again.ended is not None


def test_a_run_that_failed_at_its_seed_program_ends_as_it_had() -> None:
    run = Search()
    run.start(search())
    run.answer = lambda task: pack({"outcome": "crashed", "error": "boom"})  # type: ignore[method-assign]
    run.assign(["evaluate-seed"])
    run.settle(["evaluate-seed"])
    reason = run.ended.reason
    run.decide("seed")
    run.tell(Tell(Finalise()))
    assert run.state.ended
    assert (run.ended.status, run.ended.reason) == ("failed", reason)
    assert run.rows["seed"].error == "boom", "it was in no ranking"
    assert recover("r", search(), run.records).state.ended
