"""A kernel of its own for each test that asks; at the end nothing of it may be left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from jupyter_core.utils import ensure_event_loop

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
