"""Random variation of the seed program: what a search has to beat to have searched at all.

The offline proposer's own edits and the problem's own alternatives, applied to the seed program and to nothing that was
ever scored: one to three edits, and for every other proposal a crossing of two programs made so. Whatever selection,
briefs or a model add shows as the difference to it at as many programs judged. Independent samples come close to
evolved programs on many tasks ("Simple Baselines are Competitive with Code Evolution", arXiv 2602.16805), so no score
of a search should be read without them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import msgspec

from epsilon_lab.search.context import Context, Shown
from epsilon_lab.search.variation import Variation


@dataclass(frozen=True)
class RandomVariation:
    """A proposer that never looks at a score.

    Its dice are its own: it shares the seed program with the search it is held against, and no proposal.

    Args:
        variation: The edits, and the alternatives they may put in.
    """

    name: ClassVar[str] = "random variation"

    variation: Variation = field(default_factory=Variation)

    def __call__(self, context: Context) -> str:
        """Make a program from the seed program alone.

        Raises:
            ProposalFailed: The seed program is nested too deeply to be varied.
        """
        alone = _cut_off(context)
        if alone.dice.random() < 0.5:
            return self.variation(alone)
        parents = tuple(
            Shown(candidate_id=one.candidate_id, source=self.variation(one), score=None)
            for one in (_named(alone, "first"), _named(alone, "second"))
        )
        return self.variation(msgspec.structs.replace(alone, strategy="offspring", parents=parents))


def _cut_off(context: Context) -> Context:
    """The context without anything that came of a score."""
    seed = Shown(candidate_id="seed", source=context.problem.source, score=None)
    return _named(
        msgspec.structs.replace(context, strategy="fresh", parents=(), best=seed, top=(), brief=""), "random variation"
    )


def _named(context: Context, name: str) -> Context:
    """The same context with dice of its own."""
    return msgspec.structs.replace(context, candidate_id=f"{context.candidate_id}/{name}")
