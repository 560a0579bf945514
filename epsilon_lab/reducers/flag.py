"""What a detector asks with: the `flag` that a reducer with such a parameter is given.

A detector is a plain function over outputs, or over the rows of a table, that is given `flag` and calls it once for
each thing that is better left to a decider. It is pure: with the same outputs and verdicts it asks the same and answers
the same. Where it is given None it asks nobody, and goes on as if nothing were decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Flag(Protocol):
    """Leaves a question to a decider, and gives the verdict that speaks for it, or None."""

    def __call__(
        self,
        *,
        key: Any,
        question: str,
        options: list[str] | tuple[str, ...],
        evidence: Any = None,
        reason: str = "",
        score: float | None = None,
        kind: str | None = None,
    ) -> str | None:
        """Ask."""
        ...


def asked(flag: Flag | None) -> Flag:
    """What to ask with, also where nobody is there to be asked."""
    return flag if flag is not None else _nobody


def _nobody(
    *,
    key: Any,  # noqa: ARG001 - as of any flag
    question: str,  # noqa: ARG001
    options: Sequence[str],  # noqa: ARG001
    evidence: Any = None,  # noqa: ARG001
    reason: str = "",  # noqa: ARG001
    score: float | None = None,  # noqa: ARG001
    kind: str | None = None,  # noqa: ARG001
) -> str | None:
    return None
