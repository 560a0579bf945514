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
    NO_WORDS,
    Gate,
    Judgement,
    LastWords,
    Level,
    Question,
    Review,
    Story,
    TaskRow,
    Workflow,
    judged,
    nodes_of,
    stories_of,
    with_gates,
)
from epsilon_lab.workspace.outputs import superseded

LISTS = ("pipeline",)
"""Topologies whose nodes follow one upon the other."""

GRAPHS = ("dag", "tree", "supervisor", *LISTS)
"""Topologies whose tasks have names that mean something."""

_JUDGED = ("pipeline", "supervisor")
"""Topologies in which someone judges each node."""

_MOST_SHARDS = 24
_STORIES = 8
_TAIL_LINES = 12

Rows = Callable[..., list[tuple[Any, ...]]]
"""(select, rest of the query after its `where`, **parameters) -> rows of the run."""


def read_work(topology: str, config: Mapping[str, Any], rows: Rows) -> Workflow:
    """Read the work of a run as it stands.

    Args:
        topology: Its topology.
        config: Its arguments, as they are on record.
        rows: Asks the tables.
    """
    named = topology in GRAPHS
    tasks = _tasks(rows, "" if named else "and kind not in ('item', 'reduce')")
    questions, flagged = _questions(rows), _flagged(rows)
    reviews = _reviews([task for task in tasks if task.kind == "qa"], rows)
    if not named:
        items, shards = (_whole(config.get(name)) for name in ("items", "shards"))
        levels, failed = _levels(rows, shards if shards <= _MOST_SHARDS else 0, items)
        stories = _first_stories(rows) if failed else ()
        return Workflow(
            levels=levels, reviews=reviews, stories=stories, failed=failed, questions=questions, flagged=flagged
        )
    judgements = _judgements(rows) if topology in _JUDGED else {}
    nodes = judged(with_gates(nodes_of(tasks), _gates(rows)), judgements)
    return Workflow(
        nodes=nodes,
        is_list=topology in LISTS,
        reviews=reviews,
        stories=stories_of(nodes, feedback=_feedback(tasks, rows), last_words=lambda ids: _last_words(rows, ids)),
        failed=sum(node.state in FAILED for node in nodes),
        questions=questions,
        flagged=flagged,
    )


def _tasks(rows: Rows, rest: str) -> list[TaskRow]:
    found = rows(
        "select task_id, kind, status, attempts, depends_on, epoch(started_at), epoch(finished_at), error from tasks",
        f"{rest} order by task_id",
    )
    returned = _returned(rows, [row[0] for row in found if row[3] > 1])
    return [
        TaskRow(
            task_id,
            kind or "",
            status,
            attempts - returned.get(task_id, 0),
            tuple(msgspec.json.decode(others or "[]")),
            began,
            ended,
            error or "",
        )
        for task_id, kind, status, attempts, others, began, ended, error in found
    ]


def _returned(rows: Rows, task_ids: Sequence[str]) -> Mapping[str, int]:
    """How often a worker gave tasks back without a try at them; what ended with its lab has no end on record."""
    wanted = "and list_contains($tasks, task_id) and outcome = 'lost' and ended_at is not null group by task_id"
    return dict(rows("select task_id, count(*) from attempts", wanted, tasks=list(task_ids))) if task_ids else {}


def _levels(rows: Rows, shards: int, items: int) -> tuple[tuple[Level, ...], int]:
    """Count tasks by level, items first, then in the order in which they were begun; one that was done again, once.

    Args:
        rows: Asks.
        shards: How many runs of neighbours the items belong to; 0 for none.
        items: How many items there are.
    """
    first = "split_part(task_id, '~', 1)"
    place = f"split_part({first}, '-', 2)::BIGINT"
    shard = f"printf('shard-%03d', (({place} + 1) * {shards} - 1) // {items})"  # as topologies/levels.py has it
    item = shard if shards and items else "'item'"
    found = rows(
        f"select case when kind = 'item' then {item} else "  # noqa: S608 - two whole numbers of ours
        f"regexp_replace({first}, '[-.]?n?[0-9]+$', '') end as level, kind, "
        "status, count(*), min(epoch(started_at)), max(epoch(finished_at)) from tasks",
        f"and not {superseded()} group by level, kind, status",
    )
    groups: dict[tuple[bool, str], list[tuple[str, int, float | None, float | None]]] = {}
    failed = 0
    for name, kind, status, count, began, ended in found:
        if kind in INNER:
            continue
        groups.setdefault((kind != "item", name or kind), []).append((status, count, began, ended))
        failed += count if status in FAILED else 0
    levels = [(is_reduced, _level(name, parts)) for (is_reduced, name), parts in groups.items()]
    never = float("inf")
    levels.sort(key=lambda each: (each[0], (each[1].started_at or never) if each[0] else 0.0, each[1].name))
    return tuple(level for _, level in levels), failed


def _level(name: str, parts: Sequence[tuple[str, int, float | None, float | None]]) -> Level:
    is_open = any(status in ("waiting", "queued", "running") for status, *_ in parts)
    return Level(
        name,
        {status: count for status, count, *_ in parts},
        min((began for *_, began, _ in parts if began is not None), default=None),
        None if is_open else max((ended for *_, ended in parts if ended is not None), default=None),
    )


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _first_stories(rows: Rows) -> tuple[Story, ...]:
    found = rows(
        "select task_id, status, error, attempts from tasks",
        f"and status in ('failed', 'dead') and attempts > 0 and not {superseded()} "
        f"order by finished_at, task_id limit {_STORIES}",
    )
    words = _last_words(rows, [task_id for task_id, *_ in found])
    returned = _returned(rows, [task_id for task_id, *_ in found])
    return tuple(
        Story(
            task_id, status, error or "", attempts - returned.get(task_id, 0), last_words=words.get(task_id, NO_WORDS)
        )
        for task_id, status, error, attempts in found
    )


def _last_words(rows: Rows, task_ids: Sequence[str]) -> Mapping[str, LastWords]:
    found = rows(
        "select task_id, traceback, stderr_tail from attempts",
        "and list_contains($tasks, task_id) and coalesce(traceback, stderr_tail) is not null order by fence",
        tasks=list(task_ids),
    )
    return {task_id: LastWords(*map(_tail, words)) for task_id, *words in found}


def _tail(text: str | None) -> str:
    return "\n".join((text or "").rstrip().splitlines()[-_TAIL_LINES:])


def _questions(rows: Rows) -> tuple[Question, ...]:
    found = rows(
        "select case_id, question, options from cases",
        "and status = 'open' and kind = 'gate' order by created_at, case_id",
    )
    return tuple(
        Question(case_id, question or "", tuple(map(str, msgspec.json.decode(options or "null") or ())))
        for case_id, question, options in found
    )


def _flagged(rows: Rows) -> int:
    return int(rows("select count(*) from cases", "and status = 'open' and kind <> 'gate'")[0][0])


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
        found[said.node] = Judgement(said.verdict == "pass", told)
    return found


def _reviews(tasks: Sequence[TaskRow], rows: Rows) -> tuple[Review, ...]:
    """The waves: what each reported, and of one that is under way or was cut short, what its task does.

    A wave may take more tasks than one, for want of a report, or none, where a product is known to lack a part.
    """
    if not tasks:
        return ()
    reports = rows("select body from events", "and type = 'stage.qa' order by seq")
    found = [_review(msgspec.json.decode(body, type=QualityChecked)) for (body,) in reports]
    last = max(tasks, key=lambda task: revision(task.task_id))
    if last.status not in ("completed", "failed", "dead"):
        found.append(Review(len(found) + 1, last.status, last.error))
    return tuple(found)


def _review(report: QualityChecked) -> Review:
    whose = {error: name for name, errors in report.assigned.items() for error in errors}
    errors = tuple(
        (str(error.get("node") or whose.get(str(error.get("id"))) or ""), str(error.get("description") or ""))
        for error in report.errors
    )
    return Review(report.wave, report.status, report.summary, errors)


def _feedback(tasks: Sequence[TaskRow], rows: Rows) -> dict[str, list[str]]:
    """What nodes were told between one go and the next."""
    if not any("~" in task.task_id for task in tasks):
        return {}
    told: dict[str, list[str]] = {}
    for (body,) in rows("select body from events", "and type = 'task.revised' order by seq"):
        for name, reasons in msgspec.json.decode(body, type=TasksRevised).feedback.items():
            told.setdefault(origin(name), []).extend(f"{reason.source}: {reason.text}" for reason in reasons)
    return told
