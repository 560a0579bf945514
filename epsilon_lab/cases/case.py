"""One flagged case and what was decided about it.

Pure. Verdicts are only ever added: the latest speaks for the case, those before it stay. That the same rule holds where
a person types (book.py) and where the run takes it in (docket.py) is why it stands here, once.
"""

from __future__ import annotations

from typing import Any

import msgspec

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.cases import Decide
from epsilon_lab.messages.events import CaseFlagged, VerdictGiven


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A question that a run leaves to a decider."""

    case_id: str
    kind: str
    """What it is about, in a word: `gate`."""

    question: str
    options: tuple[str, ...]
    """The verdicts there are."""

    evidence: Any = None
    flagged_by: str = ""
    reason: str = ""
    role: str = ""
    """The role that a decider needs; empty for none."""

    status: str = "open"
    """`open`, `decided`, or `withdrawn`: the run has no use for a verdict any more."""

    verdicts: tuple[VerdictGiven, ...] = ()
    """In the order in which they were given."""

    @property
    def verdict(self) -> str | None:
        """What was decided last; None while it is open."""
        return self.verdicts[-1].verdict if self.verdicts else None

    def __repr__(self) -> str:
        return f"<Case {self.case_id} ({self.verdict or self.status}): {self.question} {' | '.join(self.options)}>"

    def decide(self, by: Decide) -> VerdictGiven:
        """Tell which verdict follows from a decision.

        Raises:
            InvalidInput: It is not among the options, the decider lacks the role, or the case is withdrawn, or decided
                and the decision is not forced.
        """
        what = f"case {self.case_id!r}"
        if self.status == "withdrawn":
            raise InvalidInput(what, f"is withdrawn: {self.reason}", "nobody waits for its verdict")
        if by.verdict not in self.options:
            raise InvalidInput(f"verdict {by.verdict!r}", f"is no option of {what}", f"decide {_any(self.options)}")
        if self.role and self.role not in by.decider.roles:
            remedy = f"decider=Decider({by.decider.name!r}, roles=({self.role!r},)) says that you have it"
            raise InvalidInput(what, f"is for the role {self.role!r}, which {by.decider.name} does not have", remedy)
        if self.verdicts and not by.force:
            last = self.verdicts[-1]
            raise InvalidInput(
                what, f"is decided: {last.verdict!r} by {last.decider}", "force=True puts another verdict in its place"
            )
        if by.number != len(self.verdicts) + 1:
            raise InvalidInput(what, "was decided by someone else meanwhile", "look at it again")
        return VerdictGiven(
            case_id=self.case_id,
            number=by.number,
            verdict=by.verdict,
            decider_kind=by.decider.kind,
            decider=by.decider.name,
            roles=by.decider.roles,
            note=by.note,
            supersedes=len(self.verdicts) or None,
        )

    def decided(self, verdict: VerdictGiven) -> Case:
        """The case with one more verdict."""
        return msgspec.structs.replace(self, status="decided", verdicts=(*self.verdicts, verdict))


def flagged(line: CaseFlagged) -> Case:
    """The case that a line tells of."""
    return Case(
        case_id=line.case_id,
        kind=line.kind,
        question=line.question,
        options=line.options,
        evidence=line.evidence,
        flagged_by=line.flagged_by,
        reason=line.reason,
        role=line.role,
    )


def _any(options: tuple[str, ...]) -> str:
    return " or ".join(map(repr, options))
