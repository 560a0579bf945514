"""How fast the broker is, and what it does when things go wrong, beside what others do in the same minute.

    python benchmarks/broker.py [--rounds 3] [--tasks 100000] [--only lab,seam,one,gil,kill,peers,memory]

Each round measures every way, because the machine's mood changes faster than any code; the tables show medians over the
rounds, and each rate as a multiple of a bare ZeroMQ echo of the same rounds.

"lab": `lab.start(WorkQueue(items, noop)).wait()` on a Lab with two workers, the packing of the items included: when it
returns, each output is in the run's journal. "broker": the broker, its journal and two children without engine and
tables: from `submit` until every outcome was told. "CPU" is that of this process and its workers together: it moves
less with the load of the machine than a rate does. How fast a long journal is taken up again: benchmarks/recovery.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal
from broker_peers import PEERS, WORKERS, is_installed, noop, one_by_one

from epsilon_lab import Lab, WorkQueue
from epsilon_lab.agents.function import pack_function
from epsilon_lab.broker.host import BrokerHost
from epsilon_lab.clock import SystemClock
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import pack
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.transport.zeromq import listen, private_address
from epsilon_lab.workers.supervisor import Supervisor
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import RunDirectory

PARTS = ("lab", "seam", "one", "gil", "kill", "peers", "memory")
CANARY = next(iter(PEERS))


class Figures:
    """What was measured, a list a row."""

    def __init__(self) -> None:
        self.rates: defaultdict[str, list[float]] = defaultdict(list)
        self.cpu: defaultdict[str, list[float]] = defaultdict(list)
        self.laps: defaultdict[str, list[list[float]]] = defaultdict(list)
        self.said: dict[str, str] = {}
        self.facts: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def many(self, name: str, count: int, work: Callable[[], object]) -> None:
        """Time so many tasks."""
        cpu, began = cpu_of_tree(), time.perf_counter()
        work()
        took = time.perf_counter() - began
        self.rates[name].append(count / took)
        self.cpu[name].append((cpu_of_tree() - cpu) / count * 1e6)

    def fact(self, name: str, unit: str, value: float) -> None:
        """Note a figure of its own unit."""
        self.facts[name, unit].append(value)


def cpu_of_tree() -> float:
    """CPU seconds of this process and of every live process below it."""
    nanoseconds, todo = 0, [os.getpid()]
    while todo:
        for thread in Path(f"/proc/{todo.pop()}/task").glob("*"):
            with contextlib.suppress(OSError):
                nanoseconds += int((thread / "schedstat").read_text().split()[0])
                todo += map(int, (thread / "children").read_text().split())
    return nanoseconds / 1e9


def resident_bytes() -> int:
    """What this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- ours ------------------------------------------------------------------------------------------------------------


class Seam:
    """Broker, journal and two children; its methods belong to the loop."""

    def __init__(self, host: BrokerHost, directory: Path, durability: Any) -> None:
        run = RunDirectory(directory / "seam")
        run.path.mkdir()
        code = pack_function(noop)
        run.save(f"code/{code.sha256}.pkl", code.blob, kind="code")
        self._entry = f"code:{code.sha256}"
        self._host = host
        self._left = self._made = 0
        self._done = anyio.Event()
        self.journal = Journal.open(run.journal, durability)
        host.open_run(run.run_id, str(run.path), self.journal, self._told)

    def specs(self, count: int) -> list[TaskSpec]:
        """Make tasks."""
        self._made += count
        return [
            TaskSpec(task_id=f"item-{number:07d}", kind="item", lane="process", entry=self._entry, payload=pack(number))
            for number in range(self._made - count, self._made)
        ]

    async def settle(self, specs: list[TaskSpec]) -> None:
        """Submit tasks, and wait for all of them."""
        self._left, self._done = len(specs), anyio.Event()
        self._host.submit("seam", specs)
        await self._done.wait()

    async def settle_one_by_one(self, specs: list[TaskSpec]) -> list[float]:
        """Submit each task when the one before was told, as an engine does; seconds of each."""
        laps = []
        for spec in specs:
            began = time.perf_counter()
            await self.settle([spec])
            laps.append(time.perf_counter() - began)
        return laps[len(laps) // 10 :]

    def _told(self, outcomes: list[TaskOutcome]) -> None:
        assert all(outcome.status == "completed" for outcome in outcomes)
        self._left -= len(outcomes)
        if not self._left:
            self._done.set()


@contextlib.contextmanager
def seam(durability: Any, workers: int = WORKERS) -> Iterator[tuple[Seam, Callable[..., Any]]]:
    """A broker at work on a thread of its own, as in a lab, and how to call into it."""

    async def serve(directory: Path, *, task_status: anyio.abc.TaskStatus[tuple[Seam, anyio.Event]]) -> None:
        stop = anyio.Event()
        with private_address() as address, listen(address) as listener:
            lab_journal = Journal.open(directory / "lab.ndjson", durability)
            host = BrokerHost(
                listener, lab_journal=lab_journal, settings=BrokerSettings(), clock=SystemClock(), epoch=1
            )
            it = Seam(host, directory, durability)
            async with anyio.create_task_group() as group:
                group.start_soon(host.serve)
                if workers:
                    group.start_soon(Supervisor(address, "bench", workers).serve)
                    await it.settle(it.specs(500))
                task_status.started((it, stop))
                await stop.wait()
                group.cancel_scope.cancel()
            it.journal.close()
            lab_journal.close()

    with tempfile.TemporaryDirectory() as directory, start_blocking_portal("asyncio", name="lab-io") as portal:
        serving, (it, stop) = portal.start_task(serve, Path(directory))
        yield it, portal.call
        portal.call(stop.set)
        serving.result()


@contextlib.contextmanager
def open_lab(**arguments: Any) -> Iterator[Lab]:
    """A warm lab in a workspace of its own."""
    with tempfile.TemporaryDirectory() as directory, Lab(f"{directory}/runs", **arguments) as lab:
        lab.start(WorkQueue(range(500), noop)).wait()
        yield lab


def measure_lab(figures: Figures, tasks: int) -> None:
    for durability in ("memory", "process", "disk"):
        with open_lab(workers=WORKERS, durability=durability) as lab:
            name = f"lab, {durability}"
            figures.many(name, tasks, lambda: lab.start(WorkQueue(range(tasks), noop)).wait())


def measure_seam(figures: Figures, tasks: int) -> None:
    for durability in ("memory", "process", "disk"):
        with seam(durability) as (it, call):
            specs = it.specs(tasks)
            figures.many(f"broker, {durability}", tasks, lambda: call(it.settle, specs))  # noqa: B023


def measure_one(figures: Figures, tasks: int) -> None:
    for durability in ("process", "disk"):
        with seam(durability) as (it, call):
            laps = call(it.settle_one_by_one, it.specs(min(2_000, tasks)))
            figures.laps[f"broker, {durability}"].append(laps)


def measure_gil(figures: Figures, tasks: int) -> None:
    """Tasks per second while this thread runs pure Python and nothing else."""
    usual = sys.getswitchinterval()
    for name, interval, arguments in (
        ("kernel", usual, {}),
        ("kernel, sys.setswitchinterval(0.0005)", 0.0005, {}),
        ("sidecar", usual, {"broker": "sidecar"}),
    ):
        name = f"beside a busy cell: {name}"
        try:
            with open_lab(workers=WORKERS, **arguments) as lab:
                run = lab.start(WorkQueue(range(max(tasks, 20_000) * 4), noop))
                sys.setswitchinterval(interval)
                began = time.time()
                while time.time() < began + 3:
                    for number in range(1_000):
                        number * number
                ended = time.time()
                sys.setswitchinterval(usual)
                run.stop()
                told = lab.sql(
                    "select count(*) filter (where outcome = 'completed' "
                    f"and epoch(ended_at) between {began} and {ended}), "
                    f"count(*) filter (where outcome = 'expired') from attempts where run_id = '{run.run_id}'"
                )
                figures.rates[name].append(int(told.iloc[0, 0]) / (ended - began))
                figures.fact(f"false expiries, {name}", "", int(told.iloc[0, 1]))
        except InvalidInput as error:
            figures.said[name] = str(error)
        finally:
            sys.setswitchinterval(usual)


def start_and_hang(directory: str) -> None:
    """Say when it was started and where; then wait to be killed."""
    Path(directory, f"{time.time_ns()}-{os.getpid()}").touch()
    time.sleep(60)


def measure_kill(figures: Figures, _: int) -> None:
    """Kill -9 of a child that runs a task, until that task runs again in the spare."""
    with open_lab(workers=1) as lab, tempfile.TemporaryDirectory() as directory:
        for attempt in range(5):
            time.sleep(1.5)  # the spare gets warm
            place = Path(directory, str(attempt))
            place.mkdir()
            run = lab.start(WorkQueue([str(place)], start_and_hang), name=f"kill {attempt}")
            while not (seen := sorted(os.listdir(place))):
                time.sleep(0.001)
            killed = time.time_ns()
            os.kill(int(seen[0].split("-")[1]), signal.SIGKILL)
            while len(seen := sorted(os.listdir(place))) < 2:
                time.sleep(0.001)
            figures.fact(
                "kill -9 of a child until its task runs again", "ms", (int(seen[1].split("-")[0]) - killed) / 1e6
            )
            run.stop()
            run.wait()


def measure_peers(figures: Figures, _: int) -> None:
    for name, peer in PEERS.items():
        if not is_installed(peer.module):
            figures.said[name] = "not installed"
            continue
        with peer.open() as way:
            way.many(200)
            figures.many(name, peer.tasks, lambda: way.many(peer.tasks))  # noqa: B023
            figures.laps[name].append(one_by_one(way))


def measure_memory(figures: Figures, tasks: int) -> None:
    """Resident bytes above the payload's a queued task costs; a process of its own, so that nothing is reused."""
    for what in ("broker", "lab"):
        command = [sys.executable, __file__, "--memory-of", what, "--tasks", str(max(tasks, 200_000))]
        queued, left = map(float, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split())
        figures.fact(f"memory a queued task takes above its payload, {what}", "KiB", queued / 1024)
        figures.fact(f"memory that stays for each task that is done, {what}", "KiB", left / 1024)


def print_memory(what: str, tasks: int) -> None:
    """As a process of its own: bytes a queued task takes, and bytes that stay once it is done."""
    payload = statistics.mean(len(pack(number).data) for number in range(tasks))
    if what == "broker":
        with seam("process", workers=0) as (it, call):
            before = resident_bytes()
            call(it._host.submit, "seam", it.specs(tasks))  # noqa: SLF001 - queued, and nobody takes them
            call(it._host.flush)  # noqa: SLF001
            queued = resident_bytes()
        with seam("process") as (it, call):
            call(it.settle, it.specs(tasks))
            settled = resident_bytes()
            call(it.settle, it.specs(tasks))
            print((queued - before) / tasks - payload, (resident_bytes() - settled) / tasks)
        return
    with open_lab(workers=WORKERS) as lab:
        before = resident_bytes()
        run = lab.start(WorkQueue(range(tasks), noop))
        run.pause()
        queued = resident_bytes()
        run.resume()
        run.wait()
        del run
        settled = resident_bytes()
        lab.start(WorkQueue(range(tasks), noop)).wait()
        print((queued - before) / tasks - payload, (resident_bytes() - settled) / tasks)


# -- tables ----------------------------------------------------------------------------------------------------------


def percentile(laps: list[float], share: float) -> float:
    return sorted(laps)[min(len(laps) - 1, int(share * len(laps)))]


def print_tables(figures: Figures) -> None:
    median = statistics.median
    canary = median(figures.rates[CANARY]) if CANARY in figures.rates else float("nan")
    print(
        f"\n{'no-op tasks':48}{'per second':>12}{'lowest':>10}{'highest':>10}{'of the echo':>13}{'CPU us a task':>15}"
    )
    for name, found in figures.rates.items():
        cpu = f"{median(figures.cpu[name]):15.1f}" if name in figures.cpu else ""
        print(
            f"{name:48}{median(found):12,.0f}{min(found):10,.0f}{max(found):10,.0f}{median(found) / canary:13.3f}{cpu}"
        )
    print(f"\n{'one at a time':48}{'p50 ms':>12}{'p99 ms':>10}{'p50 of the echo':>18}")
    echo = median(percentile(laps, 0.5) for laps in figures.laps[CANARY]) if CANARY in figures.laps else float("nan")
    for name, rounds in figures.laps.items():
        middle, late = (median(percentile(laps, share) for laps in rounds) for share in (0.5, 0.99))
        print(f"{name:48}{middle * 1e3:12.2f}{late * 1e3:10.2f}{middle / echo:18.1f}")
    print(f"\n{'':72}{'median':>10}{'lowest':>10}{'highest':>10}")
    for (name, unit), found in figures.facts.items():
        print(f"{name + (f', {unit}' if unit else ''):72}{median(found):10,.2f}{min(found):10,.2f}{max(found):10,.2f}")
    for name, problem in figures.said.items():
        print(f"{name}: {problem}")


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast the broker is.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--only", default=",".join(PARTS), help="a list of: " + ", ".join(PARTS))
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print_memory(arguments.memory_of, arguments.tasks)
        return
    chosen = [part for part in PARTS if part in arguments.only.split(",")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    loads = [os.getloadavg()[0]]
    figures = Figures()
    for _ in range(arguments.rounds):
        for part in chosen:
            globals()[f"measure_{part}"](figures, arguments.tasks)
        loads.append(os.getloadavg()[0])
    stamp = time.strftime("%Y-%m-%d %H:%M")
    print(
        f"{stamp}, Python {sys.version.split()[0]}, {cores} cores, load before {loads[0]:.1f} "
        f"and after each round {', '.join(f'{load:.1f}' for load in loads[1:])}; "
        f"medians of {arguments.rounds} rounds of {arguments.tasks:,} tasks"
    )
    print_tables(figures)


if __name__ == "__main__":
    main()
