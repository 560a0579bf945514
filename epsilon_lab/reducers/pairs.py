"""Which of very many names may be one: the rules of likeness.py, without comparing all pairs.

Names that are the same, a part, an initial or an acronym of another are looked up: a name is asked for its words in
order, for each smaller set of them, for its surname with an initial, for its initials. What is near is found by
blocking.py. Nothing is found but by a rule, so blocking can only miss, and where it may have, it says so: a word that
is part of more names than `crowd` makes no pairs but is `crowded`, with how many it is part of.

The answer is a function of the set of names. A name more adds pairs and takes none away, but where it makes a crowd: so
parts of a corpus, reduced one by one, ask the questions that the whole asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import combinations, product
from typing import TYPE_CHECKING, NamedTuple

from epsilon_lab.arguments import number, whole
from epsilon_lab.reducers.blocking import candidates
from epsilon_lab.reducers.likeness import (
    CJK_LEAST,
    CUT,
    RULES,
    Likeness,
    acronym,
    allowed_edits,
    initials,
    is_acronym,
    is_contained,
    is_initialled,
    is_near,
    readings,
)
from epsilon_lab.reducers.names import Name, name_of
from epsilon_lab.reducers.nearness import edits_of

if TYPE_CHECKING:
    from epsilon_lab.reducers.blocking import Places

CROWD = 60
"""A word or part that more names have tells nothing of two of them."""

LONGEST = 100
"""Characters of a name, folded; what is longer is a sentence, and looked up whole alone."""

_AT_ONCE = 100_000
"""Candidates that are compared at once."""

_MOST_WORDS = 8
"""Of longer names, only runs of words and all words but one are looked up as parts."""


class Pair(NamedTuple):
    """Two names that may be one."""

    left: str
    """The name, as `Name.text` has it; the one that comes first in the alphabet."""

    right: str
    rule: Likeness
    score: float
    """How likely, roughly: above 0 and at most 1. The rules come in their order, and fewer rivals before more."""

    rivals: int
    """How many names a part, an initial or an acronym may stand for; 1 for other rules."""

    verdict: str | None = None
    """`same`, `different`, or None where nobody has decided."""


class Alike(NamedTuple):
    """What was found among names."""

    names: dict[str, list[str]]
    """The names, as `Name.text` has them, and how each was written, in alphabetical order."""

    pairs: list[Pair]
    """Each pair once, the best score first."""

    crowded: dict[str, int]
    """What was passed over since too many names have it, and how many have: pairs may be missing there."""

    too_long: list[str]
    """Names that are too long for one: neither parts of these nor misspelt ones were looked for."""


def alike(names: Iterable[str], *, cut: float = CUT, crowd: int = CROWD) -> Alike:
    """Find the names that may be one.

    Args:
        names: As they are written, in any order, each as often as it is.
        cut: How near misspelt names are, from 0.5 to 1, as a share of characters that are no edit.
        crowd: How many names may have a word or part that is to tell something of two of them.

    Raises:
        InvalidInput: A name is no text, or blank.
        LabError: rapidfuzz is not installed.
    """
    cut = number("reducers.alike cut", cut, least=0.5, most=1)
    crowd = whole("reducers.alike crowd", crowd, least=2)
    written: dict[str, list[str]] = {}
    known: dict[str, Name] = {}
    for raw in sorted(set(names)):
        name = name_of(raw)
        written.setdefault(name.text, []).append(raw)
        known[name.text] = name._replace(
            has_capitals=name.has_capitals or (name.text in known and known[name.text].has_capitals)
        )
    index = _Index([known[text] for text in sorted(known)], crowd)
    index.same()
    index.contained()
    index.initial()
    index.acronym()
    index.near(cut)
    too_long = [text for text in sorted(known) if _is_too_long(known[text])]
    return Alike(dict(sorted(written.items())), index.pairs(), dict(sorted(index.crowded.items())), too_long)


class _Index:
    """Names in alphabetical order, and the pairs of them that were found so far; the first rule that holds is kept."""

    def __init__(self, names: list[Name], crowd: int) -> None:
        self._names = names
        self._crowd = crowd
        self._found: dict[tuple[int, int], tuple[Likeness, int, float]] = {}
        self.crowded: dict[str, int] = {}
        self._by_key: dict[str, list[int]] = {}
        for place, name in enumerate(names):
            self._by_key.setdefault(name.key, []).append(place)

    def same(self) -> None:
        for key, places in self._by_key.items():
            if not self._is_crowded(key, len(places)):
                self._add("same", combinations(places, 2))

    def contained(self) -> None:
        wholes: dict[str, list[int]] = {}
        for place, name in enumerate(self._names):
            for part in _parts(name):
                if part in self._by_key and is_contained(self._names[self._by_key[part][0]], name):
                    wholes.setdefault(part, []).append(place)
        self._of_others("contained", {key: (self._by_key[key], places) for key, places in wholes.items()})

    def initial(self) -> None:
        short: dict[str, list[int]] = {}
        every: dict[str, list[int]] = {}
        for place, name in enumerate(self._names):
            for given, surname in readings(name):
                key = f"{given[0][0]} {surname}"
                every.setdefault(key, []).append(place)
                if any(len(each) == 1 for each in given):
                    short.setdefault(key, []).append(place)
        self._of_others("initial", {key: (places, every[key]) for key, places in short.items()})

    def acronym(self) -> None:
        short: dict[str, list[int]] = {}
        for place, name in enumerate(self._names):
            if letters := acronym(name):
                short.setdefault(letters, []).append(place)
        long: dict[str, list[int]] = {}
        for place, name in enumerate(self._names):
            for letters in sorted(initials(name) & short.keys()):
                long.setdefault(letters, []).append(place)
        self._of_others("acronym", {key: (short[key], places) for key, places in long.items()})

    def near(self, cut: float) -> None:
        for is_cjk in (False, True):
            owners = self._spellings(is_cjk)
            texts = sorted(owners)
            allowed = _one_if_long if is_cjk else partial(allowed_edits, cut=cut)
            found = candidates(texts, allowed, self._crowd)
            for part, names in found.crowded.items():
                self._is_crowded(part, names)
            for left, right, closeness in _near(texts, found.pairs, allowed):
                pairs = product(owners[left], owners[right])
                holds = [(a, b) for a, b in pairs if is_near(self._names[a], self._names[b], cut)]
                self._add("near", holds, closeness=closeness)

    def pairs(self) -> list[Pair]:
        """What was found, the best first."""
        pairs = [
            Pair(self._names[left].text, self._names[right].text, rule, _score(rule, rivals, closeness), rivals)
            for (left, right), (rule, rivals, closeness) in self._found.items()
        ]
        return sorted(pairs, key=lambda pair: (-pair.score, pair.left, pair.right))

    def _spellings(self, is_cjk: bool) -> dict[str, list[int]]:
        """The names' words in order of the alphabet, and in their own; whose they are."""
        owners: dict[str, list[int]] = {}
        for place, name in enumerate(self._names):
            if name.is_cjk == is_cjk and not _is_too_long(name):
                for spelling in {name.key: None, name.core: None}:
                    owners.setdefault(spelling, []).append(place)
        return owners

    def _of_others(self, rule: Likeness, groups: Mapping[str, tuple[list[int], list[int]]]) -> None:
        """Short names, each with the long ones that it may stand for."""
        holds = {"contained": is_contained, "initial": is_initialled, "acronym": is_acronym}[rule]
        for key, (short, long) in sorted(groups.items()):
            if self._is_crowded(key, len(long)):
                continue
            for place in short:
                rivals = [other for other in long if other != place and holds(self._names[place], self._names[other])]
                self._add(rule, ((place, other) for other in rivals), rivals=len(rivals))

    def _is_crowded(self, key: str, names: int) -> bool:
        if names > self._crowd:
            self.crowded[key] = max(names, self.crowded.get(key, 0))
        return names > self._crowd

    def _add(
        self, rule: Likeness, pairs: Iterable[tuple[int, int]], *, rivals: int = 1, closeness: float = 1.0
    ) -> None:
        for left, right in pairs:
            if left == right:
                continue
            pair = (left, right) if left < right else (right, left)
            before = self._found.get(pair)
            if before is None:
                self._found[pair] = (rule, rivals, closeness)
            elif before[0] == rule:  # either may be short for the other, and a spelling nearer than the other
                self._found[pair] = (rule, min(rivals, before[1]), max(closeness, before[2]))


def _near(texts: list[str], candidates: Places, allowed: Callable[[int], int]) -> Iterator[tuple[str, str, float]]:
    """Pairs of texts that are as few edits apart as is allowed, and how close they are; compared some at a time."""
    most = max((allowed(len(text)) for text in texts), default=0)
    for begin in range(0, len(candidates), _AT_ONCE):
        left, right = ([texts[place] for place in column] for column in candidates[begin : begin + _AT_ONCE].T.tolist())
        for one, other, apart in zip(left, right, edits_of(left, right, most), strict=True):
            if apart <= most and apart <= allowed(longest := max(len(one), len(other))):
                yield one, other, 1 - apart / longest


def _is_too_long(name: Name) -> bool:
    return len(name.core) > LONGEST


def _one_if_long(size: int) -> int:
    """Edits that two names in Chinese, Japanese or Korean script may be apart."""
    return int(size >= CJK_LEAST)


def _parts(name: Name) -> Iterator[str]:
    """The keys of names that it may contain, each once."""
    if _is_too_long(name):
        return
    if name.is_cjk:
        text = name.core
        yield from {text[a:b]: None for a in range(len(text)) for b in range(a + 2, len(text) + 1) if b - a < len(text)}
        return
    words = sorted(name.tokens)
    if len(words) <= _MOST_WORDS:
        yield from {" ".join(some): None for size in range(1, len(words)) for some in combinations(words, size)}
        return
    runs = {
        " ".join(sorted(name.tokens[a:b])): None for a in range(len(words)) for b in range(a + 1, len(words) + 1)
    } | {" ".join(words[:out] + words[out + 1 :]): None for out in range(len(words))}
    yield from (run for run in runs if run != name.key)


def _score(rule: Likeness, rivals: int, closeness: float) -> float:
    """A fifth of the way for each rule, and within it by rivals and by closeness."""
    steps = len(RULES)
    return round((steps - 1 - RULES.index(rule) + closeness / rivals) / steps, 6)
