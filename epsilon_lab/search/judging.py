"""The evaluate task: a program runs in a sandbox, its output is judged elsewhere, and the two never share a process.

A problem is packed once, at the start of a run, as two pickles of which each side is handed its own. A worker's process
keeps one sandbox and one judge warm for the problem it is working on; both end with it.

A timed problem (`repeats` > 1) is measured A/B/A/B against the seed program by CPU time as the kernel counts it,
cheapest run against cheapest run: on a noisy machine that is worth more than any average. The best of many noisy values
is too good by a few standard deviations, so a score that would become the best is measured afresh, three times as long,
and the fresh value stands. A best is announced only after the strict check; where a problem has none, a score that beat
the incumbent counts as checked, because nothing stricter exists.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import cloudpickle
import msgspec
from msgspec.structs import replace

from epsilon_lab.agents.function import identity, pack_function
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import Body
from epsilon_lab.processes.account import printable
from epsilon_lab.processes.limits import Limits
from epsilon_lab.processes.sandbox import imported_by
from epsilon_lab.processes.spawner import RunReport, Spawner, SpawnerFailed
from epsilon_lab.search.context import Direction
from epsilon_lab.search.evaluation import EvaluateRequest, Evaluation, Outcome
from epsilon_lab.search.judge import Judge
from epsilon_lab.search.problem import Problem
from epsilon_lab.search.rejudging import spliced
from epsilon_lab.search.verdict import Verdict
from epsilon_lab.settings import TAIL_LIMIT
from epsilon_lab.workspace.layout import RunDirectory

_PROBLEMS = "epsilon_lab.problems"

_AGAIN = 3
"""How many times more runs a would-be best gets."""

_STARTS_S = 260.0
"""Seconds that starting the sandboxes and the judge, and replacing them, may take."""

_TEXT = 10_000
"""Characters of an error, a traceback or a feedback that a row keeps: a scorer may quote what a candidate gave it."""

_benches: dict[tuple[str, str], Bench] = {}
_BENCHES_KEPT = 2


class Docket(msgspec.Struct, frozen=True, kw_only=True):
    """What a bench must know of a packed problem besides the two pickles; `problem/judging.json`."""

    entry: str
    direction: Direction
    timeout_s: float
    memory_mb: float
    output_mb: float
    judge_timeout_s: float
    repeats: int
    has_check: bool
    scorer_hash: str
    """Identity of everything that makes a score of an output: code, captured values, inputs and files."""

    files: dict[str, str]
    """name -> SHA-256 of `problem/files/<name>`, which both sides get."""

    judge_files: dict[str, str]
    """The same for the judge alone."""

    image: str | None = None
    """Of the container that the candidates' sandbox lives in; None: in none."""


# -- at the start of a run --------------------------------------------------------------------------------------------


def pack_problem(problem: Problem, run: RunDirectory, *, image: str | None = None) -> tuple[str, list[Body]]:
    """Write a problem's two sides into a run directory; with the image of the container that candidates run in.

    Returns:
        The reference of its public part, by which `evaluate` finds the rest; and the descriptions of the files, to be
        journalled.

    Raises:
        InvalidInput: A function or the inputs cannot travel, or a file cannot be read.
    """
    inputs = tuple(problem.inputs or ())
    files = {name: _content(problem.files[name], f"Problem files[{name!r}]") for name in sorted(problem.files)}
    secret = {
        name: _content(problem.judge_files[name], f"Problem judge_files[{name!r}]")
        for name in sorted(problem.judge_files)
    }
    with _problems_by_value():
        candidate = _pack(problem.run, inputs)
    judge = _pack(problem.score, problem.check, problem.setup, inputs)
    hashes, secret_hashes = _hashes(files), _hashes(secret)
    functions = (problem.score, problem.check, problem.setup, problem.run)
    scoring = (*functions, _ready_made(problem.score), problem.entry, inputs, problem.repeats)
    docket = Docket(
        entry=problem.entry,
        direction=problem.direction,
        timeout_s=problem.timeout_s,
        memory_mb=problem.memory_mb,
        output_mb=problem.output_mb,
        judge_timeout_s=problem.judge_timeout_s,
        repeats=problem.repeats,
        has_check=problem.check is not None,
        scorer_hash=identity((*scoring, hashes, secret_hashes)),
        files=hashes,
        judge_files=secret_hashes,
        image=image,
    )
    public_ref = "problem/public.json"
    events: list[Body] = [
        run.save(public_ref, _json(problem.public), kind="problem"),
        run.save("problem/statement.md", problem.statement, kind="problem"),
        run.save("problem/seed.py", problem.source, kind="source"),
        run.save("problem/judging.json", _json(docket), kind="problem"),
        run.save("problem/candidate.pkl", candidate, kind="code"),
        run.save("problem/judge.pkl", judge, kind="code"),
    ]
    for folder, contents in (("files", files), ("judge_files", secret)):
        events += [run.save(f"problem/{folder}/{name}", body, kind="problem") for name, body in contents.items()]
    return public_ref, events


def repack_problem(
    source: RunDirectory,
    run: RunDirectory,
    *,
    score: Callable[..., Any],
    check: Callable[..., Any] | None,
    judge_files: Mapping[str, str | bytes | Path] | None,
    direction: Direction | None = None,
) -> tuple[str, Docket, list[Body]]:
    """Take over a problem that was packed into another run directory, with another scorer; nothing is unpickled here.

    Args:
        source: Where it was packed.
        run: Where it goes.
        score: As of a `Problem`.
        check: The same; None keeps the problem's own, which only passes or fails then.
        judge_files: The same; None keeps the problem's own.
        direction: The same; None keeps the problem's own.

    Returns:
        The reference of its public part, what a bench must know of it, and the descriptions of the files.

    Raises:
        InvalidInput: A function cannot travel, or a file cannot be read.
        OSError, msgspec.MsgspecError: The problem is not there, or cannot be read.
    """
    home = "problem"
    old = read_docket(source, f"{home}/public.json")
    kept = {name: source.read_bytes(f"{home}/judge_files/{name}") for name in old.judge_files}
    if judge_files is not None:
        kept = {name: _content(body, f"rescore judge_files[{name!r}]") for name, body in sorted(judge_files.items())}
    for function in filter(None, (score, check)):
        pack_function(function)  # raises for the one at fault, by its name
    judge = pack_function(partial(spliced, source.read_bytes(f"{home}/judge.pkl"), score, check)).blob
    docket = replace(
        old,
        has_check=check is not None or old.has_check,
        scorer_hash=identity((score, check, _ready_made(score), old.scorer_hash, _hashes(kept))),
        judge_files=_hashes(kept),
        direction=direction or old.direction,
    )
    taken = ["public.json", "statement.md", "seed.py", "candidate.pkl", *(f"files/{name}" for name in old.files)]
    files = {
        **{name: source.read_bytes(f"{home}/{name}") for name in taken},
        **{f"judge_files/{name}": body for name, body in kept.items()},
        "judging.json": _json(docket),
        "judge.pkl": judge,
    }
    kinds = {"seed.py": "source", "candidate.pkl": "code", "judge.pkl": "code"}
    saved: list[Body] = [
        run.save(f"{home}/{name}", body, kind=kinds.get(name, "problem")) for name, body in files.items()
    ]
    return f"{home}/public.json", docket, saved


def read_docket(run: RunDirectory, problem_ref: str) -> Docket:
    """Read what a bench must know of a packed problem.

    Raises:
        OSError, msgspec.MsgspecError: It is not there, or cannot be read.
    """
    home = PurePosixPath(problem_ref).parent
    return msgspec.json.decode(run.read_bytes(f"{home}/judging.json"), type=Docket)


def evaluation_limit_s(problem: Problem | Docket) -> float:
    """Seconds that no evaluation of this problem can take while its sandbox and judge work as they should."""
    has_check = problem.has_check if isinstance(problem, Docket) else problem.check is not None
    runs = 2 * problem.repeats * (1 + _AGAIN) if problem.repeats > 1 else 1
    runs += has_check  # which may ask the program
    return runs * problem.timeout_s + 4 * problem.judge_timeout_s + _STARTS_S


def _pack(*parts: Any) -> bytes:
    try:
        # One pickle, so that functions born together share their globals; a builtin, so that loading imports nothing.
        return pack_function(partial(tuple, parts)).blob
    except InvalidInput as error:
        for part in parts:
            if callable(part):
                pack_function(part)  # raises for the one at fault, by its name
        reason = error.__cause__ or "a live Lab or Run is among them"
        raise InvalidInput("Problem inputs", f"cannot be pickled ({reason})", "pass plain data") from error


@contextmanager
def _problems_by_value() -> Iterator[None]:
    """Let `run` of a ready-made problem travel without its module: the scorer is in there too."""
    modules = [module for name, module in sys.modules.items() if name.startswith(_PROBLEMS + ".")]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _ready_made(function: Any) -> list[str]:
    """The source of the ready-made problems, where this is of one.

    Our own modules travel by name, and so their functions' identity is their name; but other code is another score.
    """
    while isinstance(function, partial):
        function = function.func
    module = sys.modules.get(getattr(function, "__module__", ""))
    if module is None or not module.__name__.startswith(_PROBLEMS + ".") or module.__file__ is None:
        return []
    return [path.read_text() for path in sorted(Path(module.__file__).parent.glob("*.py"))]


def _content(content: str | bytes | Path, what: str) -> bytes:
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    try:
        return content.read_bytes()
    except OSError as error:
        raise InvalidInput(what, f"cannot be read ({error})") from error


def _hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _json(value: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1)


# -- in a worker's process --------------------------------------------------------------------------------------------


def evaluate(payload: dict[str, Any], leaf: Leaf) -> dict[str, Any]:
    """Evaluate a program: the entry of `evaluate` tasks.

    Args:
        payload: An `EvaluateRequest`.
        leaf: Names the run.

    Returns:
        An `Evaluation`. Whatever a program or a scorer does is an outcome in it, never an exception.
    """
    request = msgspec.convert(payload, EvaluateRequest)
    source = leaf.run.read_text(request.source_ref)
    found = _bench(leaf.run, request.problem_ref).evaluate(
        source, seed=request.seed, incumbent=request.incumbent, must_check=request.must_check
    )
    return dict(msgspec.to_builtins(found))


def close_benches() -> None:
    """End the sandboxes and judges this process keeps warm; they would also end with it."""
    while _benches:
        _benches.popitem()[1].close()


def _bench(run: RunDirectory, problem_ref: str) -> Bench:
    key = (str(run.path), problem_ref)
    bench = _benches.pop(key, None) or Bench.open(run, problem_ref)
    _benches[key] = bench  # the latest last
    while len(_benches) > _BENCHES_KEPT:
        _benches.pop(next(iter(_benches))).close()
    return bench


class _Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one program that all gave the same output."""

    output: bytes
    seconds: float
    cpu_s: float
    peak_mb: float
    baseline_seconds: float | None
    stdout: str


_TRIAL = ("seconds", "cpu_s", "peak_mb", "baseline_seconds")


class Bench:
    """A sandbox and a judge for one problem, and the order in which they are asked."""

    def __init__(self, docket: Docket, *, seed_source: str, spawner: Spawner, stand: Spawner, judge: Judge) -> None:
        self.docket = docket
        self.seed_source = seed_source
        self.spawner = spawner
        self.stand = stand
        """Where the judge asks a program: it holds neither `run` nor inputs, so nothing there tells what comes next."""

        self.judge = judge

    @classmethod
    def open(cls, run: RunDirectory, problem_ref: str) -> Bench:
        """Read a packed problem; nothing is started, and nothing is unpickled here."""
        home = PurePosixPath(problem_ref).parent
        docket = read_docket(run, problem_ref)
        files = {name: run.read_bytes(f"{home}/files/{name}") for name in docket.files}
        secret = {name: run.read_bytes(f"{home}/judge_files/{name}") for name in docket.judge_files}
        seed_source = run.read_text(f"{home}/seed.py")
        limits = Limits(
            timeout_s=docket.timeout_s,
            memory_mb=docket.memory_mb,
            output_mb=docket.output_mb,
            processes=1 if docket.repeats > 1 else Limits.processes,
        )
        sandbox = partial(
            Spawner,
            files=files,
            limits=limits,
            entry=docket.entry,
            preload=imported_by(seed_source),
            image=docket.image,
        )
        return cls(
            docket,
            seed_source=seed_source,
            spawner=sandbox(run.read_bytes(f"{home}/candidate.pkl")),
            stand=sandbox(None),
            judge=Judge(run.read_bytes(f"{home}/judge.pkl"), files | secret, timeout_s=docket.judge_timeout_s),
        )

    def close(self) -> None:
        """End its processes."""
        self.spawner.close()
        self.stand.close()
        self.judge.close()

    def evaluate(
        self, source: str, *, seed: int, incumbent: float | None = None, must_check: bool = False
    ) -> Evaluation:
        """Run a program and have its output judged.

        Args:
            source: The program.
            seed: Of the random generators it begins with.
            incumbent: Best checked score so far.
            must_check: Check the score though it does not beat the incumbent.
        """

        def promises(evaluation: Evaluation) -> bool:
            return evaluation.score is not None and (must_check or self._beats(evaluation.score, incumbent))

        evaluation, output = self._score(source, seed, self.docket.repeats)
        if self.docket.repeats > 1 and promises(evaluation):
            first = evaluation.score
            evaluation, output = self._score(source, seed, _AGAIN * self.docket.repeats)
            if first is not None and evaluation.outcome == "scored":
                evaluation = replace(evaluation, scores={**evaluation.scores, "first_score": first})
        return self._check(evaluation, output, source, seed) if promises(evaluation) else evaluation

    def _beats(self, score: float, incumbent: float | None) -> bool:
        if incumbent is None:
            return True
        return score > incumbent if self.docket.direction == "maximize" else score < incumbent

    def _score(self, source: str, seed: int, repeats: int) -> tuple[Evaluation, bytes]:
        measured = self._measure(source, seed, repeats)
        if isinstance(measured, Evaluation):
            return measured, b""
        trial = {name: getattr(measured, name) for name in _TRIAL} | {"seed": seed}
        verdict = self.judge.score(measured.output, trial=trial)
        return self._row(
            verdict.outcome,
            score=verdict.score,
            scores=verdict.scores,
            feedback=_clean_feedback(verdict),
            error=verdict.error,
            traceback=verdict.traceback,
            stdout=measured.stdout,
            duration_s=measured.seconds,
            cpu_s=measured.cpu_s,
            peak_mb=measured.peak_mb,
        ), measured.output

    def _check(self, evaluation: Evaluation, output: bytes, source: str, seed: int) -> Evaluation:
        if not self.docket.has_check:
            return replace(evaluation, checked=True)
        with self.stand.session(source, seed=seed) as ask:
            verdict = self.judge.check(output, ask)
        if verdict.outcome != "scored":
            failed = replace(evaluation, outcome=verdict.outcome, score=None, checked=False)
            return replace(failed, error=_clean(verdict.error), traceback=_clean(verdict.traceback))
        return replace(
            evaluation,
            score=evaluation.score if verdict.score is None else verdict.score,
            scores=evaluation.scores | verdict.scores,
            feedback=evaluation.feedback | _clean_feedback(verdict),
            checked=True,
        )

    def _measure(self, source: str, seed: int, repeats: int) -> _Measured | Evaluation:
        """Run a program as often as asked; each time, for a timed problem, followed by the seed program."""
        runs: list[RunReport] = []
        baseline: list[RunReport] = []
        for _ in range(repeats):
            try:
                report = self.spawner.run(source, seed=seed)
                if report.outcome is None and repeats > 1:
                    baseline.append(self.spawner.run(self.seed_source, seed=seed))
            except SpawnerFailed as failed:
                return self._row("scorer_failed", error=str(failed))
            runs.append(report)
            if report.outcome is not None:
                return self._failed(report, report.outcome, report.error)
            if report.output != runs[0].output:
                return self._failed(report, "invalid", "the output differs between runs of the same program")
            if baseline and baseline[-1].outcome is not None:
                return self._failed(report, "scorer_failed", f"the seed program failed: {baseline[-1].error}")
        assert runs[0].output is not None
        return _Measured(
            output=runs[0].output,
            seconds=min(report.seconds for report in runs),
            cpu_s=min(report.cpu_s for report in runs),
            peak_mb=max(report.peak_mb for report in runs),
            baseline_seconds=min((report.cpu_s for report in baseline), default=None),
            stdout=runs[0].stdout,
        )

    def _failed(self, report: RunReport, outcome: Outcome, error: str) -> Evaluation:
        return self._row(
            outcome,
            error=error,
            traceback=report.traceback,
            stdout=report.stdout,
            duration_s=report.seconds,
            cpu_s=report.cpu_s,
            peak_mb=report.peak_mb,
        )

    def _row(
        self, outcome: Outcome, *, error: str = "", traceback: str = "", stdout: str = "", **facts: Any
    ) -> Evaluation:
        return Evaluation(
            outcome=outcome,
            error=_clean(error),
            traceback=_clean(traceback),
            stdout=_clean(stdout[-TAIL_LIMIT:]),
            scorer_hash=self.docket.scorer_hash,
            isolation=self.spawner.isolation,
            **facts,
        )


def _clean_feedback(verdict: Verdict) -> dict[str, str]:
    return {_clean(name): _clean(text) for name, text in verdict.feedback.items()}


def _clean(text: str) -> str:
    """Text from a stranger as text that any file, any JSON and any terminal can take, and a row can afford."""
    if len(text) > _TEXT:
        text = f"{text[:_TEXT]} … (cut off here: {_TEXT} of {len(text)} characters)"
    return printable(text)
