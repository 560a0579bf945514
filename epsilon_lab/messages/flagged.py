"""A question as `flag(...)` puts it, made into the line that a journal has of it.

One rule for all who flag: a function in a worker, a detector over a run's tables. What is wrong with a question is said
where it is asked, by its key, and nothing is flagged then.
"""

from __future__ import annotations

from typing import Any

from epsilon_lab.arguments import number, text
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import case_id
from epsilon_lab.messages.events import CaseFlagged
from epsilon_lab.messages.values import plain


def flagged(
    flagged_by: str,
    task_id: str,
    *,
    key: Any,
    question: str,
    options: list[str] | tuple[str, ...],
    evidence: Any = None,
    reason: str = "",
    score: float | None = None,
    kind: str | None = None,
) -> CaseFlagged:
    """Make the line of a case that somebody flags in a task; `task_id` is empty for somebody outside. All else is what
    he asks with, as `reducers.Flag` says.

    Raises:
        InvalidInput: An argument has a wrong type or value.
    """
    key = _key(key)
    what = f"flag(key={key!r})"
    return CaseFlagged(
        case_id=case_id(flagged_by, key),
        kind=flagged_by if kind is None else text(f"{what} kind", kind),
        question=text(f"{what} question", question),
        options=_options(what, options),
        evidence=_evidence(what, evidence),
        flagged_by=flagged_by,
        reason=text(f"{what} reason", reason, blank=True),
        task_id=task_id,
        key=key,
        score=None if score is None else float(number(f"{what} score", score)),
    )


def _key(key: Any) -> Any:
    if key is None or (isinstance(key, str | list | tuple | dict) and not key):
        raise InvalidInput("flag(key=)", f"must say what the case is about, got {key!r}", "give a text or a list")
    try:
        return plain(key, _no_key)
    except RecursionError:
        raise InvalidInput("flag(key=)", "must be plain JSON, and holds itself") from None


def _no_key(value: object) -> object:
    raise InvalidInput("flag(key=)", f"must be plain JSON, and has {value!r}", "give a text, or a list of some")


def _options(what: str, options: object) -> tuple[str, ...]:
    given = options if isinstance(options, list | tuple) else ()  # a set has another order in each process
    found = tuple(str(text(f"{what} option", each)) for each in given)
    if len(found) < 2 or len(set(found)) < len(found):
        raise InvalidInput(f"{what} options", f"must be a list of two or more different texts, got {options!r}")
    return found


def _evidence(what: str, evidence: object) -> object:
    try:
        return plain(evidence)
    except RecursionError:
        raise InvalidInput(f"{what} evidence", "holds itself", "give plain data") from None
