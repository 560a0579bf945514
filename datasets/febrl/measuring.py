"""What a linkage is worth: precision, recall, F1, and how sure the difference of two is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from febrl.scoring import Flags, Scored


class Worth(NamedTuple):
    """How what was said of the pairs of a set agrees with the truth. A link that blocking missed counts as missed."""

    precision: float
    recall: float
    f1: float


def measured(pairs: Scored, said: Flags) -> Worth:
    """Hold what was said of each pair (same, or not) against the truth."""
    right, claimed, links = np.count_nonzero(said & pairs.same), np.count_nonzero(said), int(pairs.links.sum())
    return Worth(right / max(1, claimed), right / links, 2 * right / (claimed + links))


def interval(pairs: Scored, one: Flags, two: Flags, *, resamples: int = 2_000, seed: int = 17) -> tuple[float, float]:
    """The 95 % interval of the difference F1(two) - F1(one), by a bootstrap over persons (percentile method).

    Persons are drawn with replacement, and not pairs, since the pairs of one person stand and fall together. A pair
    goes with its first record's person.

    Returns:
        Its lower and its upper end.
    """
    people = len(pairs.links)
    drawn = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=resamples)
    f1 = []
    for said in (one, two):
        right = np.bincount(pairs.person[said & pairs.same], minlength=people)
        claimed = np.bincount(pairs.person[said], minlength=people)
        f1.append(2 * (drawn @ right) / (drawn @ (claimed + pairs.links)))
    low, high = np.quantile(f1[1] - f1[0], (0.025, 0.975))
    return float(low), float(high)
