"""How an exception is told to someone who did not see it: one line, and the frames that are theirs.

The exception may come from a stranger: its message may raise, be endless, or run over many lines.
"""

from __future__ import annotations

import traceback

_LINE = 500
_TRACE = 8_000
_FRAMES = 20


def one_line(error: BaseException) -> str:
    """`ValueError: what it says`, in one line of bounded length."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - whatever a stranger's __str__ raises
        text = "(its message cannot be shown)"
    text = " ".join(text[: 2 * _LINE].split())
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[:_LINE]


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
        return "".join(traceback.format_exception(type(error), error, start, limit=-_FRAMES))[-_TRACE:]
    except Exception:  # noqa: BLE001 - the same; a traceback is a courtesy
        return ""
