"""`python -m epsilon_lab.simulation`: play seeds until one breaks a promise, and show how to see it again."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from epsilon_lab.simulation.scenario import Outcome, play


def main(arguments: Sequence[str] | None = None) -> int:
    """Play seeds; 1 if a promise was broken.

    Args:
        arguments: Those of the command line; None for this process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m epsilon_lab.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--trace", action="store_true", help="tell all that happens")
    chosen = parser.parse_args(arguments)
    faults: Counter[str] = Counter()
    executed = twice = torn = 0
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        outcome = play_in_scratch(seed, trace=chosen.trace)
        if outcome.problems:
            sys.stdout.write(f"{report(outcome)}\n")
            return 1
        faults.update(outcome.faults)
        executed += outcome.verdict.executions
        twice += len(outcome.verdict.executed_twice)
        torn += outcome.torn
    told = ", ".join(f"{count} {fault}" for fault, count in sorted(faults.items()))
    sys.stdout.write(
        f"{chosen.seeds} worlds, no promise broken: {executed} executions, {twice} tasks executed twice, "
        f"{torn} torn writes cut; {told}\n"
    )
    return 0


def play_in_scratch(seed: int, *, trace: bool = False) -> Outcome:
    """Play a seed in a directory that is gone afterwards."""
    memory = Path("/dev/shm")  # noqa: S108 - nothing of a made-up world needs to survive a real power cut
    directory = Path(tempfile.mkdtemp(prefix="el-sim-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        return play(seed, directory, (lambda line: sys.stdout.write(line + "\n")) if trace else None)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def report(outcome: Outcome) -> str:
    """Say what went wrong in a world, and how to see it again."""
    problems = "\n".join(f"  {problem}" for problem in outcome.problems)
    again = f"python -m epsilon_lab.simulation --first {outcome.seed} --seeds 1 --trace"
    return (
        f"seed {outcome.seed} broke a promise (faults: {', '.join(outcome.faults) or 'none'}):\n{problems}\n  {again}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
