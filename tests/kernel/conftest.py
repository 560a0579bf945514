"""A kernel of its own for each test that ends its kernel, one for all others; at the end nothing of it may be left."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_core.utils import ensure_event_loop

from epsilon_lab.testing.census import descendants, wait_until
from epsilon_lab.testing.kernels import Kernel


@pytest.fixture(scope="session", autouse=True)
def jupyters_loop() -> Iterator[None]:
    """The loop that jupyter_client's blocking calls run on, which it makes once and keeps."""
    loop = ensure_event_loop()
    yield
    loop.close()


@pytest.fixture
def kernel(jupyters_loop: None) -> Iterator[Kernel]:
    with Kernel() as kernel:
        yield kernel


@pytest.fixture(scope="module")
def shared(jupyters_loop: None) -> Iterator[Kernel]:
    """The kernel of those tests of a module that neither restart nor end theirs: what costs is what a lab imports."""
    with Kernel() as kernel:
        yield kernel


@pytest.fixture
def place(shared: Kernel) -> Iterator[Path]:
    """The directory that the shared kernel works in for one test; its labs are closed at the end and leave nothing."""
    place = Path(tempfile.mkdtemp(prefix="p-", dir=shared.home))
    place.chmod(0o711)  # a candidate's user must reach its own directory below
    shared.run(f"import os; os.chdir({str(place)!r})")
    yield place
    shared.run("from epsilon_lab.lab import open_labs\nfor one in open_labs(): one.close()")
    assert wait_until(lambda: not descendants(shared.pid), within_s=60), descendants(shared.pid)
