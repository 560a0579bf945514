"""The lab's own panel in a real page: it moves while work waits, tells what went wrong, and stays as a card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from epsilon_lab.testing.jupyterlab import JupyterLab, NotebookPage

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parents[2] / "out" / "screenshots"

OPEN = """
import os
from epsilon_lab import Lab, WorkQueue
lab = Lab(f"{place}/runs", workers=3)
def work(item, place=place):
    import os, select, time
    if item == 40:
        os._exit(3)
    while item >= 300 and not os.path.exists(f"{place}/go"):
        select.select([], [], [], 0.02)
    time.sleep(0.01)  # so that its panel has a curve to draw
    return item
lab.panel()
"""

START = "run = lab.start(WorkQueue(range(600), work), name='six hundred items')"

CLOSE = "run.wait(60); lab.close()"


def test_the_lab_panel_shows_what_waits_and_what_went_wrong(
    open_notebook: Callable[..., NotebookPage], jupyterlab: JupyterLab, request: pytest.FixtureRequest
) -> None:
    place = jupyterlab.root / request.node.name
    place.mkdir()
    notebook = open_notebook(f"place = {str(place)!r}{OPEN.rstrip()}", START, CLOSE)
    panel = notebook.page.locator(".lab-panel")
    notebook.begin(0)
    expect(panel).to_contain_text("0 waiting")

    notebook.begin(1)
    expect(panel).to_contain_text("six hundred items")
    expect(panel).to_contain_text("299 completed")
    expect(panel).to_contain_text("3 running")
    expect(panel).to_contain_text("see lab.dead_letters")
    expect(panel.locator("polyline")).to_have_count(2)
    notebook.screenshot(PICTURES / "lab-panel-running.png")

    (place / "go").touch()
    notebook.begin(2)
    card = notebook.page.locator(".lab-card")
    expect(card).to_contain_text("closed")
    expect(card).to_contain_text("599 completed")
    expect(panel).to_have_count(0)
    notebook.screenshot(PICTURES / "lab-panel-closed.png")
