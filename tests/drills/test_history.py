"""What was acknowledged is there in the end, and nothing is accepted twice, whoever is killed and whenever.

In the manner of Jepsen's total queue. One process submits; every task writes down its own start and end, behind the
broker's back. Children, guardians and the lab's own process are killed with SIGKILL at moments drawn by seed, and the
lab's process at places in its own code. Then all is let finish, and the journals are held against what was promised
and done. A task may be executed twice, which is counted; but never again once its result was on record.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from epsilon_lab import Lab
from epsilon_lab.messages.events import TasksCompleted, TasksFailed
from epsilon_lab.messages.values import restored, unpack
from epsilon_lab.testing.census import descendants, is_alive, wait_until
from epsilon_lab.testing.history import History, Verdict, check, read
from tests.drills.failpoints import PLACES, Place

if TYPE_CHECKING:
    from tests.drills.conftest import Script

SUBMITTER = str(Path(__file__).with_name("submitter.py"))


class Drill:
    """A place, the process that submits there, and what happens to it."""

    def __init__(self, place: Path, start: Callable[..., Script], dice: random.Random, host: str = "kernel") -> None:
        self.place = place
        self.dice = dice
        self.host = host
        self.durability = dice.choice(("process", "disk"))
        self.history = History(place / "history")
        self.submitter: Script | None = None
        self._start = start
        (place / "history").mkdir()

    def open(self, failpoint: str = "") -> Script:
        """Have a submitter at work."""
        if self.submitter is None:
            (self.place / "endpoint").unlink(missing_ok=True)
            durability = "disk" if "fsync" in failpoint else self.durability
            arguments = [str(self.place), durability, self.host, *([failpoint] if failpoint else [])]
            self.submitter = self._start(self.place, SUBMITTER, *arguments)
        return self.submitter

    def far(self) -> Script:
        """Have a worker at work that came over TCP, as from another machine."""
        (self.place / "far").touch()
        self.let_work()
        where, key = (self.place / "endpoint").read_text(), "runs/lab/keys/worker.key"
        return self._start(
            self.place, "-m", "epsilon_lab", "worker", "--connect", where, "--key-file", key, "--name", "far"
        )

    def let_work(self) -> None:
        """Wait until a few more tasks were done."""
        script, before = self.open(), self._written()
        more = self.dice.randrange(2_000, 12_000)
        assert wait_until(lambda: self._written() > before + more or script.poll() is not None, within_s=60)
        assert script.poll() is None, script.communicate()
        time.sleep(self.dice.random() * 0.02)

    def _written(self) -> int:
        """Bytes in the history of tasks."""
        return sum(path.stat().st_size for path in (self.place / "history").iterdir())

    def executing(self, *, below: int | None = None) -> int | None:
        """The process of some task that has begun and not ended; one that descends from another."""
        family = None if below is None else {process.pid for process in descendants(below)}
        for path in (self.place / "history").iterdir():
            pid, lines = int(path.stem), path.read_bytes().splitlines()
            if (
                lines
                and b'"start"' in lines[-1]
                and Path(f"/proc/{pid}").exists()
                and (family is None or pid in family)
            ):
                return pid
        return None

    def witness(self) -> None:
        """Note what the journals say that was accepted, or given up."""
        with Lab(self.place / "runs", read_only=True) as lab:
            names = dict(lab.store.rows("select run_id, name from runs"))
            accepted = lab.store.rows("select run_id, body from events where type = 'task.completed'")
            dead = lab.store.rows("select run_id, task_id, status from tasks where status in ('failed', 'dead')")
        for run_id, body in accepted:
            for line in msgspec.json.decode(body, type=TasksCompleted).tasks:
                self.history.note("accept", _name(names[run_id], line.task_id), unpack(restored(line.output)))
        for run_id, task_id, status in dead:
            self.history.note("give_up", _name(names[run_id], task_id), status)

    # -- what happens -------------------------------------------------------------------------------------------------

    def kill_kernel(self) -> None:
        self.let_work()
        self.open().kill()
        self._bury()

    def kill_sidecar(self) -> None:
        """The submitter is told, and ends."""
        self.let_work()
        os.kill(msgspec.json.decode((self.place / "runs" / "lab" / "lock").read_bytes())["pid"], signal.SIGKILL)
        assert self.submitter is not None
        _, said = self.submitter.communicate(timeout=60)
        assert self.submitter.returncode == 1
        assert "sidecar" in said or "interrupted" in said, said
        self.submitter = None
        self.witness()

    def kill_child(self) -> None:
        self._kill_at_work(lambda pid: pid)

    def kill_guardian(self) -> None:
        self._kill_at_work(lambda pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]))

    def _kill_at_work(self, victim: Callable[[int], int]) -> None:
        self.let_work()
        found: list[int] = []
        assert wait_until(lambda: (pid := self.executing()) is not None and not found.append(pid), within_s=60)
        os.kill(victim(found[0]), signal.SIGKILL)

    def die(self, place: Place) -> None:
        """The lab's process comes to a place in its code, and dies there."""
        if self.submitter is not None:
            self.kill_kernel()
        failpoint = f"{place}:{self.dice.randrange(1, place.most)}"
        script = self.open(failpoint)
        assert wait_until(lambda: script.poll() is not None, within_s=60), f"it never came to {failpoint}"
        self._bury()

    def _bury(self) -> None:
        assert self.submitter is not None
        _, said = self.submitter.communicate(timeout=60)
        assert (self.submitter.returncode, said) == (-signal.SIGKILL, "")
        self.submitter = None
        if (self.place / "runs").exists():
            self.witness()

    def finish(self) -> Verdict:
        """Let all that is left be done, and judge."""
        script = self.open()
        (self.place / "enough").touch()
        _, said = script.communicate(timeout=120)
        assert (script.returncode, said) == (0, "")
        self.witness()
        return check(read(self.place / "history"))


def _name(batch: str, task_id: str) -> str:
    return f"{batch}/{int(task_id.split('-')[1])}"


@pytest.mark.parametrize(
    ("seed", "kills", "places"),
    [(1, 2, 3), *(pytest.param(seed, 20, 20, marks=pytest.mark.long) for seed in (2, 3, 4, 5, 6))],
)
def test_nothing_acknowledged_is_lost_and_nothing_is_accepted_twice(
    place: Path, start: Callable[..., Script], seed: int, kills: int, places: int
) -> None:
    dice = random.Random(seed)
    drill = Drill(place, start, dice)
    hits, deaths = (drill.kill_child, drill.kill_guardian, drill.kill_kernel), dice.sample(PLACES, len(PLACES))
    incidents = [*islice(cycle(hits), kills), *(partial(drill.die, at) for at in islice(cycle(deaths), places))]
    for incident in dice.sample(incidents, len(incidents)):
        incident()
    verdict = drill.finish()
    print(f"\nseed {seed}, {kills} kills, {places} deaths in the lab's own code: {verdict}")
    assert not verdict.broken, verdict
    assert verdict.redone == ()
    assert verdict.accepted == verdict.acknowledged + len(verdict.recovered), "none was given up"


@pytest.mark.parametrize(("seed", "kills"), [(1, 3), pytest.param(2, 40, marks=pytest.mark.long)])
def test_a_sidecar_keeps_its_word_whoever_dies(
    place: Path, start: Callable[..., Script], seed: int, kills: int
) -> None:
    dice = random.Random(seed)
    drill = Drill(place, start, dice, host="sidecar")
    incidents = list(islice(cycle((drill.kill_kernel, drill.kill_sidecar, drill.kill_child)), kills))
    try:
        for incident in dice.sample(incidents, len(incidents)):
            incident()
        verdict = drill.finish()
    finally:
        stop = start(place, "-m", "epsilon_lab", "broker", "runs", "--stop")
        stop.communicate(timeout=60)
    print(f"\nseed {seed}, {kills} kills: {verdict}")
    assert not verdict.broken, verdict
    assert verdict.redone == ()
    assert verdict.accepted == verdict.acknowledged + len(verdict.recovered), "none was given up"


def test_an_answer_from_beyond_the_lease_is_stale(
    place: Path, start: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker and its supervisor are stopped until their lease is over and others have their work; then they wake."""
    for name, value in {"LEASE_S": "1", "BEAT_S": "0.2", "TICK_S": "0.1"}.items():
        monkeypatch.setenv(f"EPSILON_{name}", value)
    drill = Drill(place, start, random.Random(1))
    far = drill.far()

    def lines(kind: str) -> list[bytes]:
        """What is on record of the far worker."""
        with Lab(place / "runs", read_only=True) as lab:
            rows = lab.store.rows("select body from events where type = $kind", {"kind": kind})
        return [body.encode() for (body,) in rows if "far-" in body and '/w1"' in body]

    def is_at_work() -> bool:
        return len(lines("worker.joined")) > len(lines("worker.left"))  # more than once, where a beat comes late

    for _ in range(3):
        assert wait_until(is_at_work, within_s=60)
        assert wait_until(lambda: drill.executing(below=far.pid) is not None, within_s=60)
        stopped = [far.pid, *(process.pid for process in descendants(far.pid))]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        assert wait_until(lambda: not is_at_work(), within_s=60)
        drill.let_work()
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert wait_until(is_at_work, within_s=60)
    verdict = drill.finish()
    failed = [line for body in lines("task.failed") for line in msgspec.json.decode(body, type=TasksFailed).tasks]
    expired = {line.fence for line in failed if line.outcome == "expired"}
    done = [line for body in lines("task.completed") for line in msgspec.json.decode(body, type=TasksCompleted).tasks]
    print(f"\n{len(expired)} attempts expired in 3 leases: {verdict}")
    assert expired
    assert expired.isdisjoint(line.fence for line in done)
    assert not verdict.broken, verdict


def test_nothing_is_left_of_a_worker_elsewhere_that_is_killed_and_its_work_is_done(
    place: Path, start: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LEASE_S": "1", "BEAT_S": "0.2", "TICK_S": "0.1"}.items():
        monkeypatch.setenv(f"EPSILON_{name}", value)
    drill = Drill(place, start, random.Random(1))
    far = drill.far()
    assert wait_until(lambda: drill.executing(below=far.pid) is not None, within_s=60)
    family = descendants(far.pid)
    far.kill()
    assert wait_until(lambda: not any(map(is_alive, family)), within_s=60)
    drill.let_work()
    verdict = drill.finish()
    assert not verdict.broken, verdict
    assert verdict.accepted == verdict.acknowledged
