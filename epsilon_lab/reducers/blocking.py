"""Which of very many texts may be a few edits apart, found without comparing all pairs.

Two texts one edit apart have a text in common that is left when each loses at most one character (T. Bocek, E. Hunt,
B. Stiller, "Fast Similarity Search in Large Dictionaries", 2007); of two texts e edits apart, one of e + 1 parts of the
longer stands in the shorter, at most e characters aside (G. Li, D. Deng, J. Wang, J. Feng, "Pass-Join", 2011). So
whole texts are indexed, not their words: a word such as `university` is in a tenth of all names and finds nothing.
A swap of neighbours across the border of two parts may be missed: it spoils both, and is counted once.

The keys are hashes, made for all texts of a length at once; that two of them are equal by chance costs a comparison and
nothing else, since what is found here is only a candidate. PYTHONHASHSEED and the order of the texts change nothing. A
part that stands in more than so many texts is left out; which is part of the answer, since pairs may be missed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Places = NDArray[np.int64]

_BASE = 0x9E3779B97F4A7C15  # odd, as a multiplier modulo 2 ** 64 has to be
_PART = 0xC2B2AE3D27D4EB4F


class Texts:
    """Texts of one length, and the hashes of any part of them.

    Args:
        places: Where they stand among all texts.
        texts: The texts.
    """

    def __init__(self, places: Sequence[int], texts: Sequence[str]) -> None:
        import numpy as np  # noqa: PLC0415 - heavy

        self.size = len(texts[0])
        self.places = np.array(places, dtype=np.int64)
        codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32).reshape(-1, self.size)
        self._until: list[Hashes] = [np.zeros(len(texts), dtype=np.uint64)]
        for column in codes.T:
            self._until.append(self._until[-1] * np.uint64(_BASE) + column + np.uint64(1))

    def part(self, begin: int, size: int) -> Hashes:
        """The hashes of the part that begins there and has so many characters."""
        return self._until[begin + size] - self._until[begin] * _power(size)

    def without(self, place: int) -> Hashes:
        """The hashes of the texts without one character."""
        left = self.size - place - 1
        return self._until[place] * _power(left) + self.part(place + 1, left)


class Keys(NamedTuple):
    """Keys of texts: the key, whose it is, and the part of the text that it stands for."""

    hashes: Hashes
    owners: Places
    begins: Places
    sizes: Places


class Candidates(NamedTuple):
    """What may be a few edits apart."""

    pairs: Places
    """Rows of two places of texts, the smaller first, each once and in order."""

    crowded: dict[str, int]
    """Parts that stand in too many texts, and in how many."""


def candidates(texts: Sequence[str], allowed: Callable[[int], int], most: int) -> Candidates:
    """Find the pairs of texts that may be as few edits apart as their longer one allows.

    Args:
        texts: Distinct, not empty.
        allowed: How many edits a pair may be apart whose longer text has so many characters; more for more.
        most: A key that more texts have is passed over.
    """
    import numpy as np  # noqa: PLC0415 - heavy

    by_size: dict[int, list[int]] = {}
    for place, text in enumerate(texts):
        by_size.setdefault(len(text), []).append(place)
    groups = {
        size: Texts(places, [texts[place] for place in places])
        for size, places in sorted(by_size.items())
        if allowed(size + 1)
    }
    found: list[Places] = []
    crowded: dict[str, int] = {}
    one_less = _keys(_one_less(groups, allowed))
    for index, probes in [(one_less, one_less), *_parts(groups, allowed)]:
        left, right, stops = _joined(index, probes, most)
        apart = left != right
        pairs = np.stack([np.minimum(left, right)[apart], np.maximum(left, right)[apart]], axis=1)
        found.append(pairs)
        for place, number in stops:
            begin = int(index.begins[place])
            part = texts[int(index.owners[place])][begin : begin + int(index.sizes[place])]
            crowded[part] = max(number, crowded.get(part, 0))
    together = np.concatenate([*found, np.empty((0, 2), dtype=np.int64)])
    codes = np.unique(together[:, 0] * len(texts) + together[:, 1])
    return Candidates(np.stack([codes // max(len(texts), 1), codes % max(len(texts), 1)], axis=1), crowded)


_Part = tuple[Any, Any, int, int]
"""Hashes, owners, and which part of them: where it begins, how many characters it has."""


def _one_less(groups: dict[int, Texts], allowed: Callable[[int], int]) -> Iterator[_Part]:
    for size, texts in groups.items():
        yield texts.part(0, size), texts.places, 0, size
        if allowed(size):
            for place in range(size):
                yield texts.without(place), texts.places, 0, size


def _parts(groups: dict[int, Texts], allowed: Callable[[int], int]) -> Iterator[tuple[Keys, Keys]]:
    """For each length that allows several edits: the parts of such texts, and where they may stand in others."""
    for size, texts in groups.items():
        if (edits := allowed(size)) < 2:
            continue
        bounds = [size * number // (edits + 1) for number in range(edits + 2)]
        parts = [(begin, end - begin, number) for number, (begin, end) in enumerate(pairwise(bounds))]
        yield (
            _keys((texts.part(begin, long) + _of_part(n), texts.places, begin, long) for begin, long, n in parts),
            _keys(
                (other.part(at, long) + _of_part(n), other.places, at, long)
                for shorter in range(size - edits, size + 1)
                if (other := groups.get(shorter))
                for begin, long, n in parts
                for at in range(max(begin - edits, 0), min(begin + edits, shorter - long) + 1)
            ),
        )


def _keys(parts: Iterable[_Part]) -> Keys:
    import numpy as np  # noqa: PLC0415 - heavy

    rows = list(parts)
    if not rows:
        none = np.empty(0, dtype=np.int64)
        return Keys(none.astype(np.uint64), none, none, none)
    numbers = [len(owners) for _, owners, _, _ in rows]
    return Keys(
        np.concatenate([hashes for hashes, *_ in rows]),
        np.concatenate([owners for _, owners, *_ in rows]),
        np.repeat(np.array([begin for *_, begin, _ in rows]), numbers),
        np.repeat(np.array([size for *_, size in rows]), numbers),
    )


def _joined(index: Keys, probes: Keys, most: int) -> tuple[Places, Places, list[tuple[int, int]]]:
    """Whose keys are equal: owners of the one, of the other; and places of keys that too many have, and how many."""
    import numpy as np  # noqa: PLC0415 - heavy

    order = np.argsort(index.hashes, kind="stable")
    ordered = index.hashes[order]
    first = np.searchsorted(ordered, probes.hashes, "left")
    numbers = np.searchsorted(ordered, probes.hashes, "right") - first
    stops = {int(at): int(number) for at, number in zip(first[numbers > most], numbers[numbers > most], strict=True)}
    kept = (numbers > (index is probes)) & (numbers <= most)  # among themselves, each finds itself
    first, numbers = first[kept], numbers[kept]
    within = np.arange(numbers.sum()) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    left = index.owners[order[np.repeat(first, numbers) + within]]
    right = np.repeat(probes.owners[kept], numbers)
    return left, right, [(int(order[at]), number) for at, number in stops.items()]


def _of_part(number: int) -> np.uint64:
    import numpy as np  # noqa: PLC0415 - heavy

    return np.uint64(number * _PART % 2**64)


def _power(exponent: int) -> np.uint64:
    import numpy as np  # noqa: PLC0415 - heavy

    return np.uint64(pow(_BASE, exponent, 2**64))
