"""The leaderboard as files, for people and for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import msgspec

from epsilon_lab.messages.events import CandidateSettled

_COLUMNS = (
    "rank",
    "candidate_id",
    "generation",
    "strategy",
    "score",
    "checked",
    "parent_ids",
    "code_hash",
    "source_ref",
)


def _places(ranked: Sequence[CandidateSettled]) -> list[dict[str, object]]:
    return [
        {name: rank if name == "rank" else getattr(row, name) for name in _COLUMNS} | {"scores": row.scores}
        for rank, row in enumerate(ranked, 1)
    ]


def leaderboard_json(ranked: Sequence[CandidateSettled]) -> str:
    """Write scored candidates, best first, as a JSON list."""
    return msgspec.json.format(msgspec.json.encode(_places(ranked))).decode() + "\n"


def leaderboard_csv(ranked: Sequence[CandidateSettled]) -> str:
    """Write scored candidates, best first, as CSV; parents are separated by spaces."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for place, row in zip(_places(ranked), ranked, strict=True):
        writer.writerow(place | {"parent_ids": " ".join(row.parent_ids)})
    return text.getvalue()
