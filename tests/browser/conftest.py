"""One JupyterLab and one browser for all tests here; a notebook, and a kernel, for each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from epsilon_lab.testing.census import wait_until_none
from epsilon_lab.testing.jupyterlab import JupyterLab, NotebookPage, browser_page, chromium

PICTURES = Path(__file__).parents[2] / "out" / "screenshots"

OpenNotebook = Callable[..., NotebookPage]


@pytest.fixture(scope="session")
def jupyterlab() -> Iterator[JupyterLab]:
    if chromium() is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with JupyterLab() as lab:
        yield lab


@pytest.fixture(scope="session")
def tab(jupyterlab: JupyterLab) -> Iterator[object]:
    with browser_page() as page:
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield page
    wait_until_none(f"{tempfile.gettempdir()}/playwright_chromiumdev_profile", within_s=60)


@pytest.fixture
def open_notebook(jupyterlab: JupyterLab, tab: object, request: pytest.FixtureRequest) -> Iterator[OpenNotebook]:
    """Open a notebook of the given code cells; at the end a picture is kept and its kernel is shut down."""
    opened: list[NotebookPage] = []

    def open_it(*cells: str) -> NotebookPage:
        name = f"{request.node.name}.ipynb"
        jupyterlab.write(name, cells)
        opened.append(NotebookPage(tab, jupyterlab, name))
        return opened[-1]

    yield open_it
    for notebook in opened:
        notebook.screenshot(PICTURES / f"{request.node.name}.png")
        notebook.close()
        assert notebook.complaints == []
