"""Sixty short papers with a table of results each, and the truth about every number in them.

Whether two numbers may be compared is seldom written beside them: it is in a footnote, in a sentence of the setup, or
in another paper that was copied from. Here that is known, because the conditions of each result are drawn first, and
only then it is drawn where the paper tells them. What is planted, and how often, is counted in README.md.

    python datasets/benchmark_papers/generate.py        writes papers/*.md and truth.csv beside this file

The same bytes each time: one `random.Random` with a fixed seed, of which only `random()` is asked, decides everything.
"""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

HERE = Path(__file__).parent
SEED = 20_261_121
PAPERS = 60

T = TypeVar("T")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark, and what may be measured on it."""

    name: str
    metrics: tuple[str, str]
    """The usual one, and another that is reported under the same name."""

    base: float
    """The usual metric of a middling system: percent, or milliseconds."""

    other: float
    """By how much the other metric is larger; NaN where it is 100 less the usual one."""

    versions: tuple[str, str] = ("", "")
    """The usual one and an older, easier one; empty where there is one only."""

    splits: tuple[str, str] = ("test", "dev")
    shots: tuple[str, str] = ("", "")
    units: tuple[str, str] = ("%", "share")
    typo: str = ""


LATENCY = "Ferryman Latency"
BENCHMARKS = (
    Benchmark("Lanternfield", ("exact match", "F1"), 58, 9, ("1.1", "1.0"), shots=("0", "5"), typo="Lanternfeild"),
    Benchmark("OrchardBench", ("top-1 accuracy", "top-5 accuracy"), 71, 14, typo="OrchadBench"),
    Benchmark("Gravelspeak", ("accuracy", "error rate"), 82, math.nan, typo="Gravelspaek"),
    Benchmark("Tessellations", ("accuracy", "majority of 8"), 47, 9, shots=("0", "5"), typo="Tesselations"),
    Benchmark("Quillwright", ("pass@1", "pass@10"), 38, 19, ("1.1", "1.0"), shots=("0", "5"), typo="Quilwright"),
    Benchmark(LATENCY, ("median latency", "99th percentile"), 180, 210, splits=("", ""), units=("ms", "s")),
    Benchmark("OrchardBench-C", ("top-1 accuracy", "top-5 accuracy"), 52, 17),
)
EASIER = {"version": 6.0, "split": 2.5, "shots": 5.0}
"""Points that the other version, split, number of shots is worth."""

STEMS = (
    "Corvid", "Halyard", "Pumice", "Wicket", "Tamarack", "Brindle", "Cinder", "Dovetail", "Ember", "Fathom",
    "Garnet", "Heron", "Isthmus", "Juniper", "Kestrel", "Lodestar", "Mistral", "Nettle", "Osprey", "Plover",
)  # fmt: skip
SYSTEMS = tuple(stem + suffix for suffix in ("", "-2", "-XL") for stem in STEMS)

Told = dict[str, tuple[str, ...]]
"""Words for a value of a condition, those first that name it."""

SPLIT: Told = {
    "test": (
        "Results are on the test split.",
        "We report test figures.",
        "All numbers come from the hidden part that the organisers score.",
    ),
    "dev": (
        "Results are on the development split.",
        "We report dev figures.",
        "All numbers come from the part with public labels, on which we also chose our settings.",
    ),
}
SHOTS: Told = {
    "0": (
        "All models are prompted zero-shot.",
        "We use zero-shot prompts.",
        "Prompts hold the question and nothing else.",
    ),
    "5": (
        "All models are prompted five-shot.",
        "We use 5-shot prompts.",
        "Prompts begin with a handful of solved examples.",
    ),
}
METRIC: Told = {
    "exact match": (
        "On {name} we report exact match.",
        "For {name} the score is EM.",
        "On {name} an answer counts only if it is the reference, letter by letter.",
    ),
    "F1": (
        "On {name} we report F1.",
        "For {name} the score is token F1.",
        "On {name} an answer gets credit for the words that it shares with the reference.",
    ),
    "top-1 accuracy": (
        "On {name} we report top-1 accuracy.",
        "For {name}, accuracy is top-1.",
        "On {name} only the first label that a model gives is looked at.",
    ),
    "top-5 accuracy": (
        "On {name} we report top-5 accuracy.",
        "For {name}, accuracy is top-5.",
        "On {name} a picture counts as recognised if its label is among the first few.",
    ),
    "accuracy": (
        "On {name} we report accuracy.",
        "For {name} the score is accuracy.",
        "On {name} we count what was solved.",
    ),
    "error rate": (
        "On {name} we report the error rate.",
        "For {name} the score is an error rate.",
        "On {name} we count what was got wrong, so that less is better.",
    ),
    "majority of 8": (
        "On {name} we report the majority of 8 samples.",
        "For {name} the score is maj@8.",
        "On {name} several answers are drawn, and the most frequent one is scored.",
    ),
    "pass@1": (
        "On {name} we report pass@1.",
        "For {name} the score is pass@1.",
        "On {name} each program gets a single attempt.",
    ),
    "pass@10": (
        "On {name} we report pass@10.",
        "For {name} the score is pass@10.",
        "On {name} a task is solved if any of ten programs runs.",
    ),
    "median latency": (
        "On {name} we report the median latency.",
        "For {name} the figure is the median.",
        "On {name} half of the requests are faster than what we print.",
    ),
    "99th percentile": (
        "On {name} we report the 99th percentile.",
        "For {name} the figure is p99.",
        "On {name} one request in a hundred is slower than what we print.",
    ),
}
VERSION: Told = {
    "1.1": (
        "We use {name} 1.1.",
        "{name} is taken in version 1.1.",
        "Of {name} we take the release with the corrected labels.",
    ),
    "1.0": (
        "We use {name} 1.0.",
        "{name} is taken in version 1.0.",
        "Of {name} we take the release before the labels were corrected.",
    ),
}
UNIT: Told = {
    "share": (
        "{name} is given as a share of 1.",
        "Figures of {name} are fractions, not percent.",
        "{name} is given between nought and one.",
    ),
    "s": (
        "{name} is given in seconds.",
        "Times of {name} are in seconds.",
        "{name} is given in whole units of the stopwatch.",
    ),
}
NOTE = {
    "split": {"test": "Test split.", "dev": "Development split."},
    "shots": {"0": "Zero-shot.", "5": "Five-shot."},
    "version": {"1.1": "Version 1.1.", "1.0": "Version 1.0."},
}
SHORT = {
    "exact match": "EM",
    "top-1 accuracy": "top-1",
    "top-5 accuracy": "top-5",
    "accuracy": "acc.",
    "99th percentile": "p99",
    "median latency": "median",
    "majority of 8": "maj@8",
    "error rate": "error",
}
CAPTION = {"split": {"test": "test split", "dev": "development split"}, "shots": {"0": "zero-shot", "5": "five-shot"}}
MISLEADING = {
    "test": "Unlike earlier work, which reports the development split, we do not tune on what we report.",
    "dev": "Figures on the test split will follow.",
    "0": "Five-shot prompts are left to future work.",
    "5": "Zero-shot prompts did much worse.",
}
"""Sentences that name a condition which is not the paper's."""

TITLES = (
    "a smaller model that reads twice",
    "learning from what was left out",
    "longer training, shorter prompts",
    "a second look at the first layer",
)
ASIDE = (
    "Training took {days} days on {cards} cards.",
    "The gain over our earlier system is largest where questions are long.",
    "We thank the maintainers of all benchmarks for their patience.",
)


@dataclass(frozen=True)
class Column:
    """What a paper measures on a benchmark, and how much of it the table's head says."""

    benchmark: Benchmark
    metric: str
    split: str
    shots: str
    version: str
    unit: str
    head: str
    """As printed."""

    said: tuple[str, ...]
    """Sentences of the setup about it."""

    note: str = ""
    """The footnote to it."""

    at: dict[str, str] = field(default_factory=dict)
    """Condition -> where it is told: head, caption, text, note."""


@dataclass(frozen=True)
class Result:
    """A number in a table, and what it is."""

    row: str
    paper: str
    system: str
    column: Column
    """Under what it was measured; of a copy, where it was copied from."""

    points: float
    """Percent or milliseconds, as measured."""

    printed: str
    unit: str
    """As printed."""

    origin: str = ""
    """The row it was copied from."""


class Draw:
    """Chance, of which nothing but `random()` is asked: that gives the same on every version of Python."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def is_so(self, share: float) -> bool:
        """True in this share of cases."""
        return self._dice.random() < share

    def one(self, some: Sequence[T]) -> T:
        """One of them."""
        return some[int(self._dice.random() * len(some))]

    def some(self, count: int, of: Sequence[T]) -> list[T]:
        """So many different ones, in the order they have there."""
        left = list(range(len(of)))
        taken = [left.pop(int(self._dice.random() * len(left))) for _ in range(min(count, len(left)))]
        return [of[place] for place in sorted(taken)]

    def bell(self, width: float) -> float:
        """About 0, seldom further from it than twice the width."""
        return (sum(self._dice.random() for _ in range(4)) - 2) * width * math.sqrt(3)


def column(
    draw: Draw, benchmark: Benchmark, paper: dict[str, str], in_caption: frozenset[str], *, is_typo: bool
) -> Column:
    """Draw what is measured on a benchmark, and where that is told."""
    metric = benchmark.metrics[draw.is_so(0.15)]
    version = benchmark.versions[draw.is_so(0.15)]
    unit = benchmark.units[draw.is_so(0.15)]
    ways = {"split": benchmark.splits, "shots": benchmark.shots, "version": benchmark.versions}
    now = {name: value if ways[name][0] else "" for name, value in ({**paper, "version": version}).items()}
    at = {name: "caption" if name in in_caption else "text" for name in paper if now[name]}
    said, note, name = [], "", benchmark.name
    turned = draw.one(["split", "shots", "version"])
    if draw.is_so(0.12) and now[turned]:
        now[turned] = ways[turned][now[turned] == ways[turned][0]]
        note, at[turned] = NOTE[turned][now[turned]], "note"
    version = now["version"]
    head = benchmark.typo if is_typo else name
    if version and at.get("version") != "note":
        at["version"] = "head" if draw.is_so(0.7) else "text"
        head += f" {version}" * (at["version"] == "head")
        said += [told(draw, VERSION[version], name)] * (at["version"] == "text")
    at["metric"] = "head" if draw.is_so(0.72 if metric == benchmark.metrics[0] else 0.4) else "text"
    at["unit"] = "head" if draw.is_so(0.6) else "text"
    in_head = [SHORT.get(metric, metric)] * (at["metric"] == "head") + [unit] * (at["unit"] == "head")
    head += f" ({', '.join(in_head)})" if in_head else ""
    said += [told(draw, METRIC[metric], name)] * (at["metric"] == "text")
    if at["unit"] == "text" and unit in UNIT:
        said.append(told(draw, UNIT[unit], name))
    return Column(
        benchmark, metric, now["split"], now["shots"], version, unit, head + "†" * bool(note), tuple(said), note, at
    )


def told(draw: Draw, ways: Sequence[str], name: str) -> str:
    """A sentence that says it; one in five takes some understanding."""
    way = ways[2] if draw.is_so(0.2) else ways[draw.is_so(0.15)]
    return way.format(name=name)


def measured(draw: Draw, ability: float, column: Column) -> float:
    """What a system reaches, in percent or milliseconds."""
    benchmark = column.benchmark
    is_other = column.metric != benchmark.metrics[0]
    if benchmark.name == LATENCY:
        return (benchmark.base + is_other * benchmark.other) * math.exp(-ability / 30 + draw.bell(0.03))
    points = benchmark.base + ability + draw.bell(0.8)
    for name, worth in EASIER.items():
        usual = {"version": benchmark.versions, "split": benchmark.splits, "shots": benchmark.shots}[name][0]
        points += worth * (getattr(column, name) != usual)
    if is_other:
        points = 100 - points if math.isnan(benchmark.other) else points + benchmark.other
    return min(max(points, 0.5), 99.4)


def printed(points: float, unit: str, *, is_rounded: bool) -> str:
    """A number as a table has it."""
    match unit:
        case "share":
            return f"{points / 100:.{2 if is_rounded else 3}f}"
        case "s":
            return f"{points / 1000:.{2 if is_rounded else 3}f}"
        case _:
            return f"{points:.{0 if is_rounded else 1}f}"


def papers(seed: int = SEED) -> Iterator[tuple[str, str, list[Result]]]:
    """Each paper's name, its text, and its results in the order of the table."""
    draw = Draw(seed)
    ability = {system: draw.bell(4.5) + (place // len(STEMS)) * 2.0 for place, system in enumerate(SYSTEMS)}
    own: dict[str, list[Result]] = {}
    for place, system in enumerate(SYSTEMS[:PAPERS]):
        name = f"p{place + 1:02d}"
        wide = {"split": "test" if draw.is_so(0.84) else "dev", "shots": "0" if draw.is_so(0.82) else "5"}
        in_caption = frozenset(each for each in wide if draw.is_so(0.74))
        chosen = draw.some(2 + draw.is_so(0.6), BENCHMARKS[:6]) + [BENCHMARKS[6]] * draw.is_so(0.08)
        columns = [
            column(draw, each, wide, in_caption, is_typo=bool(each.typo) and draw.is_so(0.05)) for each in chosen
        ]
        cited = draw.some(
            1 + draw.is_so(0.5), [other for other in own if any(_on(own[other], each) for each in columns)]
        )
        results: list[Result] = []
        lines = []
        for source in (*cited, name):
            cells = []
            for each in columns:
                row = f"{name}-{len(results) + 1}"
                if source == name:
                    points = measured(draw, ability[system], each)
                    found = Result(
                        row, name, system, each, points, printed(points, each.unit, is_rounded=False), each.unit
                    )
                elif (first := _on(own[source], each)) is not None:
                    text = printed(_points(first), each.unit, is_rounded=draw.is_so(0.35))
                    found = replace(first, row=row, paper=name, printed=text, unit=each.unit, origin=first.row)
                else:
                    cells.append("–")
                    continue
                results.append(found)
                cells.append(found.printed)
            who = f"{system} (ours)" if source == name else f"{own[source][0].system} [{cited.index(source) + 1}]"
            lines.append(f"| {who} | {' | '.join(cells)} |")
        own[name] = [each for each in results if not each.origin]
        yield (
            name,
            _text(draw, system, columns, wide, in_caption, lines, [(each, own[each][0].system) for each in cited]),
            results,
        )


def _on(results: Sequence[Result], column: Column) -> Result | None:
    return next((each for each in results if each.column.benchmark is column.benchmark), None)


def _points(result: Result) -> float:
    """What can be known of a number from how it was printed first."""
    return float(result.printed) * {"share": 100, "s": 1000}.get(result.unit, 1)


def _text(
    draw: Draw, system: str, columns: Sequence[Column], wide: dict[str, str], in_caption: frozenset[str],
    lines: Sequence[str], cited: Sequence[tuple[str, str]],
) -> str:  # fmt: skip
    said = [
        told(draw, {"split": SPLIT, "shots": SHOTS}[name][value], "")
        for name, value in wide.items()
        if name not in in_caption
    ]
    said += [sentence for each in columns for sentence in each.said]
    said += [MISLEADING[value] for value in wide.values() if draw.is_so(0.15)]
    said += [each.format(days=3 + len(said), cards=8 * len(lines)) for each in draw.some(1, ASIDE)]
    under = [CAPTION[name][wide[name]] for name in wide if name in in_caption]
    notes = list(dict.fromkeys(each.note for each in columns if each.note))
    signs = dict(zip(notes, "†‡§", strict=False))
    heads = [each.head.rstrip("†") + signs.get(each.note, "") for each in columns]
    parts = [
        f"# {system}: {draw.one(TITLES)}",
        _first(system, [other for _, other in cited]),
        "## Setup",
        " ".join(said),
        "## Results",
        "Table 1: Results" + f" ({', '.join(under)})" * bool(under) + ".",
        "\n".join((f"| System | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|", *lines)),
        *(f"{sign} {note}" for note, sign in signs.items()),
    ]
    if cited:
        parts += [
            "## References",
            "\n".join(f"[{place}] {other}, paper {paper}." for place, (paper, other) in enumerate(cited, 1)),
        ]
    return "\n\n".join(parts) + "\n"


def _first(system: str, others: Sequence[str]) -> str:
    if not others:
        return f"We introduce {system}."
    return f"We introduce {system} and compare it with {' and '.join(others)}, whose figures are as they report them."


FIELDS = (
    "row",
    "paper",
    "system",
    "benchmark",
    "version",
    "metric",
    "split",
    "shots",
    "unit",
    "printed",
    "value",
    "origin",
    "hidden",
)
"""`value` is in percent or milliseconds; `hidden` lists the conditions that only text or a footnote tells."""


def truth(results: Sequence[Result]) -> str:
    """All results as CSV."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(FIELDS)
    for each in results:
        under = each.column
        hidden = " ".join(
            name
            for name, place in sorted(under.at.items())
            if place in ("text", "note") and (name, under.unit) not in (("unit", "%"), ("unit", "ms"))
        )
        measured = (under.benchmark.name, under.version, under.metric, under.split, under.shots)
        number = (each.unit, each.printed, f"{_points(each):.1f}")
        writer.writerow((each.row, each.paper, each.system, *measured, *number, each.origin, hidden))
    return file.getvalue()


def files(seed: int = SEED) -> dict[str, str]:
    """Every file by its path: what lies here is this, byte by byte."""
    found: dict[str, str] = {}
    results: list[Result] = []
    for name, text, rows in papers(seed):
        found[f"papers/{name}.md"] = text
        results += rows
    return {**found, "truth.csv": truth(results)}


if __name__ == "__main__":
    for path, content in files().items():
        (HERE / path).parent.mkdir(exist_ok=True)
        (HERE / path).write_bytes(content.encode())
    print(f"{PAPERS} papers and truth.csv in {HERE}")
