"""Attacks among honest candidates, thirty-nine among four hundred in the long form: no other row changes by a digit.

The same search runs twice. In the slots of the attacks the first has programs that merely fail; so the slots, the
parents and the dice are the same, and every honest row must be.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from epsilon_lab import Lab, PopulationSearch, Problem
from epsilon_lab.ids import candidate_id
from epsilon_lab.testing.attacks import ATTACKS, Attack
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.ground import Ground

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="watching programs takes /proc")

ELITES = 3
BURN = {"c-loop", "regex", "ignored-sigxcpu", "stack-overflow"}
"""Those that take a processor until their time is over; in the everyday form one other does."""


@dataclass(frozen=True)
class Mix:
    """A search's shape, and who has a slot in it that an honest candidate would have."""

    population: int
    generations: int
    attacks: list[Attack]

    @property
    def slots(self) -> list[str]:
        return [
            candidate_id(generation, place)
            for generation in range(self.generations)
            for place in range(self.population if generation == 0 else self.population - ELITES)
        ]

    @property
    def attacked(self) -> dict[str, Attack]:
        """Slot -> who has it: slots that lie as far apart as they can."""
        return dict(zip(self.slots[2 :: len(self.slots) // len(self.attacks)], self.attacks, strict=False))


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
        timeout_s=3,  # a busy machine's honest programs need it
        memory_mb=256,
        output_mb=4,
    )


def search(path: Path, mix: Mix, hostile: dict[str, str]) -> tuple[pd.DataFrame, str]:
    """Run the search with these programs in the slots of the attacks; return its rows and the best's id."""

    def propose(context: Any) -> str:
        name = context.candidate_id
        if name in hostile:
            return hostile[name]
        base = int(max((parent.score for parent in context.parents), default=0))
        return HONEST.format(name=name, value=base + context.dice.randint(-500, 500))

    with Lab(path, workers=2) as lab:
        shape = {"population": mix.population, "generations": mix.generations, "elites": ELITES}
        part = {"diverse": mix.population // 5, "fresh": mix.population // 5}
        run = lab.start(PopulationSearch(problem(), propose, patience=None, **shape, **part)).wait(600)
        return run.candidates.set_index("candidate_id", drop=False), run.best.candidate_id


@pytest.mark.parametrize(
    ("mix", "slots"),
    [
        pytest.param(Mix(24, 4, [attack for attack in ATTACKS if attack.name not in BURN]), 87, id="every day"),
        pytest.param(Mix(112, 4, ATTACKS), 439, id="thirty-nine", marks=pytest.mark.long),
    ],
)
def test_attacks_in_a_search_change_no_honest_row(mix: Mix, slots: int, tmp_path: Path) -> None:
    attacks = mix.attacked
    assert (len(mix.slots), len(attacks)) == (slots, len(mix.attacks))
    calm, best = search(tmp_path / "calm", mix, {name: FAILURE.format(name=name) for name in attacks})
    with Ground() as ground:
        attacked, still_best = search(
            tmp_path / "attacked", mix, {name: attack.source(ground.target) for name, attack in attacks.items()}
        )
        assert wait_until(lambda: not ground.survivors(), within_s=60), ground.survivors()
        done = {
            "kill-another": not ground.victim_lives,
            "write-outside": bool(ground.written()),
            **{{"tcp": "connect"}.get(end, end): True for end in ground.visitors()},
        }
        (tier,) = set(attacked["isolation"])
        assert not [a.name for a in ATTACKS if done.get(a.name) and a.is_held_by(tier)]

    honest = ["seed", *(name for name in mix.slots if name not in attacks)]
    assert calm.index.tolist() == attacked.index.tolist() == ["seed", *mix.slots]
    pd.testing.assert_frame_equal(attacked.loc[honest, SAME], calm.loc[honest, SAME])
    assert (attacked.loc[honest, "outcome"] == "scored").all()
    assert attacked.loc[honest, "score"].nunique() > len(honest) // 4
    assert still_best == best
    assert attacked.loc[list(attacks), "score"].isna().all()
    outcomes = attacked.loc[list(attacks), "outcome"]
    assert set(outcomes) <= {"crashed", "timeout", "memory", "too_large", "bad_type", "invalid"}, outcomes
    parents = {parent for row in attacked["parent_ids"] for parent in row}
    assert parents
    assert not parents & set(attacks)
