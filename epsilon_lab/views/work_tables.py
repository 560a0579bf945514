"""A run's work read from the tables: whole where tasks have names, counted where they are many.

Only failures, waves of quality assurance and questions are read in full, and of failures only the first few: looking
at a hundred thousand items costs what grouping their rows costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from epsilon_lab.ids import origin, revision
from epsilon_lab.messages.events import QualityChecked, StageReviewed, TasksRevised
from epsilon_lab.views.workflow import (
    FAILED,
    INNER,
    Gate,
    Judgement,
    Level,
    Question,
    Review,
    Story,
    TaskRow,
    Workflow,
    judged,
    level_name,
    nodes_of,
    refused,
    stories_of,
    with_gates,
)

LISTS = ("pipeline",)
"""Topologies whose nodes follow one upon the other."""

GRAPHS = ("dag", "tree", "supervisor", *LISTS)
"""Topologies whose tasks have names that mean something."""

_JUDGED = ("pipeline", "supervisor")
"""Topologies in which someone judges each node."""

_STORIES = 8
_TAIL_LINES = 12

Rows = Callable[..., list[tuple[Any, ...]]]
"""(select, rest of the query after its `where`, **parameters) -> rows of the run."""


def read_work(topology: str, rows: Rows) -> Workflow:
    """Read the work of a run as it stands."""
    named = topology in GRAPHS
    tasks = _tasks(rows, "" if named else "and kind not in ('item', 'reduce')")
    questions = _questions(rows)
    reviews = _reviews([task for task in tasks if task.kind == "qa"], rows)
    if not named:
        levels, failed = _levels(rows)
        stories = _first_stories(rows) if failed else ()
        return Workflow(levels=levels, reviews=reviews, stories=stories, failed=failed, questions=questions)
    judgements = _judgements(rows) if topology in _JUDGED else {}
    nodes = judged(with_gates(nodes_of(refused(tasks, judgements)), _gates(rows)), judgements)
    return Workflow(
        nodes=nodes,
        is_list=topology in LISTS,
        reviews=reviews,
        stories=stories_of(nodes, feedback=_feedback(tasks, rows), stderr=lambda ids: _stderr(rows, ids)),
        failed=sum(node.state in FAILED for node in nodes),
        questions=questions,
    )


def _tasks(rows: Rows, rest: str) -> list[TaskRow]:
    found = rows(
        "select task_id, kind, status, attempts, depends_on, epoch(started_at), epoch(finished_at), error from tasks",
        f"{rest} order by task_id",
    )
    return [
        TaskRow(
            task_id, kind or "", status, attempts, tuple(msgspec.json.decode(others or "[]")), began, ended, error or ""
        )
        for task_id, kind, status, attempts, others, began, ended, error in found
    ]


def _levels(rows: Rows) -> tuple[tuple[Level, ...], int]:
    found = rows(
        "select kind, case when kind = 'item' then '' else regexp_replace(task_id, '[-.]?n?[0-9]+$', '') end as level, "
        "status, count(*), min(epoch(started_at)), max(epoch(finished_at)), min(task_id) from tasks",
        "group by kind, level, status order by kind <> 'item', level, status",
    )
    groups: dict[str, list[tuple[str, int, float | None, float | None]]] = {}
    failed = 0
    for kind, _, status, count, began, ended, example in found:
        if kind in INNER:
            continue
        groups.setdefault(level_name(kind, example), []).append((status, count, began, ended))
        failed += count if status in FAILED else 0
    levels = []
    for name, parts in groups.items():
        open_too = any(status in ("waiting", "queued", "running") for status, *_ in parts)
        levels.append(
            Level(
                name,
                {status: count for status, count, *_ in parts},
                min((began for *_, began, _ in parts if began is not None), default=None),
                None if open_too else max((ended for *_, ended in parts if ended is not None), default=None),
            )
        )
    return tuple(levels), failed


def _first_stories(rows: Rows) -> tuple[Story, ...]:
    found = rows(
        "select task_id, status, error, attempts from tasks",
        f"and status in ('failed', 'dead') and attempts > 0 order by finished_at, task_id limit {_STORIES}",
    )
    tails = _stderr(rows, [task_id for task_id, *_ in found])
    return tuple(
        Story(task_id, status, error or "", attempts, stderr_tail=tails.get(task_id, ""))
        for task_id, status, error, attempts in found
    )


def _stderr(rows: Rows, task_ids: Sequence[str]) -> Mapping[str, str]:
    found = rows(
        "select task_id, stderr_tail from attempts",
        "and list_contains($tasks, task_id) and stderr_tail is not null order by fence",
        tasks=list(task_ids),
    )
    return {task_id: "\n".join(tail.rstrip().splitlines()[-_TAIL_LINES:]) for task_id, tail in found}


def _questions(rows: Rows) -> tuple[Question, ...]:
    found = rows("select case_id, question, options from cases", "and status = 'open' order by created_at, case_id")
    return tuple(
        Question(case_id, question or "", tuple(map(str, msgspec.json.decode(options or "null") or ())))
        for case_id, question, options in found
    )


def _gates(rows: Rows) -> dict[str, Gate]:
    """The gates at which a person decides, by name; the last case of each speaks for it."""
    cases = rows("select case_id, flagged_by, status from cases", "and kind = 'gate' order by created_at, case_id")
    if not cases:
        return {}
    given = rows("select case_id, verdict, decider, note from verdicts", "and retracted is not true order by number")
    said = {case_id: (verdict, decider or "", note or "") for case_id, verdict, decider, note in given}
    return {
        name: Gate(origin(case_id), status == "open", *said.get(case_id, ("", "", "")))
        for case_id, name, status in cases
        if name and (status == "open" or case_id in said)
    }


def _judgements(rows: Rows) -> dict[str, Judgement]:
    """What was last said of each node."""
    found = {}
    for (body,) in rows("select body from events", "and type = 'stage.reviewed' order by seq"):
        said = msgspec.json.decode(body, type=StageReviewed)
        by, reason = f" by {said.by}" if said.by else "", f": {said.reason}" if said.reason else ""
        told = f"{said.verdict}{by}{reason}"
        found[said.node] = Judgement(said.task_id, said.verdict == "pass", told, said.then == "failed")
    return found


def _reviews(tasks: Sequence[TaskRow], rows: Rows) -> tuple[Review, ...]:
    """The waves: what each reported, and of one that did not, what became of its task."""
    if not tasks:
        return ()
    reports = {}
    for (body,) in rows("select body from events", "and type = 'stage.qa' order by seq"):
        report = msgspec.json.decode(body, type=QualityChecked)
        reports[report.wave] = report
    ordered = sorted(tasks, key=lambda task: revision(task.task_id))
    return tuple(_review(task, wave, reports.get(wave)) for wave, task in enumerate(ordered, 1))


def _review(task: TaskRow, wave: int, report: QualityChecked | None) -> Review:
    if report is None:
        return Review(task.task_id, wave, task.status, task.error)
    whose = {error: name for name, errors in report.assigned.items() for error in errors}
    errors = tuple(
        (str(error.get("node") or whose.get(str(error.get("id"))) or ""), str(error.get("description") or ""))
        for error in report.errors
    )
    return Review(task.task_id, wave, report.status, report.summary, errors)


def _feedback(tasks: Sequence[TaskRow], rows: Rows) -> dict[str, list[str]]:
    """What nodes were told between one go and the next."""
    if not any("~" in task.task_id for task in tasks):
        return {}
    told: dict[str, list[str]] = {}
    for (body,) in rows("select body from events", "and type = 'task.revised' order by seq"):
        for name, reasons in msgspec.json.decode(body, type=TasksRevised).feedback.items():
            told.setdefault(origin(name), []).extend(f"{reason.source}: {reason.text}" for reason in reasons)
    return told
