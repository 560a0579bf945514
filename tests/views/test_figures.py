"""Figures: they draw what is there, in either direction, for any text, and touch nothing of the notebook's."""

from __future__ import annotations

import io
import subprocess
import sys
import threading

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from epsilon_lab.views.curve import Arm, Point, Versus, curve
from epsilon_lab.views.figures import LiveCurve, ScoreFigure, compare_figure, plain, score_figure
from epsilon_lab.views.snapshot import Best, RunSnapshot


def points(count: int, *, failing: int = 0) -> list[Point]:
    strategies = ("fresh", "diverse", "offspring", "mystery")
    found = [Point("seed", 0, "seed", 1.0, "scored", True)]
    for i in range(count):
        name, strategy = f"g{i // 8:03d}-c{i % 8:03d}", strategies[i % 4]
        if i < failing:
            found.append(Point(name, i // 8, strategy, None, "timeout" if i % 2 else "duplicate", None))
        else:
            found.append(Point(name, i // 8, strategy, 1.0 + i / 10, "scored", i % 3 == 0))
    return found


def snapshot(found: list[Point], *, name: str = "search", direction: str = "maximize", best_known: float | None = None):
    drawn = curve(found, direction=direction, best_known=best_known)
    best = Best("g000-c001", drawn.best[-1][1]) if drawn.best else None
    return RunSnapshot("run", name, "population_search", "running", unit="candidates", curve=drawn, best=best)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def pixels(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    return image.convert("RGB")


def test_a_search_shows_best_median_every_strategy_and_how_many_failed() -> None:
    figure = score_figure(snapshot(points(40, failing=6), best_known=6.0))
    assert legend(figure) == [
        "best so far",
        "median of a generation",
        "best known: 6",
        "seed",
        "fresh (8)",
        "diverse (8)",
        "offspring (9)",
        "other (9)",
        "failed (3)",
        "duplicate (3)",
    ]
    assert figure.axes[0].get_title(loc="right").startswith("best 4.9")
    assert len(pixels(figure._repr_png_()).getcolors(1 << 20) or ()) > 50


FAILED = [Point("seed", 0, "seed", None, "crashed", None), Point("g000-c000", 0, "fresh", None, "timeout", None)]
EQUAL = [Point("seed", 0, "seed", 3.0, "scored", None), Point("g000-c000", 0, "fresh", 3.0, "scored", None)]
ABSURD = [Point("seed", 0, "seed", 1.0, "scored", True), Point("g000-c000", 0, "fresh", 1e300, "scored", None)]


@pytest.mark.parametrize(
    ("found", "direction"),
    [
        ([], "maximize"),
        (points(0), "maximize"),
        (FAILED, "minimize"),
        (EQUAL, "minimize"),
        (ABSURD, "maximize"),
        (ABSURD, "minimize"),
    ],
)
def test_every_kind_of_search_can_be_drawn(found: list[Point], direction: str) -> None:
    drawn = snapshot(found, direction=direction)
    pixels(score_figure(drawn).png())
    pixels(compare_figure([drawn, drawn]).png())
    pixels(LiveCurve().frame(drawn.curve))


def test_direction_is_said_on_the_axis() -> None:
    assert "lower is better" in score_figure(snapshot(points(9), direction="minimize")).axes[0].get_ylabel()
    assert "higher is better" in score_figure(snapshot(points(9))).axes[0].get_ylabel()


@pytest.mark.parametrize(
    "name", ["$\\frac{$", "$x$", "a_b^c", "日本 <b>", "\x00\x1b\n\ttab", "", "x" * 5000, "\\$", "\u202e"]
)
def test_any_name_can_be_a_title(name: str) -> None:
    pixels(score_figure(snapshot(points(9), name=name)).png())
    pixels(compare_figure([snapshot(points(9), name=name)]).png())
    assert len(plain(name)) <= 130


def test_axes_of_ones_own_are_drawn_into() -> None:
    figure = Figure()
    axes = figure.subplots(1, 2)
    assert score_figure(snapshot(points(9)), ax=axes[0]) is figure
    assert compare_figure([snapshot(points(9))], ax=axes[1]) is figure
    assert axes[0].lines
    assert axes[1].lines


def test_a_figure_saves_itself_as_matplotlib_does(tmp_path) -> None:
    figure = score_figure(snapshot(points(9)))
    assert isinstance(figure, ScoreFigure)
    figure.savefig(tmp_path / "scores.png")
    figure.savefig(tmp_path / "scores.svg")
    pixels((tmp_path / "scores.png").read_bytes())


def test_several_searches_are_told_apart_and_named() -> None:
    figure = compare_figure([snapshot(points(n), name=f"run {n}", best_known=9.0) for n in (5, 20, 30)])
    assert [text.split(":")[0] for text in legend(figure)] == ["run 5", "run 20", "run 30", "best known"]
    assert compare_figure([]).axes


def test_a_live_frame_is_the_picture_of_its_curve_and_not_of_the_one_before() -> None:
    live = LiveCurve()
    first = live.frame(snapshot(points(10)).curve)
    other = live.frame(snapshot(points(60, failing=9), best_known=9.0).curve)
    assert first != other
    assert live.frame(snapshot(points(10)).curve) == first
    assert pixels(first).size == (560, 240)


def test_the_notebooks_own_style_is_neither_used_nor_changed() -> None:
    before = dict(mpl.rcParams)
    plain_png = score_figure(snapshot(points(9))).png()
    assert dict(mpl.rcParams) == before
    assert plain_png


def test_pyplot_is_never_loaded() -> None:
    code = (
        "import epsilon_lab.views.figures, epsilon_lab.views.live, sys; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_frames_are_drawn_on_several_threads_at_once() -> None:
    frames: dict[int, bytes] = {}
    expected = LiveCurve().frame(snapshot(points(40)).curve)

    def draw(index: int) -> None:
        live = LiveCurve()
        for _ in range(3):
            frames[index] = live.frame(snapshot(points(40)).curve)

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(frames.values()) == {expected}


def arm(
    scores: list[float | None], *, status: str = "completed", direction: str = "maximize", known: float | None = 9.0
):
    found = [
        Point("seed" if i == 0 else f"g000-c{i:03d}", 0, "fresh", score, "crashed" if score is None else "scored", True)
        for i, score in enumerate(scores)
    ]
    return Arm("r", status, curve(found, direction=direction, best_known=known))


def beside(search: Arm, control: Arm) -> RunSnapshot:
    versus = Versus(search, control)
    return RunSnapshot("r", "caps", "population_search", "completed", curve=search.curve, versus=versus)


def test_a_search_stands_beside_its_controls_by_programs_judged() -> None:
    shown = beside(arm([1.0, None, 3.0, 2.0]), arm([1.0, 2.0, *[1.5] * 20, -500.0]))
    figure = score_figure(shown)
    assert legend(figure) == [
        "search: best 3",
        "search: 3 with a score",
        "random variation: best 2",
        "random variation: 23 with a score,\n1 of them off the scale",
        "best known: 9",
    ]
    axes = figure.axes[0]
    assert axes.get_xlabel().startswith("programs judged")
    assert axes.get_title("left") == "caps"
    assert axes.get_legend().get_title().get_text() == "3 and 22 evaluations"
    lines = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert [list(line.get_ydata()) for line in lines] == [[1.0, 3.0, 3.0], [1.0, 2.0, 2.0]]
    assert [list(line.get_xdata())[:2] for line in lines] == [[0, 2], [0, 1]]
    assert score_figure(shown, controls=False).axes[0].get_xlabel() == "candidate"


def test_what_was_never_good_does_not_flatten_the_lines() -> None:
    bad = [1.0, 2.0, *[500.0] * 40, *[-500.0] * 40]
    for direction in ("minimize", "maximize"):
        good = [2.0, 1.0, *bad] if direction == "minimize" else bad
        shown = beside(
            arm(good, direction=direction, known=None), arm([1.5, 1.2, 1.9], direction=direction, known=None)
        )
        low, high = score_figure(shown).axes[0].get_ylim()
        best = [score for one in (shown.versus.search, shown.versus.control) for _, score in one.curve.best]
        assert low < min(best) <= max(best) < high
        assert high - low < 2 * (max(best) - min(best))
    same = arm([5.0, 5.0], known=None)
    assert score_figure(beside(same, same)).axes[0].get_ylim()[0] < 5


def test_lower_is_better_in_a_comparison_too() -> None:
    shown = beside(arm([5.0, 4.0], direction="minimize", known=1.0), arm([5.0, 4.5], direction="minimize", known=1.0))
    figure = score_figure(shown)
    assert "lower is better" in figure.axes[0].get_ylabel()
    assert legend(figure)[0] == "search: best 4"


def test_controls_are_drawn_while_they_run_and_before_they_have_any_program() -> None:
    live = LiveCurve(beside=True)
    first = live.frame(Versus(arm([1.0, 3.0]), Arm("r", "running")))
    later = live.frame(Versus(arm([1.0, 3.0]), arm([1.0, 2.0], status="running")))
    assert pixels(first).tobytes() != pixels(later).tobytes()


def test_the_sentence_says_the_figures_and_no_more() -> None:
    search = arm([1.0, 2.0, 20.0])
    assert Versus(search, arm([1.0, 18.0, 3.0])).sentence == (
        "the search reached 20, random variation 18, at 2 evaluations each"
    )
    assert Versus(search, arm([1.0, 18.0], status="running")).sentence == (
        "the search reached 20, random variation 18, at 2 and 1 evaluations so far"
    )
    assert Versus(search, arm([1.0, 18.0])).sentence.endswith("at 2 and 1 evaluations")
    assert Versus(search, Arm("r", "running")).sentence.endswith("random variation –, at 2 and 0 evaluations so far")
