"""What a run's tasks come to, and how it looks: read from real journals, drawn, escaped, folded where it is much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.clock import ManualClock
from epsilon_lab.messages.call import Feedback
from epsilon_lab.messages.events import (
    Body,
    CaseFlagged,
    CaseWithdrawn,
    CompletedLine,
    FailedLine,
    QualityChecked,
    RunEnded,
    RunStarted,
    StageReviewed,
    TaskLine,
    TasksAssigned,
    TasksCancelled,
    TasksCompleted,
    TasksFailed,
    TasksReleased,
    TasksRevised,
    TasksSubmitted,
    TasksWaiting,
    VerdictGiven,
)
from epsilon_lab.messages.values import StoredValue
from epsilon_lab.views.card import card, text
from epsilon_lab.views.graph import MOST_NODES, _edges, graph
from epsilon_lab.views.panels import Panel
from epsilon_lab.views.snapshot import Observer, RunSnapshot
from epsilon_lab.views.workflow import Node, folded, layers, nodes_of
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.tables import Tables

HOSTILE = "<script>alert(1)</script>"
VALUE = StoredValue(file="x")


class Work:
    """A run's journal that goes on while it is looked at."""

    def __init__(self, path: Path, topology: str, **config: object) -> None:
        self.clock = ManualClock(1_000.0)
        self.directory = RunDirectory(path / "runs" / "r1")
        self.directory.path.mkdir(parents=True)
        self.journal = Journal.open(self.directory.journal)
        self.tables = Tables(path / "runs", live_run_ids=lambda: {"r1"})
        self.observer = Observer(self.tables, self.directory, clock=self.clock)
        self._fence = 0
        self.write(RunStarted(run_id="r1", topology=topology, name="build", config=config))

    def write(self, *bodies: Body) -> None:
        self.journal.append(self.clock.wall(), *bodies)
        self.journal.commit()

    def add(self, task_id: str, *after: str, kind: str = "node", waits: bool | None = None) -> None:
        line = TaskLine(task_id=task_id, kind=kind, lane="process", entry="e", payload=VALUE, depends_on=after)
        self.write((TasksWaiting if after and waits is not False else TasksSubmitted)(tasks=(line,)))

    def begin(self, task_id: str, attempt: int = 1) -> None:
        self._fence += 1
        self.write(TasksAssigned(worker_id="w", tasks=((task_id, attempt, self._fence),)))

    def complete(self, task_id: str, output: object = None, *, took: float = 1.0) -> None:
        self.begin(task_id)
        value = StoredValue(msgspec.Raw(msgspec.json.encode(output)))
        now = self.clock.wall()
        self.clock.advance(took)
        done = CompletedLine(task_id, 1, self._fence, value, now, now + took)
        self.write(TasksCompleted(worker_id="w", tasks=(done,)))

    def fail(self, task_id: str, error: str, *, stderr: str = "", traceback: str = "") -> None:
        self.begin(task_id)
        line = FailedLine(
            task_id=task_id, attempt=1, fence=self._fence, outcome="failed", error=error, then="failed",
            stderr_tail=stderr, traceback=traceback,
        )  # fmt: skip
        self.write(TasksFailed(worker_id="w", tasks=(line,)))

    def see(self) -> RunSnapshot:
        return self.observer()

    def states(self) -> dict[str, str]:
        work = self.see().work
        assert work is not None
        return {node.node_id: node.state for node in work.nodes}

    def close(self) -> None:
        self.tables.close()
        self.journal.close()


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Any]:
    made: list[Work] = []

    def start(topology: str, **config: object) -> Work:
        made.append(Work(tmp_path / str(len(made)), topology, **config))
        return made[-1]

    yield start
    for work in made:
        work.close()


# -- what is read ------------------------------------------------------------------------------------------------------


def test_a_graph_follows_its_run(works):
    dag = works("dag")
    dag.add("design")
    dag.add("api", "design")
    dag.add("ui", "design")
    dag.add("tests", "api", "ui")
    dag.complete("design", took=2.0)
    dag.begin("api")
    dag.clock.advance(5.0)
    assert dag.states() == {"design": "completed", "api": "running", "ui": "waiting", "tests": "waiting"}
    seen = dag.see()
    assert (seen.unit, seen.done, seen.expected) == ("nodes", 1, 4)
    assert text(seen).splitlines()[:6] == [
        "r1 · dag · running",
        "1/4 nodes · 1 running · 0.143/s · 7.0 s",
        "  1 ✓ design  2.0 s",
        "  2 ▶ api  5 s",
        "  2 ○ ui  waiting",
        "  3 ○ tests  waiting",
    ]


def test_the_last_go_at_a_node_speaks_for_it(works):
    dag = works("dag")
    dag.add("api")
    dag.add("tests", "api")
    dag.fail("api", "ValueError: no route")
    dag.write(TasksCancelled(task_ids=("tests",), reason="not started: it depends on task api, which has no output"))
    assert dag.states() == {"api": "failed", "tests": "blocked"}
    dag.add("api~2")
    dag.add("tests~2", "api~2")
    assert dag.states() == {"api": "queued", "tests": "waiting"}
    assert dag.see().work.stories == ()
    dag.complete("api~2")
    dag.complete("tests~2")
    (first, second) = dag.see().work.nodes
    assert (first.state, first.revision, second.depends_on) == ("completed", 2, ("api",))
    assert dag.see().work.stories == ()


def test_a_failure_has_its_story_and_what_only_waited_for_it_has_none(works):
    dag = works("dag")
    for name, *after in (("api",), ("ui", "api"), ("tests", "ui"), ("docs",)):
        dag.add(name, *after)
    dag.complete("docs")
    dag.fail("api", f"ValueError: no route\n{HOSTILE}", stderr="warning: old schema\n")
    dag.write(TasksCancelled(task_ids=("ui", "tests"), reason="not started: it depends on task api"))
    seen = dag.see()
    (story,) = seen.work.stories
    assert (story.task_id, story.attempts, story.blocked) == ("api", 1, ("ui", "tests"))
    assert story.last_words == ("", "warning: old schema")
    assert "api failed after 1 attempt: ValueError: no route; blocked: ui, tests" in text(seen).splitlines()
    page = card(seen)
    assert "warning: old schema" in page
    assert "<script" not in page
    assert seen.failures == ()


def test_a_story_tells_what_was_said_between_one_go_and_the_next(works):
    dag = works("dag")
    dag.add("api")
    dag.fail("api", "ValueError: no route")
    dag.write(TasksRevised(feedback={"api": (Feedback("failure", "ValueError: no route"), Feedback("qa", "be kind"))}))
    dag.add("api~2")
    dag.fail("api~2", "ValueError: still none")
    (story,) = dag.see().work.stories
    assert (story.task_id, story.feedback) == ("api~2", ("failure: ValueError: no route", "qa: be kind"))
    assert "qa: be kind" in card(dag.see())


def test_a_skipped_node_is_no_failure(works):
    dag = works("dag")
    dag.add("check")
    dag.add("deploy", "check")
    dag.complete("check", False)
    dag.write(TasksCancelled(task_ids=("deploy",), reason="skipped: check did not give true"))
    assert dag.states() == {"check": "completed", "deploy": "skipped"}
    assert dag.see().work.failed == 0


def test_waves_of_quality_assurance_and_what_they_found(works):
    dag = works("dag")
    dag.add("api")
    dag.complete("api")
    dag.add("qa", "api", kind="qa", waits=False)
    errors = ({"id": "e1", "node": "api", "description": f"total is wrong {HOSTILE}"}, {"id": "e2", "file": "db.py"})
    dag.complete("qa")
    dag.write(QualityChecked(wave=1, status="fail", summary="2 tests fail", errors=errors, assigned={"db": ("e2",)}))
    dag.add("qa~2", "api", kind="qa", waits=False)
    dag.complete("qa~2")
    dag.write(QualityChecked(wave=2, status="pass"))
    dag.add("qa~3", "api", kind="qa", waits=False)
    dag.begin("qa~3")
    seen = dag.see()
    assert [(wave.wave, wave.verdict) for wave in seen.work.reviews] == [(1, "fail"), (2, "pass"), (3, "running")]
    assert [node.node_id for node in seen.work.nodes] == ["api"]
    assert f"qa 1: fail, 2 errors: 2 tests fail: api: total is wrong {HOSTILE}; db:" in text(seen).splitlines()
    assert "2 errors: 2 tests fail" in card(seen)
    assert "<script" not in card(seen)


def test_a_wave_that_was_asked_twice_for_its_report_is_one_wave(works):
    dag = works("dag")
    dag.add("api")
    dag.complete("api")
    dag.add("qa", "api", kind="qa", waits=False)
    dag.fail("qa", "ValueError: no report")
    dag.add("qa~2", "api", kind="qa", waits=False)
    dag.begin("qa~2")
    assert [(wave.wave, wave.verdict) for wave in dag.see().work.reviews] == [(1, "running")]
    dag.complete("qa~2")
    dag.write(QualityChecked(wave=1, status="pass"))
    assert [(wave.wave, wave.verdict) for wave in dag.see().work.reviews] == [(1, "pass")]


def test_a_gate_at_which_a_person_decides_says_how_and_then_what(works):
    line = works("pipeline")
    line.add("extract", kind="stage")
    line.add("load", "extract", kind="stage")
    line.complete("extract")
    line.write(CaseFlagged(case_id="extract", kind="gate", question=f"Is it good? {HOSTILE}",
                           options=("pass", "reject"), flagged_by="extract.gate"))  # fmt: skip
    seen = line.see()
    assert (seen.unit, seen.done, seen.expected) == ("stages", 1, 2)
    assert text(seen).splitlines()[2:] == [
        f"? Is it good? {HOSTILE} — it waits for you: run.cases.decide('extract', 'pass' or 'reject')",
        "  1 ✓ extract  1.0 s",
        "  2 ? extract.gate  waits for a person",
        "  3 ○ load  waiting",
    ]
    page = card(seen)
    assert "run.cases.decide(&#x27;extract&#x27;, &#x27;pass&#x27;)" in page
    assert "<script" not in page
    assert "<svg" not in page
    line.write(
        VerdictGiven(case_id="extract", number=1, verdict="pass", decider_kind="HUMAN", decider="eve", note="fine"),
        StageReviewed(node="extract", task_id="extract", verdict="pass", by="eve", reason="fine", then="accepted"),
    )
    seen = line.see()
    assert seen.work.questions == ()
    assert "  2 ✓ extract.gate  pass by eve: fine" in text(seen).splitlines()


def test_cases_that_hold_nothing_up_are_counted_and_not_listed(works):
    line = works("map_reduce")
    options = ("same", "different")
    for n in range(436):
        line.write(
            CaseFlagged(case_id=f"c-{n}", kind="link", question="One person?", options=options, flagged_by="link")
        )
    seen = line.see()
    assert (seen.work.questions, seen.work.flagged) == ((), 436)
    assert "? 436 cases can be decided: run.cases.panel()" in text(seen).splitlines()
    page = card(seen)
    assert page.count("run.cases") == 1
    assert "436 cases can be decided." in page
    line.write(
        VerdictGiven(case_id="c-7", number=1, verdict="same", decider_kind="HUMAN", decider="eve"),
        *(CaseWithdrawn(case_id=f"c-{n}", reason="asked no more") for n in range(8, 436)),
    )
    assert "? 7 cases can be decided: run.cases.panel()" in text(line.see()).splitlines()


def test_a_gate_says_what_it_said_and_what_it_stops_has_failed(works):
    line = works("pipeline")
    line.add("extract", kind="stage")
    line.add("load", "extract", kind="stage")
    line.complete("extract")
    line.add("extract.gate", "extract", kind="gate", waits=False)
    line.complete("extract.gate")
    line.write(StageReviewed(node="extract", task_id="extract", verdict="fail", reason="too few", by="check",
                             then="revised"))  # fmt: skip
    line.add("extract~2", kind="stage")
    assert "  2 ✗ extract.gate  rejected · 1.0 s: fail by check: too few" in text(line.see()).splitlines()
    line.complete("extract~2")
    line.write(
        StageReviewed(node="extract", task_id="extract~2", verdict="fail", reason="none", by="check", then="failed"),
        TasksCancelled(task_ids=("load",), reason="not started: it depends on task extract~2, which did not pass"),
    )
    assert line.states() == {"extract": "failed", "extract.gate": "rejected", "load": "blocked"}
    (story,) = line.see().work.stories
    assert (story.task_id, story.error, story.blocked) == ("extract~2", "none", ("load",))


def test_what_a_supervisor_said_stands_at_the_node(works):
    supervised = works("supervisor")
    supervised.add("api")
    supervised.complete("api")
    supervised.write(StageReviewed(node="api", task_id="api", verdict="pass", by="boss", then="accepted"))
    assert "  1 ✓ api  1.0 s: pass by boss" in text(supervised.see()).splitlines()


def test_what_a_worker_gave_back_untried_is_no_try(works):
    dag = works("dag")
    dag.add("api")
    dag.begin("api")
    dag.write(TasksReleased(worker_id="w", reason="recalled for an idle worker", tasks=(("api", 1, dag._fence),)))
    dag.begin("api", attempt=2)
    (node,) = dag.see().work.nodes
    assert node.attempts == 1
    assert "try" not in card(dag.see())


def test_many_tasks_are_counted_by_level(works):
    reduction = works("map_reduce", items=4)
    for place in range(4):
        reduction.add(f"item-{place:06d}-a{place}", kind="item")
    for name, *after in (("reduce-l01-n0000", "item-000000-a0"), ("reduce-l01-n0001", "item-000002-a2")):
        reduction.add(name, *after, kind="reduce")
    reduction.add("reduce-l02-n0000", "reduce-l01-n0000", kind="reduce")
    reduction.complete("item-000000-a0")
    reduction.fail("item-000001-a1", "ValueError: bad byte", traceback='File "<i>.py", line 7')
    seen = reduction.see()
    assert [(level.name, dict(level.states)) for level in seen.work.levels] == [
        ("item", {"completed": 1, "failed": 1, "queued": 2}),
        ("reduce-l01", {"waiting": 2}),
        ("reduce-l02", {"waiting": 1}),
    ]
    assert [(story.task_id, story.last_words.traceback) for story in seen.work.stories] == [
        ("item-000001-a1", 'File "<i>.py", line 7')
    ]
    assert "item: 4 · 1 completed, 2 about to start, 1 failed" in text(seen).splitlines()
    assert "&lt;i&gt;.py&quot;, line 7" in card(seen)


def test_items_of_shards_are_counted_by_shard(works):
    queue = works("sharded_queue", items=5, shards=2)
    for place in range(5):
        queue.add(f"item-{place:06d}", kind="item")
    queue.complete("item-000002")
    queue.add("reduce-shard-001", kind="reduce")
    assert [(level.name, dict(level.states)) for level in queue.see().work.levels] == [
        ("shard-000", {"queued": 2}), ("shard-001", {"queued": 2, "completed": 1}), ("reduce-shard", {"queued": 1}),
    ]  # fmt: skip
    assert queue.see().expected == 6


def test_what_was_done_again_is_counted_once_as_it_stands_now(works):
    queue = works("sharded_queue", items=4, shards=2)
    for name in ("item-000000", "item-000001", "item-000002", "item-000003~2", "item-000003", "item-000003~3"):
        queue.add(name, kind="item")
    queue.fail("item-000003", "ValueError: first")
    queue.fail("item-000003~2", "ValueError: second")
    queue.fail("item-000001", "ValueError: bad")
    for name in ("reduce-shard-001", "reduce-shard-001~2", "reduce-final~2"):
        queue.add(name, kind="reduce")
    seen = queue.see()
    assert [(level.name, dict(level.states)) for level in seen.work.levels] == [
        ("shard-000", {"queued": 1, "failed": 1}), ("shard-001", {"queued": 2}),
        ("reduce-final", {"queued": 1}), ("reduce-shard", {"queued": 1}),
    ]  # fmt: skip
    assert [story.task_id for story in seen.work.stories] == ["item-000001"]
    assert [(each.count, each.example) for each in seen.failures] == [(1, "item-000001")]


def test_a_run_that_ended_keeps_its_durations(works):
    dag = works("dag")
    dag.add("api")
    dag.complete("api", took=3.0)
    dag.write(RunEnded(status="completed", reason="done"))
    dag.clock.advance(1e6)
    assert "  1 ✓ api  3.0 s" in text(dag.see()).splitlines()


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_a_graph_is_one_picture_that_runs_nothing_of_a_strangers(works):
    dag = works("dag")
    dag.add(f"a{HOSTILE}")
    dag.add("b", f"a{HOSTILE}")
    dag.complete(f"a{HOSTILE}")
    panel = Panel(dag.see(), {})
    shown = panel._work.value
    assert "<script" not in shown
    picture = ElementTree.fromstring(shown[shown.index("<svg") : shown.index("</svg>") + 6])
    assert len(picture.findall("g")) == 2
    assert len(picture.findall("path")) == 1
    assert next(each.text for each in picture.iter("text")) == "✓"
    panel.close()


def test_where_a_clock_does_not_move_nothing_is_sent(works):
    dag = works("dag")
    dag.add("api")
    dag.begin("api")
    panel = Panel(dag.see(), {})
    sent: list[str] = []
    panel._work.observe(lambda change: sent.append(change["name"]))
    dag.clock.advance(0.3)
    panel.show(dag.see())
    assert sent == []
    dag.clock.advance(1.0)
    panel.show(dag.see())
    assert sent == ["value"]
    panel.close()


def test_many_nodes_are_folded_by_team_or_layer():
    chain = [Node(f"n{i}", "node", "completed", (f"n{i - 2}",) if i > 1 else ()) for i in range(6)]
    assert [(level.name, level.size) for level in folded(chain)] == [("layer 1", 2), ("layer 2", 2), ("layer 3", 2)]
    teams = [Node(f"{team}.{name}", "node", "waiting") for team in ("web", "db") for name in "abc"]
    assert [(level.name, level.size) for level in folded([*teams, Node("merge", "merge", "waiting")])] == [
        ("web", 3), ("db", 3), ("merge", 1),
    ]  # fmt: skip


def test_a_graph_of_too_many_nodes_is_counted(works):
    dag = works("dag")
    lines = tuple(
        TaskLine(task_id=f"n{i}", kind="node", lane="process", entry="e", payload=VALUE) for i in range(MOST_NODES + 1)
    )
    dag.write(TasksSubmitted(tasks=lines))
    assert f"layer 1: {MOST_NODES + 1} about to start" in text(dag.see()).splitlines()
    assert 'aria-label="tasks and what' not in card(dag.see())


def graphs(most: int = 40) -> st.SearchStrategy[list[Node]]:
    def build(sizes: list[list[int]]) -> list[Node]:
        return [
            Node(f"n{i}", "node", "waiting", tuple(dict.fromkeys(f"n{j % i}" for j in picks)) if i else ())
            for i, picks in enumerate(sizes)
        ]

    return st.lists(st.lists(st.integers(0, 100), max_size=4), min_size=1, max_size=most).map(build)


@given(graphs())
def test_every_node_stands_behind_what_it_depends_on_and_is_drawn_once(nodes):
    place = {node.node_id: column for column, layer in enumerate(layers(nodes)) for node in layer}
    assert place.keys() == {node.node_id for node in nodes}
    assert all(place[name] < place[node.node_id] for node in nodes for name in node.depends_on)
    drawn = ElementTree.fromstring(graph(nodes, 0.0))
    boxes = [box.attrib for box in drawn.iter("rect")]
    assert len(boxes) == len(nodes)
    assert len({(box["x"], box["y"]) for box in boxes}) == len(nodes)
    assert len(drawn.findall("path")) == sum(len(others) for others in _edges(nodes).values())
    left = {title.text.split(" ")[0]: float(g.find("rect").attrib["x"]) for g in drawn.iter("g")
            if (title := g.find("title")) is not None}  # fmt: skip
    assert all(left[name] < left[node.node_id] for node in nodes for name in node.depends_on)


@given(graphs(most=12))
def test_an_edge_is_left_out_where_others_imply_it_and_nowhere_else(nodes):
    def reach(edges):
        found = {}
        for node in nodes:  # each depends on earlier ones alone
            found[node.node_id] = set().union(*({name} | found[name] for name in edges[node.node_id]))
        return found

    all_edges = {node.node_id: list(node.depends_on) for node in nodes}
    drawn = _edges(nodes)
    assert reach(drawn) == reach(all_edges)
    for name, others in drawn.items():
        for other in others:
            assert reach(drawn | {name: [each for each in others if each != other]}) != reach(drawn)


def test_a_circle_of_a_damaged_journal_is_shown_without_its_edges():
    nodes = [Node("a", "node", "waiting", ("b",)), Node("b", "node", "waiting", ("a",)), Node("c", "node", "waiting")]
    assert [[node.node_id for node in layer] for layer in layers(nodes)] == [["c"], ["a", "b"]]
    assert len(ElementTree.fromstring(graph(nodes, 0.0)).findall("g")) == 3


def test_a_run_that_is_still_being_planned_shows_that():
    from epsilon_lab.views.workflow import TaskRow

    planning = [TaskRow("decompose", "decompose", "running", 1)]
    assert [node.node_id for node in nodes_of(planning)] == ["decompose"]
    assert [node.node_id for node in nodes_of([*planning, TaskRow("api", "node", "queued", 0)])] == ["api"]


def test_a_box_is_wide_enough_for_what_is_said_of_its_node():
    def width(**times):
        drawn = ElementTree.fromstring(graph([Node("a", "node", "cancelled", **times)], 0.0))
        return float(drawn.find("g").find("rect").attrib["width"])

    assert width(started_at=0.0, finished_at=155.0) > width(started_at=0.0, finished_at=9.8) > width()
