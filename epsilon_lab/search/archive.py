"""Every candidate of a run, and the scored ones in order.

The order is total (score, then the seed program, then generation and id), so that two archives with the same rows rank
them alike whatever order the rows came in. Keeping it costs one insertion a candidate: a search of ten thousand is as
fast as one of ten.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from epsilon_lab.ids import SEED_CANDIDATE
from epsilon_lab.messages.events import CandidateSettled
from epsilon_lab.search.context import Direction


class Archive:
    """Candidates by id, and ranked.

    Args:
        direction: `maximize` or `minimize`.
    """

    def __init__(self, direction: Direction) -> None:
        self._sign = -1.0 if direction == "maximize" else 1.0
        self._rows: dict[str, CandidateSettled] = {}
        self._order: list[tuple[float, int, str]] = []
        self._by_hash: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, candidate_id: str) -> bool:
        return candidate_id in self._rows

    def __iter__(self) -> Iterator[CandidateSettled]:
        return iter(self._rows.values())

    def __getitem__(self, candidate_id: str) -> CandidateSettled:
        return self._rows[candidate_id]

    def add(self, row: CandidateSettled) -> None:
        """Take a candidate in; each id once."""
        if row.candidate_id in self._rows:
            raise ValueError(f"candidate {row.candidate_id} is in the archive already")
        self._rows[row.candidate_id] = row
        self._rank(row)
        if row.code_hash is not None and row.outcome != "duplicate":
            self._by_hash.setdefault(row.code_hash, row.candidate_id)

    def _rank(self, row: CandidateSettled) -> None:
        if (place := self._place(row)) is not None:
            bisect.insort(self._order, place)

    def _place(self, row: CandidateSettled) -> tuple[float, int, str] | None:
        if row.outcome != "scored" or row.score is None:
            return None
        age = -1 if row.candidate_id == SEED_CANDIDATE else row.generation
        return (self._sign * row.score, age, row.candidate_id)

    def replace(self, row: CandidateSettled) -> None:
        """Put another row in the place of a candidate's; its program stays known as its own."""
        if (place := self._place(self._rows[row.candidate_id])) is not None:
            del self._order[bisect.bisect_left(self._order, place)]
        self._rows[row.candidate_id] = row
        self._rank(row)

    def twin_of(self, code_hash: str) -> str | None:
        """The id of the candidate that has this program already."""
        return self._by_hash.get(code_hash)

    def ranked(self, limit: int | None = None) -> list[CandidateSettled]:
        """Scored candidates, best first."""
        return [self._rows[candidate_id] for _, _, candidate_id in self._order[:limit]]

    @property
    def leader(self) -> CandidateSettled | None:
        """The best score, checked or not."""
        return self._rows[self._order[0][2]] if self._order else None

    @property
    def best(self) -> CandidateSettled | None:
        """The best score that passed its check."""
        return next((row for row in map(self._row, self._order) if row.checked), None)

    def _row(self, place: tuple[float, int, str]) -> CandidateSettled:
        return self._rows[place[2]]
