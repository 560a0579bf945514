"""`stage.`: what plans put on record of candidates, generations, briefs, reviews and quality."""

from __future__ import annotations

import msgspec

from epsilon_lab.messages.events.body import Body


class CandidateSettled(Body, frozen=True, kw_only=True):
    """`stage.candidate`: a candidate's row, complete; a later line of the same id replaces it."""

    candidate_id: str
    generation: int
    strategy: str
    """`seed`, `fresh`, `diverse` or `offspring`."""

    parent_ids: tuple[str, ...] = ()
    outcome: str = "scored"
    code_hash: str | None = None
    """SHA-256 of the normalised syntax tree (of the text, where it does not parse)."""

    score: float | None = None
    scores: dict[str, float] = msgspec.field(default_factory=dict)
    feedback: dict[str, str] = msgspec.field(default_factory=dict)
    error: str = ""
    traceback: str = ""
    stdout: str = ""
    checked: bool | None = None
    """True: passed its strict check; False: failed it; None: was not put to it."""

    scorer_hash: str | None = None
    duration_s: float | None = None
    cpu_s: float | None = None
    peak_mb: float | None = None
    proposer: str = ""
    prompt_ref: str | None = None
    reply_ref: str | None = None
    source_ref: str | None = None
    prompt_sha256: str | None = None
    duplicate_of: str | None = None
    staleness: int = 0
    """Results that landed after this candidate's context was built: 0 between barriers."""

    island: int = 0
    isolation: str | None = None


class GenerationClosed(Body, frozen=True, kw_only=True):
    """`stage.generation`."""

    generation: int
    best: float | None
    """Best score of the run so far that passed its check."""

    best_id: str | None
    median: float | None
    """Median score of this generation's scored candidates."""

    top: float | None
    """Best score within this generation."""

    candidates: int
    valid_share: float
    """Scored candidates over proposed ones, 0 to 1."""

    stall: int
    """Generations in a row without an improvement of at least `min_delta`."""

    elites: tuple[str, ...] = ()
    """Candidates kept, with their scores, for the next generation."""


class BriefWritten(Body, frozen=True, kw_only=True):
    """`stage.brief`: one version of a generation's brief."""

    generation: int
    version: int
    author: str
    text: str
    cited: tuple[str, ...] = ()
    """Candidate ids that the text names."""


class CandidatesRuled(Body, frozen=True, kw_only=True):
    """`stage.ruled`: what the verdicts on a search's cases make of its candidates, from here on."""

    ruled: dict[str, tuple[str, str, str]]
    """Candidate -> (verdict, case, why); those that are not named count as they were judged."""


class StageReviewed(Body, frozen=True, kw_only=True, omit_defaults=True):
    """`stage.reviewed`: a gate or a supervisor has judged what a node gave, and what follows from it."""

    node: str
    task_id: str
    """The revision that was judged."""

    verdict: str
    """`pass`, `fail`, `retry`, `split` or `reassign`."""

    reason: str = ""
    by: str
    """Who judged it; empty for the rules themselves."""

    then: str
    """`accepted`, `revised`, `split`, `reassigned` or `failed`."""

    to: str = ""
    """The worker that does it now, where it was reassigned."""

    parts: tuple[str, ...] = ()
    """The nodes that stand for it now, where it was split."""


class QualityChecked(Body, frozen=True, kw_only=True):
    """`stage.qa`: QA's report on a product, and who was told to mend what."""

    wave: int
    """1 for the run's first."""

    status: str
    """`pass` or `fail`."""

    summary: str = ""
    errors: tuple[dict[str, object], ...] = ()
    assigned: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """Node -> ids of errors. Empty where it passed, or where nobody is left to mend anything."""
