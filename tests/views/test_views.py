"""A run on show: what is read, what the panel says and does, and what a saved notebook keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import pytest

from epsilon_lab.clock import ManualClock
from epsilon_lab.errors import LabError
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import (
    Body,
    CandidateSettled,
    CompletedLine,
    FailedLine,
    GenerationClosed,
    LlmCall,
    RunAdopted,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    TaskLine,
    TasksAssigned,
    TasksCompleted,
    TasksFailed,
    TasksSubmitted,
)
from epsilon_lab.messages.values import StoredValue
from epsilon_lab.views import live as live_module
from epsilon_lab.views.card import card, text
from epsilon_lab.views.faces import run_face
from epsilon_lab.views.live import LivePanel
from epsilon_lab.views.panels import Panel
from epsilon_lab.views.snapshot import Observer, RunSnapshot
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.tables import Tables

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"
CONFIG: dict[str, object] = {"direction": "maximize", "generations": 3, "population": 4, "elites": 1, "best_known": 9.0}


class Search:
    """A search's journal that goes on while it is looked at."""

    def __init__(
        self,
        path: Path,
        topology: str = "population_search",
        config: dict[str, object] = CONFIG,
        budget: Budget | None = None,
    ) -> None:
        self.clock = ManualClock(1_000.0)
        self.directory = RunDirectory(path / "runs" / "r1")
        self.directory.path.mkdir(parents=True)
        self.journal = Journal.open(self.directory.journal)
        self.live = {"r1"}
        self.tables = Tables(path / "runs", live_run_ids=lambda: self.live)
        self.observer = Observer(self.tables, self.directory, clock=self.clock)
        name = f"demo {HOSTILE}"
        self.write(RunStarted(run_id="r1", topology=topology, name=name, config=config, budget=budget))

    def write(self, *bodies: Body) -> None:
        self.journal.append(self.clock.wall(), *bodies)
        self.journal.commit()

    def settle(self, candidate_id: str, score: float | None = None, source: str = "", **fields: Any) -> None:
        ref = f"candidates/{candidate_id}.py"
        self.directory.save(ref, source or f"def solve():\n    return {score}\n", kind="source")
        fields = {"generation": 0, "strategy": "fresh", "source_ref": ref, "score": score, **fields}
        self.write(CandidateSettled(candidate_id=candidate_id, **fields))

    def close(self) -> None:
        self.tables.close()
        self.journal.close()


@pytest.fixture
def search(tmp_path: Path) -> Iterator[Search]:
    made = Search(tmp_path)
    yield made
    made.close()


# -- what is read ------------------------------------------------------------------------------------------------------


def test_a_snapshot_follows_a_search(search: Search) -> None:
    assert search.observer().best is None
    search.settle("seed", 1.0, strategy="seed", checked=True)
    search.settle("g000-c000", 5.0, f"def solve():\n    return '{HOSTILE}'\n", parent_ids=("seed",), checked=True)
    search.settle("g000-c001", 7.0, parent_ids=("seed",))
    search.settle("g000-c002", outcome="timeout", error=f"took too long {HOSTILE}")
    search.write(
        LlmCall(task_id="t", call=0, model="m", outcome="ok", prompt_ref="p", prompt_sha256="x", prompt_tokens=10,
                completion_tokens=5, cost_usd=0.25),
        LlmCall(task_id="t", call=1, model="m", outcome="ok", prompt_ref="p", prompt_sha256="x"),
        GenerationClosed(generation=0, best=5.0, best_id="g000-c000", median=5.0, top=7.0, candidates=3,
                         valid_share=0.67, stall=0),
    )  # fmt: skip
    search.clock.advance(2.0)
    seen = search.observer()
    assert (seen.status, seen.unit, seen.done, seen.expected) == ("running", "candidates", 4, 1 + 4 + 2 * 3)
    assert (seen.generation, seen.generations, seen.elapsed_s, seen.per_s) == (1, 3, 2.0, 2.0)
    assert seen.best is not None
    assert (seen.best.candidate_id, seen.best.score, seen.best.parent_id) == ("g000-c000", 5.0, "seed")
    assert f"+    return '{HOSTILE}'" in seen.best.diff
    assert [(f.outcome, f.count, f.example) for f in seen.failures] == [("timeout", 1, "g000-c002")]
    assert seen.usage is not None
    assert (seen.usage.calls, seen.usage.tokens, seen.usage.cost_usd, seen.usage.unpriced) == (2, 15, 0.25, 1)
    assert seen.curve is not None
    assert seen.curve.best_known == 9.0
    search.write(RunEnded(status="completed", reason="patience ran out"))
    search.clock.advance(100.0)
    ended = search.observer()
    assert (ended.status, ended.reason, ended.elapsed_s, ended.per_s) == ("completed", "patience ran out", 2.0, 2.0)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (None, "1 model call · 15 tokens · $0.2500"),
        (Budget(calls=20), "1 of 20 model calls · 15 tokens · $0.2500"),
        (Budget(tokens=10_000, usd=0.5), "1 model call · 15 of 10,000 tokens · $0.2500 of $0.5"),
    ],
)
def test_what_models_were_asked_is_shown_beside_the_budget(tmp_path: Path, budget: Budget | None, said: str) -> None:
    """Replies used again and requests that the budget refused were not asked for."""
    search = Search(tmp_path, budget=budget)
    told: dict[str, Any] = {"task_id": "t", "model": "m", "prompt_ref": "p", "prompt_sha256": "x", "prompt_tokens": 10}
    paid = LlmCall(call=0, outcome="ok", completion_tokens=5, cost_usd=0.25, **told)
    others = [LlmCall(call=call, outcome=outcome, **told) for call, outcome in enumerate(("cached", "refused"), 1)]
    search.write(paid, *others)
    assert said in text(search.observer()).splitlines()
    search.close()


def test_where_nothing_happened_nothing_is_drawn_again(search: Search) -> None:
    search.settle("seed", 1.0, strategy="seed", checked=True)
    first = search.observer()
    search.clock.advance(1.0)
    second = search.observer()
    assert second.curve is first.curve
    assert second.elapsed_s == 1.0


def test_a_search_that_takes_long_to_look_at_is_looked_at_less_often(search: Search) -> None:
    class SlowTables(Tables):
        def rows(self, *arguments: Any, **options: Any) -> list[tuple[Any, ...]]:
            if "from candidates" in arguments[0]:
                search.clock.advance(0.1)
            return super().rows(*arguments, **options)

    slow = SlowTables(search.directory.path.parent, live_run_ids=lambda: search.live)
    observer = Observer(slow, search.directory, clock=search.clock)
    search.settle("seed", 1.0, strategy="seed", checked=True)
    assert observer().done == 1
    search.settle("g000-c000", 2.0)
    assert observer().done == 1
    search.clock.advance(10.0)
    assert observer().done == 2
    search.settle("g000-c001", 2.0)
    search.write(RunEnded(status="completed", reason="done"))
    assert observer().done == 3
    slow.close()


def test_a_run_directory_with_missing_programs_still_shows(search: Search) -> None:
    search.settle("seed", 1.0, strategy="seed", checked=True)
    search.directory.locate("candidates/seed.py").unlink()
    search.write(CandidateSettled(candidate_id="g000-c000", generation=0, strategy="fresh", score=2.0, checked=True,
                                  source_ref="../../etc/passwd"))  # fmt: skip
    best = search.observer().best
    assert best is not None
    assert (best.candidate_id, best.source) == ("g000-c000", "")


def test_a_snapshot_follows_a_work_queue(tmp_path: Path) -> None:
    queue = Search(tmp_path, "work_queue", {"items": 4})
    value = StoredValue(file="x")
    lines = [TaskLine(task_id=f"t{i}", kind="item", lane="process", entry="e", payload=value) for i in range(4)]
    queue.write(TasksSubmitted(tasks=tuple(lines)))
    queue.write(TasksAssigned(worker_id="w", tasks=(("t0", 1, 1), ("t1", 1, 2), ("t2", 1, 3))))
    done = CompletedLine(task_id="t0", attempt=1, fence=1, output=value, started_at=1000.0, ended_at=1001.0)
    bad = FailedLine(task_id="t1", attempt=1, fence=2, outcome="failed", error=f"ValueError: {HOSTILE}", then="failed")
    queue.write(TasksCompleted(worker_id="w", tasks=(done,)), TasksFailed(worker_id="w", tasks=(bad,)))
    queue.clock.advance(2.0)
    seen = queue.observer()
    assert (seen.unit, seen.done, seen.expected, seen.curve, seen.best) == ("tasks", 2, 4, None, None)
    assert seen.tasks == {"completed": 1, "failed": 1, "running": 1, "queued": 1}
    assert "2/4 tasks · 1 running · 1/s" in text(seen)
    assert HOSTILE not in card(seen)
    queue.live.clear()
    queue.clock.advance(50.0)
    assert queue.observer().status == "interrupted"
    queue.close()


def test_time_during_which_no_lab_was_at_a_run_does_not_count(search: Search) -> None:
    search.clock.advance(3.0)
    search.settle("seed", 1.0, strategy="seed", checked=True)
    search.clock.advance(3600.0)
    search.write(RunAdopted(epoch=2, pid=1, host="h"))
    search.clock.advance(2.0)
    assert search.observer().elapsed_s == 5.0
    search.write(RunEnded(status="completed", reason="done"))
    assert "5.0 s" in text(search.observer())
    assert search.tables.frame("runs")["idle_s"].tolist() == [3600.0]


# -- what is shown -----------------------------------------------------------------------------------------------------


def full(search: Search) -> RunSnapshot:
    search.settle("seed", 1.0, strategy="seed", checked=True)
    search.settle("g000-c000", 5.0, f"# {HOSTILE}\ndef solve():\n    return 5\n", parent_ids=("seed",), checked=True)
    search.settle("g000-c002", outcome="check_failed", error=f"no {HOSTILE}\nsecond line")
    return search.observer()


def test_a_card_is_one_small_page_that_runs_nothing_of_a_strangers(search: Search) -> None:
    page = card(full(search), note=HOSTILE)
    assert "<script" not in page
    assert "<img src=x" not in page
    assert page.count("<img ") == 1
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page
    assert len(page) < 200_000
    for part in ("g000-c000", "check failed", "what it changed in seed", "demo &lt;script&gt;"):
        assert part in page


def test_text_is_for_consoles(search: Search) -> None:
    lines = text(full(search)).splitlines()
    assert lines[0] == "r1 · population_search · running"
    assert lines[1].startswith("generation 1/3 · 3 candidates · best 5 (g000-c000) · ")
    assert lines[2] == f"1 check failed: g000-c002: no {HOSTILE}"


def test_a_panel_shows_progress_curve_and_best_and_escapes_them(search: Search) -> None:
    panel = Panel(full(search), {"pause": print, "resume": print, "stop": print})
    head, bar, image, buttons, error, _, best, troubles = panel.root.children
    assert "lab-panel" in panel.root._dom_classes
    assert "lab-best" in best._dom_classes
    assert [button._dom_classes for button in buttons.children] == [("lab-pause",), ("lab-stop",)]
    assert (bar.value, bar.max) == (3, 11)
    assert bytes(image.value).startswith(b"\x89PNG")
    for widget in (head, best, troubles):
        assert "<script" not in widget.value
        assert "<img" not in widget.value
    assert "&lt;script&gt;" in best.value
    assert error.value == ""
    panel.close()
    assert panel.root.comm is None
    assert all(child.comm is None for child in (*panel.root.children, *buttons.children))


def test_buttons_call_and_return_and_follow_the_run(search: Search) -> None:
    calls: list[str] = []
    actions = {name: (lambda name=name: calls.append(name)) for name in ("pause", "resume", "stop")}
    panel = Panel(full(search), actions)
    pause, stop = panel.root.children[3].children
    pause.click()
    search.write(RunPaused())
    panel.show(search.observer())
    assert pause.description == "Resume"
    pause.click()
    search.write(RunResumed())
    panel.show(search.observer())
    assert pause.description == "Pause"
    stop.click()
    assert calls == ["pause", "resume", "stop"]
    assert stop.disabled
    search.write(RunEnded(status="stopped", reason="stopped by the user"))
    panel.show(search.observer())
    assert pause.disabled
    assert stop.disabled
    panel.close()


def test_a_button_that_cannot_says_why_and_stays(search: Search) -> None:
    def refuse() -> None:
        raise LabError(f"run r1 is over {HOSTILE}")

    panel = Panel(full(search), {"stop": refuse})
    (stop,) = panel.root.children[3].children
    stop.click()
    assert "run r1 is over" in panel.root.children[4].value
    assert "<script" not in panel.root.children[4].value
    assert not stop.disabled
    panel.close()


def test_what_has_not_changed_is_not_sent(search: Search) -> None:
    panel = Panel(full(search), {})
    sent: list[str] = []
    for widget in panel.root.children:
        widget.observe(lambda change: sent.append(change["name"]))
    panel.show(search.observer())
    assert sent == []
    search.clock.advance(1.0)
    panel.show(search.observer())
    assert sent == ["value"]  # the seconds in the head
    panel.close()


# -- live, then frozen -------------------------------------------------------------------------------------------------


class Page:
    """A notebook page: what each display shows now."""

    kernel = object()

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, Any]] = {}

    def publish(self, bundle: dict[str, Any], display_id: str, *, update: bool = False) -> None:
        assert update == (display_id in self.shown)
        self.shown[display_id] = bundle


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    made = Page()
    monkeypatch.setattr(live_module, "_shell", lambda: made)
    monkeypatch.setattr(live_module, "_publish", made.publish)
    return made


def test_a_panel_lives_while_the_run_does_and_freezes_into_its_card(search: Search, page: Page) -> None:
    full(search)
    panel = LivePanel(search.observer, run_face({}))
    panel.display()
    ((display_id, bundle),) = page.shown.items()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert panel.update()
    search.settle("g000-c003", 8.0, checked=True)
    search.write(RunEnded(status="completed", reason="all generations done"))
    assert not panel.update()
    frozen = page.shown[display_id]
    assert set(frozen) == {"text/html", "text/plain"}
    assert "all generations done" in frozen["text/html"]
    assert "best 8" in frozen["text/html"]
    assert not panel.update()
    page.shown[display_id] = bundle  # a front that did not take the replacement
    panel.freeze()
    assert page.shown[display_id] == frozen
    assert len(page.shown) == 1


def test_closing_a_lab_freezes_what_still_runs(search: Search, page: Page) -> None:
    full(search)
    panel = LivePanel(search.observer, run_face({}))
    panel.display()
    panel.close()
    panel.close()
    (bundle,) = page.shown.values()
    assert "live view closed before the end" in bundle["text/html"]
    assert not panel.update()


def test_a_panel_shown_again_is_live_in_the_new_place_only(search: Search, page: Page) -> None:
    panel = LivePanel(search.observer, run_face({}))
    panel.display()
    panel.display()
    first, second = page.shown.values()
    assert "text/html" in first
    assert len(first) == 2
    assert "shown again further down" in first["text/html"]
    assert len(second) == 3
    panel.close()


def test_a_past_run_is_a_card_at_once(search: Search, page: Page) -> None:
    search.write(RunEnded(status="stopped", reason="enough"))
    LivePanel(search.observer, run_face({})).display()
    (bundle,) = page.shown.values()
    assert set(bundle) == {"text/html", "text/plain"}


def test_without_ipywidgets_the_card_is_shown(search: Search, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "has_widgets", lambda: False)
    panel = LivePanel(search.observer, run_face({}))
    panel.display()
    (bundle,) = page.shown.values()
    assert set(bundle) == {"text/html", "text/plain"}
    search.write(RunEnded(status="stopped", reason="enough"))
    assert not panel.update()
    (bundle,) = page.shown.values()
    assert "enough" in bundle["text/html"]


def test_outside_a_notebook_a_panel_is_its_text(search: Search) -> None:
    panel = LivePanel(search.observer, run_face({}))
    panel.display()
    assert repr(panel).startswith("r1 · population_search · running")
    search.settle("seed", 1.0, strategy="seed", checked=True)
    frame = panel.static()
    assert "best 1 (seed)" in repr(frame)
    assert "best 1" in frame._repr_html_()


def test_a_panel_outlives_the_tables_it_read(search: Search, page: Page) -> None:
    panel = LivePanel(search.observer, run_face({}))
    panel.display()
    search.tables.close()
    assert panel.update()
    panel.close()
    assert len(page.shown) == 1


def test_no_widget_is_kept_after_its_panel(search: Search) -> None:
    before = set(ipywidgets.widgets.widget._instances)
    panel = Panel(full(search), {"pause": print, "resume": print, "stop": print})
    assert set(ipywidgets.widgets.widget._instances) - before
    panel.close()
    assert set(ipywidgets.widgets.widget._instances) == before
