"""The tables a reader sees, said once: what a row is, its columns and types, what identifies it, and its order.

Column types are DuckDB's. A timestamp is UTC without a zone. Absent text is NULL, never an empty string.

Nothing of a run outlives its end: with it, tasks that never settled and attempts still open become `cancelled`. A run
that was interrupted has no end: attempts that were open are `lost`, without a time, which nobody knows, and their tasks
are `queued` again. What it was then left alone for, until a lab resumed it, is `runs.idle_s`, in seconds.
"""

from __future__ import annotations

from typing import NamedTuple


class Table(NamedTuple):
    """One table."""

    row: str
    """What one row is."""

    columns: dict[str, str]
    """Column -> DuckDB type; `NOT NULL` is part of it."""

    key: tuple[str, ...]
    """Columns that identify a row: a newer row replaces an older one. Empty: rows are only ever added."""

    order: str
    """How a frame is sorted."""


class View(NamedTuple):
    """A table that is read out of others."""

    query: str
    of: tuple[str, ...]
    """The tables it is read out of."""


TABLES: dict[str, Table] = {
    "runs": Table(
        "a run",
        {
            "run_id": "VARCHAR NOT NULL",
            "topology": "VARCHAR NOT NULL",
            "name": "VARCHAR NOT NULL",
            "tags": "JSON",
            "status": "VARCHAR NOT NULL",
            "reason": "VARCHAR",
            "seed": "BIGINT",
            "config": "JSON",
            "started_at": "TIMESTAMP",
            "ended_at": "TIMESTAMP",
            "idle_s": "DOUBLE",
            "parent_run_id": "VARCHAR",
        },
        ("run_id",),
        "started_at, run_id",
    ),
    "tasks": Table(
        "a unit of work",
        {
            "run_id": "VARCHAR NOT NULL",
            "task_id": "VARCHAR NOT NULL",
            "kind": "VARCHAR",
            "leaf": "VARCHAR",
            "depends_on": "JSON",
            "priority": "BIGINT",
            "status": "VARCHAR NOT NULL",
            "attempts": "BIGINT NOT NULL",
            "worker_id": "VARCHAR",
            "trace_id": "VARCHAR",
            "enqueued_at": "TIMESTAMP",
            "started_at": "TIMESTAMP",
            "finished_at": "TIMESTAMP",
            "error": "VARCHAR",
            "output_ref": "VARCHAR",
            "lane": "VARCHAR",
        },
        ("run_id", "task_id"),
        "run_id, enqueued_at nulls last, task_id",
    ),
    "attempts": Table(
        "an execution of a task",
        {
            "run_id": "VARCHAR NOT NULL",
            "task_id": "VARCHAR NOT NULL",
            "attempt": "BIGINT",
            "fence": "BIGINT NOT NULL",
            "worker_id": "VARCHAR",
            "started_at": "TIMESTAMP",
            "ended_at": "TIMESTAMP",
            "outcome": "VARCHAR",
            "error": "VARCHAR",
            "traceback": "VARCHAR",
            "stdout_tail": "VARCHAR",
            "stderr_tail": "VARCHAR",
            "trace_id": "VARCHAR",
            "span_id": "VARCHAR",
        },
        ("run_id", "fence"),
        "run_id, fence",
    ),
    "artifacts": Table(
        "a file of a run directory",
        {
            "run_id": "VARCHAR NOT NULL",
            "task_id": "VARCHAR",
            "path": "VARCHAR NOT NULL",
            "kind": "VARCHAR",
            "sha256": "VARCHAR",
            "bytes": "BIGINT",
            "created_at": "TIMESTAMP",
        },
        ("run_id", "path"),
        "run_id, created_at, path",
    ),
    "candidates": Table(
        "a candidate program, the seed program and failed ones too",
        {
            "run_id": "VARCHAR NOT NULL",
            "candidate_id": "VARCHAR NOT NULL",
            "generation": "BIGINT NOT NULL",
            "island": "BIGINT NOT NULL",
            "strategy": "VARCHAR",
            "parent_ids": "JSON",
            "code_hash": "VARCHAR",
            "score": "DOUBLE",
            "scores": "JSON",
            "feedback": "JSON",
            "outcome": "VARCHAR NOT NULL",
            "error": "VARCHAR",
            "checked": "BOOLEAN",
            "scorer_hash": "VARCHAR",
            "duration_s": "DOUBLE",
            "cpu_s": "DOUBLE",
            "peak_mb": "DOUBLE",
            "proposer": "VARCHAR",
            "prompt_ref": "VARCHAR",
            "staleness": "BIGINT NOT NULL",
            "source_ref": "VARCHAR",
            "created_at": "TIMESTAMP",
            "reply_ref": "VARCHAR",
            "prompt_sha256": "VARCHAR",
            "duplicate_of": "VARCHAR",
            "isolation": "VARCHAR",
            "traceback": "VARCHAR",
            "stdout": "VARCHAR",
        },
        ("run_id", "candidate_id"),
        "run_id, generation, candidate_id <> 'seed', candidate_id",
    ),
    "generations": Table(
        "a closed generation",
        {
            "run_id": "VARCHAR NOT NULL",
            "generation": "BIGINT NOT NULL",
            "best": "DOUBLE",
            "best_id": "VARCHAR",
            "median": "DOUBLE",
            "top": "DOUBLE",
            "candidates": "BIGINT NOT NULL",
            "valid_share": "DOUBLE",
            "stall": "BIGINT NOT NULL",
            "elites": "JSON",
            "closed_at": "TIMESTAMP",
        },
        ("run_id", "generation"),
        "run_id, generation",
    ),
    "briefs": Table(
        "a version of a generation's brief",
        {
            "run_id": "VARCHAR NOT NULL",
            "generation": "BIGINT NOT NULL",
            "version": "BIGINT NOT NULL",
            "author": "VARCHAR",
            "text": "VARCHAR",
            "cited": "JSON",
            "created_at": "TIMESTAMP",
        },
        ("run_id", "generation", "version"),
        "run_id, generation, version",
    ),
    "llm_calls": Table(
        "a request to a model, whatever came of it",
        {
            "run_id": "VARCHAR NOT NULL",
            "task_id": "VARCHAR NOT NULL",
            "trace_id": "VARCHAR",
            "model": "VARCHAR",
            "prompt_tokens": "BIGINT",
            "completion_tokens": "BIGINT",
            "cost_usd": "DOUBLE",
            "latency_s": "DOUBLE",
            "cached": "BOOLEAN",
            "prompt_ref": "VARCHAR",
            "reply_ref": "VARCHAR",
            "outcome": "VARCHAR",
            "candidate_id": "VARCHAR",
            "call": "BIGINT",
            "prompt_sha256": "VARCHAR",
            "error": "VARCHAR",
            "created_at": "TIMESTAMP",
            "request": "VARCHAR NOT NULL",
            "span_id": "VARCHAR",
        },
        ("run_id", "task_id", "call", "request"),
        "run_id, created_at, task_id, call, request",
    ),
    "cases": Table(
        "a question that a run leaves to a decider",
        {
            "run_id": "VARCHAR NOT NULL",
            "case_id": "VARCHAR NOT NULL",
            "kind": "VARCHAR",
            "question": "VARCHAR",
            "options": "JSON",
            "evidence": "JSON",
            "flagged_by": "VARCHAR",
            "reason": "VARCHAR",
            "status": "VARCHAR NOT NULL",
            "role": "VARCHAR",
            "created_at": "TIMESTAMP",
            "key": "JSON",
            "score": "DOUBLE",
            "verdict": "VARCHAR",
            "decider_kind": "VARCHAR",
            "decider": "VARCHAR",
            "number": "BIGINT",
            "tasks": "JSON",
            "place": "BIGINT NOT NULL",
            "unsure": "JSON",
        },
        ("run_id", "case_id"),
        "run_id, place",
    ),
    "verdicts": Table(
        "a decision about a case, or the retraction of one; of those that live, the latest of the highest rank speaks",
        {
            "run_id": "VARCHAR NOT NULL",
            "case_id": "VARCHAR NOT NULL",
            "number": "BIGINT NOT NULL",
            "verdict": "VARCHAR",
            "decider_kind": "VARCHAR",
            "decider": "VARCHAR",
            "note": "VARCHAR",
            "ts": "TIMESTAMP",
            "supersedes": "BIGINT",
            "retracted": "BOOLEAN",
            "live": "BOOLEAN",
            "source": "VARCHAR",
            "roles": "JSON",
            "confidence": "DOUBLE",
        },
        ("run_id", "case_id", "number"),
        "run_id, ts, case_id, number",
    ),
    "tool_calls": Table(
        "a call of a tool by an agent's model",
        {
            "run_id": "VARCHAR NOT NULL",
            "task_id": "VARCHAR NOT NULL",
            "attempt": "BIGINT NOT NULL",
            "step": "BIGINT NOT NULL",
            "place": "BIGINT NOT NULL",
            "tool": "VARCHAR",
            "outcome": "VARCHAR",
            "duration_s": "DOUBLE",
            "provenance": "VARCHAR",
            "arguments": "VARCHAR",
            "result": "VARCHAR",
            "trace_id": "VARCHAR",
            "created_at": "TIMESTAMP",
            "result_sha256": "VARCHAR",
        },
        ("run_id", "task_id", "attempt", "step", "place"),
        "run_id, created_at, task_id, attempt, step, place",
    ),
    "workers": Table(
        "a worker that joined this workspace's lab",
        {
            "worker_id": "VARCHAR NOT NULL",
            "pid": "BIGINT",
            "host": "VARCHAR",
            "slots": "BIGINT",
            "lanes": "JSON",
            "joined_at": "TIMESTAMP",
            "left_at": "TIMESTAMP",
            "reason": "VARCHAR",
        },
        ("worker_id",),
        "joined_at, worker_id",
    ),
    "dead_letters": Table(
        "a task that took its workers down too often, and what became of each attempt",
        {
            "run_id": "VARCHAR NOT NULL",
            "task_id": "VARCHAR NOT NULL",
            "kind": "VARCHAR",
            "leaf": "VARCHAR",
            "attempts": "BIGINT NOT NULL",
            "worker_id": "VARCHAR",
            "finished_at": "TIMESTAMP",
            "error": "VARCHAR",
            "history": "JSON",
        },
        (),
        "run_id, finished_at, task_id",
    ),
    "messages": Table(
        "a message that was recorded: of a topic the last of each turn, of an address every one",
        {
            "run_id": "VARCHAR",
            "seq": "BIGINT NOT NULL",
            "ts": "TIMESTAMP",
            "topic": "VARCHAR",
            "recipient": "VARCHAR",
            "sender": "VARCHAR NOT NULL",
            "value": "JSON",
            "sent_at": "TIMESTAMP",
            "trace_id": "VARCHAR",
            "span_id": "VARCHAR",
            "epoch": "BIGINT NOT NULL",
        },
        (),
        "ts, topic, recipient, seq",
    ),
    "events": Table(
        "a line of a journal; the lab's own have no run_id",
        {
            "seq": "BIGINT NOT NULL",
            "ts": "TIMESTAMP",
            "run_id": "VARCHAR",
            "type": "VARCHAR NOT NULL",
            "body": "JSON",
        },
        (),
        "run_id nulls first, seq",
    ),
}
"""Every table there is, by name."""

VIEWS: dict[str, View] = {
    "dead_letters": View(
        """
        select tasks.run_id, tasks.task_id, any_value(kind) as kind, any_value(leaf) as leaf,
            any_value(attempts) as attempts, any_value(tasks.worker_id) as worker_id,
            any_value(finished_at) as finished_at, any_value(tasks.error) as error,
            to_json(list({attempt: each.attempt, outcome: each.outcome, error: each.error, worker_id: each.worker_id}
                order by each.fence)) as history
        from tasks join attempts each using (run_id, task_id)
        where status = 'dead' group by tasks.run_id, tasks.task_id
        """,
        ("tasks", "attempts"),
    ),
}
"""Tables that are read out of others."""
