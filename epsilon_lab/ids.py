"""Names of things, born here and nowhere else, so that an id read in a table says what it is.

Ids are plain strings at run time and distinct types to the checker.
"""

from __future__ import annotations

import re
from typing import NewType

RunId = NewType("RunId", str)
"""`<slug>-<yyyymmdd>-<hhmmss>-<4 hex>`; also the name of the run's directory."""

TaskId = NewType("TaskId", str)
"""Unique within a run: `item-000012`, `propose-g001-c003`, `evaluate-g001-c003`."""

CandidateId = NewType("CandidateId", str)
"""Unique within a run: `seed`, or `gGGG-cNNN`."""

PeerId = NewType("PeerId", str)
"""A party on the wire, `<session>/<member>`; in tables it is the `worker_id`."""

SEED_CANDIDATE = CandidateId("seed")


def candidate_id(generation: int, index: int) -> CandidateId:
    """The id of a generation's candidate: `g001-c003`."""
    return CandidateId(f"g{generation:03d}-c{index:03d}")


def slug(text: str, *, limit: int = 40) -> str:
    """Reduce text to lower-case letters, digits and single hyphens, fit for a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-") or "run"


def run_id(name: str, *, stamp: str, salt: str) -> RunId:
    """Make a run's id from its name, a `yyyymmdd-hhmmss` stamp and a short random salt."""
    return RunId(f"{slug(name)}-{stamp}-{salt}")
