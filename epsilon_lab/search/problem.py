"""A problem: a task with a deterministic judge, stated once, in plain Python.

It has two sides that never share a process. The candidate's side is the entry point, its inputs, `run` and the public
files; the judge's side is `score`, `check`, `setup` and the judge's files. What crosses between them is data.
"""

from __future__ import annotations

import ast
import html
import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epsilon_lab.arguments import function, number, text, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.search.context import Direction, PublicProblem
from epsilon_lab.search.prompts import defines
from epsilon_lab.search.sources import parse
from epsilon_lab.search.variation import Variation

CALLS: dict[str, list[tuple[str, ...]]] = {
    "run": [("program",)],
    "setup": [()],
    "score": [("output",), ("output", "trial")],
    "check": [("output",), ("output", "ask")],
}
"""How the functions of a problem are called."""

_WEEK_S = 7 * 86_400
_MOST = {"timeout_s": _WEEK_S, "judge_timeout_s": _WEEK_S, "memory_mb": 1 << 20, "output_mb": 4096}
"""Limits of the limits: above these a kernel's counters or a timer would overflow, or nothing be limited."""


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

    A candidate may use threads, memory, and files in its working directory. Where confinement is full it reads the
    interpreter and installed libraries and nothing else, and cannot start a process (`subprocess`, `multiprocessing`
    and `os.fork` raise PermissionError) or open a socket; `lab.isolation` says what holds on this machine.

    Args:
        name: A short name, used in run ids.
        statement: What a proposer is told, in Markdown.
        source: The seed program; it compiles and, without `run`, defines the entry.
        entry: The function of the program that is called.
        inputs: The entry's positional arguments (data); None for none.
        run: `run(program) -> output`, called in the candidate's sandbox in place of `program.<entry>(*inputs)`. What it
            closes over is visible to the candidate.
        setup: `setup() -> state`, called once in each judge process.
        score: `score(output)` or `score(output, trial)` -> float, or a dict with "score", further numbers, and strings
            as feedback. Raising means the output is invalid; raising `Cheat`, that it is an attempt to cheat.
        check: `check(output)` or `check(output, ask)` -> None or True, or False or a reason, or an exact number that
            replaces the score, or a dict as from `score`. `ask(*arguments)` calls the program's entry and returns what
            it returns, in a new process that holds neither `run` nor `inputs` and is asked one question at a time, so
            that it cannot know the next. It keeps what it remembers between questions. The limits hold for all answers
            together; a program that exceeds one, raises or answers no data has failed, whatever `check` makes of it.
        direction: Whether larger or smaller scores are better.
        files: name -> path or bytes or text: read-only for both sides, in the working directory.
        judge_files: the same, for the judge alone.
        timeout_s: Wall seconds of one run of a candidate, and of its answers to one check; at most a week.
        memory_mb: Memory a candidate may ask for beyond what the warm interpreter has, MiB, at most a TiB.
        output_mb: Largest encoded output, MiB, at most 4 GiB.
        judge_timeout_s: Wall seconds of one call of the judge, at most a week.
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
    check: Callable[..., Any] | None = field(default=None, kw_only=True)
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
            text(f"Problem {what}", getattr(self, what))
        text("Problem best_known_source", self.best_known_source, blank=True)
        if not self.entry.isidentifier() or keyword.iskeyword(self.entry):
            raise InvalidInput("Problem entry", f"must be a function name, got {self.entry!r}")
        if self.direction not in ("maximize", "minimize"):
            raise InvalidInput("Problem direction", f"must be 'maximize' or 'minimize', got {self.direction!r}")
        if self.inputs is not None and (isinstance(self.inputs, str | bytes) or not isinstance(self.inputs, Sequence)):
            raise InvalidInput("Problem inputs", f"must be a list or tuple of arguments, got {self.inputs!r}")
        for what, calls in CALLS.items():
            if what == "score" or getattr(self, what) is not None:
                function(f"Problem {what}", getattr(self, what), *calls)
        for what, most in _MOST.items():
            self._put(what, number(f"Problem {what}", getattr(self, what), least=0, most=most, above=True))
        self._put("repeats", whole("Problem repeats", self.repeats, least=1))
        if self.scorers is not None:
            self._put("scorers", whole("Problem scorers", self.scorers, least=1))
        if self.best_known is not None:
            self._put("best_known", number("Problem best_known", self.best_known))
        for what in ("files", "judge_files"):
            refuse_files(f"Problem {what}", getattr(self, what))
        try:
            program = parse(self.source)
        except SyntaxError as error:
            raise InvalidInput("Problem source", f"does not parse: {error}") from error
        if self.run is None and not defines(program, self.entry):
            raise InvalidInput(
                "Problem source", f"does not define {self.entry}()", "name the function that is called with entry="
            )
        self._refuse_alternatives(program)

    def _put(self, what: str, value: object) -> None:
        object.__setattr__(self, what, value)  # frozen, but for the constructor

    def _refuse_alternatives(self, program: ast.Module) -> None:
        if not isinstance(self.alternatives, Mapping):
            raise InvalidInput("Problem alternatives", f"must be a dict of lists of str, got {self.alternatives!r}")
        functions = {statement.name for statement in program.body if isinstance(statement, ast.FunctionDef)}
        for name, bodies in self.alternatives.items():
            what = f"Problem alternatives[{name!r}]"
            if name not in functions:
                raise InvalidInput(
                    what, f"the source has no def {name}", f"it has {', '.join(sorted(functions)) or 'none'}"
                )
            if isinstance(bodies, str | bytes) or not isinstance(bodies, Sequence):
                raise InvalidInput(what, f"must be a list of str, each a complete def, got {bodies!r}")
            for place, body in enumerate(bodies):
                text(f"{what}[{place}]", body)
        Variation(self.alternatives, self.entry)

    def __repr__(self) -> str:
        return f"<Problem {self.name!r}: {self.direction} {self.entry}(), {len(self.source.splitlines())} lines>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def public(self) -> PublicProblem:
        """What a proposer knows."""
        return PublicProblem(name=self.name, statement=self.statement, source=self.source, direction=self.direction)


def refuse_files(what: str, files: object) -> None:
    """Refuse what is no mapping of plain file names to paths, bytes or texts.

    Raises:
        InvalidInput: Naming the file.
    """
    if not isinstance(files, Mapping):
        raise InvalidInput(what, f"must be a dict of name -> path, bytes or text, got {files!r}")
    for name, content in files.items():
        text(f"{what}: name {name!r}", name)
        if "/" in name or "\0" in name or name in (".", ".."):
            raise InvalidInput(what, f"{name!r} is not a plain file name")
        if isinstance(content, str):
            text(f"{what}[{name!r}]", content, blank=True)
        elif not isinstance(content, bytes | Path):
            raise InvalidInput(f"{what}[{name!r}]", f"must be a path, bytes or text, got {content!r}")
