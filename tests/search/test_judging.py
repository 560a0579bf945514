"""What becomes of a program: its true score, or the name of what went wrong; and nothing a next one would notice."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from epsilon_lab import problems
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.errors import Cheat, InvalidInput
from epsilon_lab.processes import tree
from epsilon_lab.search.evaluation import Evaluation
from epsilon_lab.search.judging import Bench, close_benches, evaluate, evaluation_limit_s, pack_problem
from epsilon_lab.search.problem import Problem
from epsilon_lab.testing.census import wait_until
from epsilon_lab.workspace.layout import RunDirectory

SEED = "def solve(x):\n    return x\n"


def problem(score: Callable[..., Any], **changes: Any) -> Problem:
    return Problem(
        "double", "Return a large number.", SEED, **{"inputs": (3,), "score": score, "timeout_s": 5} | changes
    )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Packs a problem and opens it as a worker does; closes at the end."""
    opened: list[Bench] = []

    def make(score: Callable[..., Any], **changes: Any) -> Bench:
        run = RunDirectory(tmp_path / f"run-{len(opened)}")
        reference, _ = pack_problem(problem(score, **changes), run)
        opened.append(Bench.open(run, reference))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def identical(output: Any) -> Any:
    return output


# -- the leaf --------------------------------------------------------------------------------------------------------


def test_a_program_is_run_judged_and_described(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    reference, events = pack_problem(problem(lambda output: {"score": output, "half": output / 2, "note": "ok"}), run)
    assert {event.path for event in events} >= {"problem/public.json", "problem/seed.py"}  # type: ignore[attr-defined]
    run.save("candidates/a.py", "def solve(x):\n    print('thinking')\n    return 2 * x\n", kind="source")
    payload = {"problem_ref": reference, "source_ref": "candidates/a.py", "seed": 1, "incumbent": 3.0}
    try:
        found = evaluate(payload, Leaf(run, "evaluate-a", 1, 1))
        again = evaluate(payload, Leaf(run, "evaluate-b", 1, 1))
    finally:
        close_benches()
    row = msgspec.convert(json.loads(json.dumps(found)), Evaluation)
    assert (row.outcome, row.score, row.scores, row.feedback) == ("scored", 6.0, {"half": 3.0}, {"note": "ok"})
    assert (row.stdout, row.error, row.checked) == ("thinking\n", "", True)
    assert row.duration_s
    assert row.cpu_s
    assert row.peak_mb
    assert "limits" in row.isolation or "seccomp" in row.isolation
    assert again["score"] == 6.0


def test_a_worker_keeps_few_benches_warm(tmp_path: Path) -> None:
    pids: list[int] = []

    def where(output: Any) -> float:
        return os.getpid()

    try:
        for name in ("a", "b", "a", "c"):
            run = RunDirectory(tmp_path / name)
            reference, _ = pack_problem(problem(where), run)
            run.save("candidates/x.py", SEED, kind="source")
            payload = {"problem_ref": reference, "source_ref": "candidates/x.py", "seed": 1}
            pids.append(int(evaluate(payload, Leaf(run, "t", 1, 1))["score"]))
        assert pids[0] == pids[2]
        assert not tree.is_alive(pids[1])
        assert tree.is_alive(pids[0])
        assert tree.is_alive(pids[3])
    finally:
        close_benches()
    assert not any(map(tree.is_alive, pids))


def test_hostile_text_can_be_written_as_json(bench: Callable[..., Bench]) -> None:
    program = "import sys\nprint('\\ud800')\nsys.stderr.write('\\x00')\ndef solve(x):\n    raise ValueError('\\udfff')"
    row = bench(identical).evaluate(program, seed=1)
    assert row.outcome == "crashed"
    msgspec.json.encode(row)


# -- the judge -------------------------------------------------------------------------------------------------------


def gone(output: Any) -> Any:
    os._exit(3)


def endless(output: Any) -> Any:
    while True:
        pass


def exits(output: Any) -> Any:
    sys.exit(2)


def raises(output: Any) -> Any:
    raise ValueError(f"{output} is not even")


def cheat(output: Any) -> Any:
    raise Cheat("it read the answer")


@pytest.mark.parametrize(
    ("score", "outcome", "error"),
    [
        (lambda output: math.nan, "nonfinite", "nan"),
        (lambda output: "high", "bad_type", "'high'"),
        (lambda output: None, "bad_type", "None"),
        (lambda output: {"value": 1}, "bad_type", '"score"'),
        (lambda output: {"score": 1, "more": []}, "bad_type", "'more'"),
        (raises, "invalid", "ValueError: 3 is not even"),
        (cheat, "cheat", "it read the answer"),
        (exits, "scorer_failed", "SystemExit"),
        (gone, "scorer_failed", "exit code 3"),
        (endless, "scorer_failed", "no answer in 1 s"),
    ],
)
def test_a_scorers_failure_has_its_own_name(
    bench: Callable[..., Bench], score: Callable[..., Any], outcome: str, error: str
) -> None:
    """And the next program is judged: by a scorer that behaves for other outputs."""

    def moody(output: Any) -> Any:
        return 7 if output == "fine" else score(output)

    made = bench(moody, judge_timeout_s=1)
    row = made.evaluate(SEED, seed=1)
    assert (row.outcome, row.score, row.checked) == (outcome, None, None)
    assert error in row.error
    assert made.evaluate("def solve(x): return 'fine'", seed=1).score == 7.0


def test_an_invalid_outputs_traceback_shows_the_scorer(bench: Callable[..., Bench]) -> None:
    row = bench(raises).evaluate(SEED, seed=1)
    assert "in raises" in row.traceback
    assert "judge_main" not in row.traceback


def test_the_judge_is_warm_and_sets_up_once(bench: Callable[..., Bench]) -> None:
    def setup() -> Any:
        return {"pid": os.getpid(), "asked": 0}

    def score(output: Any, trial: Any) -> Any:
        trial.state["asked"] += 1
        assert trial.inputs == (3,)
        return {"score": trial.state["asked"], "same": float(trial.state["pid"] == os.getpid()), "seed": trial.seed}

    made = bench(score, setup=setup)
    rows = [made.evaluate(SEED, seed=5) for _ in range(3)]
    assert [(row.score, row.scores["same"], row.scores["seed"]) for row in rows] == [(n, 1, 5) for n in (1, 2, 3)]


def test_a_setup_that_fails_is_the_scorers_failure(bench: Callable[..., Bench]) -> None:
    def setup() -> Any:
        raise FileNotFoundError("no answers.json")

    row = bench(identical, setup=setup).evaluate(SEED, seed=1)
    assert row.outcome == "scorer_failed"
    assert "setup raised FileNotFoundError: no answers.json" in row.error


def test_whether_the_trial_is_passed_is_read_off_the_signature(bench: Callable[..., Bench]) -> None:
    assert bench(lambda output, digits=2: round(output, digits)).evaluate(SEED, seed=1).score == 3.0
    assert bench(lambda output, trial=None: trial.seed).evaluate(SEED, seed=8).score == 8.0
    assert bench(lambda *both: len(both)).evaluate(SEED, seed=1).score == 2.0
    assert bench(max, inputs=([3, 9],)).evaluate(SEED, seed=1).score == 9.0


def test_judge_files_reach_the_judge_alone(bench: Callable[..., Bench]) -> None:
    def score(output: Any) -> Any:
        return {"score": 1, "judge": ",".join(sorted(os.listdir("."))), "program": ",".join(sorted(output))}

    made = bench(score, files={"open.txt": "o"}, judge_files={"answers.txt": b"secret"})
    look = "import os\ndef solve(x):\n    return os.listdir('.')"
    row = made.evaluate(look, seed=1)
    assert row.feedback == {"judge": "answers.txt,open.txt", "program": "open.txt"}


def test_a_program_cannot_read_what_the_judge_has(bench: Callable[..., Bench]) -> None:
    """Neither the packed scorer in the run directory, nor the judge's working directory, nor its memory."""

    def score(output: Any) -> Any:
        return {"score": len(output), "home": os.getcwd(), "pid": os.getpid(), "read": repr(output)}

    made = bench(score, judge_files={"answers.txt": b"the answer"})
    first = made.evaluate("def solve(x): return []", seed=1)
    if first.isolation == "limits":
        pytest.skip("programs run under the user's own id here")
    pid, home = int(first.scores["pid"]), first.feedback["home"]
    program = f"""
import glob, os, stat
def solve(x):
    read = []
    for path in ['{home}/answers.txt', '/proc/{pid}/mem', '/proc/{pid}/environ', '/proc/{pid}/cwd/answers.txt']:
        try:
            open(path, 'rb').read(1)
            read.append(path)
        except OSError:
            pass
    return read
"""
    assert made.evaluate(program, seed=1).feedback["read"] == "[]"


def test_packed_secrets_are_for_their_owner_alone(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    pack_problem(problem(identical, judge_files={"answers.txt": "x"}), run)
    for reference in ("problem/judge.pkl", "problem/judge_files/answers.txt"):
        assert run.locate(reference).stat().st_mode & 0o077 == 0


def test_nothing_of_the_scorer_enters_the_sandbox(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    secret = "the needle in the scorer"
    pack_problem(problem(lambda output: len(secret), check=lambda output: secret == output), run)
    assert b"needle" in run.read_bytes("problem/judge.pkl")
    assert b"needle" not in run.read_bytes("problem/candidate.pkl")


def test_a_ready_made_problems_module_stays_out_of_the_sandbox(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    bench = Bench.open(run, pack_problem(problems.cap_set(n=2), run)[0])
    look = "import sys\nraise ValueError([name for name in sys.modules if 'problem' in name or 'judge' in name])"
    assert bench.evaluate(look, seed=1).error == "ValueError: []"
    bench.close()


def test_forged_results_are_judged_as_data(bench: Callable[..., Bench]) -> None:
    made = bench(lambda output: output if isinstance(output, int) else -1)
    forge = "import os\ndef solve(x):\n    os.write(3, {!r})\n    os._exit(0)"
    assert made.evaluate(forge.format(b"oTjunk"), seed=1).outcome == "bad_type"
    assert made.evaluate(forge.format(b"o" + b"d" + b"\xff" * 8), seed=1).outcome == "bad_type"
    row = made.evaluate("def solve(x): return {'score': 10**9, 'outcome': 'scored'}", seed=1)
    assert row.score == -1.0


def test_the_judge_dies_with_its_worker(tmp_path: Path) -> None:
    """Also in the middle of a scorer that never ends."""
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from epsilon_lab.search.judging import Bench, pack_problem
from epsilon_lab.search.problem import Problem
from epsilon_lab.workspace.layout import RunDirectory
run = RunDirectory({str(tmp_path)!r})
def endless(output):
    Path({str(tmp_path / "begun")!r}).write_text(str(os.getpid()))
    while True: pass
reference, _ = pack_problem(Problem("p", "s", {SEED!r}, inputs=(1,), score=endless), run)
Bench.open(run, reference).evaluate({SEED!r}, seed=1)
"""
    with subprocess.Popen([sys.executable, "-c", script]) as worker:
        begun = tmp_path / "begun"
        assert wait_until(lambda: begun.exists() and begun.read_text() != "", within_s=20)
        judge = int(begun.read_text())
        assert tree.is_alive(judge)
        worker.kill()
    assert wait_until(lambda: not tree.is_alive(judge), within_s=10)


# -- the strict check ------------------------------------------------------------------------------------------------


def sevens(output: Any) -> Any:
    return "no sevens" if output == 7 else None


@pytest.mark.parametrize(
    ("program", "incumbent", "outcome", "score", "checked"),
    [
        ("def solve(x): return 9", 8.0, "scored", 9.0, True),
        ("def solve(x): return 7", 6.0, "check_failed", None, False),
        ("def solve(x): return 7", 7.0, "scored", 7.0, None),
        ("def solve(x): return 5", 8.0, "scored", 5.0, None),
        ("def solve(x): return 5", None, "scored", 5.0, True),
    ],
)
def test_only_a_would_be_best_is_checked(
    bench: Callable[..., Bench], program: str, incumbent: float | None, outcome: str, score: Any, checked: Any
) -> None:
    row = bench(identical, check=sevens).evaluate(program, seed=1, incumbent=incumbent)
    assert (row.outcome, row.score, row.checked) == (outcome, score, checked)


def test_must_check_checks_whatever_the_score(bench: Callable[..., Bench]) -> None:
    row = bench(identical, check=sevens).evaluate("def solve(x): return 7", seed=1, incumbent=100.0, must_check=True)
    assert (row.outcome, row.error) == ("check_failed", "no sevens")


def test_a_smaller_score_beats_where_small_is_good(bench: Callable[..., Bench]) -> None:
    made = bench(identical, check=lambda output: True, direction="minimize")
    assert made.evaluate("def solve(x): return 2", seed=1, incumbent=3.0).checked is True
    assert made.evaluate("def solve(x): return 4", seed=1, incumbent=3.0).checked is None


@pytest.mark.parametrize(
    ("check", "outcome", "score"),
    [
        (lambda output: 2.5, "scored", 2.5),
        (raises, "check_failed", None),
        (cheat, "cheat", None),
        (gone, "scorer_failed", None),
        (lambda output: [], "scorer_failed", None),
    ],
)
def test_what_a_check_can_say(bench: Callable[..., Bench], check: Callable[..., Any], outcome: str, score: Any) -> None:
    row = bench(identical, check=check).evaluate(SEED, seed=1)
    assert (row.outcome, row.score) == (outcome, score)
    assert row.checked is (outcome == "scored")


# -- timed problems --------------------------------------------------------------------------------------------------

BUSY = "def solve(x):\n    return sum(i * i for i in range(300_000))\n"
QUICK = "def solve(x):\n    n = 299_999\n    return n * (n + 1) * (2 * n + 1) // 6\n"


def ratio(output: Any, trial: Any) -> Any:
    if output != 8999955000050000:
        raise ValueError("wrong sum")
    return {"score": trial.baseline_seconds / trial.cpu_s, "runs": 1}


def timed(bench: Callable[..., Bench], **changes: Any) -> Bench:
    made = bench(ratio, repeats=2, **changes)
    made.seed_source = BUSY
    return made


def test_a_timed_program_is_measured_beside_the_seed_program(bench: Callable[..., Bench]) -> None:
    made = timed(bench)
    assert (made.evaluate(QUICK, seed=1, incumbent=1e9).score or 0) > 2
    same = made.evaluate(BUSY, seed=1, incumbent=1e9)
    assert 0.4 < (same.score or 0) < 2.5
    assert "first_score" not in same.scores


def test_a_would_be_best_is_measured_again(bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    made = timed(bench)
    runs: list[str] = []
    run = made.spawner.run

    def counted(source: str, *, seed: int) -> Any:
        runs.append(source)
        return run(source, seed=seed)

    monkeypatch.setattr(made.spawner, "run", counted)
    row = made.evaluate(QUICK, seed=1, incumbent=1.5)
    assert runs == [QUICK, BUSY] * 8
    assert row.checked is True
    assert row.scores["first_score"] > 1.5
    assert row.score != row.scores["first_score"]


def test_every_timed_output_must_be_the_same(bench: Callable[..., Bench]) -> None:
    fickle = "import os\ndef solve(x):\n    return os.getpid()"
    row = timed(bench).evaluate(fickle, seed=1)
    assert (row.outcome, row.score) == ("invalid", None)
    assert "differs between runs" in row.error


def test_a_seed_program_that_fails_is_no_programs_fault(bench: Callable[..., Bench]) -> None:
    made = timed(bench)
    made.seed_source = "def solve(x): return 1 / 0"
    row = made.evaluate(QUICK, seed=1)
    assert row.outcome == "scorer_failed"
    assert "the seed program failed: ZeroDivisionError" in row.error


# -- packing ---------------------------------------------------------------------------------------------------------


def test_the_scorers_hash_follows_what_makes_a_score(tmp_path: Path) -> None:
    def hash_of(name: str, **changes: Any) -> str:
        run = RunDirectory(tmp_path / name)
        pack_problem(problem(**{"score": identical} | changes), run)
        return str(json.loads(run.read_text("problem/judging.json"))["scorer_hash"])

    factor = 2
    first = hash_of("a")
    assert hash_of("b") == first
    assert hash_of("c", timeout_s=9) == first
    others = [
        hash_of("d", score=lambda output: output * factor),
        hash_of("e", check=sevens),
        hash_of("f", inputs=(4,)),
        hash_of("g", judge_files={"a": "1"}),
        hash_of("h", judge_files={"a": "2"}),
        hash_of("i", files={"a": "1"}),
    ]
    assert len({first, *others}) == 7


def test_what_cannot_travel_is_named_before_anything_is_spent(tmp_path: Path) -> None:
    lock = threading.Lock()

    def score(output: Any) -> Any:
        with lock:
            return output

    with pytest.raises(InvalidInput, match=r"score.*lock"):
        pack_problem(problem(score), RunDirectory(tmp_path))
    with pytest.raises(InvalidInput, match=r"^Problem inputs: cannot be pickled \(cannot pickle '_thread.lock'"):
        pack_problem(problem(identical, inputs=(1, lock)), RunDirectory(tmp_path))
    with pytest.raises(InvalidInput, match=r"files\['x'\].*cannot be read"):
        pack_problem(problem(identical, files={"x": tmp_path / "missing"}), RunDirectory(tmp_path))


def test_the_time_limit_leaves_room_for_all_that_may_happen() -> None:
    assert evaluation_limit_s(problem(identical, timeout_s=10, judge_timeout_s=60)) > 10 + 60 * 2
    assert evaluation_limit_s(problem(identical, timeout_s=10, repeats=5)) > 10 * 40
