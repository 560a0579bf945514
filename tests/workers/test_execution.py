"""Whatever a task does inside Python, an answer comes out."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from epsilon_lab.agents.function import pack_function
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.errors import LeafFailed
from epsilon_lab.messages.tasks import Assignment, Failure, Result, TaskSpec
from epsilon_lab.messages.values import pack, unpack
from epsilon_lab.settings import INLINE_LIMIT, TAIL_LIMIT
from epsilon_lab.workers.capture import Capture, open_tail, read_tail
from epsilon_lab.workers.execution import execute
from epsilon_lab.workspace.layout import RunDirectory


def assign(function: Callable[..., Any] | str, tmp_path: Path, item: Any = None, **options: Any) -> Assignment:
    run = RunDirectory(tmp_path / "a-run")
    entry = function
    if not isinstance(function, str):
        packed = pack_function(function)
        run.save(f"code/{packed.sha256}.pkl", packed.blob, kind="code")
        entry = f"code:{packed.sha256}"
    payload, _ = run.keep(pack(item), "inputs/item-7", kind="input")
    task = TaskSpec(task_id="item-7", kind="item", lane="process", entry=str(entry), payload=payload, **options)
    return Assignment(run_id="a-run", run_dir=str(run.path), task=task, attempt=1, fence=41)


def run(function: Callable[..., Any] | str, tmp_path: Path, item: Any = None) -> Result:
    answer = execute(assign(function, tmp_path, item))
    assert isinstance(answer, Result), answer
    return answer


def fail(function: Callable[..., Any] | str, tmp_path: Path, item: Any = None) -> Failure:
    answer = execute(assign(function, tmp_path, item))
    assert isinstance(answer, Failure), answer
    return answer


def test_a_result_says_whose_it_is(tmp_path: Path) -> None:
    result = run(lambda item: item + 1, tmp_path, 2)
    assert (result.task_id, result.run_id, result.fence) == ("item-7", "a-run", 41)
    assert unpack(result.output) == 3
    assert result.started_at <= result.ended_at


def test_a_large_payload_comes_from_its_file(tmp_path: Path) -> None:
    assert unpack(run(len, tmp_path, "x" * (2 * INLINE_LIMIT)).output) == 2 * INLINE_LIMIT


@pytest.mark.parametrize(
    ("content", "suffix"), [("x" * (INLINE_LIMIT + 1), "json"), (b"x" * (INLINE_LIMIT + 1), "pkl")]
)
def test_a_large_output_becomes_a_file_with_its_row(content: str | bytes, suffix: str, tmp_path: Path) -> None:
    result = run(lambda _: content, tmp_path)
    directory = RunDirectory(tmp_path / "a-run")
    assert result.output.form == "file"
    assert result.output.data.decode() == f"outputs/item-7.{suffix}"
    assert unpack(directory.fetch(result.output)) == content
    (event,) = result.events
    assert event.type == "artifact.saved"
    assert event.body["task_id"] == "item-7"


def test_an_exception_is_one_line_and_the_users_part_of_the_traceback(tmp_path: Path) -> None:
    def inner(item: int) -> float:
        return 1 / item

    failure = fail(lambda item: inner(item), tmp_path, 0)
    assert failure.error == "ZeroDivisionError: division by zero"
    assert failure.outcome == "failed"
    assert failure.retryable
    assert "in inner" in failure.traceback
    assert "epsilon_lab/" not in failure.traceback


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise ValueError('a\\nb')", "ValueError: a b"),
        ("raise ExceptionGroup('two', [ValueError(1)])", "ExceptionGroup: two (1 sub-exception)"),
    ],
)
def test_no_exception_passes(statement: str, error: str, tmp_path: Path) -> None:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(f"def f(item):\n    {statement}", scope)
    assert fail(scope["f"], tmp_path).error == error


def test_an_exception_whose_words_cannot_be_read(tmp_path: Path) -> None:
    class Awkward(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def work(_: object) -> None:
        raise Awkward

    assert "Awkward" in fail(work, tmp_path).error


def test_memory_errors_are_an_outcome_of_their_own(tmp_path: Path) -> None:
    assert fail(lambda _: bytearray(1 << 60), tmp_path).outcome == "memory"


def test_endless_recursion_is_a_failure_of_bounded_size(tmp_path: Path) -> None:
    def work(item: object) -> object:
        return work([item])

    failure = fail(work, tmp_path)
    assert failure.error.startswith("RecursionError")
    assert len(failure.traceback) < 25_000


@pytest.mark.parametrize("kind", ["lock", "generator", "coroutine"])
def test_an_output_that_cannot_travel_names_its_type(kind: str, tmp_path: Path) -> None:
    async def nothing() -> None: ...

    make = {"lock": threading.Lock, "generator": lambda: (n for n in ()), "coroutine": nothing}[kind]
    failure = fail(lambda _: make(), tmp_path)
    assert f"the output, a value of type {kind}" in failure.error
    assert not failure.retryable
    assert failure.traceback == ""


def test_an_output_nested_too_deeply(tmp_path: Path) -> None:
    def work(_: object) -> list[Any]:
        nest: list[Any] = []
        for _ in range(100_000):
            nest = [nest]
        return nest

    assert "nested too deeply" in fail(work, tmp_path).error


def test_an_async_function_does_not_run_here(tmp_path: Path) -> None:
    async def work(item: object) -> object:
        return item

    assert "is an async function" in fail(work, tmp_path).error


def test_a_missing_entry_is_not_tried_again(tmp_path: Path) -> None:
    failure = fail("os:system", tmp_path, "true")
    assert "os:system" in failure.error
    assert not failure.retryable


def leaf_that_fails(payload: str, leaf: Leaf) -> None:
    leaf.save("prompts/p.md", "what was asked", kind="prompt")
    raise LeafFailed(payload)


def test_a_leafs_own_words_stand_alone_and_its_events_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import epsilon_lab.agents.leaf as home

    monkeypatch.setattr(home, "leaf_that_fails", leaf_that_fails, raising=False)
    failure = fail("epsilon_lab.agents.leaf:leaf_that_fails", tmp_path, "the model gave no program")
    assert failure.error == "the model gave no program"
    assert [event.type for event in failure.events] == ["artifact.saved"]


# -- what it prints ------------------------------------------------------------------------------------------------


@pytest.fixture
def capture() -> Iterator[Capture]:
    before = sys.stdout, sys.stderr
    files = open_tail(), open_tail()
    made = Capture(*(file.fileno() for file in files))
    made.fds = tuple(file.fileno() for file in files)  # type: ignore[attr-defined]
    yield made
    made.close()
    sys.stdout, sys.stderr = before
    for file in files:
        file.close()


def test_a_failure_has_the_tails(tmp_path: Path, capture: Capture) -> None:
    out, _ = capture.fds  # type: ignore[attr-defined]

    def work(_: object) -> None:
        print("from Python")
        print("to stderr", file=sys.stderr)
        subprocess.run(["echo", "from a child"], stdout=out, check=True)
        raise ValueError

    failure = execute(assign(work, tmp_path), capture)
    assert isinstance(failure, Failure)
    assert failure.stdout_tail == "from Python\nfrom a child\n"
    assert failure.stderr_tail == "to stderr\n"


def test_the_next_task_starts_with_nothing_printed(tmp_path: Path, capture: Capture) -> None:
    execute(assign(lambda _: print("old"), tmp_path), capture)
    failure = execute(assign(lambda _: 1 / 0, tmp_path), capture)
    assert isinstance(failure, Failure)
    assert failure.stdout_tail == ""


def test_a_flood_keeps_its_tail_and_costs_little(tmp_path: Path, capture: Capture) -> None:
    out, _ = capture.fds  # type: ignore[attr-defined]

    def work(_: object) -> None:
        sizes = []
        for _ in range(256):
            os.write(out, b"x" * (1 << 20))
            sizes.append(os.fstat(out).st_blocks)
        print("the end")
        raise ValueError(max(sizes))

    capture.watch(busy=True)
    failure = execute(assign(work, tmp_path), capture)
    assert isinstance(failure, Failure)
    assert failure.stdout_tail.endswith("xxxthe end\n")
    assert len(failure.stdout_tail) == TAIL_LIMIT
    assert int(failure.error.split()[1]) * 512 < 128 << 20


def test_nothing_that_is_printed_while_a_flood_is_cut_is_lost(capture: Capture) -> None:
    out, _ = capture.fds  # type: ignore[attr-defined]
    over = threading.Event()

    def cut() -> None:
        while not over.is_set():
            capture._cut()

    with ThreadPoolExecutor(1) as pool:
        cutting = pool.submit(cut)
        try:
            for number in range(300):
                os.write(out, b"x" * (1 << 20))
                os.write(out, b"%d" % number)
                assert read_tail(out).endswith(f"x{number}")
        finally:
            over.set()
        cutting.result()


def test_streams_that_a_task_took_or_closed_are_given_back(tmp_path: Path, capture: Capture) -> None:
    def close(_: object) -> None:
        sys.stdout.close()
        sys.stderr = None

    def work(_: object) -> None:
        print("again")
        raise ValueError

    execute(assign(close, tmp_path), capture)
    failure = execute(assign(work, tmp_path), capture)
    assert isinstance(failure, Failure)
    assert failure.stdout_tail == "again\n"


def test_a_file_of_a_task_s_own_in_the_place_of_stdout_stays_as_the_task_wrote_it(
    tmp_path: Path, capture: Capture
) -> None:
    out, err = capture.fds  # type: ignore[attr-defined]
    mine = b"mine" * (1 << 19)

    def work(_: object) -> None:
        with open(tmp_path / "mine", "wb") as file:
            os.dup2(file.fileno(), out)
        os.write(out, mine)
        os.close(err)
        raise ValueError

    failure = execute(assign(work, tmp_path), capture)
    capture._cut()
    assert isinstance(failure, Failure)
    assert (failure.stdout_tail, failure.stderr_tail) == ("", "")
    failure = execute(assign(lambda _: os.write(out, b"out") + os.write(err, b"err") + 1 / 0, tmp_path), capture)
    assert isinstance(failure, Failure)
    assert (failure.stdout_tail, failure.stderr_tail) == ("out", "err"), "the next task has its own again"
    assert (tmp_path / "mine").read_bytes() == mine


@pytest.mark.skipif(sys.platform != "linux", reason="macOS bounds no address space")
def test_a_task_that_takes_more_memory_than_it_may_fails_and_the_next_has_its_own_bound(tmp_path: Path) -> None:
    def take(mib: int) -> int:
        return len(bytearray(mib << 20))

    before = resource.getrlimit(resource.RLIMIT_AS)
    answers = [
        execute(assign(take, tmp_path, mib, memory_mb=64.0 if is_bound else None))
        for mib, is_bound in ((256, True), (16, True), (256, False))
    ]
    failed, *done = answers
    assert isinstance(failed, Failure)
    assert (failed.outcome, failed.error) == ("memory", "MemoryError (it may take 64 MiB)")
    assert all(isinstance(answer, Result) for answer in done)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
