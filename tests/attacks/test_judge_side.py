"""Outputs that attack whoever reads them: each is one bad row, and the judge's process goes on."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from epsilon_lab.agents.function import pack_function
from epsilon_lab.errors import Cheat
from epsilon_lab.processes.data import encode
from epsilon_lab.search.evaluation import Evaluation
from epsilon_lab.search.judge import Judge
from epsilon_lab.search.judging import Bench, pack_problem
from epsilon_lab.search.problem import Problem
from epsilon_lab.workspace.layout import RunDirectory

COUNT = struct.Struct("<Q")
TRIAL = {"seconds": 1.0, "cpu_s": 1.0, "peak_mb": 1.0, "baseline_seconds": None, "seed": 1}


def array(letter: bytes, itemsize: int, *shape: int, body: bytes = b"") -> bytes:
    return struct.pack("<ccIB", b"a", letter, itemsize, len(shape)) + b"".join(map(COUNT.pack, shape)) + body


def keys_that_hash_alike(count: int) -> bytes:
    """Integers hash by their remainder of a prime, so a dict of its multiples takes the square of their number."""
    keys = (b"I" + COUNT.pack(16) + (number * (2**61 - 1)).to_bytes(16, "little") for number in range(count))
    return b"d" + COUNT.pack(count) + b"".join(key + b"N" for key in keys)


HOSTILE = {
    "nested-a-million-deep": (b"l*" + COUNT.pack(1)) * 10**6 + b"N",
    "more-items-than-bytes": b"l*" + COUNT.pack(2**63),
    "a-pickle": b"\x80\x04cposix\nsystem\n(S'true'\ntR.",
    "python-objects": array(b"O", 8, 4, body=bytes(32)),
    "an-array-of-2**60": array(b"f", 8, 2**60),
    "sizes-that-overflow": array(b"f", 8, 2**63, 0, 2**63),
    "text-beyond-unicode": array(b"U", 4, 1, body=b"\xff" * 4),
    "a-key-twice": b"d" + COUNT.pack(2) + b"TNTN",
    "unhashable-key": b"d" + COUNT.pack(1) + b"l*" + COUNT.pack(0) + b"N",
    "two-values": encode(1) + encode(2),
    "half-a-character": b"s" + COUNT.pack(1) + b"\xc3",
    "nothing": b"",
    "keys-that-hash-alike": keys_that_hash_alike(60_000),
}


@pytest.fixture(scope="module")
def long_lived() -> Iterator[Judge]:
    judge = Judge(pack_function(functools.partial(tuple, (float, None, None, ()))).blob, {}, timeout_s=5)
    judge.start()
    yield judge
    judge.close()


@pytest.fixture
def judge(long_lived: Judge) -> Iterator[Judge]:
    """A judge; whatever the test asked of it, it is the same process afterwards, and judges right."""
    before = long_lived.pid
    yield long_lived
    verdict = long_lived.score(encode(2.5), trial=TRIAL)
    assert (verdict.outcome, verdict.score) == ("scored", 2.5)
    assert long_lived.pid == before


@pytest.mark.parametrize("name", HOSTILE)
def test_bytes_that_are_no_honest_data_are_the_candidates_fault(judge: Judge, name: str) -> None:
    verdict = judge.score(HOSTILE[name], trial=TRIAL)
    assert verdict.outcome == "bad_type", verdict
    assert "no data" in verdict.error


@pytest.mark.parametrize(
    ("output", "outcome"),
    [
        (float("nan"), "nonfinite"),
        (float("inf"), "nonfinite"),
        (1 << (8 << 19), "invalid"),
        ("1e9" * 10**6, "invalid"),
        ({f"key {number}": number for number in range(10**5)}, "invalid"),
        ({"score": 1e9}, "invalid"),
    ],
    ids=["nan", "infinity", "huge int", "long text", "many keys", "forged score"],
)
def test_data_that_is_no_score_is_none(judge: Judge, output: Any, outcome: str) -> None:
    assert judge.score(encode(output), trial=TRIAL).outcome == outcome


def test_a_nan_with_a_message_in_it_is_a_nan(judge: Judge) -> None:
    assert judge.score(b"f" + struct.pack("<Q", 0x7FF8DEADBEEF0001), trial=TRIAL).outcome == "nonfinite"


def raise_cheat(output: Any) -> float:
    raise Cheat(output)


@pytest.mark.parametrize(
    ("outcome", "changes"),
    [
        ("scored", {"score": lambda output: {"score": 1.0, "said": output}}),
        ("cheat", {"score": raise_cheat}),
        ("check_failed", {"score": lambda output: 1.0, "check": lambda output: output}),
        ("bad_type", {"score": lambda output: dict.fromkeys(map(str, range(10**5)), 1.0) | {"score": 1.0}}),
    ],
    ids=["feedback", "cheat", "reason", "entries"],
)
def test_what_a_scorer_quotes_of_a_candidate_costs_a_row_little(
    tmp_path: Path, outcome: str, changes: dict[str, Callable[..., Any]]
) -> None:
    """Every row goes into the journal, the tables and, as feedback, into prompts."""
    seed = "def solve():\n    return 'x\\ud800' * 10**6\n"
    run = RunDirectory(tmp_path / "run")
    reference, _ = pack_problem(Problem("quotes", "Say something.", seed, **changes), run)
    bench = Bench.open(run, reference)
    try:
        row: Evaluation = bench.evaluate(seed, seed=1)
    finally:
        bench.close()
    assert row.outcome == outcome
    said = [row.error, *row.feedback.values()]
    assert sum(map(len, said)) < 40_000
    assert len(row.scores) < 1000
    if outcome != "bad_type":
        assert any("cut off here: 10000 of 2000000 characters" in text for text in said)
