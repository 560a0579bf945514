"""The papers, what is known of their benchmarks, and the truth, which only measuring may look at."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple, TypedDict

HERE = Path(__file__).parent


class Paper(TypedDict):
    """What an extractor is given."""

    paper: str
    text: str


class Catalogued(NamedTuple):
    """What a benchmark's own page says of it."""

    conditions: tuple[str, ...]
    """What has to be the same for two results to be comparable."""

    metric: str
    """The usual one."""

    scale: float = 100.0
    """What a number is to be taken times that is in the other unit: a share, or seconds."""

    below: float = 1.0
    """Numbers up to this are in the other unit, as far as their size tells."""


CATALOGUE = {
    "Lanternfield": Catalogued(("metric", "version", "split", "shots"), "exact match"),
    "OrchardBench": Catalogued(("metric", "split"), "top-1 accuracy"),
    "OrchardBench-C": Catalogued(("metric", "split"), "top-1 accuracy"),
    "Gravelspeak": Catalogued(("metric", "split"), "accuracy"),
    "Tessellations": Catalogued(("metric", "split", "shots"), "accuracy"),
    "Quillwright": Catalogued(("metric", "version", "split", "shots"), "pass@1"),
    "Ferryman Latency": Catalogued(("metric",), "median latency", 1000.0, 10.0),
}

FALLING = frozenset({"error rate", "median latency", "99th percentile"})
"""Metrics of which less is better."""

CONDITIONS = ("metric", "version", "split", "shots")


def papers() -> list[Paper]:
    """All of them, in order."""
    return [{"paper": path.stem, "text": path.read_text("utf-8")} for path in sorted((HERE / "papers").glob("*.md"))]


def truth() -> dict[str, dict[str, str]]:
    """What each number is, by row: the fields of `truth.csv`, and as `group` what it may be compared with."""
    with (HERE / "truth.csv").open(encoding="utf-8", newline="") as file:
        return {row["row"]: {**row, "group": group(row["benchmark"], row)} for row in csv.DictReader(file)}


def group(benchmark: str, conditions: dict[str, str]) -> str:
    """What a result is a result of, in words; rows of one group may be compared."""
    asked = CATALOGUE[benchmark].conditions if benchmark in CATALOGUE else CONDITIONS
    told = ((name, conditions.get(name) or "?") for name in asked)
    return ", ".join([benchmark, *(f"{value}-shot" if name == "shots" else value for name, value in told)])
