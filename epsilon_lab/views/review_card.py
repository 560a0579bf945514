"""A review as HTML and as text: where the decider is, what he is asked, and what others said of it."""

from __future__ import annotations

from epsilon_lab import formats
from epsilon_lab.cases import card as case_card
from epsilon_lab.views.review import ReviewSnapshot

_ALARM = "color:#b03a00"


def card(snapshot: ReviewSnapshot, *, note: str = "") -> str:
    """The review as HTML on its own, without buttons: what a saved notebook keeps.

    Args:
        snapshot: The review.
        note: A sentence for the foot of the card.
    """
    foot = f'<div style="{formats.FAINT};font-size:12px">{formats.escape(note)}</div>' if note else ""
    parts = (head(snapshot), question(snapshot), evidence(snapshot), foot)
    return f'<div class="lab-card" style="{formats.FONT};{formats.TEXT};max-width:960px">{"".join(parts)}</div>'


def text(snapshot: ReviewSnapshot) -> str:
    """The review for a console."""
    case = snapshot.case
    lines = [f"cases of {snapshot.run_id}: {where(snapshot)}"]
    lines += [snapshot.words] if snapshot.words else []
    if case is None:
        return "\n".join([*lines, ended(snapshot)])
    return "\n".join(lines) + "\n" + case_card.text(case, blind=snapshot.blind)


def where(snapshot: ReviewSnapshot) -> str:
    """Where the decider is, in one line."""
    place = f"{snapshot.place} of {snapshot.listed}" if snapshot.case is not None else f"{snapshot.listed} listed"
    left = f"{snapshot.left} left" if snapshot.left else "none left"
    unsure = f"{snapshot.unsure} unsure" if snapshot.unsure else ""
    return " · ".join(filter(None, (place, left, unsure)))


def head(snapshot: ReviewSnapshot) -> str:
    """Where the decider is, and who he is."""
    by = f"you decide as {snapshot.decider}" + (", blind to what others said" if snapshot.blind else "")
    return (
        f'<div style="display:flex;justify-content:space-between;gap:16px"><b style="font-size:14px">'
        f'{formats.escape(where(snapshot))}</b><span style="{formats.FAINT}">{formats.escape(by)}</span></div>'
    )


def question(snapshot: ReviewSnapshot) -> str:
    """What is asked, or that nothing is."""
    if snapshot.case is None:
        return f'<div style="font-size:15px;font-weight:600">{formats.escape(ended(snapshot))}</div>'
    return case_card.head(snapshot.case, blind=snapshot.blind)


def ended(snapshot: ReviewSnapshot) -> str:
    """What is said where no case is left."""
    if not snapshot.listed and snapshot.where:
        return "No case is chosen by this; others may be found by other SQL."
    if not snapshot.listed:
        return (
            "No case waits here. Those that are flagged later come up by themselves; status = 'deferred' finds others."
        )
    return (
        f"Nothing is left to decide: all {snapshot.listed} have their verdict. run.finalize() makes the outputs again "
        "with them; Back goes through them once more."
    )


def evidence(snapshot: ReviewSnapshot) -> str:
    """What was said of the case so far, and what there is to look at."""
    if snapshot.case is None:
        return ""
    said = "" if snapshot.blind else case_card.verdicts(snapshot.case)
    return said + case_card.evidence(snapshot.case)


def words(snapshot: ReviewSnapshot) -> str:
    """What the last click came to."""
    style = _ALARM if snapshot.is_alarm else formats.FAINT
    style += ";white-space:pre-wrap"
    return f'<span role="status" style="{style}">{formats.escape(snapshot.words)}</span>' if snapshot.words else ""
