"""The ready-made problems as a worker sees them: packed, run in the sandbox, judged apart."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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


def test_circles_are_judged_without_a_tolerance(tmp_path):
    problem = problems.circle_packing(26)
    with opened(problem, tmp_path) as bench:
        seed = bench.evaluate(problem.source, seed=17, must_check=True)
        touching = bench.evaluate(problem.source.replace("radius - 1e-12", "radius * (1 + 1e-15)"), seed=17)
        wide = bench.evaluate(problem.source.replace("radius - 1e-12", "radius + 1e-12"), seed=17)
    assert (seed.outcome, seed.checked) == ("scored", True)
    assert seed.score == pytest.approx(26 / 12)
    assert (touching.outcome, touching.score, touching.checked) == ("check_failed", None, False)
    assert "leaves the square by" in touching.error or "overlap by" in touching.error
    assert (wide.outcome, wide.score) == ("invalid", None)


PEEKS = {
    "callers' variables": """
import sys
def coming():
    frame = sys._getframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if type(value) is list and len(value) == 500:
                return value
        frame = frame.f_back
""",
    "every object there is": """
import gc
def coming():
    gc.unfreeze()
    for value in gc.get_objects():
        if type(value) is list and len(value) == 500 and set(map(type, value)) == {int}:
            return value
""",
    "files and what belongs to the process": """
import glob, os
def coming():
    found = [os.listdir('.'), sorted(os.environ), glob.glob('/*/epsilon-scratch-*/work/*'), glob.glob('../*')]
    try:
        found += [len(os.listdir('/proc/self/fd'))]
    except PermissionError:
        pass
    return [1] * 500 if any('judge' in str(one) or '.pkl' in str(one) for one in found) else None
""",
}


@pytest.fixture
def bins(tmp_path) -> Iterator[Bench]:
    with opened(problems.bin_packing(), tmp_path) as bench:
        yield bench


def test_bins_are_packed_by_what_is_fed(bins):
    problem = problems.bin_packing()
    seed = bins.evaluate(problem.source, seed=17, must_check=True)
    assert (seed.outcome, seed.error, seed.checked) == ("scored", "", True)
    assert set(seed.scores) == {"held_out"}
    assert seed.feedback == {}
    assert 4 < seed.score < 5.5
    worse = bins.evaluate("def priority(item, spaces): return spaces", seed=17, incumbent=seed.score)
    assert (worse.outcome, worse.checked, worse.scores) == ("scored", None, {})
    arrays = "import numpy as np\ndef priority(item, spaces): return item - np.array(spaces)"
    same = bins.evaluate(arrays, seed=17, must_check=True)
    assert (same.score, same.scores) == (seed.score, seed.scores)


def test_a_program_that_looks_ahead_gains_nothing(bins):
    """In the simulation some find what is to come and say so; fed, none does, and so none has a score."""
    blind = bins.evaluate("def priority(item, spaces): return [-x for x in spaces]", seed=17, must_check=True)
    for where, peek in PEEKS.items():
        cheat = peek + "def priority(item, spaces):\n    return spaces if coming() else [-x for x in spaces]\n"
        row = bins.evaluate(cheat, seed=17, must_check=True)
        if where.startswith("files"):
            assert (row.outcome, row.score, row.scores) == ("scored", blind.score, blind.scores)
        else:
            assert (row.outcome, row.score, row.scores) == ("check_failed", None, {}), where
            assert f"(excess {blind.score:.2f} %" in row.error, where


def stopping(after: int, body: str) -> str:
    """A rule that does something else than packing from an item on."""
    return f"""
asked = 0
def priority(item, spaces):
    global asked
    asked += 1
    if asked > {after}:
        {body}
    return [-x for x in spaces]
"""


HOLD_OUT = {
    "raise ValueError('stop')": "crashed",
    "return [0.5]": "check_failed",
    "return [float('nan')] * len(spaces)": "check_failed",
    "return object()": "bad_type",
    "return ['x' * 100_000_000]": "too_large",
    "return None": "check_failed",
    "import os; os._exit(0)": "crashed",
}


def test_a_rule_that_fails_on_the_hold_out_has_no_score(bins):
    """The simulation never asks for the 1501st item; the judge does."""
    for body, outcome in HOLD_OUT.items():
        row = bins.evaluate(stopping(1600, body), seed=17, must_check=True)
        assert (row.outcome, row.score, row.scores) == (outcome, None, {}), body


@pytest.mark.parametrize("after", [100, pytest.param(1600, marks=pytest.mark.long)])
def test_a_rule_that_hangs_has_no_score(tmp_path, after):
    with opened(replace(problems.bin_packing(), timeout_s=2), tmp_path) as bench:
        row = bench.evaluate(stopping(after, "while True: pass"), seed=17, must_check=True)
    assert (row.outcome, row.score, row.scores) == ("timeout", None, {})
