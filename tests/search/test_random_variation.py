"""Random variation of the seed program: every proposal from the seed program alone, whatever was scored."""

from __future__ import annotations

import ast

import msgspec
import pytest

from epsilon_lab import problems
from epsilon_lab.search.context import Context, PublicProblem, Shown
from epsilon_lab.search.random_variation import RandomVariation
from epsilon_lab.search.sources import code_hash, parses
from epsilon_lab.search.variation import Variation

SEED = "def solve(x, y):\n    a = x + 1\n    return a * y - 3\n"
SCORED = "def solve(x, y):\n    return marked_by_a_score(x) + 4711\n"


def context(number: int = 0, *, scored: bool = False, **changes: object) -> Context:
    best = Shown(candidate_id="g000-c009", source=SCORED if scored else SEED, score=99.0 if scored else 1.0)
    made = Context(
        candidate_id=f"g001-c{number:03d}",
        generation=1,
        strategy="offspring" if scored else "fresh",
        parents=(best, best) if scored else (),
        best=best,
        top=(best,) if scored else (),
        brief="# try 4711" if scored else "",
        problem=PublicProblem(name="toy", statement="Return a number.", source=SEED, direction="maximize"),
        seed=5,
    )
    return msgspec.structs.replace(made, **changes)


def test_what_was_scored_changes_nothing() -> None:
    propose = RandomVariation()
    for number in range(40):
        proposal = propose(context(number))
        assert proposal == propose(context(number, scored=True))
        assert "4711" not in proposal


def test_proposals_are_programs_and_mostly_differ() -> None:
    sources = [RandomVariation()(context(number)) for number in range(60)]
    assert all(parses(source) is None for source in sources)
    assert len({code_hash(source) for source in sources} - {code_hash(SEED)}) > 40


def test_none_is_a_proposal_of_the_search_with_the_same_seed() -> None:
    search, control = Variation(), RandomVariation()
    pairs = [(search(context(number)), control(context(number))) for number in range(30)]
    assert sum(code_hash(a) == code_hash(b) for a, b in pairs) < 5


def test_some_are_crossed() -> None:
    """Two alternatives at two places cannot both come from one crossing-free edit; two parents can bring both."""
    asked: list[str] = []

    class Spy(Variation):
        def __call__(self, given: Context) -> str:
            asked.append(given.strategy)
            assert all(parent.score is None for parent in given.parents)
            return super().__call__(given)

    for number in range(40):
        RandomVariation(Spy())(context(number))
    assert 8 < asked.count("offspring") < 32
    assert asked.count("fresh") == 2 * asked.count("offspring") + (40 - asked.count("offspring"))


@pytest.mark.parametrize("problem", [problems.csv_aggregation()], ids=lambda problem: problem.name)
def test_the_problem_s_alternatives_are_used(problem) -> None:
    assert problem.alternatives
    known = {ast.dump(ast.parse(body).body[0]) for bodies in problem.alternatives.values() for body in bodies}
    propose = RandomVariation(Variation(problem.alternatives, problem.entry))
    public = problem.public
    used = set()
    for number in range(20):
        best = Shown(candidate_id="seed", source=problem.source, score=1.0)
        tree = ast.parse(propose(context(number, problem=public, best=best)))
        used |= known & {ast.dump(statement) for statement in tree.body}
    assert len(used) > 3
