"""A run at a glance: one frozen value that every view is made from, read from the tables like everything else.

Looking is cheap where nothing happened: the candidates are read again only when the journal has grown, and a program
only when there is a new best. Where a search is so large that looking takes its time, a live run is looked at less
often: whoever watches takes at most a tenth of a processor from whoever works.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from epsilon_lab.clock import Clock, SystemClock
from epsilon_lab.errors import InvalidInput
from epsilon_lab.search.sources import diff
from epsilon_lab.topologies.controls import CONTROL_OF, JUDGED
from epsilon_lab.views.curve import LIVE, Arm, Curve, Point, Versus, curve
from epsilon_lab.views.work_tables import read_work
from epsilon_lab.views.workflow import Workflow
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.outputs import superseded
from epsilon_lab.workspace.tables import Tables

RECENT_S = 10.0
"""Seconds over which a live run's throughput is taken."""

_POINT = f"candidate_id, generation, coalesce(strategy, ''), score, outcome, checked, {JUDGED}"


@dataclass(frozen=True)
class Best:
    """The best candidate that passed its check."""

    candidate_id: str
    score: float
    source: str = ""
    parent_id: str | None = None
    diff: str = ""
    """Unified, from the parent; empty for the seed program."""


@dataclass(frozen=True)
class Failures:
    """Candidates or tasks that came to nothing in the same way."""

    outcome: str
    count: int
    example: str
    """Id of the first."""

    error: str
    """Its error."""


@dataclass(frozen=True)
class Usage:
    """What models were asked; replies used again and requests that never went out do not count."""

    calls: int
    tokens: int
    cost_usd: float
    """Of the calls whose price is known."""

    unpriced: int
    """Calls whose price is not."""

    budget: Mapping[str, float] = field(default_factory=dict)
    """What may be spent: `calls`, `tokens`, `usd`, as far as they are limited."""


@dataclass(frozen=True)
class RunSnapshot:
    """A run at one moment."""

    run_id: str
    name: str
    topology: str
    status: str
    reason: str = ""
    tasks: Mapping[str, int] = field(default_factory=dict)
    """Task status -> how many."""

    picked: str = ""
    """The topology that was picked for it, and why; empty where its user did."""

    unit: str = "tasks"
    """What is counted: `candidates` in a search, `nodes` of a graph, `stages` of a list, else `tasks`."""

    done: int = 0
    expected: int | None = None
    """How many there will be at most, where that is known."""

    per_s: float = 0.0
    """Units settled a second, over the last ten seconds; over its whole time once the run is over."""

    elapsed_s: float | None = None
    """Since it was started, without the time during which no lab was at it."""

    generation: int | None = None
    """The one under way, counted from 0."""

    generations: int | None = None
    curve: Curve | None = None
    """None where nothing is scored."""

    versus: Versus | None = None
    """The search beside its controls, seen from either; None where there are none."""

    best: Best | None = None
    work: Workflow | None = None
    """Its tasks; None for a search, whose candidates they are about."""

    failures: tuple[Failures, ...] = ()
    usage: Usage | None = None

    @property
    def is_live(self) -> bool:
        """Whether it may still change."""
        return self.status in LIVE


class Observer:
    """Takes snapshots of one run, live or past."""

    def __init__(self, tables: Tables, run: RunDirectory, *, clock: Clock | None = None) -> None:
        self._tables = tables
        self._run = run
        self._clock = clock or SystemClock()
        self._guard = threading.Lock()
        self._position = -1
        self._look_again = 0.0
        self._last = RunSnapshot(run.run_id, run.run_id, "", "running")
        self._best = ("", Best("", 0.0))
        self._config: dict[str, Any] = {}
        self._arms: dict[str, tuple[int, Arm]] = {}

    def __call__(self) -> RunSnapshot:
        """Look at the run.

        Raises:
            LabError: The tables are closed.
        """
        with self._guard:
            return self._observe()

    def _observe(self) -> RunSnapshot:
        position = self._tables.position(self._run.run_id)
        rows = self._rows("select name, topology, status, reason, epoch(started_at), epoch(ended_at), idle_s from runs")
        if not rows:
            return self._last
        name, topology, status, reason, started_at, ended_at, idle_s = rows[0]
        now = self._clock.wall()
        lives = status in LIVE
        began = self._clock.monotonic()
        if position != self._position and (began >= self._look_again or not lives):
            self._look(topology)
            self._position = position
            self._look_again = began + 10 * (self._clock.monotonic() - began)
        counts = self._rows(
            "select status, count(*), count(*) filter (epoch(finished_at) > $since), epoch(max(finished_at)) "
            "from tasks",
            "group by status",
            since=now - RECENT_S,
        )
        until = now if lives else ended_at or max((row[3] for row in counts if row[3]), default=started_at)
        elapsed = max(0.0, until - started_at - idle_s)
        tasks = {row[0]: row[1] for row in counts}
        snapshot = replace(
            self._last,
            name=name,
            topology=topology,
            status=status,
            reason=reason or "",
            tasks=tasks,
            elapsed_s=elapsed,
        )
        recent = sum(row[2] for row in counts)
        if (work := snapshot.work) is not None:
            snapshot = replace(snapshot, work=replace(work, at=until))
        if work is not None and work.nodes:
            counted = [node for node in work.nodes if node.kind != "gate"]
            done, unit = sum(node.is_done for node in counted), "stages" if work.is_list else "nodes"
            snapshot = replace(snapshot, unit=unit, done=done, expected=len(counted))
        elif snapshot.unit == "tasks":
            done = sum(count for state, count in tasks.items() if state not in ("waiting", "queued", "running"))
            snapshot = replace(snapshot, done=done, expected=max(self._config.get("items") or 0, sum(tasks.values())))
        else:
            ((recent,),) = self._rows(
                "select count(*) from candidates", "and epoch(created_at) > $since", since=now - RECENT_S
            )
        per_s = recent / min(RECENT_S, max(elapsed, 1.0)) if lives else snapshot.done / elapsed if elapsed else 0.0
        self._last = replace(snapshot, per_s=per_s, versus=self._versus(status) if snapshot.curve else None)
        return self._last

    def _look(self, topology: str) -> None:
        """Read what only changes when the journal grows."""
        ((config,),) = self._rows("select config from runs")
        self._config = msgspec.json.decode(config) if config else {}
        changes: dict[str, Any] = {"usage": self._usage(), "picked": str(self._config.get("auto") or "")}
        if topology == "population_search":
            changes |= {"failures": self._failures(topology), **self._search()}
        else:
            work = changes["work"] = read_work(topology, self._config, self._rows)
            changes["failures"] = () if work.nodes else self._failures(topology)
        self._last = replace(self._last, **changes)

    def _search(self) -> dict[str, Any]:
        rows = self._rows(
            f"select {_POINT} from candidates"  # noqa: S608 - our own names
        )
        points = list(map(Point._make, rows))
        drawn = self._curve(points)
        closed = self._rows("select max(generation) from generations")[0][0]
        generations, population = self._config.get("generations"), self._config.get("population")
        expected = None
        if isinstance(self._config.get("evaluations"), int):  # they end it, long before its generations would
            generations, expected = None, 1 + int(self._config["evaluations"])
            closed = max((point.generation for point in points), default=0) - 1
        elif isinstance(generations, int) and isinstance(population, int):
            expected = 1 + population + (generations - 1) * (population - int(self._config.get("elites") or 0))
        generation = 0 if closed is None else closed + 1
        return {
            "unit": "candidates",
            "done": len(points),
            "expected": expected,
            "generation": generation if generations is None else min(generation, generations - 1),
            "generations": generations,
            "curve": drawn,
            "best": self._best_of(points, drawn),
        }

    def _curve(self, points: Iterable[Point]) -> Curve:
        return curve(
            points,
            direction=str(self._config.get("direction") or "maximize"),
            best_known=self._config.get("best_known"),
        )

    def _versus(self, status: str) -> Versus | None:
        """Only a search that is over has controls, and only then is it worth asking every run whose they are."""
        own = self._run.run_id
        if search := self._config.get(CONTROL_OF):
            arm = self._arm(str(search))
            return Versus(arm, self._arm(own)) if arm.curve.size else None  # its directory may have been left behind
        if status in LIVE:
            return None
        rows = self._tables.rows(
            f"select run_id from runs where config ->> '{CONTROL_OF}' = $run "  # noqa: S608 - our own name
            "order by started_at desc, run_id limit 1",
            {"run": own},
        )
        return Versus(self._arm(own), self._arm(rows[0][0])) if rows else None

    def _arm(self, run_id: str) -> Arm:
        position = self._tables.position(run_id)
        known = self._arms.get(run_id)
        if known is None or known[0] != position:
            rows = self._rows(f"select {_POINT} from candidates", run=run_id)  # noqa: S608 - our own names
            status = self._rows("select status from runs", run=run_id)
            points = (point for point in map(Point._make, rows) if point.judged)
            known = (position, Arm(run_id, status[0][0] if status else "", self._curve(points)))
            self._arms[run_id] = known
        return known[1]

    def _best_of(self, points: list[Point], drawn: Curve) -> Best | None:
        checked = [p for p in points if p.checked and p.outcome == "scored" and p.score is not None]
        if not checked:
            return None
        sign = 1 if drawn.direction == "minimize" else -1
        first = min(checked, key=lambda p: (sign * (p.score or 0), p.generation, p.candidate_id))
        known, best = self._best
        if known != first.candidate_id or best.score != first.score:
            best = self._read(first.candidate_id, float(first.score or 0))
            self._best = (first.candidate_id, best)
        return best

    def _read(self, candidate_id: str, score: float) -> Best:
        rows = self._rows(
            "select source_ref, parent_ids from candidates", "and candidate_id = $candidate", candidate=candidate_id
        )
        ref, parents = rows[0]
        source = self._text(ref)
        parent = next(iter(msgspec.json.decode(parents or "[]") or ()), None)
        if parent is None and candidate_id != "seed":
            parent = "seed"  # written from the problem alone: the seed program is what it departs from
        if parent is None:
            return Best(candidate_id, score, source)
        before = self._rows("select source_ref from candidates", "and candidate_id = $candidate", candidate=parent)
        text = self._text(before[0][0]) if before else ""
        return Best(
            candidate_id, score, source, parent, diff(text, source, before_name=parent, after_name=candidate_id)
        )

    def _text(self, ref: str | None) -> str:
        try:
            return self._run.read_text(ref) if ref else ""
        except (OSError, InvalidInput):  # a run directory may be a partial copy
            return ""

    def _failures(self, topology: str) -> tuple[Failures, ...]:
        if topology == "population_search":
            rows = self._rows(
                "select outcome, count(*), first(candidate_id order by created_at, candidate_id), "
                "first(error order by created_at, candidate_id) from candidates",
                "and outcome not in ('scored', 'duplicate') group by outcome order by 2 desc, 1",
            )
        else:
            rows = self._rows(
                "select status, count(*), first(task_id order by finished_at, task_id), "
                "first(error order by finished_at, task_id) from tasks",
                f"and status in ('failed', 'dead', 'cancelled') and not {superseded()} "
                "group by status order by 2 desc, 1",
            )
        return tuple(Failures(outcome, count, example, error or "") for outcome, count, example, error in rows)

    def _usage(self) -> Usage | None:
        ((calls, tokens, cost, unpriced),) = self._rows(
            "select count(*), coalesce(sum(prompt_tokens + completion_tokens), 0), coalesce(sum(cost_usd), 0), "
            "count(*) filter (cost_usd is null) from llm_calls",
            "and outcome not in ('cached', 'refused')",
        )
        given = self._config.get("budget") or {}
        budget = {name: given[name] for name in ("calls", "tokens", "usd") if name in given}
        return Usage(calls, int(tokens), float(cost), unpriced, budget) if calls or budget else None

    def _rows(self, select: str, rest: str = "", run: str | None = None, **params: object) -> list[tuple[Any, ...]]:
        run_id = run or self._run.run_id
        query = f"{select} where run_id = $run {rest}"
        return self._tables.rows(query, {"run": run_id, **params}, run_id=run_id)
