"""A snapshot as text and as HTML that needs nothing else: what a console prints and what a saved notebook keeps."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator

from epsilon_lab import formats
from epsilon_lab.views import work_card
from epsilon_lab.views.snapshot import RunSnapshot


def headline(snapshot: RunSnapshot) -> str:
    """Where the run stands, in one line of text."""
    parts: list[str] = []
    if snapshot.generation is not None:
        of = f"/{snapshot.generations}" if snapshot.generations else ""
        parts.append(f"generation {snapshot.generation + 1}{of}")
    if snapshot.unit == "candidates":
        parts.append(f"{formats.number(snapshot.done)} candidates")
        parts.append(
            f"best {formats.number(snapshot.best.score)} ({snapshot.best.candidate_id})"
            if snapshot.best
            else "no best yet"
        )
    else:
        of = f"/{formats.number(snapshot.expected)}" if snapshot.expected else ""
        parts.append(f"{formats.number(snapshot.done)}{of} {snapshot.unit}")
    if snapshot.work is not None and snapshot.work.nodes:
        short = Counter(n.state for n in snapshot.work.nodes if n.is_settled and not n.is_done and n.kind != "gate")
        parts += [", ".join(f"{count} {state}" for state, count in sorted(short.items()))] if short else []
    running = snapshot.tasks.get("running", 0)
    if snapshot.is_live and running:
        parts.append(f"{running} running")
    parts.append(f"{snapshot.per_s:.3g}/s")
    parts.append(formats.duration(snapshot.elapsed_s))
    return " · ".join(parts)


_WIDTH, _GRAPH_WIDTH = 820, 1200
"""Pixels: lines that can be read, and seven layers of a graph beside each other."""


def text(snapshot: RunSnapshot) -> str:
    """The run as a few lines of text."""
    end = f": {formats.one_line(snapshot.reason)}" if snapshot.reason else ""
    lines = [f"{snapshot.run_id} · {snapshot.topology} · {snapshot.status}{end}", headline(snapshot)]
    lines += [snapshot.versus.sentence] if snapshot.versus else []
    lines += [f"picked {formats.one_line(snapshot.picked, 300)}"] if snapshot.picked else []
    lines += work_card.text(snapshot.work) if snapshot.work else []
    lines += [f"{count} {what}: {first}" for what, count, first in _troubles(snapshot)]
    lines += [_usage(snapshot)] if snapshot.usage else []
    return "\n".join(formats.visible(line) for line in lines)


def card(snapshot: RunSnapshot, *, note: str = "") -> str:
    """The run as HTML on its own: head, score curve, best program with its diff, failures, usage.

    Args:
        snapshot: The run.
        note: A sentence for the foot of the card.
    """
    parts = [head(snapshot)]
    if snapshot.curve is not None and snapshot.curve.size:
        parts.append(_picture(snapshot))
    parts += [work(snapshot), best(snapshot), troubles(snapshot)]
    if note:
        parts.append(f'<div style="{formats.FAINT};font-size:12px">{formats.escape(note)}</div>')
    is_wide = snapshot.work is not None and work_card.is_graph(snapshot.work)
    width = _GRAPH_WIDTH if is_wide else _WIDTH
    return f'<div class="lab-card" style="{formats.FONT};{formats.TEXT};max-width:{width}px">{"".join(parts)}</div>'


def head(snapshot: RunSnapshot) -> str:
    """Name, status, why it ended, and where it stands."""
    reason = f" {formats.escape(formats.one_line(snapshot.reason, 300))}" if snapshot.reason else ""
    return (
        f'<div style="margin:2px 0 4px"><b style="font-size:14px">{formats.escape(snapshot.name)}</b> '
        f"{formats.badge(snapshot.status)}{reason}"
        f'<div style="{formats.FAINT};font-size:12px">{formats.escape(snapshot.run_id)}</div></div>'
        f"<div>{formats.escape(headline(snapshot))}</div>"
        + (f"<div>{formats.escape(snapshot.versus.sentence)}</div>" if snapshot.versus else "")
        + (f"<div>picked {formats.escape(formats.one_line(snapshot.picked, 300))}</div>" if snapshot.picked else "")
    )


def work(snapshot: RunSnapshot) -> str:
    """The graph, the list or the levels of its tasks; nothing of a search."""
    shown = work_card.picture(snapshot.work) if snapshot.work else ""
    return f'<div style="overflow-x:auto;margin:8px 0">{shown}</div>' if shown else ""


def best(snapshot: RunSnapshot) -> str:
    """The best program: what it changed in its parent, and the whole of it."""
    found = snapshot.best
    if found is None:
        return ""
    title = f"<b>best {formats.escape(formats.number(found.score))}</b> {formats.escape(found.candidate_id)}"
    parts = [f'<div style="margin-top:6px">{title}</div>']
    if found.diff:
        title = f"what it changed in {formats.escape(found.parent_id)}"
        parts.append(f"<details open><summary>{title}</summary>{formats.diff(found.diff)}</details>")
    if found.source:
        parts.append(f"<details><summary>the program</summary>{formats.program(found.source)}</details>")
    return "".join(parts)


def troubles(snapshot: RunSnapshot) -> str:
    """What failed, how often, and the first error of each kind; and what models cost."""
    rows = [(what, count, first) for what, count, first in _troubles(snapshot)]
    shown = work_card.stories(snapshot.work) if snapshot.work else ""
    shown += f"<div>{formats.table(('failed', 'times', 'first'), rows)}</div>" if rows else ""
    usage = f'<div style="{formats.FAINT}">{formats.escape(_usage(snapshot))}</div>' if snapshot.usage else ""
    return shown + usage


def _troubles(snapshot: RunSnapshot) -> Iterator[tuple[str, int, str]]:
    for kind in snapshot.failures:
        error = f": {formats.one_line(kind.error)}" if kind.error else ""
        yield kind.outcome.replace("_", " "), kind.count, f"{kind.example}{error}"


def _usage(snapshot: RunSnapshot) -> str:
    usage = snapshot.usage
    if usage is None:
        return ""
    unknown = f", {usage.unpriced} calls of unknown price" if usage.unpriced else ""
    calls = _of(f"{usage.calls:,}", usage.budget.get("calls"))
    tokens = _of(f"{usage.tokens:,}", usage.budget.get("tokens"))
    cost = _of(f"{usage.cost_usd:.4f}", usage.budget.get("usd"), sign="$")
    return f"{calls} model call{'s' if calls != '1' else ''} · {tokens} tokens · {cost}{unknown}"


def _of(spent: str, limit: float | None, *, sign: str = "") -> str:
    return f"{sign}{spent}" + (f" of {sign}{limit:,}" if limit else "")


def _picture(snapshot: RunSnapshot) -> str:
    from epsilon_lab.views.figures import score_figure  # noqa: PLC0415 - matplotlib loads when something is drawn

    png = base64.b64encode(score_figure(snapshot).png()).decode()
    return f'<img alt="score curve" style="width:100%;max-width:760px" src="data:image/png;base64,{png}">'
