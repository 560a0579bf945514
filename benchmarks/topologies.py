"""How fast very many items go through a topology, and what of them stays in memory.

    python benchmarks/topologies.py [--rounds 3] [--items 100000] [--documents 20000] [--only shards,words,peers,memory]
                                    [--json FILE]

"shards": `ShardedQueue(items, noop, shards=8, reduce=sum)` on a Lab with two workers, durability `process`: from
`lab.start` until the run has ended, its items on disk, each output in its journal and their sum known. "words":
`MapReduce` over the Python standard library's own source, cut into documents; its word counts are compared with those
of a plain loop, which is timed too. "peers", in the same minute: a bare ZeroMQ echo, one message an item, and Dask's
`map` over such numbers, if that is installed. "memory": the most that the kernel's process held in memory while a tenth
of the items went through it, and while all of them did, each in a process of its own.

The ancestor's figures are Epsilon's own coordinator and eight tuned workers, measured on two shared cores in November
2026: 143 items/s for a sharded_queue of 2000 no-op items, 10.8/s for one of 240 with its defaults.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from broker_peers import PEERS, WORKERS, is_installed, noop

from epsilon_lab import Lab, MapReduce, ShardedQueue, reducers

PARTS = ("shards", "words", "peers", "memory")
CANARY, DASK = "raw pyzmq echo", "Dask, 2 processes"
ANCESTOR = {"Epsilon, 2000 items, best flags": 143.0, "Epsilon, 240 items, defaults": 10.8}
SHARDS, WORDS, LOOP = "sharded_queue, no-op items", "map_reduce, word counts", "word counts in a plain loop"


@contextlib.contextmanager
def open_lab() -> Iterator[Lab]:
    """A warm lab in a workspace of its own."""
    with tempfile.TemporaryDirectory() as directory, Lab(f"{directory}/runs", workers=WORKERS) as lab:
        lab.start(ShardedQueue(range(1_000), noop, reduce=sum)).wait()
        yield lab


def run_shards(lab: Lab, items: int) -> float:
    """Seconds that so many items take."""
    began = time.perf_counter()
    run = lab.start(ShardedQueue(range(items), noop, shards=8, reduce=sum)).wait()
    took = time.perf_counter() - began
    assert run.output == sum(range(items)), run.reason
    return took


# -- words -----------------------------------------------------------------------------------------------------------


def documents(count: int) -> list[str]:
    """The standard library's source in so many pieces of about the same number of lines."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    lines = [
        line
        for file in files
        if "site-packages" not in file.parts
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    return ["\n".join(lines[n * len(lines) // count : (n + 1) * len(lines) // count]) for n in range(count)]


def count_words(text: str) -> dict[str, int]:
    return reducers.count(text.split())


def run_words(lab: Lab, texts: list[str]) -> tuple[float, float]:
    """Seconds that the lab takes, and a plain loop; their answers are the same."""
    began = time.perf_counter()
    run = lab.start(MapReduce(texts, count_words, reducers.count, arity=32)).wait()
    took = time.perf_counter() - began
    began = time.perf_counter()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(text.split())
    alone = time.perf_counter() - began
    assert run.output == words, run.reason
    return took, alone


# -- memory ------------------------------------------------------------------------------------------------------------


def peak_mib() -> float:
    """The most that this process has held in memory so far; Linux alone says so."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def print_memory(items: int) -> None:
    """As a process of its own: MiB at most, once warm and once the items went through."""
    with open_lab() as lab:
        warm = peak_mib()
        lab.start(ShardedQueue(range(items), noop, shards=8, reduce=sum)).wait()
        print(warm, peak_mib())


def measure_memory(items: int) -> tuple[float, float]:
    """MiB at most: once warm, and once so many items went through."""
    command = [sys.executable, __file__, "--memory-of", str(items)]
    warm, peak = map(float, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split())
    return warm, peak


# -- all of it ---------------------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was found, as JSON-able values."""
    chosen = arguments.only.split(",")
    rates: defaultdict[str, list[float]] = defaultdict(list)
    memory: defaultdict[str, list[float]] = defaultdict(list)
    said: dict[str, str] = {}
    loads = [os.getloadavg()[0]]
    texts = documents(arguments.documents) if "words" in chosen else []
    for _ in range(arguments.rounds):
        with open_lab() as lab:
            if "shards" in chosen:
                rates[SHARDS].append(arguments.items / run_shards(lab, arguments.items))
            if "words" in chosen:
                took, alone = run_words(lab, texts)
                rates[WORDS].append(len(texts) / took)
                rates[LOOP].append(len(texts) / alone)
        for name, count in ((CANARY, 50_000), (DASK, min(arguments.items, 10_000))) if "peers" in chosen else ():
            if not is_installed(PEERS[name].module):
                said[name] = "not installed"
                continue
            with PEERS[name].open() as way:
                way.many(200)
                began = time.perf_counter()
                way.many(count)
                rates[name].append(count / (time.perf_counter() - began))
        if "memory" in chosen:
            for count in (arguments.items // 10, arguments.items):
                warm, peak = measure_memory(count)
                memory[f"{count:,} items"].append(peak)
                memory["warm"].append(warm)
        loads.append(os.getloadavg()[0])
    return {
        "at": time.strftime("%Y-%m-%d %H:%M"),
        "python": sys.version.split()[0],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "loads": loads,
        "rounds": arguments.rounds,
        "items": arguments.items,
        "documents": len(texts),
        "words": sum(len(text.split()) for text in texts),
        "rates": rates,
        "ancestor": ANCESTOR,
        "memory_mib": memory,
        "said": said,
    }


def print_tables(found: dict[str, Any]) -> None:
    loads = [f"{load:.1f}" for load in found["loads"]]
    print(
        f"{found['at']}, Python {found['python']}, {found['cores']} cores, load before {loads[0]} and after each round "
        f"{', '.join(loads[1:])}; medians of {found['rounds']} rounds of {found['items']:,} items, and of "
        f"{found['documents']:,} documents with {found['words']:,} words"
    )
    echo = statistics.median(found["rates"].get(CANARY, [float("nan")]))
    print(f"\n{'':48}{'per second':>12}{'lowest':>10}{'highest':>10}{'of the echo':>13}")
    for name, rates in found["rates"].items():
        middle = statistics.median(rates)
        print(f"{name:48}{middle:12,.0f}{min(rates):10,.0f}{max(rates):10,.0f}{middle / echo:13.3f}")
    for name, rate in found["ancestor"].items():
        print(f"{name + ' (measured then)':48}{rate:12,.1f}")
    if found["memory_mib"]:
        print(f"\n{'MiB that the kernel held at most':48}{'median':>12}{'lowest':>10}{'highest':>10}")
    for name, sizes in found["memory_mib"].items():
        print(f"{name:48}{statistics.median(sizes):12.1f}{min(sizes):10.1f}{max(sizes):10.1f}")
    for name, problem in found["said"].items():
        print(f"{name}: {problem}")


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast very many items go through a topology.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--only", default=",".join(PARTS), help="a list of: " + ", ".join(PARTS))
    parser.add_argument("--json", type=Path, help="a file for everything that was found")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of is not None:
        print_memory(arguments.memory_of)
        return
    found = measure(arguments)
    print_tables(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
