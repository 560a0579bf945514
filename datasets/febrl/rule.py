"""Where the lines are drawn: chosen on sets whose truth is known, before the set that counts is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from febrl.measuring import measured
from febrl.scoring import Flags, Numbers, Scored

PER_RECORD = 0.10
"""Most pairs that may be escalated to the costly comparison, for each record of a set."""

TO_A_PERSON = 0.005
"""Most pairs that may be put before a person, for each record."""


class Rule(NamedTuple):
    """All that is chosen."""

    link: float
    """From here on the quick comparison says that two records are one person."""

    low: float
    high: float
    """Between these the quick comparison is not to be trusted: the band."""

    relink: float
    """From here on the costly comparison says so."""

    near: float
    """Nearer to `relink` than this the costly comparison is not to be trusted either."""

    def urgency(self, quick: float) -> float:
        """How much a pair is worth a second look: 1 at `link`, 0 at the edges of the band, negative outside."""
        return min((quick - self.low) / (self.link - self.low), (self.high - quick) / (self.high - self.link))

    def escalated(self, pairs: Scored) -> Flags:
        """The pairs of the band."""
        return (pairs.quick > self.low) & (pairs.quick < self.high)

    def for_a_person(self, pairs: Scored) -> Flags:
        """Those of the band that a person is to look at."""
        return self.escalated(pairs) & (np.abs(pairs.costly - self.relink) < self.near)

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


def chosen(sets: Sequence[Scored]) -> Rule:
    """Choose the rule with the best mean F1 over sets whose truth is known, within `PER_RECORD` and `TO_A_PERSON` in
    each of them.
    """
    link, relink = best_line(sets, lambda pairs: pairs.quick), best_line(sets, lambda pairs: pairs.costly)
    widths = np.arange(0.01, 0.5, 0.01).tolist()
    bands = (Rule(link, link - below, link + above, relink, near=0) for below in widths for above in widths)
    bearable = (rule for rule in bands if _within(PER_RECORD, rule.escalated, sets))
    band = max(bearable, key=lambda rule: _mean_f1(sets, rule.two_pass))
    widened = (band._replace(near=near) for near in widths)
    return max((rule for rule in widened if _within(TO_A_PERSON, rule.for_a_person, sets)), default=band)


def best_line(sets: Sequence[Scored], by: Callable[[Scored], Numbers]) -> float:
    """The line from which on a comparison should say that two are one: the best mean F1, to the nearest 0.0025."""
    return max(np.arange(0, 1, 0.0025).tolist(), key=lambda line: _mean_f1(sets, lambda pairs: by(pairs) >= line))


def _mean_f1(sets: Sequence[Scored], say: Callable[[Scored], Flags]) -> float:
    return float(np.mean([measured(pairs, say(pairs)).f1 for pairs in sets]))


def _within(most: float, asked: Callable[[Scored], Flags], sets: Sequence[Scored]) -> bool:
    return all(np.count_nonzero(asked(pairs)) <= most * pairs.records for pairs in sets)
