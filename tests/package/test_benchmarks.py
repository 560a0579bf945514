"""The benchmark of topologies in a short form: its answers are right, and memory does not grow with the items."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "topologies.py"


def measured(place: Path, *options: str) -> dict[str, Any]:
    found = place / "found.json"
    command = [sys.executable, str(BENCHMARK), "--rounds=1", *options, f"--json={found}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(found.read_text())


def test_many_items_take_no_more_memory_than_few(tmp_path):
    memory = measured(tmp_path, "--items=5000", "--only=memory")["memory_mib"]
    assert memory["5,000 items"][0] - memory["500 items"][0] < 8  # MiB; a task that is held takes more than a KiB


@pytest.mark.long
def test_many_items_go_through_and_many_words_are_counted(tmp_path):
    figures = measured(tmp_path, "--items=5000", "--documents=100", "--only=shards,words")
    assert set(figures["rates"]) == {
        "sharded_queue, no-op items",
        "map_reduce, word counts",
        "word counts in a plain loop",
    }
    assert figures["words"] > 300_000
