"""kill -9 of the kernel at random moments of a search by a model, and `lab.resume` in another process, over and over.

The model is a server in this process, so that it outlives every kernel and remembers what it was asked. Its replies are
a function of the prompt. A moment is a number of journal lines, drawn by seed, and a few milliseconds more. In the end
the lineage is that of a search nobody killed; what was evaluated again was under way at a kill; and no reply that lay
on disk at a kill was asked for again.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest

from epsilon_lab import Lab
from epsilon_lab.agents.prompt import Message, prompt_sha256
from epsilon_lab.agents.reply import read_receipt
from epsilon_lab.broker.board import FENCE_BITS
from epsilon_lab.testing.census import wait_until
from epsilon_lab.testing.model_server import ModelServer, Request
from epsilon_lab.workspace.layout import RunDirectory

if TYPE_CHECKING:
    from tests.drills.conftest import Script

SCRIPT = """
import sys
from epsilon_lab import LLM, Lab, PopulationSearch, Problem

workspace, url = sys.argv[1:]
model = LLM("http/toy", api_base=url, timeout_s=60.0)
problem = Problem("toy", "Return a large number.", "def solve():\\n    return 10 + 5\\n", score=float)
search = PopulationSearch(
    problem, model, brief=model, population=6, generations=4, elites=2, diverse=1, fresh=1, patience=None
)
with Lab(workspace, workers=2) as lab:
    known = lab.runs.get("drill")
    if known is None:
        run = lab.start(search, name="drill")
    else:
        run = lab.resume("drill") if known.status == "interrupted" else known
    print(run.run_id, flush=True)
    run.wait()
"""

WORKERS = 2


@pytest.fixture
def begin(start: Callable[..., Script]) -> Callable[[Path, ModelServer], tuple[Script, Path]]:
    """Starts a kernel that starts the search, or goes on with it; gives it and the run's directory."""

    def begin(place: Path, server: ModelServer) -> tuple[Script, Path]:
        script = start(place, "-c", SCRIPT, str(place / "runs"), server.url)
        assert script.stdout is not None
        run_id = script.stdout.readline().strip()
        assert run_id, script.communicate()
        return script, place / "runs" / run_id

    return begin


def _end(script: Script) -> None:
    """Let a kernel come to its end."""
    _, said = script.communicate(timeout=120)
    assert (script.returncode, said) == (0, "")


def _lines(run: Path) -> int:
    return (run / "journal.ndjson").read_bytes().count(b"\n")


def _asked(request: Request) -> str:
    """The hash of a request's prompt, as receipts have it."""
    messages = msgspec.convert(request.json["messages"], list[dict[str, str]])
    return prompt_sha256([Message(**message) for message in messages])


def _received(run: Path) -> set[str]:
    """The prompts whose replies are on disk."""
    directory, found = RunDirectory(run), set()
    for path in (run / "replies").glob("*.json"):
        receipt = read_receipt(directory, f"replies/{path.stem}.md")
        if receipt is not None:
            found.add(receipt.prompt_sha256)
    return found


def _rows(place: Path, query: str) -> list[tuple[str, ...]]:
    """What a process that only looks on reads."""
    with Lab(place / "runs", read_only=True) as lab:
        return lab.store.rows(query)


def _lineage(place: Path) -> list[tuple[str, ...]]:
    assert _rows(place, "select status from runs") == [("completed",)]
    return _rows(
        place,
        "select candidate_id, generation, strategy, parent_ids, code_hash, outcome, score, duplicate_of, prompt_ref, "
        "error from candidates order by candidate_id",
    )


class Kill(NamedTuple):
    """What was so when a kernel was killed."""

    asked: int
    """Requests that the server had had."""

    received: set[str]
    """Prompts whose replies were on disk."""

    evaluated: set[str]
    """Evaluations on record."""

    epoch: int
    """Of the lab that died."""


def _kill(script: Script, place: Path, run: Path, server: ModelServer) -> Kill:
    script.send_signal(signal.SIGKILL)
    script.communicate(timeout=60)
    assert _rows(place, "select status from runs") in ([("interrupted",)], [("completed",)])
    done = _rows(place, "select task_id from tasks where kind = 'evaluate' and status = 'completed'")
    [[epoch]] = _rows(place, "select count(*) from events where type in ('run.started', 'run.adopted')")
    return Kill(len(server.requests), _received(run), {name for (name,) in done}, int(epoch))


@pytest.mark.parametrize(
    ("seed", "kills"),
    [(1, 2), *(pytest.param(seed, 5, marks=pytest.mark.long) for seed in (2, 3, 4, 5))],
)
def test_a_search_survives_any_kill(
    make_place: Callable[[], Path], begin: Callable[[Path, ModelServer], tuple[Script, Path]], seed: int, kills: int
) -> None:
    quiet, place = make_place(), make_place()
    dice = random.Random(seed)
    with ModelServer(latency_s=0.02) as server:
        script, whole = begin(quiet, server)
        _end(script)
        unbroken = len(server.requests)
        moments = sorted(dice.sample(range(2, _lines(whole)), kills))
        drill: list[Kill] = []
        for moment in moments:
            script, run = begin(place, server)
            assert wait_until(lambda run=run, moment=moment: _lines(run) >= moment, within_s=60)
            time.sleep(dice.random() * 0.01)
            drill.append(_kill(script, place, run, server))
        script, run = begin(place, server)
        _end(script)
        requests = server.requests

    assert _lineage(place) == _lineage(quiet)

    paid_again = sum(_asked(request) in kill.received for kill in drill for request in requests[kill.asked :])
    attempts = _rows(
        place, f"select task_id, fence >> {FENCE_BITS}, outcome from attempts where task_id like 'evaluate-%'"
    )
    evaluated = Counter(name for name, _, outcome in attempts if outcome == "completed")
    evaluated_again = sum(
        (name in kill.evaluated) and epoch > kill.epoch for kill in drill for name, epoch, _ in attempts
    )
    lost = Counter(epoch for _, epoch, outcome in attempts if outcome == "lost")
    calls = _rows(place, "select outcome from llm_calls where outcome <> 'cached'")
    unknown = calls.count(("unknown",))
    print(
        f"\nseed {seed}, kills at lines {moments}: {len(evaluated)} programs evaluated, {lost.total()} of them again "
        f"because they were under way at a kill, {evaluated_again} that were on record; "
        f"{len(requests) - unbroken} requests, against {unbroken} in a search nobody kills, {unknown} cut off, "
        f"{paid_again} for a reply that was on disk"
    )
    assert evaluated_again == 0
    assert paid_again == 0
    assert set(evaluated.values()) == {1}
    assert all(count <= WORKERS for count in lost.values()), "no more than was under way"
    assert len(calls) >= len(requests) - unbroken, "every request is a row"
    assert len(requests) - unbroken <= unbroken + unknown, "and nothing was asked twice but what was cut off"
