"""How far deciders agree about the cases that both have judged.

Pure. A decider is who he says he is, by name; of several verdicts that one gave on a case, his latest live one is what
he says. A verdict that another has put in its place is as live as it was: overruled is not taken back, and two who
disagree are what is looked for here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import NamedTuple


class Given(NamedTuple):
    """A live verdict: a row of the table `verdicts`, by number."""

    case_id: str
    decider: str
    verdict: str


class Agreement(NamedTuple):
    """Two deciders, and the cases that both have judged."""

    decider: str
    other: str
    cases: int
    agreed: int
    share: float
    """Of the cases, how many they agree on."""

    kappa: float
    """That share, beyond what chance would give two who use each verdict as often as these do; see `kappa`."""


def said_by(given: Iterable[Given]) -> dict[str, dict[str, str]]:
    """What each decider says of each case he has judged.

    Args:
        given: The live verdicts, in the order in which they were given.
    """
    said: dict[str, dict[str, str]] = {}
    for each in given:
        said.setdefault(each.decider, {})[each.case_id] = each.verdict
    return said


def agreements(said: Mapping[str, Mapping[str, str]]) -> list[Agreement]:
    """Each two deciders with a case in common, in the order of their names."""
    found = []
    for decider, other in combinations(sorted(said), 2):
        pairs = confusion(said[decider], said[other])
        cases = pairs.total()
        if cases:
            agreed = sum(count for (one, another), count in pairs.items() if one == another)
            found.append(Agreement(decider, other, cases, agreed, agreed / cases, kappa(pairs)))
    return found


def confusion(one: Mapping[str, str], other: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """Count the cases that both have judged by what each says: (verdict of the one, verdict of the other) -> cases."""
    return Counter((verdict, other[case_id]) for case_id, verdict in one.items() if case_id in other)


def kappa(pairs: Mapping[tuple[str, str], int]) -> float:
    """Cohen's kappa: `(p_o - p_e) / (1 - p_e)`.

    `p_o` is the share of cases on which both say the same, `p_e` the share on which they would if each gave the
    verdicts he gave to cases by lot: the sum, over all verdicts, of the product of the shares in which the two use it.
    1 is full agreement, 0 what chance gives, below 0 less than that. Cases of all kinds count together, whatever their
    options. (J. Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20,
    1960, pages 37-46.)

    Args:
        pairs: (verdict of the one, verdict of the other) -> cases.

    Returns:
        NaN where it is undefined: there is no case, or both say one and the same verdict always, so that chance alone
        would have them agree always.
    """
    cases = sum(pairs.values())
    ones, others = Counter[str](), Counter[str]()
    for (one, other), count in pairs.items():
        ones[one] += count
        others[other] += count
    by_chance = sum(count * others[verdict] for verdict, count in ones.items())  # of cases squared: in whole numbers,
    if by_chance == cases * cases:  # so that "always" is exact
        return math.nan
    agreed = sum(count for (one, other), count in pairs.items() if one == other)
    return (agreed * cases - by_chance) / (cases * cases - by_chance)
