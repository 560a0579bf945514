"""Which rows may be compared: a guess from what their tables say, the doubts about it, and what verdicts make of it.

A row belongs to a group, which is a benchmark under certain conditions. What a table does not say is taken to be as
usual, which is a guess; whoever has a doubt about it is asked whether the row may be compared with one of that group of
which there is no doubt. Until that is decided the guess stands; a row that may not be compared is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark_papers.corpus import CATALOGUE, CONDITIONS, FALLING, Catalogued, Paper, group
from benchmark_papers.reading import Row, shown

COMPARABLE, NOT_COMPARABLE = "comparable", "not comparable"
_SCALES = {"%": 1.0, "share": 100.0, "ms": 1.0, "s": 1000.0}
_FACTORS = (1.0, 100.0, 0.01, 1000.0, 0.001)


@dataclass
class Placed:
    """A row, and where it belongs as far as is known."""

    row: Row
    benchmark: str
    """As it is catalogued."""

    group: str
    points: float
    """Percent or milliseconds; as printed where no unit is told."""

    doubts: list[str] = field(default_factory=list)
    references: list[Placed] = field(default_factory=list)
    """Rows beyond doubt, one for each group that it may be of, the likeliest first; none where there is no doubt."""

    factor: float = 1.0
    """What the number is to be taken times, if it is in the unit that its size suggests."""

    urgency: float = 0.0
    """1 for the best of its group, less for those behind it."""

    copy_of: str = ""
    """The row that it repeats."""

    def settle(self, reference: Placed, verdict: str | None) -> bool:
        """Take a verdict on it and a reference; None changes nothing.

        Returns:
            Whether the next reference is to be asked about.
        """
        if verdict == COMPARABLE:
            self.group = reference.group
            self.points = round(self.points * self.factor, 4)
        elif verdict == NOT_COMPARABLE:
            self.group = f"{self.benchmark}, {self.row['row']} alone"
        return verdict == NOT_COMPARABLE

    def question(self, reference: Placed, papers: Mapping[str, Paper]) -> dict[str, Any]:
        """What to `flag`: it and a reference."""
        both = (self.row, reference.row)
        scale = f", taken times {self.factor:g}" if self.factor != 1 else ""
        return {
            "key": [each["row"] for each in both],
            "kind": "comparable",
            "question": f"May {self.row['printed']} ({self.row['row']}{scale}) be compared with "
            f"{reference.row['printed']} ({reference.row['row']})?",
            "options": [COMPARABLE, NOT_COMPARABLE],
            "evidence": {each["row"]: shown(papers[each["paper"]], each) for each in both},
            "reason": "; ".join(self.doubts),
            "score": self.urgency,
        }

    def record(self) -> dict[str, Any]:
        """It as a record of the dataset; `value` is in percent or milliseconds."""
        kept = {name: self.row[name] for name in ("row", "paper", "system", "printed")}
        return {**kept, "benchmark": self.benchmark, "group": self.group, "value": self.points, "copy_of": self.copy_of}


def placed(rows: Iterable[Row], names: Mapping[str, str]) -> list[Placed]:
    """Place rows by what their tables say.

    Args:
        rows: Of all papers, in their order.
        names: Spelling of a benchmark -> how it is catalogued.
    """
    every = list(rows)
    found: list[Placed] = []
    for benchmark in dict.fromkeys(names[row["benchmark"]] for row in every):
        found += _placed([row for row in every if names[row["benchmark"]] == benchmark], benchmark)
    order = {row["row"]: place for place, row in enumerate(every)}
    return sorted(found, key=lambda each: order[each.row["row"]])


def _placed(rows: Sequence[Row], benchmark: str) -> list[Placed]:
    known = CATALOGUE.get(benchmark, Catalogued(CONDITIONS, ""))
    asked = known.conditions
    whole = [row for row in rows if not (row["source"] or row["sign"]) and all(row[name] for name in asked)]
    usual = Counter(tuple(row[name] for name in asked) for row in whole or rows).most_common(1)[0][0]
    own: list[Placed] = []
    for row in rows:
        conditions = {name: row[name] or value for name, value in zip(asked, usual, strict=True)}
        doubts = [f"the table does not tell the {name}" for name in asked if not row[name]]
        doubts += [f"there is a footnote {row['sign']}"] * bool(row["sign"])
        doubts += ["it is cited"] * bool(row["source"])
        points = _points(row)
        factor = known.scale if not row["unit"] and points <= known.below else 1.0
        doubts += ["by its size it is in another unit"] * (factor != 1)
        own.append(Placed(row, benchmark, group(benchmark, conditions), points, doubts, factor=factor))
    sure: dict[str, Placed] = {}
    for each in own:
        if not each.doubts:
            sure.setdefault(each.group, each)
    sizes = Counter(each.group for each in own)
    by_name = {(each.row["paper"], each.row["system"]): each for each in own if not each.row["source"]}
    for each in own:
        first = by_name.get((each.row["source"], each.row["system"]))
        if first is not None and _is_copy(each.row["printed"], first.row["printed"]):
            each.copy_of = first.row["row"]
        elif each.doubts:
            likely = sorted(sure.values(), key=lambda other: (other.group != each.group, -sizes[other.group]))
            each.references = [other for other in likely if _may_be(each.row, other.row, asked)]
    _rank(own)
    return own


def _may_be(row: Row, reference: Row, asked: Iterable[str]) -> bool:
    """Whether nothing that a row's table tells speaks against it; a footnote, or whoever cites, may tell otherwise."""
    return bool(row["sign"] or row["source"]) or all(row[name] in ("", reference[name]) for name in asked)


def follow(found: Iterable[Placed]) -> None:
    """Put copies where their originals are, once these are settled."""
    every = list(found)
    by_row = {each.row["row"]: each for each in every}
    for each in every:
        if (first := by_row.get(each.copy_of)) is not None:
            each.group, each.points = first.group, first.points


def _rank(own: Iterable[Placed]) -> None:
    """Say how far up its group each stands, with the number it would have."""
    groups: dict[str, list[Placed]] = {}
    for each in own:
        groups.setdefault(each.group, []).append(each)
    for some in groups.values():
        falls = any(metric in some[0].group for metric in FALLING)
        some.sort(key=lambda each: each.points * each.factor * (1 if falls else -1))
        for place, each in enumerate(some):
            each.urgency = round(1 / (1 + place), 4)


def _points(row: Row) -> float:
    return round(float(row["printed"]) * _SCALES.get(row["unit"], 1.0), 4)


def _is_copy(printed: str, original: str) -> bool:
    """Whether a number is another, rounded, in this unit or that."""
    digits = len(printed.partition(".")[2])
    return any(f"{float(original) * factor:.{digits}f}" == printed for factor in _FACTORS)


def leaderboard(rows: Iterable[Mapping[str, Any]], benchmark: str) -> list[Mapping[str, Any]]:
    """The largest group of a benchmark, the best first, each system once, by what it reports of itself."""
    own = [row for row in rows if row["benchmark"] == benchmark and not row["copy_of"]]
    named = Counter(str(row["group"]) for row in own).most_common(1)
    chosen = [row for row in own if named and row["group"] == named[0][0]]
    falls = bool(named) and any(metric in named[0][0] for metric in FALLING)
    return sorted(chosen, key=lambda row: row["value"], reverse=not falls)
