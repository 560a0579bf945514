"""A problem: a task with a deterministic judge, stated once, in plain Python.

It has two sides that never share a process. The candidate's side is the entry point, its inputs, `run` and the public
files; the judge's side is `score`, `check`, `setup` and the judge's files. What crosses between them is data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epsilon_lab.errors import InvalidInput
from epsilon_lab.search.context import Direction, PublicProblem


@dataclass(frozen=True)
class Trial:
    """What was measured around one run of a candidate, from outside it."""

    seconds: float
    """Wall seconds of the fastest of the repeats."""

    cpu_s: float
    """CPU seconds of the cheapest of the repeats."""

    peak_mb: float
    """Largest resident set, MiB."""

    baseline_seconds: float | None
    """CPU seconds of the cheapest of as many runs of the seed program, interleaved with the candidate's; None where
    `repeats` is 1."""

    seed: int
    inputs: tuple[Any, ...]
    state: Any
    """What `setup` returned in this judge process."""


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """A task with a deterministic judge.

    Args:
        name: A short name, used in run ids.
        statement: What a proposer is told, in Markdown.
        source: The seed program.
        entry: The function of the program that is called.
        inputs: The entry's positional arguments (data); None for none.
        run: `run(program) -> output`, called in the candidate's sandbox in place of `program.<entry>(*inputs)`. What it
            closes over is visible to the candidate.
        setup: `setup() -> state`, called once in each judge process.
        score: `score(output)` or `score(output, trial)` -> float, or a dict with "score", further numbers, and strings
            as feedback. Raising means the output is invalid; raising `Cheat`, that it is an attempt to cheat.
        check: `check(output)` -> None or True, or False or a reason, or an exact number that replaces the score.
        direction: Whether larger or smaller scores are better.
        files: name -> path or bytes or text: read-only for both sides, in the working directory.
        judge_files: the same, for the judge alone.
        timeout_s: Wall seconds of one run of a candidate.
        memory_mb: Memory a candidate may ask for beyond what the warm interpreter has, MiB.
        output_mb: Largest encoded output, MiB.
        judge_timeout_s: Wall seconds of one call of the judge.
        repeats: Runs of each candidate, interleaved with as many of the seed program. More than 1 says that the score
            is a noisy measurement: then every run must give the same output, a program may start no process or
            thread (their time would go unseen), and a best score is measured again with three times as many runs.
        scorers: How many candidates are evaluated at once; None for as many as there are workers.
        alternatives: name of a function in the source -> other bodies for it (each a complete `def`), material for the
            offline proposer.
        best_known: Best score known, for the reader.
        best_known_source: Where that is from.

    Raises:
        InvalidInput: An argument has a wrong type or value; nothing was spent.
    """

    name: str
    statement: str
    source: str
    entry: str = "solve"
    inputs: Sequence[Any] | None = field(default=None, kw_only=True)
    run: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    setup: Callable[[], Any] | None = field(default=None, kw_only=True)
    score: Callable[..., Any] = field(kw_only=True)
    check: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    direction: Direction = field(default="maximize", kw_only=True)
    files: Mapping[str, str | bytes | Path] = field(default_factory=dict, kw_only=True)
    judge_files: Mapping[str, str | bytes | Path] = field(default_factory=dict, kw_only=True)
    timeout_s: float = field(default=10, kw_only=True)
    memory_mb: int = field(default=1024, kw_only=True)
    output_mb: int = field(default=64, kw_only=True)
    judge_timeout_s: float = field(default=60, kw_only=True)
    repeats: int = field(default=1, kw_only=True)
    scorers: int | None = field(default=None, kw_only=True)
    alternatives: Mapping[str, Sequence[str]] = field(default_factory=dict, kw_only=True)
    best_known: float | None = field(default=None, kw_only=True)
    best_known_source: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        for what in ("name", "statement", "source", "entry"):
            value = getattr(self, what)
            if not isinstance(value, str) or not value.strip():
                raise InvalidInput(f"Problem {what}", f"must be a non-empty str, got {value!r}")
        if not self.entry.isidentifier():
            raise InvalidInput("Problem entry", f"must be a function name, got {self.entry!r}")
        if self.direction not in ("maximize", "minimize"):
            raise InvalidInput("Problem direction", f"must be 'maximize' or 'minimize', got {self.direction!r}")
        for what in ("run", "setup", "check"):
            if getattr(self, what) is not None and not callable(getattr(self, what)):
                raise InvalidInput(f"Problem {what}", f"must be callable or None, got {getattr(self, what)!r}")
        if not callable(self.score):
            raise InvalidInput("Problem score", f"must be callable, got {self.score!r}")
        if self.inputs is not None and (isinstance(self.inputs, str | bytes) or not isinstance(self.inputs, Sequence)):
            raise InvalidInput("Problem inputs", f"must be a list or tuple of arguments, got {self.inputs!r}")
        for what in ("timeout_s", "memory_mb", "output_mb", "judge_timeout_s"):
            value = getattr(self, what)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InvalidInput(f"Problem {what}", f"must be a positive number, got {value!r}")
        for what in ("repeats", "scorers"):
            value = getattr(self, what)
            if what == "scorers" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInput(f"Problem {what}", f"must be an int of at least 1, got {value!r}")
        for what in ("files", "judge_files"):
            for name in getattr(self, what):
                if not isinstance(name, str) or not name or "/" in name or name in (".", "..") or "\0" in name:
                    raise InvalidInput(f"Problem {what}", f"{name!r} is not a plain file name")

    def __repr__(self) -> str:
        return f"<Problem {self.name!r}: {self.direction} {self.entry}(), {len(self.source.splitlines())} lines>"

    @property
    def public(self) -> PublicProblem:
        """What a proposer knows."""
        return PublicProblem(name=self.name, statement=self.statement, source=self.source, direction=self.direction)

    def better(self, score: float, than: float | None, *, by: float = 0.0) -> bool:
        """Tell whether a score beats another by more than `by` (any score beats None)."""
        if than is None:
            return True
        return score > than + by if self.direction == "maximize" else score < than - by
