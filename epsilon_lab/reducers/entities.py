"""Entities out of mentions: names that may be one are asked about, and brought together as decided.

Nothing is merged because it looks alike: every pair that a rule finds is a question, the likeliest first, and a verdict
`same` or `different` is what joins and parts. Who wants a rule to decide by itself says so (`trust=`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from epsilon_lab.errors import InvalidInput
from epsilon_lab.reducers.clustering import DIFFERENT, SAME, Link, clusters
from epsilon_lab.reducers.flag import Flag, asked
from epsilon_lab.reducers.likeness import CUT, RULES, Likeness
from epsilon_lab.reducers.pairs import CROWD, Pair, alike

_WORDS: dict[Likeness, str] = {
    "same": "the same words but for order, accents and legal form",
    "contained": "one is part of the other",
    "initial": "an initial stands for a given name",
    "acronym": "one may be the initials of the other",
    "near": "spelled nearly alike",
}
_SPELLINGS = 10
"""Ways of writing a name that evidence shows."""


class Entity(NamedTuple):
    """One thing, as far as is decided."""

    name: str
    """The longest of its names as they were written; of those, the first in the alphabet."""

    names: list[str]
    """All of them, as they were written, in alphabetical order."""


class Entities(NamedTuple):
    """What mentions are of."""

    entities: list[Entity]
    """In order of the first of each one's names. A name is in exactly one."""

    pairs: list[Pair]
    """The pairs that were found, the likeliest first, each with its verdict."""

    cut: list[Link]
    """Pairs that are `same` by verdict and yet apart, since a stronger chain and a `different` say so."""

    crowded: dict[str, int]
    """Words that too many names have to tell anything, with how many: pairs may be missing there."""

    too_long: list[str]
    """Names that are too long for one: neither parts of these nor misspelt ones were looked for."""


def flag_alike(
    names: Iterable[str],
    *,
    flag: Flag | None = None,
    trust: Collection[Likeness] = (),
    cut: float = CUT,
    crowd: int = CROWD,
) -> Entities:
    """Ask about names that may be one, and bring together what is decided.

    The order of the names makes no difference, nor how often each is there. The key of a case is the pair, without case
    and punctuation.

    Args:
        names: As they are written.
        flag: Asks; None for nobody.
        trust: Rules whose pairs are the same without a question: `same`, `contained`, `initial`, `acronym`, `near`.
        cut: How near misspelt names are, from 0.5 to 1, as a share of characters that are no edit.
        crowd: How many names may have a word or part that is to tell something of two of them.

    Raises:
        InvalidInput: A name is no text, or blank, or there is no such rule.
        LabError: rapidfuzz is not installed.
    """
    if unknown := sorted(set(trust) - set(RULES)):
        raise InvalidInput("reducers.flag_alike trust", f"has {unknown[0]!r}", f"the rules are {', '.join(RULES)}")
    found = alike(names, cut=cut, crowd=crowd)
    pairs: list[Pair] = []
    for pair in found.pairs:
        verdict: str | None = SAME
        if pair.rule not in trust:
            left, right = found.names[pair.left], found.names[pair.right]
            verdict = asked(flag)(
                key=[pair.left, pair.right],
                kind="alike",
                question=f"Are {left[0]!r} and {right[0]!r} the same?",
                options=[SAME, DIFFERENT],
                evidence={"left": left[:_SPELLINGS], "right": right[:_SPELLINGS], "rule": pair.rule},
                reason=_WORDS[pair.rule] + f", as of {pair.rivals} names" * (pair.rivals > 1),
                score=pair.score,
            )
        pairs.append(pair._replace(verdict=verdict))
    together = clusters(found.names, (Link(pair.left, pair.right, pair.verdict, pair.score) for pair in pairs))
    written = [sorted(spelling for name in group for spelling in found.names[name]) for group in together.groups]
    entities = [Entity(min(group, key=lambda name: (-len(name), name)), group) for group in sorted(written)]
    return Entities(entities, pairs, together.cut, found.crowded, found.too_long)
