"""What a proposer is shown: enough to write a better program, and nothing of the judge.

A context is a value made by the plan's rules from the archive as it stood when the generation began, so it is the same
at any parallelism.
"""

from __future__ import annotations

import hashlib
import random
from functools import cached_property
from typing import Literal

import msgspec

from epsilon_lab.dice import dice

Strategy = Literal["fresh", "diverse", "offspring"]

Direction = Literal["maximize", "minimize"]


def beats(score: float, than: float | None, direction: Direction, *, by: float = 0.0) -> bool:
    """Tell whether a score beats another by more than `by` (any score beats None)."""
    if than is None:
        return True
    return score > than + by if direction == "maximize" else score < than - by


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A program as a proposer sees it."""

    candidate_id: str
    source: str
    score: float | None
    feedback: dict[str, str] = {}
    strategy: str = ""
    generation: int = 0


class PublicProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What a proposer knows of the problem: this and nothing else."""

    name: str
    statement: str
    source: str
    """The seed program."""

    direction: Direction


class Context(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One proposal's circumstances."""

    candidate_id: str
    generation: int
    strategy: Strategy
    parents: tuple[Shown, ...]
    """None for `fresh`, one for `diverse`, two for `offspring` (one where only one exists)."""

    best: Shown
    """The best checked program so far; the seed program at first."""

    top: tuple[Shown, ...] = ()
    """The best `top_k` programs so far, best first, for a prompt."""

    brief: str = ""
    """The last generation's brief; empty in generation 0."""

    problem: PublicProblem
    seed: int

    @cached_property
    def dice(self) -> random.Random:
        """Random numbers that belong to this seed and candidate, wherever and whenever it is proposed."""
        return dice(self.seed, "propose", self.candidate_id)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything shown: what a recorded proposal that had no prompt is keyed by."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()
