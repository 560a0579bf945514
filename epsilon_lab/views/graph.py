"""A graph of named nodes as one inline SVG: a column a layer, what depends on it to its right.

An edge that others imply is left out (the transitive reduction), since it says nothing of the order that they do not.
An edge over several columns is led through a slot of its own in each, so that it never runs behind a box, and columns
are ordered by where their neighbours stand, which untangles most crossings (Sugiyama, Tagawa and Toda 1981: layers,
dummy vertices, barycentres). A state is a colour and a sign, for who cannot tell colours apart. No library draws it:
nothing needs loading, it is 25 KiB for 60 nodes, and it follows the page's theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from epsilon_lab import formats
from epsilon_lab.views.workflow import Node, layers

MOST_NODES = 80
"""More are not drawn one by one."""

_HEIGHT, _GAP, _SLOT = 38, 12, 10
_BETWEEN = 44
_TALLEST = 14
"""Nodes of a column; a layer of more has several."""

_LETTER, _SMALL = 7.2, 5.8
_LEAST, _MOST = 84, 190


class _Spot(NamedTuple):
    """A box, or the slot of an edge that passes by (its node is None)."""

    name: str
    node: Node | None


class _Box(NamedTuple):
    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


def graph(nodes: Sequence[Node], now: float) -> str:
    """Draw nodes and what depends on what.

    Args:
        nodes: At most `MOST_NODES`, or the picture is of no use.
        now: Wall seconds, for how long those at work have been.
    """
    columns, chains = _columns(nodes, _edges(nodes))
    boxes = _placed(_untangled(columns, chains))
    width = max(box.left + box.width for box in boxes.values()) + 2
    height = max(box.top + box.height for box in boxes.values()) + 2
    names = {node.node_id: node for node in nodes}
    edges = "".join(_edge([boxes[name] for name in chain], names[chain[0]]) for chain in chains)
    drawn = "".join(_box(node, boxes[node.node_id], now) for node in nodes)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="tasks and what they depend on" style="display:block;width:{width:.0f}px;max-width:100%;'
        f'min-width:{0.7 * width:.0f}px;height:auto;{formats.SANS}">{edges}{drawn}</svg>'
    )


def facts(node: Node, now: float) -> str:
    """How a node stands, in a few words: its state, how long it has taken, what had to be repeated."""
    seconds = node.seconds(now)
    parts = [] if node.state in ("completed", "running") else [formats.state(node.state).word]
    if seconds is not None:  # whole seconds while it runs: a clock that ticks faster would be all that anyone sees
        parts.append(f"{seconds:.0f} s" if node.state == "running" and seconds < 100 else formats.duration(seconds))
    return " · ".join(parts) + _again(node)


def _again(node: Node) -> str:
    return f" · go {node.revision}" * (node.revision > 1) + f" · try {node.attempts}" * (node.attempts > 1)


def _edges(nodes: Sequence[Node]) -> dict[str, list[str]]:
    """What each node is drawn behind: of all that it depends on, what it does not depend on by way of another."""
    after = {node.node_id: node.depends_on for node in nodes}
    above: dict[str, set[str]] = {}
    for layer in layers(nodes):
        for node in layer:
            above[node.node_id] = set().union(*(above.get(name, set()) | {name} for name in node.depends_on))
    return {
        name: [each for each in others if not any(each in above.get(other, ()) for other in others if other != each)]
        for name, others in after.items()
    }


def _columns(nodes: Sequence[Node], edges: Mapping[str, Sequence[str]]) -> tuple[list[list[_Spot]], list[list[str]]]:
    """Columns of boxes and slots, and each edge as the spots that it runs through."""
    columns: list[list[_Spot]] = []
    place: dict[str, int] = {}
    for layer in layers(nodes):
        for start in range(0, len(layer), _TALLEST):
            part = layer[start : start + _TALLEST]
            place.update((node.node_id, len(columns)) for node in part)
            columns.append([_Spot(node.node_id, node) for node in part])
    chains: list[list[str]] = []
    for node in nodes:
        for other in edges[node.node_id]:
            first, last = place.get(other), place[node.node_id]
            if first is None or first >= last:  # in a circle, which is not drawn
                continue
            between = [f"{other}~>{node.node_id}~>{column}" for column in range(first + 1, last)]
            for column, name in enumerate(between, first + 1):
                columns[column].append(_Spot(name, None))
            chains.append([other, *between, node.node_id])
    return columns, chains


def _untangled(columns: list[list[_Spot]], chains: Sequence[Sequence[str]]) -> list[list[_Spot]]:
    """Order each column by the average place of its neighbours, forth and back and forth."""
    before: dict[str, list[str]] = {}
    behind: dict[str, list[str]] = {}
    for chain in chains:
        for name, other in pairwise(chain):
            before.setdefault(other, []).append(name)
            behind.setdefault(name, []).append(other)
    for neighbours, order in ((before, 1), (behind, -1), (before, 1)):
        places: dict[str, float] = {}
        for column in range(len(columns))[::order]:
            columns[column] = _by_barycentre(columns[column], neighbours, places)
            size = len(columns[column])
            places.update((spot.name, (row + 0.5) / size) for row, spot in enumerate(columns[column]))
    return columns


def _by_barycentre(
    column: list[_Spot], neighbours: Mapping[str, Sequence[str]], places: Mapping[str, float]
) -> list[_Spot]:
    def wanted(row: int) -> float:
        known = [places[name] for name in neighbours.get(column[row].name, ()) if name in places]
        return sum(known) / len(known) if known else (row + 0.5) / len(column)

    return [column[row] for row in sorted(range(len(column)), key=wanted)]


def _placed(columns: Sequence[Sequence[_Spot]]) -> dict[str, _Box]:
    heights = [sum(_HEIGHT + _GAP if spot.node else _SLOT for spot in column) - _GAP for column in columns]
    tallest, left = max(heights), 2.0
    boxes: dict[str, _Box] = {}
    for column, height in zip(columns, heights, strict=True):
        width = max((_width(spot.node) for spot in column if spot.node), default=_LEAST)
        top = 2 + (tallest - height) / 2
        for spot in column:
            if spot.node is None:
                boxes[spot.name] = _Box(left, top, width, _SLOT - _GAP / 2)
                top += _SLOT
            else:
                boxes[spot.name] = _Box(left, top, width, _HEIGHT)
                top += _HEIGHT + _GAP
        left += width + _BETWEEN
    return boxes


def _width(node: Node) -> float:
    """Enough for its name, and for what may be said of it while it lasts, so that nothing moves when that changes."""
    told = max(len("2 min 35 s"), len(formats.state(node.state).word)) + len(_again(node))
    if node.is_settled:
        told = max(told, len(facts(node, 0)))  # also how long it took until it failed, or was cancelled
    return min(_MOST, max(_LEAST, 32 + _LETTER * len(formats.visible(node.node_id)), 18 + _SMALL * told))


def _edge(boxes: Sequence[_Box], source: Node) -> str:
    """A smooth line from the right of the first box to the left of the last."""
    start = boxes[0]
    path = [f"M{start.left + start.width:.0f},{start.middle:.0f}"]
    at = (start.left + start.width, start.middle)
    for box in boxes[1:]:
        half = (box.left - at[0]) / 2
        path.append(
            f"C{at[0] + half:.0f},{at[1]:.0f} {box.left - half:.0f},{box.middle:.0f} {box.left:.0f},{box.middle:.0f}"
        )
        if box is not boxes[-1]:
            path.append(f"H{box.left + box.width:.0f}")
        at = (box.left + box.width, box.middle)
    done = source.state == "completed"
    look = 'stroke-opacity="0.55"' if done else 'stroke-opacity="0.35" stroke-dasharray="4 3"'
    return f'<path d="{" ".join(path)}" fill="none" stroke="currentColor" stroke-width="1.2" {look}/>'


def _box(node: Node, box: _Box, now: float) -> str:
    state = formats.state(node.state)
    most = int((box.width - 30) / _LETTER)
    name = formats.visible(node.node_id)
    label = name if len(name) <= most else name[: most - 1] + "…"
    told = facts(node, now)
    return (
        f"<g><title>{formats.escape(_tip(node, told))}</title>"
        f'<rect x="{box.left:.0f}" y="{box.top:.0f}" width="{box.width:.0f}" height="{box.height}" rx="5" '
        f'fill="{state.colour}" fill-opacity="{0.16 if node.state == "running" else 0.07}" stroke="{state.colour}" '
        f'stroke-width="{2 if node.state in ("running", "asked") else 1}"/>'
        f'<text x="{box.left + 9:.0f}" y="{box.top + 16:.0f}" font-size="12" fill="{state.colour}">{state.sign}</text>'
        f'<text x="{box.left + 24:.0f}" y="{box.top + 16:.0f}" font-size="12" fill="currentColor">'
        f"{formats.escape(label)}</text>"
        f'<text x="{box.left + 9:.0f}" y="{box.top + 30:.0f}" font-size="10" fill="currentColor" fill-opacity="0.75">'
        f"{formats.escape(told)}</text></g>"
    )


def _tip(node: Node, told: str) -> str:
    after = f"\nafter {', '.join(node.depends_on)}" if node.depends_on else ""
    note = f"\n{formats.one_line(node.note)}" if node.note else ""
    return f"{node.node_id} ({node.kind}): {told}{after}{note}"
