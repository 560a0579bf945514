"""What is said to a run about its cases, and which of a case's verdicts speaks for it.

The rule stands here because all who read verdicts have to follow the same one: the run that waits for them, the tables
that show them, the book that a person decides by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

import msgspec

from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.deciders import Decider, DeciderKind
from epsilon_lab.messages.events import CaseFlagged, VerdictGiven


class Decide(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """News to a run: a case is decided."""

    case_id: str
    verdict: str
    decider: Decider
    note: str = ""
    force: bool = False
    """Whether it may be given although the case is decided."""

    number: int | None = None
    """How many verdicts the case has with this one, as far as its decider knows: of two who decide it at the very same
    time, one is refused. None: whatever it has."""

    source: str = ""
    """What it comes of, such as the task of another run: a second verdict of the same source is passed over."""

    confidence: float | None = None
    """Between 0 and 1, where the decider said how sure he is."""


class Unsure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """News to a run: somebody has looked at a case and cannot tell. The same word of the same decider again is passed
    over.
    """

    case_id: str
    decider: Decider
    note: str = ""
    source: str = ""
    """As of a `Decide`."""


class Take(msgspec.Struct, frozen=True, tag=True):
    """News to a run: what came of another run. Of that, what is wrong by now is passed over."""

    decisions: tuple[Decide | Unsure, ...]


class Retract(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """News to a run: the verdict that speaks for a case is taken back; it stays on record."""

    case_id: str
    decider: Decider
    note: str = ""
    number: int | None = None
    """Which verdict that is, as far as the decider knows. None: whichever it is."""


class Flag(msgspec.Struct, frozen=True, tag=True):
    """News to a run: somebody outside flags cases. What is flagged already, is passed over."""

    cases: tuple[CaseFlagged, ...]
    """Each with the empty `task_id`."""


class Rank(msgspec.Struct, frozen=True, tag=True):
    """News to a run: whose verdicts weigh more than whose.

    Raises:
        InvalidInput: One is no kind of decider, or named twice; or none is named.
    """

    kinds: tuple[DeciderKind, ...]
    """The highest first; kinds that are not named come after them, in the order they have by default."""

    def __post_init__(self) -> None:
        known, kinds = get_args(DeciderKind), self.kinds
        if not kinds or any(kind not in known or kinds.count(kind) > 1 for kind in kinds):
            raise InvalidInput("kinds", f"must be some of {', '.join(known)}, each once, got {kinds!r}")


class Finalise(msgspec.Struct, frozen=True, tag=True):
    """News to a run: what was made of its cases is made again, of the verdicts that speak now."""

    ask: bool = False
    """Whether models, agents, programs and people may be asked again for it."""


def live(verdicts: Iterable[VerdictGiven]) -> list[VerdictGiven]:
    """Those that are neither taken back nor the taking back of one."""
    verdicts = list(verdicts)
    gone = {each.supersedes for each in verdicts if each.retracted}
    return [each for each in verdicts if not each.retracted and each.number not in gone]


def speaking(verdicts: Iterable[VerdictGiven], authority: Sequence[DeciderKind]) -> VerdictGiven | None:
    """The verdict that counts: of the live ones, the latest of the highest authority; None where there is none."""
    return min(live(verdicts), key=lambda each: (authority.index(each.decider_kind), -each.number), default=None)


def offered(options: Sequence[str], verdicts: Iterable[VerdictGiven]) -> tuple[str, ...]:
    """What a case may be decided once it is asked with these options: what was decided already stays one of them, since
    it goes on speaking, and a later group of a reduction, which has seen more, may offer something else.
    """
    return tuple(dict.fromkeys((*options, *(each.verdict for each in live(verdicts)))))


def put_off(open_cases: Iterable[tuple[str, float | None]], room: int) -> set[str]:
    """Those of the open cases that nobody is asked about, because there is room for so many: those of the highest score
    are asked first, then those that were flagged first; those without a score come last.

    Args:
        open_cases: Case ids and scores, in the order in which they were flagged.
        room: How many may be asked.
    """
    ranked = sorted(open_cases, key=lambda case: (case[1] is None, -(case[1] or 0.0)))
    return {case_id for case_id, _ in ranked[max(0, room) :]}
