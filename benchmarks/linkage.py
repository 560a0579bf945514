"""Two-pass record linkage on the FEBRL sets: what a second look at few pairs is worth.

    python benchmarks/linkage.py

The rule is chosen on FEBRL 1-3; then FEBRL 4 is read. What is true by construction: whoever is always right cannot
lower F1. What is not: that so few pairs, which the rule flagged without the truth, hold most of what there is to gain;
as many at random do not.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "datasets"))

import numpy as np
import pandas as pd
from febrl.fetch import FILES, read
from febrl.measuring import resampled
from febrl.rule import chosen
from febrl.scoring import Numbers, Scored, scored
from febrl.stages import stages

*KNOWN, HELD_OUT = FILES


def between(values: Numbers) -> str:
    low, high = np.quantile(values, (0.025, 0.975))
    return f"[{low:.4f}, {high:.4f}]"


def load(name: str) -> Scored:
    febrl = read(name)
    began = time.perf_counter()
    pairs = scored(febrl)
    missed = 1 - pairs.same.sum() / pairs.links.sum()
    print(
        f"{name}: {pairs.records} records, {pairs.links.sum()} links, {len(pairs.pairs)} candidate pairs, which miss "
        f"{missed:.2%} of the links; compared in {time.perf_counter() - began:.1f} s"
    )
    return pairs


def main() -> None:
    sets = [load(name) for name in KNOWN]
    rule = chosen(sets)
    print(f"chosen on these: {', '.join(f'{name} {value:.4f}' for name, value in rule._asdict().items())}\n")
    for pairs in (*sets, load(HELD_OUT)):
        print(f"\n{pairs.name}")
        print(pd.DataFrame(stages(pairs, rule)).to_string(index=False, float_format="{:.4f}".format))
        one, two, every = resampled(pairs, rule.one_pass(pairs), rule.two_pass(pairs), rule.every_pair(pairs))
        print("95 % intervals, by a bootstrap over persons:")
        print(
            f"  F1, two passes - one: {between(two - one)}; costly for every pair - two passes: {between(every - two)}"
        )
        if np.all(every > one):
            print(f"  share of the gain: {between((two - one) / (every - one))}")


if __name__ == "__main__":
    main()
