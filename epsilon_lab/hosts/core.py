"""A workspace at work, so that it can be in a kernel or in a process of its own and be the same.

A core has two loop threads. `lab-io` serves broker, journals, supervisor and engine, and never runs a user's code;
`lab-leaves` runs async leaves: model calls and async functions. Whatever else its process does (a cell that blocks)
therefore stops neither. Everything else a user brings runs in child processes.

It holds no rules: it opens the parts, in order, hands runs to them, and closes them the other way round.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import anyio
import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal

from epsilon_lab.agents import llm
from epsilon_lab.broker.board import Room
from epsilon_lab.broker.host import BrokerHost
from epsilon_lab.broker.members import WorkerRow
from epsilon_lab.broker.stats import Glance, Stats
from epsilon_lab.cases.docket import CaseNews
from epsilon_lab.clock import SystemClock
from epsilon_lab.errors import InvalidInput, LabError, WorkspaceError
from epsilon_lab.hosts.clerk import Clerk
from epsilon_lab.ids import LOCAL
from epsilon_lab.messages.cases import Finalise, Take
from epsilon_lab.messages.events import Body, LabClosed, LabOpened, RunBorn, RunStarted
from epsilon_lab.processes.environment import granted
from epsilon_lab.processes.isolation import proved
from epsilon_lab.processes.scratch import sweep
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.topologies.catalogue import refuse_askers, restore, validate_models
from epsilon_lab.topologies.engine import Stimulus, Tell
from epsilon_lab.topologies.files import check_files, mend_files, read_outcome
from epsilon_lab.topologies.plan import Deliver, Plan, Requeue, Revise
from epsilon_lab.topologies.recovery import Recovered, beginning, recover
from epsilon_lab.topologies.runner import Runner
from epsilon_lab.transport import curve
from epsilon_lab.transport.base import Listener
from epsilon_lab.transport.joined import JoinedListener
from epsilon_lab.transport.keys import lab_keys
from epsilon_lab.transport.zeromq import listen, private_address
from epsilon_lab.workers.leaves import AsyncLane
from epsilon_lab.workers.place import Place, mark
from epsilon_lab.workers.supervisor import Supervisor
from epsilon_lab.workspace.journal import Durability, Journal, read_journal
from epsilon_lab.workspace.layout import JOURNAL, RunDirectory
from epsilon_lab.workspace.lock import WorkspaceLock
from epsilon_lab.workspace.mounts import caution
from epsilon_lab.workspace.presence import birth
from epsilon_lab.workspace.register import open_register, read_register
from epsilon_lab.workspace.space import Space

T = TypeVar("T")

_AT_ONCE = 100
"""Verdicts that a run is told of between two looks at the disk."""


class LiveRun(NamedTuple):
    """A run that a core is at."""

    name: str
    topology: str
    runner: Runner
    torn: int = 0
    """Bytes that were cut off its journal's end when it was taken up: lines that a crash had cut short."""

    @property
    def runs_strangers(self) -> bool:
        """Programs run that nobody has read."""
        return self.runner.runs_strangers


class Core:
    """Broker, workers and live runs of a workspace. Methods may be called from any thread, and wait.

    Args:
        path: The workspace; made where it is missing.
        workers: Child processes, each running one task at a time.
        durability: What an acknowledged event survives.
        settings: What the broker's rules are tuned by.
        address: Where the broker is to be reached; None for an address of its own.
        control: Path of the socket on which this process takes commands, if it is a sidecar.
        bind: A TCP address where workers of other machines reach the broker too; None for this machine alone.

    Attributes:
        endpoint: Where workers reach the broker: from other machines, where it is bound to an address for them.
        near: Where this machine's own reach it.
        failure: What broke the core down; None while it works.
        torn: Bytes that were cut off the end of the lab's own journal when it was opened.
        threads: Idents of its loop threads, which nobody may keep waiting.

    Raises:
        WorkspaceLocked: Another process has the workspace; the message names its pid and host.
        WorkspaceError: The directory cannot be written to.
        InvalidInput: `disk` cannot be promised where it lies.
        JournalDamaged: The lab's own journal is broken.
    """

    def __init__(
        self,
        path: Path,
        *,
        workers: int,
        durability: Durability,
        settings: BrokerSettings,
        address: str | None = None,
        control: str | None = None,
        bind: str | None = None,
    ) -> None:
        self.path = path
        self._bind = bind
        self.failure: BaseException | None = None
        self._workers = workers
        self._durability: Durability = durability
        self._settings = settings
        self._clock = SystemClock()
        self._live: dict[str, LiveRun] = {}
        self._resuming = threading.Lock()
        self._clerk = Clerk(self._clock)
        caution(path, durability)
        self._lock = WorkspaceLock(path, control, lost=self._lose)
        self._lock.acquire()
        with ExitStack() as stack:
            stack.callback(self._lock.release)
            stack.callback(self._clerk.close)
            if bind is not None:
                self._keys = lab_keys(path / "lab" / "keys")
            journal_path = path / "lab" / JOURNAL
            past = open_register(journal_path.parent)
            self._epoch = past.epoch + 1
            self._topics = past.last_values
            self._lab_journal = Journal.open(journal_path, durability, after=past.end)
            stack.callback(self._lab_journal.close)
            self.torn = self._lab_journal.torn
            self.near: str = address or stack.enter_context(private_address())
            self._io: BlockingPortal = stack.enter_context(start_blocking_portal("asyncio", name="lab-io"))
            self._leaves: BlockingPortal = stack.enter_context(start_blocking_portal("asyncio", name="lab-leaves"))
            self.threads = frozenset((self._io.call(threading.get_ident), self._leaves.call(threading.get_ident)))
            self._io_stop: anyio.Event = self._io.call(anyio.Event)
            stack.callback(sweep)  # workers end by being killed, and leave their sandboxes' directories behind
            serving, _ = self._io.start_task(self._serve)
            stack.callback(_ended, serving)
            stack.callback(lambda: self._io.call(self._io_stop.set))
            stack.callback(self._leaves.call, llm.aclose)
            lane = AsyncLane(self.near, f"{self._session}/leaves")
            lane_stop: anyio.Event = self._leaves.call(anyio.Event)
            leaving = self._leaves.start_task_soon(_until, lane.serve, lane_stop)
            stack.callback(_ended, leaving)
            stack.callback(lambda: self._leaves.call(lane_stop.set))
            self._io.start_task_soon(anyio.to_thread.run_sync, proved)
            self._stack = stack.pop_all()

    def __repr__(self) -> str:
        return f"<Core of {str(self.path)!r}: {self}>"

    def __str__(self) -> str:
        return f"{self._workers} workers, {len(self.live())} live runs"

    def close(self) -> None:
        """Stop broker and workers and let go of the workspace; closing twice does nothing.

        Runs that have not ended are `interrupted`: everything acknowledged is on disk.
        """
        self._stack.close()

    def _lose(self) -> None:
        """Let go of all that is written to: someone else has taken the workspace, whose lease had run out."""
        self.failure = WorkspaceError(
            f"its lease on the workspace {str(self.path)!r} ran out, and another process has taken it"
        )
        if (io := getattr(self, "_io", None)) is not None:
            io.call(self._let_go, str(self.failure))

    def _let_go(self, reason: str) -> None:
        self._lab_journal.refuse(reason)
        self._clerk.close(reason)
        for run_id in self.live():
            self._live[run_id].runner.lose(reason)

    # -- runs --------------------------------------------------------------------------------------------------------

    def live(self) -> dict[str, str]:
        """The runs it is at: run id -> name."""
        return {run_id: run.name for run_id, run in list(self._live.items()) if not run.runner.done.done()}

    def begin(self, run: RunDirectory, plan: Plan, started: RunStarted, events: Sequence[Body]) -> Runner:
        """Begin a run, whose directory is prepared.

        Args:
            run: Its directory.
            plan: Its rules.
            started: Its first line; the epoch in it is filled in.
            events: The lines that follow.

        Raises:
            InvalidInput: A live run has its name, or a variable that its tasks are granted is not set.
            WorkspaceError: Its journal cannot be written, or its disk is nearly full.
        """
        self._need_room()
        env = granted(started.env)
        journal = Journal.open(run.journal, self._durability)
        runner = Runner(
            run,
            journal,
            plan,
            host=self._host,
            clock=self._clock,
            found=Recovered.new(run.run_id, plan, started.budget),
            env=env,
            deliver=self._deliver,
        )
        started = msgspec.structs.replace(started, epoch=self._host.epoch)
        live = LiveRun(started.name, started.topology, runner)
        self.on_loop(self._begin, live, partial(runner.begin, [started, *events]))
        return runner

    def announce(self, run_id: str) -> None:
        """Put on record that a run is this workspace's own, before its first line is written elsewhere.

        Raises:
            InvalidInput: There is a run of that id.
        """
        if RunDirectory(self.path / run_id).journal.exists():
            raise InvalidInput("run_id", f"{run_id!r} has begun", "lab.resume() goes on with it")

        def note() -> None:
            self._host.record(None, RunBorn(run_id=run_id, is_begun=False))
            self._host.flush()

        self.on_loop(note)

    def is_at(self, run_id: str) -> bool:
        """Tell whether a run is live here."""
        return self.at(run_id) is not None

    def resume(
        self,
        run_id: str,
        *,
        trust: bool,
        place: Place | None = None,
        news: Requeue | Revise | Finalise | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> LiveRun:
        """Go on with a run that its lab left unfinished, unless that is happening already.

        Args:
            run_id: The run.
            trust: Also where it was born elsewhere, although its functions are pickles.
            place: Where its code belongs, if that is not this process's own place.
            news: Tasks that are taken up again, or that those are which its verdicts bear on; a run that has ended goes
                on for it too.
            environ: Where the variables are set that its tasks were granted; None for the environment of this process.

        Raises:
            InvalidInput: It has ended, was born elsewhere and is not trusted, a live run has its name, its model could
                not be called, or a variable that its tasks were granted is not set.
            JournalDamaged: Its journal is broken elsewhere than at its torn tail; nothing was changed.
            LabError: Its files are not those that its journal speaks of, or another version has to resume it; nothing
                was changed.
        """
        with self._resuming:
            live = self._still_at(run_id)
            if live is None:
                self._need_room()
            return live or self._resume(RunDirectory(self.path / run_id), trust, place, news, environ)

    def _still_at(self, run_id: str) -> LiveRun | None:
        """A run that it is at; an end that is on its way is waited for."""
        live = self.at(run_id)
        if live is not None and live.runner.is_ending:
            live.runner.done.result()
            return None
        return live

    def _need_room(self) -> None:
        if self._host.shortage:
            raise WorkspaceError(self._host.shortage)

    def _resume(
        self,
        run: RunDirectory,
        trust: bool,
        place: Place | None,
        news: Requeue | Revise | Finalise | None,
        environ: Mapping[str, str] | None,
    ) -> LiveRun:
        self._clerk.let_go(run.run_id)
        records, end, _ = read_journal(run.journal)
        started = beginning(run.run_id, records, over=news is not None)
        if not trust and not owns(self.path, run.run_id):
            raise InvalidInput(
                f"run {run.run_id}",
                "was born in another workspace, and to resume it is to load its functions from pickles, "
                "which can do anything when they are loaded",
                "if you trust whoever made it: "
                + (f"lab.resume({run.run_id!r}, trust=True)" if news is None else "say trust=True"),
            )
        self._refuse_namesake(started.name)
        env = granted(started.env, environ)
        plan = restore(run, started, records)
        found = recover(run.run_id, plan, records, read=partial(read_outcome, run))
        asks_nobody = isinstance(news, Finalise) and not news.ask
        if asks_nobody:
            refuse_askers(run, found.state.again())
        if news is not None:
            found.tell(news)
        check_files(run, found)
        if not asks_nobody:
            validate_models(run, plan, started.budget)
        mend_files(run, found)
        mark(run, place)
        journal = Journal.open(run.journal, self._durability, after=end)
        runner = Runner(
            run, journal, plan, host=self._host, clock=self._clock, found=found, env=env, deliver=self._deliver
        )
        live = LiveRun(started.name, started.topology, runner, journal.torn)
        self.on_loop(self._begin, live, runner.adopt)
        return live

    def _begin(self, live: LiveRun, begin: Callable[[], None]) -> None:
        runner, run_id = live.runner, live.runner.run.run_id
        try:
            self._refuse_namesake(live.name)
            self._host.record(None, RunBorn(run_id=run_id))
            self._live[run_id] = live
            begin()
        except BaseException:
            self._live.pop(run_id, None)
            runner.abandon()
            raise
        runner.done.add_done_callback(lambda _: self._live.pop(run_id, None))

    def at(self, run_id: str) -> LiveRun | None:
        """A run that it is at; None where it is not."""
        live = self._live.get(run_id)
        return None if live is None or live.runner.done.done() else live

    def _refuse_namesake(self, name: str) -> None:
        namesake = next((run_id for run_id, taken in self.live().items() if taken == name), None)
        if namesake is not None:
            raise InvalidInput(
                "name", f"{name!r} is the name of the live run {namesake}", "choose another, or stop that one"
            )

    def obey(self, run_id: str, stimulus: Stimulus) -> bool:
        """Let a live run's rules answer what a person says; it is on record then. What is said about a run's cases is
        put on record, and on disk, also where nobody is at the run.

        Returns:
            False where there is no such live run.

        Raises:
            LabError: As for `Runner.obey` and `Clerk.obey`.
        """
        live = self.at(run_id)
        if live is not None and not live.runner.is_ending and self.on_loop(live.runner.obey, stimulus):
            return True
        if not isinstance(stimulus, Tell) or not isinstance(news := stimulus.news, CaseNews):
            return False
        if threading.get_ident() in self.threads:
            raise LabError(f"a decision about run {run_id}, which nobody is at, waits for the disk: not on this thread")
        with self._resuming:
            if (live := self._still_at(run_id)) is not None:
                return self.on_loop(live.runner.obey, stimulus)
            self._clerk.obey(RunDirectory(self.path / run_id), news)
        return True

    def _deliver(self, verdicts: Sequence[Deliver]) -> None:
        """Tell runs what was decided about their cases, some at a time: each time waits for the disk, and a live run's
        loop has other work. A case that takes no verdict any more is passed over.

        Raises:
            LabError: A run cannot be told.
        """
        for run_id, group in groupby(verdicts, lambda each: each.run_id):
            decisions = [each.decision for each in group]
            for place in range(0, len(decisions), _AT_ONCE):
                if not self.obey(run_id, Tell(Take(tuple(decisions[place : place + _AT_ONCE])))):
                    raise LabError(f"nobody is at run {run_id} to take them")

    # -- workers -----------------------------------------------------------------------------------------------------

    def drain(self, worker: str) -> None:
        """Let a worker on another machine finish what it has begun, and go.

        Args:
            worker: A session, or the id of any of its members, as `workers` lists them.

        Raises:
            InvalidInput: There is no such worker, or it is one of the core's own.
        """
        session = worker.partition("/")[0]
        if session == self._session:
            raise InvalidInput(f"worker {worker}", "is the lab's own, and ends with it", "close() the lab")
        known = {row.worker_id.partition("/")[0] for row in self.workers()}
        if session not in known:
            raise InvalidInput(f"worker {worker}", f"is not known; at work are {', '.join(sorted(known))}")
        self.on_loop(self._host.drain, session)

    # -- looking -----------------------------------------------------------------------------------------------------

    def workers(self) -> list[WorkerRow]:
        """Who is at work; `last_seen` in wall seconds."""
        return self.on_loop(self._host.workers)

    @property
    def room(self) -> Room:
        """What may still be submitted, over all runs."""
        return self._host.room

    def stats(self) -> Stats:
        """What waits and what runs, and what happened since it was opened."""
        return self.on_loop(self._host.stats)

    def glance(self) -> Glance:
        """All that a live view shows, as it is at one moment."""
        return self.on_loop(lambda: Glance(self._host.stats(), self._host.workers(), self.live()))

    def stood_still_s(self) -> float:
        """Seconds in all for which this process did not let the broker take its turn."""
        return self.on_loop(self._host.stood_still_s)

    @property
    def trouble(self) -> str:
        """Why nothing is begun; empty while all is well."""
        if told := self._host.shortage or self._host.lab_failure or self._host.untold:
            return told
        return f"workers do not start: {self._supervisor.failure}" if self._supervisor.failure else ""

    def on_loop(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on `lab-io` and wait for it."""
        if threading.get_ident() in self.threads:
            return function(*arguments)
        return self._io.call(function, *arguments)

    # -- the loop ----------------------------------------------------------------------------------------------------

    @property
    def _session(self) -> str:
        return f"{LOCAL}{os.getpid()}-{self._epoch}"

    def _listen(self) -> Listener:
        near = listen(self.near)
        if self._bind is None:
            return near
        try:
            return JoinedListener(near, curve.listen(self._bind, self._keys))
        except BaseException:
            near.close()
            raise

    async def _serve(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Everything that lives on `lab-io`."""
        with self._listen() as listener:
            self.endpoint = listener.address
            self._host = BrokerHost(
                listener,
                lab_journal=self._lab_journal,
                settings=self._settings,
                clock=self._clock,
                epoch=self._epoch,
                space=Space(self.path, self._settings.disk_reserve_bytes).shortage,
            )
            me = os.getpid()
            self._host.restore_topics(self._topics)
            here = socket.gethostname()
            opened = LabOpened(epoch=self._epoch, pid=me, host=here, born=birth(me), torn=self.torn)
            self._host.record(None, opened)
            self._host.flush()
            self._supervisor = Supervisor(
                self.near, self._session, self._workers, settings=self._settings, lock=self._lock.fileno()
            )
            try:
                async with anyio.create_task_group() as broker:
                    broker.start_soon(self._host.serve)
                    async with anyio.create_task_group() as group:
                        group.start_soon(self._supervisor.serve)
                        task_status.started()
                        await self._io_stop.wait()
                        self._host.retire()
                        self._abandon_runs()
                        group.cancel_scope.cancel()
                    self._host.record(None, LabClosed())
                    self._host.flush()
                    broker.cancel_scope.cancel()
            except BaseException as error:
                self.failure = error
                self._abandon_runs()
                raise

    def _abandon_runs(self) -> None:
        for run_id in self.live():
            self._live[run_id].runner.abandon()


def owns(workspace: Path, run_id: str) -> bool:
    """Tell whether a run was born in this workspace, so that its pickles are no stranger's."""
    return run_id in read_register(workspace / "lab").births


def _ended(task: Future[Any]) -> None:
    with suppress(Exception):
        task.result()


async def _until(serve: Callable[[], Any], stop: anyio.Event) -> None:
    """Serve until told to stop."""
    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        await stop.wait()
        group.cancel_scope.cancel()
