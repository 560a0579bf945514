"""A packed judge with another scorer in it, put together in the judge's own process.

What a search was judged by lies in its run directory as a pickle: scorer, check, setup and inputs. To judge the same
programs anew, setup and inputs have to be the same, and nobody else may unpickle them: so the old pickle travels inside
the new one, and is opened where it has always been opened.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from epsilon_lab.search.judge_main import load_side
from epsilon_lab.search.verdict import read_check

Side = tuple[Callable[..., Any], Callable[..., Any] | None, Callable[[], Any] | None, tuple[Any, ...]]
"""Score, check, setup and inputs."""


def spliced(side: bytes, score: Callable[..., Any], check: Callable[..., Any] | None) -> Side:
    """Give the judge's side of a packed problem, with this scorer.

    Args:
        side: The packed one.
        score: Takes the place of its own.
        check: The same; None keeps its own, which only passes or fails then.
    """
    _, own, setup, inputs = load_side(side)
    return score, _only_passes(own) if check is None and own is not None else check, setup, inputs


def _only_passes(check: Callable[..., Any]) -> Callable[..., Any]:
    """A check whose number, which would replace the score, is not believed: it belongs to the score that it was for."""

    @functools.wraps(check)  # the judge looks at what it takes
    def passes(*arguments: Any) -> Any:
        answer = check(*arguments)
        return True if read_check(answer).outcome == "scored" else answer

    return passes
