"""What a user sees of the lab as a whole: its figures, its panel, and the tasks it had to give up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from epsilon_lab import Lab, WorkQueue
from epsilon_lab.testing.census import wait_until
from epsilon_lab.transport import curve
from epsilon_lab.transport.keys import WORKER_KEY, lab_keys, read_client_key


def crash_on_two(item: int) -> int:
    if item == 2:
        os._exit(3)
    if item == 5:
        raise ValueError("five")
    return item


def figures(lab: Lab) -> dict[str, Any]:
    return dict(lab.stats["value"])


@pytest.mark.parametrize("broker", ["kernel", "sidecar"])
def test_the_lab_shows_what_happened_and_freezes_with_its_end(sidecar_path: Path, broker: str) -> None:
    with Lab(sidecar_path, workers=2, broker=broker) as lab:
        assert lab.dead_letters.empty
        panel = lab.panel()
        assert "0 completed" in repr(panel)
        run = lab.start(WorkQueue(range(12), crash_on_two)).wait(60)

        seen = figures(lab)
        assert (seen["completed"], seen["dead"], seen["crashed"]) == (10, 1, 3)
        assert seen["queued"] == seen["running"] == seen["prefetched"] == 0
        assert isinstance(seen["completed"], int)
        assert "worker" in lab.stats.loc["crashed", "meaning"]

        [letter] = lab.dead_letters.to_dict("records")
        assert (letter["run_id"], letter["task_id"], letter["attempts"]) == (run.run_id, "item-000002", 3)
        assert [attempt["outcome"] for attempt in letter["history"]] == ["crashed"] * 3
        assert "exit code 3" in letter["error"]

        assert panel.update()
        assert "10 completed" in repr(panel)
        assert "3 crashed" in repr(panel)
    assert panel.is_frozen
    assert "closed" in repr(panel)
    assert "10 completed" in repr(panel), "as it was last seen"


@pytest.mark.parametrize("broker", ["kernel", "sidecar"])
def test_who_comes_with_an_unknown_key_is_counted_and_shown(sidecar_path: Path, tmp_path: Path, broker: str) -> None:
    lab_keys(tmp_path / "other")
    stranger = read_client_key(tmp_path / "other" / WORKER_KEY)
    with Lab(sidecar_path, workers=1, broker=broker, bind="tcp://127.0.0.1:0") as lab:
        panel = lab.panel()
        assert figures(lab)["strangers"] == 0
        known = read_client_key(sidecar_path / "lab" / "keys" / WORKER_KEY)
        keys = msgspec.structs.replace(stranger, server=known.server)
        with curve.dial(lab.endpoint, "remote-a/w1", keys) as dialer:
            dialer.send(b"let me in")
            assert wait_until(lambda: "does not admit this key" in dialer.refusal, within_s=60)
        assert figures(lab)["strangers"] == 1
        assert "key" in lab.stats.loc["strangers", "meaning"]
        assert panel.update()
        assert "1 strangers: times someone was refused" in repr(panel)
