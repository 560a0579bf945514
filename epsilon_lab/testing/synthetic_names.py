"""Names made up by the thousand, with what is the same as what: what a finder of alike names is measured with.

They are made of syllables, in three scripts, and of each some are written otherwise: in capitals, without accents,
with the surname first, with an initial, a legal form, a word less, as an acronym, misspelt. What such names say of
recall and speed holds for names of these kinds; of how many pairs in real text are true they say nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from random import Random


class Variant(NamedTuple):
    """A name that is written otherwise."""

    name: str
    written: str
    kind: str
    """How: `case`, `accent`, `order`, `initial`, `suffix`, `part`, `acronym` or `typo`."""


class Corpus(NamedTuple):
    """Names, and what is known of them."""

    names: list[str]
    variants: list[Variant]


_SYLLABLES = (
    "b br c ch d f fr g gr h j k kl l m n p pr r s st t tr v w z",
    "a e i o u a e i o u ai ei ou é ö ü å",
    "- n r l s t nd rt ck m x",
)
_ONSETS, _VOWELS, _CODAS = (part.split() for part in _SYLLABLES)
_CYRILLIC = ("ба", "ви", "го", "да", "же", "за", "ки", "ла", "ме", "но", "пе", "ро", "си", "та", "фо", "ха", "ов", "ин")
_CJK = "東西南北京海山川田中村林森木水火土金星月日空大小高新古青白赤黒花鳥風雪石橋島谷原野松竹梅藤井上下本"
_ACTIVITIES = ("Steel", "Energy", "Systems", "Research", "Foods", "Airlines", "Insurance", "Press", "Motors", "Bank")


def corpus(dice: Random, size: int) -> Corpus:
    """Make so many names, about half of which are another one written otherwise.

    Args:
        dice: Where chance comes from.
        size: How many, each once.
    """
    names: dict[str, None] = {}
    variants: list[Variant] = []
    given = [_word(dice, 2) for _ in range(max(size // 100, 20))]
    surnames = [_word(dice, dice.choice((2, 2, 3))) for _ in range(max(size // 5, 20))]
    while len(names) < size:
        kind = dice.random()
        if kind < 0.5:
            name = f"{dice.choice(given)} {dice.choice(surnames)}"
        elif kind < 0.8:
            name = " ".join([_word(dice, 2), *(_word(dice, 2) for _ in range(dice.randrange(2))), *_activity(dice)])
        elif kind < 0.9:
            name = f"{_cyrillic(dice, 2)} {_cyrillic(dice, dice.choice((3, 4)))}"
        else:
            name = "".join(dice.choice(_CJK) for _ in range(dice.choice((2, 3, 4, 4, 5, 6))))
        names[name] = None
        for _ in range(dice.choice((0, 0, 1, 1, 2, 3))):
            variant = _variant(dice, name)
            if variant is not None and variant.written != name:
                variants.append(variant)
                names[variant.written] = None
    kept = list(names)[:size]
    there = set(kept)
    found = [variant for variant in variants if variant.name in there and variant.written in there]
    dice.shuffle(kept)
    return Corpus(kept, found)


def _variant(dice: Random, name: str) -> Variant | None:
    words = name.split()
    kind = dice.choice(("case", "accent", "order", "initial", "suffix", "part", "acronym", "typo", "typo"))
    if len(words) == 1 and kind != "typo":
        return None
    match kind:
        case "case":
            written = name.upper()
        case "accent":
            written = name.translate(str.maketrans("éöüå", "eoua"))
        case "order" if len(words) == 2:
            written = f"{words[1]}, {words[0]}"
        case "initial" if len(words) == 2:
            written = f"{words[0][0]}. {words[1]}"
        case "suffix":
            written = f"{name} {dice.choice(('Ltd', 'Inc.', 'GmbH', 'S.A.'))}"
        case "part":
            written = " ".join(words[1:])
        case "acronym" if len(words) > 2:
            written = "".join(word[0] for word in words).upper()
        case "typo":
            written = _misspelt(dice, name)
        case _:
            return None
    return Variant(name, written, kind)


def _misspelt(dice: Random, name: str) -> str:
    at = dice.randrange(len(name))
    match dice.randrange(4):
        case 0:
            return name[:at] + name[at + 1 :]
        case 1:
            return name[:at] + dice.choice(name.replace(" ", "")) + name[at:]
        case 2:
            return name[:at] + name[at : at + 2][::-1] + name[at + 2 :]
        case _:
            return name[:at] + dice.choice(name.replace(" ", "")) + name[at + 1 :]


def _word(dice: Random, syllables: int) -> str:
    parts = [dice.choice(_ONSETS) + dice.choice(_VOWELS) + dice.choice(_CODAS).strip("-") for _ in range(syllables)]
    return "".join(parts).capitalize()


def _activity(dice: Random) -> list[str]:
    return dice.sample(_ACTIVITIES, dice.choice((0, 1, 1, 2)))


def _cyrillic(dice: Random, syllables: int) -> str:
    return "".join(dice.choice(_CYRILLIC) for _ in range(syllables)).capitalize()
