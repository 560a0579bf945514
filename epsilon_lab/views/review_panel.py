"""The widgets of a review: one case at a time, its options as buttons.

Whoever decides two hundred cases looks at the evidence and not at the buttons: these stand above it, in rows of fixed
height, so that they are where they were, whatever the next case brings (a question of many lines alone moves them);
where it has the same options they are the very same buttons.

After a click the note has the focus, and not the button. Enter or the space bar would give the next case the same
verdict, without anybody having looked; and a page of JupyterLab takes letters that are typed at a button for its own
commands, which cut cells. One Tab leads from the note to the first option.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from epsilon_lab import formats
from epsilon_lab.cases.sitting import Pressed
from epsilon_lab.views import review_card
from epsilon_lab.views.panels import close_all, put, styled
from epsilon_lab.views.review import Review, ReviewSnapshot

_LABEL = 60
"""Characters of an option on its button; the whole of it is its tooltip."""


class ReviewPanel:
    """The widgets of one review.

    Args:
        snapshot: What to show first.
        review: What clicks go to.
        refresh: Shows what came of a click, at once.
    """

    def __init__(self, snapshot: ReviewSnapshot, review: Review, refresh: Callable[[], object]) -> None:
        widgets: Any = importlib.import_module("ipywidgets")
        self._widgets = widgets
        self._review = review
        self._refresh = refresh
        self._case_id: str | None = ""
        self._options: tuple[str, ...] = ()
        layout = widgets.Layout
        self._head = widgets.HTML()
        self._bar = widgets.IntProgress(layout=layout(width="auto", height="14px"))
        self._question = widgets.HTML(
            layout=layout(min_height="66px", max_height="180px", overflow="auto", margin="4px 0 0")
        )
        self._note = widgets.Text(placeholder="a note, kept with the verdict", layout=layout(width="auto"))
        self._choices: list[Any] = []
        self._row = widgets.HBox(layout=layout(flex_flow="row wrap", min_height="40px"))
        self._unsure = self._button(
            "Unsure", "You cannot tell: that is on record, with your note, and it comes again at the end", "unsure"
        )
        self._skip = self._button("Skip", "On to the next; it comes round again", "skip")
        self._back = self._button("Back", "To the one before", "back")
        self._undo = self._button("Undo", "Take back the verdict you gave last", "undo")
        self._further = widgets.HBox([self._unsure, self._skip, self._back, self._undo])
        self._words = widgets.HTML(layout=layout(min_height="24px"))
        self._evidence = widgets.HTML(layout=layout(overflow="auto"))
        self._where = widgets.Text(placeholder="status = 'open' and score > 0.5", layout=layout(flex="2 1 180px"))
        self._order = widgets.Text(placeholder="score desc", layout=layout(flex="1 1 120px"))
        self._apply = widgets.Button(description="Apply", layout=layout(width="80px"))
        self._apply.on_click(lambda _: self._choose())
        labels = [widgets.Label(text, layout=layout(flex="none")) for text in ("which cases (SQL)", "in which order")]
        self._filter = widgets.HBox(
            [labels[0], self._where, labels[1], self._order, self._apply], layout=layout(flex_flow="row wrap")
        )
        self._shown = [self._head, self._bar, self._question, self._note, self._row, self._further, self._words]
        self._shown += [self._evidence, self._filter]
        self.root = widgets.VBox(self._shown, layout=layout(max_width="960px"))
        self._shown += [*labels, self._where, self._order, self._apply]
        self._shown += [self._unsure, self._skip, self._back, self._undo]
        for widget, name in (
            (self.root, "lab-panel lab-review"), (self._note, "lab-note"), (self._row, "lab-options"),
            (self._words, "lab-words"), (self._evidence, "lab-evidence"), (self._where, "lab-where"),
            (self._order, "lab-order"), (self._apply, "lab-apply"), (self._question, "lab-question"),
        ):  # fmt: skip
            for each in name.split():
                widget.add_class(each)
        put(self._where, value=snapshot.where)
        put(self._order, value=snapshot.order)
        self.show(snapshot)

    def show(self, snapshot: ReviewSnapshot) -> None:
        """Show this snapshot; what has not changed costs nothing."""
        case_id = None if snapshot.case is None else snapshot.case.case_id
        put(self._question, value=styled(review_card.question(snapshot)))
        put(self._evidence, value=styled(review_card.evidence(snapshot)))
        put(self._head, value=styled(review_card.head(snapshot)))
        done = snapshot.listed - snapshot.left
        put(self._bar, max=max(1, snapshot.listed), value=done, bar_style="success" if not snapshot.left else "")
        put(self._words, value=styled(review_card.words(snapshot)))
        self._offer(snapshot.options)
        put(self._unsure, disabled=case_id is None or not snapshot.offers_unsure)
        put(self._skip, disabled=case_id is None)
        put(self._note, disabled=case_id is None)
        if case_id != self._case_id:
            self._case_id = case_id
            put(self._note, value=snapshot.note)

    def close(self) -> None:
        """Close every widget; the page forgets them."""
        self._review.close()
        close_all(*self._shown, *self._choices, self.root)

    def _offer(self, options: tuple[str, ...]) -> None:
        if options == self._options:
            return
        while len(self._choices) < len(options):
            self._choices.append(self._choice(len(self._choices)))
        for choice, option in zip(self._choices, options, strict=False):
            put(choice, description=formats.one_line(option, _LABEL), tooltip=formats.visible(option))
        if len(options) != len(self._options):
            self._row.children = self._choices[: len(options)]
        self._options = options

    def _choice(self, place: int) -> Any:
        layout = self._widgets.Layout(width="auto", min_width="120px", max_width="100%", height="34px")
        button = self._widgets.Button(layout=layout)
        button.add_class("lab-option")
        button.on_click(lambda _: self._click(lambda note: self._review.decide(self._options[place], note)))
        return button

    def _button(self, name: str, tooltip: str, does: Any) -> Any:
        button = self._widgets.Button(description=name, tooltip=tooltip, layout=self._widgets.Layout(width="84px"))
        button.add_class(f"lab-{does}")
        button.on_click(lambda _: self._click(lambda note: self._review.press(Pressed(does), note)))
        return button

    def _click(self, click: Callable[[str], None]) -> None:
        click(self._note.value)
        self._refresh()
        self._note.focus()

    def _choose(self) -> None:
        self._review.choose(self._where.value, self._order.value)
        self._refresh()
