"""Which names are one thing, from verdicts on pairs of them.

What is `same` as the same is the same, unless somebody said otherwise: a `different` stands against every chain, and
the chain is cut at its weakest link. So links are joined from the strongest to the weakest, and one that would bring
together what is different is left out and said. What nobody has decided joins nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from epsilon_lab.errors import InvalidInput

SAME, DIFFERENT = "same", "different"


class Link(NamedTuple):
    """A verdict on two names."""

    left: str
    right: str
    verdict: str | None
    """`same`, `different`; anything else, and None, decides nothing."""

    score: float = 1.0
    """How strong it is."""


class Clusters(NamedTuple):
    """What belongs together."""

    groups: list[list[str]]
    """Every name in exactly one; names in a group, and groups by their first name, in alphabetical order."""

    cut: list[Link]
    """Links that say `same` and were left out, the strongest first: stronger ones and a `different` contradict them."""


def clusters(names: Iterable[str], links: Iterable[Link]) -> Clusters:
    """Bring together the names that are one thing.

    Neither the order of the names nor that of the links makes a difference, nor which side of a link a name stands on.
    Of links as strong as each other, those between the first names in the alphabet come first.

    Args:
        names: All of them.
        links: Verdicts on pairs. Of several on one pair a `different` counts, else the strongest.

    Raises:
        InvalidInput: A link is of a name that is not among them.
    """
    root = {name: name for name in sorted(set(names))}
    members = {name: [name] for name in root}
    apart: dict[str, set[str]] = {name: set() for name in root}
    same: dict[tuple[str, str], Link] = {}
    for link in links:
        for name in (link.left, link.right):
            if name not in root:
                raise InvalidInput(
                    "reducers.clusters", f"a link is of {name!r}, which is no name here", "give all names"
                )
        pair = (min(link.left, link.right), max(link.left, link.right))
        if link.verdict == DIFFERENT and pair[0] != pair[1]:
            apart[pair[0]].add(pair[1])
            apart[pair[1]].add(pair[0])
        elif link.verdict == SAME and (pair not in same or link.score > same[pair].score):
            same[pair] = Link(*pair, SAME, link.score)
    cut: list[Link] = []
    for link in sorted(same.values(), key=lambda link: (-link.score, link.left, link.right)):
        small, large = sorted((root[link.left], root[link.right]), key=lambda each: (len(members[each]), each))
        if small == large:
            continue
        if large in apart[small]:
            cut.append(link)
            continue
        for name in members.pop(small):
            root[name] = large
            members[large].append(name)
        for other in apart.pop(small):  # what was different from the one is different from both
            apart[other].discard(small)
            apart[other].add(large)
            apart[large].add(other)
    return Clusters(sorted(sorted(group) for group in members.values()), cut)
