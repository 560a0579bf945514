"""In what way two names may be one: five rules, the first that holds.

1. `same`: the same words, in whatever order, but for accents and legal forms (`Łódź`, `Lodz`; `Acme Ltd`, `Acme`).
2. `contained`: the words of one are among those of the other (`Obama`, `Barack Obama`): a question, not an answer.
3. `initial`: the same surname, and given names of which some are initials (`B. Obama`).
4. `acronym`: one is the initials of the other, with or without its small words (`IBM`, `U.S.`).
5. `near`: so few edits apart that the cut allows them, in the order of the words or with the words in order; numbers in
   both are the same, since `Boeing 737` is no misspelt `Boeing 747`.

Each rule holds for a pair either way round. In Chinese, Japanese or Korean script a name is one word: contained is what
is a part of it, and near is one edit in names of at least four characters, where a share of them would say nothing.

A likeness is no identity; what makes one of two names is a verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal, get_args

from epsilon_lab.reducers.names import Name
from epsilon_lab.reducers.nearness import edits

Likeness = Literal["same", "contained", "initial", "acronym", "near"]
RULES: tuple[Likeness, ...] = get_args(Likeness)

CUT = 0.9
"""How near misspelt names are. Of the pairs found among synthetic names three in four were none at 0.8, one at 0.9."""

CJK_LEAST = 4
LONGEST_ACRONYM = 6
_SMALL = "a an and at da das de del der des di die do du e el et for für in la le of on the to und y"
_SMALL_WORDS = frozenset(_SMALL.split())


def likeness(left: Name, right: Name, cut: float = CUT) -> Likeness | None:
    """Tell in what way two names may be one; None where they are not alike."""
    if left.is_cjk != right.is_cjk:
        return None
    if left.key == right.key:
        return "same"
    if is_contained(left, right) or is_contained(right, left):
        return "contained"
    if is_initialled(left, right):
        return "initial"
    if is_acronym(left, right) or is_acronym(right, left):
        return "acronym"
    return "near" if is_near(left, right, cut) else None


def is_contained(part: Name, whole: Name) -> bool:
    """Whether one name has all the words of another, and more; single letters alone are no name."""
    if part.is_cjk:
        return len(part.core) > 1 and part.core != whole.core and part.core in whole.core
    words = Counter(part.tokens)
    return any(len(word) > 1 for word in words) and words < Counter(whole.tokens)


def readings(name: Name) -> Iterator[tuple[tuple[str, ...], str]]:
    """The given names and the surname, which may stand last or first."""
    if len(name.tokens) > 1 and not name.is_cjk:
        yield name.tokens[:-1], name.tokens[-1]
        yield name.tokens[1:], name.tokens[0]


def is_initialled(left: Name, right: Name) -> bool:
    """Whether they have a surname, and given names that are alike, some by their initial."""
    return any(
        surname == other
        and len(surname) > 1
        and all(a == b or (a[0] == b[0] and 1 in (len(a), len(b))) for a, b in zip(given, others, strict=False))
        and any(a != b for a, b in zip(given, others, strict=False))
        for given, surname in readings(left)
        for others, other in readings(right)
    )


def acronym(name: Name) -> str:
    """The letters of a name that may be an acronym, as it is one short word with capitals inside; else empty."""
    word = name.core
    return word if name.has_capitals and 1 < len(word) <= LONGEST_ACRONYM and word.isalpha() else ""


def initials(name: Name) -> frozenset[str]:
    """What the acronym of a name may be: the initials of its words, with the small ones and without."""
    words = [word for word in name.tokens if word not in _SMALL_WORDS]
    if len(words) < 2:
        return frozenset()
    return frozenset("".join(word[0] for word in some) for some in (words, name.tokens))


def is_acronym(short: Name, long: Name) -> bool:
    """Whether one name is an acronym of another."""
    return acronym(short) in initials(long)


def allowed_edits(longest: int, cut: float) -> int:
    """Edits that two names may be apart, of which the longer one has so many characters."""
    return int((1 - cut) * longest + 1e-9)


def is_near(left: Name, right: Name, cut: float = CUT) -> bool:
    """Whether two names are as few edits apart as the cut allows, and have the same numbers."""
    shorter, longer = sorted((len(left.key), len(right.key)))
    most = int(shorter >= CJK_LEAST) if left.is_cjk else allowed_edits(longer, cut)
    return (
        most > 0
        and left.numbers == right.numbers
        and min(edits(left.key, right.key, most), edits(left.core, right.core, most)) <= most
    )
