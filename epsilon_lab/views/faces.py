"""How a run, a lab and a review of cases look: which text, card and widgets belong to which kind of snapshot."""

from __future__ import annotations

from epsilon_lab.cases.book import CaseBook, Chosen
from epsilon_lab.views import lab_card, review_card
from epsilon_lab.views.card import card, text
from epsilon_lab.views.lab_snapshot import LabSnapshot
from epsilon_lab.views.live import Face, LivePanel
from epsilon_lab.views.panels import Actions, LabPanel, Panel
from epsilon_lab.views.review import Review, ReviewSnapshot
from epsilon_lab.views.review_panel import ReviewPanel
from epsilon_lab.views.snapshot import RunSnapshot


def run_face(actions: Actions) -> Face[RunSnapshot]:
    """How a run looks.

    Args:
        actions: What the buttons do: `pause`, `resume`, `stop`.
    """
    return Face(text, card, lambda snapshot: Panel(snapshot, actions))


def open_review(book: CaseBook, chosen: Chosen) -> LivePanel[ReviewSnapshot]:
    """A live view of a decider's way through cases.

    Raises:
        InvalidInput: What is chosen is no SQL.
    """
    review = Review(book, chosen.decider, where=chosen.where, order=chosen.order, blind=chosen.blind)

    def widgets(snapshot: ReviewSnapshot) -> ReviewPanel:
        return ReviewPanel(snapshot, review, panel.update)

    face = Face(review_card.text, review_card.card, widgets, left="run.cases.panel() goes on with it")
    panel = LivePanel(review.look, face)
    return panel


def lab_face() -> Face[LabSnapshot]:
    """How a lab looks."""
    return Face(lab_card.text, lab_card.card, LabPanel)
