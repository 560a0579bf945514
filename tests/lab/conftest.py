"""Labs on directories of their own."""

import pytest

from epsilon_lab import Lab
from epsilon_lab.hosts.sidecar import end_sidecar


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path / "runs", workers=2) as lab:
        yield lab


@pytest.fixture
def sidecar_path(tmp_path):
    """A workspace whose sidecar, if it gets one, is ended with the test."""
    yield tmp_path / "runs"
    end_sidecar(tmp_path / "runs")
