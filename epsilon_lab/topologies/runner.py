"""The shell around a run's state: it carries effects out, in order, on the loop thread `lab-io`.

A rule that raises, or a disk that is full, ends this run with the reason and touches no other. Where not even the end
can be put on record, the run is interrupted, and goes on from its last record.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import msgspec

from epsilon_lab.broker.host import BrokerHost
from epsilon_lab.cases.docket import CaseNews
from epsilon_lab.clock import Clock
from epsilon_lab.errors import LabError, WorkspaceError
from epsilon_lab.messages.events import (
    Body,
    CaseUnsure,
    RunAdopted,
    RunEnded,
    TasksCancelled,
    TasksWaiting,
    VerdictGiven,
    task_line,
)
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value
from epsilon_lab.topologies.engine import (
    Break,
    CancelAll,
    CancelTasks,
    CloseBudget,
    End,
    EngineEffect,
    Hold,
    Reprioritise,
    Resume,
    Settled,
    Start,
    Stimulus,
    Stop,
    Submit,
    Tell,
    Tick,
    cancelled_outcome,
)
from epsilon_lab.topologies.files import read_outcome
from epsilon_lab.topologies.plan import Copy, Deliver, Emit, Export, Plan, Prioritise, Requeue, Revise, Write, unheard
from epsilon_lab.topologies.recovery import Recovered
from epsilon_lab.workspace.fold import how_to_resume
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import LEAVES, STOP, RunDirectory
from epsilon_lab.workspace.leaf_files import sweep

_AT_ONCE = 5_000
"""Tasks given to the broker between two of its turns: it is deaf for a fortieth of a second meanwhile."""

_WATCH_S = 0.25
"""Seconds between looks at the clock and at the STOP file."""


class Runner:
    """One live run. All methods belong to the loop thread; `done` may be waited for from any thread.

    Args:
        run: Its directory.
        journal: Its open journal.
        plan: Its topology's rules.
        host: The broker.
        clock: The lab's clock.
        found: How the run stands: new, or as an earlier lab left it, with the same rules.
        env: Environment variables that its tasks in child processes are granted.
        deliver: Tells other runs of the workspace what was decided about their cases; it is on disk when it returns.
            Called from another thread. None for nobody to tell.
    """

    def __init__(
        self,
        run: RunDirectory,
        journal: Journal,
        plan: Plan,
        *,
        host: BrokerHost,
        clock: Clock,
        found: Recovered,
        env: Mapping[str, str] | None = None,
        deliver: Callable[[Sequence[Deliver]], None] | None = None,
    ) -> None:
        self.run = run
        self._deliver = deliver
        self._undelivered: list[Deliver] = []
        self._delivering: asyncio.Future[None] | None = None
        self._behind: list[EngineEffect] = []
        """The run's end and what comes with it, while there are verdicts to be delivered before."""

        self.runs_strangers = plan.runs_strangers
        self._reads_outputs = plan.reads_outputs
        self.done: Future[None] = Future()
        self.state = found.state
        self._found = found
        self._journal = journal
        self._host = host
        self._env = env
        self._clock = clock
        self._began = clock.monotonic() - found.elapsed_s
        self._untaken: deque[TaskSpec] = deque()
        """Submitted by the rules, and held back because the broker is full, or has yet to take its turn."""

        self._unsaid = 0
        """How many of them, the last ones, are not on record as waiting."""

        self._is_handing_over = False

        self._raised: dict[str, int] = {}
        """Priorities that people gave to such tasks."""

        self._outside: RunDirectory | None = None
        """Where it exports to: one of them, so that a directory is looked at once and not for each file."""

        self._watcher: asyncio.Task[None] | None = None
        self._is_ending = self._is_closed = False

    @property
    def is_ending(self) -> bool:
        """Whether its end is on its way, or done."""
        return self._is_ending or self.done.done()

    def begin(self, events: Sequence[Body]) -> None:
        """Put the run's first lines on record, and start it."""
        self._open()
        self._host.record(self.run.run_id, *events)
        self.send(Start())
        self._host.flush()

    def adopt(self) -> None:
        """Go on where an earlier lab was, whatever had stopped the run: that lab's end, or a pause."""
        effects = self._open()
        adopted = RunAdopted(
            epoch=self._host.epoch, pid=os.getpid(), host=socket.gethostname(), torn=self._journal.torn
        )
        self._host.record(self.run.run_id, adopted)
        self._do(lambda: effects)
        self.send(Resume())
        self._host.flush()

    def _open(self) -> list[EngineEffect]:
        """Hand the run to the broker; what is still to be carried out is returned, the rest leaves memory."""
        found, self._found = self._found, Recovered(self.state)
        self._host.open_run(
            self.run.run_id,
            str(self.run.path),
            self._journal,
            self._settled,
            self.lose,
            left=tuple(found.left.values()),
            epoch=found.epoch,
            ledger=found.ledger,
            weight=found.ledger.weight,
            dead=tuple(found.dead.values()),
            env=self._env,
            remembers=False,  # the graph gives no id twice
            abridge=found.state.docket.abridged,
        )
        self._watcher = asyncio.get_running_loop().create_task(self._watch(), name=f"watch {self.run.run_id}")
        return found.effects

    def send(self, stimulus: Stimulus) -> bool:
        """Let the run's rules answer a stimulus.

        Returns:
            False where nothing follows from it.
        """
        return self._do(lambda: self.state.step(stimulus, self._now))

    @property
    def _now(self) -> float:
        """Seconds on the run's own clock."""
        return self._clock.monotonic() - self._began

    def _do(self, decide: Callable[[], list[EngineEffect]]) -> bool:
        try:
            effects = decide()
            self._carry_out(effects)
            return bool(effects)
        except LabError as error:
            self.break_off(str(error))
        except OSError as error:
            self.lose(f"run directory {self.run.path} cannot be read or written ({error.strerror})")
        except Exception as error:  # noqa: BLE001 - a rule's own mistake ends its run, with the reason, and no other
            self.break_off(f"{type(error).__name__} in the run's own rules: {error}")
        return True

    def obey(self, stimulus: Stimulus) -> bool:
        """The same for a person, who is answered once it is on record.

        Returns:
            False where it has let go of the run.

        Raises:
            LabError: Tasks were to be taken up again, and the rules have no use for that; what is said about a case is
                wrong; or the run cannot be written to.
        """
        if isinstance(stimulus, Tell) and isinstance(stimulus.news, CaseNews):
            self._host.flush()  # what was flagged in this very turn is known then
            if self._is_closed:
                return False
            self.state.docket.check(stimulus.news)
        if self._behind and isinstance(stimulus, Tell):
            raise LabError(f"run {self.run.run_id} is about to end, once its verdicts are delivered; try again then")
        if isinstance(stimulus, Prioritise):
            self._say_what_waits()  # its line speaks of one of them
        is_heard = self.send(stimulus)
        self._host.flush()
        if self.state.status == "interrupted":
            raise LabError(f"run {self.run.run_id} is interrupted: {self.state.reason}")
        if not is_heard and isinstance(stimulus, Tell) and isinstance(stimulus.news, Requeue | Revise):
            raise unheard(self.run.run_id, stimulus.news)
        return True

    def break_off(self, reason: str) -> None:
        """End the run as failed, also where it has ended otherwise but that could not be carried out."""
        if not self._is_ending:
            self._carry_out(self.state.step(Break(reason), self._now))

    def abandon(self) -> None:
        """Let go of an unfinished run, as when the lab closes: its journal stands as it is."""
        self._stop_watching()
        self._is_closed = True
        self._untaken.clear()
        self._undelivered.clear()
        self._host.close_run(self.run.run_id)
        self._journal.close()
        if not self.state.ended or self._behind:
            self.state.status = "interrupted"
            self.state.reason = f"the lab was closed before the run had ended; {how_to_resume(self.run.run_id)}"
        self.state.forget()
        if not self.done.done():
            self.done.set_result(None)

    def lose(self, reason: str) -> None:
        """Let go of a run whose journal cannot be written, as if the lab had died there: what is on record stands."""
        self._journal.discard()
        self.abandon()
        self.state.status = "interrupted"
        self.state.reason = f"{reason}; {how_to_resume(self.run.run_id)}"

    def _settled(self, outcomes: list[TaskOutcome]) -> None:
        if self._reads_outputs:
            outcomes = [self._read(outcome) for outcome in outcomes]
        self.send(Settled(tuple(outcomes)))
        if self._untaken:
            self._do(self._catch_up)

    def _read(self, outcome: TaskOutcome) -> TaskOutcome:
        return read_outcome(self.run, outcome) if self.state.reads(outcome.task_id) else outcome

    def _carry_out(self, effects: list[EngineEffect]) -> None:
        for place, effect in enumerate(effects):
            is_end = isinstance(effect, Emit) and isinstance(effect.body, RunEnded)
            if self._behind or (is_end and (self._undelivered or self._delivering)):
                self._behind += effects[place:]
                break
            match effect:
                case Submit(tasks=tasks):
                    self._untaken.extend(tasks)
                    self._unsaid += len(tasks)
                    self._hand_over()
                case Emit(body=body):
                    self._host.record(self.run.run_id, body, to_disk=isinstance(body, VerdictGiven | CaseUnsure))
                case Write(ref=ref, text=text, kind=kind):
                    self._host.record(self.run.run_id, self.run.save(ref, text, kind=kind))
                case Copy(source=source, ref=ref, kind=kind):
                    self._host.record(self.run.run_id, self.run.save(ref, self.run.read_bytes(source), kind=kind))
                case Export():
                    self._export(effect)
                case Deliver() if self._deliver is not None:
                    self._undelivered.append(effect)
                case Hold(paused=True):
                    self._host.pause(self.run.run_id)
                case Hold():
                    self._host.resume(self.run.run_id)
                case CloseBudget(reason=reason):
                    self._host.close_budget(self.run.run_id, reason)
                case Reprioritise(task_id=task_id, priority=priority):
                    if any(task.task_id == task_id for task in self._untaken):
                        self._raised[task_id] = priority
                    self._host.reprioritise(self.run.run_id, task_id, priority)
                case Requeue(task_ids=task_ids):
                    self._host.requeue(self.run.run_id, task_ids)
                case CancelTasks(task_ids=task_ids, reason=reason):
                    self._cancel(task_ids, reason)
                case CancelAll(reason=reason):
                    self._cancel(None, reason)
                case End():
                    self._is_ending = True
                    asyncio.get_running_loop().call_soon(self._end)
        self._hand_on()

    def _hand_on(self) -> None:
        """Deliver verdicts to other runs, in a thread: it waits for the disk, and perhaps for a journal to be read."""
        if self._undelivered and self._delivering is None and self._deliver is not None and not self._is_closed:
            verdicts, self._undelivered = self._undelivered, []
            self._delivering = asyncio.get_running_loop().run_in_executor(None, self._deliver, verdicts)
            self._delivering.add_done_callback(self._handed_on)

    def _handed_on(self, delivering: asyncio.Future[None]) -> None:
        """Go on with what came meanwhile; the run's end, where it waits for all of it, is carried out then."""
        error = None if delivering.cancelled() else delivering.exception()
        self._delivering = None
        if self._is_closed:
            return
        if error is not None:
            self.lose(f"its verdicts cannot be delivered ({error})")
        elif self._undelivered:
            self._hand_on()
        else:
            behind, self._behind = self._behind, []
            self._do(lambda: behind)

    def _hand_over(self) -> None:
        """Give the broker what it has room for, so many at once; the rest follows, or waits until work gets done."""
        if self._is_handing_over:
            return
        room, weight = self._host.room, 0
        most = min(room.tasks, _AT_ONCE)
        batch: list[TaskSpec] = []
        while self._untaken and len(batch) < most:
            weight += len(self._untaken[0].payload.data)
            if weight > room.payload_bytes:
                break
            batch.append(self._untaken.popleft())
        self._unsaid = min(self._unsaid, len(self._untaken))
        if batch:
            self._host.submit(self.run.run_id, batch)
        for task in batch if self._raised else ():
            if task.task_id in self._raised:
                self._host.reprioritise(self.run.run_id, task.task_id, self._raised.pop(task.task_id))
        if self._untaken and len(batch) == _AT_ONCE:
            self._is_handing_over = True
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._say_what_waits()

    def _say_what_waits(self) -> None:
        """Put what the broker has not taken on record, once."""
        if self._unsaid:
            waiting = list(self._untaken)[-self._unsaid :]
            self._unsaid = 0
            self._host.record(self.run.run_id, TasksWaiting(tasks=tuple(map(task_line, waiting))))

    def _go_on(self) -> None:
        """Hand over some more, after the broker had its turn."""
        self._is_handing_over = False
        if self._untaken:
            self._do(self._catch_up)

    def _cancel(self, task_ids: tuple[str, ...] | None, reason: str) -> None:
        """Have the broker cancel these tasks (None: all), apart from those that it was not given."""
        run_id = self.run.run_id
        held = [task for task in self._untaken if task_ids is None or task.task_id in task_ids]
        if held:
            self._say_what_waits()
            gone = {task.task_id for task in held}
            self._untaken = deque(task for task in self._untaken if task.task_id not in gone)
            self._host.record(run_id, TasksCancelled(task_ids=tuple(task.task_id for task in held), reason=reason))
        self._host.cancel(run_id, task_ids, reason)
        if held:
            self.send(Settled(tuple(cancelled_outcome(run_id, task.task_id, reason) for task in held)))

    def _export(self, effect: Export) -> None:
        """Write a file that the user asked for elsewhere."""
        try:
            content = self.run.read_bytes(effect.source) if effect.source else _as_file(self.run, effect.value)
            if self._outside is None or self._outside.path != Path(effect.root):
                self._outside = RunDirectory(effect.root)
            self._outside.save(effect.ref, content, kind="export")
        except OSError as error:
            raise WorkspaceError(
                f"output {effect.ref} cannot be written to {effect.root} ({error.strerror}); "
                f"all there is lies in the run directory, {self.run.path}"
            ) from error

    def _end(self) -> None:
        self._stop_watching()
        self._is_closed = True
        self._host.flush()
        self._host.close_run(self.run.run_id)
        self._journal.close()
        self.state.forget()
        if (self.run.path / LEAVES).exists():
            sweeping = asyncio.get_running_loop().run_in_executor(None, sweep, self.run)
            sweeping.add_done_callback(self._is_over)
        else:
            self._is_over()

    def _is_over(self, swept: asyncio.Future[None] | None = None) -> None:
        """Let those who wait go on; what could not be swept stays, and nothing points to it."""
        if swept is not None and not swept.cancelled():
            swept.exception()
        if not self.done.done():
            self.done.set_result(None)

    def _stop_watching(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    async def _watch(self) -> None:
        stop = self.run.path / STOP
        while True:
            await asyncio.sleep(_WATCH_S)
            if stop.exists():
                stop.unlink(missing_ok=True)
                self.send(Stop("a STOP file was put into the run directory"))
            else:
                self.send(Tick())
                if self._untaken:  # another run may have made room
                    self._do(self._catch_up)

    def _catch_up(self) -> list[EngineEffect]:
        self._hand_over()
        return []


def _as_file(run: RunDirectory, value: Value | None) -> bytes:
    """An output as the file a person expects: a text as it is, all else as JSON."""
    kept = Value("json", b"null") if value is None else run.fetch(value)
    if kept.form != "json":
        raise LabError("an output that is no JSON has no form as a file for people")  # and nothing is unpickled here
    output = msgspec.json.decode(kept.data)
    return output.encode() if isinstance(output, str) else msgspec.json.format(kept.data) + b"\n"
