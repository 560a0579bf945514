"""Live panels of widgets, the one door to ipywidgets.

A panel shows a snapshot and owns nothing. It never uses an Output widget (its log is read, changed and written back,
so two writers lose lines) and sets a trait only when its value is new: every one is a message, and a notebook server
drops what comes faster than it likes. Buttons call what they were given, which returns at once; on which thread that
happens differs between versions of the kernel.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

from epsilon_lab import formats
from epsilon_lab.errors import LabError
from epsilon_lab.views import card, lab_card
from epsilon_lab.views.figures import LiveCurve
from epsilon_lab.views.lab_snapshot import LabSnapshot
from epsilon_lab.views.snapshot import RunSnapshot

Actions = Mapping[str, Callable[[], object]]
"""`pause`, `resume` and `stop`; a button whose action is missing is not shown."""

_STYLES = {"completed": "success", "failed": "danger", "paused": "warning", "stopped": "warning"}


def has_widgets() -> bool:
    """Whether ipywidgets is installed."""
    return importlib.util.find_spec("ipywidgets") is not None


class Panel:
    """The widgets of one run.

    Args:
        snapshot: What to show first.
        actions: What the buttons do.
    """

    def __init__(self, snapshot: RunSnapshot, actions: Actions) -> None:
        widgets: Any = importlib.import_module("ipywidgets")
        self._actions = actions
        self._drawn: object = None
        self._curve: LiveCurve | None = None
        self._status = snapshot.status
        self._head = widgets.HTML()
        self._bar = widgets.IntProgress(layout=widgets.Layout(width="100%", max_width="560px", height="14px"))
        self._image = widgets.Image(
            format="png", layout=widgets.Layout(display="none", width="560px", max_width="100%")
        )
        self._work = widgets.HTML(layout=widgets.Layout(overflow="auto"))  # stays where a reader has moved it to
        self._best = widgets.HTML()
        self._troubles = widgets.HTML()
        self._error = widgets.HTML()
        self._pause = widgets.Button(description="Pause", layout=widgets.Layout(width="90px"))
        self._stop = widgets.Button(description="Stop", button_style="danger", layout=widgets.Layout(width="90px"))
        self._work.add_class("lab-work")
        self._best.add_class("lab-best")
        self._pause.add_class("lab-pause")
        self._stop.add_class("lab-stop")
        self._pause.on_click(self._pause_or_resume)
        self._stop.on_click(self._end)
        buttons = [
            button
            for button, needed in ((self._pause, {"pause", "resume"}), (self._stop, {"stop"}))
            if needed <= actions.keys()
        ]
        self._buttons = widgets.HBox(buttons)
        self.root = widgets.VBox(
            [self._head, self._bar, self._image, self._buttons, self._error, self._work, self._best, self._troubles],
            layout=widgets.Layout(max_width="840px"),
        )
        self.root.add_class("lab-panel")
        self.show(snapshot)

    def show(self, snapshot: RunSnapshot) -> None:
        """Show this snapshot; what has not changed costs nothing."""
        self._status = snapshot.status
        put(self._head, value=styled(card.head(snapshot)))
        expected = snapshot.expected or max(snapshot.done, 1)
        total = expected if snapshot.is_live else max(snapshot.done, 1)
        style = _STYLES.get(snapshot.status, "")
        put(self._bar, max=total, value=min(snapshot.done, total), bar_style=style)
        shown = snapshot.versus or snapshot.curve
        if shown is not None and snapshot.curve is not None and snapshot.curve.size and shown != self._drawn:
            self._drawn = shown
            self._curve = self._curve or LiveCurve(beside=snapshot.versus is not None)
            put(self._image, value=self._curve.frame(shown))
            self._image.layout.display = None
        put(self._work, value=styled(card.work(snapshot)))
        put(self._best, value=styled(card.best(snapshot)))
        put(self._troubles, value=styled(card.troubles(snapshot)))
        paused = snapshot.status == "paused"
        put(self._pause, description="Resume" if paused else "Pause", disabled=not snapshot.is_live)
        if not snapshot.is_live:
            put(self._stop, disabled=True)

    def close(self) -> None:
        """Close every widget; the page forgets them."""
        shown = (self._head, self._bar, self._image, self._work, self._best, self._troubles, self._error)
        close_all(*shown, self._pause, self._stop, self._buttons, self.root)

    def _pause_or_resume(self, _: object) -> None:
        self._do("resume" if self._status == "paused" else "pause")

    def _end(self, _: object) -> None:
        put(self._stop, disabled=True, description="Stopping …")
        if not self._do("stop"):
            put(self._stop, disabled=False, description="Stop")

    def _do(self, action: str) -> bool:
        try:
            self._actions[action]()
        except LabError as error:
            put(self._error, value=f'<span style="color:#b03a00">{formats.escape(error)}</span>')
            return False
        put(self._error, value="")
        return True


class LabPanel:
    """The widgets of a lab: one, whose HTML is the lab's card."""

    def __init__(self, snapshot: LabSnapshot) -> None:
        widgets: Any = importlib.import_module("ipywidgets")
        self._card = widgets.HTML()
        self.root = widgets.VBox([self._card], layout=widgets.Layout(max_width="840px"))
        self.root.add_class("lab-panel")
        self.show(snapshot)

    def show(self, snapshot: LabSnapshot) -> None:
        """Show this snapshot."""
        put(self._card, value=lab_card.card(snapshot))

    def close(self) -> None:
        """Close every widget; the page forgets them."""
        close_all(self._card, self.root)


def close_all(*widgets: Any) -> None:
    """Close widgets; the page forgets them."""
    for widget in widgets:
        for part in (getattr(widget, "style", None), widget.layout, widget):  # widgets of their own, kept alive too
            if part is not None:
                part.close()


def styled(part: str) -> str:
    """HTML in the house's letters; nothing where there is nothing."""
    return f'<div style="{formats.FONT};{formats.TEXT}">{part}</div>' if part else ""


def put(widget: Any, **traits: object) -> None:
    """Set several traits in one message, or in none where none is new."""
    with widget.hold_sync():
        for name, value in traits.items():
            setattr(widget, name, value)
