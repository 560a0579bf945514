"""The broker's process: the real host, the real runners, the real recovery, in a loop of the world's time.

Nothing here decides anything. A life of it opens the journals, takes up the runs it finds there, and serves; when it is
killed, nothing that was not on its disk is left, and the next life does the same with what it finds.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from epsilon_lab.broker.host import BrokerHost
from epsilon_lab.broker.unsynced import Unsynced
from epsilon_lab.errors import LabError
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import LabOpened, RunStarted
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import unpack
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.simulation.disk import Disk
from epsilon_lab.simulation.history import Kind
from epsilon_lab.simulation.loop import VirtualLoop
from epsilon_lab.simulation.network import Network
from epsilon_lab.simulation.world import Process, World
from epsilon_lab.topologies.plan import PlanEffect
from epsilon_lab.topologies.recovery import Recovered, recover
from epsilon_lab.topologies.runner import Runner
from epsilon_lab.topologies.work_queue import WorkQueuePlan
from epsilon_lab.workspace.journal import Durability, read_journal
from epsilon_lab.workspace.layout import JOURNAL, RunDirectory

Note = Callable[..., object]


class Job(NamedTuple):
    """A run that somebody wants."""

    run_id: str
    tasks: tuple[TaskSpec, ...]
    budget: Budget | None = None


class Witness(WorkQueuePlan):
    """The rules of a work queue, which put down what they are told: that is what a user would see."""

    def __init__(self, job: Job, note: Note) -> None:
        super().__init__(job.tasks)
        self._run_id = job.run_id
        self._note = note

    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:
        """Put it down, and decide as ever."""
        if outcome.status == "completed":
            assert outcome.output is not None
            self._note("accept", self._run_id, outcome.task_id, unpack(outcome.output))
        else:
            self._note("give_up", self._run_id, outcome.task_id, outcome.status)
        return super().settled(outcome, now)


class _Host(BrokerHost):
    """A host whose disk takes the world's time."""

    disk: Disk

    async def _wait_for_disk(self, batch: Unsynced) -> dict[str | None, LabError]:
        await asyncio.sleep(self.disk.sync_s())
        return batch.sync()


class Home:
    """The workspace, and the lives of the process that owns it.

    Args:
        world: Where it is.
        network: Where its peers are.
        directory: The workspace: real files.
        jobs: What is to be done.
        settings: The broker's.
        note: Puts down a line of the history.
        durability: Of its journals: `process` or `disk`.
        on_birth: Called with the process of each new life.
        on_death: Called when one was killed.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        directory: Path,
        jobs: Sequence[Job],
        settings: BrokerSettings,
        note: Note,
        *,
        durability: Durability,
        on_birth: Callable[[Process], object],
        on_death: Callable[[], object],
    ) -> None:
        self.runners: dict[str, Runner] = {}
        self.ended: set[str] = set()
        self._world = world
        self._network = network
        self._directory = directory
        self._jobs = jobs
        self._settings = settings
        self._note = note
        self._durability = durability
        self._on_birth = on_birth
        self._on_death = on_death
        self._lives = itertools.count(1)
        self._loop: VirtualLoop | None = None
        (directory / "lab").mkdir(parents=True, exist_ok=True)

    @property
    def is_up(self) -> bool:
        """Whether it is alive."""
        return self._loop is not None and self.process.is_alive

    @property
    def is_done(self) -> bool:
        """Whether all that was wanted has come to its end."""
        over = {run_id for run_id, runner in self.runners.items() if runner.done.done()}
        return len(self.ended | over) == len(self._jobs)

    def start(self) -> None:
        """Begin a life."""
        life = next(self._lives)
        self._world.say(f"home begins life {life}")
        self.process = Process(self._world, f"home-{life}")
        self.disk = Disk(self._world.dice("disk", life), self.kill, self._durability)
        self._loop = VirtualLoop(self.process)
        self._loop.set_exception_handler(self._complain)
        self._life = self._loop.create_task(self._live(life))
        self._on_birth(self.process)

    def kill(self) -> None:
        """End this life where it is: at once for everyone else, and for its own code as soon as that returns."""
        if self.process.is_alive:
            self._world.say("home is killed")
            self.process.kill()
            self.disk.die()
            self._network.deafen()
            self._world.after(0.0, self._bury)

    def call(self, deed: Callable[[], object]) -> None:
        """Do something on its loop, as a user's call would be."""
        if self._loop is not None and self.is_up:
            self._loop.call_soon(deed)

    def close(self) -> None:
        """Let go of everything, at the end of the world."""
        self.process.kill()
        self.disk.is_dead = True
        if self._loop is not None:
            self._bury()

    def _bury(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.end()
            self.runners = {}
            self._on_death()

    async def _live(self, life: int) -> None:
        try:
            await self._serve(life)
        except BaseException as error:  # noqa: BLE001 - unless it was killed, whatever it is, it is a finding
            if self.process.is_alive:
                self._world.accuse(f"the broker's process ended: {type(error).__name__}: {error}")

    async def _serve(self, life: int) -> None:
        with ExitStack() as stack:
            journal = self.disk.open(self._directory / "lab" / JOURNAL)
            stack.callback(journal.close)
            listener = stack.enter_context(self._network.listen())
            epoch = self._next_epoch()
            host = _Host(listener, lab_journal=journal, settings=self._settings, clock=self._world, epoch=epoch)
            host.disk = self.disk
            host.record(None, LabOpened(epoch=epoch, pid=life, host="simulated"))
            host.flush()
            for job in self._jobs:
                self._take_up(job, host, stack)
            await host.serve()

    def _next_epoch(self) -> int:
        """One more than any epoch the lab's journal names."""
        records = read_journal(self._directory / "lab" / JOURNAL).records
        opened = [msgspec.json.decode(each.body, type=LabOpened) for each in records if each.type == "lab.opened"]
        return max((each.epoch for each in opened), default=0) + 1

    def _take_up(self, job: Job, host: BrokerHost, stack: ExitStack) -> None:
        """Start a run, or go on with it, or see that it has ended, as its journal says."""
        directory = RunDirectory(self._directory / job.run_id)
        directory.path.mkdir(exist_ok=True)
        records = read_journal(directory.journal).records
        types = {record.type for record in records}
        if "run.ended" in types:
            self.ended.add(job.run_id)
            return
        plan = Witness(job, self._see)
        is_new = "run.started" not in types
        found = Recovered.new(job.run_id, plan, job.budget) if is_new else recover(job.run_id, plan, records)
        runner = Runner(directory, self.disk.open(directory.journal), plan, host=host, clock=self._world, found=found)
        stack.callback(runner.abandon)
        self.runners[job.run_id] = runner
        if not is_new:
            runner.adopt()
            return
        for task in job.tasks:
            self._see("submit", job.run_id, task.task_id)
        runner.begin(
            [RunStarted(run_id=job.run_id, topology="work_queue", name=job.run_id, epoch=host.epoch, budget=job.budget)]
        )
        for task in job.tasks:
            self._see("acknowledge", job.run_id, task.task_id)

    def _see(self, kind: Kind, run_id: str, task_id: str, mark: str = "") -> None:
        """Put down what a user of this life is told."""
        if self.process.is_alive:
            self._note(kind, run_id, task_id, mark)

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        if self.process.is_alive:
            self._world.accuse(f"in the broker's loop: {context.get('exception') or context['message']!r}")
