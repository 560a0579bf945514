"""The panel of every topology in one page: it moves while a cell blocks, and ends as a card; Pause and Stop."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from epsilon_lab.processes.repository import is_installed
from epsilon_lab.testing.jupyterlab import JupyterLab, NotebookPage
from epsilon_lab.topologies.catalogue import TOPOLOGIES

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parents[2] / "out" / "screenshots"

OPEN = """
from pathlib import Path
from IPython.display import display
from epsilon_lab import Lab
from epsilon_lab.testing.topology_examples import EXAMPLES, by_functions

place = Path(place)
hand = by_functions(place)  # which do what files in this directory say
(place / "hold").touch()
lab = Lab(place / "runs", workers=4)
runs = [lab.start(EXAMPLES[name].make(hand), name=name) for name in names]
for run in runs:
    display(run)
"""

BLOCK = """
import os, time
while not os.path.exists(place / "unblock"):
    time.sleep(0.05)  # which is what is tested: a cell that does not return
"""

STEERED = "population_search"


def test_the_panel_of_every_topology_moves_while_a_cell_blocks(
    open_notebook: Callable[..., NotebookPage], jupyterlab: JupyterLab, request: pytest.FixtureRequest
) -> None:
    place = jupyterlab.root / request.node.name
    place.mkdir()
    names = [name for name in TOPOLOGIES if name != "tree" or is_installed()]
    notebook = open_notebook(f"place, names = {str(place)!r}, {names}{OPEN.rstrip()}", BLOCK.strip())
    page = notebook.page

    def shown(what: str, name: str) -> Locator:
        return page.locator(what).filter(has=page.locator("b", has_text=re.compile(f"^{name}$")))

    notebook.begin(0)
    for name in names:
        expect(shown(".lab-panel", name)).to_contain_text("running")
    expect(page.locator(".lab-panel .lab-stop")).to_have_count(len(names))

    steered = shown(".lab-panel", STEERED)
    pause = steered.locator(".lab-pause")
    pause.click()
    expect(pause).to_have_text("Resume")
    expect(steered).to_contain_text("paused")
    pause.click()
    expect(pause).to_have_text("Pause")
    steered.locator(".lab-stop").click()
    notebook.screenshot(PICTURES / "every-topology-running.png")

    notebook.begin(1)
    blocking = page.locator(".jp-InputPrompt", has_text="[*]")
    expect(blocking).to_have_count(1)
    (place / "hold").unlink()  # what was under way in the stopped one may end, too
    for name in names:
        ended = "stopped" if name == STEERED else "completed"
        expect(shown(".lab-card", name)).to_contain_text(ended)
    expect(blocking).to_have_count(1)
    expect(page.locator(".lab-panel")).to_have_count(0)
    notebook.screenshot(PICTURES / "every-topology-ended.png")
    (place / "unblock").touch()
    expect(blocking).to_have_count(0)
