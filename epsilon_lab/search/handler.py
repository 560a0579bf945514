"""A scorer that was named in a document: its answer is a dict of its own making, of which one field is the score.

The handler is given what the candidate's program returned, and never the program: it runs in the judge, where no
candidate is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from epsilon_lab.search.problem import Trial

_CORRECT = "correctness_passed"
_MEASURED = ("seconds", "cpu_s", "peak_mb", "baseline_seconds", "seed", "inputs")


def scorer(handler: Callable[..., Any], payload: dict[str, Any], score_field: str) -> Callable[[Any, Trial], Any]:
    """Make a `Problem`'s `score` of a handler.

    Args:
        handler: `handler(output=, payload=) -> dict`; `payload` is the given one and what was measured: `seconds`,
            `cpu_s`, `peak_mb`, `baseline_seconds`, `seed`, `inputs`.
        payload: What it is always given.
        score_field: The field of its answer that is the score.
    """
    return functools.partial(_score, handler, payload, score_field)


def _score(
    handler: Callable[..., Any], payload: dict[str, Any], score_field: str, output: Any, trial: Trial
) -> dict[str, Any]:
    answer = handler(output=output, payload={**payload, **{name: getattr(trial, name) for name in _MEASURED}})
    if not isinstance(answer, dict):
        raise TypeError(f"the handler returned a {type(answer).__name__}, not a dict")
    _want(answer, _CORRECT)
    if not answer[_CORRECT]:
        raise ValueError(str(answer.get("error") or f"{_CORRECT} is {answer[_CORRECT]!r}"))
    _want(answer, score_field)
    rest = {str(name): _plain(value) for name, value in answer.items() if name not in ("score", score_field, _CORRECT)}
    return {**rest, "score": answer[score_field]}


def _want(answer: dict[Any, Any], name: str) -> None:
    if name not in answer:
        raise ValueError(f"the handler's answer has no {name!r}; it has {', '.join(map(str, answer)) or 'nothing'}")


def _plain(value: Any) -> Any:
    """A number or a text as it is, all else as the text of its JSON."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return value
    return msgspec.json.encode(value, enc_hook=str).decode()
