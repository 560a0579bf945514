"""What a problem refuses in its constructor, by name, so that nothing of a run is spent on it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epsilon_lab.errors import InvalidInput
from epsilon_lab.search.judging import pack_problem
from epsilon_lab.search.problem import Problem
from epsilon_lab.workspace.layout import RunDirectory

SEED = "LIMIT = 3\ndef helper():\n    return 1\ndef solve():\n    return helper()\n"


def problem(**changes: Any) -> Problem:
    return Problem(**{"name": "toy", "statement": "Return a number.", "source": SEED, "score": float} | changes)


async def waits(*given: Any) -> float:
    return 1.0


def yields(*given: Any) -> Any:
    yield 1.0


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": " "}, "Problem name: must be a non-empty str"),
        ({"name": "\ud800"}, "Problem name: cannot be encoded as UTF-8: character 0"),
        ({"statement": "a\udfff"}, "Problem statement: cannot be encoded as UTF-8: character 1"),
        ({"source": SEED + "# \ud800"}, "Problem source: cannot be encoded"),
        ({"source": "def solve(:\n"}, "Problem source: does not parse: line 1"),
        ({"source": "def other():\n    pass\n"}, r"Problem source: does not define solve\(\)"),
        ({"best_known_source": None}, "Problem best_known_source"),
        ({"entry": "class"}, "Problem entry: must be a function name, got 'class'"),
        ({"entry": "a b"}, "Problem entry"),
        ({"direction": "up"}, "Problem direction"),
        ({"inputs": "abc"}, "Problem inputs"),
        ({"best_known": float("nan")}, "Problem best_known"),
        ({"best_known": "high"}, "Problem best_known"),
        ({"repeats": 0}, "Problem repeats"),
        ({"repeats": True}, "Problem repeats"),
        ({"repeats": 2.0}, "Problem repeats"),
        ({"scorers": 0}, "Problem scorers"),
        ({"scorers": 10**9}, "Problem scorers"),
    ],
)
def test_a_bad_argument_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        problem(**changes)


@pytest.mark.parametrize("what", ["files", "judge_files"])
@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "must be a dict"),
        (["a"], "must be a dict"),
        ({"a": 3}, r"\['a'\]: must be a path, bytes or text, got 3"),
        ({"a": "\ud800"}, r"\['a'\]: cannot be encoded"),
        ({"\ud800": "a"}, r"name '\\ud800': cannot be encoded"),
        ({"": "a"}, "name"),
        ({1: "a"}, "name 1: must be a non-empty str"),
        ({"a/b": "a"}, "not a plain file name"),
        ({"..": "a"}, "not a plain file name"),
    ],
)
def test_bad_files_are_refused_by_name(what: str, files: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"Problem {what}.*{said}"):
        problem(**{what: files})


@pytest.mark.parametrize(
    ("what", "most"),
    [("timeout_s", 604_800), ("judge_timeout_s", 604_800), ("memory_mb", 1 << 20), ("output_mb", 4096)],
)
def test_a_limit_that_limits_nothing_is_refused(what: str, most: int) -> None:
    assert getattr(problem(**{what: most}), what) == most
    for value in (most + 1, 1e300, 10**400, 10**5000, float("inf"), float("nan"), 0, -1, True, "1", None, Unshowable()):
        with pytest.raises(
            InvalidInput, match=f"Problem {what}: must be a finite number above 0 and of at most {most}"
        ):
            problem(**{what: value})


@pytest.mark.parametrize(
    ("alternatives", "said"),
    [
        (None, "must be a dict"),
        ([("helper", [])], "must be a dict"),
        ({"helper": "def helper(): return 2"}, "must be a list of str"),
        ({"helper": None}, "must be a list of str"),
        ({"helper": [3]}, r"\['helper'\]\[0\]: must be a non-empty str"),
        ({"helper": ["def helper(): return '\ud800'"]}, "cannot be encoded"),
        ({"helper": ["def helper(:"]}, "line 1"),
        ({"helper": ["def other(): return 2"]}, "must be one `def helper`"),
        ({"other": ["def other(): return 2"]}, "the source has no def other; it has helper, solve"),
        ({"LIMIT": ["def LIMIT(): return 2"]}, "the source has no def LIMIT"),
    ],
)
def test_alternatives_are_bodies_for_functions_that_there_are(alternatives: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"alternative.*{said}"):
        problem(alternatives=alternatives)


@pytest.mark.parametrize(
    ("what", "function"),
    [
        ("score", None),
        ("score", lambda: 1),
        ("score", lambda output, trial, more: 1),
        ("score", lambda output, *, trial: 1),
        ("check", "yes"),
        ("check", lambda: True),
        ("check", lambda output, ask, trial: True),
        ("run", lambda program, inputs: None),
        ("setup", lambda state: None),
        *((what, function) for what in ("score", "check", "run", "setup") for function in (waits, yields)),
        ("score", functools.partial(waits, 1)),
    ],
)
def test_a_function_must_take_what_it_is_called_with_and_answer_at_once(what: str, function: Any) -> None:
    with pytest.raises(InvalidInput, match=f"Problem {what}: "):
        problem(**{what: function})


@pytest.mark.parametrize(
    "score", [float, max, len, lambda output: 1, lambda output, trial: 1, lambda *both: 1, lambda output, digits=2: 1]
)
def test_any_function_that_can_be_called_so_is_a_scorer(score: Any) -> None:
    assert problem(score=score, check=bool, setup=dict, run=len).score is score


def test_with_run_the_entry_need_not_be_defined() -> None:
    assert problem(run=lambda program: program.helper(), entry="elsewhere").entry == "elsewhere"


def test_numpys_numbers_are_numbers(tmp_path: Path) -> None:
    stated = problem(
        repeats=np.int64(2), scorers=np.int32(1), timeout_s=np.float32(2), memory_mb=np.int64(64), best_known=np.int8(7)
    )
    assert type(stated.best_known) is int
    run = RunDirectory(tmp_path)
    pack_problem(stated, run)
    docket = json.loads(run.read_text("problem/judging.json"))
    assert (docket["repeats"], docket["timeout_s"], docket["memory_mb"]) == (2, 2, 64)
