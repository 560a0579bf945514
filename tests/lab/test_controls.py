"""Controls: random variation beside a finished search, as a run of the same lab."""

import shutil

import pytest

from epsilon_lab import Lab, LabError, PopulationSearch, Problem, problems
from epsilon_lab.errors import RunFailed

SMALL = {"elites": 1, "diverse": 1, "fresh": 1}
SEED = "def solve():\n    return 1 + 2 * 3 - 4\n"


def toy(score=float, **changes):
    return Problem("toy", "Return a large number.", SEED, score=score, **{"timeout_s": 5} | changes)


def test_controls_judge_as_many_programs_as_the_search_by_the_same_judge(lab):
    search = PopulationSearch(problems.cap_set(n=3), population=8, generations=3, patience=None, seed=4)
    run = lab.start(search, name="caps").wait(120)
    controls = run.controls()
    assert controls is run.controls()
    assert controls.wait(120).name == "caps controls"

    assert controls.evaluations == run.evaluations > 10
    frame = controls.candidates
    judged = frame[frame["scorer_hash"].notna() & (frame["candidate_id"] != "seed")]
    assert len(judged) == judged["code_hash"].nunique() == run.evaluations
    assert set(frame["scorer_hash"].dropna()) == set(run.candidates["scorer_hash"].dropna())
    assert set(frame["strategy"]) == {"seed", "fresh"}
    assert set(frame["proposer"]) == {"problem", "random variation"}
    assert not frame["parent_ids"].map(len).any()
    assert controls.candidate("seed").score == run.candidate("seed").score
    assert controls.frame("briefs").empty
    row = controls.frame("runs").iloc[0]
    assert (row["parent_run_id"], row["seed"], row["topology"]) == (run.run_id, 4, "population_search")

    sentence = f"the search reached {run.best.score:g}, random variation {controls.best.score:g}, at {run.evaluations}"
    for one in (run, controls):
        assert sentence in repr(one.show())
        assert sentence in one.show()._repr_html_()
    axes = run.plot_scores().axes[0]
    assert axes.get_xlabel().startswith("programs judged")
    assert run.plot_scores(controls=False).axes[0].get_xlabel() == "candidate"
    with pytest.raises(LabError, match="is the controls of"):
        controls.controls()


def test_controls_use_the_problem_s_alternatives_whoever_proposed(lab):
    def propose(context):
        return f"def solve():\n    return {context.candidate_id[-1]}\n"

    problem = toy(alternatives={"solve": ("def solve():\n    return 777\n",)})
    run = lab.start(PopulationSearch(problem, propose, population=9, generations=1, **SMALL)).wait(60)
    assert run.best.score == 8
    assert run.controls().wait(60).best.score >= 777


def test_a_past_search_gets_its_controls_without_the_session_that_stated_it(tmp_path):
    bonus = 3

    def score(output):
        return float(output) + bonus

    with Lab(tmp_path / "runs", workers=2) as lab:
        run_id = lab.start(PopulationSearch(toy(score), population=4, generations=2, **SMALL)).wait(60).run_id
    with Lab(tmp_path / "runs", workers=2) as lab:
        controls = lab.runs[run_id].controls().wait(60)
        assert controls.evaluations == lab.runs[run_id].evaluations
        assert controls.candidate("seed").score == 3 + bonus
    with Lab(tmp_path / "runs", read_only=True) as looking:
        assert looking.runs[run_id].controls().run_id == controls.run_id
        assert looking.runs[run_id].plot_scores(controls=True)._repr_png_()


def test_controls_that_were_cut_off_go_on_when_they_are_asked_for_again(tmp_path):
    def score(output):
        return float(output)

    with Lab(tmp_path / "runs", workers=2) as lab:
        run = lab.start(PopulationSearch(toy(score), population=6, generations=2, **SMALL)).wait(60)
        controls = run.controls()
        run_id, known = run.run_id, controls.run_id
        controls.pause()
    with Lab(tmp_path / "runs", workers=2) as lab:
        again = lab.runs[run_id].controls()
        assert again.run_id == known
        assert again.wait(60).evaluations == lab.runs[run_id].evaluations


def test_controls_that_were_stopped_are_run_anew(lab, tmp_path):
    go = tmp_path / "go"

    def score(output):
        while not go.exists():
            pass
        return float(output)

    go.touch()
    run = lab.start(PopulationSearch(toy(score), population=6, generations=2, **SMALL)).wait(60)
    go.unlink()
    first = run.controls()
    first.stop()
    assert first.wait(60).status == "stopped"
    go.touch()
    second = run.controls()
    assert second.run_id != first.run_id
    assert second.wait(60).evaluations == run.evaluations


def test_where_no_controls_can_stand_it_is_said_why(lab, tmp_path):
    def stuck(context):
        while True:
            pass

    live = lab.start(PopulationSearch(toy(), stuck, population=2, generations=1, elites=0, diverse=0, fresh=0))
    with pytest.raises(LabError, match="is running; wait"):
        live.controls()
    live.stop()
    live.wait(60)
    with pytest.raises(LabError, match=r"judged no program|stopped"):
        live.controls()
    with pytest.raises(LabError, match="run them first"):
        live.plot_scores(controls=True)

    failed = lab.start(
        PopulationSearch(toy(lambda output: 1 / 0), population=2, generations=1, **SMALL | {"elites": 0})
    )
    with pytest.raises(RunFailed):
        failed.wait(60)
    with pytest.raises(LabError, match="is failed"):
        failed.controls()

    done = lab.start(PopulationSearch(toy(), population=3, generations=1, **SMALL), name="done").wait(60)
    with Lab(lab.path, read_only=True) as looking, pytest.raises(LabError, match="only looks on"):
        looking.runs["done"].controls()

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(done.path, elsewhere / done.run_id)
    with Lab(elsewhere, workers=1) as other:
        foreign = other.runs[done.run_id]
        with pytest.raises(LabError, match="born in another workspace"):
            foreign.controls()
        (foreign.path / "problem" / "link").symlink_to(lab.path / "lab" / "lock")
        with pytest.raises(LabError, match="leads outside"):
            foreign.controls(trust=True)
        (foreign.path / "problem" / "link").unlink()
        assert foreign.controls(trust=True).wait(60).evaluations == done.evaluations
        (elsewhere / done.run_id / "plan.json").write_text("{}")
    shutil.copytree(elsewhere / done.run_id, tmp_path / "third" / done.run_id)
    with Lab(tmp_path / "third", workers=1) as third, pytest.raises(LabError, match="can have no controls"):
        third.runs[done.run_id].controls(trust=True)


def test_a_search_ends_at_the_number_of_evaluations_asked_for(lab):
    def propose(context):
        return f"def solve():\n    return {context.dice.randint(2, 9)}\n"

    search = PopulationSearch(toy(), propose, population=4, generations=50, patience=None, evaluations=6, **SMALL)
    run = lab.start(search).wait(60)
    assert (run.evaluations, run.reason) == (6, "all 6 evaluations are done")
    assert "duplicate" in set(run.candidates["outcome"])
