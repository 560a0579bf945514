"""Labs on directories of their own."""

import subprocess
import sys

import pytest

from epsilon_lab import Lab
from epsilon_lab.hosts.sidecar import end_sidecar
from epsilon_lab.testing.census import wait_until


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """One lab for a file's tests, each of which looks at its own runs and leaves none live."""
    with Lab(tmp_path_factory.mktemp("lab") / "runs", workers=2) as lab:
        yield lab


@pytest.fixture
def own_lab(tmp_path):
    """A lab for one test, which counts all there is in it or breaks it."""
    with Lab(tmp_path / "runs", workers=2) as lab:
        yield lab


@pytest.fixture
def sidecar_path(tmp_path):
    """A workspace whose sidecar, if it gets one, is ended with the test."""
    yield tmp_path / "runs"
    end_sidecar(tmp_path / "runs")


@pytest.fixture
def kill_kernel(tmp_path):
    """Runs a script that is given the test's directory, kills it once this file is there, and lets what waits go on."""

    def kill(source, sign, *arguments):
        script = tmp_path / "kernel.py"
        script.write_text(source)
        kernel = subprocess.Popen([sys.executable, script, tmp_path, *arguments])
        try:
            assert wait_until(lambda: (tmp_path / sign).exists() or kernel.poll() is not None, within_s=60)
            assert (tmp_path / sign).exists(), "it ended before it came so far"
        finally:
            kernel.kill()
            kernel.wait()
        (tmp_path / "go").touch()

    return kill
