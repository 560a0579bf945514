"""The CSV problem: right programs score by their CPU time, wrong ones by nothing, whatever way they are wrong."""

from __future__ import annotations

import ast
import pickle
import types

import cloudpickle
import pytest

from epsilon_lab import problems
from epsilon_lab.errors import InvalidInput
from epsilon_lab.problems.csv_programs import ALTERNATIVES, SEED
from epsilon_lab.search.problem import Problem, Trial
from epsilon_lab.search.sources import parses
from epsilon_lab.search.variation import Variation


@pytest.fixture
def problem(tmp_path, monkeypatch) -> Problem:
    """The problem, in a directory that holds its files, as a judge and a candidate have one."""
    problem = problems.csv_aggregation(rows=300)
    for name, content in problem.files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return problem


def load(source: str) -> types.ModuleType:
    module = types.ModuleType("candidate")
    exec(compile(source, "candidate.py", "exec"), module.__dict__)
    return module


def trial(problem: Problem, *, cpu_s: float = 0.01, baseline: float | None = 0.02) -> Trial:
    state = problem.setup()
    return Trial(seconds=cpu_s, cpu_s=cpu_s, peak_mb=1, baseline_seconds=baseline, seed=17, inputs=(), state=state)


def with_body(function: str, body: str) -> str:
    """The seed program with another body for one function."""
    tree = ast.parse(SEED)
    return "\n\n".join(body if getattr(one, "name", None) == function else ast.unparse(one) for one in tree.body)


def test_the_seed_program_is_right_and_its_score_is_the_ratio(problem):
    output = problem.run(load(problem.source))
    assert problem.score(output, trial(problem)) == {"score": 2.0, "cpu_ms": 10.0, "seed_cpu_ms": 20.0}
    assert problem.check(output) in (None, True)


@pytest.mark.parametrize(
    ("function", "index", "flaw"),
    [
        ("read_rows", 0, "blank lines"),
        ("read_rows", 3, "quoted commas"),
        ("number", 3, "empty discounts"),
        ("revenue", 2, "rounding each order"),
    ],
)
def test_the_hard_rows_find_what_is_wrong_with_a_careless_body(problem, function, index, flaw):
    program = load(with_body(function, ALTERNATIVES[function][index]))
    with pytest.raises((ValueError, IndexError)):
        problem.score(problem.run(program), trial(problem))


def test_a_tie_that_is_left_to_chance_is_found(problem):
    by_order_of_appearance = problem.source.replace("(-customers[customer], customer)", "-customers[customer]")
    with pytest.raises(ValueError, match=r"orders-3.csv: top_customers\[0\]"):
        problem.score(problem.run(load(by_order_of_appearance)), trial(problem))


@pytest.mark.parametrize(
    ("function", "index"),
    [("read_rows", 1), ("read_rows", 5), ("add_up", 0), ("add_up", 1), ("add_up", 2), ("add_up", 3)]
    + [("number", index) for index in (0, 1, 2, 4)]
    + [("revenue", index) for index in (0, 1)],
)
def test_the_other_bodies_are_right_alone(problem, function, index):
    output = problem.run(load(with_body(function, ALTERNATIVES[function][index])))
    assert problem.score(output, trial(problem))["score"] == 2.0
    assert problem.check(output) in (None, True)


@pytest.mark.parametrize("reader", [2, 4])
def test_a_body_that_yields_fits_only_a_sum_that_looks_once(problem, reader):
    """The search has to combine: neither half of the fastest programs is right without the other's kind."""
    alone = with_body("read_rows", ALTERNATIVES["read_rows"][reader])
    with pytest.raises(TypeError):
        problem.run(load(alone))
    tree = ast.parse(alone)
    both = "\n\n".join(
        ALTERNATIVES["add_up"][1] if getattr(one, "name", None) == "add_up" else ast.unparse(one) for one in tree.body
    )
    assert problem.score(problem.run(load(both)), trial(problem))["score"] == 2.0


DAMAGES = {
    "timed file empty": lambda output: output[1].clear(),
    "timed file of another": lambda output: output.__setitem__(3, output[1]),
    "a file missing": lambda output: output.pop(),
    "a count": lambda output: output[1].update(row_count=output[1]["row_count"] + 1),
    "a count as float": lambda output: output[1].update(row_count=float(output[1]["row_count"])),
    "a count as bool": lambda output: output[4].update(row_count=False),
    "a cent": lambda output: output[3].update(total_revenue=output[3]["total_revenue"] + 0.01),
    "a nan": lambda output: output[3].update(total_revenue=float("nan")),
    "a text for a number": lambda output: output[3].update(total_revenue=str(output[3]["total_revenue"])),
    "a region missing": lambda output: output[1]["region_totals"].popitem(),
    "regions' totals": lambda output: output[1].update(region_totals=dict.fromkeys(output[1]["region_totals"], 1.0)),
    "order of customers": lambda output: output[1]["top_customers"].reverse(),
    "too few customers": lambda output: output[1]["top_customers"].pop(),
    "a customer's name": lambda output: output[1]["top_customers"][0].__setitem__(0, "C99999"),
    "units": lambda output: output[1].update(product_units=dict.fromkeys(output[1]["product_units"], 0)),
    "a key too many": lambda output: output[1].update(note=1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_whatever_is_wrong_in_any_file_has_no_score(problem, damage):
    output = problem.run(load(problem.source))
    damage(output)
    with pytest.raises(ValueError, match=r"orders-\d\.csv|each of 5 files"):
        problem.score(output, trial(problem))
    assert isinstance(problem.check(output), str)


@pytest.mark.parametrize("output", [None, {}, {"row_count": 0}, "[]", [[]] * 5, [None] * 5])
def test_what_is_no_list_of_answers_has_no_score(problem, output):
    with pytest.raises(ValueError, match="expected"):
        problem.score(output, trial(problem))


def test_a_program_that_answers_only_small_files_has_no_score(problem):
    cheat = problem.source.replace(
        "    rows = read_rows(csv_path)\n",
        "    import os\n    if os.path.getsize(csv_path) > 5000:\n        return {}\n    rows = read_rows(csv_path)\n",
    )
    with pytest.raises(ValueError, match="expected a dict with exactly the keys"):
        problem.score(problem.run(load(cheat)), trial(problem))


def test_the_check_is_stricter_than_the_score(problem):
    """Revenues that were not rounded are good enough to search with, not to be announced."""
    output = problem.run(load(problem.source.replace("round(total, 6)", "total * (1 + 1e-10)")))
    assert problem.score(output, trial(problem))["score"] == 2.0
    assert "total_revenue" in problem.check(output)


def test_the_check_trusts_the_files_and_not_what_was_set_up(problem, tmp_path):
    output = problem.run(load(problem.source))
    stale = trial(problem)
    (tmp_path / "orders-2.csv").write_bytes(problem.files["orders-4.csv"])
    assert problem.score(output, stale)["score"] == 2.0
    assert "orders-2.csv" in problem.check(output)


def test_no_measured_time_is_no_score(problem):
    output = problem.run(load(problem.source))
    with pytest.raises(ValueError, match="clock"):
        problem.score(output, trial(problem, cpu_s=0.0))
    with pytest.raises(ValueError, match="clock"):
        problem.score(output, trial(problem, baseline=None))


def test_the_candidates_side_holds_neither_answers_nor_judge(problem):
    side = cloudpickle.dumps(problem.run)
    assert len(side) < 500
    assert b"_score" not in side
    assert pickle.loads(side).func.__name__ == "_run"
    assert problem.judge_files == {}


def test_the_texts_are_as_the_syntax_tree_prints_them():
    """Otherwise the first diff of a search would show layout."""
    for text in (SEED, *(body for bodies in ALTERNATIVES.values() for body in bodies)):
        assert parses(text) is None
        assert [line for line in ast.unparse(ast.parse(text)).splitlines() if line] == [
            line for line in text.splitlines() if line
        ]


def test_the_alternatives_fit_the_offline_proposer(problem):
    assert Variation(problem.alternatives, problem.entry).entry == "aggregate_orders"
    names = {one.name for one in ast.parse(problem.source).body if isinstance(one, ast.FunctionDef)}
    assert set(problem.alternatives) < names


@pytest.mark.parametrize("wrong", [{"rows": 99}, {"rows": 5000.0}, {"rows": True}, {"seed": -1}, {"seed": "17"}])
def test_a_wrong_argument_is_refused_by_name(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        problems.csv_aggregation(**wrong)
