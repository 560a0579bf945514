"""The cases that a run's rules have flagged, while they wait for what is decided.

Pure: a plan embeds one. A decision that is none (someone else was quicker, the case is withdrawn) changes nothing and
leaves no line; whoever made it is told by the book, which looks whether it is there.
"""

from __future__ import annotations

import msgspec

from epsilon_lab.cases.case import Case, flagged
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.cases import Decide, Decider
from epsilon_lab.messages.events import Body, CaseFlagged, CaseWithdrawn, VerdictGiven


class Docket:
    """Cases by id."""

    def __init__(self) -> None:
        self._cases: dict[str, Case] = {}

    def __contains__(self, case_id: str) -> bool:
        return case_id in self._cases

    def flag(self, line: CaseFlagged) -> CaseFlagged:
        """Take a case in; the line puts it on record."""
        self._cases[line.case_id] = flagged(line)
        return line

    def withdraw(self, case_id: str, reason: str) -> CaseWithdrawn | None:
        """Wait for it no longer; None where it is decided, or unknown."""
        case = self._cases.get(case_id)
        if case is None or case.status != "open":
            return None
        self._cases[case_id] = msgspec.structs.replace(case, status="withdrawn", reason=reason)
        return CaseWithdrawn(case_id=case_id, reason=reason)

    def decide(self, by: Decide) -> VerdictGiven | None:
        """Take a decision in; None where it is none."""
        case = self._cases.get(by.case_id)
        try:
            verdict = case.decide(by) if case is not None else None
        except InvalidInput:
            return None
        if case is not None and verdict is not None:
            self._cases[by.case_id] = case.decided(verdict)
        return verdict


def decision_in(line: Body) -> Decide | None:
    """What must have been decided for a run's rules to write this line; None for all other lines."""
    if not isinstance(line, VerdictGiven):
        return None
    return Decide(
        case_id=line.case_id,
        verdict=line.verdict,
        decider=Decider(line.decider, line.decider_kind, line.roles),
        note=line.note,
        force=line.supersedes is not None,
        number=line.number,
    )
