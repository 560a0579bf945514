"""How well it was found out which rows may be compared: pairs of rows, and the rankings that follow.

A pair is any two rows; it counts as found where both are in one group. Pairs are counted by the sizes of groups, so
that none is ever listed. Precision is the share of found pairs that may be compared, recall the share of those that may
that were found, F1 their harmonic mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import comb
from typing import Any, NamedTuple

from benchmark_papers.corpus import FALLING


class Worth(NamedTuple):
    """What a grouping is worth, each from 0 to 1."""

    precision: float
    recall: float
    f1: float


def worth(found: Mapping[str, str], true: Mapping[str, str]) -> Worth:
    """Compare the group of each row with its true one."""
    both = sum(comb(count, 2) for count in Counter((found[row], true[row]) for row in true).values())
    said = sum(comb(count, 2) for count in Counter(found[row] for row in true).values())
    all_true = sum(comb(count, 2) for count in Counter(true.values()).values())
    return Worth(both / said if said else 1.0, both / all_true if all_true else 1.0, 2 * both / (said + all_true))


def true_ranking(truth: Mapping[str, Mapping[str, str]], group: str) -> list[str]:
    """The systems of a group by what they report of themselves, the best first."""
    sign = 1 if any(metric in group for metric in FALLING) else -1
    own = [each for each in truth.values() if each["group"] == group and not each["origin"]]
    return [each["system"] for each in sorted(own, key=lambda each: sign * float(each["value"]))]


def misplaced(rows: Iterable[Mapping[str, Any]], truth: Mapping[str, Mapping[str, str]]) -> int:
    """How many rows of a leaderboard do not belong into it: the group that most of them are of is meant."""
    groups = [truth[row["row"]]["group"] for row in rows]
    return len(groups) - max(Counter(groups).values(), default=0)
