"""One flagged case and what was decided about it.

Pure. Verdicts are only ever added: which of them speaks, `messages/cases.py` says; those before it stay. That the same
rules hold where a person types (book.py) and where a run takes it in (docket.py) is why they stand here, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from epsilon_lab import formats
from epsilon_lab.cases.card import card
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.cases import Decide, Retract, Unsure, offered, speaking
from epsilon_lab.messages.deciders import Decider, DeciderKind
from epsilon_lab.messages.events import CaseFlagged, CaseUnsure, VerdictGiven

SAME, DIFFERENT = "same", "different"
"""The verdicts about a pair that bear on those about others."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A question that a run leaves to a decider."""

    case_id: str
    kind: str
    """What it is about, in a word: `gate`."""

    question: str
    options: tuple[str, ...]
    """The verdicts there are."""

    key: Any = None
    """What it is about: a text, or a list such as that of the two things that are compared."""

    evidence: Any = None
    flagged_by: str = ""
    reason: str = ""
    role: str = ""
    """The role that a decider needs; empty for none."""

    score: float | None = None
    """How urgent it is; higher comes first."""

    tasks: tuple[str, ...] = ()
    """Who flagged it; an empty name for somebody outside, none where the run's own rules did."""

    status: str = "open"
    """`open`; `decided`; `deferred`: open, beyond what a decider is to be asked; or `withdrawn`: the run has no use for
    a verdict any more.
    """

    verdicts: tuple[VerdictGiven, ...] = ()
    """All there ever were, and what took one back, in the order in which they were given."""

    number: int | None = None
    """That of the verdict that speaks; None while it is open."""

    unsure: dict[str, str] = {}
    """Whoever has looked and could not tell, and what he noted; whether or not he could later."""

    @property
    def speaks(self) -> VerdictGiven | None:
        """The verdict that counts: of the live ones, the latest of the highest authority; None while it is open."""
        return None if self.number is None else self.verdicts[self.number - 1]

    @property
    def verdict(self) -> str | None:
        """What is decided; None while it is open."""
        return None if (given := self.speaks) is None else given.verdict

    @property
    def pair(self) -> tuple[Any, Any] | None:
        """The two things that it compares; None where it is about something else."""
        if not isinstance(self.key, list | tuple) or len(self.key) != 2 or self.key[0] == self.key[1]:
            return None
        return (self.key[0], self.key[1]) if {SAME, DIFFERENT} <= set(self.options) else None

    def __repr__(self) -> str:
        question, *options = map(formats.one_line, (self.question, *self.options))
        return f"<Case {self.case_id} ({self.verdict or self.status}): {question} {' | '.join(options)}>"

    def _repr_html_(self) -> str:
        return card(self)

    def decide(self, by: Decide) -> VerdictGiven:
        """Tell which verdict follows from a decision.

        Raises:
            InvalidInput: It is not among the options, the decider lacks the role, or the case is withdrawn, or decided
                and the decision is not forced.
        """
        what, last = f"case {self.case_id!r}", self.speaks
        self._check_is_asked()
        if by.verdict not in self.options:
            raise InvalidInput(f"verdict {by.verdict!r}", f"is no option of {what}", f"decide {_any(self.options)}")
        self._check_role(by.decider)
        if last is not None and not by.force:
            raise InvalidInput(
                what, f"is decided: {last.verdict!r} by {last.decider}", "force=True gives another verdict all the same"
            )
        if by.number not in (None, len(self.verdicts) + 1):
            raise InvalidInput(what, "was decided by someone else meanwhile", "look at it again")
        return self.given(by.verdict, by.decider, note=by.note, source=by.source, confidence=by.confidence)

    def leave(self, by: Unsure) -> CaseUnsure | None:
        """Tell what follows from somebody being unsure; None where he has said just that before.

        Raises:
            InvalidInput: It is withdrawn, or the decider lacks the role.
        """
        self._check_is_asked()
        self._check_role(by.decider)
        if self.unsure.get(by.decider.name) == by.note:
            return None
        return CaseUnsure(
            case_id=self.case_id,
            decider_kind=by.decider.kind,
            decider=by.decider.name,
            note=by.note,
            source=by.source,
        )

    def retract(self, by: Retract) -> VerdictGiven:
        """Tell what takes back the verdict that speaks.

        Raises:
            InvalidInput: There is none, or another one by now, or the decider lacks the role.
        """
        what, last = f"case {self.case_id!r}", self.speaks
        if last is None:
            raise InvalidInput(what, f"is {self.status}: it has no verdict to take back")
        self._check_role(by.decider)
        if by.number not in (None, last.number):
            raise InvalidInput(what, "was decided by someone else meanwhile", "look at it again")
        return self.taken_back(last, by.decider, note=by.note)

    def given(
        self, verdict: str, by: Decider, *, note: str = "", source: str = "", confidence: float | None = None
    ) -> VerdictGiven:
        """Its next verdict."""
        last = self.speaks
        return VerdictGiven(
            case_id=self.case_id,
            number=len(self.verdicts) + 1,
            verdict=verdict,
            decider_kind=by.kind,
            decider=by.name,
            roles=by.roles,
            note=note,
            supersedes=None if last is None else last.number,
            source=source,
            confidence=confidence,
        )

    def taken_back(self, verdict: VerdictGiven, by: Decider, *, note: str = "") -> VerdictGiven:
        """What takes a verdict back."""
        line = self.given(verdict.verdict, by, note=note)
        return msgspec.structs.replace(line, supersedes=verdict.number, retracted=True)

    def with_verdicts(self, verdicts: tuple[VerdictGiven, ...], authority: Sequence[DeciderKind]) -> Case:
        """The case with these verdicts, where they weigh so."""
        last = speaking(verdicts, authority)
        status = "decided" if last is not None else "open" if self.status == "decided" else self.status
        number = None if last is None else last.number
        return msgspec.structs.replace(self, verdicts=verdicts, number=number, status=status)

    def _check_is_asked(self) -> None:
        if self.status == "withdrawn":
            raise InvalidInput(f"case {self.case_id!r}", f"is withdrawn: {self.reason}", "nobody waits for its verdict")

    def _check_role(self, decider: Decider) -> None:
        if self.role and self.role not in decider.roles:
            remedy = f"decider=Decider({decider.name!r}, roles=({self.role!r},)) says that you have it"
            what = f"case {self.case_id!r}"
            raise InvalidInput(what, f"is for the role {self.role!r}, which {decider.name} does not have", remedy)


def reworded(case: Case, line: CaseFlagged) -> Case:
    """A case as whoever asked last puts it: of a reduction's groups the one that has seen most."""
    return msgspec.structs.replace(
        case,
        kind=line.kind,
        question=line.question,
        options=offered(line.options, case.verdicts),
        reason=line.reason,
        role=line.role,
        score=line.score,
        status="open" if case.status == "withdrawn" else case.status,
    )


def flagged(line: CaseFlagged) -> Case:
    """The case that a line tells of, without its evidence, which only a decider needs."""
    return Case(
        case_id=line.case_id,
        kind=line.kind,
        question=line.question,
        options=line.options,
        key=line.key,
        flagged_by=line.flagged_by,
        reason=line.reason,
        role=line.role,
        score=line.score,
        tasks=() if line.task_id is None else (line.task_id,),
    )


def _any(options: tuple[str, ...]) -> str:
    return " or ".join(map(repr, options))
