"""How often what was said, and what most said: answers are counted once, and tallies of them added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from epsilon_lab.errors import InvalidInput

_BALLOT = "votes"


def count(outputs: Iterable[str | Mapping[str, int]]) -> dict[str, int]:
    """Count labels, and add up tallies of them.

    Whatever the order, the numbers are the same; the labels stand in the order in which they were first met.

    Args:
        outputs: Labels, each counted once, or tallies: dicts of label to whole number, as word counts are.

    Raises:
        InvalidInput: An output is neither.
    """
    tally: dict[str, int] = {}
    for place, output in enumerate(outputs):
        if isinstance(output, str):
            tally[output] = tally.get(output, 0) + 1
            continue
        for label, number in _counted("count", place, output):
            tally[label] = tally.get(label, 0) + number
    return tally


def vote(outputs: Iterable[str | Mapping[str, Any]]) -> dict[str, Any]:
    """Find the label that most outputs are.

    The order makes no difference. A tie is a tie: there is no winner then, and `tied` says between whom.

    Args:
        outputs: Labels, or what this function gave for others.

    Returns:
        `winner`, a label with more votes than any other, else None; `tied`, the labels with the most votes where they
        are several, in alphabetical order; `votes`, a dict of label to votes, most votes first, then alphabetical.

    Raises:
        InvalidInput: An output is neither a label nor such a dict.
    """
    votes: dict[str, int] = {}
    for place, output in enumerate(outputs):
        if isinstance(output, str):
            votes[output] = votes.get(output, 0) + 1
            continue
        ballot = output
        if isinstance(output, Mapping):
            if _BALLOT not in output:
                what = f"is a dict without {_BALLOT!r}"
                raise InvalidInput(f"reducers.vote, output {place}", what, "return a str, or what vote gave for others")
            ballot = output[_BALLOT]
        for label, number in _counted("vote", place, ballot):
            votes[label] = votes.get(label, 0) + number
    ordered = dict(sorted(votes.items(), key=lambda item: (-item[1], item[0])))
    most = max(ordered.values(), default=0)
    leaders = [label for label, number in ordered.items() if number == most]
    return {
        "winner": leaders[0] if len(leaders) == 1 else None,
        "tied": leaders if len(leaders) > 1 else [],
        _BALLOT: ordered,
    }


def _counted(name: str, place: int, tally: object) -> Iterator[tuple[str, int]]:
    if not isinstance(tally, Mapping):
        raise InvalidInput(
            f"reducers.{name}, output {place}",
            f"is neither a label (a str) nor counts of labels, but a {type(tally).__name__}",
            "return a str from the task, or str(...) of what it is",
        )
    for label, number in tally.items():
        if not isinstance(label, str) or isinstance(number, bool) or not isinstance(number, int):
            raise InvalidInput(
                f"reducers.{name}, output {place}",
                f"has {number!r} for {label!r}, which is no whole number for a str",
                "sum adds up other numbers",
            )
        yield label, number
