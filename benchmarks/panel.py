"""How long a frame of the live panel takes: `python benchmarks/panel.py`.

The goal is 25 ms a frame. Beside it stand the figure of full quality, drawn once at the end, and a matplotlib figure
with two lines and no more, redrawn whole.
"""

from __future__ import annotations

import io
import random
import statistics
import time
from collections.abc import Callable
from functools import partial

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from epsilon_lab.views.card import card
from epsilon_lab.views.curve import Point, curve
from epsilon_lab.views.figures import LiveCurve, score_figure
from epsilon_lab.views.panels import Panel
from epsilon_lab.views.snapshot import Best, RunSnapshot


def search(count: int) -> RunSnapshot:
    """A search as it might go, with one candidate in eight failing."""
    dice, best = random.Random(7), 1.0
    points = [Point("seed", 0, "seed", 1.0, "scored", True)]
    for i in range(count):
        name, strategy = f"g{i // 20:03d}-c{i % 20:03d}", dice.choice(("fresh", "diverse", "offspring"))
        score = best + dice.gauss(-0.3, 0.2)
        checked = score > best
        best = max(best, score)
        outcome = "scored" if dice.random() > 0.125 else "timeout"
        points.append(Point(name, i // 20, strategy, score if outcome == "scored" else None, outcome, checked or None))
    drawn, diff = curve(points), "\n".join(f"+    line {i}" for i in range(60))
    return RunSnapshot(
        "run", "search", "population_search", "running", unit="candidates", done=count, expected=count, curve=drawn,
        best=Best("g000-c001", best, diff, "seed", diff), elapsed_s=1.0,
    )  # fmt: skip


def measure(what: str, act: Callable[[], object]) -> None:
    took, worked = [], []
    for _ in range(15):
        began, work = time.perf_counter(), time.process_time()
        act()
        took.append((time.perf_counter() - began) * 1e3)
        worked.append((time.process_time() - work) * 1e3)
    middle, work = statistics.median(took), statistics.median(worked)
    print(f"{middle:7.1f} ms, worst {max(took):6.1f}, processor {work:5.1f}   {what}")


def main() -> None:
    plain = Figure(figsize=(7, 3), dpi=80)
    FigureCanvasAgg(plain)
    plain.add_axes((0.1, 0.15, 0.85, 0.8)).plot(range(100), range(100), range(100), [50] * 100)
    measure("two plain lines, redrawn whole", lambda: plain.savefig(io.BytesIO(), format="png"))
    for count in (40, 400, 4_000, 10_000):
        snapshot = search(count)
        assert snapshot.curve is not None
        frame = partial(LiveCurve().frame, snapshot.curve)
        measure(f"a frame of {count:,} candidates, {len(frame()) / 1e3:.0f} kB", frame)
    snapshot = search(400)
    panel = Panel(snapshot, {})
    measure("the panel where nothing is new", lambda: panel.show(snapshot))
    panel.close()
    measure("the figure of full quality", lambda: score_figure(snapshot).png())
    measure(f"the final card, {len(card(snapshot)) / 1e3:.0f} kB", lambda: card(snapshot))


if __name__ == "__main__":
    main()
