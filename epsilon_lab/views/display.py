"""What a lab has on show: its live panels, each kept up to date until it has seen the end, or the lab closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from epsilon_lab.views.ticker import Ticker

if TYPE_CHECKING:
    from epsilon_lab.cases.book import CaseBook, Chosen
    from epsilon_lab.views.live import LivePanel, Shown
    from epsilon_lab.views.review import ReviewSnapshot


class Display:
    """The panels of one lab."""

    def __init__(self) -> None:
        self._panels: list[LivePanel[Any]] = []
        self._reviews: dict[str, LivePanel[ReviewSnapshot]] = {}
        self._ticker = Ticker()

    def show(self, panel: LivePanel[Shown]) -> LivePanel[Shown]:
        """Keep a panel up to date from now on, and give it back."""
        self._panels = [*(each for each in self._panels if not each.is_frozen), panel]
        self._ticker.add(panel.update)
        return panel

    def review(self, book: CaseBook, chosen: Chosen) -> LivePanel[ReviewSnapshot]:
        """Show a decider's way through a run's cases, in the place of the one before.

        Raises:
            InvalidInput: What is chosen is no SQL.
        """
        from epsilon_lab.views.faces import open_review  # noqa: PLC0415 - drawing loads when someone looks

        panel = open_review(book, chosen)
        if (before := self._reviews.pop(book.run_id, None)) is not None:
            before.close()
        self._reviews[book.run_id] = panel
        return self.show(panel)

    def look(self) -> None:
        """Have every panel take a look now."""
        for panel in self._panels:
            panel.update()

    def freeze(self) -> None:
        """Have them show their last look, for good: how the runs stand when the lab has done with them."""
        for panel in self._panels:
            panel.close()

    def stop(self) -> None:
        """Look at nothing any more unless asked; the thread that did has ended."""
        self._ticker.close()
