"""The panel of a search in a real page: running, while a cell blocks, finished, after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from epsilon_lab.testing.jupyterlab import JupyterLab, NotebookPage

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parents[2] / "out" / "screenshots"

START = """
from epsilon_lab import Lab, PopulationSearch, problems
from epsilon_lab.search.variation import Variation

problem = problems.cap_set(n=4)
offline = Variation(problem.alternatives, problem.entry)

def in_step(context):
    "The offline proposer, which waits for this test before each generation."
    import os, select
    while not os.path.exists(f"{place}/generation-{context.generation}"):
        select.select([], [], [], 0.02)
    return offline(context)

lab = Lab(f"{place}/runs", workers=2)
shape = dict(population=4, generations=5, elites=1, diverse=1, fresh=1, patience=None)
run = lab.start(PopulationSearch(problem, proposer=in_step, **shape))
run
"""

BLOCK = """
import os, time
while not os.path.exists(f"{place}/unblock"):
    time.sleep(0.05)  # which is what is tested: a cell that does not return
"""

OpenNotebook = Callable[..., NotebookPage]


class Search:
    """The search in the page, and the gates that let it go on."""

    def __init__(self, open_notebook: OpenNotebook, jupyterlab: JupyterLab, name: str, *cells: str) -> None:
        self.place = jupyterlab.root / name
        self.place.mkdir()
        self.notebook = open_notebook(f"place = {str(self.place)!r}{START.rstrip()}", *(cell.strip() for cell in cells))
        self.page = self.notebook.page
        self.panel = self.page.locator(".lab-panel")
        self.notebook.begin(0)
        expect(self.panel).to_be_visible(timeout=30_000)

    def let(self, *generations: int) -> None:
        """Let generations be proposed."""
        for generation in generations:
            (self.place / f"generation-{generation}").touch()

    def picture(self, name: str) -> None:
        self.notebook.screenshot(PICTURES / f"panel-{name}.png")


@pytest.fixture
def start_search(
    open_notebook: OpenNotebook, jupyterlab: JupyterLab, request: pytest.FixtureRequest
) -> Callable[..., Search]:
    return lambda *cells: Search(open_notebook, jupyterlab, request.node.name, *cells)


def test_the_panel_lives_while_a_cell_blocks_and_survives_the_kernel(start_search: Callable[..., Search]) -> None:
    search = start_search(BLOCK)
    page, panel = search.page, search.panel

    search.let(0, 1)
    expect(panel).to_contain_text("generation 3/5")
    curve = panel.locator("img")
    expect(curve).to_be_visible(timeout=30_000)
    search.picture("running")

    search.notebook.begin(1)
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'busy'"
    )
    before = curve.get_attribute("src")
    search.let(2)
    expect(panel).to_contain_text("generation 4/5")
    expect(curve).not_to_have_attribute("src", str(before))
    assert search.notebook.is_busy()
    search.picture("during-a-blocking-cell")
    (search.place / "unblock").touch()

    search.let(3, 4)
    card = page.locator(".lab-card")
    expect(card).to_contain_text("completed")
    expect(card.locator("img")).to_be_visible()
    expect(panel).to_have_count(0)
    search.picture("finished")

    search.notebook.save()
    search.notebook.restart_kernel()
    search.notebook.reload()
    expect(card).to_contain_text("completed")
    expect(card.locator("img")).to_be_visible()
    expect(page.get_by_text("Error displaying widget")).to_have_count(0)
    search.picture("after-a-kernel-restart")
