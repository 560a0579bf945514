"""One decider going through cases one at a time: which is before him, and what a click does.

Pure: `step(sitting, stimulus, now) -> (sitting, effect, words)`. Verdicts are no part of it; they are on record or they
are not, and what is still to be decided comes in from there (`Looked`). So a sitting that is opened anew, after a
reload or in another kernel, goes on where the record stands.

A click counts for what was on show when it was made, and nobody can tell a click what was: it is taken as made when it
arrives. A second one within `DOUBLE_S` of a new sight is therefore none: it is a double click, or was made before the
sight was there, however long the kernel was busy in between. The same protects whoever was about to decide a case that
somebody else has just decided.

`Skip` puts nothing on record: what is skipped comes round again after the others. To be unsure is on record and is no
verdict: what one is unsure about comes last of all, also in a sitting that is opened anew.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, assert_never

DOUBLE_S = 0.3
"""Seconds after a new sight in which a click is none."""


class Sitting(NamedTuple):
    """Where a decider is."""

    listed: tuple[str, ...] = ()
    """Cases in the order in which they come."""

    pending: frozenset[str] = frozenset()
    """Those that he is to decide yet."""

    shown: str | None = None
    """The one before him; None where none is left."""

    unsure: tuple[str, ...] = ()
    """Those he was unsure about, in the order in which he said so."""

    left: str | None = None
    """The one he has just said he is unsure about; None where he has done something else since."""

    since: float = -math.inf
    """When what is on show came there."""

    @property
    def place(self) -> int:
        """The place of the case on show, counted from 1; 0 for none."""
        return self.listed.index(self.shown) + 1 if self.shown in self.listed else 0


class Looked(NamedTuple):
    """Somebody has looked at the record."""

    listed: tuple[str, ...]
    pending: frozenset[str]
    unsure: tuple[str, ...] = ()
    """Those that he has said he is unsure about, whenever that was."""

    anew: bool = False
    """Whether this is another choice of cases, and not the same looked at again."""


class Chosen(NamedTuple):
    """A click on one of the options."""

    verdict: str


class Pressed(NamedTuple):
    """A click on another button."""

    button: Literal["unsure", "skip", "back", "undo"]


class Recorded(NamedTuple):
    """A verdict is on record."""

    case_id: str


class PutAside(NamedTuple):
    """That the decider is unsure is on record."""

    case_id: str


class TakenBack(NamedTuple):
    """A verdict was taken back."""

    case_id: str


class Record(NamedTuple):
    """Effect: put a verdict on record, and say `Recorded`; where that fails, look again."""

    case_id: str
    verdict: str


class Hesitate(NamedTuple):
    """Effect: put on record that the decider is unsure, and say `PutAside`; where that fails, look again."""

    case_id: str


class TakeBack(NamedTuple):
    """Effect: take the decider's last verdict back, and say `TakenBack`."""


Stimulus = Looked | Chosen | Pressed | Recorded | PutAside | TakenBack


class Step(NamedTuple):
    """What follows from a stimulus."""

    sitting: Sitting
    effect: Record | Hesitate | TakeBack | None = None
    words: str = ""
    """What the decider is told."""


def step(sitting: Sitting, stimulus: Stimulus, now: float) -> Step:
    """Go on from one moment to the next.

    Args:
        sitting: Where the decider is.
        stimulus: What has happened.
        now: Seconds, of a clock that never goes back.
    """
    match stimulus:
        case Looked():
            return _looked(sitting, stimulus, now)
        case Recorded(case_id):
            return Step(_on(_settled(sitting, case_id)._replace(left=None), case_id, now))
        case PutAside(case_id):
            unsure = (*(each for each in sitting.unsure if each != case_id), case_id)
            return _onward(sitting._replace(unsure=unsure, left=case_id), now)
        case TakenBack(case_id):
            pending = sitting.pending | {case_id} if case_id in sitting.listed else sitting.pending
            return Step(sitting._replace(pending=pending, shown=case_id, since=now))
        case Chosen() | Pressed() if now - sitting.since < DOUBLE_S:
            return Step(sitting, words="a click this soon after another was taken for a double click, and not counted")
        case Chosen(verdict):
            return Step(sitting, None if sitting.shown is None else Record(sitting.shown, verdict))
        case Pressed("undo") if sitting.left is not None:
            back = sitting._replace(shown=sitting.left, left=None, since=now)
            return Step(back, words="back to what you were unsure about; no verdict was taken back")
        case Pressed("undo"):
            return Step(sitting, TakeBack())
        case Pressed("back"):
            return Step(_back(sitting._replace(left=None), now))
        case Pressed("unsure") if sitting.shown in sitting.pending:
            return Step(sitting, Hesitate(sitting.shown))
        case Pressed():
            return _onward(sitting._replace(left=None), now)
        case _:
            assert_never(stimulus)


def _looked(sitting: Sitting, look: Looked, now: float) -> Step:
    unsure = tuple(case_id for case_id in dict.fromkeys((*sitting.unsure, *look.unsure)) if case_id in look.pending)
    if look.anew:
        fresh = Sitting(look.listed, look.pending, unsure=unsure)
        return Step(_on(fresh, None, now))
    known = set(sitting.listed)
    listed = (*sitting.listed, *(case_id for case_id in look.listed if case_id not in known))
    after = sitting._replace(listed=listed, pending=look.pending, unsure=unsure)
    if sitting.shown is None:
        return Step(_on(after, None, now) if after.pending else after)
    if sitting.shown in sitting.pending and sitting.shown not in look.pending:
        return Step(
            after._replace(since=now), words="decided or withdrawn elsewhere meanwhile; nothing of yours is on record"
        )
    return Step(after)


def _settled(sitting: Sitting, case_id: str) -> Sitting:
    return sitting._replace(
        pending=sitting.pending - {case_id}, unsure=tuple(each for each in sitting.unsure if each != case_id)
    )


def _on(sitting: Sitting, after: str | None, now: float) -> Sitting:
    """To the next that is pending, from a case on and round; those one is unsure about come last."""
    return sitting._replace(shown=_next(sitting, after), since=now)


def _next(sitting: Sitting, after: str | None) -> str | None:
    start = sitting.listed.index(after) + 1 if after in sitting.listed else 0
    round_ = (*sitting.listed[start:], *sitting.listed[:start])
    unsure = set(sitting.unsure)
    sure = (each for each in round_ if each in sitting.pending and each not in unsure and each != after)
    return next(sure, None) or _after(sitting.unsure, after) or (after if after in sitting.pending else None)


def _after(unsure: tuple[str, ...], case_id: str | None) -> str | None:
    """The first that one was unsure about, or the one after this; None where there is no other."""
    if case_id not in unsure:
        return unsure[0] if unsure else None
    following = unsure[(unsure.index(case_id) + 1) % len(unsure)]
    return None if following == case_id else following


def _onward(sitting: Sitting, now: float) -> Step:
    """Leave what is on show as it is."""
    if sitting.shown is None:
        return Step(sitting)
    after = _on(sitting, sitting.shown, now)
    return Step(after, words="it is the only one left" if after.shown == sitting.shown else "")


def _back(sitting: Sitting, now: float) -> Sitting:
    """To the one before, whether it is decided or not."""
    place = (sitting.place or len(sitting.listed) + 1) - 2
    return sitting._replace(shown=sitting.listed[place], since=now) if place >= 0 else sitting
