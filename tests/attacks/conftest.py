"""The table of attacks by tier: filled by the tests, printed at the end and written to out/attacks.md."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from epsilon_lab.testing.attacks import Attack


class Cell(NamedTuple):
    attack: Attack
    tier: str
    held: bool | None
    """None where it was not dared."""
    how: str


class Table:
    def __init__(self) -> None:
        self._cells: dict[tuple[int, str], Cell] = {}

    def enter(self, attack: Attack, tier: str, held: bool | None, how: str = "") -> None:
        self._cells[attack.number, tier] = Cell(attack, tier, held, how)

    @property
    def tiers(self) -> list[str]:
        return list(dict.fromkeys(tier for _, tier in self._cells))

    def lines(self) -> list[str]:
        """One row an attack, Markdown."""
        attacks = {cell.attack.number: cell.attack for cell in self._cells.values()}
        heads = ["#", "attack", *self.tiers]
        lines = [heads, ["---"] * len(heads)]
        for number, attack in sorted(attacks.items()):
            lines.append([str(number), attack.tries, *(self._word(number, tier) for tier in self.tiers)])
        return [f"| {' | '.join(line)} |" for line in lines]

    def _word(self, number: int, tier: str) -> str:
        cell = self._cells.get((number, tier))
        if cell is None or cell.held is None:
            return "not tried"
        how = cell.how.partition("] ")[2] or cell.how  # an errno's text says enough
        return f"{'held' if cell.held else 'NOT held'}: {how.partition(':')[0].partition(' (')[0].replace('|', '/')}"


TABLE = pytest.StashKey[Table]()


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    return request.config.stash.setdefault(TABLE, Table())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(TABLE, None)
    if found is None:
        return
    terminalreporter.section("attacks by tier")
    for line in found.lines():
        terminalreporter.write_line(line)
    path = config.rootpath / "out" / "attacks.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["# Attacks by tier", "", *found.lines(), ""]))
