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
from febrl.measuring import measured, resampled
from febrl.rule import Rule, chosen
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
    print(f"chosen on these: {', '.join(f'{name} {value:.4f}' for name, value in rule._asdict().items())}")
    held_out = load(HELD_OUT)
    for pairs in (*sets, held_out):
        report(pairs, rule)
    print(f"\n{HELD_OUT}, with another limit for the band, which is chosen as before")
    for per_record in (0.02, 0.05, 0.10, 0.20):
        other = chosen(sets, per_record)
        f1, looked_at = measured(held_out, other.two_pass(held_out)).f1, other.escalated(held_out).sum()
        print(
            f"  at most {per_record:.2f} a record: F1 {f1:.4f}, {looked_at} pairs, {looked_at / held_out.records:.3f}"
        )


def report(pairs: Scored, rule: Rule) -> None:
    print(f"\n{pairs.name}")
    print(pd.DataFrame(stages(pairs, rule)).to_string(index=False, float_format="{:.4f}".format))
    one, two, every = resampled(pairs, rule.one_pass(pairs), rule.two_pass(pairs), rule.every_pair(pairs))
    print("95 % intervals, by a bootstrap over persons:")
    print(f"  F1, two passes - one: {between(two - one)}; costly for every pair - two passes: {between(every - two)}")
    if np.all(every > one):
        print(f"  share of the gain: {between((two - one) / (every - one))}")
    below, above = pairs.quick <= rule.low, pairs.quick >= rule.high
    wrong, missed = rule.two_pass(pairs) != pairs.same, pairs.links.sum() - pairs.same.sum()
    print(
        f"two passes lose: {missed} links that are no candidates, {(wrong & below).sum()} below "
        f"the band, {(wrong & ~below & ~above).sum()} in it, {(wrong & above).sum()} above"
    )


if __name__ == "__main__":
    main()
