"""What the tasks of a run have asked and were told, so that it is known which of them a new verdict concerns.

Pure. What counts is the latest go at a task that was accepted, and the answers that it went on with: not when a verdict
was given, nor whether it was taken back and given again meanwhile. What only earlier goes have asked, nobody asks.
A go that was begun and not accepted, as it failed or was cancelled, has used none of them: its task is concerned by
whatever is decided, also by what it was told before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from epsilon_lab.ids import origin, revision
from epsilon_lab.messages.events import CaseFlagged, CasesAsked


class Asked:
    """Of each task of a run the cases that it asked about, and what it was told."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, dict[str, str | None]]] = {}
        self._begun: set[str] = set()

    def take(self, task_id: str, flags: Sequence[CaseFlagged | CasesAsked]) -> None:
        """A go at a task was accepted, which flagged these."""
        name, number = origin(task_id), revision(task_id)
        self._begun.discard(name)
        latest, _ = self._told.get(name, (0, {}))
        if (flags or latest) and number >= latest:
            told: dict[str, str | None] = {}
            for flag in flags:
                told.update(flag.told if isinstance(flag, CasesAsked) else {flag.case_id: flag.told})
            self._told[name] = number, told

    def begin(self, names: Iterable[str]) -> None:
        """Tasks, by the first of their revisions, are called again."""
        self._begun.update(names)

    def cases(self) -> set[str]:
        """Ids of the cases that are asked about."""
        return {case_id for _, told in self._told.values() for case_id in told}

    def outdated(self, verdicts: Mapping[str, str]) -> list[str]:
        """Tasks, by the first of their revisions, that would be told something else by now; sorted.

        Args:
            verdicts: Those that speak, by case.
        """
        return sorted(
            name
            for name, (_, told) in self._told.items()
            if name in self._begun or any(verdicts.get(case_id) != verdict for case_id, verdict in told.items())
        )
