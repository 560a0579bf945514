"""One seed, one story: some runs, some machines, some faults, then quiet; and what must be true in the end.

The faults are those a lab meets: a child killed, a machine gone, a machine asleep past its lease that wakes up and goes
on as if nothing had been, the broker's process late (a cell that holds the interpreter) or killed, at any moment and in
the middle of any write, a wire that is cut in one direction or both, a connection lost with all that is on it, a clock
on the wall that is set, a pause. Afterwards everything is mended, and within `PATIENCE_S` all must be done. In some
worlds wires also lose, double and reorder single frames, which no transport may: then nothing needs to be done, but
nothing may be believed twice either.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import (
    BODIES,
    LlmCall,
    RunAdopted,
    TasksAdopted,
    TasksAssigned,
    TasksCompleted,
    TasksExpired,
    TasksFailed,
)
from epsilon_lab.messages.tasks import Assignment
from epsilon_lab.messages.values import restored, unpack
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.simulation.history import Event, Kind, Verdict, check
from epsilon_lab.simulation.home import Home, Job
from epsilon_lab.simulation.network import Network
from epsilon_lab.simulation.work import Work, draw_work
from epsilon_lab.simulation.workers import Machine
from epsilon_lab.simulation.world import Process, World
from epsilon_lab.topologies.engine import Pause, Resume
from epsilon_lab.workspace.journal import read_journal
from epsilon_lab.workspace.layout import JOURNAL

_POISON_LIMIT = 3
TROUBLE_S = 20.0
"""Seconds in which faults begin."""

PATIENCE_S = 120.0
"""Seconds within which all must be done once everything is mended."""

_DISK_SHARE = 0.15
"""Of all worlds; in them the broker's process dies of power cuts."""

_UNRULY_SHARE = 0.1
"""Of all worlds; in them work may stand still for ever, and is judged by what was believed alone."""

_OUT_OF_REACH = {"machine", "asleep", "cut"}
"""Faults by which the broker may lose sight of a worker."""


class Outcome(NamedTuple):
    """How a story ended."""

    seed: int
    verdict: Verdict
    problems: tuple[str, ...]
    """What should not have happened; empty if the broker kept its promises."""

    faults: tuple[str, ...]
    torn: int
    """Half-written groups that were cut off when a run was taken up again."""

    seconds: float
    """Of the world's time."""

    digest: str
    """Of all that happened: two plays of one seed have the same."""


def play(seed: int, directory: Path, tell: Callable[[str], object] | None = None) -> Outcome:
    """Play one seed.

    Args:
        seed: Makes the story.
        directory: An empty directory, for the workspace.
        tell: Called with each line of the story.
    """
    story = _Story(seed, directory, tell)
    try:
        return story.play()
    finally:
        story.home.close()


class _Story:
    """The world of one seed: an `Office` for its workers, and the hand that deals faults."""

    def __init__(self, seed: int, directory: Path, tell: Callable[[str], object] | None) -> None:
        self.world = World(seed, tell)
        self._dice = dice = self.world.dice("story")
        self.settings = BrokerSettings(poison_limit=_POISON_LIMIT, adoption_grace_s=dice.choice((0.0, 5.0)))
        self.network = Network(self.world, slowest_s=dice.choice((0.0005, 0.01, 0.3)))
        self._seed = seed
        self._directory = directory
        self._events: list[Event] = []
        self._billed: defaultdict[str, list[LlmCall]] = defaultdict(list)
        self._faults: list[str] = []
        self._torn = 0
        self._works: dict[str, Work] = {}
        self._jobs = [self._draw_job(f"r{number}") for number in range(dice.choice((1, 1, 2)))]
        self._local: Machine | None = None
        self._local_lives = itertools.count(1)
        self._local_places = dice.randint(1, 2)
        self.home = Home(
            self.world,
            self.network,
            directory,
            self._jobs,
            self.settings,
            self.note,
            durability="disk" if dice.random() < _DISK_SHARE else "process",
            on_birth=self._open_local,
            on_death=self._lose_local,
        )
        if dice.random() < _UNRULY_SHARE:
            self.network.is_unruly = True
            self._faults.append("unruly wires")
        self._machines = [Machine(self, f"m{n}", dice.randint(1, 2)) for n in range(dice.choice((0, 1, 2)))]

    def _draw_job(self, run_id: str) -> Job:
        works = draw_work(self._dice, self._dice.randint(1, 10))
        self._works |= {f"{run_id}/{work.spec.task_id}": work for work in works}
        budget = Budget(calls=self._dice.randint(1, 3)) if self._dice.random() < 0.3 else None
        return Job(run_id, tuple(work.spec for work in works), budget)

    # -- what workers need ------------------------------------------------------------------------------------------

    def work(self, assignment: Assignment) -> Work:
        """What a task is."""
        return self._works[f"{assignment.run_id}/{assignment.task.task_id}"]

    def note(self, kind: Kind, run_id: str, task_id: str, mark: str = "", by: str = "") -> None:
        """Put down a line of the history."""
        task = f"{run_id}/{task_id}"
        self._events.append(Event(kind=kind, task=task, at=self.world.now, value=mark, by=by))
        self.world.say(f"{kind} {task} {mark}")

    def bill(self, run_id: str, call: LlmCall) -> None:
        """Send a request to a model, which is paid for from now on."""
        self._billed[run_id].append(call)
        self.world.say(f"a model is asked for {run_id}/{call.task_id}")

    # -- the story --------------------------------------------------------------------------------------------------

    def play(self) -> Outcome:
        began = self.world.now
        self.home.start()
        for fault in range(self._dice.randint(0, 4)):
            self.world.after(TROUBLE_S * self._dice.random() ** 3, self._draw_fault(fault))
        self.world.run(lambda: False, within_s=TROUBLE_S)
        is_over = self.world.run(self._is_over, within_s=PATIENCE_S)
        if not is_over and not self.network.is_unruly:
            self.world.accuse(f"not done {PATIENCE_S:g} s after the last fault: {self._what_is_open()}")
        self._read()
        self._judge(is_over=is_over)
        verdict = check(self._events)
        for promise, tasks in verdict.broken.items():
            if promise != "lost" or is_over:
                self.world.accuse(f"{promise}: {', '.join(tasks)}")
        return Outcome(
            seed=self._seed,
            verdict=verdict,
            problems=tuple(self.world.problems),
            faults=tuple(self._faults),
            torn=self._torn,
            seconds=self.world.now - began,
            digest=self.world.digest,
        )

    def _is_over(self) -> bool:
        return self.home.is_up and self.home.is_done

    def _what_is_open(self) -> str:
        settled = {event.task for event in self._events if event.kind in ("accept", "give_up")}
        return ", ".join(sorted(self._works.keys() - settled)) or "a run"

    def _open_local(self, process: Process) -> None:
        """Have the lab's own machine in the life that begins."""
        name = f"local{next(self._local_lives)}"
        self._local = Machine(self, name, self._local_places, boss=process, is_local=True)

    def _lose_local(self) -> None:
        """Take it away with the life that ended, and begin another one by and by."""
        if self._local is not None:
            self._local.crash()
            self._local = None
        self.world.after(self._dice.uniform(0.1, 3.0), self.home.start)

    # -- faults -----------------------------------------------------------------------------------------------------

    def _draw_fault(self, number: int) -> Callable[[], None]:
        dice = self.world.dice("fault", number)
        names = ["child", "child", "late", "killed", "killed writing", "wall", "pause"]
        if self._machines:
            names += ["machine", "asleep", "cut", "cut", "reset", "reset"]
        name = dice.choice(names)
        machine = dice.choice(self._machines) if self._machines else None

        def strike() -> None:
            self._faults.append(name)
            self.world.say(f"FAULT {name} {machine.name if machine else ''}")
            match name:
                case "child":
                    chosen = dice.choice([each for each in (machine, self._local) if each is not None] or [None])
                    if chosen is not None:
                        chosen.kill_child(0)
                case "late":
                    self._make_late(dice.choice((0.3, 3.0, 30.0)))
                case "killed":
                    if self.home.is_up:
                        self.home.kill()
                case "killed writing":
                    if self.home.is_up:
                        self.home.disk.kill_at(dice.randint(0, 5))
                case "wall":
                    self.world.wall_shift += dice.choice((-3600.0, 3600.0))
                case "pause":
                    self._pause(dice.uniform(0.1, 10.0))
                case _ if machine is not None and machine.is_up:
                    self._trouble(
                        machine, name, dice.choice((1.0, 15.0)), dice.choice((("up",), ("down",), ("up", "down")))
                    )

        return strike

    def _trouble(self, machine: Machine, name: str, seconds: float, ways: tuple[str, ...]) -> None:
        match name:
            case "machine":
                machine.crash()
                self.world.after(seconds, lambda: None if machine.is_up else machine.start())
            case "reset":
                self.network.reset(machine.name)
            case "asleep":
                machine.stop()
                self.world.after(seconds, machine.go_on)
            case "cut":
                for way in ways:
                    self.network.cut(machine.name, way)
                    self.world.after(seconds, partial(self.network.mend, machine.name, way))

    def _make_late(self, seconds: float) -> None:
        process = self.home.process
        process.stop()
        self.world.after(seconds, process.go_on)

    def _pause(self, seconds: float) -> None:
        def say(stimulus: Pause | Resume) -> None:
            for runner in self.home.runners.values():
                runner.obey(stimulus)

        self.home.call(partial(say, Pause()))
        self.world.after(seconds, lambda: self.home.call(partial(say, Resume())))

    # -- the end ----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read the journals as a user would, when all is over."""
        for job in self._jobs:
            for body in self._bodies(job.run_id):
                match body:
                    case TasksCompleted(tasks=completed):
                        for done in completed:
                            self.note("accept", job.run_id, done.task_id, unpack(restored(done.output)))
                    case TasksFailed(tasks=failed):
                        for line in failed:
                            if line.then != "queued":
                                self.note("give_up", job.run_id, line.task_id, line.then)
                    case TasksExpired(tasks=expired):
                        for task_id, _ in expired:
                            self.note("give_up", job.run_id, task_id, "failed")

    def _bodies(self, run_id: str) -> list[object]:
        records = read_journal(self._directory / run_id / JOURNAL).records
        return [msgspec.json.decode(each.body, type=BODIES[each.type]) for each in records if each.type in BODIES]

    def _judge(self, *, is_over: bool) -> None:
        """Hold the journals against what had to happen."""
        is_calm = not _OUT_OF_REACH & set(self._faults)
        harm = sum(fault in _OUT_OF_REACH or fault == "child" for fault in self._faults)
        for job in self._jobs:
            bodies = self._bodies(job.run_id)
            self._torn += sum(isinstance(body, RunAdopted) and body.torn > 0 for body in bodies)
            self._judge_lines(job, bodies)
            if not self.network.is_unruly:
                self._judge_calls(job, [body for body in bodies if isinstance(body, LlmCall)])
                self._judge_blame(job, bodies, harm, is_calm=is_calm)
        if is_over and not self.network.is_unruly:
            self._judge_ends(harm, is_calm=is_calm)

    def _judge_blame(self, job: Job, bodies: list[object], harm: int, *, is_calm: bool) -> None:
        """Nobody expires who was within reach, and nobody is blamed more often than there were faults to blame."""
        failed = [line for body in bodies if isinstance(body, TasksFailed) for line in body.tasks]
        expired = sum(line.outcome == "expired" for line in failed)
        if expired and is_calm:
            self.world.accuse(f"{expired} attempts of {job.run_id} expired although no machine was out of reach")
        lost = Counter(line.task_id for line in failed if line.outcome in ("crashed", "lost", "expired"))
        for task_id, count in lost.items():
            if self._works[f"{job.run_id}/{task_id}"].fate != "kills" and count > harm:
                self.world.accuse(f"{job.run_id}/{task_id} was blamed {count} times for {harm} faults")

    def _judge_lines(self, job: Job, bodies: list[object]) -> None:
        """Every assignment of a task is newer than those before, and nothing is handed out or accepted once settled."""
        fences, open_fences, settled = dict[int, str](), dict[str, int](), set[str]()
        newest = Counter[str]()
        for body in bodies:
            match body:
                case TasksAssigned(tasks=tasks):
                    for task_id, _, given in tasks:
                        if given <= newest[task_id] or given in fences or task_id in settled:
                            self.world.accuse(f"{job.run_id}/{task_id} was assigned anew with {given:x}")
                        fences[given], newest[task_id], open_fences[task_id] = task_id, given, given
                case TasksAdopted(tasks=adopted):
                    for task_id, _, given in adopted:
                        if given != newest[task_id] or task_id in settled:
                            self.world.accuse(f"{job.run_id}/{task_id} was left to a worker that holds {given:x}")
                        open_fences[task_id] = given
                case TasksCompleted(tasks=done):
                    for line in done:
                        if open_fences.pop(line.task_id, None) != line.fence or line.task_id in settled:
                            self.world.accuse(f"{job.run_id}/{line.task_id} was accepted with a fence it did not hold")
                        settled.add(line.task_id)
                case TasksExpired(tasks=expired):
                    settled.update(task_id for task_id, _ in expired)
                case TasksFailed(tasks=failed):
                    for failure in failed:
                        if open_fences.pop(failure.task_id, None) != failure.fence:
                            self.world.accuse(f"{job.run_id}/{failure.task_id} failed with a fence it did not hold")

    def _judge_calls(self, job: Job, calls: list[LlmCall]) -> None:
        """What was paid for is on record, and within the budget."""
        billed = self._billed[job.run_id]
        known = {(call.task_id, call.request) for call in calls if call.outcome != "refused"}
        if missing := [call.task_id for call in billed if (call.task_id, call.request) not in known]:
            self.world.accuse(f"requests of {job.run_id} were sent and are not on record: {missing}")
        if job.budget is not None and job.budget.calls is not None and len(billed) > job.budget.calls:
            self.world.accuse(f"{len(billed)} requests of {job.run_id} were sent with a budget of {job.budget.calls}")

    def _judge_ends(self, harm: int, *, is_calm: bool) -> None:
        """Each task came to its rightful end; harm may have brought an innocent one to the poison limit."""
        ends = {event.task: event.value for event in self._events if event.kind == "give_up"}
        ends |= {event.task: "completed" for event in self._events if event.kind == "accept"}
        budgets = {job.run_id: job.budget for job in self._jobs}
        for task, work in self._works.items():
            end = ends.get(task, "nothing")
            allowed = {work.end}
            if harm >= _POISON_LIMIT:
                allowed.add("dead")
            if work.fate == "asks" and budgets[task.partition("/")[0]] is not None:
                allowed.add("failed")
            if work.spec.finish_within_s is not None:
                allowed.add("failed")
            if work.spec.time_limit_s is not None and not is_calm:
                allowed.add("failed")  # it waited for a machine that did not answer longer than it may take
            if end not in allowed:
                self.world.accuse(f"{task}, which {work.fate}, came to {end} and not to {' or '.join(sorted(allowed))}")
