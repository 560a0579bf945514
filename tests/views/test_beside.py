"""A search beside its controls, as a reader of the workspace sees them: from either, live or past, whole or in part."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from epsilon_lab.clock import ManualClock
from epsilon_lab.messages.events import Body, CandidateSettled, RunEnded, RunStarted
from epsilon_lab.topologies.controls import CONTROL_OF
from epsilon_lab.views.card import card, text
from epsilon_lab.views.panels import Panel
from epsilon_lab.views.snapshot import Observer, RunSnapshot
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.tables import Tables

CONFIG: dict[str, object] = {"direction": "maximize", "generations": 3, "population": 4, "elites": 1}


class Workspace:
    """Runs that are written line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock(1_000.0)
        self.live: set[str] = set()
        self.tables = Tables(path, live_run_ids=lambda: self.live)
        self.journals: dict[str, Journal] = {}
        self.observers: dict[str, Observer] = {}

    def start(self, run_id: str, **config: object) -> None:
        (self.path / run_id).mkdir(parents=True)
        self.live.add(run_id)
        self.journals[run_id] = Journal.open(self.path / run_id / "journal.ndjson")
        self.write(run_id, RunStarted(run_id=run_id, topology="population_search", name=run_id, config=CONFIG | config))

    def write(self, run_id: str, *bodies: Body) -> None:
        self.clock.advance(1.0)
        self.journals[run_id].append(self.clock.wall(), *bodies)
        self.journals[run_id].commit()

    def settle(self, run_id: str, *scores: float | str | None) -> None:
        """A candidate each: scored, crashed (None), or one that never met the judge, by its outcome."""
        for score in scores:
            place = sum(1 for _ in (self.path / run_id).glob("*.mark"))
            (self.path / run_id / f"{place}.mark").touch()
            name = f"g000-c{place - 1:03d}" if place else "seed"
            number = score if isinstance(score, float) else None
            outcome = "scored" if isinstance(score, float) else score or "crashed"
            self.write(
                run_id,
                CandidateSettled(
                    candidate_id=name, generation=0, strategy="fresh" if place else "seed", outcome=outcome,
                    score=number, checked=None if number is None else True,
                    scorer_hash="s" if outcome in ("scored", "crashed") else None,
                ),
            )  # fmt: skip

    def end(self, run_id: str) -> None:
        self.write(run_id, RunEnded(status="completed", reason="done"))
        self.live.discard(run_id)

    def see(self, run_id: str) -> RunSnapshot:
        if run_id not in self.observers:
            self.observers[run_id] = Observer(self.tables, RunDirectory(self.path / run_id), clock=self.clock)
        return self.observers[run_id]()

    def close(self) -> None:
        self.tables.close()
        for journal in self.journals.values():
            journal.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path / "runs")
    yield made
    made.close()


def test_the_axis_is_programs_judged(workspace):
    workspace.start("search")
    workspace.settle("search", 1.0, "proposal_failed", 2.0, "duplicate", None, 5.0)
    assert workspace.see("search").versus is None  # a live search has no controls
    workspace.end("search")
    assert workspace.see("search").versus is None
    workspace.start("control", evaluations=3, **{CONTROL_OF: "search"})
    workspace.settle("control", 1.0, "duplicate", 3.0)

    versus = workspace.see("search").versus
    assert versus is not None
    assert versus.search.curve.best == ((0, 1.0), (1, 2.0), (3, 5.0))
    assert versus.control.curve.best == ((0, 1.0), (1, 3.0))
    assert (versus.search.evaluations, versus.control.evaluations) == (3, 1)
    sentence = "the search reached 5, random variation 3, at 3 and 1 evaluations so far"
    assert versus.sentence == sentence
    live = workspace.see("control")
    assert live.versus == versus
    assert (live.expected, live.generation, live.generations) == (1 + 3, 0, None)
    for shown in (live, workspace.see("search")):
        assert sentence in text(shown)
        assert sentence in card(shown)

    workspace.settle("control", 4.0, 2.0)
    workspace.end("control")
    assert "random variation 4, at 3 evaluations each" in text(workspace.see("search"))


def test_controls_without_their_search_stand_alone(workspace):
    workspace.start("search")
    workspace.settle("search", 1.0, 2.0)
    workspace.end("search")
    workspace.start("control", evaluations=1, **{CONTROL_OF: "search"})
    workspace.settle("control", 1.0, 3.0)
    workspace.end("control")
    elsewhere = workspace.path.parent / "elsewhere"
    shutil.copytree(workspace.path / "control", elsewhere / "control")
    tables = Tables(elsewhere)
    seen = Observer(tables, RunDirectory(elsewhere / "control"), clock=workspace.clock)()
    assert seen.versus is None
    assert seen.curve is not None
    assert card(seen)
    tables.close()


def test_a_live_panel_of_controls_draws_both_and_only_what_is_new(workspace):
    workspace.start("search")
    workspace.settle("search", 1.0, 2.0)
    workspace.end("search")
    workspace.start("control", evaluations=9, **{CONTROL_OF: "search"})
    workspace.settle("control", 1.0)
    panel = Panel(workspace.see("control"), {})
    image = panel._image
    first = image.value
    panel.show(workspace.see("control"))
    assert image.value is first
    workspace.settle("control", 3.0)
    panel.show(workspace.see("control"))
    assert image.value != first
    panel.close()
