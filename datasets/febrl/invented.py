"""People of our own in the form of the FEBRL sets: for where those cannot be fetched, and for tests of the method.

What goes wrong in a record is what goes wrong in FEBRL's: a slip of the finger, a field left out or replaced, names or
address lines swapped, day and month swapped, digits transposed. How often is made up, so nothing that is measured here
says anything about FEBRL, let alone about people.
"""

from __future__ import annotations

import random
from string import ascii_lowercase

from febrl.fetch import FILES, Febrl, Record

_ONSETS = ["b", "br", "c", "ch", "d", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "r", "s", "st", "t", "w"]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ee", "ou"]
_CODAS = ["", "", "n", "r", "s", "ll", "nd", "th"]
_STREETS = ("street", "place", "crescent", "road", "circuit")
_STATES = ("nsw", "vic", "qld", "wa", "sa", "tas", "act", "nt")


def invented(name: str, people: int = 1_000) -> Febrl:
    """Make a set with the name, and as many files, as one of FEBRL's: each person once, and three of four once more.

    The same name gives the same set.
    """
    dice = random.Random(name)
    words = [_word(dice) for _ in range(600)]
    letters = "AB"[: len(FILES[name])]
    rows: list[tuple[str, str, Record]] = []
    for number in range(people):
        original = _person(dice, words)
        rows.append((letters[0], str(number), original))
        if dice.random() < 0.75:
            rows.append((letters[-1], str(number), _copied(dice, original, words)))
    dice.shuffle(rows)
    records, person = {}, {}
    for letter in letters:
        for place, (_, who, record) in enumerate((row for row in rows if row[0] == letter), start=1):
            records[f"{letter}{place}"], person[f"{letter}{place}"] = record, who
    return Febrl(name, records, person)


def _word(dice: random.Random) -> str:
    return "".join(
        dice.choice(_ONSETS) + dice.choice(_VOWELS) + dice.choice(_CODAS) for _ in range(dice.choice((1, 2, 2, 3)))
    )


def _person(dice: random.Random, words: list[str]) -> Record:
    return {
        "given_name": dice.choice(words[:150]),
        "surname": dice.choice(words),
        "street_number": str(dice.randint(1, 200)),
        "address_1": f"{dice.choice(words)} {dice.choice(_STREETS)}",
        "address_2": dice.choice(words) if dice.random() < 0.4 else "",
        "suburb": dice.choice(words[200:]),
        "postcode": str(dice.randint(2000, 7999)),
        "state": dice.choice(_STATES),
        "date_of_birth": f"{dice.randint(1900, 1999)}{dice.randint(1, 12):02}{dice.randint(1, 28):02}",
    }


def _copied(dice: random.Random, original: Record, words: list[str]) -> Record:
    """The record as somebody else has written it down."""
    copy = dict(original)
    for field in dice.sample(list(copy), dice.choice((1, 2, 2, 3, 4, 5))):
        copy[field] = _slip(dice, copy[field]) if dice.random() < 0.6 else dice.choice(("", dice.choice(words)))
    if dice.random() < 0.1:
        copy["given_name"], copy["surname"] = copy["surname"], copy["given_name"]
    if dice.random() < 0.1:
        copy["address_1"], copy["address_2"] = copy["address_2"], copy["address_1"]
    if dice.random() < 0.1 and len(date := copy["date_of_birth"]) == 8:
        copy["date_of_birth"] = date[:4] + date[6:] + date[4:6]
    return copy


def _slip(dice: random.Random, text: str) -> str:
    """One slip of the finger: two neighbours swapped, one left out, one too many, or another one."""
    if len(text) < 2:
        return text
    place = dice.randrange(len(text) - 1)
    before, one, two, after = text[:place], text[place], text[place + 1], text[place + 2 :]
    another = dice.choice("0123456789" if text.isdigit() else ascii_lowercase)
    return before + dice.choice((two + one, two, one + another + two, another + two)) + after
