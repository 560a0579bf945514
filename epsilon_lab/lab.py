"""The composition root: it wires the rooms together and holds no rules.

A lab has two loop threads. `lab-io` serves broker, journals, supervisor and engine, and never runs a user's code;
`lab-leaves` runs async leaves: model calls and async functions. A cell that blocks the kernel's own loop therefore
stops neither. Everything else a user brings runs in child processes.
"""

from __future__ import annotations

import atexit
import html
import os
import secrets
import shutil
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal

from epsilon_lab import ids
from epsilon_lab.agents import llm
from epsilon_lab.arguments import whole
from epsilon_lab.broker.host import BrokerHost
from epsilon_lab.clock import SystemClock
from epsilon_lab.errors import InvalidInput, LabError, WorkspaceError
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import LabClosed, LabOpened, RunBorn, RunStarted
from epsilon_lab.messages.values import is_text
from epsilon_lab.processes.isolation import Isolation, proved
from epsilon_lab.processes.scratch import sweep
from epsilon_lab.runs import Run, open_run
from epsilon_lab.settings import broker_settings
from epsilon_lab.topologies.catalogue import restore, validate_models
from epsilon_lab.topologies.files import check_files, mend_files
from epsilon_lab.topologies.plan import Plan, Topology
from epsilon_lab.topologies.recovery import Recovered, beginning, recover
from epsilon_lab.topologies.runner import Runner
from epsilon_lab.transport.zeromq import listen, private_address
from epsilon_lab.views.ticker import Ticker
from epsilon_lab.workers.leaves import AsyncLane
from epsilon_lab.workers.supervisor import Supervisor
from epsilon_lab.workspace.journal import Journal, read_journal
from epsilon_lab.workspace.layout import JOURNAL, RunDirectory
from epsilon_lab.workspace.lock import WorkspaceLock
from epsilon_lab.workspace.presence import birth
from epsilon_lab.workspace.tables import Tables

if TYPE_CHECKING:
    import pandas as pd

    from epsilon_lab.views.figures import ScoreFigure
    from epsilon_lab.views.live import LivePanel

T = TypeVar("T")

_OPEN: dict[Path, Lab] = {}
_OPENING = threading.RLock()
os.register_at_fork(after_in_child=_OPEN.clear)


class Lab:
    """A workspace directory, and a broker and workers that run in this process and its children.

    Constructing it opens it: the same path in the same process gives the same live lab.

    Args:
        path: The workspace; made where it is missing.
        workers: Child processes, each running one task at a time.
        durability: What an acknowledged event survives: `memory`, `process` (kill -9 of this process) or `disk`.
        broker: `kernel`: the broker lives in this process.
        bind: None: reached from this machine and user alone.
        read_only: Look on: tables, frames, past and live runs, without broker and lock.

    Raises:
        WorkspaceLocked: Another process has it; the message names its pid and host.
        WorkspaceError: The directory cannot be written to.
        InvalidInput: An argument has a wrong type or value.
        LabError: It is open in this process with other arguments.
    """

    __epsilon_live__ = True

    _arguments: dict[str, Any]

    def __new__(cls, path: str | os.PathLike[str] = "runs", **arguments: Any) -> Lab:
        """Give the live lab of that path, if there is one."""
        with _OPENING:
            live = _OPEN.get(_absolute(path))
            if live is None or arguments.get("read_only"):
                return super().__new__(cls)
            live._reopen(path, arguments)  # noqa: SLF001 - its own class
            return live

    def __init__(
        self,
        path: str | os.PathLike[str] = "runs",
        *,
        workers: int = 4,
        durability: str = "process",
        broker: str = "kernel",
        bind: str | None = None,
        read_only: bool = False,
    ) -> None:
        if hasattr(self, "_arguments"):
            return
        if sys.platform == "win32":
            raise LabError("epsilon_lab does not run on Windows itself; use WSL2, where it runs as on Linux")
        most = max(32, 8 * (os.cpu_count() or 1))
        workers = whole("workers", workers, least=1, most=most)
        if durability not in ("memory", "process", "disk"):
            raise InvalidInput("durability", f"must be 'memory', 'process' or 'disk', got {durability!r}")
        if broker != "kernel":
            raise InvalidInput("broker", f"{broker!r} is not known to this version", "use broker='kernel'")
        if bind is not None:
            raise InvalidInput("bind", "this version is reached from this machine alone", "leave it None")
        self.path = _absolute(path)
        self.read_only = bool(read_only)
        self._workers = workers
        self._durability: Any = durability
        self._settings = broker_settings(os.environ)
        self._clock = SystemClock()
        self._live: dict[str, Run] = {}
        self._runners: dict[str, Runner] = {}
        self._panels: list[LivePanel] = []
        self._ticker = Ticker()
        self._stack = ExitStack()
        self._closing = threading.Lock()
        self._resuming = threading.Lock()
        self._closed = False
        self._failure: BaseException | None = None
        self._pid = os.getpid()
        self._is_fresh = True
        self._opened_by_with: list[bool] = []
        with _OPENING:
            if self.read_only:
                if not self.path.is_dir():
                    raise WorkspaceError(f"there is no workspace at {str(self.path)!r} to look at")
                self.store = Tables(self.path)
            else:
                self._open()
                _OPEN[self.path] = self
            self._arguments = {"workers": workers, "durability": durability, "broker": broker, "bind": bind}
        atexit.register(self.close)

    def _reopen(self, path: str | os.PathLike[str], arguments: dict[str, Any]) -> None:
        """The same lab is asked for again: a `with` around this one will not close it."""
        self._is_fresh = False
        for name, value in arguments.items():
            if name in self._arguments and value != self._arguments[name]:
                raise LabError(
                    f"workspace {os.fspath(path)!r} is open in this process with {name}={self._arguments[name]!r}, "
                    f"not {value!r}; close() that lab first, or leave {name} out"
                )

    def _open(self) -> None:
        self._lock = WorkspaceLock(self.path)
        self._lock.acquire()
        with ExitStack() as stack:
            stack.callback(self._lock.release)
            journal_path = self.path / "lab" / JOURNAL
            self._epoch = _next_epoch(journal_path)
            self._lab_journal = Journal.open(journal_path, self._durability)
            stack.callback(self._lab_journal.close)
            self.store = Tables(self.path, live_run_ids=self._live_run_ids)
            stack.callback(self._close_views)
            self._endpoint: str = stack.enter_context(private_address())
            self._io: BlockingPortal = stack.enter_context(start_blocking_portal("asyncio", name="lab-io"))
            self._leaves: BlockingPortal = stack.enter_context(start_blocking_portal("asyncio", name="lab-leaves"))
            self._threads = {self._io.call(threading.get_ident), self._leaves.call(threading.get_ident)}
            self._io_stop: anyio.Event = self._io.call(anyio.Event)
            stack.callback(sweep)  # workers end by being killed, and leave their sandboxes' directories behind
            serving, _ = self._io.start_task(self._serve)
            stack.callback(self._ended, serving)
            stack.callback(lambda: self._io.call(self._io_stop.set))
            stack.callback(self._leaves.call, llm.aclose)
            lane = AsyncLane(self._endpoint, f"{self._session}/leaves")
            lane_stop: anyio.Event = self._leaves.call(anyio.Event)
            leaving = self._leaves.start_task_soon(_until, lane.serve, lane_stop)
            stack.callback(self._ended, leaving)
            stack.callback(lambda: self._leaves.call(lane_stop.set))
            self._io.start_task_soon(anyio.to_thread.run_sync, proved)
            self._stack = stack.pop_all()

    @property
    def _session(self) -> str:
        return f"local-{os.getpid()}-{self._epoch}"

    def _live_run_ids(self) -> list[str]:
        return [run_id for run_id, runner in self._runners.items() if not runner.done.done()]

    async def _serve(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Everything that lives on `lab-io`."""
        settings = self._settings
        with listen(self._endpoint) as listener:
            self._host = BrokerHost(
                listener, lab_journal=self._lab_journal, settings=settings, clock=self._clock, epoch=self._epoch
            )
            me = os.getpid()
            self._host.record(None, LabOpened(epoch=self._epoch, pid=me, host=socket.gethostname(), born=birth(me)))
            self._host.flush()
            self._supervisor = Supervisor(
                self._endpoint, self._session, self._workers, settings=settings, lock=self._lock.fileno()
            )
            try:
                async with anyio.create_task_group() as broker:
                    broker.start_soon(self._host.serve)
                    async with anyio.create_task_group() as group:
                        group.start_soon(self._supervisor.serve)
                        task_status.started()
                        await self._io_stop.wait()
                        self._abandon_runs()
                        group.cancel_scope.cancel()
                    self._host.record(None, LabClosed())
                    self._host.flush()
                    broker.cancel_scope.cancel()
            except BaseException as error:
                self._failure = error
                self._abandon_runs()
                raise

    def _abandon_runs(self) -> None:
        for run_id in self._live_run_ids():
            self._runners[run_id].abandon()

    def _ended(self, task: Future[Any]) -> None:
        with suppress(Exception):
            task.result()

    # -- closing ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop broker and workers and let go of the workspace; closing twice does nothing.

        Runs that have not ended are `interrupted`: everything acknowledged is on disk, and `lab.resume` goes on.
        """
        if os.getpid() != self._pid:
            return  # a fork has none of the lab's threads; the lab belongs to its parent
        self.refuse_on_loop("lab.close()")
        with self._closing:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        self._ticker.close()
        if self.read_only:
            self._close_views()
            return
        self._stack.close()
        with _OPENING:
            if _OPEN.get(self.path) is self:
                del _OPEN[self.path]

    def _close_views(self) -> None:
        """Freeze what is shown once the runs have ended, and let go of the tables; handles read new ones."""
        for panel in self._panels:
            panel.close()
        self.store.close()
        self.store = Tables(self.path)

    def __enter__(self) -> Lab:
        self._opened_by_with.append(self._is_fresh)
        self._is_fresh = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened_by_with.pop():
            self.close()

    async def __aenter__(self) -> Lab:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened_by_with.pop():
            await anyio.to_thread.run_sync(self.close)

    # -- running ---------------------------------------------------------------------------------------------------

    def start(
        self,
        topology: Topology,
        *,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        budget: Budget | None = None,
        env: Sequence[str] = (),
    ) -> Run:
        """Start a run and return at once.

        Args:
            topology: What to run: `PopulationSearch(...)`, `WorkQueue(...)`.
            name: A name to find it by; None for the topology's own.
            tags: Words to find it by, in the `runs` table.
            budget: What the run may spend; `Budget(calls=, tokens=, usd=, seconds=)`.
            env: Not in this version.

        Raises:
            InvalidInput: An argument is wrong, a live run has that name, or a model could not be called.
            LabError: The lab is closed, or opened read-only.
        """
        self._writable("start a run")
        for method in ("prepare", "validate", "config"):
            if not callable(getattr(topology, method, None)) or isinstance(topology, type):
                raise InvalidInput("topology", f"must be one such as PopulationSearch(...), got {topology!r}")
        if budget is not None and not isinstance(budget, Budget):
            raise InvalidInput("budget", f"must be a Budget or None, got {budget!r}", "for example Budget(calls=100)")
        if env:
            raise InvalidInput("env", "this version passes no secrets to tasks yet", "leave it empty")
        if tags is not None and not (
            isinstance(tags, Mapping) and all(is_text(word) for pair in tags.items() for word in pair)
        ):
            raise InvalidInput("tags", f"must map words to words, got {tags!r}")
        topology.validate(budget)
        title = self._free_name(topology.title if name is None else name, given=name is not None)
        now = self._clock.wall()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
        run_id = ids.run_id(title, stamp=stamp, salt=secrets.token_hex(2))
        directory = RunDirectory(self.path / run_id)
        try:
            directory.path.mkdir()
            plan, events = topology.prepare(directory)
            self._warn_of_strangers(plan, stacklevel=3)
            journal = Journal.open(directory.journal, self._durability)
        except BaseException as error:
            shutil.rmtree(directory.path, ignore_errors=True)
            if isinstance(error, OSError):
                raise WorkspaceError(f"run directory {directory.path} cannot be written ({error.strerror})") from error
            raise
        runner = Runner(
            directory, journal, plan, host=self._host, clock=self._clock, found=Recovered.new(run_id, plan, budget)
        )
        started = RunStarted(
            run_id=run_id,
            topology=topology.topology,
            name=title,
            tags=dict(tags or {}),
            seed=topology.seed,
            config=topology.config(),
            epoch=self._host.epoch,
            parent_run_id=topology.parent_run_id,
            budget=budget,
        )
        run = open_run(self, directory, topology.topology, runner)
        try:
            self.on_loop(self._begin, run, runner, partial(runner.begin, [started, *events]))
        except BaseException:
            shutil.rmtree(directory.path, ignore_errors=True)
            raise
        return run

    def resume(self, run_id: str, trust: bool = False) -> Run:
        """Go on with a run that its lab left unfinished; nothing that was finished is executed again.

        Whatever had stopped it, it goes on: the end of its lab, or a pause. One that is live here is given back as it
        is, so that a cell can be run again.

        Args:
            run_id: Its id, or its name.
            trust: Resume a run that was born in another workspace, although its functions are pickles, which can do
                anything when they are loaded. From then on it counts as this workspace's own.

        Raises:
            InvalidInput: There is no such run, it has ended, it was born elsewhere and is not trusted, a live run has
                its name, or its model could not be called.
            JournalDamaged: Its journal is broken elsewhere than at its torn tail; nothing was changed.
            LabError: The lab is closed or read-only; or the run's files are not those that its journal speaks of, or
                another version of epsilon_lab has to resume it; nothing was changed.
        """
        self._writable("resume a run")
        self.refuse_on_loop("lab.resume()")
        if not isinstance(trust, bool):
            raise InvalidInput("trust", f"must be True or False, got {trust!r}")
        with self._resuming:
            return self._resume(run_id, trust=trust)

    def _resume(self, run_id: str, *, trust: bool) -> Run:
        directory = RunDirectory(self.path / self._known_run(run_id))
        live = self._live.get(directory.run_id)
        if live is not None and live.is_live_here:
            live.resume()
            return live
        records = read_journal(directory.journal).records
        started = beginning(directory.run_id, records)
        if not trust and not self.owns(directory.run_id):
            raise InvalidInput(
                f"run {directory.run_id}",
                "was born in another workspace, and to resume it is to load its functions from pickles, "
                "which can do anything when they are loaded",
                f"if you trust whoever made it: lab.resume({directory.run_id!r}, trust=True)",
            )
        if namesake := self._live_names().get(started.name):
            raise InvalidInput(
                f"run {directory.run_id}", f"has the name {started.name!r} of the live run {namesake}", "stop that one"
            )
        plan = restore(directory, started, records)
        found = recover(directory.run_id, plan, records, read=directory.fetch)
        check_files(directory, found)
        validate_models(directory, plan, started.budget)
        self._warn_of_strangers(plan, stacklevel=4)
        mend_files(directory, found)
        journal = Journal.open(directory.journal, self._durability)
        runner = Runner(directory, journal, plan, host=self._host, clock=self._clock, found=found)
        run = open_run(self, directory, started.topology, runner)
        self.on_loop(self._begin, run, runner, runner.adopt)
        return run

    def _warn_of_strangers(self, plan: Plan, *, stacklevel: int) -> None:
        if plan.runs_strangers and not self.isolation.is_fit_for_strangers:
            warnings.warn(
                f"programs that nobody has read will run confined by {self.isolation} alone, which protects from "
                f"accidents and not from malice; {self.isolation.remedy or 'landlock and seccomp would'}",
                RuntimeWarning,
                stacklevel=stacklevel,
            )

    def _known_run(self, key: str) -> str:
        """The id of a run by its id or name; a run whose journal cannot be read has no name."""
        if not is_text(key) or "\0" in key:
            raise InvalidInput("run_id", f"must be a run's id or name, got {key!r}")
        if Path(key).name == key and key not in ("lab", "..") and (self.path / key / JOURNAL).is_file():
            return key
        try:
            return self.runs[key].run_id
        except KeyError as error:
            raise InvalidInput("run_id", str(error.args[0])) from None

    def _begin(self, run: Run, runner: Runner, begin: Callable[[], None]) -> None:
        self._host.record(None, RunBorn(run_id=run.run_id))
        self._runners[run.run_id], self._live[run.run_id] = runner, run
        try:
            begin()
        except BaseException:
            del self._runners[run.run_id], self._live[run.run_id]
            runner.abandon()
            raise

    def _live_names(self) -> dict[str, str]:
        return {run.name: run.run_id for i, run in self._live.items() if not self._runners[i].done.done()}

    def _free_name(self, name: str, *, given: bool) -> str:
        if not is_text(name) or not name.strip() or "\0" in name:
            raise InvalidInput("name", f"must be a non-empty str, got {name!r}")
        taken = self._live_names()
        if name not in taken:
            return name
        if given:
            raise InvalidInput(
                "name", f"{name!r} is the name of the live run {taken[name]}", "choose another, or stop it"
            )
        return next(free for n in range(2, len(taken) + 3) if (free := f"{name}-{n}") not in taken)

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> Runs:
        """All runs of the workspace, by run_id or name, past and present."""
        return Runs(self)

    def sql(self, query: str, params: Sequence[object] | dict[str, object] | None = None) -> pd.DataFrame:
        """Answer one SQL statement that reads, over all runs; see `lab.tables`.

        Raises:
            InvalidInput: The query is not one reading statement, or DuckDB refuses it.
        """
        self._check()
        return self.store.sql(query, params)

    @property
    def tables(self) -> pd.DataFrame:
        """The tables there are: name, rows, what a row is, columns, an example line."""
        self._check()
        return self.store.names()

    @property
    def endpoint(self) -> str:
        """Where workers reach the broker."""
        self._writable("be reached")
        return self._endpoint

    @property
    def workers(self) -> pd.DataFrame:
        """Who is at work: worker_id, pid, host, slots, running, last_seen (UTC)."""
        self._writable("see its workers")
        import pandas as pd  # noqa: PLC0415 - pandas loads when someone looks

        frame = pd.DataFrame(
            self.on_loop(self._host.workers), columns=["worker_id", "pid", "host", "slots", "running", "last_seen"]
        )
        frame["last_seen"] = pd.to_datetime(frame["last_seen"], unit="s")
        return frame

    @property
    def isolation(self) -> Isolation:
        """What confinement of candidates holds on this machine, what is missing, and what would give it.

        Proved since the lab was opened, by a sandbox that attacks itself; whoever asks earlier waits for it.
        """
        return proved()

    def compare(self, runs: Sequence[Run | str] | Run | str) -> ScoreFigure:
        """Draw the score curves of several searches in one figure.

        Args:
            runs: Runs, run ids or names.
        """
        from epsilon_lab.views.figures import compare_figure  # noqa: PLC0415 - matplotlib loads when someone draws

        wanted = [runs] if isinstance(runs, str | Run) else list(runs)
        for run in wanted:
            if not isinstance(run, str | Run):
                raise InvalidInput("runs", f"must be runs, run ids or names, got {run!r}")
        return compare_figure([(self.runs[run] if isinstance(run, str) else run).observe() for run in wanted])

    def __repr__(self) -> str:
        if self.read_only:
            return f"<Lab {str(self.path)!r}: read only>"
        live = sum(not runner.done.done() for runner in self._runners.values())
        state = "closed" if self._closed else f"{self._workers} workers, {live} live runs"
        return f"<Lab {str(self.path)!r}: {state}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    # -- what runs need of their lab -------------------------------------------------------------------------------

    def on_loop(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on `lab-io` and wait for it."""
        self._check()
        if threading.get_ident() in self._threads:
            return function(*arguments)
        return self._io.call(function, *arguments)

    def refuse_on_loop(self, what: str) -> None:
        """Raise where waiting would stop the lab itself."""
        if not self.read_only and threading.get_ident() in self._threads:
            raise LabError(f"{what} would stop the lab, since this is one of its own threads; await the run instead")

    def owns(self, run_id: str) -> bool:
        """Whether the run was born in this workspace."""
        births = (r for r in read_journal(self.path / "lab" / JOURNAL).records if r.type == "lab.run")
        return any(msgspec.json.decode(birth.body, type=RunBorn).run_id == run_id for birth in births)

    def start_panel(self, run: Run) -> LivePanel:
        """Show a run's state, kept up to date while it lasts."""
        from epsilon_lab.views.live import LivePanel  # noqa: PLC0415 - drawing loads when someone looks

        actions = {"pause": run.pause, "resume": run.resume, "stop": run.stop} if run.is_live_here else {}
        panel = LivePanel(run.observe, actions)
        self._panels.append(panel)
        self._ticker.add(panel.update)
        return panel

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise LabError(f"the lab at {str(self.path)!r} belongs to process {self._pid}; a fork cannot use it")
        if self._closed:
            raise LabError(f"the lab at {str(self.path)!r} is closed; open it again with Lab({str(self.path)!r})")
        if self._failure is not None:
            raise LabError(
                f"the lab at {str(self.path)!r} broke down ({type(self._failure).__name__}: {self._failure}); "
                f"close() it and open it again"
            ) from self._failure

    def _writable(self, what: str) -> None:
        self._check()
        if self.read_only:
            raise LabError(f"this lab only looks on and cannot {what}; open it with Lab({str(self.path)!r})")
        if self._supervisor.failure:
            warnings.warn(f"workers do not start: {self._supervisor.failure}", RuntimeWarning, stacklevel=3)


class Runs(Mapping[str, Run]):
    """A workspace's runs by run_id or name, the newest first where a name was used again."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __getitem__(self, key: str) -> Run:
        if not isinstance(key, str):
            raise KeyError(f"a run is found by its run_id or name, not by {key!r}")
        live = self._lab._live.get(key)  # noqa: SLF001 - one room's own
        if live is not None:
            return live
        rows = self._lab.store.sql(
            "select run_id, topology from runs where run_id = $key or name = $key "
            "order by run_id = $key desc, started_at desc limit 1",
            {"key": key},
        )
        if rows.empty:
            known = ", ".join(list(self)[:5]) or "none yet"
            raise KeyError(f"no run {key!r} in {self._lab.path}; it has {known}")
        run_id, topology = rows.iloc[0]
        return self._lab._live.get(run_id) or open_run(  # noqa: SLF001 - one room's own
            self._lab, RunDirectory(self._lab.path / run_id), topology
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._lab.store.sql("select run_id from runs order by started_at desc, run_id")["run_id"].tolist())

    def __len__(self) -> int:
        return len(self._lab.store.sql("select run_id from runs"))

    def __repr__(self) -> str:
        return f"<Runs of {str(self._lab.path)!r}>"

    def _repr_html_(self) -> str:
        frame = self._lab.store.sql(
            "select run_id, name, topology, status, reason, started_at from runs order by started_at desc"
        )
        return str(frame.to_html(index=False, max_rows=20, escape=True))


def _absolute(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike) or "\0" in os.fspath(path):
        raise InvalidInput("path", f"must be a directory's path, got {path!r}")
    return Path(path).expanduser().resolve()


def _next_epoch(journal: Path) -> int:
    """One more than any epoch the lab's journal names."""
    epochs = (
        msgspec.json.decode(record.body, type=LabOpened).epoch
        for record in read_journal(journal).records
        if record.type == "lab.opened"
    )
    return max(epochs, default=0) + 1


async def _until(serve: Callable[[], Any], stop: anyio.Event) -> None:
    """Serve until told to stop."""
    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        await stop.wait()
        group.cancel_scope.cancel()
