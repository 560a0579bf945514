"""Names that may be one, among very many: how long it takes, how much memory, and what is found.

    python benchmarks/entities.py [names]

Names are made up (100,000 of them, unless another number is given), so that it is known which is which written
otherwise. `all pairs` is what comparing each with each by edits alone would take, from as many rows as fit in a second.
Recall is the share of names written otherwise that are one name with the first one, or a pair with it; what is misspelt
in a name of fewer than ten characters is beyond the cut, on purpose.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections import Counter

from rapidfuzz import process
from rapidfuzz.distance import OSA

from epsilon_lab import reducers
from epsilon_lab.reducers.names import text
from epsilon_lab.testing.synthetic_names import corpus


def main(size: int) -> None:
    made = corpus(random.Random(17), size)
    before = memory()
    wall, cpu = time.perf_counter(), time.process_time()
    found = reducers.alike(made.names)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{size:,} names, {len(found.names):,} but for case and punctuation, {len(found.pairs):,} pairs")
    print(f"{cpu:.1f} s of one processor, {wall:.1f} s by the clock; {before:.0f} MB before, {memory():.0f} MB at most")
    print(f"all pairs: about {all_pairs(list(found.names)):.0f} s")
    rules = Counter(pair.rule for pair in found.pairs)
    print(", ".join(f"{rule} {number:,}" for rule, number in rules.most_common()))
    print(f"{len(found.crowded)} words in too many names: {', '.join(list(found.crowded)[:8])} ...")
    pairs = {(pair.left, pair.right) for pair in found.pairs}
    total, hits = Counter[str](), Counter[str]()
    for variant in made.variants:
        one, other = sorted((text(variant.name), text(variant.written)))
        total[variant.kind] += 1
        hits[variant.kind] += one == other or (one, other) in pairs
    for kind, number in sorted(total.items()):
        print(f"  {kind:10} {hits[kind] / number:.3f} of {number:,}")


def all_pairs(names: list[str]) -> float:
    rows, began = 0, time.process_time()
    while time.process_time() - began < 1:
        process.cdist(names[rows : rows + 50], names, scorer=OSA.distance, score_cutoff=3)
        rows += 50
    return (time.process_time() - began) * len(names) / rows / 2


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
