"""What a linkage is worth: precision, recall, F1, and how sure that is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from febrl.scoring import Flags, Numbers, Scored


class Worth(NamedTuple):
    """How what was said of the pairs of a set agrees with the truth. A link that blocking missed counts as missed."""

    precision: float
    recall: float
    f1: float


def measured(pairs: Scored, said: Flags) -> Worth:
    """Hold what was said of each pair (same, or not) against the truth."""
    right, claimed, links = (int(each.sum()) for each in (said & pairs.same, said, pairs.links))
    return Worth(right / max(1, claimed), right / links, 2 * right / (claimed + links))


def resampled(pairs: Scored, *said: Flags, resamples: int = 2_000, seed: int = 17) -> Numbers:
    """F1 of each of these in sets that could have been: persons drawn with replacement from those of this set.

    Persons are drawn, and not pairs, since the pairs of one person stand and fall together; a pair goes with its first
    record's person. What all are drawn alike for can be subtracted; its 95 % interval is then
    `numpy.quantile(..., (0.025, 0.975))`, the percentile method.

    Returns:
        An array of shape (number of `said`, resamples).
    """
    people = len(pairs.links)
    drawn = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=resamples)

    def f1(said: Flags) -> Numbers:
        right = np.bincount(pairs.person[said & pairs.same], minlength=people)
        claimed = np.bincount(pairs.person[said], minlength=people)
        return 2 * (drawn @ right) / (drawn @ (claimed + pairs.links))

    return np.array([f1(each) for each in said])
