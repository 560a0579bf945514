"""Numbers, times, tables, diffs and programs for people, and the one place where text becomes HTML.

Whatever comes from a candidate, a model, a file or a peer passes `escape`. Styles are inline, since a saved notebook
carries no style sheet, and colours are JupyterLab's own where it is the reader, so that a dark theme stays dark.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class State(NamedTuple):
    """How a state of a task looks: never by its colour alone."""

    sign: str
    colour: str
    word: str


TEXT = "color:var(--jp-ui-font-color1,#1f2328)"
FAINT = "color:var(--jp-ui-font-color2,#59636e)"
MONO = "font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:12px;line-height:1.45"
_BOX = (
    f"{MONO};{TEXT};background:var(--jp-layout-color2,#f6f8fa);border-radius:4px;"
    "padding:6px 8px;margin:4px 0;max-height:22em;overflow:auto;white-space:pre"
)
_LINES = {"+": "background:rgba(46,160,67,.18)", "-": "background:rgba(248,81,73,.18)", "@": FAINT}
SANS = "font-family:var(--jp-ui-font-family,system-ui,sans-serif)"
FONT = f"{SANS};font-size:13px;line-height:1.45"
_BADGES = {
    "running": "#0072B2",
    "paused": "#8a6100",
    "completed": "#00664a",
    "failed": "#b03a00",
    "stopped": "#59636e",
    "interrupted": "#59636e",
}
STATES: dict[str, State] = {
    "waiting": State("○", "var(--jp-ui-font-color3,#808890)", "waiting"),
    "queued": State("◔", "#0072B2", "about to start"),
    "running": State("▶", "#0072B2", "running"),
    "asked": State("?", "#8a6100", "waits for a person"),
    "completed": State("✓", "#00805d", "completed"),
    "failed": State("✗", "#c04000", "failed"),
    "dead": State("✗", "#c04000", "took its worker down too often"),
    "rejected": State("✗", "#c04000", "rejected"),
    "blocked": State("⊘", "#c04000", "blocked"),
    "skipped": State("»", "#6e7781", "skipped"),
    "cancelled": State("⊘", "#6e7781", "cancelled"),
}
"""How a task's states look."""
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object) -> str:
    """Text without characters that hide, reorder or end it: each becomes a replacement sign."""
    return _UNSEEN.sub("�", str(text))


def escape(text: object) -> str:
    """Text as HTML that shows it and does nothing else."""
    return html.escape(visible(text))


def number(value: float | None) -> str:
    """A score or a count, to six digits; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def size(count: int) -> str:
    """Bytes, as a person says them."""
    power = min((len(str(count)) - 1) // 3, 4)
    amount = count / 1000**power
    return f"{amount:.{1 if power and amount < 10 else 0}f} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


def duration(seconds: float | None) -> str:
    """Seconds, as a person says them."""
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def one_line(text: object, limit: int = 160) -> str:
    """The first line of a text, cut to `limit` characters."""
    first = next((line for line in visible(text).splitlines() if line.strip()), "").strip()
    return first if len(first) <= limit else first[: limit - 1] + "…"


def state(name: str) -> State:
    """How a task's state looks; one that nobody here knows is told by its name."""
    return STATES.get(name) or State("·", "#6e7781", name)


def some(names: Sequence[str], most: int = 12) -> str:
    """Names with commas between them, the first few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def badge(status: str) -> str:
    """A run's status as a small coloured label."""
    colour = _BADGES.get(status, "#59636e")
    return (
        f'<span style="background:{colour};color:#fff;border-radius:9px;padding:1px 9px;font-size:12px">'
        f"{escape(status)}</span>"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A small table; cells are escaped."""
    cell = "padding:2px 14px 2px 0;text-align:left;vertical-align:top"
    head = "".join(f'<th style="{cell};font-weight:600">{escape(name)}</th>' for name in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{cell}">{escape(value)}</td>' for value in row) + "</tr>" for row in rows
    )
    head = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f'<table style="border-collapse:collapse;margin:4px 0;{TEXT}">{head}<tbody>{body}</tbody></table>'


def summary(title: str, facts: Iterable[tuple[str, object]]) -> str:
    """An object at a glance, for its HTML repr: a bold title and a few facts."""
    return f'<div style="{FONT};{TEXT}"><b>{escape(title)}</b>{table((), facts)}</div>'


def program(source: str, limit: int = 300) -> str:
    """A program in a box, cut after `limit` lines, which is said."""
    lines, rest = _cut(source, limit)
    return f'<pre style="{_BOX}">{escape(chr(10).join(lines))}{rest}</pre>'


def prose(text: str, limit: int = 60, most: int = 12_000) -> str:
    """Text for reading in a box, its lines wrapped, cut after `limit` lines or `most` characters, which is said.

    Of Markdown only headings are made bold; its links and its HTML stay the text they are.
    """
    kept = text[:most].split("\n")[:limit]
    in_code, shown = False, []
    for line in kept:
        in_code ^= line.startswith("```")
        is_heading = not in_code and re.match("#{1,6} ", line)
        shown.append(f"<b>{escape(line)}</b>" if is_heading else escape(line))
    left = len(text) - len("\n".join(kept))
    rest = f'<div style="{FAINT}">… {left:,} more characters</div>' if left else ""
    return f'<div style="{_BOX};{FONT};white-space:pre-wrap">{chr(10).join(shown)}{rest}</div>'


def diff(text: str, limit: int = 200) -> str:
    """A unified diff in a box, added and removed lines coloured, cut after `limit` lines, which is said."""
    lines, rest = _cut(text, limit)
    shown = "".join(f'<span style="display:block;{_look(line)}">{escape(line) or " "}</span>' for line in lines)
    return f'<pre style="{_BOX}">{shown}{rest}</pre>'


def _look(line: str) -> str:
    return FAINT if line.startswith(("--- ", "+++ ")) else _LINES.get(line[:1], "")


def _cut(text: str, limit: int) -> tuple[list[str], str]:
    lines = [line if len(line) <= 500 else line[:500] + " …" for line in text.split("\n")]
    rest = f'<span style="display:block;{FAINT}">… {len(lines) - limit} more lines</span>' if len(lines) > limit else ""
    return lines[:limit], rest
