"""A case as HTML that needs nothing else and as text: what a plain cell, a console and a saved notebook show of it.

The panel shows the same (views/review.py). Evidence comes from models, files and strangers: all of it is text here,
and characters that nobody sees are written out where they make a difference. A difference is never told by its colour
alone: a field that differs has a sign, characters that differ are underlined.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from epsilon_lab import formats
from epsilon_lab.cases.evidence import MOST_FIELDS, Comparison, Evidence, Field, Span, compare, read, said

if TYPE_CHECKING:
    from epsilon_lab.cases.case import Case

_MARK = "background:rgba(230,159,0,.30);text-decoration:underline;text-decoration-color:#b36b00;color:inherit"
_CELL = "padding:3px 14px 3px 0;text-align:left;vertical-align:top"
_VALUE = f"{_CELL};{formats.MONO};white-space:pre-wrap;overflow-wrap:anywhere;max-width:32em"
_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Zs"})
"""Unicode's categories of characters without a look of their own."""

_EXPLAINED = 8
"""Characters that differ, of which the code points are told."""

_LINES = 200


def card(case: Case) -> str:
    """The case: what is asked, why, the evidence, what was decided, and how to decide."""
    parts = [head(case), evidence(case), verdicts(case)]
    parts.append(f'<code style="{formats.MONO}">{formats.escape(_way(case))}</code>')
    return f'<div class="lab-case" style="{formats.FONT};{formats.TEXT};max-width:960px">{"".join(parts)}</div>'


def head(case: Case, *, blind: bool = False) -> str:
    """What is asked, and why it was flagged.

    Args:
        case: The case.
        blind: Whether it is not told how it stands.
    """
    return (
        f'<div style="font-size:15px;font-weight:600">{formats.escape(case.question)}</div>'
        f'<div style="{formats.FAINT}">{formats.escape(_about(case, blind=blind))}</div>'
    )


def evidence(case: Case) -> str:
    """What there is to look at: records beside each other with their differences marked, a diff, or all as JSON."""
    found = read(case.evidence, case.key)
    return "".join(_evidence(found)) or f'<div style="{formats.FAINT}">no evidence was given</div>'


def verdicts(case: Case) -> str:
    """What was decided, the latest first, and which of it counts; then who was unsure. Nothing where nobody was."""
    rows = [
        f'<tr style="{"font-weight:600" if sign else formats.FAINT}">'
        + "".join(f'<td style="{_CELL}">{formats.escape(cell)}</td>' for cell in (sign, *cells))
        + "</tr>"
        for sign, *cells in _verdicts(case)
    ]
    return f'<table style="border-collapse:collapse;margin:4px 0">{"".join(rows)}</table>' if rows else ""


def text(case: Case, *, blind: bool = False) -> str:
    """The same for a console; without what was decided where that is not to be told."""
    lines = [case.question, _about(case, blind=blind), *_lines(read(case.evidence, case.key))]
    lines += [] if blind else [" · ".join(filter(None, each)) for each in _verdicts(case)]
    return "\n".join(formats.visible(line) for line in [*lines, _way(case)])


def _about(case: Case, *, blind: bool) -> str:
    """Where a case comes from, in one line."""
    status = "" if blind else case.status
    score = "" if case.score is None else f"score {formats.number(case.score)}"
    why = formats.one_line(case.reason, 300)
    by = f"flagged by {case.flagged_by}" + (f": {why}" if why else "") if case.flagged_by else why
    role = f"for the role {case.role}" if case.role else ""
    return " · ".join(filter(None, (status, case.kind, case.case_id, score, role, by)))


def _verdicts(case: Case) -> Iterator[tuple[str, str, str, str]]:
    """Of each verdict, the latest first: a sign if it speaks, what it is, whose, and why; or that it was taken back.
    Then whoever was unsure.
    """
    gone = {each.supersedes: each for each in case.verdicts if each.retracted}
    for each in reversed(case.verdicts):
        if not each.retracted:
            back = gone.get(each.number)
            note = formats.one_line(each.note, 300)
            told = note if back is None else f"taken back by {back.decider}" + (f": {back.note}" if back.note else "")
            sure = "" if each.confidence is None else f", {each.confidence:.0%} sure"
            yield "✓" if each == case.speaks else "", each.verdict, f"{each.decider} ({each.decider_kind}{sure})", told
    for name, note in case.unsure.items():
        yield "", "unsure", name, formats.one_line(note, 300)


def _way(case: Case) -> str:
    """The line of code that decides it."""
    if case.status == "withdrawn":
        return "it is withdrawn: nobody waits for its verdict"
    options = " or ".join(map(repr, case.options))
    force = ", force=True" if case.status == "decided" else ""
    return f"run.cases.decide({case.case_id!r}, {options}{force})"


# -- as HTML ----------------------------------------------------------------------------------------------------------


def _evidence(found: Evidence) -> Iterator[str]:
    rest = found.rest
    rest = rest[0] if isinstance(rest, list) and len(rest) == 1 else rest
    if found.comparison is not None:
        yield _table(found.comparison)
    if found.diff:
        yield formats.diff(found.diff)
    if found.is_compared and isinstance(rest, dict):
        yield formats.table((), _facts(rest))
    elif isinstance(rest, dict) and rest and not any(map(_is_nested, rest.values())):
        yield _table(compare([rest], ("",)))  # one record, as two would look
    elif isinstance(rest, str):
        yield formats.prose(rest, _LINES)
    elif rest is not None:
        yield formats.prose(json.dumps(rest, ensure_ascii=False, indent=2, default=str), _LINES)


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict | list) for each in value))


def _table(shown: Comparison) -> str:
    head = "".join(
        f'<th style="{_CELL};font-weight:600;overflow-wrap:anywhere">{formats.escape(title)}</th>'
        for title in ("", "", *shown.titles)
    )
    body = "".join(map(_row, shown.fields))
    more = [f"{shown.more_fields} more fields, {shown.more_differing} of them differing"] if shown.more_fields else []
    more += [f"{shown.more_records} more records"] if shown.more_records else []
    rest = f'<div style="{formats.FAINT}">… and {" and ".join(more)}</div>' if more else ""
    return (
        f'<table style="border-collapse:collapse;margin:6px 0;{formats.TEXT}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{rest}"
    )


def _row(field: Field) -> str:
    sign = '<b style="color:#b36b00" title="differs">≠</b>' if field.differs else ""
    look = f"{_CELL};font-weight:400;{'' if field.differs else formats.FAINT}"
    name = f'<th style="{look}">{formats.escape(field.name)}</th>'
    cells = "".join(f'<td style="{_VALUE}">{_value(value)}</td>' for value in field.values)
    return (
        '<tr style="border-top:1px solid var(--jp-border-color2,#e0e0e0)">'
        f'<td style="{_CELL};padding-right:6px;width:1em">{sign}</td>{name}{cells}</tr>'
    )


def _value(pieces: Sequence[Span] | None) -> str:
    if pieces is None:
        return f'<span style="{formats.FAINT}">–</span>'
    return "".join(map(_piece, pieces)) or f'<span style="{formats.FAINT}">(empty)</span>'


def _piece(piece: Span) -> str:
    if not piece.differs:
        return formats.escape(piece.text)
    is_plain = piece.text.isascii() or len(piece.text) > _EXPLAINED
    points = "" if is_plain else f' title="{" ".join(map(_point, piece.text))}"'
    return f'<mark style="{_MARK}"{points}>{formats.escape(_seen(piece.text))}</mark>'


def _seen(text: str) -> str:
    """Text in which every character can be seen."""
    return "".join(
        f"⟨{_point(sign)}⟩" if sign not in " \n" and unicodedata.category(sign) in _UNSEEN else sign for sign in text
    )


def _point(sign: str) -> str:
    return f"U+{ord(sign):04X}"


# -- as text ----------------------------------------------------------------------------------------------------------


def _lines(found: Evidence) -> Iterator[str]:
    if found.comparison is not None:
        shown = found.comparison
        rows = [("", "", *shown.titles)]
        rows += [("≠" if field.differs else "", field.name, *map(_plain, field.values)) for field in shown.fields]
        yield from _columns(rows)
    yield from found.diff.splitlines()[:_LINES]
    rest = found.rest
    if isinstance(rest, str):
        yield from rest.splitlines()[:_LINES]
    elif isinstance(rest, dict):
        yield from (f"{name}: {value}" for name, value in _facts(rest))
    elif rest is not None:
        yield _short(rest)


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _plain(pieces: Sequence[Span] | None) -> str:
    return "–" if pieces is None else formats.one_line("".join(piece.text for piece in pieces), 40)


def _facts(rest: dict[Any, Any]) -> list[tuple[str, str]]:
    return [(str(name), _short(value)) for name, value in list(rest.items())[:MOST_FIELDS]]


def _short(value: Any) -> str:
    return formats.one_line(said(value), 400)
