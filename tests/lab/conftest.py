"""Labs on directories of their own."""

import pytest

from epsilon_lab import Lab


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path / "runs", workers=2) as lab:
        yield lab
