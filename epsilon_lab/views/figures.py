"""Score curves, the one door to matplotlib.

The object API throughout: figures here are drawn on threads of the lab's own while a cell may be using pyplot, whose
state belongs to the cell. Nothing reads or writes the global style, for the same reason. Colours are Okabe and Ito's,
and each strategy has a shape too, so that none is told by its hue alone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from epsilon_lab.formats import number, visible
from epsilon_lab.views.curve import CONTROL, Curve, Versus
from epsilon_lab.views.snapshot import RunSnapshot

_NAN = float("nan")
_BEST = "#0072B2"
_FAILED = "#D55E00"
_GREY = "#8c8c8c"
_INK = "#333333"
_MARKS: dict[str, tuple[str, str, float]] = {
    "seed": ("#000000", "*", 10.0),
    "fresh": ("#56B4E9", "o", 5.0),
    "diverse": ("#E69F00", "^", 5.5),
    "offspring": ("#009E73", "s", 4.5),
    "": ("#CC79A7", "D", 4.5),  # any other strategy
}
"""Strategy -> colour, shape, points."""

_ARMS = (("#0072B2", "o", "-"), ("#CC79A7", "s", (0, (4, 1.5))))
"""Colour, shape and dash of a search and of its controls."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":")


class ScoreFigure(Figure):
    """A matplotlib figure that shows itself in a notebook; `savefig` and the rest are matplotlib's own."""

    def __init__(self, width: float = 7.6, height: float = 3.9) -> None:
        super().__init__(figsize=(width, height), dpi=110, facecolor="white", layout="constrained")
        FigureCanvasAgg(self)

    def png(self) -> bytes:
        """The figure as a PNG."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", facecolor="white")
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()


def score_figure(snapshot: RunSnapshot, *, ax: Axes | None = None, controls: bool = True) -> ScoreFigure:
    """Draw a search: best so far, the median of each generation, every candidate.

    Args:
        snapshot: The search.
        ax: Axes to draw into instead of a new figure; its own figure is returned.
        controls: Where there are controls, draw the search beside them instead, by programs judged.
    """
    figure, axes = _canvas(ax)
    if controls and snapshot.versus is not None:
        beside = _Beside(axes)
        beside.show(snapshot.versus)
        _legend(axes, beside.handles(snapshot.versus), snapshot.versus.extent)
        axes.set_title(plain(snapshot.name), loc="left", fontsize=11, color=_INK, fontweight="bold")
        return figure
    curve = snapshot.curve or Curve()
    plot = _Plot(axes)
    plot.show(curve)
    _shade(axes, curve)
    _legend(axes, plot.handles(curve))
    axes.set_title(plain(snapshot.name), loc="left", fontsize=11, color=_INK, fontweight="bold")
    if curve.best:
        who = f" ({plain(snapshot.best.candidate_id)})" if snapshot.best else ""
        axes.set_title(f"best {number(curve.best[-1][1])}{who}", loc="right", fontsize=10, color=_BEST)
    if not curve.size:
        axes.text(0.5, 0.5, "no candidate yet", transform=axes.transAxes, ha="center", color=_GREY)
    if not curve.scored and curve.best_known is None:
        axes.set_yticks([])
    return figure


def compare_figure(snapshots: Sequence[RunSnapshot], *, ax: Axes | None = None) -> ScoreFigure:
    """Draw the best score so far of several searches, one line each.

    Args:
        snapshots: The searches.
        ax: Axes to draw into instead of a new figure; its own figure is returned.
    """
    figure, axes = _canvas(ax)
    handles: dict[str, Any] = {}
    curves = [snapshot.curve or Curve() for snapshot in snapshots]
    for index, (snapshot, curve) in enumerate(zip(snapshots, curves, strict=True)):
        colour, dash = _COLOURS[index % len(_COLOURS)], _DASHES[index // len(_COLOURS) % len(_DASHES)]
        xs, ys = _steps(curve)
        (line,) = axes.plot(xs, ys, drawstyle="steps-post", color=colour, ls=dash, lw=2.0)
        axes.plot(xs[-1:], ys[-1:], "o", color=colour, ms=5)
        best = f": {number(curve.best[-1][1])}" if curve.best else ": nothing scored yet"
        handles[f"{plain(snapshot.name, 32)}{best} after {curve.size}"] = line
    known = {curve.best_known for curve in curves if curve.best_known is not None}
    for score in known if len(known) == 1 else ():
        axes.axhline(score, color=_INK, lw=1.0, ls=(0, (5, 4)), zorder=1)
        handles[f"best known: {number(score)}"] = axes.lines[-1]
    _dress(axes, {curve.direction for curve in curves})
    axes.set_xlim(-0.8, max((curve.size for curve in curves), default=0) + 1.2)
    axes.set_title("best score so far", loc="left", fontsize=11, color=_INK, fontweight="bold")
    _legend(axes, handles)
    return figure


class LiveCurve:
    """Draws a curve again and again, fast: axes fixed in place, lines that only take new data, no layout.

    Args:
        beside: Whether frames show a search beside its controls.
        width: Inches; a frame has 80 pixels an inch.
        height: Inches.
    """

    def __init__(self, *, beside: bool = False, width: float = 7.0, height: float = 3.0) -> None:
        figure = Figure(figsize=(width, height), dpi=80, facecolor="white")
        canvas: Any = FigureCanvasAgg(figure)  # its methods are untyped
        self._canvas = canvas
        self._axes = figure.add_axes((0.085, 0.145, 0.9, 0.76))
        self._axes.set_visible(False)
        self._plot: Any = (_Beside if beside else _Plot)(self._axes, rim=0.0)
        self._axes.tick_params(labelsize=8)
        handles = self._plot.key()
        figure.legend(
            list(handles.values()), list(handles), loc="upper left", bbox_to_anchor=(0.11, 1.01), ncols=len(handles),
            frameon=False, fontsize=8, handletextpad=0.4, columnspacing=1.2,
        )  # fmt: skip
        canvas.draw()
        self._ground = canvas.copy_from_bbox(figure.bbox)  # what never changes is drawn once
        self._axes.set_visible(True)

    def frame(self, shown: Curve | Versus) -> bytes:
        """One frame, a PNG."""
        self._plot.show(shown)
        self._canvas.restore_region(self._ground)
        self._axes.draw(self._canvas.get_renderer())
        pixels = Image.frombuffer("RGBA", self._canvas.get_width_height(), self._canvas.buffer_rgba())
        buffer = io.BytesIO()
        pixels.convert("RGB").save(buffer, "png", compress_level=1)
        return buffer.getvalue()


class _Plot:
    """The artists of one curve: made once, given data as often as there is new data."""

    def __init__(self, axes: Axes, *, rim: float = 0.4) -> None:
        self._axes = axes
        self._dots = {
            strategy: axes.plot([], [], shape, ms=size, mfc=colour, mec="white", mew=rim, alpha=0.85, zorder=3)[0]
            for strategy, (colour, shape, size) in _MARKS.items()
        }
        self._beyond = axes.plot([], [], "v", ms=4, mfc="none", mec=_GREY, mew=0.9, zorder=3)[0]
        rug = axes.get_xaxis_transform()
        self._failed = axes.plot([], [], "|", ms=9, mec=_FAILED, mew=1.3, transform=rug, zorder=3)[0]
        self._twins = axes.plot([], [], "|", ms=6, mec=_GREY, mew=1.0, transform=rug, zorder=3)[0]
        self._median = axes.plot([], [], color="#555555", lw=1.6, alpha=0.9, zorder=4)[0]
        self._best = axes.plot([], [], color=_BEST, lw=2.2, drawstyle="steps-post", zorder=5)[0]
        self._peak = axes.plot([], [], "o", ms=8, mfc="none", mec=_BEST, mew=1.8, zorder=6)[0]
        self._known = axes.axhline(0, color=_INK, lw=1.0, ls=(0, (5, 4)), zorder=1, visible=False)
        self._directions: set[str] = set()
        _dress(axes, {"maximize"})

    def show(self, curve: Curve) -> None:
        """Draw this curve from now on."""
        low, high = curve.limits()
        if self._directions != {curve.direction}:
            self._directions = {curve.direction}
            _dress(self._axes, self._directions)
        room = high - low  # failures have the foot to themselves, generations' numbers the head
        self._axes.set_ylim(low - 0.08 * room, high + 0.08 * room)
        self._axes.set_xlim(-0.8, max(curve.size, 8) - 0.2)
        dots: dict[str, list[tuple[int, float]]] = {strategy: [] for strategy in self._dots}
        for place, score, strategy in curve.scored:
            dots[strategy if strategy in dots else ""].append((place, score))
        for strategy, points in dots.items():
            self._dots[strategy].set_data(*(zip(*points, strict=True) if points else ((), ())))
        outside = [place for place, score, _ in curve.scored if not low <= score <= high]
        worst = high if curve.direction == "minimize" else low
        self._beyond.set_marker("^" if curve.direction == "minimize" else "v")
        self._beyond.set_data(outside, [worst] * len(outside))
        self._failed.set_data(curve.failed, [0.03] * len(curve.failed))
        self._twins.set_data(curve.duplicates, [0.03] * len(curve.duplicates))
        medians = [
            point
            for span in curve.spans
            if span.median is not None
            for point in ((span.start - 0.4, span.median), (span.stop - 0.6, span.median), (_NAN, _NAN))
        ]
        self._median.set_data([x for x, _ in medians], [y for _, y in medians])
        self._best.set_data(*_steps(curve))
        self._peak.set_data([curve.best[-1][0]] if curve.best else [], [curve.best[-1][1]] if curve.best else [])
        self._known.set_visible(curve.best_known is not None)
        self._known.set_ydata([curve.best_known or 0.0] * 2)

    def key(self) -> dict[str, Line2D]:
        """What each mark means, whatever is shown."""
        strategies = {strategy: dots for strategy, dots in self._dots.items() if strategy}
        return {"best": self._best, "median": self._median, **strategies, "failed": self._failed}

    def handles(self, curve: Curve) -> dict[str, Line2D]:
        """What each mark means, and how many there are, for marks that are there."""
        counts = dict.fromkeys(self._dots, 0)
        for _, _, strategy in curve.scored:
            counts[strategy if strategy in counts else ""] += 1
        low, high = curve.limits()
        beyond = sum(not low <= score <= high for _, score, _ in curve.scored)
        handles: dict[str, Line2D] = {}
        if curve.best:
            handles["best so far"] = self._best
            handles["median of a generation"] = self._median
        if curve.best_known is not None:
            handles[f"best known: {number(curve.best_known)}"] = self._known
        for strategy, count in counts.items():
            if count:
                handles[strategy if strategy == "seed" else f"{strategy or 'other'} ({count})"] = self._dots[strategy]
        if curve.failed:
            handles[f"failed ({len(curve.failed)})"] = self._failed
        if curve.duplicates:
            handles[f"duplicate ({len(curve.duplicates)})"] = self._twins
        if beyond:
            handles[f"off the scale ({beyond})"] = self._beyond
        return handles


class _Beside:
    """The artists of a search and its controls, on one axis: programs judged."""

    def __init__(self, axes: Axes, *, rim: float = 0.4) -> None:
        self._axes = axes
        self._dots, self._best, self._peaks = [], [], []
        looks: tuple[dict[str, Any], ...] = (
            {"ms": 4.5, "mew": rim, "mec": "white", "alpha": 0.5},
            {"ms": 5.5, "mew": 1.0, "mfc": "none", "alpha": 0.7},
        )
        for place, ((colour, shape, dash), look) in enumerate(zip(_ARMS, looks, strict=True)):
            self._dots += axes.plot([], [], shape, color=colour, zorder=3 - place, **look)
            self._best += axes.plot([], [], color=colour, lw=2.2, ls=dash, drawstyle="steps-post", zorder=6 - place)
            self._peaks += axes.plot([], [], "o", ms=8, mfc="none", mec=colour, mew=1.8, zorder=7)
        self._known = axes.axhline(0, color=_INK, lw=1.0, ls=(0, (5, 4)), zorder=1, visible=False)
        self._directions: set[str] = set()

    def show(self, versus: Versus) -> None:
        """Draw these two from now on."""
        curves = (versus.search.curve, versus.control.curve)
        low, high = versus.limits()
        if self._directions != {curves[0].direction}:
            self._directions = {curves[0].direction}
            _dress(self._axes, self._directions, "programs judged, the seed program not counted")
        room = high - low
        self._axes.set_ylim(low - 0.04 * room, high + 0.04 * room)
        self._axes.set_xlim(-0.8, max(*(curve.size for curve in curves), 8) - 0.2)
        for curve, dots, best, peak in zip(curves, self._dots, self._best, self._peaks, strict=True):
            dots.set_data([place for place, _, _ in curve.scored], [score for _, score, _ in curve.scored])
            best.set_data(*_steps(curve))
            peak.set_data([place for place, _ in curve.best[-1:]], [score for _, score in curve.best[-1:]])
        known = curves[0].best_known
        self._known.set_visible(known is not None)
        self._known.set_ydata([known or 0.0] * 2)

    def key(self) -> dict[str, Line2D]:
        """What each line means, whatever is shown."""
        return dict(zip(("search, best so far", f"{CONTROL}, best so far"), self._best, strict=True))

    def handles(self, versus: Versus) -> dict[str, Line2D]:
        """What each mark means, with the figures to compare."""
        handles: dict[str, Line2D] = {}
        low, high = versus.limits()
        for what, arm, best, dots in zip(
            ("search", CONTROL), (versus.search, versus.control), self._best, self._dots, strict=True
        ):
            handles[f"{what}: best {number(arm.best)}"] = best
            beyond = sum(not low <= score <= high for _, score, _ in arm.curve.scored)
            rest = f",\n{beyond:,} of them off the scale" * bool(beyond)
            handles[f"{what}: {len(arm.curve.scored):,} with a score{rest}"] = dots
        if versus.search.curve.best_known is not None:
            handles[f"best known: {number(versus.search.curve.best_known)}"] = self._known
        return handles


def plain(text: object, limit: int = 60) -> str:
    """Text that a figure shows as it is: one short line, no mathematics, no character without a shape."""
    shapes = _shapes()
    line = "".join(char if ord(char) in shapes else "□" for char in visible(" ".join(str(text).split())))
    line = line if len(line) <= limit else line[: limit - 1] + "…"
    return line.replace("$", r"\$")


@cache
def _shapes() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def _canvas(ax: Axes | None) -> tuple[ScoreFigure, Axes]:
    if ax is not None:
        return cast("ScoreFigure", ax.get_figure()), ax  # whatever figure it is, it is the caller's
    figure = ScoreFigure()
    return figure, figure.add_subplot()


def _steps(curve: Curve) -> tuple[list[float], list[float]]:
    """The best line, drawn on to the newest candidate."""
    if not curve.best:
        return [], []
    xs: list[float] = [place for place, _ in curve.best]
    ys = [score for _, score in curve.best]
    return [*xs, max(curve.size - 0.6, xs[-1])], [*ys, ys[-1]]


def _dress(axes: Axes, directions: set[str], along: str = "candidate") -> None:
    """Ink, grid and labels, whatever style the notebook has set."""
    better = {"maximize": "score (higher is better)", "minimize": "score (lower is better)"}
    label = better.get(next(iter(directions)), "score") if len(directions) == 1 else "score"
    axes.set_facecolor("white")
    axes.set_ylabel(label, fontsize=9, color=_INK)
    axes.set_xlabel(along, fontsize=9, color=_INK)
    axes.grid(axis="y", color="#e6e6e6", lw=0.8)
    axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.tick_params(colors=_INK, labelsize=9, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#bbbbbb")


def _shade(axes: Axes, curve: Curve) -> None:
    """Every other generation stands on a grey ground, and has its number at the top."""
    every = max(1, -(-len(curve.spans) // 12))
    for span in curve.spans:
        if span.generation % 2:
            axes.axvspan(span.start - 0.5, span.stop - 0.5, color="#f4f5f7", lw=0, zorder=0)
        if span.generation % every == 0 and (span.stop - span.start) * 40 > curve.size:
            label = f"gen {span.generation}" if len(curve.spans) <= 8 else str(span.generation)
            axes.text(
                (span.start + span.stop - 1) / 2, 0.985, label, transform=axes.get_xaxis_transform(),
                ha="center", va="top", fontsize=7.5, color=_GREY, clip_on=True,
            )  # fmt: skip


def _legend(axes: Axes, handles: dict[str, Any], title: str | None = None) -> None:
    if handles:
        axes.legend(
            list(handles.values()), list(handles), loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0,
            frameon=False, fontsize=8.5, labelcolor=_INK, handletextpad=0.6, title=title, title_fontsize=8.5,
            alignment="left",
        )  # fmt: skip
