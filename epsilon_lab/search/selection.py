"""Who is kept, and from whom the next generation is made.

Elites stay in the population with the scores they have: scoring them again would only draw the luckier of two noisy
measurements. Everything else is a new proposal. The choice depends on the archive as it stood when the last generation
closed and on dice of that generation, never on the order in which results came in.
"""

from __future__ import annotations

from typing import NamedTuple

from epsilon_lab.dice import dice
from epsilon_lab.ids import SEED_CANDIDATE, CandidateId, candidate_id
from epsilon_lab.search.archive import Archive
from epsilon_lab.search.context import Strategy


class Slot(NamedTuple):
    """A proposal to be made."""

    candidate_id: CandidateId
    strategy: Strategy
    parent_ids: tuple[str, ...]


class Selection(NamedTuple):
    """A generation before it is proposed."""

    elites: tuple[str, ...]
    """Kept with their scores, best first; fewer than asked for where fewer programs have scored."""

    slots: tuple[Slot, ...]
    """New proposals, `population` in generation 0, later `population - len(elites)`."""


def select(
    archive: Archive, *, generation: int, population: int, elites: int, diverse: int, fresh: int, seed: int
) -> Selection:
    """Plan a generation.

    Generation 0 is all fresh. Later ones keep the `elites` best programs, and propose `diverse` from the next best (one
    parent each: every program in the archive has a syntax tree of its own), `fresh` from none, and the rest from two
    parents, an elite in turn and another program drawn from the elites and the diverse ones.
    """
    if generation == 0:
        return Selection((), tuple(Slot(candidate_id(0, i), "fresh", ()) for i in range(population)))
    ranked = [row.candidate_id for row in archive.ranked(elites + max(diverse, 1))]
    kept = tuple(ranked[:elites])
    others = ranked[elites:] or ranked or [SEED_CANDIDATE]
    pool = ranked or [SEED_CANDIDATE]
    first = kept or tuple(pool)
    roll = dice(seed, "select", generation)
    slots: list[Slot] = []
    for i in range(population - len(kept)):
        name = candidate_id(generation, i)
        if i < diverse:
            slots.append(Slot(name, "diverse", (others[i % len(others)],)))
        elif i < diverse + fresh:
            slots.append(Slot(name, "fresh", ()))
        else:
            one = first[(i - diverse - fresh) % len(first)]
            rest = [other for other in pool if other != one]
            slots.append(Slot(name, "offspring", (one, roll.choice(rest)) if rest else (one,)))
    return Selection(kept, tuple(slots))
