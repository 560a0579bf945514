"""Isolated candidates per second, from program to judged row, beside a bare interpreter a candidate.

    python benchmarks/candidates.py [--rounds 5] [--candidates 300]

Each round measures every way in the same minute, because the machine's mood changes faster than any code; the table
shows medians over the rounds. "judged" is the whole way of an evaluate task in a worker: a fork of the warm sandbox
with limits, an unprivileged user and its own directory, numpy at hand, and the output scored in another process. "bare"
is `python -c <program>`, which isolates nothing and judges nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from epsilon_lab.search.judging import Bench, pack_problem
from epsilon_lab.search.problem import Problem
from epsilon_lab.workspace.layout import RunDirectory

PROGRAM = """
def priority(vector, weight):
    return sum(weight * value for value in vector)

def solve(vectors):
    return [priority(vector, {weight}) for vector in vectors]

result = solve([(a, b, c) for a in range(3) for b in range(3) for c in range(3)])
"""
"""A program such as a search proposes by the hundred: 27 priorities, microseconds of work."""


def score(output: object) -> float:
    return float(sum(output))  # type: ignore[call-overload]


def pack(run: RunDirectory) -> str:
    vectors = [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
    problem = Problem("priorities", "Rank vectors.", PROGRAM.format(weight=1), inputs=(vectors,), score=score)
    return pack_problem(problem, run)[0]


def work(path: str, reference: str) -> None:
    """As a worker: keep one bench warm, evaluate as many candidates as each line of stdin says."""
    bench = Bench.open(RunDirectory(path), reference)
    assert bench.evaluate(PROGRAM.format(weight=1), seed=1).score == 81
    print("ready", flush=True)
    for line in sys.stdin:
        for number in range(int(line)):
            row = bench.evaluate(PROGRAM.format(weight=number), seed=1, incumbent=1e9)
            assert row.score == 81 * number, row
        print(row.isolation, flush=True)
    bench.close()


class Workers:
    """Processes as a lab has them, each with a warm bench of its own."""

    def __init__(self, count: int, path: str, reference: str) -> None:
        command = [sys.executable, __file__, "--worker", path, reference]
        self.count = count
        self.processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
        ]
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def rate(self, candidates: int) -> float:
        """Candidates per second."""
        started = time.perf_counter()
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{candidates // self.count}\n")
            process.stdin.flush()
        for process in self.processes:
            assert process.stdout is not None
            self.isolation = process.stdout.readline().strip()
        return candidates // self.count * self.count / (time.perf_counter() - started)

    def close(self) -> None:
        """Let them end."""
        for process in self.processes:
            process.communicate()


def bare_rate(candidates: int, at_once: int, before: str = "") -> float:
    def one(number: int) -> None:
        program = before + PROGRAM.format(weight=number) + "\nprint(result)"
        printed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
        assert sum(json.loads(printed)) == 81 * number

    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, range(candidates)))
    return candidates / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description="Isolated candidates per second.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--worker", nargs=2, metavar=("RUN", "REF"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(*arguments.worker)
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as path:
        reference = pack(RunDirectory(path))
        crews = [Workers(count, path, reference) for count in sorted({1, cores})]
        few = max(20, arguments.candidates // 10)
        for _ in range(arguments.rounds):
            for crew in crews:
                rates.setdefault(f"judged, {crew.count} at once", []).append(crew.rate(arguments.candidates))
                rates.setdefault(f"bare, {crew.count} at once", []).append(bare_rate(few, crew.count))
                rates.setdefault(f"bare with numpy, {crew.count} at once", []).append(
                    bare_rate(few, crew.count, "import numpy\n")
                )
        for crew in crews:
            crew.close()
    stamp = time.strftime("%Y-%m-%d %H:%M")
    print(
        f"{stamp}, Python {sys.version.split()[0]}, {cores} cores, load before {load:.1f}, "
        f"isolation {crews[0].isolation}"
    )
    print(f"median of {arguments.rounds} rounds of {arguments.candidates} candidates\n")
    print(f"{'':32}{'per second':>12}{'lowest':>10}{'highest':>10}{'judged/this':>14}")
    for name, found in rates.items():
        ours = statistics.median(rates["judged," + name.rpartition(",")[2]])
        middle = statistics.median(found)
        print(f"{name:32}{middle:12.0f}{min(found):10.0f}{max(found):10.0f}{ours / middle:14.1f}")


if __name__ == "__main__":
    main()
