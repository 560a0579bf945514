"""The offline proposer: always a program, always a new one, always the same one for the same circumstances."""

from __future__ import annotations

import ast
import os
import pickle
import random
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epsilon_lab import problems
from epsilon_lab.errors import InvalidInput, ProposalFailed
from epsilon_lab.search.context import Context, PublicProblem, Shown
from epsilon_lab.search.program import Program
from epsilon_lab.search.sources import code_hash, diff, parses
from epsilon_lab.search.variation import _EDITS, GROWTH_LIMIT, Variation, _cross, _edit, _exchange

RICH = '''
"""A module with a bit of everything."""
from __future__ import annotations

import math

LIMIT = 3  # a constant

# why this class is here
class Box:
    """Holds."""

    def __init__(self, size: int = 2) -> None:
        self.size = size

    def grow(self, by: float) -> float:
        self.size += by
        return self.size


@staticmethod
def helper(values: list[float], *, scale: float = 1.0) -> float:
    total = 0.0
    for index, value in enumerate(values):
        if value > LIMIT and not index % 2:
            total += math.sqrt(abs(value)) * scale
        elif value:
            total -= value
        else:
            continue
    return total


async def unused(x):
    async with x as y:
        await y


def solve(values: list[float], n: int) -> float:
    """Solve it."""
    box = Box(n)
    try:
        best, *rest = sorted(values, key=lambda item: -item)
    except ValueError as error:
        return float(f"{len(str(error))}")
    while box.size < 3:
        box.grow(1)
    match n:
        case 0 | 1:
            return helper(rest)
        case int(other) if other > 5:
            return [x * y for x in values for y in rest if x != y][0]
    return helper(values) + best if n in (1, 2) else sum({k: v for k, v in zip(values, rest)}.values())
'''

ALTERNATIVES = {"helper": ("def helper(values, scale=1.0):\n    # the sum\n    return sum(values) * scale\n",)}


def context(source=RICH, *, candidate_id="g001-c001", parents=(), seed=17, top=()) -> Context:
    shown = [
        Shown(candidate_id=f"g000-c{i:03d}", source=parent, score=1.0, strategy="fresh")
        for i, parent in enumerate(parents)
    ]
    return Context(
        candidate_id=candidate_id,
        generation=1,
        strategy=("fresh", "diverse", "offspring")[len(shown)],
        parents=tuple(shown),
        best=Shown(candidate_id="seed", source=source, score=1.0),
        top=tuple(Shown(candidate_id=f"t{i}", source=text, score=1.0) for i, text in enumerate(top)),
        problem=PublicProblem(name="p", statement="s", source=source, direction="maximize"),
        seed=seed,
    )


def descend(variation, source, seed, generations) -> list[str]:
    """A family of programs, by all three strategies."""
    family = [source]
    for generation in range(generations):
        dice = random.Random(f"{seed}/{generation}")
        parents = dice.sample(family, min(len(family), dice.randint(0, 2)))
        family.append(variation(context(source, candidate_id=f"g{generation:03d}-c000", parents=parents, seed=seed)))
    return family


PROBLEMS = [
    (Variation(ALTERNATIVES), RICH),
    (Variation(), RICH),
    *(
        (Variation(one.alternatives, one.entry), one.source)
        for one in (problems.cap_set(4), problems.csv_aggregation())
    ),
]


@settings(max_examples=8)
@given(st.sampled_from(PROBLEMS), st.integers())
def test_every_proposal_compiles_and_is_new(problem, seed):
    variation, source = problem
    family = descend(variation, source, seed, 6)
    for index, program in enumerate(family[1:], 1):
        assert parses(program) is None
        assert code_hash(program) != code_hash(source), index
        assert variation.entry in {name for one in Program(program).tree.body for name in _names(one)}


def _names(statement):
    return [statement.name] if hasattr(statement, "name") else []


@settings(max_examples=12)
@given(st.sampled_from(PROBLEMS), st.integers())
def test_an_offspring_is_neither_parent_nor_a_leader(problem, seed):
    variation, source = problem
    one, other = (variation(context(source, candidate_id=cid, seed=seed)) for cid in ("a", "b"))
    first = variation(context(source, parents=(one, other), seed=seed))
    again = variation(context(source, parents=(one, other), seed=seed, top=[first]))
    assert code_hash(first) not in {code_hash(text) for text in (source, one, other)}
    assert code_hash(again) not in {code_hash(text) for text in (source, one, other, first)}


@settings(max_examples=4)
@given(st.sampled_from(PROBLEMS), st.integers())
def test_the_same_circumstances_give_the_same_program(problem, seed):
    variation, source = problem
    assert descend(variation, source, seed, 5) == descend(pickle.loads(pickle.dumps(variation)), source, seed, 5)


def test_no_python_run_differs_from_another():
    """Hash randomisation reorders sets; nothing may depend on that."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_variation import PROBLEMS, descend\n"
        "from epsilon_lab.search.sources import code_hash\n"
        "print([code_hash(text) for problem in PROBLEMS for text in descend(*problem, 5, 3)])\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, os.path.dirname(__file__)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_different_candidates_get_different_programs():
    variation, source = PROBLEMS[2]
    hashes = {code_hash(variation(context(source, candidate_id=f"g000-c{i:03d}"))) for i in range(60)}
    assert len(hashes) > 45


def test_nothing_but_the_contexts_dice_decides():
    random.seed(1)
    first = PROBLEMS[0][0](context())
    random.seed(2)
    state = random.getstate()
    assert PROBLEMS[0][0](context()) == first
    assert random.getstate() == state


@pytest.mark.parametrize("edit", _EDITS, ids=lambda edit: edit.__name__)
def test_every_kind_of_edit_yields_programs(edit, monkeypatch):
    monkeypatch.setattr("epsilon_lab.search.variation._EDITS", {edit: 1})
    changed = 0
    for seed in range(60):
        program = Program(RICH)
        _edit(program, "solve", random.Random(seed))
        text = program.text()
        changed += parses(text) is None and code_hash(text) != code_hash(RICH)
    assert changed > 40


def test_only_what_the_entry_can_reach_is_varied():
    for seed in range(80):
        program = Program(RICH)
        _edit(program, "solve", random.Random(seed))
        assert "async def unused(x):\n    async with x as y:\n        await y\n" in program.text()
    assert [one.name for one in Program(RICH).reachable("helper") if hasattr(one, "name")] == ["helper"]


def test_what_is_not_varied_keeps_its_text():
    text = Program(RICH).text()
    assert diff(RICH.strip(), text.strip()) == ""
    for seed in range(40):
        program = Program(RICH)
        _edit(program, "helper", random.Random(seed))
        assert '# why this class is here\nclass Box:\n    """Holds."""' in program.text()


def test_signatures_stay():
    """They are how the functions of a program, and the judge, find each other."""
    before = [ast.dump(one.args) for one in ast.walk(Program(RICH).tree) if isinstance(one, ast.FunctionDef)]
    for seed in range(80):
        program = Program(RICH)
        _edit(program, "solve", random.Random(seed))
        text = program.text()
        if parses(text) is None:
            functions = [one for one in ast.walk(ast.parse(text)) if isinstance(one, ast.FunctionDef)]
            assert sorted(ast.dump(one.args) for one in functions) == sorted(before)


def test_an_alternative_is_put_in_as_it_is_written():
    variation = Variation(ALTERNATIVES)
    program = Program(RICH)
    body = Program(ALTERNATIVES["helper"][0])
    _exchange(program, "solve", {"helper": [body]}, random.Random(1))
    assert "    # the sum\n    return sum(values) * scale\n" in program.text([body])
    texts = [variation(context(candidate_id=f"c{i}")) for i in range(30)]
    assert sum("return sum(values) * scale" in text for text in texts) > 10


def test_alternatives_alone_are_tried_as_long_as_they_are_news():
    """Of two bodies all is soon known, and what is left to find must be edited; of hundreds of programs it is not."""

    def assembled(problem, parts):
        variation = Variation(problem.alternatives, problem.entry)
        texts = [variation(context(problem.source, candidate_id=f"c{number}")) for number in range(60)]
        return sum({ast.dump(one) for one in ast.parse(text).body} <= parts for text in texts)

    many = problems.csv_aggregation()
    few = replace(many, alternatives={"number": many.alternatives["number"][:2]})
    for problem, least, most in ((many, 30, 55), (few, 0, 15)):
        bodies = [body for some in problem.alternatives.values() for body in some]
        parts = {ast.dump(one) for text in (problem.source, *bodies) for one in ast.parse(text).body}
        assert least <= assembled(problem, parts) <= most


def test_no_alternative_goes_into_code_that_is_not_reached():
    program = Program("def helper(values):\n    return 1\n\ndef solve(values):\n    return 2\n")
    _exchange(program, "solve", {"helper": [Program(ALTERNATIVES["helper"][0])]}, random.Random(1))
    assert "return 1" in program.text()


def test_a_crossing_takes_whole_functions_from_the_second_parent():
    ours = "def a(x):\n    return 1\n\ndef b(x):\n    return 1\n\ndef solve(x):\n    return a(x) + b(x)\n"
    theirs = ours.replace("return 1", "return 2")
    seen = set()
    for seed in range(60):
        program = Program(ours)
        _cross(program, Program(theirs), random.Random(seed))
        seen.add(tuple(one.body[0].value.value for one in program.tree.body[:2]))
    assert seen == {(1, 2), (2, 1)}


def test_a_crossing_within_a_function_takes_only_what_is_named_there():
    ours = "def solve(x):\n    y = x * 2\n    return y\n"
    theirs = "def solve(x):\n    z = x + 1\n    return z - x\n"
    seen = set()
    for seed in range(200):
        program = Program(ours)
        _cross(program, Program(theirs), random.Random(seed))
        seen.add(program.text())
    assert "def solve(x):\n    y = x + 1\n    return y\n" in seen
    assert "def solve(x):\n    z = x + 1\n    return y\n" in seen
    assert not any("z - x" in text for text in seen)  # z is no name of ours


def test_programs_do_not_bloat():
    variation, source = PROBLEMS[2]
    text = source
    for generation in range(80):
        text = variation(context(source, candidate_id=f"g{generation}", parents=[text]))
    assert len(Program(text)) <= GROWTH_LIMIT + 3 * len(Program(source))


def test_a_program_with_nothing_to_vary_is_given_back():
    """The best effort: the search will call it a duplicate, and goes on."""
    text = Variation(entry="solve")(context("import math\n"))
    assert code_hash(text) == code_hash("import math\n")


@pytest.mark.parametrize("terms", [50, 300, pytest.param(700, marks=pytest.mark.long), 1500])
def test_a_deep_program_is_varied_or_refused(terms):
    deep = "def solve(x):\n    return x" + " + x" * terms + "\n"
    with suppress(ProposalFailed):
        assert parses(Variation()(context(parents=[deep]))) is None


@pytest.mark.parametrize("where", ["seed", "parent"])
def test_a_program_that_does_not_compile_is_named(where):
    broken = "def solve(:\n"
    circumstances = context(broken) if where == "seed" else context(parents=[broken])
    with pytest.raises(ProposalFailed, match="does not compile: line 1"):
        Variation()(circumstances)


@pytest.mark.parametrize(
    ("bodies", "problem"),
    [
        (["def helper(:"], "line 1"),
        (["def other(x):\n    return x\n"], "one `def helper`"),
        (["import math\ndef helper(x):\n    return x\n"], "one `def helper`"),
        (["helper = max"], "one `def helper`"),
        ([""], "one `def helper`"),
    ],
)
def test_an_alternative_that_is_no_body_is_refused_before_anything_is_spent(bodies, problem):
    with pytest.raises(InvalidInput, match=problem):
        Variation({"helper": bodies})
