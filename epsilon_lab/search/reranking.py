"""What verdicts have changed in a search's ranking: before and after, and because of which cases.

Both are on record, so this looks twice at what there is: before the search is ranked anew, and after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from epsilon_lab.cases.finalisation import COLUMNS
from epsilon_lab.messages.events import CandidatesRuled
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.scan import START, scan

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ("candidate_id", "score", "source_ref")
"""What the best is told by."""


class Reranking:
    """A search before it is ranked anew.

    Args:
        run: Its directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._ranks, self._ruled = self._places(), self._rulings()

    def changes(self) -> pd.DataFrame:
        """What is another by now, in the columns of `finalisation.changes`: of each candidate that a verdict is about
        its place, with its task; and who is the best.
        """
        import pandas as pd  # noqa: PLC0415 - pandas loads when someone looks

        return pd.DataFrame(self._rows(), columns=list(COLUMNS), dtype=object)

    def _rows(self) -> list[tuple[str, str, Any, Any, list[str]]]:
        ranks, ruled = self._places(), self._rulings()
        turned = [name for name in sorted({*ruled, *self._ruled}) if ruled.get(name) != self._ruled.get(name)]
        cases = {name: sorted({each[name][1] for each in (self._ruled, ruled) if name in each}) for name in turned}
        rows: list[tuple[str, str, Any, Any, list[str]]] = []
        for name in turned:
            before, after = (each.get(name, {}).get("rank") for each in (self._ranks, ranks))
            if before != after:
                rows.append((f"evaluate-{name}", "rank", before, after, cases[name]))
        before, after = (next(filter(_is_checked, each.values()), {}) for each in (self._ranks, ranks))
        every = sorted({case_id for names in cases.values() for case_id in names})
        rows += [
            ("", key, before.get(key), after.get(key), every) for key in _SHOWN if before.get(key) != after.get(key)
        ]
        return rows

    def _places(self) -> dict[str, dict[str, Any]]:
        """The leaderboard, by candidate, the best first."""
        try:
            places = msgspec.json.decode(self._run.read_bytes("leaderboard.json"), type=list[dict[str, Any]])
        except OSError:
            return {}
        return {place["candidate_id"]: place for place in places}

    def _rulings(self) -> dict[str, tuple[str, str, str]]:
        """What the ranking goes by: candidate -> verdict, case and why."""
        found: dict[str, tuple[str, str, str]] = {}

        def take(records: list[Record]) -> None:
            nonlocal found
            for record in records:
                if record.type == "stage.ruled":
                    found = msgspec.json.decode(record.body, type=CandidatesRuled).ruled

        scan(self._run.journal, START, take)
        return found


def _is_checked(place: dict[str, Any]) -> bool:
    return bool(place["checked"])
