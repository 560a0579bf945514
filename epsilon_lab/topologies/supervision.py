"""What a supervisor may do about a node, and how often: rules that end.

A review says `pass`, `retry`, `split`, `reassign` or `fail`. Each but the first and the last costs something of a
budget, and a node has no more of it than it was given, so whatever reviews say the node is over after finitely many of
them. What is no verdict, what the budget does not cover, and a pass of what has no output count as `fail`, with the
reason: the ancestor's reviews passed a stage when they failed themselves (reference: Epsilon, `supervisor`).

Pure: a verdict and the node's books in, an action and the new books out.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from epsilon_lab.messages.values import Value
from epsilon_lab.topologies.gates import said_in, shown

MOST_PARTS = 8

REVIEW: dict[str, Any] = {
    "type": "object",
    "properties": {
        "verdict": {"type": "string", "enum": ["pass", "retry", "split", "reassign", "fail"]},
        "reason": {"type": "string", "description": "Why; whoever does the work next is told so."},
        "parts": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_PARTS,
            "description": "For split: the smaller pieces that stand for the node together.",
            "items": {
                "type": "object",
                "properties": {
                    "task": {"type": "string", "description": "What is to be done."},
                    "worker": {"type": "string", "description": "Who does it; by default whoever did the node."},
                },
                "required": ["task"],
                "additionalProperties": False,
            },
        },
        "chained": {"type": "boolean", "description": "For split: one after the other, not side by side."},
        "to": {"type": "string", "description": "For reassign: the worker that does the node now."},
    },
    "required": ["verdict", "reason"],
    "additionalProperties": False,
}
"""What an agent answers that reviews, as a JSON schema."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A piece of a node that is split."""

    task: str
    worker: str = ""
    """Empty: whoever did the node."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a review says of a node."""

    verdict: Literal["pass", "retry", "split", "reassign", "fail"]
    reason: str = ""
    parts: tuple[Part, ...] = ()
    chained: bool = False
    to: str = ""


class Limits(msgspec.Struct, frozen=True):
    """What a node may cost beyond one go at it."""

    retries: int
    """Goes more, by the same worker."""

    reassign_depth: int
    """Workers more."""

    split_depth: int
    """How often a piece of a piece may be split."""


class Books(msgspec.Struct, frozen=True):
    """What a node has cost so far."""

    worker: str = ""
    """Who does it; empty for the worker of the plan."""

    tried: tuple[str, ...] = ()
    """Workers that it was taken from."""

    retries: int = 0
    splits: int = 0
    """How many nodes it is a piece of, one in the other."""


def verdict_of(output: Value | None) -> Verdict:
    """Read what a review answered; what is no verdict is a `fail` that says so.

    Args:
        output: `true` and `null` pass; `false` and a text, which is the feedback, retry; an object is a `Verdict`.
    """
    match answer := said_in(output):
        case None | True:
            return Verdict("pass")
        case False:
            return Verdict("retry")
        case str():
            return Verdict("retry", answer)
        case dict():
            try:
                return msgspec.convert(answer, Verdict)
            except msgspec.ValidationError as error:
                return Verdict("fail", f"the review gave no verdict: {error}")
    return Verdict("fail", f"the review gave no verdict but {shown(output)}")


def by_rule(failed: str | None, books: Books, limits: Limits, workers: tuple[str, ...]) -> Verdict:
    """The review of a supervisor that has none: what has an output passes; what failed is tried again, and at last by
    others, in the order in which they were named.

    Args:
        failed: Why it has no output; None where it has one.
        books: What the node has cost.
        limits: What it may cost.
        workers: Names of those who may do nodes.
    """
    if failed is None:
        return Verdict("pass")
    if books.retries < limits.retries:
        return Verdict("retry", failed)
    others = [name for name in workers if name != books.worker and name not in books.tried]
    if others and len(books.tried) < limits.reassign_depth:
        return Verdict("reassign", failed, to=others[0])
    return Verdict("fail", failed)


def settle(
    verdict: Verdict, books: Books, limits: Limits, *, has_output: bool, workers: tuple[str, ...]
) -> tuple[Verdict, Books]:
    """Hold a verdict against the node's books.

    Returns:
        What is done, which is the verdict, or a `fail` with the reason why it cannot be; and the books after it.
    """

    def fail(why: str) -> tuple[Verdict, Books]:
        return Verdict("fail", f"{why}: {verdict.reason}" if verdict.reason else why), books

    match verdict.verdict:
        case "pass" if not has_output:
            return fail("its review passed it, but it has no output")
        case "pass":
            return verdict, books
        case "retry" if books.retries >= limits.retries:
            return fail(f"its review asks for another go, and it has had its {limits.retries} retries")
        case "retry":
            return verdict, msgspec.structs.replace(books, retries=books.retries + 1)
        case "split" if not 1 <= len(verdict.parts) <= MOST_PARTS:
            return fail(f"its review splits it into {len(verdict.parts)} parts, not 1 to {MOST_PARTS}")
        case "split" if books.splits >= limits.split_depth:
            return fail(f"its review splits it, and parts are split no more than {limits.split_depth} deep")
        case "split":
            for part in verdict.parts:
                if part.worker and part.worker not in workers:
                    return fail(f"its review gives a part to {part.worker!r}, who is no worker")
            return verdict, books
        case "reassign" if verdict.to not in workers:
            return fail(f"its review gives it to {verdict.to!r}, who is no worker")
        case "reassign" if len(books.tried) >= limits.reassign_depth:
            return fail(f"its review gives it to {verdict.to}, and it was reassigned {len(books.tried)} times")
        case "reassign":
            tried = (*books.tried, books.worker)
            return verdict, msgspec.structs.replace(books, worker=verdict.to, tried=tried, retries=0)
        case "fail":
            return verdict, books
