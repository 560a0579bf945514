"""What a detector asks with: the `flag` that a reducer with such a parameter is given.

A detector is a plain function over outputs, or over the rows of a table, that is given `flag` and calls it once for
each thing that is better left to a decider. It is pure: with the same outputs and verdicts it asks the same and answers
the same. Where it is given None it asks nobody, and goes on as if nothing were decided.
"""

from __future__ import annotations

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
        """Ask.

        Args:
            key: What it is about, as JSON: a text, or a list such as `["a", "b"]`. The same key is the same case, in
                every group of a reduction, every revision and every run; who asks last puts the question, as a higher
                group does, which has seen more. A verdict that was given before stays one of the options.
            question: What is asked.
            options: The verdicts there are, at least two.
            evidence: What a decider should see; what JSON has no form for is shown as its `repr`.
            reason: Why it is asked.
            score: How urgent it is: larger ones are put to a decider first. None comes last.
            kind: What it is about, in a word; None for the name of who asks.

        Returns:
            The verdict that speaks for the case, as of the run's last `finalize()`; None where there was none, or one
            that is not among these options, as where a higher group has offered more.

        Raises:
            InvalidInput: An argument has a wrong type or value, or the same call has asked something else under this
                key.
        """
        ...


def asked(flag: Flag | None) -> Flag:
    """What to ask with, also where nobody is there to be asked."""
    return flag if flag is not None else _nobody


def _nobody(**_: Any) -> None:
    """Ask nobody."""
