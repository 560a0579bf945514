"""Edit blocks: a change to a program as pairs of old and new lines, the form that models know from coding tools.

    <<<<<<< SEARCH
        total = 0
    =======
        total = start
    >>>>>>> REPLACE

A block says where it belongs by quoting the lines it replaces, so it is only as good as its quotation: the quoted lines
must occur exactly once in the program as the blocks before it left it. They are looked for as they stand; failing that,
with trailing blanks, blank lines at either end, and an indentation that the whole block has too little or too much of
left out of account, because models lose exactly these. No other likeness is taken for the place: a patch in the wrong
place is a program nobody wrote.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from epsilon_lab.errors import ProposalFailed

MOST_EDITS = 200
"""Blocks in a reply; a change of more places is a program to be written whole."""

_SEARCH = re.compile(r"[ \t]*<{5,9} ?SEARCH[ \t]*")
_DIVIDER = re.compile(r"[ \t]*={7}[ \t]*")
_REPLACE = re.compile(r"[ \t]*>{5,9} ?REPLACE[ \t]*")


class Edit(NamedTuple):
    """Lines to find, and lines to put in their place."""

    search: tuple[str, ...]
    replace: tuple[str, ...]


class _Place(NamedTuple):
    """Lines of a program that a block quotes, and what it puts there."""

    start: int
    end: int
    lines: Sequence[str]


def find_edits(text: str) -> list[Edit]:
    """Find the edit blocks in a text, with or without fences around them.

    Raises:
        ProposalFailed: A block has no end, no divider or more than one, or there are too many.
    """
    edits: list[Edit] = []
    block: list[str] | None = None
    for line in text.split("\n"):
        number = len(edits) + 1
        if _SEARCH.fullmatch(line):
            if block is not None:
                raise ProposalFailed(f"edit block {number} has no >>>>>>> REPLACE line before the next block begins")
            block = []
        elif _REPLACE.fullmatch(line):
            if block is None:
                raise ProposalFailed(
                    f"a >>>>>>> REPLACE line follows edit block {number - 1} without a block of its own"
                )
            edits.append(_edit(block, number))
            block = None
        elif block is not None:
            block.append(line)
    if block is not None:
        raise ProposalFailed(f"edit block {len(edits) + 1} is not closed, so the reply's end may be missing")
    if len(edits) > MOST_EDITS:
        raise ProposalFailed(f"the reply has {len(edits)} edit blocks, more than {MOST_EDITS}; give the whole program")
    return edits


def apply_edits(source: str, edits: Iterable[Edit], *, base: str) -> str:
    """Apply edit blocks to a program, in their order.

    Args:
        source: The program.
        edits: The blocks.
        base: What the program is called, for messages.

    Raises:
        ProposalFailed: A block's quotation is empty, absent, or there more than once.
    """
    original = source.split("\n")
    lines = list(original)
    for number, edit in enumerate(edits, 1):
        if not any(line.strip() for line in edit.search):
            raise ProposalFailed(f"edit block {number} has an empty SEARCH part; quote the lines it belongs to")
        places = _places(lines, edit)
        if not places and _places(original, edit):
            raise ProposalFailed(f"edit block {number} overlaps an earlier one: that changed the lines it searches for")
        if not places:
            raise ProposalFailed(
                f"edit block {number} searches for lines that are not in {base}: {edit.search[0]!r} ..."
            )
        if len(places) > 1:
            raise ProposalFailed(
                f"edit block {number} is ambiguous: the lines it searches for are in {base} {len(places)} times; "
                "quote more lines around them"
            )
        [place] = places
        lines[place.start : place.end] = place.lines
    return "\n".join(lines)


def _edit(block: Sequence[str], number: int) -> Edit:
    dividers = [index for index, line in enumerate(block) if _DIVIDER.fullmatch(line)]
    if len(dividers) != 1:
        raise ProposalFailed(f"edit block {number} has {len(dividers) or 'no'} ======= lines; exactly one divides it")
    return Edit(tuple(block[: dividers[0]]), tuple(block[dividers[0] + 1 :]))


def _places(lines: Sequence[str], edit: Edit) -> list[_Place]:
    """Find where a block belongs: as it stands, or else but for white space."""
    size, first = len(edit.search), edit.search[0]
    exact = [
        _Place(start, start + size, edit.replace)
        for start, line in enumerate(lines)
        if line == first and tuple(lines[start : start + size]) == edit.search
    ]
    return exact or _loose_places(lines, edit)


def _loose_places(lines: Sequence[str], edit: Edit) -> list[_Place]:
    search, replace = _trimmed(edit.search), _trimmed(edit.replace)
    shared = len(_margin([*search, *replace]))
    search, replace = [line[shared:] for line in search], [line[shared:] for line in replace]
    places = []
    for start, line in enumerate(lines):
        if not line.rstrip().endswith(search[0]):
            continue
        shift = line.rstrip()[: -len(search[0])]
        found = [line.rstrip() for line in lines[start : start + len(search)]]
        if not shift.strip() and found == [_shifted(line, shift) for line in search]:
            places.append(_Place(start, start + len(search), [_shifted(line, shift) for line in replace]))
    return places


def _trimmed(lines: Sequence[str]) -> list[str]:
    """Lines without trailing blanks, and without blank lines at either end."""
    kept = [line.rstrip() for line in lines]
    while kept and not kept[-1]:
        kept.pop()
    while kept and not kept[0]:
        kept.pop(0)
    return kept


def _margin(lines: Iterable[str]) -> str:
    """The indentation that all lines share, blank ones aside."""
    indents = [line[: len(line) - len(line.lstrip())] for line in lines if line]
    return os.path.commonprefix(indents)  # noqa: RUF071 - characters are what is meant


def _shifted(line: str, by: str) -> str:
    return by + line if line else line
