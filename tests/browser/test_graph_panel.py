"""The panel of a dag in a real page: while its nodes run, after a failure, and as the saved notebook keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

PICTURES = Path(__file__).parents[2] / "out" / "screenshots"

pytestmark = pytest.mark.browser

START = """
from epsilon_lab import Dag, Lab

def node(name, depends_on=(), fails=False):
    def task(inputs):
        import os, select, sys
        while not os.path.exists(f"{place}/{name}"):
            select.select([], [], [], 0.02)
        if fails:
            print("no route to <b>orders</b>", file=sys.stderr)
            raise ValueError(f"{name} cannot be built")
        return name
    return {"id": name, "task": task, "depends_on": list(depends_on), "retries": 0}

plan = [
    node("contract"),
    node("storage", ["contract"]), node("api", ["contract"]), node("worker", ["contract"], fails=True),
    node("frontend", ["api"]), node("billing", ["api", "storage"]), node("reports", ["storage", "worker"]),
    node("integration-tests", ["frontend", "billing", "contract"]), node("release-notes", ["reports"]),
]
lab = Lab(f"{place}/runs", workers=3)
run = lab.start(Dag(plan), name="shop")
run
"""


def test_the_panel_of_a_dag_shows_its_graph_while_it_runs(open_notebook, jupyterlab, request):
    place = jupyterlab.root / request.node.name
    place.mkdir()
    notebook = open_notebook(f"place = {str(place)!r}{START.rstrip()}")
    panel = notebook.page.locator(".lab-panel")
    notebook.begin(0)
    expect(panel).to_be_visible(timeout=30_000)
    boxes = panel.locator(".lab-work svg g")
    expect(boxes).to_have_count(9)
    expect(panel).to_contain_text("0/9 nodes")

    for name in ("contract", "storage", "worker"):
        (place / name).touch()
    expect(panel.locator("summary")).to_contain_text("worker")
    expect(panel).to_contain_text("no route to <b>orders</b>")
    expect(boxes.filter(has_text="✗")).to_have_count(1)
    expect(boxes.filter(has_text="⊘")).to_have_count(2)
    expect(panel).to_contain_text("2/9 nodes · 2 blocked, 1 failed")
    notebook.screenshot(PICTURES / f"{request.node.name}-running.png")

    for name in ("api", "frontend", "billing", "integration-tests"):
        (place / name).touch()
    card = notebook.page.locator(".lab-card")
    expect(card).to_contain_text("6 of 9 nodes are done")
    expect(card.locator("svg g")).to_have_count(9)
    expect(panel).to_have_count(0)
