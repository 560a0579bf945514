"""What the verdicts on a search's cases say about its candidates, so that its ranking can be made of them.

A case is about a candidate where its key is the candidate's id, or `["candidate", id]`. One verdict has a meaning for
every ranking, whoever asked and whatever the other options are: `reject`. A candidate that any case rejects is out of
it until that verdict is taken back.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

import msgspec

from epsilon_lab.cases.case import Case
from epsilon_lab.messages.events import Body, CandidateSettled, CandidatesRuled

REJECT = "reject"
"""The verdict that takes a candidate out of a ranking."""

Ruling = tuple[str, str, str]
"""A verdict, its case, and why: who gave it, and what they noted."""


class Rule(msgspec.Struct, frozen=True, tag=True):
    """News to a search: what the verdicts on its candidates are now, all of them. Candidates without one count as they
    were judged.
    """

    ruled: dict[str, Ruling]
    """Candidate -> its ruling."""


def rulings(cases: Iterable[Case], known: Container[str], means: Container[str]) -> dict[str, Ruling]:
    """Read what cases say about candidates, by candidate.

    Args:
        cases: All of the run.
        known: Candidates that there are.
        means: The verdicts that have a meaning.
    """
    found: dict[str, Ruling] = {}
    for case in cases:
        last, name = case.speaks, candidate_of(case.key)
        if last is None or name is None or name not in known or last.verdict not in means:
            continue
        known_as = found.get(name)
        if known_as is None or (last.verdict == REJECT and known_as[0] != REJECT):  # of several, the one that rejects
            found[name] = (last.verdict, case.case_id, f"{last.decider}: {last.note}" if last.note else last.decider)
    return dict(sorted(found.items()))


def candidate_of(key: object) -> str | None:
    """The candidate that a case of this key is about; None where it is about none."""
    match key:
        case str():
            return key
        case ["candidate", str(name)]:
            return name
    return None


def rule_in(line: Body) -> Rule | None:
    """What must have been said for the rules of a search to write this line."""
    return Rule(line.ruled) if isinstance(line, CandidatesRuled) else None


def rejected(row: CandidateSettled, ruling: Ruling) -> CandidateSettled:
    """The row of a candidate that is rejected: it has failed its strictest check, and says by whose word. One without a
    score is in no ranking anyway, and keeps its own reason.
    """
    if row.score is None:
        return row
    scores = {**row.scores, "rejected": row.score}
    _, case_id, why = ruling
    error = f"rejected by {why} (case {case_id})"
    return msgspec.structs.replace(row, outcome="check_failed", score=None, scores=scores, checked=False, error=error)
