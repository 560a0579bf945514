"""The ready-made problems as a worker sees them: packed, run in the sandbox, judged apart."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from epsilon_lab import problems
from epsilon_lab.problems.csv_programs import ALTERNATIVES, SEED
from epsilon_lab.search.judging import Bench, pack_problem
from epsilon_lab.search.problem import Problem
from epsilon_lab.workspace.layout import RunDirectory


@contextmanager
def opened(problem: Problem, path: Path) -> Iterator[Bench]:
    run = RunDirectory(path)
    reference, _ = pack_problem(problem, run)
    bench = Bench.open(run, reference)
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture
def orders(tmp_path) -> Iterator[Bench]:
    with opened(problems.csv_aggregation(rows=300), tmp_path) as bench:
        yield bench


def exchanged(**bodies: int) -> str:
    """The seed program with some functions' other bodies."""
    return "\n\n".join(
        ALTERNATIVES[name][bodies[name]] if (name := getattr(one, "name", "")) in bodies else ast.unparse(one)
        for one in ast.parse(SEED).body
    )


def answering(body: str) -> str:
    return f"def aggregate_orders(csv_path):\n    {body}\n"


BAD = [
    (answering("return {}"), "invalid", "orders-1.csv: expected a dict"),
    (answering("return None"), "invalid", "orders-1.csv: expected a dict"),
    (answering("return iter([])"), "bad_type", "output[0]"),
    (answering("return {'row_count': float('nan')}"), "invalid", "orders-1.csv"),
    (answering("import time; time.process_time = lambda: 0.0; return {}"), "invalid", "orders-1.csv"),
    (answering("return open('expected.json').read()"), "crashed", "expected.json"),
    # the order files lie there, and nothing else
    (
        answering("import os; raise ValueError(*sorted(os.listdir()))"),
        "crashed",
        str(tuple(problems.csv_aggregation().files)),
    ),
    # an answer that differs from run to run
    (
        SEED.replace(
            "    return answer", "    import os\n    answer['total_revenue'] += os.getpid() * 1e-9\n    return answer"
        ),
        "invalid",
        "",
    ),
]


def test_csv_programs_get_the_score_or_the_reason_they_deserve(orders):
    seed = orders.evaluate(SEED, seed=17, must_check=True)
    assert (seed.outcome, seed.error, seed.checked) == ("scored", "", True)
    assert set(seed.scores) == {"cpu_ms", "seed_cpu_ms", "first_score"}
    for source, outcome, error in BAD:
        row = orders.evaluate(source, seed=17)
        assert (row.outcome, row.score) == (outcome, None), source
        assert error in row.error, source
    importing = orders.evaluate(exchanged(number=4, add_up=1), seed=17)
    assert (importing.outcome, importing.error) == ("scored", "")


def test_cap_sets_are_judged_exactly(tmp_path):
    with opened(problems.cap_set(4), tmp_path) as bench:
        seed = bench.evaluate(problems.cap_set(4).source, seed=17, must_check=True)
        better = bench.evaluate("def priority(vector, n):\n    return len(set(vector))\n", seed=17, incumbent=16.0)
        wrong = bench.evaluate("def priority(vector, n):\n    return float('nan')\n", seed=17)
        cheat = bench.evaluate("def priority(vector, n):\n    return [vector] * 20\n", seed=17)
    assert (seed.outcome, seed.score, seed.checked) == ("scored", 16.0, True)
    assert (better.outcome, better.score, better.checked) == ("scored", 20.0, True)
    assert (wrong.outcome, wrong.score) == ("invalid", None)
    assert "priority(0, 0, 0, 0) is nan" in wrong.error
    assert (cheat.outcome, cheat.score) == ("invalid", None)
