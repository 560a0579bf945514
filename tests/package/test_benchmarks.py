"""The benchmark of topologies in its short form: its answers are right, and memory does not grow with the items."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "topologies.py"


def test_many_items_go_through_and_take_no_more_memory_than_few(tmp_path):
    found = tmp_path / "found.json"
    options = ["--rounds=1", "--items=5000", "--documents=100", "--only=shards,words,memory", f"--json={found}"]
    done = subprocess.run([sys.executable, str(BENCHMARK), *options], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(found.read_text())
    assert set(figures["rates"]) == {
        "sharded_queue, no-op items",
        "map_reduce, word counts",
        "word counts in a plain loop",
    }
    few, many = figures["memory_mib"]["500 items"][0], figures["memory_mib"]["5,000 items"][0]
    assert many - few < 8  # MiB; a task that is held takes more than a KiB
    assert figures["words"] > 300_000
