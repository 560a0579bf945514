"""A decider's panel without its widgets: what is on show, and what a click brings about.

The rules are those of a sitting (cases/sitting.py); this carries out what they say. It owns nothing that matters: where
the decider is and what he has typed. What he decides is on disk before the next case shows, and is read from there.

A click may come on any thread, also two at once while a ticker looks, so each goes through one lock. What a verdict is
about is the case as it was on show: one that has come from elsewhere meanwhile is told, and stays.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from epsilon_lab.cases.book import CaseBook
from epsilon_lab.cases.case import Case
from epsilon_lab.cases.sitting import (
    Chosen,
    Hesitate,
    Looked,
    Pressed,
    PutAside,
    Record,
    Recorded,
    Sitting,
    Stimulus,
    TakeBack,
    TakenBack,
    step,
)
from epsilon_lab.errors import LabError
from epsilon_lab.messages.deciders import Decider

_UNDECIDED = ("open", "deferred")
_USUAL = "status in ('open', 'decided')"
"""What is listed where nothing is chosen: not what is deferred, nor what is withdrawn."""

_FIRST = "score desc nulls last, place"
"""The most urgent first, those that are alike in the order in which they were flagged."""


class ReviewSnapshot(NamedTuple):
    """A review at one moment."""

    run_id: str
    place: int
    """That of the case on show, from 1; 0 for none."""

    listed: int
    left: int
    unsure: int
    case: Case | None
    note: str
    """What the decider has typed about it."""

    words: str
    is_alarm: bool
    decider: str
    blind: bool
    where: str
    order: str
    is_live: bool

    @property
    def options(self) -> tuple[str, ...]:
        """The verdicts there are."""
        return () if self.case is None else self.case.options

    @property
    def offers_unsure(self) -> bool:
        """Whether there is a button for it: not where it is an option, and as such a verdict."""
        return not any(option.casefold() == "unsure" for option in self.options)


class Review:
    """One decider going through a run's cases.

    Args:
        book: The run's case book.
        decider: Who.
        where: Which cases, in SQL; None for all but those that are deferred or withdrawn.
        order: In which order, in SQL; None for the most urgent first.
        blind: Whether he is not shown what others have decided; cases that they have decided come up too then.
        clock: Seconds that never go back.

    Raises:
        InvalidInput: That is no SQL, in the database's words.
    """

    def __init__(
        self,
        book: CaseBook,
        decider: Decider,
        *,
        where: str | None = None,
        order: str | None = None,
        blind: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book = book
        self._decider = decider
        self._blind = blind
        self._clock = clock
        self._guard = threading.Lock()
        self._sitting = Sitting()
        self._case: Case | None = None
        self._notes: dict[str, str] = {}
        self._mark: tuple[int, ...] = ()
        self._words, self._is_alarm = "", False
        self._is_live = True
        self._choose(where, order)

    def look(self) -> ReviewSnapshot:
        """Take in what is new on record, and tell how things stand."""
        with self._guard:
            if self._is_live and self._book.mark() != self._mark:
                self._relist()
            return self._snapshot()

    def choose(self, where: str, order: str) -> None:
        """Go through other cases, or in another order; where it is no SQL, that is told, and the cases stay."""
        with self._guard:
            try:
                self._choose(where.strip() or None, order.strip() or None)
            except LabError as error:
                self._say(str(error), is_alarm=True)

    def decide(self, verdict: str, note: str) -> None:
        """A click on an option."""
        self._click(Chosen(verdict), note)

    def press(self, button: Pressed, note: str) -> None:
        """A click on another button."""
        self._click(button, note)

    def close(self) -> None:
        """Nothing more is decided here."""
        with self._guard:
            self._is_live = False

    def _click(self, click: Chosen | Pressed, note: str) -> None:
        with self._guard:
            if not self._is_live:
                return
            if self._sitting.shown is not None:
                self._notes[self._sitting.shown] = note
            self._say("")
            try:
                self._go(click)
            except LabError as error:
                with suppress(LabError):  # the lab is closed, or the case is gone
                    self._relist()
                self._say(str(error), is_alarm=True)

    def _go(self, stimulus: Stimulus) -> None:
        shown = self._sitting.shown
        self._sitting, effect, words = step(self._sitting, stimulus, self._clock())
        if words:
            self._say(words)
        match effect:
            case Record(case_id, verdict):
                self._record(case_id, verdict)
            case Hesitate(case_id):
                self._hesitate(case_id)
            case TakeBack():
                self._take_back()
            case _ if self._sitting.shown != shown or isinstance(stimulus, Looked | PutAside):
                self._show(None if self._sitting.shown is None else self._book[self._sitting.shown])

    def _record(self, case_id: str, verdict: str) -> None:
        seen = self._case
        if seen is None:
            return
        note = self._notes[case_id].strip()
        self._book.decide(seen, verdict, note=note, decider=self._decider, force=seen.verdict is not None)
        self._notes.pop(case_id, None)
        self._expect_one_verdict_more()
        self._say(f"{verdict!r} is on record for {case_id}; Undo takes it back")
        self._go(Recorded(case_id))

    def _hesitate(self, case_id: str) -> None:
        self._book.unsure(case_id, note=self._notes[case_id].strip(), decider=self._decider)
        self._go(PutAside(case_id))
        self._say(f"you are unsure about {case_id}, which is on record; {self._words or 'it comes again at the end'}")

    def _take_back(self) -> None:
        listed = set(self._sitting.listed)
        mine = [case_id for case_id in self._book.judged(self._decider.name) if case_id in listed]
        if not mine:
            self._say("nothing of yours is on record here that could be taken back")
            return
        case = self._book[mine[-1]]
        last = case.speaks
        if last is None or last.decider != self._decider.name:
            raise LabError(
                f"case {case.case_id!r}, your last, was decided by {last.decider if last else 'nobody'} since"
            )
        self._book.undo(case, decider=self._decider)
        self._notes.setdefault(case.case_id, last.note)
        self._expect_one_verdict_more()
        self._say(f"{last.verdict!r} is taken back for {case.case_id}")
        self._go(TakenBack(case.case_id))
        self._show(self._book[case.case_id])

    def _show(self, case: Case | None) -> None:
        before, self._case = self._case, case
        if before and case and before.case_id == case.case_id and before.verdicts != case.verdicts:
            self._sitting = self._sitting._replace(
                since=self._clock()
            )  # what was about to be clicked was not about this

    def _expect_one_verdict_more(self) -> None:
        """Not look again because of one's own verdict, unless more has come with it."""
        verdicts, *others = self._mark
        self._mark = (verdicts + 1, *others)

    def _choose(self, where: str | None, order: str | None) -> None:
        mark = self._book.mark()
        rows = self._book.chosen(where or _USUAL, order or _FIRST)
        self._where, self._order, self._mark = where, order, mark
        self._again = self._blind or (where is not None and not any(status in _UNDECIDED for _, status in rows))
        self._say("")
        self._go(self._looked(rows, anew=True))

    def _relist(self) -> None:
        mark = self._book.mark()
        rows = self._book.chosen(self._where or _USUAL, self._order or _FIRST)
        self._mark = mark
        self._go(self._looked(rows, anew=False))

    def _looked(self, rows: list[tuple[str, str]], *, anew: bool) -> Looked:
        """What is to be decided yet: what nobody has; and what he himself has not, where a second look is meant."""
        mine = set(self._book.judged(self._decider.name)) if self._again else set()
        pending = {
            case_id
            for case_id, status in rows
            if status in _UNDECIDED or (self._again and status == "decided" and case_id not in mine)
        }
        unsure = tuple(self._book.doubted(self._decider.name))
        return Looked(tuple(case_id for case_id, _ in rows), frozenset(pending), unsure, anew)

    def _say(self, words: str, *, is_alarm: bool = False) -> None:
        self._words, self._is_alarm = words, is_alarm

    def _snapshot(self) -> ReviewSnapshot:
        sitting = self._sitting
        return ReviewSnapshot(
            run_id=self._book.run_id,
            place=sitting.place,
            listed=len(sitting.listed),
            left=len(sitting.pending),
            unsure=len(sitting.unsure),
            case=self._case,
            note="" if self._case is None else self._notes.get(self._case.case_id, ""),
            words=self._words,
            is_alarm=self._is_alarm,
            decider=self._decider.name,
            blind=self._blind,
            where=self._where or "",
            order=self._order or "",
            is_live=self._is_live,
        )
