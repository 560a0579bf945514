"""A lab's snapshot as text and as HTML that needs nothing else, its recent past drawn as two small curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from epsilon_lab import formats
from epsilon_lab.views.lab_snapshot import MEANINGS, TROUBLES, LabSnapshot

_WIDTH, _HEIGHT = 340, 54
_MOST_ROWS = 12
_LEAST_S = 20.0


def headline(snapshot: LabSnapshot) -> str:
    """What waits, what is worked on and how fast, in one line of text."""
    stats = snapshot.stats
    parts = [f"{formats.number(stats.queued + stats.prefetched)} waiting"]
    if stats.delayed:
        parts.append(f"{formats.number(stats.delayed)} delayed")
    parts += [
        f"{formats.number(stats.running)} running",
        f"{formats.number(stats.completed)} completed",
        f"{stats.rate:.3g}/s",
    ]
    return " · ".join(parts)


def text(snapshot: LabSnapshot) -> str:
    """The lab as a few lines of text."""
    runs, workers = len(snapshot.runs), len(snapshot.workers)
    state = f"{_count(runs, 'live run')}, {_count(workers, 'worker')}" if snapshot.is_live else "closed"
    lines = [f"lab {snapshot.path} · {state}", headline(snapshot)]
    lines += [f"{count:,} {what}: {meaning}" for what, count, meaning in _troubles(snapshot)]
    return "\n".join(formats.visible(line) for line in lines)


def card(snapshot: LabSnapshot, *, note: str = "") -> str:
    """The lab as HTML on its own: head, curves, live runs, workers, troubles.

    Args:
        snapshot: The lab.
        note: A sentence for the foot of the card.
    """
    parts = [_head(snapshot), _curves(snapshot)]
    if snapshot.runs:
        rows = [(name, run_id) for run_id, name in snapshot.runs[:_MOST_ROWS]]
        parts.append(formats.table(("live run", "run_id"), rows) + _more(len(snapshot.runs)))
    if snapshot.workers:
        parts.append(_workers(snapshot))
    if troubles := list(_troubles(snapshot)):
        told = [(what, formats.number(count), meaning) for what, count, meaning in troubles]
        parts.append(formats.table(("not as planned", "times", "what it means"), told))
    if note:
        parts.append(f'<div style="{formats.FAINT};font-size:12px">{formats.escape(note)}</div>')
    return f'<div class="lab-card" style="{formats.FONT};{formats.TEXT};max-width:820px">{"".join(parts)}</div>'


def _head(snapshot: LabSnapshot) -> str:
    badge = formats.badge("running" if snapshot.is_live and snapshot.runs else "idle" if snapshot.is_live else "closed")
    return (
        f'<div style="margin:2px 0 4px"><b style="font-size:14px">lab</b> {badge} '
        f'<span style="{formats.FAINT};font-size:12px">{formats.escape(snapshot.path)}</span></div>'
        f"<div>{formats.escape(headline(snapshot))}</div>"
    )


def _workers(snapshot: LabSnapshot) -> str:
    rows = [
        (row.worker_id, row.host, row.pid, f"{row.running} of {row.slots}") for row in snapshot.workers[:_MOST_ROWS]
    ]
    return formats.table(("worker", "host", "pid", "busy with"), rows) + _more(len(snapshot.workers))


def _more(count: int) -> str:
    return f'<div style="{formats.FAINT}">… and {count - _MOST_ROWS} more</div>' if count > _MOST_ROWS else ""


def _troubles(snapshot: LabSnapshot) -> Iterator[tuple[str, int, str]]:
    for name in TROUBLES:
        if count := getattr(snapshot.stats, name):
            yield name, count, MEANINGS[name]


def _curves(snapshot: LabSnapshot) -> str:
    if len(snapshot.past) < 2:
        return ""
    end = snapshot.past[-1].at
    span_s = max(_LEAST_S, end - snapshot.past[0].at)
    times = [1 - (end - moment.at) / span_s for moment in snapshot.past]
    waiting = _curve("waiting", times, [moment.waiting for moment in snapshot.past], "#0072B2", "", span_s)
    rate = _curve("completed", times, [moment.rate for moment in snapshot.past], "#D55E00", "/s", span_s)
    return f'<div style="display:flex;gap:24px;flex-wrap:wrap;margin:6px 0">{waiting}{rate}</div>'


def _curve(title: str, times: Sequence[float], values: Sequence[float], colour: str, unit: str, span_s: float) -> str:
    """A small curve over the last `span_s` seconds, times from 0 to 1, with its highest value and its last."""
    most = max(values)
    points = [
        (_WIDTH * at, _HEIGHT - (_HEIGHT - 4) * value / (most or 1)) for at, value in zip(times, values, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    area = f"{points[0][0]:.1f},{_HEIGHT} {line} {points[-1][0]:.1f},{_HEIGHT}"
    now = formats.escape(f"{title} {values[-1]:.3g}{unit}" if unit else f"{title} {values[-1]:,}")
    top = formats.escape(f"at most {most:.3g}{unit}" if unit else f"at most {most:,}")
    return (
        f'<div style="width:{_WIDTH}px"><div style="display:flex;justify-content:space-between;font-size:12px">'
        f'<span>{now}</span><span style="{formats.FAINT}">{top} in {span_s:.0f} s</span></div>'
        f'<svg width="{_WIDTH}" height="{_HEIGHT + 1}" role="img" aria-label="{formats.escape(title)}">'
        f'<polygon points="{area}" fill="{colour}" fill-opacity="0.12"/>'
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        f'<line y1="{_HEIGHT + 0.5}" x2="{_WIDTH}" y2="{_HEIGHT + 0.5}" stroke="currentColor" stroke-opacity="0.3"/>'
        f"</svg></div>"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
