"""What a machine answers to a case, as one of the case's options or as no verdict, and nothing in between.

Pure. A function says an option, a model writes a text around one, an agent gives an object. All of them end here, so
that what counts as a verdict is one rule: where the answer names no option, or two, or one and denies it in the same
breath, it is refused with the reason, and whoever gave it may be asked again. To guess would put words into the record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from epsilon_lab.errors import InvalidInput

UNSURE = "unsure"
"""No verdict, also where a case has it among its options: the case stays open."""

NOTE_LIMIT = 2_000
"""Characters of a note; one that is longer is cut off, and says so."""

_SHOWN = 200
_DENIALS = re.compile(r"\b(?:not|never|no|neither|nor|none|cannot|without|unlike|hardly)\b|n['’]t\b", re.IGNORECASE)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered; also the form that an agent is held to."""

    verdict: str | None = None
    """One of the options; None: unsure."""

    note: str = ""
    """Why."""

    confidence: float | None = None
    """Between 0 and 1, where it was said."""


def read_answer(output: object, options: Sequence[str]) -> Answer:
    """Read what was answered to a case.

    Args:
        output: One of the options; None or "unsure"; an object with `verdict`, and as wanted `note` (or `reason`) and
            `confidence`; or a text that holds such objects, all of the same verdict, or else names exactly one option.
            Letter case does not matter where it does not tell options apart.
        options: The verdicts there are.

    Raises:
        InvalidInput: It is no verdict; the message says why, for whoever is asked again.
    """
    match output:
        case None:
            return Answer()
        case dict():
            return _of_object(output, options)
        case str():
            return _of_text(output, options)
        case _:
            raise _unread(output, options, f"it is a {type(output).__name__}")


def _of_object(said: dict[Any, Any], options: Sequence[str]) -> Answer:
    if "verdict" not in said:
        raise _unread(said, options, "it has no 'verdict'")
    verdict = said["verdict"]
    if verdict is not None:
        found = _named(verdict, options) if isinstance(verdict, str) else None
        if found is None:
            raise _unread(said, options, f"its verdict {_short(verdict)} is none of them")
        verdict = found
    note = said.get("note") or said.get("reason") or ""
    if not isinstance(note, str):
        raise _unread(said, options, f"its note is a {type(note).__name__}, not a text")
    confidence = said.get("confidence")
    if confidence is not None:
        is_number = isinstance(confidence, int | float) and not isinstance(confidence, bool)
        if not is_number or not 0 <= confidence <= 1:  # NaN is not either
            raise _unread(said, options, f"its confidence {_short(confidence)} is no number from 0 to 1")
        confidence = float(confidence)
    return Answer(verdict=_or_unsure(verdict), note=_cut(note), confidence=confidence)


def _of_text(text: str, options: Sequence[str]) -> Answer:
    bare = text.strip()
    found = _named(bare, options) or _named(bare.strip("\"'`*. "), options)
    if found is not None:
        return Answer(verdict=_or_unsure(found))
    if objects := [said for said in _objects(text) if "verdict" in said]:
        answers = [_of_object(said, options) for said in objects]
        if len({answer.verdict for answer in answers}) > 1:
            raise _unread(text, options, "it holds objects of different verdicts")
        return answers[-1]
    named = _mentioned(text, options)
    if len(named) > 1:
        raise _unread(text, options, f"it names {' and '.join(map(repr, sorted(named)))}")
    if not named:
        raise _unread(text, options, "it names none of them")
    [verdict] = named
    if verdict != UNSURE and (denial := _DENIALS.search(_without(text, verdict))):
        raise _unread(text, options, f"it names {verdict!r} beside the word {denial.group()!r}, which may deny it")
    return Answer(verdict=_or_unsure(verdict), note=_cut(text.strip()))


def _named(word: str, options: Sequence[str]) -> str | None:
    """The option that a word is; `unsure` is one everywhere."""
    every = [*options, *[UNSURE] * (UNSURE not in options)]
    if word in every:
        return word
    alike = [option for option in every if option.casefold() == word.casefold()]
    return alike[0] if len(alike) == 1 else None


def _or_unsure(verdict: str | None) -> str | None:
    return None if verdict is None or verdict.casefold() == UNSURE else verdict


def _mentioned(text: str, options: Sequence[str]) -> set[str]:
    """The options that a text names as words of their own; what is part of a longer option's name is not named."""
    every = sorted({*filter(None, options), UNSURE}, key=lambda option: (-len(option), option))
    found: set[str] = set()
    for option in every:
        pattern = _word(option, exactly=sum(option.casefold() == other.casefold() for other in every) > 1)
        text, times = pattern.subn("\0", text)
        if times:
            found.add(option)
    return found


def _without(text: str, option: str) -> str:
    return _word(option, exactly=False).sub(" ", text)


def _word(option: str, *, exactly: bool) -> re.Pattern[str]:
    before, after = (r"(?<!\w)" if option[:1].isalnum() else ""), (r"(?!\w)" if option[-1:].isalnum() else "")
    return re.compile(before + re.escape(option) + after, 0 if exactly else re.IGNORECASE)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, from left to right, the outermost of each."""
    decoder = json.JSONDecoder()
    place = text.find("{")
    while place >= 0:
        try:
            found, place = decoder.raw_decode(text, place)
            yield found
        except (ValueError, RecursionError):
            place += 1
        place = text.find("{", place)


def _cut(note: str) -> str:
    note = note.encode("utf-8", "replace").decode()  # half a character, which JSON can hold, can go nowhere
    return note if len(note) <= NOTE_LIMIT else f"{note[:NOTE_LIMIT]} … (cut off here)"


def _unread(output: object, options: Sequence[str], why: str) -> InvalidInput:
    wanted = " or ".join(map(repr, options))
    return InvalidInput(f"the answer {_short(output)}", f"is no verdict: {why}", f"answer {wanted}, or {UNSURE!r}")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]} …"
