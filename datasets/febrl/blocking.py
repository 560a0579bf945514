"""Which pairs are worth comparing: those that agree exactly in at least one of eight keys.

Two files of five thousand records make 25 million pairs, nearly all of strangers. A key that agrees for one person's
records in spite of an error leaves some thousands; each of the eight survives another kind of error, and what all of
them miss is lost to whatever comes after.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from epsilon_lab.reducers import soundex
from febrl.fetch import Pair, Record

Key = Callable[[Record], str]
"""A record's key; empty where a field that it needs is."""


def _all(*parts: str) -> str:
    return " ".join(parts) if all(parts) else ""


def _names(one: str, two: str) -> str:
    """The same key for given name and surname either way round."""
    return _all(*sorted((one, two)))


KEYS: dict[str, Key] = {
    "birth": lambda record: record["date_of_birth"],
    "names": lambda record: _names(record["given_name"][:3], record["surname"][:3]),
    "sounds": lambda record: _names(soundex(record["given_name"]), soundex(record["surname"])),
    "surname and postcode": lambda record: _all(record["surname"][:3], record["postcode"]),
    "given name and postcode": lambda record: _all(record["given_name"][:3], record["postcode"]),
    "house": lambda record: _all(record["address_1"], record["street_number"]),
    "surname and street": lambda record: _all(record["surname"][:4], record["address_1"][:4]),
    "suburb and postcode": lambda record: _all(record["suburb"][:4], record["postcode"]),
}


def block(files: Sequence[Mapping[str, Record]], name: str) -> list[Pair]:
    """The pairs that agree in one key and in none before it, so that each pair is met once over all keys.

    Args:
        files: The records by label; of two files, pairs are across them.
        name: The key.
    """
    key = KEYS[name]
    before = [each for other, each in KEYS.items() if list(KEYS).index(other) < list(KEYS).index(name)]
    blocks: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for place, records in enumerate(files):
        for label, record in records.items():
            if value := key(record):
                blocks[value].append((place, label))
    met: list[Pair] = []
    for members in blocks.values():
        for (place, label), (other_place, other_label) in combinations(members, 2):
            if len(files) > 1 and place == other_place:
                continue
            one, two = files[place][label], files[other_place][other_label]
            if not any(each(one) and each(one) == each(two) for each in before):
                met.append((label, other_label))
    return met


def candidates(files: Sequence[Mapping[str, Record]]) -> list[Pair]:
    """The pairs of all keys."""
    return [pair for name in KEYS for pair in block(files, name)]
