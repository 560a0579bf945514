"""Thirty-nine attacks among four hundred honest candidates: nobody else's row changes by a digit.

The same search runs twice. In the slots of the attacks the first has programs that merely fail; so the slots, the
parents and the dice are the same, and every honest row must be.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from epsilon_lab import Lab, PopulationSearch, Problem
from epsilon_lab.ids import candidate_id
from epsilon_lab.testing.attacks import ATTACKS
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.ground import Ground

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watching programs takes /proc")

POPULATION, GENERATIONS, ELITES = 112, 4, 3
SLOTS = [
    candidate_id(generation, place)
    for generation in range(GENERATIONS)
    for place in range(POPULATION if generation == 0 else POPULATION - ELITES)
]
ATTACKED = dict(zip(SLOTS[5::11], ATTACKS, strict=False))

HONEST = """
import os

def solve():
    found = sorted(os.listdir("."))
    with open("mine", "w") as file:
        file.write("{name}")
    with open("numbers.txt") as file:
        return ["honest", "{name}", {value} + sum(map(int, file.read().split())), found]
"""
"""It says what it found lying about, and leaves something itself."""

FAILURE = "def solve():\n    raise RuntimeError({name!r})\n"

SAME = [
    *("candidate_id", "generation", "strategy", "parent_ids", "code_hash", "outcome", "score", "scores", "feedback"),
    *("error", "checked", "scorer_hash", "isolation", "proposer", "source_ref"),
]
"""Every column that is no measurement of time or memory."""


def score(output: Any) -> float:
    kind, _, value, found = output
    if kind != "honest" or found != ["numbers.txt"]:
        raise ValueError(f"not an honest program in a clean directory: {output!r:.200}")
    return float(value)


def problem() -> Problem:
    return Problem(
        "numbers",
        "Return a large number.",
        HONEST.format(name="seed", value=0),
        score=score,
        check=lambda output: output[0] == "honest",
        files={"numbers.txt": "1 2 3"},
        timeout_s=1.5,
        memory_mb=256,
        output_mb=4,
    )


def search(path: Path, hostile: dict[str, str]) -> tuple[pd.DataFrame, str]:
    """Run the search with these programs in the slots of the attacks; return its rows and the best's id."""

    def propose(context: Any) -> str:
        name = context.candidate_id
        if name in hostile:
            return hostile[name]
        base = int(max((parent.score for parent in context.parents), default=0))
        return HONEST.format(name=name, value=base + context.dice.randint(-500, 500))

    with Lab(path, workers=2) as lab:
        settings = {"population": POPULATION, "generations": GENERATIONS, "elites": ELITES, "diverse": 20, "fresh": 20}
        run = lab.start(PopulationSearch(problem(), propose, patience=None, **settings)).wait(300)
        return run.candidates.set_index("candidate_id", drop=False), run.best.candidate_id


def test_attacks_in_a_search_change_no_honest_row(tmp_path: Path) -> None:
    assert (len(SLOTS), len(ATTACKED)) == (439, 39)
    calm, best = search(tmp_path / "calm", {name: FAILURE.format(name=name) for name in ATTACKED})
    with Ground() as ground:
        attacked, still_best = search(
            tmp_path / "attacked", {name: attack.source(ground.target) for name, attack in ATTACKED.items()}
        )
        assert wait_until(lambda: not ground.survivors(), within_s=10), ground.survivors()
        done = {
            "kill-another": not ground.victim_lives,
            "write-outside": bool(ground.written()),
            **{{"tcp": "connect"}.get(end, end): True for end in ground.visitors()},
        }
        (tier,) = set(attacked["isolation"])
        assert not [a.name for a in ATTACKS if done.get(a.name) and a.is_held_by(tier)]

    honest = ["seed", *(name for name in SLOTS if name not in ATTACKED)]
    assert calm.index.tolist() == attacked.index.tolist() == ["seed", *SLOTS]
    pd.testing.assert_frame_equal(attacked.loc[honest, SAME], calm.loc[honest, SAME])
    assert (attacked.loc[honest, "outcome"] == "scored").all()
    assert attacked.loc[honest, "score"].nunique() > 100
    assert still_best == best
    assert attacked.loc[list(ATTACKED), "score"].isna().all()
    outcomes = attacked.loc[list(ATTACKED), "outcome"]
    assert set(outcomes) <= {"crashed", "timeout", "memory", "too_large", "bad_type", "invalid"}, outcomes
    parents = {parent for row in attacked["parent_ids"] for parent in row}
    assert parents
    assert not parents & set(ATTACKED)
