"""The case book in a real page: cases decided by clicks, each on disk before the next shows, and what survives."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import expect

from epsilon_lab.testing.jupyterlab import JupyterLab, NotebookPage
from epsilon_lab.workspace.tables import Tables

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parents[2] / "out" / "screenshots"

START = """
import ipywidgets
from epsilon_lab import Lab, WorkQueue

NAMES = ["Barack Obama", "Ann Lee", "José Díaz", "O'Neill, Mary", "J. R. R. Tolkien", "Zoë Kravitz", "Ada Lovelace"]

def pairs(outputs, *, flag=None):
    for n in range(24):
        name = NAMES[n % len(NAMES)]
        record = {"name": name, "born": 1900 + n, "city": "Honolulu", "note": f"<img src=x onerror=alert({n})> of {name}"}
        other = record | {"name": name.replace("a", "", 1), "born": 1900 + n + n % 2, "city": "Honolulu " * (1 + n % 3)}
        flag(key=[f"e-{n}", f"f-{n}"], question=f"Are e-{n} and f-{n} one person?", options=["same", "different"],
             evidence=[record, other], score=1 - n / 100, reason="their names are near")
    return len(outputs)

lab = Lab(f"{place}/runs", workers=1)
def work(item, flag=None):
    import select, os
    if item == 0: return pairs([], flag=flag)
    while not os.path.exists(f"{place}/go"): select.select([], [], [], .02)
run = lab.start(WorkQueue([0, 1], work), name="people")
while len(run.cases) < 24: run.cases.wait(20)
touched, echo = ipywidgets.Button(description="canary"), ipywidgets.Label("0")
touched.add_class("our-canary"); echo.add_class("our-echo")
touched.on_click(lambda _: setattr(echo, "value", str(int(echo.value) + 1)))
ipywidgets.HBox([touched, echo])
"""

PANEL = 'run.cases.panel(decider="ann")'

REOPEN = """
from epsilon_lab import Lab
lab = Lab(f"{place}/runs", workers=1)
lab.runs["people"].cases.panel(decider="ann")
"""

PACE = "() => new Promise((done) => setTimeout(done, 310))"
"""A person's pace: a click that comes sooner than 0.3 s after a case has come is none."""

TIMED = """async ([button, watched, times]) => {
    const took = [];
    for (let time = 0; time < times; time++) {
        const before = document.querySelector(watched).textContent;
        const began = performance.now();
        const changed = new Promise((done) => {
            const observer = new MutationObserver(() => {
                if (document.querySelector(watched).textContent !== before) { observer.disconnect(); done(); }
            });
            observer.observe(document.querySelector(watched), {subtree: true, childList: true, characterData: true});
        });
        document.querySelector(button).click();
        await changed;
        await new Promise(requestAnimationFrame);
        took.push(performance.now() - began);
        await new Promise((done) => setTimeout(done, 310));  // a person's pace: a second click sooner is none
    }
    return took;
}"""
"""Click a button some times; milliseconds until what is watched says something else, and is drawn."""


def test_cases_are_decided_by_clicks(
    open_notebook: Callable[..., NotebookPage], jupyterlab: JupyterLab, request: pytest.FixtureRequest
) -> None:
    place = jupyterlab.root / request.node.name
    place.mkdir()
    at = f"place = {str(place)!r}"
    notebook = open_notebook(f"{at}{START.rstrip()}", PANEL, f"{at}{REOPEN.rstrip()}")
    page = notebook.page
    notebook.begin(0)
    expect(page.locator(".our-echo")).to_be_visible(timeout=60_000)
    notebook.begin(1)
    panel = page.locator(".lab-review")
    question, note, words = (
        panel.locator(".lab-question"),
        panel.locator(".lab-note input"),
        panel.locator(".lab-words"),
    )
    expect(panel).to_contain_text("1 of 24 · 24 left", timeout=30_000)
    notebook.screenshot(PICTURES / "cases-first.png")

    def verdicts() -> list[tuple[object, ...]]:
        with closing(Tables(place / "runs")) as tables:
            return tables.rows("select case_id, verdict, decider, note, live from verdicts order by ts, number")

    # what the evidence holds is text
    expect(panel.locator(".lab-evidence")).to_contain_text("<img src=x onerror=alert(0)>")
    expect(panel.locator("img, script")).to_have_count(0)

    # a note and a verdict; the note has the focus then, so that Enter does not decide the next
    note.fill("a slip of the pen")
    panel.get_by_role("button", name="same", exact=True).click()
    expect(question).to_contain_text("Are e-1 and f-1 one person?")
    expect(note).to_be_focused()
    expect(note).to_have_value("")
    ((case_id, *rest),) = verdicts()
    assert rest == ["same", "ann", "a slip of the pen", True]

    # two clicks in a row are one
    page.evaluate(PACE)
    page.evaluate(
        "document.querySelectorAll('.lab-option')[1].click(), document.querySelectorAll('.lab-option')[1].click()"
    )
    expect(words).to_contain_text("double click")
    expect(question).to_contain_text("Are e-2 and f-2 one person?")
    assert len(verdicts()) == 2

    # undo takes back, and brings back case and note
    took = page.evaluate(TIMED, [".lab-undo", ".lab-question", 2])
    expect(question).to_contain_text("Are e-0 and f-0 one person?")
    expect(note).to_have_value("a slip of the pen")
    assert [row[-1] for row in verdicts()] == [False, False, False, False]
    print(took)

    # how long a click takes until the next case is there
    echo = page.evaluate(TIMED, [".our-canary", ".our-echo", 12])
    clicks = page.evaluate(TIMED, [".lab-option", ".lab-question", 12])
    print(
        f"\\nverdict to next case: {statistics.median(clicks):.0f} ms; echo of a click: {statistics.median(echo):.0f} ms {json.dumps(clicks)}"
    )
    notebook.screenshot(PICTURES / "cases-half.png")
