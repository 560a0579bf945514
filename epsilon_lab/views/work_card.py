"""A run's work as text and as HTML: the picture or the list of it, what was found wrong, what failed and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from epsilon_lab import formats
from epsilon_lab.views.graph import MOST_NODES, facts, graph
from epsilon_lab.views.workflow import Level, Node, Question, Review, Story, Workflow, folded, in_order, layers

_MOST_LEVELS = 24
_MOST_FINDINGS = 6
_WIDTH = 300
_DECIDE = "run.cases.panel()"
"""What shows the cases of a run to whoever is to decide them."""


def text(work: Workflow) -> Iterator[str]:
    """The work, line by line."""
    for question in work.questions:
        yield _ask(question)
    if work.flagged:
        yield f"? {_open(work.flagged)}: {_DECIDE}"
    if work.nodes and len(work.nodes) <= MOST_NODES:
        for place, node in _placed(work):
            told = [facts(node, work.at), formats.one_line(node.note) if node.state != "blocked" else ""]
            yield f"{place:>3} {formats.state(node.state).sign} {node.node_id}  {': '.join(filter(None, told))}"
    else:
        for level in _levels(work)[:_MOST_LEVELS]:
            yield f"{level.name}: {_counted(level)}"
    for review in work.reviews:
        found = "; ".join(f"{whose}: {what}" if whose else what for whose, what in review.errors[:_MOST_FINDINGS])
        yield (
            f"qa {review.wave}: {review.verdict}"
            + (f", {_said(review)}" if _said(review) else "")
            + (f": {formats.one_line(found, 400)}" if found else "")
        )
    for story in work.stories if work.nodes else ():  # of many that are alike, the first of each kind is told
        behind = f"; blocked: {formats.some(story.blocked)}" if story.blocked else ""
        yield f"{story.task_id} {story.state} after {_times(story.attempts)}: {formats.one_line(story.error)}{behind}"


def _placed(work: Workflow) -> Iterator[tuple[int, Node]]:
    """Each node with its place in the list, or the layer of the graph that it is in."""
    if work.is_list:
        yield from enumerate(in_order(work.nodes), 1)
    else:
        for place, layer in enumerate(layers(work.nodes), 1):
            yield from ((place, node) for node in layer)


def picture(work: Workflow) -> str:
    """What a person is asked, the graph, list or levels, and the waves of quality assurance."""
    parts = [_call(question) for question in work.questions]
    if work.flagged:
        parts.append(_called(f"{_open(work.flagged)}.", "", _DECIDE))
    if work.nodes and work.is_list:
        parts.append(_list(in_order(work.nodes), work.at))
    elif is_graph(work):
        parts.append(graph(work.nodes, work.at))
    elif levels := _levels(work):
        parts.append(_bars(levels, work.at))
    if work.reviews:
        parts.append(formats.table(("quality", "", "found"), map(_finding, work.reviews)))
    return "".join(parts)


def is_graph(work: Workflow) -> bool:
    """Whether its tasks are drawn one by one, and what depends on what."""
    return not work.is_list and 0 < len(work.nodes) <= MOST_NODES


def stories(work: Workflow) -> str:
    """What failed, and why: the error, what had been tried, what was printed, and what it held up."""
    told = "".join(_story(story, opened=place == 0) for place, story in enumerate(work.stories))
    more = work.failed - len(work.stories)
    return told + (f'<div style="{formats.FAINT}">… and {more:,} more; see run.failures</div>' if more > 0 else "")


def _levels(work: Workflow) -> Sequence[Level]:
    return work.levels or folded(work.nodes)


def _counted(level: Level) -> str:
    counts = ", ".join(f"{count:,} {formats.state(state).word}" for state, count in _by_state(level))
    return f"{level.size:,} · {counts}" if len(level.states) > 1 else counts


def _by_state(level: Level) -> list[tuple[str, int]]:
    known = list(formats.STATES)
    order = ["completed", "running", *(name for name in known if name not in ("completed", "running"))]
    return sorted(level.states.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _bars(levels: Sequence[Level], now: float) -> str:
    rows = []
    for level in levels[:_MOST_LEVELS]:
        left, drawn = 0.0, []
        for state, count in _by_state(level):
            width = _WIDTH * count / level.size
            drawn.append(
                f'<rect x="{left:.1f}" width="{width:.1f}" height="12" fill="{formats.state(state).colour}" '
                f'fill-opacity="{0.25 if state in ("waiting", "queued", "skipped") else 0.85}"/>'
            )
            left += width
        began = level.started_at
        took = "" if began is None else formats.duration(round(max(0.0, (level.finished_at or now) - began), 1))
        bar = (
            f'<svg width="{_WIDTH}" height="12" role="img" aria-label="{formats.escape(_counted(level))}">'
            f"{''.join(drawn)}</svg>"
        )
        signs = " ".join(f"{formats.state(state).sign} {count:,}" for state, count in _by_state(level))
        cells = (formats.escape(level.name), bar, formats.escape(signs), formats.escape(took))
        rows.append(
            "".join(
                f'<td style="padding:2px 14px 2px 0;text-align:left;white-space:nowrap">{cell}</td>' for cell in cells
            )
        )
    more = len(levels) - _MOST_LEVELS
    rest = f'<div style="{formats.FAINT}">… and {more} more</div>' if more > 0 else ""
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table style="border-collapse:collapse;margin:4px 0;{formats.TEXT}"><tbody>{body}</tbody></table>{rest}'


_CELL = "padding:3px 14px 3px 0;vertical-align:top;text-align:left"


def _list(nodes: Sequence[Node], now: float) -> str:
    rows = []
    for place, node in enumerate(nodes, 1):
        state = formats.state(node.state)
        told = formats.one_line(node.note) if node.note and node.state != "blocked" else ""
        cells = (
            f'<span style="{formats.FAINT}">{place}</span>',
            f'<b style="color:{state.colour}">{state.sign}</b> {formats.escape(node.node_id)}',
            formats.escape(node.kind),
            formats.escape(facts(node, now)),
            formats.escape(told),
        )
        rows.append("".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table style="border-collapse:collapse;margin:4px 0;{formats.TEXT}"><tbody>{body}</tbody></table>'


def _finding(review: Review) -> tuple[str, str, str]:
    sign = {"pass": "✓", "fail": "✗"}.get(review.verdict, formats.state(review.verdict).sign)
    found = [f"{whose}: {what}" if whose else what for whose, what in review.errors[:_MOST_FINDINGS]]
    more = [f"… and {len(review.errors) - _MOST_FINDINGS} more"] if len(review.errors) > _MOST_FINDINGS else []
    parts = [part for part in (_said(review), *(formats.one_line(line, 120) for line in found), *more) if part]
    return f"wave {review.wave}", f"{sign} {review.verdict}", " · ".join(parts)


def _said(review: Review) -> str:
    count = len(review.errors)
    counted = f"{count} error{'' if count == 1 else 's'}" if count else ""
    return ": ".join(part for part in (counted, formats.one_line(review.summary)) if part)


def _story(story: Story, *, opened: bool) -> str:
    state = formats.state(story.state)
    rows = [("attempts", str(story.attempts))] if story.attempts > 1 else []
    rows += [("told before another go", formats.one_line(line, 400)) for line in story.feedback]
    rows += [("blocked", formats.some(story.blocked))] if story.blocked else []
    traceback, stderr = story.last_words
    printed = f"<div>it printed</div>{formats.program(stderr)}" if stderr else ""
    error = formats.program(traceback or story.error) if traceback or len(story.error.splitlines()) > 1 else ""
    head = (
        f'<b style="color:{state.colour}">{state.sign} {formats.escape(story.task_id)}</b> '
        f"{formats.escape(formats.one_line(story.error))}"
    )
    if not (rows or error or printed):
        return f"<div>{head}</div>"
    return (
        f"<details{' open' if opened else ''}><summary>{head}</summary>"
        f'<div style="margin-left:18px">{formats.table((), rows)}{error}{printed}</div></details>'
    )


def _times(attempts: int) -> str:
    return f"{attempts} attempt{'' if attempts == 1 else 's'}"


def _ask(question: Question) -> str:
    options = " or ".join(map(repr, question.options)) or "..."
    return (
        f"? {formats.one_line(question.question)} — it waits for you: run.cases.decide({question.case_id!r}, {options})"
    )


def _call(question: Question) -> str:
    first = question.options[0] if question.options else "..."
    options = f" ({', '.join(question.options)})" if question.options else ""
    code = f"run.cases.decide({question.case_id!r}, {first!r})"
    return _called("A person decides:", f"{question.question}{options}", code)


def _open(cases: int) -> str:
    return f"{cases:,} case{'' if cases == 1 else 's'} can be decided"


def _called(head: str, what: str, code: str) -> str:
    return (
        f'<div style="border-left:3px solid #8a6100;padding:4px 10px;margin:6px 0"><b>{formats.escape(head)}</b> '
        f'{formats.escape(what)}<br><code style="{formats.MONO}">{formats.escape(code)}</code></div>'
    )
