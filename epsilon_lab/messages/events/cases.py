"""`case.`, `verdict.`: told by plans and by a run's case book; which cases a task flags, by leaves."""

from __future__ import annotations

import msgspec

from epsilon_lab.messages.deciders import DeciderKind
from epsilon_lab.messages.events.body import Body


class CaseFlagged(Body, frozen=True, kw_only=True):
    """`case.flagged`: a question that is left to a decider. The first line of an id makes the case; later ones say who
    else asks, in words that take the place of the earlier ones, and open it again where it was withdrawn.
    """

    case_id: str
    kind: str
    """What it is about, in a word: `gate`."""

    question: str
    options: tuple[str, ...]
    """The verdicts there are."""

    key: object = None
    """What it is about, as JSON: a text, or a list such as that of the two things that are compared."""

    evidence: object = None
    """What a decider should see, as JSON."""

    flagged_by: str = ""
    reason: str = ""
    role: str = ""
    """The role that a decider needs; empty for none."""

    score: float | None = None
    """How urgent it is; higher comes first."""

    task_id: str | None = None
    """The task that flagged it; empty for somebody outside; None where the run's own rules did."""

    told: str | None = None
    """The verdict that spoke as its task asked, and went on; None where there was none."""


class CaseAsWritten(CaseFlagged, frozen=True, kw_only=True):
    """`case.flagged`, its evidence left as the JSON that it is: for who hands it on, or has no use for it."""

    evidence: msgspec.Raw = msgspec.Raw(b"null")


class CasesAsked(Body, frozen=True, kw_only=True):
    """`case.asked`: a task asks what is on record already, in the words in which it did before, or whoever asked last
    did; in the place of one `case.flagged` each. The case stands as it was put.
    """

    task_id: str
    told: dict[str, str | None]
    """Case -> the verdict that spoke as the task asked, and went on; None where there was none."""


class CaseWithdrawn(Body, frozen=True, kw_only=True):
    """`case.withdrawn`: nobody waits for its verdict any more."""

    case_id: str
    reason: str


class VerdictGiven(Body, frozen=True, kw_only=True):
    """`verdict.given`: a case is decided, or a verdict is taken back; on disk before anything follows from it, whatever
    the lab's durability. Nothing is ever deleted.
    """

    case_id: str
    number: int
    """1 for the case's first line of this type."""

    verdict: str
    """One of its options; of a retraction, that of the verdict taken back."""

    decider_kind: DeciderKind
    decider: str
    roles: tuple[str, ...] = ()
    """Those that the decider had."""

    note: str = ""
    supersedes: int | None = None
    """The number of the verdict that spoke until then; of a retraction, of the one that is taken back."""

    retracted: bool = False
    """Whether this line takes a verdict back."""

    source: str = ""
    """What it comes of: `<run_id>/<task_id>` where a task of another run gave it; a conflict's id and the number of its
    verdict where it follows from that."""

    confidence: float | None = None
    """Between 0 and 1, where the decider said how sure he is."""


class CaseUnsure(Body, frozen=True, kw_only=True):
    """`case.unsure`: somebody has looked at a case and cannot tell. It is no verdict: the case stays as it is."""

    case_id: str
    decider_kind: DeciderKind
    decider: str
    note: str = ""
    source: str = ""
    """As of a verdict."""


class CasesRanked(Body, frozen=True, kw_only=True):
    """`case.authority`: from now on the verdicts of these kinds of deciders weigh so; the highest first."""

    kinds: tuple[DeciderKind, ...]
