"""Workers and the real broker together: over ipc, with journals, through deaths."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from epsilon_lab.agents.function import pack_function
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.broker.host import BrokerHost
from epsilon_lab.clock import SystemClock
from epsilon_lab.messages.tasks import Lane, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import pack, unpack
from epsilon_lab.processes import tree
from epsilon_lab.settings import INLINE_LIMIT, TAIL_LIMIT, BrokerSettings
from epsilon_lab.transport.zeromq import listen, private_address
from epsilon_lab.workers.leaves import AsyncLane
from epsilon_lab.workers.supervisor import Supervisor
from epsilon_lab.workspace.journal import Journal, read_journal
from epsilon_lab.workspace.layout import RunDirectory

pytestmark = pytest.mark.anyio


class Lab:
    """A broker with a run, a supervisor and an async lane, on one loop."""

    def __init__(self, host: BrokerHost, run: RunDirectory) -> None:
        self.host = host
        self.run = run
        self.outcomes: dict[str, TaskOutcome] = {}
        self._news = anyio.Event()

    def told(self, outcomes: list[TaskOutcome]) -> None:
        self.outcomes |= {outcome.task_id: outcome for outcome in outcomes}
        self._news.set()
        self._news = anyio.Event()

    def submit(
        self, function: Callable[..., Any], *items: Any, name: str = "item", lane: Lane = "process", **options: Any
    ) -> list[str]:
        packed = pack_function(function)
        self.run.save(f"code/{packed.sha256}.pkl", packed.blob, kind="code")
        tasks = [
            TaskSpec(
                task_id=f"{name}-{n}",
                kind=name,
                lane=lane,
                entry=f"code:{packed.sha256}",
                payload=pack(item),
                **options,
            )
            for n, item in enumerate(items)
        ]
        self.host.submit(self.run.run_id, tasks)
        return [task.task_id for task in tasks]

    async def settled(self, *task_ids: str) -> list[TaskOutcome]:
        with anyio.fail_after(60):
            while not self.outcomes.keys() >= set(task_ids):
                await self._news.wait()
        return [self.outcomes[task_id] for task_id in task_ids]

    async def outputs(self, *task_ids: str) -> list[Any]:
        outcomes = await self.settled(*task_ids)
        assert all(outcome.status == "completed" for outcome in outcomes), outcomes
        return [unpack(self.run.fetch(outcome.output)) for outcome in outcomes if outcome.output is not None]

    async def running_on(self, task_id: str) -> tuple[str, int]:
        """Wait until a task is assigned; tell to whom."""
        with anyio.fail_after(60):
            while True:
                pids = {row.worker_id: row.pid for row in self.host.workers()}
                for body in self.records("task.assigned"):
                    if any(line[0] == task_id for line in body["tasks"]) and body["worker_id"] in pids:
                        return body["worker_id"], pids[body["worker_id"]]
                await anyio.sleep(0.01)

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [msgspec.json.decode(r.body) for r in read_journal(self.run.journal).records if r.type == kind]


@asynccontextmanager
async def lab_at(directory: Path, workers: int = 2) -> AsyncIterator[Lab]:
    settings = BrokerSettings(tick_s=0.05)
    run = RunDirectory(directory / "a-run")
    run.path.mkdir()
    (directory / "lab").mkdir()
    lab_journal, run_journal = Journal.open(directory / "lab" / "journal.ndjson"), Journal.open(run.journal)
    with private_address() as address:
        listener = listen(address)
        host = BrokerHost(listener, lab_journal=lab_journal, settings=settings, clock=SystemClock(), epoch=1)
        lab = Lab(host, run)
        host.open_run(run.run_id, str(run.path), run_journal, lab.told)
        try:
            async with anyio.create_task_group() as broker:
                broker.start_soon(host.serve)
                async with anyio.create_task_group() as members:
                    members.start_soon(Supervisor(address, "s1", workers, settings=settings).serve)
                    members.start_soon(AsyncLane(address, "s1/leaves").serve)
                    yield lab
                    members.cancel_scope.cancel()
                broker.cancel_scope.cancel()
        finally:
            listener.close()
            run_journal.close()
            lab_journal.close()


async def test_both_lanes_do_their_tasks(tmp_path: Path) -> None:
    async def negate(item: int) -> int:
        return -item

    async with lab_at(tmp_path) as lab:
        squares = lab.submit(lambda item: item * item, *range(300), name="square")
        negatives = lab.submit(negate, *range(300), name="negative", lane="async")
        assert await lab.outputs(*squares) == [n * n for n in range(300)]
        assert await lab.outputs(*negatives) == [-n for n in range(300)]


async def test_a_long_task_keeps_no_answer_of_the_short_ones_before_it(tmp_path: Path) -> None:
    def work(gate: Path | None) -> None:
        while gate is not None and not gate.exists():
            time.sleep(0.01)

    gate = tmp_path / "gate"
    async with lab_at(tmp_path, workers=1) as lab:
        *short, long = lab.submit(work, *[None] * 300, gate)
        await lab.settled(*short)
        assert long not in lab.outcomes
        gate.touch()
        await lab.settled(long)


async def test_a_large_output_and_its_row_are_there_together(tmp_path: Path) -> None:
    async with lab_at(tmp_path) as lab:
        (task,) = lab.submit(lambda size: b"x" * size, 200 << 20)
        (output,) = await lab.outputs(task)
        assert len(output) == 200 << 20
        assert [body["path"] for body in lab.records("artifact.saved")] == [f"outputs/{task}.pkl"]


async def test_a_task_whose_child_is_killed_runs_again_elsewhere(tmp_path: Path) -> None:
    def work(gate: Path) -> int:
        if gate.exists():
            return os.getpid()
        gate.touch()
        time.sleep(1000)
        return 0

    gate = tmp_path / "gate"
    async with lab_at(tmp_path, workers=1) as lab:
        (task,) = lab.submit(work, gate)
        await _until(gate.exists)
        first, pid = await lab.running_on(task)
        os.kill(pid, signal.SIGKILL)
        (second_pid,) = await lab.outputs(task)
        assert second_pid != pid
        (failed,) = lab.records("task.failed")
        assert failed["worker_id"] == first
        assert failed["tasks"][0]["outcome"] == "crashed"
        assert failed["tasks"][0]["then"] == "queued"
        assert "SIGKILL" in failed["tasks"][0]["error"]


def _poison(item: int) -> int:
    if item == 13:
        print("about to go", flush=True)
        os._exit(7)
    return item


async def test_poison_is_dead_lettered_and_no_neighbour_is_blamed(tmp_path: Path) -> None:
    async with lab_at(tmp_path, workers=1) as lab:
        tasks = lab.submit(_poison, *range(200))
        outcomes = await lab.settled(*tasks)
        poison = outcomes.pop(13)
        assert all(outcome.status == "completed" for outcome in outcomes)
        assert poison.status == "dead"
        assert poison.failure is not None
        assert "exit code 7" in poison.failure.error
        assert poison.failure.stdout_tail.endswith("about to go\n")
        blamed = {line["task_id"] for body in lab.records("task.failed") for line in body["tasks"]}
        assert blamed == {"item-13"}


def _hold(_: object) -> None:
    sum(range(10**13))


async def test_a_time_limit_ends_what_holds_the_gil(tmp_path: Path) -> None:
    async with lab_at(tmp_path, workers=1) as lab:
        (stuck,) = lab.submit(_hold, None, name="stuck", time_limit_s=0.2)
        (after,) = lab.submit(abs, -5, name="after")
        (outcome,) = await lab.settled(stuck)
        assert outcome.status in ("failed", "dead")
        assert outcome.failure is not None
        assert outcome.failure.outcome == "timeout"
        assert await lab.outputs(after) == [5]


async def test_what_users_get_wrong_is_a_row_with_a_reason(tmp_path: Path) -> None:
    def flood(_: object) -> None:
        for _ in range(256):
            sys.stdout.write("x" * (1 << 20))
        print("the end")
        raise ValueError("flooded")

    async with lab_at(tmp_path, workers=1) as lab:
        (flooding,) = lab.submit(flood, None, name="flood")
        (leaving,) = lab.submit(sys.exit, 3, name="leave")
        (generating,) = lab.submit(lambda n: (m for m in range(n)), 3, name="generate")
        flooded, left, generated = [o.failure for o in await lab.settled(flooding, leaving, generating)]
        assert flooded is not None
        assert left is not None
        assert generated is not None
        assert flooded.error == "ValueError: flooded"
        assert flooded.stdout_tail.endswith("xthe end\n")
        assert len(flooded.stdout_tail) == TAIL_LIMIT
        assert left.error == "SystemExit: 3"
        assert "type generator" in generated.error
        assert [row.pid for row in lab.host.workers() if row.worker_id == "s1/w1"]  # the first child lives on


async def test_large_events_and_outputs_do_not_stop_a_batch(tmp_path: Path) -> None:
    async with lab_at(tmp_path, workers=1) as lab:
        tasks = lab.submit(lambda item: "x" * item, *([INLINE_LIMIT - 2] * 100))
        assert all(len(output) == INLINE_LIMIT - 2 for output in await lab.outputs(*tasks))


async def test_an_event_is_in_the_journal_before_the_leaf_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import epsilon_lab.agents.leaf as home

    async def pay(payload: None, leaf: Leaf) -> bool:
        leaf.save("replies/r.md", "paid for", kind="reply")
        await leaf.record()
        return b"replies/r.md" in leaf.run.journal.read_bytes()

    monkeypatch.setattr(home, "pay", pay, raising=False)
    async with lab_at(tmp_path) as lab:
        task = TaskSpec(
            task_id="pay", kind="pay", lane="async", entry="epsilon_lab.agents.leaf:pay", payload=pack(None)
        )
        lab.host.submit(lab.run.run_id, [task])
        assert await lab.outputs("pay") == [True]


async def test_repeated_deaths_leak_nothing(tmp_path: Path) -> None:
    """Descriptors and processes are what they were before, whoever died."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with lab_at(tmp_path, workers=1) as lab:
        await lab.outputs(*lab.submit(abs, -1, name="warm"))
        await _until(lambda: len(_below(os.getpid())) == 4)
        before = descriptors()
        for n in range(4):
            (task,) = lab.submit(_kill, None, name=f"kill{n}")
            (outcome,) = await lab.settled(task)
            assert outcome.status == "dead"
        await lab.outputs(*lab.submit(abs, -1, name="after"))
        await _until(lambda: len(_below(os.getpid())) == 4)  # guardian and child, twice: one at work, one spare
        assert descriptors() == before


def _kill(_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - what other processes do sets no event here
            await anyio.sleep(0.01)


def _below(pid: int) -> list[int]:
    found = [child for child in tree.children(pid) if tree.is_alive(child)]
    for child in list(found):
        found += _below(child)
    return found
