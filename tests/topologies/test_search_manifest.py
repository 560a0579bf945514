"""A search's manifest: every field lands where it is said to, or is refused with its path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epsilon_lab.errors import InvalidInput
from epsilon_lab.search.problem import Trial
from epsilon_lab.topologies.population_search import PopulationSearch

TASK = {"title": "numbers", "function_name": "solve", "baseline_solution_ref": "input/base.py", "summary": "Three."}
GOOD = {
    "task_ref": "input/problem.json",
    "output_root": "found",
    "candidate_task_template": "Read `{input_ref}`, write `{output_ref}`: {{a}} {payload_style}, {score_direction}.",
    "review_task_template": "Look at {input_ref}; be {payload_tone}.",
    "evaluation_handler": "judge.py:evaluate",
    "population_size": 9,
    "elite_count": 2,
    "diversity_count": 3,
    "fresh_count": 1,
    "review_top_k": 4,
    "score_field": "closeness",
    "score_direction": "minimize",
    "max_generations": 7,
    "max_wall_time_seconds": 90,
    "min_improvement_delta": 0.5,
    "patience_generations": 2,
    "evaluation_payload": {"weight": 2, "files": ["input/expected.json"], "timeout_s": 5},
    "candidate_payload": {"style": "plainly", "inputs": [3], "files": ["input/data.csv"]},
    "review_payload": {"tone": "brief"},
}
HANDLER = "def evaluate(output, payload):\n    return {'correctness_passed': True, 'closeness': payload['weight']}\n"


def written(tmp_path: Path, **changes: object) -> Path:
    folder = tmp_path / "input"
    folder.mkdir(exist_ok=True)
    (folder / "problem.json").write_text(json.dumps(TASK))
    (folder / "problem.md").write_text("# Three numbers\n\n```python\nx\n```\n")
    (folder / "base.py").write_text("def solve(n):\n    return n\n")
    (folder / "expected.json").write_text("[1]")
    (folder / "data.csv").write_text("a,b\n")
    (tmp_path / "judge.py").write_text(HANDLER)
    path = tmp_path / "search.json"
    document = GOOD | changes
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not ...}))
    return path


def test_every_field_lands_where_it_is_said_to(tmp_path):
    search = PopulationSearch.from_manifest(written(tmp_path), seed=5, in_flight=2)
    numbers = {name: getattr(search.settings, name) for name in search.settings.__struct_fields__}
    assert numbers == {
        "population": 9, "generations": 7, "elites": 2, "diverse": 3, "fresh": 1, "top_k": 4, "patience": 2,
        "min_delta": 0.5, "target": None, "wall_time_s": 90, "in_flight": 2, "seed": 5, "evaluations": None,
    }  # fmt: skip
    problem = search.problem
    assert (problem.name, problem.entry, problem.direction) == ("numbers", "solve", "minimize")
    assert problem.source == "def solve(n):\n    return n\n"
    assert problem.statement.startswith("Read `input/problem.json`, write `solution.py`: {a} plainly, minimize.")
    assert json.dumps(TASK) in problem.statement
    assert (problem.inputs, problem.timeout_s) == ([3], 5)
    assert (problem.files, problem.judge_files) == ({"data.csv": b"a,b\n"}, {"expected.json": b"[1]"})
    trial = Trial(seconds=1, cpu_s=1, peak_mb=1, baseline_seconds=None, seed=1, inputs=(3,), state=None)
    assert problem.score([1], trial) == {"score": 2}


def test_a_task_that_is_prose_is_told_apart_from_its_program(tmp_path):
    payload = {"style": "x", "function_name": "solve", "baseline_solution_ref": "input/base.py"}
    search = PopulationSearch.from_manifest(written(tmp_path, task_ref="input/problem.md", candidate_payload=payload))
    assert search.problem.name == "search"
    assert "## input/problem.md\n\n````markdown\n# Three numbers" in search.problem.statement
    assert search.problem.inputs == []


def test_payloads_may_be_left_out_and_nothing_else(tmp_path):
    plain = {"candidate_task_template": "x", "review_task_template": "y"}
    payloads = {"evaluation_payload": ..., "candidate_payload": ..., "review_payload": ...}
    assert PopulationSearch.from_manifest(written(tmp_path, **plain, **payloads))
    for name in GOOD.keys() - payloads.keys():
        with pytest.raises(InvalidInput, match=rf"search\.json: \$\.{name}: is missing; it must be "):
            PopulationSearch.from_manifest(written(tmp_path, **{name: ...}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"elite_count": "two"}, '$.elite_count: must be a whole number from 1 to 1000000, got "two"'),
        ({"elite_count": 6}, "$.elite_count + $.diversity_count + $.fresh_count: 6 + 3 + 1 is more than"),
        ({"elite_count": 0}, "$.elite_count: must be a whole number from 1"),
        ({"population_size": 1}, "$.population_size: must be a whole number from 2 to 100000, got 1"),
        ({"diversity_count": -1}, "$.diversity_count: must be a whole number from 0"),
        ({"score_direction": "up"}, "$.score_direction: must be 'maximize' or 'minimize', got \"up\""),
        ({"max_wall_time_seconds": 0}, "$.max_wall_time_seconds: must be a number above 0, got 0"),
        ({"min_improvement_delta": -0.1}, "$.min_improvement_delta: must be a number of at least 0"),
        ({"patience_generations": 0}, "$.patience_generations: must be"),
        ({"generations": 3}, "$.generations: is not a field of this manifest; did you mean max_generations?"),
        ({"candidate_payload": []}, "$.candidate_payload: must be an object, got []"),
        ({"task_ref": "../x"}, "$.task_ref: leads outside"),
        ({"task_ref": "none.md"}, "$.task_ref: \"none.md\" cannot be read"),
        ({"task_ref": "input/expected.json"}, "$.task_ref: input/expected.json: $: must be an object"),
        ({"task_ref": "input/problem.md"}, "$.candidate_payload.function_name: is missing; name the function"),
        ({"output_root": "/tmp"}, "$.output_root: leads outside"),
        ({"candidate_task_template": "{strategy}"}, "has the placeholder {strategy}"),
        ({"candidate_task_template": "{candidate_id}"}, "every prompt says this by itself: take it out"),
        ({"review_task_template": "{payload_style}"}, "$.review_task_template: has the placeholder {payload_style}"),
        ({"evaluation_handler": "judge.py:nobody"}, "$.evaluation_handler: judge.py has no function nobody"),
        ({"evaluation_handler": "judge"}, "$.evaluation_handler: must name a function as"),
        ({"evaluation_payload": {"files": ["nowhere"]}}, "$.evaluation_payload.files[0]: \"nowhere\" cannot be read"),
        ({"evaluation_payload": {"files": "x"}}, "$.evaluation_payload.files: must be a list of files"),
        (
            {"evaluation_payload": {"files": ["input/base.py", "./input/base.py"]}},
            "$.evaluation_payload.files[1]: is the second file of the name 'base.py'",
        ),
        ({"evaluation_payload": {"timeout_s": "x"}}, "$.evaluation_payload.timeout_s: must be a finite number"),
        ({"candidate_payload": {"style": 1, "inputs": 3}}, "$.candidate_payload.inputs: must be a list"),
        ({"candidate_payload": {"style": 1, "function_name": 3}}, "$.candidate_payload.function_name: must be a text"),
        ({"candidate_payload": {"style": 1, "function_name": "nope"}}, "solution_ref: does not define nope()"),
        (
            {"candidate_payload": {"style": 1, "baseline_solution_ref": "../x"}},
            "$.candidate_payload.baseline_solution_ref: leads outside",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_path(tmp_path, changes, message):
    with pytest.raises(InvalidInput) as refused:
        PopulationSearch.from_manifest(written(tmp_path, **changes))
    assert str(refused.value).startswith("search.json")
    assert message in str(refused.value)
    assert not (tmp_path / "found").exists()
