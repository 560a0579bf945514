"""A candidate as a reader sees it: its row, and its files on demand."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from epsilon_lab.ids import SEED_CANDIDATE
from epsilon_lab.processes.account import printable
from epsilon_lab.search.sources import diff
from epsilon_lab.workspace.layout import RunDirectory

if TYPE_CHECKING:
    import pandas as pd

_LINEAGE = ["candidate_id", "generation", "strategy", "parent_ids", "code_hash", "outcome", "score", "duplicate_of"]


class Candidate:
    """One candidate program.

    Attributes:
        candidate_id: `seed`, or `gGGG-cNNN`.
        score: Its score; None where the outcome is not `scored`.
        outcome: What judging said.
        parents: Ids of the programs it was made from.
        row: The whole row, as in `run.candidates`, with a `score_<name>` for each further score of its own.
    """

    def __init__(self, directory: RunDirectory, row: Mapping[Any, Any]) -> None:
        self._directory = directory
        self.row = dict(row)
        self.candidate_id = str(row["candidate_id"])
        self.outcome = str(row["outcome"])
        self.generation = int(row["generation"])
        self.strategy = str(row["strategy"])
        self.parents: tuple[str, ...] = tuple(row["parent_ids"] or ())
        self.checked: bool | None = _or_none(row["checked"])
        self.score: float | None = _or_none(row["score"])
        self.error = _or_none(row["error"]) or ""
        self.traceback = _or_none(row["traceback"]) or ""
        self.stdout = _or_none(row["stdout"]) or ""

    @property
    def source(self) -> str:
        """The program; empty where none was proposed."""
        return self._text("source_ref")

    @property
    def prompt(self) -> str:
        """What a model was asked; empty where none was."""
        return self._text("prompt_ref")

    @property
    def reply(self) -> str:
        """What a model answered; empty where none did."""
        return self._text("reply_ref")

    def diff(self, other: str | None = None) -> str:
        """Compare with a parent, as a unified diff.

        Args:
            other: Id of another candidate of the run; None for the first parent, or the seed program.
        """
        if other is None:
            other = self.parents[0] if self.parents else SEED_CANDIDATE
        before = self._directory.read_text(f"candidates/{other}.py")
        return diff(before, self.source, before_name=other, after_name=self.candidate_id)

    def _text(self, column: str) -> str:
        ref = _or_none(self.row.get(column))
        return "" if ref is None else self._directory.read_text(ref)

    def __repr__(self) -> str:
        score = "" if self.score is None else f", score {self.score:.6g}"
        return f"<Candidate {self.candidate_id}: {self.outcome}{score}>"

    def _repr_html_(self) -> str:
        return f"{html.escape(repr(self))}<pre>{html.escape(printable(self.source))}</pre>"


def _or_none(value: Any) -> Any:
    """Turn pandas' ways of saying nothing into None."""
    return None if value is None or value != value or str(value) == "<NA>" else value


def lineage(candidates: pd.DataFrame) -> pd.DataFrame:
    """Cut a candidates frame down to who came from whom."""
    return candidates[_LINEAGE].reset_index(drop=True)
