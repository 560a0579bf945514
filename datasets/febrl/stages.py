"""One set, linked in every way that is to be compared: each way a row, with what it reached and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from febrl.measuring import measured
from febrl.rule import Rule, best_line
from febrl.scoring import Flags, Scored

SEEDS = 20
"""How often what is left to chance is repeated."""

WRONG = (0.05, 0.10, 0.20)
"""Shares of the answers that fallible people get wrong."""


class Stage(TypedDict):
    """A way to link a set."""

    stage: str
    precision: float
    recall: float
    f1: float
    """These three as means, where chance plays a part."""

    share_of_gain: float
    """0 where it does as well as one pass, 1 where as well as the costly comparison of every pair."""

    looked_at: int
    """Pairs that somebody took another look at."""

    by_people: int
    """How many of them were put before a person."""

    per_record: float
    """Those looked at, for each record of the set."""

    records_touched: float
    """The share of the records that are in these pairs."""


def stages(pairs: Scored, rule: Rule, *, seeds: int = SEEDS) -> list[Stage]:
    """Link a set in every way. The rule has been chosen on other sets, so all of this is read off once."""
    one, every, two = rule.one_pass(pairs), rule.every_pair(pairs), rule.two_pass(pairs)
    none, all_of_them = np.zeros_like(one), np.ones_like(one)
    band, doubtful = rule.escalated(pairs), rule.for_a_person(pairs)
    drawn = [_drawn(len(one), int(band.sum()), seed) for seed in range(seeds)]

    def by_people(asked: Flags, otherwise: Flags, wrong: float) -> list[Flags]:
        return [np.where(asked, _answers(pairs, wrong, seed), otherwise) for seed in range(seeds)]

    costly_at_random = [rule.two_pass(pairs, each) for each in drawn]
    truth_at_random = [np.where(each, pairs.same, one) for each in drawn]
    ways: list[tuple[str, list[Flags], Flags, Flags]] = [
        ("one pass", [one], none, none),
        ("two passes", [two], band, none),
        ("and a person: always right", by_people(doubtful, two, 0), band, doubtful),
        *((f"and a person: wrong in {wrong:.0%}", by_people(doubtful, two, wrong), band, doubtful) for wrong in WRONG),
        ("a person for all the band: always right", by_people(band, one, 0), band, band),
        *(
            (f"a person for all the band: wrong in {wrong:.0%}", by_people(band, one, wrong), band, band)
            for wrong in WRONG
        ),
        ("as many pairs at random: costly", costly_at_random, drawn[0], none),
        ("as many pairs at random: always right", truth_at_random, drawn[0], drawn[0]),
        (
            "one pass of nine fields, best line for this set",
            [pairs.nine >= best_line([pairs], lambda of: of.nine)],
            none,
            none,
        ),
        (
            "one pass, best line for this set",
            [pairs.quick >= best_line([pairs], lambda of: of.quick)],
            none,
            none,
        ),
        ("costly for every pair", [every], all_of_them, none),
    ]
    least, most = measured(pairs, one).f1, measured(pairs, every).f1
    rows: list[Stage] = []
    for name, said, looked_at, asked in ways:
        precision, recall, f1 = np.mean([measured(pairs, each) for each in said], axis=0).tolist()
        count = int(looked_at.sum())
        rows.append(
            Stage(
                stage=name,
                precision=precision,
                recall=recall,
                f1=f1,
                share_of_gain=(f1 - least) / (most - least),
                looked_at=count,
                by_people=int(asked.sum()),
                per_record=count / pairs.records,
                records_touched=pairs.touched(looked_at),
            )
        )
    return rows


def _drawn(size: int, count: int, seed: int) -> Flags:
    """So many of them, at random."""
    drawn = np.zeros(size, dtype=bool)
    drawn[np.random.default_rng(seed).choice(size, count, replace=False)] = True
    return drawn


def _answers(pairs: Scored, wrong: float, seed: int) -> Flags:
    """What somebody says of each pair who is wrong in that share of them."""
    return pairs.same ^ (np.random.default_rng(seed).random(len(pairs.same)) < wrong)


def curve(pairs: Scored, rule: Rule, order: NDArray[np.int64], counts: Sequence[int]) -> list[tuple[float, float]]:
    """F1 as more and more pairs are looked at by the costly comparison.

    Args:
        pairs: The pairs of a set.
        rule: Where the lines are.
        order: Their places, in the order in which they are looked at.
        counts: How many are looked at, for each point.

    Returns:
        For each point the share of the records that are touched, and F1.
    """
    points = []
    for count in counts:
        looked_at = np.zeros(len(pairs.pairs), dtype=bool)
        looked_at[order[:count]] = True
        points.append((pairs.touched(looked_at), measured(pairs, rule.two_pass(pairs, looked_at)).f1))
    return points
