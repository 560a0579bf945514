"""Whoever keeps the case books of runs that nobody is at: those that are over, or were left.

A person decides days after a run has ended, and a verdict must not wait until somebody resumes it. It needs none of the
run's rules: what follows from a decision for the cases, the docket knows; what it means to the rules, they learn when
the run is resumed. So the journal's lines about cases are read, once; what is said is put behind them, and on disk; and
the journal stays open for the next click, until the run is resumed or others are decided about.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict

import msgspec

from epsilon_lab.cases.docket import CaseNews, Docket
from epsilon_lab.clock import Clock
from epsilon_lab.errors import InvalidInput, WorkspaceError
from epsilon_lab.messages.events import OF_CASES, READERS, Body
from epsilon_lab.workspace.journal import Journal, Record
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.scan import START, scan

_KEPT = 4
"""Case books that stay open; the one that was not used for longest is closed."""


class _Book:
    """The case book of one run, out of its journal."""

    def __init__(self, run: RunDirectory, clock: Clock) -> None:
        self._run = run
        self.docket = Docket(run.run_id)
        self._clock = clock
        if not run.journal.exists():
            raise InvalidInput(f"run {run.run_id}", "has no journal here", "see lab.runs")
        end, torn = scan(run.journal, START, self._take)
        self._due: list[Body] = self.docket.settle().lines
        if torn:
            warnings.warn(
                f"the last {torn} bytes of {run.journal} were lines that a crash had cut short; they were never "
                f"acknowledged, and are cut off",
                RuntimeWarning,
                stacklevel=2,
            )
        self._journal = Journal.open(run.journal, "disk", after=end)

    def _take(self, records: list[Record]) -> None:
        for record in records:
            if record.type.startswith(OF_CASES) and (reader := READERS.get(record.type)):
                try:
                    self.docket.take(reader.decode(record.body))
                except msgspec.ValidationError as error:
                    raise WorkspaceError(
                        f"line {record.seq} of {self._run.journal} ({record.type}) does not read: {error}; nothing can "
                        f"be decided about this run here. Try a newer epsilon_lab"
                    ) from error

    def write(self, news: CaseNews) -> None:
        """Put what is said on record, and on disk."""
        lines, self._due = [*self._due, *self.docket.hear(news).lines], []
        self._journal.append(self._clock.wall(), *lines)
        self._journal.commit()

    def close(self) -> None:
        self._journal.close()


class Clerk:
    """Keeps case books; methods may be called from any thread but those of loops, and wait for the disk.

    Whoever calls sees to it that nobody is at the run, and that nobody begins to be before it has answered.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._books: OrderedDict[str, _Book] = OrderedDict()
        self._refuses: str | None = None

    def obey(self, run: RunDirectory, news: CaseNews) -> None:
        """Put what is said about a run's cases on record; it is on disk then.

        Raises:
            InvalidInput: It is wrong; nothing is on record.
            JournalDamaged: The run's journal is broken.
            WorkspaceError: It cannot be written.
        """
        with self._guard:
            if self._refuses is not None:
                raise WorkspaceError(self._refuses)
            book = self._books.get(run.run_id) or _Book(run, self._clock)
            self._books[run.run_id] = book
            self._books.move_to_end(run.run_id)
            while len(self._books) > _KEPT:
                self._books.popitem(last=False)[1].close()
            book.docket.check(news)
            try:
                book.write(news)
            except BaseException:  # what it knows is ahead of what is on record
                self._close(run.run_id)
                raise

    def let_go(self, run_id: str) -> None:
        """Close a run's book: somebody else is about to write to its journal."""
        with self._guard:
            self._close(run_id)

    def close(self, reason: str = "the lab was closed; open it again") -> None:
        """Close all, and open none any more."""
        with self._guard:
            self._refuses = self._refuses or reason
            for run_id in list(self._books):
                self._close(run_id)

    def _close(self, run_id: str) -> None:
        if (book := self._books.pop(run_id, None)) is not None:
            book.close()
