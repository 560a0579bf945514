"""A lab at a glance, as text and as HTML: what waits, who works, what went wrong, and nothing that acts on the page."""

from __future__ import annotations

import pytest

from epsilon_lab.broker.members import WorkerRow
from epsilon_lab.broker.state import BrokerState
from epsilon_lab.broker.stats import Stats
from epsilon_lab.errors import LabError
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.views import lab_card
from epsilon_lab.views.lab_snapshot import MEANINGS, REMEMBERED_S, TROUBLES, LabObserver, LabSnapshot

NOTHING = BrokerState(BrokerSettings(), epoch=1).stats()
WORKER = WorkerRow("s/w1", pid=7, host="h", slots=1, running=1, last_seen=0.0)


def snapshot(
    runs: tuple[tuple[str, str], ...] = (), workers: tuple[WorkerRow, ...] = (), **stats: float
) -> LabSnapshot:
    return LabSnapshot("runs", is_live=True, stats=NOTHING._replace(**stats), workers=workers, runs=runs)  # type: ignore[arg-type]


def test_every_figure_has_its_meaning() -> None:
    assert set(MEANINGS) == set(Stats._fields)
    assert set(TROUBLES) <= set(MEANINGS)


def test_it_says_what_waits_and_how_fast_it_goes() -> None:
    shown = snapshot(queued=1200, prefetched=3, running=4, completed=17, rate=93.25, workers=(WORKER,))
    assert lab_card.text(shown).splitlines() == [
        "lab runs · 0 live runs, 1 worker",
        "1,203 waiting · 4 running · 17 completed · 93.2/s",
    ]
    assert "s/w1" in lab_card.card(shown)
    assert "not as planned" not in lab_card.card(shown)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_went_wrong_is_said_with_its_meaning(trouble: str) -> None:
    shown = snapshot(**{trouble: 5})
    assert f"5 {trouble}: {MEANINGS[trouble]}" in lab_card.text(shown)
    assert "not as planned" in lab_card.card(shown)


def test_names_are_shown_and_do_nothing() -> None:
    shown = snapshot(runs=(("r-1", "<img src=x onerror=alert(1)>"),), workers=(WORKER._replace(host="<b>h"),))
    html = lab_card.card(shown, note="<i>")
    assert "<img" not in html
    assert "<b>h" not in html
    assert "<i>" not in html


def test_many_workers_and_runs_are_counted_not_listed() -> None:
    shown = snapshot(
        runs=tuple((f"r{n}", f"n{n}") for n in range(30)),
        workers=tuple(WORKER._replace(worker_id=f"s/w{n}") for n in range(40)),
    )
    html = lab_card.card(shown)
    assert "… and 18 more" in html
    assert "… and 28 more" in html


def test_the_past_is_drawn_and_forgotten_in_time() -> None:
    moments = [0.0]
    looks = iter([NOTHING._replace(queued=9, rate=2.0), NOTHING, NOTHING])
    observer = LabObserver("runs", lambda: (next(looks), [WORKER], {}), lambda: moments[0])
    observer()
    moments[0] = 1.0
    shown = observer()
    assert [moment.waiting for moment in shown.past] == [9, 0]
    assert lab_card.card(shown).count("<polyline") == 2
    moments[0] = REMEMBERED_S + 0.5
    assert [moment.at for moment in observer().past] == [1.0, REMEMBERED_S + 0.5]


def test_a_closed_lab_is_shown_as_it_was_last_seen() -> None:
    seen = [(NOTHING._replace(completed=3), [WORKER], {"r": "n"}), None]
    observer = LabObserver("runs", lambda: seen.pop(0), lambda: 0.0)
    observer()
    last = observer()
    assert (last.is_live, last.stats.completed, last.workers, last.runs) == (False, 3, (), ())
    assert "closed" in lab_card.text(last)


def test_a_lab_that_was_closed_before_anyone_looked_is_refused() -> None:
    with pytest.raises(LabError, match="closed"):
        LabObserver("runs", lambda: None, lambda: 0.0)()
