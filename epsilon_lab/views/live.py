"""Something on show: a panel kept up to date while it lasts, then frozen into a card that needs no kernel.

Widgets are not saved with a notebook and die with the kernel, and a page prefers them to the HTML beside them. So the
display has an id, and when a run ends or the lab closes its content is replaced by static HTML: that is what the
saved notebook keeps.
"""

from __future__ import annotations

import importlib
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from epsilon_lab.errors import LabError
from epsilon_lab.views.panels import has_widgets

_WIDGET = "application/vnd.jupyter.widget-view+json"


class Snapshot(Protocol):
    """What is shown, at one moment."""

    @property
    def is_live(self) -> bool:
        """Whether it may still change."""
        ...


Shown = TypeVar("Shown", bound=Snapshot)
Shown_contra = TypeVar("Shown_contra", bound=Snapshot, contravariant=True)


class Widgets(Protocol[Shown_contra]):
    """The widgets of a live view."""

    root: Any

    def show(self, snapshot: Shown_contra) -> None:
        """Show this snapshot; what has not changed costs nothing."""
        ...

    def close(self) -> None:
        """Close every widget."""
        ...


@dataclass(frozen=True)
class Face(Generic[Shown]):
    """How a kind of snapshot looks."""

    text: Callable[[Shown], str]
    card: Callable[..., str]
    """(snapshot, *, note="") -> HTML that needs nothing else."""

    widgets: Callable[[Shown], Widgets[Shown]]
    left: str = "live view closed before the end"
    """The sentence at the foot of a card that was live when it was closed."""


class LivePanel(Generic[Shown]):
    """A live view of a run, or of a lab.

    A ticker calls `update` a few times a second, from any one thread; `display` and `close` come from others.

    Args:
        source: Takes a look.
        face: How what it sees is shown.
    """

    __epsilon_live__ = True

    def __init__(self, source: Callable[[], Shown], face: Face[Shown]) -> None:
        self._source = source
        self._face = face
        self._guard = threading.RLock()
        self._panel: Widgets[Shown] | None = None
        self._display_id: str | None = None
        self._frozen: dict[str, str] | None = None
        self._snapshot = source()

    def __repr__(self) -> str:
        return self._face.text(self._snapshot)

    def _repr_html_(self) -> str:
        return self._face.card(self._snapshot)

    def _ipython_display_(self) -> None:
        self.display()

    @property
    def snapshot(self) -> Shown:
        """What is shown."""
        return self._snapshot

    @property
    def is_frozen(self) -> bool:
        """Whether it shows its last look, for good."""
        return self._frozen is not None

    def display(self) -> None:
        """Show the panel here: live in a notebook, else as text; without IPython nothing happens."""
        shell = _shell()
        if shell is None:
            return
        with self._guard:
            self._look()
            if self._display_id is not None:  # shown before: the newest place is the live one
                self._replace(self._static("shown again further down"))
            self._display_id = f"lab-{uuid.uuid4().hex}"
            bundle = self._static()
            if self._snapshot.is_live and self._frozen is None and _has_page(shell) and has_widgets():
                if self._panel is None:
                    self._panel = self._face.widgets(self._snapshot)
                view = {"version_major": 2, "version_minor": 0, "model_id": self._panel.root.model_id}
                _publish({_WIDGET: view, **bundle}, self._display_id)
            else:
                _publish(bundle, self._display_id)

    def update(self) -> bool:
        """Look at the run and show what is new; freeze at its end.

        Returns:
            Whether it may change again.
        """
        with self._guard:
            if self._frozen is not None:
                return False
            self._look()
            if not self._snapshot.is_live:
                self.freeze()
            elif self._panel is not None:
                self._panel.show(self._snapshot)
        return self._snapshot.is_live

    def freeze(self, note: str = "") -> None:
        """Replace the live view by the card of a last look, for good.

        A notebook that is executed without a page takes the replacement only from the thread of a running cell: who
        waits for a run in a cell freezes its panels there, whether or not the ticker has done so. Again does no harm.

        Args:
            note: A sentence for the foot of the card.
        """
        with self._guard:
            self._look()
            if self._frozen is None:
                self._frozen = self._static(note)
            if self._display_id is not None:
                self._replace(self._frozen)
            panel, self._panel = self._panel, None
            if panel is not None:
                panel.close()

    def static(self) -> StaticFrame[Shown]:
        """One frame as it is now."""
        with self._guard:
            self._look()
        return StaticFrame(self._snapshot, self._face)

    def close(self) -> None:
        """Freeze what is shown, finished or not; closing twice does nothing."""
        with self._guard:
            self._look()
            if self._frozen is None:
                self.freeze(self._face.left if self._snapshot.is_live else "")

    def _look(self) -> None:
        if self._frozen is None:
            try:
                self._snapshot = self._source()
            except LabError:  # the lab has closed its tables: the last look stays
                return

    def _static(self, note: str = "") -> dict[str, str]:
        shown = self._snapshot
        return {"text/html": self._face.card(shown, note=note), "text/plain": self._face.text(shown)}

    def _replace(self, bundle: dict[str, str]) -> None:
        if self._display_id is not None:
            _publish(bundle, self._display_id, update=True)


class StaticFrame(Generic[Shown]):
    """One frame: shows itself as HTML in a notebook, as text in a console."""

    def __init__(self, snapshot: Shown, face: Face[Shown]) -> None:
        self.snapshot = snapshot
        self._face = face

    def __repr__(self) -> str:
        return self._face.text(self.snapshot)

    def _repr_html_(self) -> str:
        return self._face.card(self.snapshot)


def _shell() -> Any:
    """The IPython shell of this process, if it is one; IPython is never imported for the answer."""
    core = sys.modules.get("IPython")
    return core.get_ipython() if core is not None else None


def _has_page(shell: Any) -> bool:
    return hasattr(shell, "kernel")


def _publish(bundle: dict[str, Any], display_id: str, *, update: bool = False) -> None:
    show: Any = importlib.import_module("IPython.display")
    show.display(bundle, raw=True, display_id=display_id, update=update)
