"""What a turn wrote and the disk does not have yet, with what must not be said before it has.

A sync takes as long as the disk takes, so it runs in a thread while the broker goes on: it hands out work, hears
answers, writes the next turns down. Whatever these write is put on disk together by the sync that follows, so the sync
itself is the window in which a batch forms, and nobody lingers.
"""

from __future__ import annotations

from epsilon_lab.broker.stimuli import Send
from epsilon_lab.errors import LabError
from epsilon_lab.messages.tasks import TaskOutcome
from epsilon_lab.workspace.journal import Journal


class Unsynced:
    """Journals that turns wrote to, and what waits for them, in order.

    Attributes:
        journals: By run; None for the lab's own.
        sends: Acknowledgements.
        outcomes: What submitters are to be told.
    """

    def __init__(self) -> None:
        self.journals: dict[str | None, Journal] = {}
        self.sends: list[Send] = []
        self.outcomes: list[TaskOutcome] = []

    def sync(self) -> dict[str | None, LabError]:
        """Put the journals on disk; those that could not be, and why. May be called from any thread."""
        failed: dict[str | None, LabError] = {}
        for run_id, journal in self.journals.items():
            try:
                journal.sync()
            except LabError as error:
                failed[run_id] = error
        return failed

    def forget(self, run_id: str) -> None:
        """Tell nobody of this run's tasks: it was closed, and may be another one by the time the disk is ready."""
        self.outcomes = [outcome for outcome in self.outcomes if outcome.run_id != run_id]
