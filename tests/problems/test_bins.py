"""Online bin packing: the score is what a plain simulation says, and what counts is fed one item at a time."""

from __future__ import annotations

import pickle
import types
from fractions import Fraction
from math import ceil, inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab import problems
from epsilon_lab.errors import InvalidInput
from epsilon_lab.problems.bins import HELD_OUT, TRAINING
from epsilon_lab.problems.weibull_items import CAPACITY, excess, items, lower_bound, pack
from epsilon_lab.search.context import Context, Shown
from epsilon_lab.search.judging import pack_problem
from epsilon_lab.search.prompts import render
from epsilon_lab.workspace.layout import RunDirectory

sizes_of = st.lists(st.integers(1, CAPACITY), min_size=1, max_size=60)


def program(source):
    module = types.ModuleType("candidate")
    exec(compile(source, "candidate.py", "exec"), module.__dict__)
    return module


def best_fit(sizes):
    """The textbook, as a list of bins' contents: an independent simulation."""
    bins = []
    for item in sizes:
        fitting = [content for content in bins if sum(content) + item <= CAPACITY]
        if fitting:
            max(fitting, key=sum).append(item)
        else:
            bins.append([item])
    return bins


@pytest.fixture(scope="module")
def problem():
    return problems.bin_packing()


def test_the_seed_program_is_best_fit(problem):
    seed = program(problem.source)
    output = problem.run(seed)
    training = [items(500, seed=17, of="training", number=number) for number in range(TRAINING)]
    expected = [Fraction(100 * len(best_fit(sizes)), ceil(Fraction(sum(sizes), CAPACITY))) - 100 for sizes in training]
    assert problem.score(output) == pytest.approx(float(sum(expected) / TRAINING), abs=1e-9)
    checked = problem.check(output, seed.priority)
    held_out = [items(500, seed=17, of="held out", number=number) for number in range(HELD_OUT)]
    expected = [Fraction(100 * len(best_fit(sizes)), ceil(Fraction(sum(sizes), CAPACITY))) - 100 for sizes in held_out]
    assert checked["score"] == problem.score(output)
    assert checked["held_out"] == pytest.approx(float(sum(expected) / HELD_OUT), abs=1e-9)


@given(sizes_of)
def test_a_packing_is_that_of_the_textbook(sizes):
    bins = pack(sizes, program(problems.bin_packing(10).source).priority)
    contents = best_fit(sizes)
    assert sorted(sizes[i] for i in range(len(sizes))) == sorted(item for content in contents for item in content)
    assert max(bins) + 1 == len(contents)
    assert excess(sizes, bins) == pytest.approx(100 * (len(contents) / lower_bound(sizes) - 1))


@given(sizes_of, st.randoms(use_true_random=False))
def test_any_priorities_give_a_packing(sizes, random):
    bins = pack(sizes, lambda item, spaces: [random.random() for _ in spaces])
    assert excess(sizes, bins) >= 0


def test_equal_priorities_are_best_fit_and_the_last_space_is_new():
    assert pack([60, 50, 40, 30], lambda item, spaces: [0] * len(spaces)) == [0, 1, 0, 1]
    asked = []
    pack([60, 50, 40, 30], lambda item, spaces: asked.append((item, spaces)) or [0] * len(spaces))
    assert asked == [(60, [100]), (50, [100]), (40, [40, 50, 100]), (30, [50, 100])]
    asked.clear()
    pack([50, 60, 50, 50, 20], lambda item, spaces: asked.append(spaces) or [-item for item in spaces][::-1])
    assert asked[-1] == [40, 50, 100]  # of three bins with a space of 50 one is shown


def test_what_a_program_does_to_its_arguments_changes_no_bin():
    def vandal(item, spaces):
        answer = [item - space for space in spaces]
        spaces.clear()
        return answer

    assert pack([60, 50, 40], vandal) == pack([60, 50, 40], lambda item, spaces: [item - space for space in spaces])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "list of 1"),
        ([], "list of 1"),
        ([1, 2], "list of 1"),
        (3.0, "list of 1"),
        ({0: 1}, "list of 1"),
        ([None], "None"),
        (["1"], "'1'"),
        ([nan], "nan"),
        ([1j], "1j"),
        ([[1]], r"\[1\]"),
        (np.array([[1.0]]), r"\[1.0\]"),
        (np.float64(1.0), "list of 1"),
    ],
)
def test_what_is_no_priority_is_refused(answer, said):
    with pytest.raises(ValueError, match=f"item 0: .*{said}"):
        pack([50], lambda item, spaces: answer)


@pytest.mark.parametrize("answer", [[inf], (-inf,), [10**400], [True], np.array([1.0]), np.array([1]), [np.int64(3)]])
def test_any_number_is_a_priority(answer):
    assert pack([50], lambda item, spaces: answer) == [0]


@pytest.mark.parametrize(
    ("bins", "said"),
    [
        (None, "list of 3"),
        ([0, 0], "list of 3"),
        ([0, 1, 3], "the next new bin is 2"),
        ([0, 1, -1], "bin -1"),
        ([0, 1, True], "bin True"),
        ([0, 1, 0.0], "bin 0.0"),
        ([0, 0, 1], "bin 0 is too full with item 1"),
    ],
)
def test_what_is_no_packing_has_no_score(problem, bins, said):
    with pytest.raises(ValueError, match=said):
        excess([60, 50, 40], bins)
    with pytest.raises(ValueError, match=r"list of (3|500)"):
        problem.score([bins] if bins is None else [bins, bins, bins][: len(bins)])


def test_a_program_that_packs_otherwise_when_fed_has_failed(problem):
    seed = program(problem.source)
    output = problem.run(seed)
    reason = problem.check(output, lambda item, spaces: spaces)
    assert reason.startswith("fed one item at a time the program packs otherwise (excess ")
    assert f"not {problem.score(output):.2f} %" in reason


def test_every_alternative_is_a_rule():
    """None of them is the answer, alone: the best is worth a percent of bins."""
    problem = problems.bin_packing()
    (bodies,) = problem.alternatives.values()
    rest = problem.source[problem.source.index("def priority") :]
    scores = [problem.score(problem.run(program(body + rest))) for body in bodies]
    assert len(set(scores)) == len(bodies) == 4
    assert 4 < min(scores) < problem.score(problem.run(program(problem.source)))


def test_items_are_seeded_whole_and_weibull():
    drawn = items(5000, seed=1, of="training", number=0)
    assert drawn == items(5000, seed=1, of="training", number=0)
    others = [items(5000, seed=2, of="training", number=0), items(5000, seed=1, of="held out", number=0)]
    assert drawn not in [*others, items(5000, seed=1, of="training", number=1)]
    assert all(type(item) is int and 1 <= item <= CAPACITY for item in drawn)
    assert sum(drawn) / 5000 == pytest.approx(45 * 0.89298, rel=0.02)  # scale times gamma(1 + 1/3)
    assert items(8, seed=17, of="training", number=0) == GOLDEN  # the same on every machine, or scores mean nothing


GOLDEN = [39, 45, 23, 19, 28, 42, 32, 23]


def held_out_markers():
    """Eight hold-out items in a row, as bytes that a pickle or a text of them would have."""
    for number in range(HELD_OUT):
        row = items(500, seed=17, of="held out", number=number)[:8]
        yield bytes(row)
        yield b"".join(b"K" + bytes([item]) for item in row)  # pickle's opcode for a small int
        yield ", ".join(map(str, row)).encode()


def test_hold_out_items_never_reach_the_candidates_side(problem, tmp_path):
    run = RunDirectory(tmp_path)
    pack_problem(problem, run)
    theirs = run.read_bytes("problem/candidate.pkl")
    assert not any(marker in theirs for marker in held_out_markers())
    assert b"held out" not in theirs
    _, (training, other) = pickle.loads(theirs), (items(8, seed=17, of=of, number=0) for of in ("training", "held out"))
    marker, absent = (b"".join(b"K" + bytes([item]) for item in row) for row in (training, other))
    assert marker in theirs  # so the search above would have found them
    assert absent not in theirs
    for name in ("_held_out", "weibullvariate", "SCALE"):  # and nothing that could make them travels
        assert name.encode() not in theirs


def test_no_proposer_is_told_the_hold_out(problem):
    seed = Shown(candidate_id="seed", source=problem.source, score=4.8)
    context = Context(
        candidate_id="g000-c000",
        generation=0,
        strategy="offspring",
        parents=(seed,),
        best=seed,
        problem=problem.public,
        seed=1,
    )
    text = "\n".join(message.content for message in render(context, entry="priority"))
    assert "held" not in text
    assert "4.8" in text
    assert not any(marker in text.encode() for marker in held_out_markers())


def test_the_statement_is_complete(problem):
    for needed in ("priority(item, spaces)", "shape 3", "scale 45", "500 of them, 3 times", "Lower is better", "100"):
        assert needed in problem.statement
    assert problem.direction == "minimize"


@pytest.mark.parametrize("arguments", [{"count": 9}, {"count": 5001}, {"count": 500.0}, {"seed": -1}, {"seed": "x"}])
def test_what_is_no_size_or_seed_is_refused(arguments):
    with pytest.raises(InvalidInput, match="bin_packing"):
        problems.bin_packing(**arguments)
