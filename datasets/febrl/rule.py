"""Where the lines are drawn: chosen on sets whose truth is known, before the set that counts is looked at."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from epsilon_lab.errors import InvalidInput
from febrl.measuring import measured
from febrl.scoring import Flags, Numbers, Scored

PER_RECORD = 0.10
"""Most pairs that may be escalated to the costly comparison, for each record of a set."""

TO_A_PERSON = 0.0025
"""Pairs that are put before a person, for each record."""


class Rule(NamedTuple):
    """All that is chosen."""

    link: float
    """From here on the quick comparison says that two records are one person."""

    low: float
    high: float
    """Between these the quick comparison is not to be trusted: the band."""

    relink: float
    """From here on the costly comparison says so."""

    def urgency(self, quick: float) -> float:
        """How much a pair is worth a second look: 1 at `link`, 0 at the edges of the band, negative outside."""
        return min((quick - self.low) / (self.link - self.low), (self.high - quick) / (self.high - self.link))

    def escalated(self, pairs: Scored) -> Flags:
        """The pairs of the band."""
        return (pairs.quick > self.low) & (pairs.quick < self.high)

    def is_within(self, per_record: float, sets: Sequence[Scored]) -> bool:
        """Whether the band is small enough in each set."""
        return all(np.count_nonzero(self.escalated(pairs)) <= per_record * pairs.records for pairs in sets)

    def for_a_person(self, pairs: Scored) -> Flags:
        """Those of the band of which the costly comparison is least sure."""
        doubt = np.where(self.escalated(pairs), -np.abs(pairs.costly - self.relink), -np.inf)
        chosen = np.zeros_like(pairs.same)
        chosen[np.argsort(-doubt, kind="stable")[: int(TO_A_PERSON * pairs.records)]] = True
        return chosen & self.escalated(pairs)

    def one_pass(self, pairs: Scored) -> Flags:
        """What the quick comparison says of each pair."""
        return pairs.quick >= self.link

    def every_pair(self, pairs: Scored) -> Flags:
        """What the costly one says."""
        return pairs.costly >= self.relink

    def two_pass(self, pairs: Scored, escalated: Flags | None = None) -> Flags:
        """What is said when the costly comparison looks at some pairs.

        Args:
            pairs: The pairs.
            escalated: Which it looks at; None for those of the band.
        """
        looked_at = self.escalated(pairs) if escalated is None else escalated
        return np.where(looked_at, self.every_pair(pairs), self.one_pass(pairs))


def chosen(sets: Sequence[Scored], per_record: float = PER_RECORD) -> Rule:
    """Choose the rule with the best mean F1 over sets whose truth is known.

    Args:
        sets: These.
        per_record: Most pairs that may be escalated, for each record of each of them.
    """
    link, relink = best_line(sets, lambda pairs: pairs.quick), best_line(sets, lambda pairs: pairs.costly)
    widths = np.arange(0.01, 0.5, 0.01).tolist()
    rules = (Rule(link, link - below, link + above, relink) for below in widths for above in widths)
    bearable = [rule for rule in rules if rule.is_within(per_record, sets)]
    if not bearable:
        raise InvalidInput("per_record", f"no band has so few as {per_record:g} pairs a record", "allow for more")
    return max(bearable, key=lambda rule: _mean_f1(sets, rule.two_pass))


def best_line(sets: Sequence[Scored], by: Callable[[Scored], Numbers]) -> float:
    """The line from which on a comparison should say that two are one: the best mean F1, to the nearest 0.0025."""
    lines: list[float] = np.arange(0, 1, 0.0025).tolist()
    return max(lines, key=lambda line: _mean_f1(sets, lambda pairs: by(pairs) >= line))


def _mean_f1(sets: Sequence[Scored], say: Callable[[Scored], Flags]) -> float:
    return statistics.fmean(measured(pairs, say(pairs)).f1 for pairs in sets)
