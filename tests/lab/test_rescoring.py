"""`run.rescore`: a search's programs judged by another scorer, both verdicts kept, what they disagree on flagged."""

import shutil

import pytest

from epsilon_lab import Lab, LabError, PopulationSearch, Problem
from epsilon_lab.errors import InvalidInput, RunFailed
from epsilon_lab.testing.census import wait_until
from epsilon_lab.topologies.catalogue import topology_of
from epsilon_lab.topologies.recovery import recover
from epsilon_lab.workspace.journal import read_journal
from epsilon_lab.workspace.layout import RunDirectory

SEED = "def solve():\n    return 5\n"
SMALL = {"elites": 1, "diverse": 1, "fresh": 1, "generations": 1}


def propose(context):
    return f"def solve():\n    return {int(context.candidate_id[-1]) + 3}\n"


def passes_below_100(output):
    return output < 100 or float(output)


def toy(**changes):
    given = {"score": float, "check": passes_below_100, "inputs": None, "timeout_s": 5, "setup": lambda: 7} | changes
    return Problem("toy", "Return a number.", SEED, **given)


def closest_to_state(output, trial):
    if output == 6:
        raise ValueError("six is no number")
    return {"score": -abs(output - trial.state), "twice": 2 * output}


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """Tests that finalise it or its rescoring come last."""
    with Lab(tmp_path_factory.mktemp("rescoring") / "runs", workers=1) as lab:
        yield lab.start(PopulationSearch(toy(), propose, population=6, **SMALL), name="toy").wait(60)


@pytest.fixture(scope="module")
def rescored(search):
    return search.rescore(closest_to_state).wait(60)


def test_both_verdicts_stand_and_one_is_told_who_moved(search, rescored):
    before, after = search.candidates.set_index("candidate_id"), rescored.candidates.set_index("candidate_id")
    distinct = before[before["outcome"] == "scored"]
    assert list(after.index) == list(distinct.index), "the same candidates, the duplicate left out"
    assert distinct["score"].to_dict()["g000-c005"] == 8.0
    assert after.loc["g000-c005", "score"] == -1.0
    assert after.loc["g000-c005", "score_twice"] == 16
    assert after.loc["g000-c003", ["outcome", "error"]].tolist() == ["invalid", "ValueError: six is no number"]
    assert set(after["scorer_hash"]).isdisjoint(before["scorer_hash"].dropna())
    assert after["code_hash"].equals(distinct["code_hash"])

    changes = rescored.changes.set_index("candidate_id")
    assert list(changes.index) == ["g000-c004", "g000-c005", "seed", "g000-c001", "g000-c000", "g000-c003"]
    assert changes.loc["g000-c004", ["rank_before", "rank_after", "moved", "flipped"]].tolist() == [2, 1, 1, 1]
    assert changes.loc["g000-c003", "rank_after"] != changes.loc["g000-c003", "rank_after"], "none"
    assert changes["score_before"].to_dict() == distinct["score"].to_dict()
    assert rescored.reason == "5 of 6 programs have a score; 3 changed places with another"
    assert rescored.frame("runs")["parent_run_id"].tolist() == [search.run_id]


def test_whoever_changed_places_is_a_case_of_the_rescoring(search, rescored):
    assert len(search.cases) == 0
    cases = {case.evidence["source_ref"]: case for case in rescored.cases.open}
    assert set(cases) == {f"candidates/g000-c00{n}.py" for n in (3, 4, 5)}, "nor whoever only moved up behind them"
    case = cases["candidates/g000-c005.py"]
    assert (case.kind, case.flagged_by, case.options) == ("order", "rescore", ("new order", "old order", "reject"))
    assert case.evidence["other"] == {
        "candidate_id": "g000-c004",
        "score_before": 7.0,
        "score_after": 0.0,
        "source_ref": "candidates/g000-c004.py",
    }
    assert cases["candidates/g000-c003.py"].evidence["error"] == "ValueError: six is no number"


def test_it_answers_as_a_search_does(search, rescored):
    assert [place["candidate_id"] for place in rescored.output][:2] == ["g000-c004", "g000-c005"]
    assert rescored.best.candidate_id == rescored.leader.candidate_id == "g000-c004"
    assert (
        rescored.best.source == (rescored.path / "best_solution.py").read_text() == search.best.source.replace("8", "7")
    )
    assert rescored.best.checked
    assert "toy rescored" in rescored.name
    assert rescored.show()._repr_html_()
    assert rescored.plot_scores()._repr_png_()
    with pytest.raises(LabError, match="ask the search"):
        rescored.controls()


def test_the_problem_s_own_check_only_passes_or_fails(tmp_path):
    def cheat(context):
        return f"def solve():\n    return {994 + int(context.candidate_id[-1])}\n"

    def never_above_995(output):
        return f"{output} is too much" if output > 995 else float(output) / 1000

    with Lab(tmp_path / "runs", workers=1) as lab:
        search = lab.start(PopulationSearch(toy(check=never_above_995), cheat, population=3, **SMALL)).wait(60)
        assert search.best.score == 0.995
        assert search.candidate("g000-c002").error == "996 is too much"
        rescored = search.rescore(lambda output: 2.0 * output, name="twice").wait(60)
        assert (rescored.name, rescored.best.score) == ("twice", 1990.0), "not by the number of the old check"
        loss = rescored.rescore(lambda output: -float(output), check=lambda output: None, direction="minimize").wait(60)
        assert (loss.best.score, loss.direction) == (-995, "minimize"), "a rescoring can be judged again itself"
        assert not len(loss.cases), "a loss that says the same as the score before flips nothing"


def test_what_cannot_be_judged_again_is_refused_with_the_reason(lab, search):
    for wrong, what in (({"score": 7}, "score"), ({"score": float, "check": 7}, "check")):
        with pytest.raises(InvalidInput, match=f"rescore {what}"):
            search.rescore(**wrong)
    with pytest.raises(InvalidInput, match="rescore direction"):
        search.rescore(float, direction="up")
    with pytest.raises(InvalidInput, match="rescore judge_files"):
        search.rescore(float, judge_files={"../x": "y"})

    def stuck(context):
        while True:
            pass

    live = lab.start(PopulationSearch(toy(), stuck, population=2, **SMALL | {"elites": 0}))
    with pytest.raises(LabError, match="is running; wait"):
        live.rescore(float)
    assert wait_until(lambda: "scored" in set(live.candidates["outcome"]), within_s=60)
    live.stop()
    live.wait(60)

    failed = lab.start(PopulationSearch(toy(score=lambda output: 1 / 0), population=2, **SMALL | {"elites": 0}))
    with pytest.raises(RunFailed):
        failed.wait(60)
    with pytest.raises(LabError, match=r"no program of run .* had a score"):
        failed.rescore(float)

    nothing = live.rescore(lambda output: 1 / 0)
    with pytest.raises(RunFailed, match="gave no program a score; seed: ZeroDivisionError"):
        nothing.wait(60)
    with pytest.raises(LabError, match="is failed, and has not ranked"):
        nothing.changes  # noqa: B018


@pytest.mark.long
def test_a_stranger_s_search_is_judged_again_by_whoever_trusts_it(search, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(search.path, elsewhere / search.run_id)
    with Lab(elsewhere, workers=1) as other:
        with pytest.raises(LabError, match=r"rescore\(trust=True\)"):
            other.runs[search.run_id].rescore(float)
        assert other.runs[search.run_id].rescore(float, trust=True).wait(60).best.score == 8
        (elsewhere / search.run_id / "problem" / "judge.pkl").unlink()
        with pytest.raises(LabError, match="cannot be read"):
            other.runs[search.run_id].rescore(float, trust=True)


class Doubt:
    """A detector that has its doubts about some candidates."""

    table = "candidates"

    def __init__(self, *names):
        self.names = names

    def __call__(self, rows, *, flag):
        for row in rows:
            if row["candidate_id"] in self.names:
                flag(key=["candidate", row["candidate_id"]], question="Too good?", options=["fine", "reject"])


FILES = ("leaderboard.json", "leaderboard.csv", "best_solution.py", "generation_history.json")


def resumes_wherever_it_is_cut_off(run):
    records, _, _ = read_journal(run.path / "journal.ndjson")
    directory = RunDirectory(run.path)
    for length in range(1, len(records) + 1):
        recover(run.run_id, topology_of(run.topology).restore(directory, records), records[:length])
    return True


def files(run):
    return {name: (run.path / name).read_bytes() for name in FILES}


def test_a_rejected_candidate_is_out_of_the_ranking_until_the_verdict_is_taken_back(search):
    run = search
    before, output, reason = files(run), run.output, run.reason
    run.detect(Doubt("g000-c005", "g000-c004"))
    assert run.finalize().empty, "nothing is decided"
    assert files(run) == before
    cases = {case.key[1]: case.case_id for case in run.cases.open}
    for name, case_id in cases.items():
        run.cases.decide(case_id, "fine" if name == "g000-c004" else "reject", note="it peeks", decider="ann")
    assert run.best.candidate_id == "g000-c005", "a verdict alone changes nothing"

    changed = run.finalize()
    assert changed.columns.tolist() == ["task_id", "path", "before", "after", "because"]
    because = [cases["g000-c005"]]
    assert changed.values.tolist() == [
        ["evaluate-g000-c005", "rank", 1, None, because],
        ["", "candidate_id", "g000-c005", "g000-c004", because],
        ["", "score", 8.0, 7.0, because],
        ["", "source_ref", "candidates/g000-c005.py", "candidates/g000-c004.py", because],
    ]
    assert run.best.candidate_id == run.leader.candidate_id == run.output["candidate_id"] == "g000-c004"
    assert (run.status, run.reason) == ("completed", reason)
    row = run.candidates.set_index("candidate_id").loc["g000-c005"]
    assert (row["outcome"], row["score_rejected"], row["checked"]) == ("check_failed", 8.0, False)
    assert row["error"] == f"rejected by ann: it peeks (case {because[0]})"
    after = files(run)
    assert b"g000-c005" not in after["leaderboard.json"] + after["leaderboard.csv"]
    assert after["best_solution.py"].endswith(b"return 7\n")
    lines = (run.path / "journal.ndjson").stat().st_size
    assert run.finalize().empty
    assert (files(run), (run.path / "journal.ndjson").stat().st_size) == (after, lines), (
        "twice is the same, to the byte"
    )

    run.cases.undo(because[0])
    assert run.finalize()["after"].tolist() == [1, "g000-c005", 8.0, "candidates/g000-c005.py"]
    assert (files(run), run.output, run.best.score) == (before, output, 8.0)
    assert resumes_wherever_it_is_cut_off(run)
    assert run.show()._repr_html_()


def test_a_verdict_on_a_candidate_of_a_search_that_goes_on_takes_effect_at_once(lab, tmp_path):
    go_on = str(tmp_path / "go on")

    def waits(context):
        import os
        import time

        while context.generation and not os.path.exists(go_on):
            time.sleep(0.02)
        return f"def solve():\n    return {10 * context.generation + int(context.candidate_id[-1])}\n"

    twice = SMALL | {"generations": 2, "population": 3}
    run = lab.start(PopulationSearch(toy(), waits, **twice))
    assert wait_until(lambda: len(run.frame("briefs")) == 1, within_s=60)
    assert run.best.candidate_id == "seed"
    run.detect(Doubt("seed", "g000-c002"))
    run.cases.decide(run.cases.open[0].case_id, "reject", decider="ann")
    assert run.best is None
    assert run.leader.candidate_id == "g000-c002", "which was never the best, and so was not checked"
    (tmp_path / "go on").touch()
    run.wait(60)
    rows = run.candidates
    better = (
        rows[(rows["generation"] == 1) & (rows["outcome"] == "scored")].sort_values("score")["candidate_id"].tolist()
    )
    assert better, rows["error"].tolist()
    assert run.best.candidate_id == better[-1], rows[
        ["candidate_id", "outcome", "score", "checked", "error"]
    ].to_string()
    assert "seed" not in (run.path / "leaderboard.csv").read_text().split(",")
    assert set(run.frame("generations")["best_id"]) == {"seed", better[-1]}
    assert run.finalize().empty, "its files are made of the verdicts already"
    run.cases.undo(run.cases.frame()["case_id"].iloc[0])
    assert run.finalize()["after"].tolist() == [len(better) + 1]
    assert resumes_wherever_it_is_cut_off(run)


def test_verdicts_make_the_final_ranking_of_a_rescoring(rescored):
    run = rescored
    cases = {case.key: case.case_id for case in run.cases.open}
    run.cases.decide(cases["g000-c003"], "old order")
    run.cases.decide(cases["g000-c004"], "reject")
    run.cases.decide(cases["g000-c005"], "new order")
    first = run.finalize()
    places = [place["candidate_id"] for place in run.output]
    assert places == ["g000-c005", "g000-c003", "seed", "g000-c001", "g000-c000"]
    assert first["because"].map(len).gt(0).all()
    assert (run.best.candidate_id, run.changes["candidate_id"].iloc[0]) == ("g000-c005", "g000-c004")
    assert (run.path / "best_solution.py").read_text().endswith("return 8\n")
    assert run.finalize().empty
    run.cases.undo(cases["g000-c004"])
    run.finalize()
    assert [place["candidate_id"] for place in run.output][:3] == ["g000-c004", "g000-c005", "g000-c003"]
    assert resumes_wherever_it_is_cut_off(run)
