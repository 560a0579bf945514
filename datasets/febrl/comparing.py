"""How alike two records are, from 0 (nothing in common) to 1: a quick comparison, and a costly one.

Both are a weighted mean over the fields that both records have. The weights were set once, by hand: what a person
keeps (names, date of birth) counts more than what moves house. Two strangers' fields are about half alike by chance,
and so half alike counts as nothing.

The national id is not among the fields (fetch.py), which would decide nearly every pair by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from epsilon_lab.reducers import jaro_winkler, osa, token_sort
from febrl.fetch import Record

BY_CHANCE = 0.5
"""How alike two strangers' fields are."""

SIX = {"given_name": 2, "surname": 2, "date_of_birth": 3, "address_1": 2, "suburb": 2, "postcode": 2}
"""What the quick comparison looks at, with its weights."""

NINE = SIX | {"street_number": 1, "address_2": 1, "state": 0.5}
"""All there is."""

SWAPPED = 0.05
"""What names lose for standing the other way round."""

DAY_FOR_MONTH = 0.9
"""How alike two dates are that differ in the order of day and month."""

NAMES = ("given_name", "surname")
ADDRESS = ("address_1", "address_2", "suburb")

_Part = tuple[float, float]
"""A weight, and how alike."""


def quick(one: Record, two: Record, weights: Mapping[str, float] = SIX) -> float:
    """Compare field with field, as names are compared."""
    return _mean(_field(one, two, name, name, weight, jaro_winkler) for name, weight in weights.items())


def costly(one: Record, two: Record) -> float:
    """Compare all fields, in edits, and try what a clerk would: names swapped, day and month swapped, an address whose
    lines are broken elsewhere.
    """
    parts = [_names(one, two), _dates(one, two), _address(one, two)]
    parts += [_field(one, two, name, name, NINE[name], osa) for name in ("postcode", "street_number", "state")]
    return _mean(parts)


def _names(one: Record, two: Record) -> _Part:
    straight = [_field(one, two, name, name, NINE[name], jaro_winkler) for name in NAMES]
    crossed = [_field(one, two, name, other, NINE[name], jaro_winkler) for name, other in (NAMES, NAMES[::-1])]
    weight = sum(weight for weight, _ in straight)
    if all(weight for weight, _ in crossed) and (swapped := _mean(crossed) - SWAPPED) > _mean(straight):
        return weight, swapped
    return weight, _mean(straight)


def _dates(one: Record, two: Record) -> _Part:
    weight, alike = _field(one, two, "date_of_birth", "date_of_birth", NINE["date_of_birth"], osa)
    left, right = one["date_of_birth"], two["date_of_birth"]  # yyyymmdd
    is_turned = left == right[:4] + right[6:] + right[4:6]
    return weight, max(alike, DAY_FOR_MONTH) if is_turned else alike


def _address(one: Record, two: Record) -> _Part:
    lines = [_field(one, two, name, name, NINE[name], osa) for name in ADDRESS]
    joined = token_sort(*(" ".join(record[name] for name in ADDRESS) for record in (one, two)))
    return sum(weight for weight, _ in lines), max(_mean(lines), _beyond_chance(joined))


def _field(one: Record, two: Record, name: str, other: str, weight: float, near: Callable[[str, str], float]) -> _Part:
    """One field; what either record does not say is no evidence, and weighs nothing."""
    if not (one[name] and two[other]):
        return 0, 0
    return weight, _beyond_chance(near(one[name], two[other]))


def _beyond_chance(alike: float) -> float:
    return max(0.0, (alike - BY_CHANCE) / (1 - BY_CHANCE))


def _mean(parts: Iterable[_Part]) -> float:
    known = [part for part in parts if part[0]]
    return sum(weight * alike for weight, alike in known) / sum(weight for weight, _ in known) if known else 0.0
