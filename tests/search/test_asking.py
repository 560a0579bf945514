"""A check that asks the program: what it learns, what it may return, and every program that does not answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from epsilon_lab.processes.spawner import Spawner
from epsilon_lab.search.judging import Bench, pack_problem
from epsilon_lab.search.problem import Problem
from epsilon_lab.search.verdict import read_check
from epsilon_lab.workspace.layout import RunDirectory

SEED = "def solve(x):\n    return x + 1\n"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Packs a problem with a check and opens it as a worker does; closes at the end."""
    opened: list[Bench] = []

    def make(check: Callable[..., Any], **changes: Any) -> Bench:
        facts = {"inputs": (3,), "score": lambda output: output, "timeout_s": 2, "output_mb": 1} | changes
        problem = Problem("increment", "Add one.", SEED, check=check, **facts)
        run = RunDirectory(tmp_path / f"run-{len(opened)}")
        reference, _ = pack_problem(problem, run)
        opened.append(Bench.open(run, reference))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def three(output: Any, ask: Any) -> Any:
    return {"score": output, "asked": sum([ask(x) for x in (1, 10, 100)]), "note": "well asked"}


def test_what_was_asked_joins_the_row(bench: Callable[..., Bench]) -> None:
    row = bench(three).evaluate(SEED, seed=1, must_check=True)
    assert (row.outcome, row.score, row.checked) == ("scored", 4.0, True)
    assert row.scores == {"asked": 114.0}
    assert row.feedback == {"note": "well asked"}


def test_only_a_would_be_best_is_asked(bench: Callable[..., Bench]) -> None:
    made = bench(three)
    row = made.evaluate(SEED, seed=1, incumbent=9.0)
    assert (row.outcome, row.checked, row.scores) == ("scored", None, {})
    assert made.stand.pid is None


def test_a_program_is_asked_in_a_process_of_its_own(bench: Callable[..., Bench]) -> None:
    """One process for all questions of a check, and not the one whose output is checked."""
    source = "import os\nborn = int.from_bytes(os.urandom(6))\ndef solve(x):\n    return born\n"
    made = bench(lambda output, ask: {"score": output, "one": ask(1), "two": ask(2)})
    first, second = (made.evaluate(source, seed=1) for _ in range(2))
    assert first.scores["one"] == first.scores["two"] != first.score
    assert second.scores["one"] != first.scores["one"]


@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.parametrize(
    ("body", "outcome", "said"),
    [
        ("return 1 / (x - 10)", "crashed", "ZeroDivisionError"),
        ("while x == 10: pass", "timeout", "2 s"),
        ("return 'x' * 600_000", "too_large", "1,048,576"),
        ("return object() if x == 10 else x", "bad_type", "object"),
        ("os.write(3, b'\\x08' + bytes(7) + b'ogarbage'); time.sleep(60)", "bad_type", "is no data"),
        ("os._exit(0)", "crashed", "before it returned"),
    ],
)
def test_a_program_that_does_not_answer_has_no_score(
    bench: Callable[..., Bench], body: str, outcome: str, said: str, swallowed: bool
) -> None:
    """The program's failure is the outcome, even of a check that catches it; the next program is judged as ever."""

    def check(output: Any, ask: Any) -> Any:
        try:
            return three(output, ask)
        except Exception:
            if swallowed:
                return True
            raise

    made = bench(check)
    source = f"import os, time\ndef solve(x):\n    if x == 3: return x\n    {body}\n    return x\n"
    row = made.evaluate(source, seed=1)
    assert (row.outcome, row.score, row.checked) == (outcome, None, False)
    assert said in row.error
    assert made.evaluate(SEED, seed=1).scores == {"asked": 114.0}


def test_the_error_names_the_question_and_the_programs_own_line(bench: Callable[..., Bench]) -> None:
    row = bench(three).evaluate("def solve(x):\n    assert x < 50\n    return x\n", seed=1)
    assert row.error == "asked by the check (3): AssertionError"
    assert "assert x < 50" in row.traceback


def test_a_check_may_refuse_the_answers(bench: Callable[..., Bench]) -> None:
    row = bench(lambda output, ask: "wrong" if ask(5) != 6 else None).evaluate("def solve(x): return x", seed=1)
    assert (row.outcome, row.error) == ("check_failed", "wrong")


def test_a_program_that_answers_does_not_stop_the_judges_clock(bench: Callable[..., Bench]) -> None:
    def endless(output: Any, ask: Any) -> Any:
        while True:
            ask(1)

    row = bench(endless, judge_timeout_s=0.5, timeout_s=60).evaluate(SEED, seed=1)
    assert (row.outcome, row.error) == ("scorer_failed", "check gave no answer in 0.5 s; the judge was restarted")


def test_a_slow_program_does_not_use_up_the_judges_time(bench: Callable[..., Bench]) -> None:
    slow = "import time\ndef solve(x):\n    time.sleep(0.8)\n    return x\n"
    row = bench(three, judge_timeout_s=2, timeout_s=20).evaluate(slow, seed=1)
    assert (row.outcome, row.scores) == ("scored", {"asked": 111.0})


def test_a_judge_that_dies_while_it_asks_is_the_scorers_failure(bench: Callable[..., Bench]) -> None:
    def dies(output: Any, ask: Any) -> Any:
        import os

        os._exit(ask(output))

    made = bench(dies)
    row = made.evaluate(SEED, seed=1)
    assert (row.outcome, row.error) == (
        "scorer_failed",
        "check ended the judge's process (exit code 5); the judge was restarted",
    )
    assert made.evaluate(SEED, seed=1, incumbent=9.0).outcome == "scored"


def test_what_cannot_be_asked_is_the_checks_failure(bench: Callable[..., Bench]) -> None:
    row = bench(lambda output, ask: ask(object())).evaluate(SEED, seed=1)
    assert row.outcome == "check_failed"
    assert "NotData" in row.error


def test_a_sandbox_for_questions_that_does_not_start_is_no_programs_fault(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(three)
    made.stand = Spawner(b"no pickle", {}, made.stand.limits)
    row = made.evaluate(SEED, seed=1)
    assert row.outcome == "scorer_failed"
    assert "cannot be loaded" in row.error


@pytest.mark.parametrize(
    ("check", "asked"),
    [
        (lambda output, ask: ask(1) == 2, True),
        (lambda *both: both[1](1) == 2, True),
        (lambda output, ask=None: ask is not None, True),
        (lambda output, digits=2: digits == 2, True),
        (lambda output: True, True),
        (bool, True),
    ],
)
def test_whether_a_check_asks_is_read_off_its_signature(bench: Callable[..., Bench], check: Any, asked: bool) -> None:
    assert bench(check).evaluate(SEED, seed=1).checked is asked


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, 'check returned a dict without the key "score", or None'),
        ({"score": math.nan}, 'whose "score" is nan'),
        ({"score": 1, "more": math.inf}, "whose 'more' is inf"),
        ({"score": 1, 2: 3}, "keys are str"),
    ],
)
def test_a_checks_dict_is_read_as_strictly_as_a_scores(answer: Any, said: str) -> None:
    verdict = read_check(answer)
    assert verdict.outcome == "scorer_failed"
    assert said in verdict.error
