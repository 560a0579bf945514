"""Detectors end to end: entities out of mentions, and what is found in the tables of runs that are over."""

from __future__ import annotations

import select

import pytest

from epsilon_lab import Lab, LabError, MapReduce, PopulationSearch, Problem, reducers
from epsilon_lab.errors import InvalidInput
from epsilon_lab.testing.census import wait_until

DOCUMENTS = [
    "Barack Obama met Angela Merkel",
    "Obama spoke",
    "Merkel met Michelle Obama",
    "Łódź",
    "Lodz",
]


def mentions(document):
    return {"mentions": [name.strip() for part in document.split(" met ") for name in part.split(" spoke") if name]}


def brought_together(outputs, *, flag=None):
    names = reducers.concatenate([output["mentions"] for output in outputs])
    found = reducers.flag_alike(names, flag=flag, trust=["same"])
    return {"mentions": names, "entities": [entity.names for entity in found.entities]}


def propose(context):
    return f"def solve():\n    return {int(context.candidate_id[-1]) + 4}\n"


def searched(lab):
    toy = Problem(
        "toy", "Return a number.", "def solve():\n    return 5\n", inputs=None, score=float, timeout_s=5, best_known=5.5
    )
    small = {"population": 3, "elites": 1, "diverse": 1, "fresh": 1, "generations": 1}
    return lab.start(PopulationSearch(toy, propose, **small), name="toy").wait(60)


def test_entities_are_what_a_person_says_they_are(lab):
    run = lab.start(MapReduce(DOCUMENTS, mentions, brought_together, arity=2)).wait(60)
    assert ["Lodz", "Łódź"] in run.output["entities"]
    assert len(run.output["entities"]) == 6
    asked = {tuple(case.key): case for case in run.cases.open}
    assert set(asked) == {
        ("barack obama", "obama"),
        ("michelle obama", "obama"),
        ("angela merkel", "merkel"),
    }, "each once, whichever groups of the reduction met it"
    run.cases.decide(asked["barack obama", "obama"].case_id, "same", note="the speaker")
    run.cases.decide(asked["angela merkel", "merkel"].case_id, "same")
    changed = run.finalize()
    assert set(changed["because"].sum()) == {asked[key].case_id for key in asked if "michelle obama" not in key}
    assert sorted(run.output["entities"]) == [
        ["Angela Merkel", "Merkel"],
        ["Barack Obama", "Obama"],
        ["Lodz", "Łódź"],
        ["Michelle Obama"],
    ]
    assert run.finalize().empty


class Copies:
    """A detector of one's own."""

    table = "candidates"

    def __init__(self):
        self.told = []

    def __call__(self, rows, flag):
        for row in rows:
            if row["duplicate_of"]:
                key = [row["duplicate_of"], row["candidate_id"]]
                told = flag(key=key, question="The same?", options=["same", "different"], evidence=row["created_at"])
                self.told.append(told)


def without_table(rows, flag):
    pass


def vague(rows, flag):
    flag(key="a", question="Well?", options=["yes", "no"])
    flag(key="b", question="Well?", options=["yes"])


vague.table = "tasks"


def test_what_is_found_in_the_tables_of_a_run_that_is_over_becomes_its_cases_once(lab):
    run = searched(lab)
    too_good = reducers.SuspiciousScore()
    assert run.detect(too_good, reducers.UnstableScore(), reducers.DeadLetter())["key"].tolist() == ["g000-c002"]
    (case,) = run.cases.open
    assert (case.kind, case.flagged_by, case.key) == ("suspicious score", "SuspiciousScore", "g000-c002")
    assert case.evidence["score"] == 6
    assert run.detect(too_good).empty, "it is flagged once"
    run.cases.decide(case.case_id, "reject")
    assert run.detect(too_good).empty
    assert run.best.candidate_id == "g000-c002"
    assert not run.finalize().empty
    assert run.best.score == 5

    copies = Copies()
    (case_id,) = run.detect(copies)["case_id"]
    assert run.cases[case_id].key == ["seed", "g000-c001"]
    run.cases.decide(case_id, "different")
    assert run.detect(copies).empty
    assert copies.told == [None, "different"]

    with pytest.raises(InvalidInput, match="has no detector"):
        run.detect()
    for wrong in (without_table, reducers.DeadLetter, "candidates"):
        with pytest.raises(InvalidInput, match="is no detector"):
            run.detect(wrong)
    with pytest.raises(InvalidInput, match=r"flag\(key='b'\) options"):
        run.detect(vague)
    assert len(run.cases) == 2, "nothing is flagged by a detector that fails"
    with Lab(lab.path, read_only=True) as looking_on, pytest.raises(LabError, match="only looks on"):
        looking_on.runs["toy"].detect(reducers.SuspiciousScore(best_known=1.0))


def unfinished(rows, flag):
    for row in rows:
        if row["status"] == "running":
            flag(key=row["task_id"], question="Still there?", options=["yes", "no"])


unfinished.table = "tasks"


def held(place):
    while not (place / "go").exists():
        select.select([], [], [], 0.02)
    return []


def test_a_run_that_goes_on_takes_cases_too(lab, tmp_path):
    run = lab.start(MapReduce([tmp_path], held, reducers.concatenate))
    try:
        wait_until(lambda: "running" in run.frame("tasks")["status"].tolist(), within_s=60)
        assert run.detect(unfinished)["flagged_by"].tolist() == ["unfinished"]
        assert run.status == "running"
        run.cases.decide(run.cases.open[0].case_id, "yes")
    finally:
        (tmp_path / "go").touch()
    assert run.wait(60).cases.frame()["verdict"].tolist() == ["yes"]
