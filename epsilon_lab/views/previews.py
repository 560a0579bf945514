"""What is in a file, as HTML that shows it and does nothing else: the first rows, lines or bytes, and how many more.

Files are strangers' work. What kind one is, its name proposes and its bytes decide; a picture is handed on only where
it begins as PNG, JPEG or GIF does. What could carry a program of its own (HTML, SVG, Markdown, a pickle) is shown as
text, or as bytes.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec

from epsilon_lab import formats
from epsilon_lab.errors import InvalidInput
from epsilon_lab.workspace.recorded import READERS, Listed, Opened, Sample

_HEAD = 256 << 10
"""Bytes of a text that are looked at."""

_JSON = 1 << 20
"""Bytes up to which JSON is taken apart."""

_PICTURE = 2 << 20
"""Bytes up to which a picture is shown; a notebook keeps it as text a third longer."""

_PICTURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_ROWS, _COLUMNS, _CELL = 10, 24, 48
_LINES = 60
_PROSE = (".md", ".markdown", ".rst", ".txt", "")
_NODES, _DEEPEST, _TEXT = 300, 12, 200
_BYTES = 192
_NOTE = f"{formats.FAINT};font-size:12px"
_HEADER = ("path", "kind", "size", "task", "recorded (UTC)")
_LISTED = "padding:2px 14px 2px 0;text-align:left;vertical-align:top"
_INDENT = "margin-left:1.4em"


def listing(title: str, kinds: Sequence[tuple[str, int]], files: Sequence[Listed]) -> str:
    """Files as a list, a few of many, below how many there are of each kind."""
    count = sum(number for _, number in kinds)
    more = f"… and {count - len(files):,} more: .glob('*.csv') and .frame() find them" if count > len(files) else ""
    head = "".join(f'<th style="{_LISTED};font-weight:600">{name}</th>' for name in _HEADER)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, files))}</tbody>" if files else ""
    return (
        f'<div style="{formats.FONT};{formats.TEXT}"><b>{formats.escape(title)}</b>'
        f"{_note(' · '.join(f'{number:,} {kind}' for kind, number in kinds))}"
        f'<table style="border-collapse:collapse;margin:4px 0;{formats.TEXT}">{body}</table>{_note(more)}</div>'
    )


def _row(file: Listed) -> str:
    """A file of a list; where a task's own file lies is said faintly, since it is found without."""
    parts = file.path.split("/", 3)
    place = f"{'/'.join(parts[:3])}/" if file.kind == "file" and len(parts) > 3 else ""
    name = f'<span style="{formats.FAINT}">{formats.escape(place)}</span>{formats.escape(file.path[len(place) :])}'
    facts = (file.kind, formats.size(file.bytes), file.task_id or "", f"{file.created_at:%Y-%m-%d %H:%M:%S}")
    cells = "".join(f'<td style="{_LISTED}">{cell}</td>' for cell in (name, *map(formats.escape, facts)))
    return f"<tr>{cells}</tr>"


def captioned(path: str, facts: Iterable[str], shown: str, note: str = "") -> str:
    """A file's content below its name, a few facts, and what is wrong with it, if anything is."""
    told = formats.escape(" · ".join(filter(None, facts)))
    trouble = f'<div style="color:#c04000">{formats.escape(note)}</div>' if note else ""
    return (
        f'<div class="lab-artifact" style="{formats.FONT};{formats.TEXT};max-width:980px;overflow-x:auto">'
        f'<b>{formats.escape(path)}</b> <span style="{_NOTE}">{told}</span>{trouble}{shown}</div>'
    )


def content(file: Opened) -> str:
    """What is in a file, as far as a look needs."""
    suffix = PurePosixPath(file.path).suffix.lower()
    head = file.head(_HEAD)
    if not head:
        return _note("an empty file")
    if picture := next((kind for magic, kind in _PICTURES.items() if head.startswith(magic)), None):
        return _picture(file, picture)
    if suffix in (".json", ".ipynb") and file.size <= _JSON:
        try:
            return f'<div style="{formats.MONO}">{_Fold().html(msgspec.json.decode(file.read()))}</div>'
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass  # it is shown as the text it is
    if suffix in READERS and suffix != ".json":
        try:
            return _table(file.sample(_ROWS))
        except InvalidInput:
            pass  # as above
    text = _text(head, is_all=len(head) == file.size)
    if text is None:
        return _dump(head, file.size)
    return _lines(text, suffix, file.size - len(head))


def _picture(file: Opened, kind: str) -> str:
    if file.size > _PICTURE:
        return _note(f"a picture ({kind}) of {formats.size(file.size)}, too large to be kept in a notebook")
    data = base64.b64encode(file.read()).decode()
    return f'<div><img src="data:{kind};base64,{data}" style="max-width:100%;max-height:480px" alt=""></div>'


def _table(sample: Sample) -> str:
    columns = sample.columns[:_COLUMNS]
    rows = [[formats.one_line(_cell(value), _CELL) for value in row[:_COLUMNS]] for row in sample.rows]
    many = f"{sample.total:,} rows" if sample.total is not None else f"more than {len(rows)} rows"
    shape = f"{many} × {len(sample.columns)} columns"
    if len(columns) < len(sample.columns) or sample.total is None or len(rows) < sample.total:
        shape += f"; shown are {len(rows)} × {len(columns)}, .frame() has all"
    return formats.table([formats.one_line(name, _CELL) for name in columns], rows) + _note(shape)


def _cell(value: Any) -> object:
    return "" if value is None else formats.number(value) if isinstance(value, float) else value


def _text(head: bytes, *, is_all: bool) -> str | None:
    """The bytes as text; None where they are none."""
    if b"\0" in head:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head, is_all)
    except UnicodeDecodeError:
        return None


def _lines(text: str, suffix: str, unseen: int) -> str:
    how = formats.diff if suffix in (".diff", ".patch") else formats.prose if suffix in _PROSE else formats.program
    return how(text, _LINES) + (_note(f"… and {formats.size(unseen)} more; read_text() has all") if unseen else "")


def _dump(head: bytes, size: int) -> str:
    """The first bytes, as numbers and as the characters they would be."""
    lines = [
        f"{at:06x}  {head[at : at + 16].hex(' '):<47}  "
        + "".join(chr(byte) if 32 <= byte < 127 else "." for byte in head[at : at + 16])
        for at in range(0, min(len(head), _BYTES), 16)
    ]
    return formats.program("\n".join(lines)) + _note(f"{formats.size(size)} of binary data; read_bytes() has all")


def _note(text: str) -> str:
    return f'<div style="{_NOTE}">{formats.escape(text)}</div>'


class _Fold:
    """JSON that can be unfolded, up to so many values in all."""

    def __init__(self) -> None:
        self._left = _NODES

    def html(self, value: Any, name: str = "", deep: int = 0) -> str:
        self._left -= 1
        label = f"<b>{formats.escape(formats.one_line(name, _TEXT))}</b>: " if name else ""
        if not isinstance(value, dict | list) or not value or deep >= _DEEPEST:
            told = msgspec.json.encode(value).decode()
            return f"<div>{label}{formats.escape(formats.one_line(told, _TEXT))}</div>"
        pairs = value.items() if isinstance(value, dict) else ((f"{place}", each) for place, each in enumerate(value))
        inner = []
        for place, (key, each) in enumerate(pairs):
            if self._left <= 0:
                inner.append(_note(f"… and {len(value) - place:,} more; json() has all"))
                break
            inner.append(self.html(each, str(key), deep + 1))
        kind = f"{{}} {len(value):,} fields" if isinstance(value, dict) else f"[] {len(value):,} items"
        is_open = " open" if deep == 0 or (deep == 1 and len(value) <= _ROWS) else ""
        return (
            f'<details{is_open}><summary>{label}<span style="{formats.FAINT}">{kind}</span></summary>'
            f'<div style="{_INDENT}">{"".join(inner)}</div></details>'
        )
