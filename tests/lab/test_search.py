"""A whole search through the lab: real broker, children, spawner, judge, tables."""

import time

import pytest

from epsilon_lab import Lab, LabError, PopulationSearch, Problem, Replay, problems
from epsilon_lab.errors import InvalidInput, RunFailed

SMALL = {"elites": 1, "diverse": 1, "fresh": 1}
SEED = "def solve():\n    return 1\n"


def toy(score=float, **changes):
    return Problem("toy", "Return a large number.", SEED, score=score, **{"timeout_s": 5} | changes)


def number(context):
    """Another program for each candidate, the same for the same candidate."""
    return f"def solve():\n    return {context.dice.randint(2, 1000)}\n"


def test_a_search_with_the_offline_proposer_improves_cap_sets(lab):
    run = lab.start(PopulationSearch(problems.cap_set(n=4), population=8, generations=3, patience=None)).wait(300)
    assert run.status == "completed"
    assert run.reason
    frame = run.candidates
    assert frame["candidate_id"][0] == "seed"
    assert (frame["generation"][0], frame["strategy"][0], frame["outcome"][0]) == (0, "seed", "scored")
    assert len(frame) == 1 + 8 + 6 + 6
    best = run.best
    assert best.score >= run.candidate("seed").score
    assert best.checked
    assert run.leader.score >= best.score
    for name in ("leaderboard.json", "leaderboard.csv", "generation_history.json", "best_solution.py"):
        assert (run.path / name).stat().st_size
    assert (run.path / "best_solution.py").read_text() == best.source
    assert set(run.frame("artifacts")["path"]) >= {"leaderboard.json", "best_solution.py", "briefs/g000-v1.md"}
    assert run.brief(0)
    assert run.frame("generations")["generation"].tolist() == [0, 1, 2]
    assert run.output["candidate_id"] == best.candidate_id
    assert "score" in run.lineage().columns


def test_a_function_proposes_and_sees_what_it_is_promised(lab):
    def propose(context):
        assert context.strategy in ("fresh", "diverse", "offspring")
        assert context.problem.name == "toy"
        assert not hasattr(context.problem, "score")
        assert context.best.score >= 1
        if context.generation:
            assert context.brief
        value = int(context.best.score) + context.dice.randint(1, 9)
        return f"def solve():\n    return {value}\n"

    run = lab.start(PopulationSearch(toy(), propose, population=4, generations=3, elites=1, diverse=1, fresh=1)).wait(
        120
    )
    outcomes = set(run.candidates["outcome"])
    assert outcomes <= {"scored", "duplicate"}, run.candidates[["outcome", "error"]]
    assert run.best.score > 3
    child = run.candidates.query("strategy == 'offspring'")["candidate_id"].iloc[0]
    assert run.candidate(child).parents
    assert run.candidate(child).diff().startswith("---")


def test_an_async_function_proposes_too(lab):
    async def propose(context):
        return number(context)

    run = lab.start(PopulationSearch(toy(), propose, population=4, generations=2, elites=1, diverse=1, fresh=1)).wait(
        120
    )
    assert run.best.score > 1


def test_what_proposers_do_wrong_is_a_row_with_its_reason(lab):
    def propose(context):
        match int(context.candidate_id[-1]):
            case 0:
                return None
            case 1:
                return 42
            case 2:
                raise RuntimeError("no idea")
            case 3:
                return "def solve(:"
            case 4:
                return "x = 1"
            case _:
                return number(context)

    run = lab.start(PopulationSearch(toy(), propose, population=6, generations=1, elites=1, diverse=1, fresh=1)).wait(
        120
    )
    rows = run.candidates.set_index("candidate_id")
    assert rows.outcome["g000-c000"] == "proposal_failed"
    assert "None" in rows.error["g000-c000"]
    assert rows.outcome["g000-c001"] == "proposal_failed"
    assert "no idea" in rows.error["g000-c002"]
    assert rows.outcome["g000-c003"] == "crashed"
    assert "SyntaxError" in rows.error["g000-c003"]
    assert rows.outcome["g000-c004"] == "crashed"
    assert "solve" in rows.error["g000-c004"]
    assert rows.outcome["g000-c005"] == "scored"


@pytest.mark.parametrize(
    ("score", "word"),
    [
        (lambda output: float("nan"), "nonfinite"),
        (lambda output: "good", "bad_type"),
        (lambda output: None, "bad_type"),
        (lambda output: 1 / 0, "invalid"),
    ],
    ids=["nan", "string", "nothing", "raises"],
)
def test_a_seed_program_that_does_not_score_ends_the_run_before_anything_is_proposed(lab, score, word):
    run = lab.start(PopulationSearch(toy(score), number))
    with pytest.raises(RunFailed, match=word):
        run.wait(60)
    assert run.candidates["candidate_id"].tolist() == ["seed"]
    assert run.best is None


def test_a_scorer_that_fails_some_fails_those(lab):
    def score(output):
        return {7: float("inf"), 8: "x", 9: None}.get(output, float(output))

    def propose(context):
        return f"def solve():\n    return {6 + int(context.candidate_id[-1])}\n"

    run = lab.start(PopulationSearch(toy(score), propose, population=5, generations=1, elites=1, diverse=1, fresh=1))
    rows = run.wait(60).candidates.set_index("candidate_id")
    assert rows.outcome.tolist() == ["scored", "scored", "nonfinite", "bad_type", "bad_type", "scored"]
    assert rows.score.notna().sum() == 3


def test_twelve_endless_programs_among_forty_cost_nobody_else_anything(lab):
    """The bound of the issue: 1.2 x limit x ceil(12 / slots) + control + 2 s."""
    limit = 1.0

    def healthy(context):
        return f"def solve():\n    return {10 + int(context.candidate_id[-3:])}\n"

    def some_endless(context):
        index = int(context.candidate_id[-3:])
        if index % 10 in (1, 4, 7):
            return f"def solve():\n    while True: pass  # {index}\n    x = {index}\n"
        return f"def solve():\n    return {10 + index}\n"

    seconds = {}
    for name, propose in (("control", healthy), ("endless", some_endless)):
        began = time.monotonic()
        search = PopulationSearch(toy(timeout_s=limit), propose, population=40, generations=1)
        run = lab.start(search, name=name).wait(120)
        seconds[name] = time.monotonic() - began
    rows = run.candidates.set_index("candidate_id")
    assert (rows.outcome == "timeout").sum() == 12
    for index in range(40):
        row = rows.loc[f"g000-c{index:03d}"]
        assert (row.outcome, row.score) == (
            ("timeout", row.score) if index % 10 in (1, 4, 7) else ("scored", 10 + index)
        )
    assert seconds["endless"] <= 1.2 * limit * 6 + seconds["control"] + 2


def test_the_same_seed_and_replies_give_one_lineage_at_any_parallelism(tmp_path):
    lineages = []
    with Lab(tmp_path / "first", workers=2) as lab:
        first = lab.start(PopulationSearch(toy(), number, population=6, generations=3, elites=2, diverse=1, fresh=1))
        lineages.append(first.wait(120).lineage())
        record = first.path
    for in_flight in (1, 4):
        with Lab(tmp_path / f"again-{in_flight}", workers=2) as lab:
            search = PopulationSearch(
                toy(), Replay(record), population=6, generations=3, elites=2, diverse=1, fresh=1, in_flight=in_flight
            )
            lineages.append(lab.start(search).wait(120).lineage())
    assert lineages[0].equals(lineages[1])
    assert lineages[1].equals(lineages[2])


def test_a_replay_that_does_not_fit_ends_the_run_and_says_why(lab):
    replies = {f"g000-c00{i}": f"```python\ndef solve():\n    return {5 + i}\n```" for i in range(2)}
    numbers = {"generations": 1, "elites": 0, "diverse": 0, "fresh": 0}
    run = lab.start(PopulationSearch(toy(), Replay(replies), population=2, **numbers)).wait(60)
    assert run.candidates["score"].tolist() == [1, 5, 6]

    more = lab.start(PopulationSearch(toy(), Replay(replies), population=3, **numbers))
    with pytest.raises(RunFailed, match="nothing is recorded for g000-c002"):
        more.wait(60)
    assert more.candidates.set_index("candidate_id").outcome["g000-c002"] == "proposal_failed"

    other = Problem("other", "Return a small number.", SEED, score=float)
    again = lab.start(PopulationSearch(other, Replay(run), population=2, **numbers))
    with pytest.raises(RunFailed, match="is not the recorded one"):
        again.wait(60)


def test_stopping_a_search_keeps_its_best(lab):
    def slow_or_stuck(context):
        while context.generation == 1:
            pass
        return number(context)

    run = lab.start(PopulationSearch(toy(), slow_or_stuck, population=4, generations=4, elites=1, diverse=1, fresh=1))
    while not run.frame("tasks")["task_id"].str.startswith("propose-g001").any():
        assert run.status == "running"
    run.stop()
    assert run.wait(60).status == "stopped"
    assert run.best.score > 1
    cut = run.candidates.query("generation == 1")
    assert len(cut) == 3
    assert set(cut["outcome"]) == {"proposal_failed"}


def test_bad_searches_are_refused_before_a_directory_is_made(own_lab):
    with pytest.raises(InvalidInput):
        own_lab.start(PopulationSearch(toy(), population=0))
    with pytest.raises(LabError):
        own_lab.start(PopulationSearch(toy(files={"data.csv": own_lab.path / "missing.csv"})))
    assert own_lab.sql("select * from runs").empty
    assert [p.name for p in own_lab.path.iterdir()] == ["lab"]


def test_a_person_s_brief_reaches_proposers_and_nonsense_is_refused(lab, tmp_path):
    go = tmp_path / "go"

    def propose(context):
        while context.generation == 1 and not go.exists():
            pass
        if context.generation == 2 and "try primes" not in context.brief:
            raise RuntimeError("nobody told me")
        return number(context)

    search = PopulationSearch(toy(), propose, population=4, generations=3, in_flight=1, **SMALL)
    run = lab.start(search)
    while run.frame("briefs").empty:
        assert run.status == "running"
    run.pause()
    for nonsense in (3, "", "\udc80"):
        with pytest.raises(InvalidInput, match="text"):
            run.brief(0, text=nonsense)
    with pytest.raises(InvalidInput, match="generation"):
        run.brief("first")
    with pytest.raises(InvalidInput, match="no brief"):
        run.brief(9)
    assert run.brief(0, text="try primes") == "try primes" == run.brief(0)
    go.touch()
    run.resume()
    run.wait(60)
    later = run.candidates.query("generation == 2")
    assert set(later["outcome"]) <= {"scored", "duplicate"}
    assert run.frame("briefs")["author"].tolist()[:2] == ["deterministic", "HUMAN"]


def test_odd_questions_are_answered_in_words(lab):
    run = lab.start(PopulationSearch(toy(), number, population=2, generations=1, elites=0, diverse=0, fresh=0)).wait(60)
    with pytest.raises(InvalidInput, match="nobody"):
        run.candidate("nobody")
    with pytest.raises(InvalidInput, match="seed"):
        run.candidate(["seed"])
    with pytest.raises(InvalidInput, match="ax"):
        run.plot_scores(ax=3)
    with pytest.raises(InvalidInput, match="controls"):
        run.plot_scores(controls="yes")
    with pytest.raises(InvalidInput, match="timeout"):
        run.wait("x")
    with pytest.raises(LabError, match="read by nobody"):
        run.brief(0, text="too late")
    assert lab.compare(run)._repr_png_()
    assert run.plot_scores()._repr_png_()
