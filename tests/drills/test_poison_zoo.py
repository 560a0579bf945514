"""Whatever a task does to its process, its own row says so, its neighbours are not blamed, and the lab goes on.

All beasts at once, each among hundreds of tasks that take next to no time, so that workers hold as many in advance as
they ever do: whoever dies takes a full hand of innocent tasks along.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from epsilon_lab import Lab, WorkQueue


def leave() -> None:
    import os

    os._exit(7)


def read_address_zero() -> None:
    import ctypes

    ctypes.string_at(0)


def kill_itself() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def kill_its_guardian() -> None:
    import os
    import signal
    import time

    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def loop_in_python() -> None:
    while True:
        pass


def hold_the_interpreter() -> None:
    sum(range(10**13))


def flood() -> None:
    while True:
        print("la" * 4000)


def nest_calls() -> None:
    nest_calls()


def nest_values() -> bool:
    import sys

    sys.setrecursionlimit(1 << 30)
    one: list[object] = []
    two: list[object] = []
    for _ in range(10**5):
        one, two = [one], [two]
    return one == two


def take_4_gib() -> int:
    return len(bytearray(4 << 30))


def close_descriptors() -> None:
    import os

    os.closerange(0, 20)


def be_two() -> str:
    import os

    os.fork()
    return "one of two"


def be_many() -> None:
    import os
    import time

    for _ in range(6):
        os.fork()
    time.sleep(60)


def give_a_generator() -> Any:
    return (n for n in range(3))


def give_200_mib() -> bytes:
    return bytes(200 << 20)


LIMIT_S = 3
MEMORY_MB = 512


class Fate(NamedTuple):
    status: str
    outcome: str
    """Of each of its attempts, those aside in which it was not begun."""

    error: str
    """What is in its row's error."""


ZOO: dict[Callable[[], Any], Fate] = {
    leave: Fate("dead", "crashed", "exit code 7"),
    read_address_zero: Fate("dead", "crashed", "SIGSEGV"),
    kill_itself: Fate("dead", "crashed", "SIGKILL"),
    kill_its_guardian: Fate("dead", "crashed", "SIGKILL"),
    nest_values: Fate("dead", "crashed", "SIGSEGV"),
    close_descriptors: Fate("dead", "crashed", "SIGABRT"),
    loop_in_python: Fate("failed", "timeout", f"time limit of {LIMIT_S} s"),
    hold_the_interpreter: Fate("failed", "timeout", f"time limit of {LIMIT_S} s"),
    flood: Fate("failed", "timeout", f"time limit of {LIMIT_S} s"),
    be_many: Fate("failed", "timeout", f"time limit of {LIMIT_S} s"),
    take_4_gib: Fate("failed", "memory", f"MemoryError (it may take {MEMORY_MB} MiB)"),
    nest_calls: Fate("failed", "failed", "RecursionError"),
    give_a_generator: Fate("failed", "failed", "type generator"),
    give_200_mib: Fate("completed", "completed", ""),
    be_two: Fate("completed", "completed", ""),
}

AMONG = 100
"""Tasks of which one is a beast."""


def test_each_beast_has_its_own_fate_and_no_neighbour_is_blamed(tmp_path: Path) -> None:
    beasts = list(ZOO)

    def visit(item: int) -> Any:
        return beasts[item // AMONG]() if item % AMONG == AMONG // 2 else item

    with Lab(tmp_path, workers=2) as lab:
        queue = WorkQueue(range(AMONG * len(beasts)), visit, time_limit_s=LIMIT_S, memory_mb=MEMORY_MB)
        run = lab.start(queue).wait(120)
        tasks = run.frame("tasks").sort_values("task_id").to_dict("records")
        outcomes = run.frame("attempts").groupby("task_id")["outcome"].agg(set)
        blamed = {
            line["task_id"]
            for body in run.frame("events").query("type == 'task.failed'")["body"]
            for line in body["tasks"]
        }
        fates = {}
        for beast, row in zip(beasts, tasks[AMONG // 2 :: AMONG], strict=True):
            expected, error = ZOO[beast].error, str(row["error"] or "")
            attempts = outcomes[row["task_id"]] - {"lost"}
            fates[beast] = Fate(row["status"], "/".join(attempts), expected if expected in error else error)
        assert fates == ZOO

        del tasks[AMONG // 2 :: AMONG]
        assert [(row["task_id"], row["error"]) for row in tasks if row["status"] != "completed"] == []
        assert not blamed & {row["task_id"] for row in tasks}
        assert lab.start(WorkQueue(range(500), abs)).wait(60).results() == list(range(500))


ALONE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
"""Makes a world in which there is nobody else to kill."""

KILL_ALL = """
import os, sys
from epsilon_lab import Lab, WorkQueue

def visit(item):
    if item == 50:
        import os, signal, time
        os.kill(-1, signal.SIGKILL)
        time.sleep(60)
    return item

assert os.getpid() == 1
with Lab(sys.argv[1], workers=2) as lab:
    run = lab.start(WorkQueue(range(400), visit)).wait(60)
    print(run.reason, run.failures["task_id"].tolist())
    print(len(lab.start(WorkQueue(range(100), abs)).wait(60).results()))
"""


def test_a_task_that_kills_whomever_it_may_is_dead_lettered_alone(tmp_path: Path) -> None:
    """Workers, spare and guardians go down with it, each time; only the lab's own process is out of its reach."""
    if shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets us make no process namespace, and outside of one this would kill far too many")
    strict = ("-W", "error", "-W", "ignore:workers do not start")  # on a busy machine it kills three while they start
    done = subprocess.run(
        [*ALONE, sys.executable, *strict, "-c", KILL_ALL, str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["399 of 400 items completed, 1 failed ['item-000050']", "100"]
