"""How a run looks and how a lab looks: which text, card and widgets belong to which kind of snapshot."""

from __future__ import annotations

from epsilon_lab.views import lab_card
from epsilon_lab.views.card import card, text
from epsilon_lab.views.lab_snapshot import LabSnapshot
from epsilon_lab.views.live import Face
from epsilon_lab.views.panels import Actions, LabPanel, Panel
from epsilon_lab.views.snapshot import RunSnapshot


def run_face(actions: Actions) -> Face[RunSnapshot]:
    """How a run looks.

    Args:
        actions: What the buttons do: `pause`, `resume`, `stop`.
    """
    return Face(text, card, lambda snapshot: Panel(snapshot, actions))


def lab_face() -> Face[LabSnapshot]:
    """How a lab looks."""
    return Face(lab_card.text, lab_card.card, LabPanel)
