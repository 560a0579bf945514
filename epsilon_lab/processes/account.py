"""How an exception is told to someone who did not see it: one line, and the frames that are theirs.

The exception may come from a stranger: its message may raise, be endless, or run over many lines.
"""

from __future__ import annotations

import re
import traceback

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LINE = 500
_TRACE = 8_000
_FRAMES = 20


def printable(text: str) -> str:
    """Write out, as in a Python literal, what would steer a terminal, reorder a line or break an encoding."""
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)  # no codec, which a sandbox could not import


def one_line(error: BaseException) -> str:
    """`ValueError: what it says`, in one line of bounded length."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - whatever a stranger's __str__ raises
        text = "(its message cannot be shown)"
    text = " ".join(text[: 2 * _LINE].split())
    name = type(error).__name__
    return printable(f"{name}: {text}" if text else name)[:_LINE]


def frames(error: BaseException, *, file: str | None = None, skip: int = 0) -> str:
    """The traceback as text, the innermost frames of it.

    Args:
        error: The exception.
        file: Begin at the first frame of this file, if there is one.
        skip: Otherwise leave out so many outermost frames.
    """
    start = theirs = error.__traceback__
    for _ in range(skip):
        start = start.tb_next if start is not None else None
    while file is not None and theirs is not None and theirs.tb_frame.f_code.co_filename != file:
        theirs = theirs.tb_next
    if file is not None and theirs is not None:
        start = theirs
    try:
        return printable("".join(traceback.format_exception(type(error), error, start, limit=-_FRAMES))[-_TRACE:])
    except Exception:  # noqa: BLE001 - the same; a traceback is a courtesy
        return ""
