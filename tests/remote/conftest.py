"""Workers in processes of their own, which find every door to the lab's workspace locked."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from epsilon_lab import Lab
from epsilon_lab.testing.census import wait_until

ROOT = Path(__file__).parents[2]

LOCKED = """
import sys
WORKSPACE = {workspace!r}

def hook(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename") and arguments:
        if str(arguments[0]).startswith(WORKSPACE):
            raise PermissionError(f"a remote worker looked at {{arguments[0]}}")

sys.addaudithook(hook)
"""


class Station:
    """A worker command at work."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def end(self) -> str:
        """Wait for its end; what it said."""
        said, _ = self.process.communicate(timeout=60)
        return said

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


@pytest.fixture
def start(tmp_path):
    """Start workers of the lab whose workspace is `tmp_path / "runs"`; what is left of them is killed at the end."""
    stations: list[Station] = []
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sitecustomize.py").write_text(LOCKED.format(workspace=str(tmp_path / "runs")))

    def start(address: str, *options: str, key_file: Path | None = None) -> Station:
        if key_file is None:
            key_file = elsewhere / "worker.key"
            shutil.copy(tmp_path / "runs" / "lab" / "keys" / "worker.key", key_file)
        process = subprocess.Popen(
            [sys.executable, "-m", "epsilon_lab", "worker", "--connect", address, "--key-file", key_file, *options],
            cwd=elsewhere,
            env={**os.environ, "PYTHONPATH": f"{elsewhere}{os.pathsep}{ROOT}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        stations.append(Station(process))
        return stations[-1]

    yield start
    for station in stations:
        if station.process.poll() is None:
            station.signal(signal.SIGKILL)
        station.process.communicate()


@pytest.fixture
def far_lab(tmp_path):
    """A lab with one child of its own, reached over TCP."""
    with Lab(tmp_path / "runs", workers=1, bind="tcp://127.0.0.1:0") as lab:
        yield lab


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def remote(lab):
    """The ids of remote members."""
    return [worker_id for worker_id in lab.workers["worker_id"] if worker_id.startswith("remote-")]


@pytest.fixture
def await_members():
    """Wait until a lab has so many remote members: one a slot, and the async lane."""

    def await_members(lab, count):
        assert wait_until(lambda: len(remote(lab)) == count, within_s=60), f"{remote(lab)} of {count} came"
        return remote(lab)

    return await_members
