"""What the search gains over chance: the seed program, random variation of it, and the search, at equal evaluations.

    python benchmarks/search_controls.py [--problems demo cap_set_4 ...] [--seeds 0-9] [--evaluations N]
                                         [--workspace out/search_controls] [--workers 2] [--table]

Every search and its `run.controls()` go through a real lab; an evaluation is a program that was put to the judge, each
distinct one once. What is done stays in the workspace: a run that was cut off is made again, the others are not, so
that the whole may be run in parts. `--table` prints what there is and runs nothing, also while another process does.

The sign test is exact, two-sided, without ties (W. J. Dixon and A. M. Mood, J. Am. Stat. Assoc. 41, 1946): the chance
of a split at least as uneven if search and random variation were alike. Ten seeds can show no less than 0.002.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from epsilon_lab import Lab, PopulationSearch, Problem, SearchRun, problems


@dataclass(frozen=True)
class Trial:
    """A problem, and how it is searched."""

    problem: Callable[[], Problem]
    evaluations: int = 400
    search: dict[str, Any] = field(default_factory=dict)
    held_out: str = ""
    """Name of the further score that no proposer, prompt or brief sees."""


DEMO = {"population": 8, "elites": 2, "diverse": 2, "fresh": 2}
"""The numbers of notebook 01, which `make demo` runs."""

TRIALS = {
    "demo": Trial(problems.csv_aggregation, evaluations=24, search=DEMO),
    "csv_aggregation": Trial(problems.csv_aggregation, evaluations=100),  # each of them is ten runs or more
    "cap_set_4": Trial(lambda: problems.cap_set(4)),
    "cap_set_5": Trial(lambda: problems.cap_set(5)),
    "cap_set_6": Trial(lambda: problems.cap_set(6)),
    "circle_packing_26": Trial(problems.circle_packing),
    "bin_packing": Trial(problems.bin_packing, evaluations=1600, held_out="held_out"),
}


class Outcome(NamedTuple):
    """One seed's figures: seed program, random variation, search."""

    seed: int
    scores: tuple[float, float, float]
    held_out: tuple[float, float, float] | None
    evaluations: tuple[int, int]


def searched(trial: Trial, seed: int, evaluations: int) -> PopulationSearch:
    numbers = {"population": 25, "elites": 5, "diverse": 5, "fresh": 5, "patience": None} | trial.search
    return PopulationSearch(
        trial.problem(), generations=10 * evaluations, evaluations=evaluations, seed=seed, **cast("Any", numbers)
    )


def play(lab: Lab, name: str, seed: int, evaluations: int) -> None:
    """Run a search and its controls, as far as they are not there yet."""
    title = title_of(name, seed, evaluations)
    began = time.monotonic()
    run = find(lab, title)
    if run is None:
        run = cast("SearchRun", lab.start(searched(TRIALS[name], seed, evaluations), name=title).wait())
    controls = run.controls()
    controls.wait()
    best = run.best, controls.best
    print(
        f"{time.strftime('%H:%M:%S')}  {title}: search {best[0] and best[0].score:.6g}, "
        f"random variation {best[1] and best[1].score:.6g}, {time.monotonic() - began:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def title_of(name: str, seed: int, evaluations: int) -> str:
    return f"{name} seed {seed} at {evaluations}"


def find(lab: Lab, title: str) -> SearchRun | None:
    found = lab.sql("select run_id from runs where name = ? and status = 'completed' limit 1", [title])
    return None if found.empty else cast("SearchRun", lab.runs[found["run_id"][0]])


def outcome(lab: Lab, name: str, seed: int, evaluations: int) -> Outcome | None:
    """Read a seed's figures; None where search or controls are not there."""
    run = find(lab, title_of(name, seed, evaluations))
    if run is None:
        return None
    control = lab.sql("select run_id from runs where parent_run_id = ? and status = 'completed'", [run.run_id])
    if control.empty:
        return None
    controls = cast("SearchRun", lab.runs[control["run_id"][0]])
    shown = run.candidate("seed"), controls.best, run.best
    assert shown[1] is not None
    assert shown[2] is not None
    column = f"score_{TRIALS[name].held_out}"
    rows = [one.row for one in shown if one is not None]
    held_out = tuple(float(row[column]) for row in rows) if TRIALS[name].held_out else None
    return Outcome(
        seed,
        cast("Any", tuple(float(row["score"]) for row in rows)),
        cast("Any", held_out),
        (controls.evaluations, run.evaluations),
    )


def sign_test(better: int, worse: int) -> float:
    """The exact two-sided p of a split; 1 where nothing differs."""
    n = better + worse
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(better, worse) + 1)) / 2**n)


def middle(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    spread = f" ({low:.4g} to {high:.4g})" if low != high else ""
    return f"{statistics.median(values):.4g}{spread}"


def table(lab: Lab, names: Sequence[str], seeds: Sequence[int], evaluations: int | None) -> Iterator[str]:
    yield (
        "| problem | evaluations | seeds | seed program | random variation | search | better, equal, worse | p |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for name in names:
        count = evaluations or TRIALS[name].evaluations
        found = [one for seed in seeds if (one := outcome(lab, name, seed, count)) is not None]
        if not found:
            continue
        yield row(name, TRIALS[name], count, found, [one.scores for one in found])
        if TRIALS[name].held_out:
            yield row(f"{name}, held out", TRIALS[name], count, found, [cast("Any", one.held_out) for one in found])
        if short := [one.seed for one in found if len({*one.evaluations, count}) > 1]:
            yield f"\nNot at {count} evaluations each: {name}, seeds {short}.\n"


def row(what: str, trial: Trial, count: int, found: Sequence[Outcome], scores: Sequence[Sequence[float]]) -> str:
    problem = trial.problem()
    sign = 1 if problem.direction == "maximize" else -1
    signs = [sign * (search > random) - sign * (search < random) for _, random, search in scores]
    better, worse = signs.count(1), signs.count(-1)
    cells = [middle(column) for column in zip(*scores, strict=True)]
    split = f"{better}, {len(signs) - better - worse}, {worse}"
    arrow = "higher" if sign > 0 else "lower"
    head = f"{what} ({arrow} is better)"
    return (
        "| " + " | ".join([head, str(count), str(len(found)), *cells, split, f"{sign_test(better, worse):.3g}"]) + " |"
    )


def numbers(text: str) -> list[int]:
    """`0-9`, `0,3,5`, or a mixture."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What the search gains over chance.")
    parser.add_argument("--problems", nargs="+", choices=TRIALS, default=list(TRIALS), metavar="NAME")
    parser.add_argument("--seeds", type=numbers, default="0-9")
    parser.add_argument("--evaluations", type=int, help="programs to judge in each run; default: the problem's own")
    parser.add_argument("--workspace", default="out/search_controls")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print what there is and run nothing")
    arguments = parser.parse_args()
    load, began = os.getloadavg()[0], time.monotonic()
    with Lab(arguments.workspace, workers=arguments.workers, read_only=arguments.table) as lab:
        if not arguments.table:
            for seed in arguments.seeds:  # seed by seed, so that what is there at any time speaks of every problem
                for name in arguments.problems:
                    play(lab, name, seed, arguments.evaluations or TRIALS[name].evaluations)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        stamp = time.strftime("%Y-%m-%d %H:%M")
        machine = f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, isolation {lab.isolation}"
        loads = f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after"
        print(f"{stamp}, {machine}, {loads}, {time.monotonic() - began:.0f} s\n")
        for line in table(lab, arguments.problems, arguments.seeds, arguments.evaluations):
            print(line)


if __name__ == "__main__":
    main()
