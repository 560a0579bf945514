"""The table of attacks by tier: filled by the tests, printed at the end and written in full to out/attacks.md."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from epsilon_lab.testing.attacks import Attack

LETTERS = {"namespaces": "N", "landlock": "L", "seccomp": "S", "uid": "U", "limits": ""}


class Cell(NamedTuple):
    word: str
    how: str = ""


class Table:
    def __init__(self) -> None:
        self._attacks: dict[int, Attack] = {}
        self._cells: dict[tuple[int, str], Cell] = {}

    def enter(self, attack: Attack, tier: str, held: bool | None, how: str = "") -> None:
        """Note what became of an attack; held None where it was not tried."""
        self._attacks[attack.number] = attack
        how = how.partition("] ")[2] or how  # an errno's text says enough
        word = {True: "held", False: "NOT", None: "-"}[held]
        self._cells[attack.number, tier] = Cell(word, how.partition(":")[0].partition(" (")[0])

    @property
    def tiers(self) -> list[str]:
        return list(dict.fromkeys(tier for _, tier in self._cells))

    def brief(self) -> list[str]:
        """One line an attack, for a terminal."""
        heads = ["".join(LETTERS[part] for part in tier.split("+")) or "none" for tier in self.tiers]
        rows = [("", heads)] + [(f"{a.number:2}  {a.tries}", [cell.word for cell in row]) for a, row in self._rows()]
        legend = "N namespaces, L landlock, S seccomp, U a user id of its own; limits in every tier; - not tried"
        return [legend, *(f"{name:86}" + "".join(f"{word:>5}" for word in words) for name, words in rows)]

    def full(self) -> list[str]:
        """The same with what became of each program, in Markdown."""
        lines = [["#", "attack", *self.tiers], ["---"] * (2 + len(self.tiers))]
        for attack, row in self._rows():
            cells = [f"{cell.word}: {cell.how}" if cell.how else cell.word for cell in row]
            lines.append([str(attack.number), attack.tries, *cells])
        return ["# Attacks by tier", "", *(f"| {' | '.join(line)} |" for line in lines), ""]

    def _rows(self) -> list[tuple[Attack, list[Cell]]]:
        unknown = Cell("-")
        return [
            (attack, [self._cells.get((number, tier), unknown) for tier in self.tiers])
            for number, attack in sorted(self._attacks.items())
        ]


TABLE = pytest.StashKey[Table]()


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    return request.config.stash.setdefault(TABLE, Table())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(TABLE, None)
    if found is None:
        return
    terminalreporter.section("attacks by tier")
    for line in found.brief():
        terminalreporter.write_line(line)
    path = config.rootpath / "out" / "attacks.md"
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(found.full()))
    except OSError as error:  # somebody else's checkout
        terminalreporter.write_line(f"(not written: {error})")
