"""A set with both comparisons made of every candidate pair: what all figures are computed from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from febrl.blocking import candidates
from febrl.comparing import NINE, costly, quick
from febrl.fetch import Febrl, Pair

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Scored(NamedTuple):
    """The candidate pairs of a set; an entry of each array is a pair."""

    name: str
    pairs: list[Pair]
    quick: Numbers
    nine: Numbers
    """The quick comparison of all nine fields."""

    costly: Numbers
    same: Flags
    """The truth."""

    person: NDArray[np.int64]
    """Who the first record is, as a number."""

    links: NDArray[np.int64]
    """How many pairs each person is, by number, also those that are no candidates."""

    records: int

    def touched(self, escalated: Flags) -> float:
        """The share of the records that are in an escalated pair."""
        labels = {label for pair, is_in in zip(self.pairs, escalated, strict=True) if is_in for label in pair}
        return len(labels) / self.records


def scored(febrl: Febrl) -> Scored:
    """Compare all candidate pairs of a set, in both ways."""
    pairs, links, records = candidates(febrl.files), febrl.links, febrl.records
    number = {who: place for place, who in enumerate(sorted(set(febrl.person.values())))}
    both = [(records[one], records[two]) for one, two in pairs]
    return Scored(
        name=febrl.name,
        pairs=pairs,
        quick=np.array([quick(*each) for each in both]),
        nine=np.array([quick(*each, weights=NINE) for each in both]),
        costly=np.array([costly(*each) for each in both]),
        same=np.array([pair in links for pair in pairs]),
        person=np.array([number[febrl.person[one]] for one, _ in pairs]),
        links=np.bincount([number[febrl.person[one]] for one, _ in links], minlength=len(number)),
        records=len(records),
    )
