"""Names of things, born here and nowhere else, so that an id read in a table says what it is.

Ids are plain strings at run time and distinct types to the checker.

A run is a trace in the sense of W3C Trace Context (level 1): its trace id and the ids of its spans are hashes of names,
not drawn, so whoever knows a run, a task and an attempt knows their ids, on any machine, before and after a restart.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any, NewType

import msgspec

RunId = NewType("RunId", str)
"""`<slug>-<yyyymmdd>-<hhmmss>-<4 hex>`; also the name of the run's directory."""

TaskId = NewType("TaskId", str)
"""Unique within a run: `item-000012`, `propose-g001-c003`, `evaluate-g001-c003`; a second go at one is a task of its
own, its *revision* `item-000012~2`."""

CandidateId = NewType("CandidateId", str)
"""Unique within a run: `seed`, or `gGGG-cNNN`."""

CaseId = NewType("CaseId", str)
"""Unique within a run: `c-` and 12 hex digits, or, of a gate, the task that it judges."""

PeerId = NewType("PeerId", str)
"""A party on the wire, `<session>/<member>`; in tables it is the `worker_id`."""

LOCAL, REMOTE = "local-", "remote-"
"""How the names of sessions begin: of one that ends with its broker, and of one that came from afar and does not."""

SEED_CANDIDATE = CandidateId("seed")


def candidate_id(generation: int, index: int) -> CandidateId:
    """The id of a generation's candidate: `g001-c003`."""
    return CandidateId(f"g{generation:03d}-c{index:03d}")


def revised(task_id: str, number: int) -> TaskId:
    """The id of a task's revision: of `api`, or any other of its revisions, `api` is the first, `api~2` the second."""
    return TaskId(f"{origin(task_id)}~{number}" if number > 1 else origin(task_id))


def origin(task_id: str) -> str:
    """The task that a revision is one of: `api` for `api~2`, and for `api`."""
    return task_id.partition("~")[0]


def revision(task_id: str) -> int:
    """Which revision a task is: 2 for `api~2`, 1 for `api`."""
    return int(task_id.partition("~")[2] or 1)


def further(task_id: str, number: int) -> TaskId:
    """The id of a task that another one asked for: `item-000012.1` is the first that `item-000012` asked for, and
    `item-000012.2-1` the first of its second revision.
    """
    again = f"{revision(task_id)}-" if revision(task_id) > 1 else ""
    return TaskId(f"{origin(task_id)}.{again}{number}")


def leaf_ref(task_id: str, fence: int) -> str:
    """Where the files of an attempt lie in the run directory, and what they are known by once it is accepted."""
    return f"leaves/{task_id}/{fence}"


def case_id(flagged_by: str, key: object) -> CaseId:
    """The id of a case: the same whenever and wherever the same one asks about the same thing, `c-` and 12 hex digits.

    Args:
        flagged_by: Who asks: the name of a reducer or detector.
        key: What it is about, plain JSON; the order of an object's fields does not matter.
    """
    name = msgspec.json.encode([flagged_by, key], order="sorted")
    return CaseId(f"c-{hashlib.sha256(name).hexdigest()[:12]}")


def name_of(function: Callable[..., Any]) -> str:
    """Name a function, or what is called like one, for people and for the ids of the cases that it flags: the same in
    every process, wherever it was defined.
    """
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]


def slug(text: str, *, limit: int = 40) -> str:
    """Reduce text to lower-case letters, digits and single hyphens, fit for a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-") or "run"


def run_id(name: str, *, stamp: str, salt: str) -> RunId:
    """Make a run's id from its name, a `yyyymmdd-hhmmss` stamp and a short random salt."""
    return RunId(f"{slug(name)}-{stamp}-{salt}")


def trace_id(run_id: str) -> str:
    """The trace that everything done for a run belongs to: 32 hex digits."""
    return hashlib.blake2b(run_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def span_id(run_id: str, task_id: str, *parts: str | int) -> str:
    """A step of a run's trace: 16 hex digits.

    Args:
        run_id: The run.
        task_id: The task.
        parts: Nothing for the task itself; the attempt for one execution of it; further names for a part of that.
    """
    path = "\0".join((run_id, task_id, *map(str, parts)))
    return hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def traceparent(run_id: str, task_id: str, *parts: str | int) -> str:
    """The header by which another system joins the trace at this step: `00-<trace id>-<span id>-01`."""
    return f"00-{trace_id(run_id)}-{span_id(run_id, task_id, *parts)}-01"
