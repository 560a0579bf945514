"""Short dispatches with planted truth: who is named in them, by which names, and what is said of whom.

Text whose truth is known is what makes "how good is the graph?" a question with an answer. The world is drawn first
(people, organisations, places, facts between them), then told: each dispatch tells a few facts around one of them, and
calls everyone by one of the names they go by. What is hard is planted and counted: two people with one surname,
a surname alone, initials, an acronym, a legal form that comes and goes, a name misspelt, an accent left out, and a town
whose name a company bears.

    python datasets/dispatches/generate.py        writes dispatches.jsonl and truth.json beside this file

The same bytes each time: one `random.Random` with a fixed seed, and nothing else, decides.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
SEED = 20_261_121
DOCUMENTS = 120

GIVEN = (
    "Anna", "Peter", "Mikhail", "Sofia", "Jörg", "Ruth", "Tomas", "Ingrid", "Paul", "Marta", "Henrik", "Lucía", "Oskar",
    "Elena", "Viktor", "Nadia", "Samuel", "Clara", "Emil", "Greta", "Ivan", "Judith", "Karl", "Lena", "Marco", "Nora",
)  # fmt: skip
SURNAMES = (
    "Keller", "Orlov", "Brandt", "Moreau", "Lindqvist", "Okafor", "Castellan", "Haraldsen", "Petrescu", "Vance",
    "Zielinski", "Adeyemi", "Fontaine", "Strand", "Novak", "Hartmann", "Ibarra", "Kowalczyk", "Delgado", "Thorne",
    "Varga", "Wexler",
)  # fmt: skip
SHARED = ("Keller", "Strand")
"""Surnames that two people have."""

PLACES = ("Halden", "Westbridge", "Port Lorne", "Caldera", "Ostrava Bay", "Mirefield", "Sankt Olai", "Dunmore")
COMPANIES = (
    ("Halden Works", "Ltd"), ("Norrland Timber", "AB"), ("Caspian Optics", "Inc"), ("Meridian Freight", "GmbH"),
    ("Blue Lantern", "Ltd"), ("Aurora Grid", "plc"), ("Tessel Robotics", "GmbH"), ("Copper Finch", "Inc"),
)  # fmt: skip
BODIES = (
    "Northern Rail Union", "Institute for Marine Research", "Westbridge City Council", "Federal Water Authority",
    "Mirefield Teachers College", "National Archive of Song",
)  # fmt: skip


class Thing(NamedTuple):
    """Somebody or something with names."""

    id: str
    kind: str
    names: tuple[str, ...]
    """The full name first."""


class Fact(NamedTuple):
    """One thing, what it has to do with another, and that."""

    subject: str
    predicate: str
    object: str


TOLD = {
    "leads": ("{s} has led {o} for three years.", "{s}, who leads {o}, was not available for comment."),
    "works_for": ("{s} works for {o}.", "{s} joined {o} in spring."),
    "founded": ("{s} founded {o} eleven years ago.", "{o} was founded by {s}."),
    "born_in": ("{s} was born in {o}.",),
    "based_in": ("{s} is based in {o}.", "The head office of {s} is in {o}."),
    "acquired": ("{s} has acquired {o}.", "{o} was acquired by {s}."),
    "supplies": ("{s} supplies {o}.",),
}
ASIDES = (
    "Rain is expected for the weekend.", "The meeting lasted until midnight.", "A decision is due next month.",
    "Prices were little changed.", "Several residents had complained.", "The report runs to ninety pages.",
)  # fmt: skip


def misspelt(name: str) -> str:
    """One letter of the surname, the last but one, is written twice."""
    return name[:-1] + name[-2] + name[-1]


def unaccented(name: str) -> str:
    """As a wire without accents has it."""
    return name.translate(str.maketrans("öíáé", "oiae"))


def things() -> list[Thing]:
    """Everybody and everything there is."""
    surnames = [*SURNAMES, *SHARED]
    people = []
    for number, (given, surname) in enumerate(zip(GIVEN, surnames, strict=False)):
        full = f"{given} {surname}"
        is_second = surname in surnames[:number]  # of two with one surname, the second goes by it alone
        names = [full, f"{given[0]}. {surname}", *[surname] * (surname not in SHARED or is_second)]
        names += [unaccented(full)] * (unaccented(full) != full)
        names += [misspelt(full)] * (number % 5 == 2)
        people.append(Thing(f"p{number:02d}", "person", tuple(names)))
    companies = [
        Thing(f"c{number:02d}", "organisation", (name, f"{name} {form}"))
        for number, (name, form) in enumerate(COMPANIES)
    ]
    bodies = [
        Thing(f"b{number:02d}", "organisation", (name, "".join(word[0] for word in name.split() if word[0].isupper())))
        for number, name in enumerate(BODIES)
    ]
    places = [Thing(f"l{number:02d}", "place", (name,)) for number, name in enumerate(PLACES)]
    return [*people, *companies, *bodies, *places]


def facts(world: list[Thing], dice: random.Random) -> list[Fact]:
    """What is so."""
    by_kind = {
        kind: [thing.id for thing in world if thing.kind == kind] for kind in ("person", "organisation", "place")
    }
    people, organisations, places = by_kind["person"], by_kind["organisation"], by_kind["place"]
    dice.shuffle(people)
    found = [Fact(each, "based_in", dice.choice(places)) for each in organisations]
    found += [Fact(person, "leads", each) for person, each in zip(people, organisations, strict=False)]
    found += [Fact(person, "works_for", dice.choice(organisations)) for person in people[len(organisations) :]]
    found += [Fact(person, "born_in", dice.choice(places)) for person in people]
    found += [Fact(dice.choice(people), "founded", each) for each in organisations if each.startswith("c")]
    companies = [each for each in organisations if each.startswith("c")]
    found += [Fact(*pair) for pair in zip(companies[::2], ["acquired"] * 4, companies[1::2], strict=True)]
    found += [Fact(*pair) for pair in zip(companies[1:], ["supplies"] * 7, companies[:-1], strict=True)]
    return found


def tell(world: list[Thing], known: list[Fact], dice: random.Random) -> Iterator[dict[str, object]]:
    """The dispatches: id, text, and who is called what in it."""
    by_id = {thing.id: thing for thing in world}
    for number in range(DOCUMENTS):
        hero = known[number % len(known)].subject
        about = [fact for fact in known if hero in (fact.subject, fact.object)]
        chosen = [known[number % len(known)], *dice.sample(about, min(len(about), 2))]
        chosen += dice.sample(known, 2)
        chosen = list(dict.fromkeys(chosen))
        called: dict[str, str] = {}
        mentions: dict[str, str] = {}
        lines = []
        for fact in chosen:
            for thing in (by_id[fact.subject], by_id[fact.object]):
                if thing.id not in called:  # a full name mostly; now and then another from the start
                    called[thing.id] = thing.names[0] if dice.random() < 0.45 else dice.choice(thing.names)
            names = {"s": called[fact.subject], "o": called[fact.object]}
            lines.append(dice.choice(TOLD[fact.predicate]).format(**names))
            mentions |= {names["s"]: fact.subject, names["o"]: fact.object}
        lines.insert(dice.randrange(1, len(lines) + 1), dice.choice(ASIDES))
        yield {
            "id": f"d{number:03d}",
            "text": "\n".join(lines),
            "mentions": mentions,
            "facts": sorted(chosen),
        }


def make() -> tuple[str, str]:
    """The two files' contents."""
    dice = random.Random(SEED)
    world = things()
    known = facts(world, dice)
    told = list(tell(world, known, dice))
    dispatches = "".join(json.dumps({k: d[k] for k in ("id", "text")}, ensure_ascii=False) + "\n" for d in told)
    truth = {
        "entities": [thing._asdict() for thing in sorted(world)],
        "mentions": {d["id"]: d["mentions"] for d in told},
        "facts": {d["id"]: d["facts"] for d in told},
    }
    return dispatches, json.dumps(truth, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    for path, content in zip((HERE / "dispatches.jsonl", HERE / "truth.json"), make(), strict=True):
        path.write_text(content, encoding="utf-8")
