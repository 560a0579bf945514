"""The composition root: it wires the rooms together and holds no rules.

A lab is a workspace as a user holds it. The work is done by a core (hosts/core.py), on threads of this process or in a
sidecar; what is seen of it is read from the disk, past and present alike.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import os
import secrets
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast, get_args

import anyio
import msgspec

from epsilon_lab import formats
from epsilon_lab.broker.correspondence import Correspondence, LabSubscription
from epsilon_lab.broker.host import LONG_STALL_S
from epsilon_lab.clock import SystemClock
from epsilon_lab.errors import InvalidInput, LabError, WorkspaceError
from epsilon_lab.history import Runs
from epsilon_lab.hosts.birth import birth
from epsilon_lab.hosts.commands import Terms, fit_workers
from epsilon_lab.hosts.core import Core, owns
from epsilon_lab.hosts.sidecar import Sidecar
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.cases import Finalise
from epsilon_lab.messages.values import is_text
from epsilon_lab.processes.isolation import Isolation, proved
from epsilon_lab.runs import Run
from epsilon_lab.searches import open_run
from epsilon_lab.settings import broker_settings
from epsilon_lab.topologies.engine import Stimulus
from epsilon_lab.topologies.plan import Requeue, Revise, Topology
from epsilon_lab.transport.curve import checked
from epsilon_lab.views.cells import AfterCells
from epsilon_lab.views.display import Display
from epsilon_lab.views.lab_snapshot import MEANINGS, LabObserver, LabSnapshot
from epsilon_lab.workspace.journal import Durability
from epsilon_lab.workspace.layout import JOURNAL, RunDirectory
from epsilon_lab.workspace.mounts import caution
from epsilon_lab.workspace.tables import Tables

if TYPE_CHECKING:
    import pandas as pd

    from epsilon_lab.broker.stats import Glance
    from epsilon_lab.cases.book import CaseBook, Chosen
    from epsilon_lab.topologies.runner import Runner
    from epsilon_lab.views.figures import ScoreFigure
    from epsilon_lab.views.live import LivePanel
    from epsilon_lab.views.review import ReviewSnapshot
    from epsilon_lab.views.snapshot import RunSnapshot

_LOOK_S = 0.2
"""Seconds between looks at a run of another process that only its journal tells of."""

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
        broker: `kernel`: broker and workers belong to this process, and end with it. `sidecar`: to a process of its
            own, which is started where there is none; runs go on while kernels come and go. Functions have this
            kernel's working directory; async ones, which run in that process itself, have the one it was started in.
        bind: None: reached from this machine and user alone. `"tcp://0.0.0.0:5555"`: by workers of other machines too
            (`python -m epsilon_lab worker`), who need the key file that the lab makes: `lab/keys/worker.key` of the
            workspace. Whoever holds it can run the lab's tasks, and the lab believes their results.
        read_only: Look on: tables, frames, past and live runs, without broker and lock.

    Raises:
        WorkspaceLocked: Another process has it; the message names its pid and host.
        WorkspaceError: The directory cannot be written to.
        InvalidInput: An argument has a wrong type or value.
        LabError: It is open in this process with other arguments.
    """

    __epsilon_live__ = True

    _arguments: dict[str, Any]
    _asked: Set[str]

    def __new__(cls, path: str | os.PathLike[str] = "runs", **arguments: Any) -> Lab:
        """Give the live lab of that path, if there is one."""
        with _OPENING:
            live = _OPEN.get(_absolute(path))
            if live is not None and isinstance(live._core, Sidecar) and live._core.failure is not None:  # noqa: SLF001
                live.close()  # there is nothing to give: whoever asks again gets a new sidecar
                live = None
            if live is None or arguments.get("read_only"):
                lab = super().__new__(cls)
                lab._asked = arguments.keys()
                return lab
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
        workers = fit_workers(workers)
        if durability not in get_args(Durability):
            raise InvalidInput("durability", f"must be 'memory', 'process' or 'disk', got {durability!r}")
        if broker not in ("kernel", "sidecar"):
            raise InvalidInput("broker", f"must be 'kernel' or 'sidecar', got {broker!r}")
        if bind is not None:
            checked(bind, "bind")
            if read_only:
                raise InvalidInput("bind", "has no meaning with read_only=True: who only looks on has no workers")
        self.path = _absolute(path)
        self.read_only = bool(read_only)
        if not self.read_only and (doubt := caution(self.path, durability)):
            warnings.warn(doubt, RuntimeWarning, stacklevel=2)
        settings = broker_settings(os.environ)
        self._clock = SystemClock()
        self._core: Core | Sidecar | None = None
        self._handles: dict[str, Run] = {}
        self._display = Display()
        self._line: Correspondence | None = None
        self._closing = threading.Lock()
        self._resuming = threading.Lock()
        self._closed = False
        self._pid = os.getpid()
        self._is_fresh = True
        self._opened_by_with: list[bool] = []
        with _OPENING:
            if self.read_only:
                if not self.path.is_dir():
                    raise WorkspaceError(f"there is no workspace at {str(self.path)!r} to look at")
                self.store = Tables(self.path)
            else:
                kind = cast(Durability, durability)
                self._told_s = 0.0
                if broker == "sidecar":
                    terms = Terms(workers=workers, durability=kind, bind=bind)
                    self._core = Sidecar(self.path, terms, self._asked & {"workers", "durability", "bind"})
                    workers, durability, bind = msgspec.structs.astuple(self._core.terms)
                else:
                    self._core = Core(self.path, workers=workers, durability=kind, settings=settings, bind=bind)
                self.store = Tables(self.path, live_run_ids=self._core.live)
                _OPEN[self.path] = self
                self._cells = AfterCells(self._tell_of_stalls)
            self._arguments = {"workers": workers, "durability": durability, "broker": broker, "bind": bind}
        atexit.register(self.close)
        if self._core is not None:
            _warn_of_torn(self._core.torn, self.path / "lab" / JOURNAL, stacklevel=3)

    __signature__ = inspect.Signature(list(inspect.signature(__init__).parameters.values())[1:])  # else `__new__`'s

    @property
    def is_open(self) -> bool:
        """Whether it can be used: not closed, and not of the process that this one was forked from."""
        return not self._closed and os.getpid() == self._pid

    def _reopen(self, path: str | os.PathLike[str], arguments: dict[str, Any]) -> None:
        """The same lab is asked for again: a `with` around this one will not close it."""
        self._is_fresh = False
        for name, value in arguments.items():
            if name in self._arguments and value != self._arguments[name]:
                raise LabError(
                    f"workspace {os.fspath(path)!r} is open in this process with {name}={self._arguments[name]!r}, "
                    f"not {value!r}; close() that lab first, or leave {name} out"
                )

    # -- closing ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop broker and workers and let go of the workspace; closing twice does nothing.

        Runs that have not ended are `interrupted`: everything acknowledged is on disk, and `lab.resume` goes on. A
        sidecar is let go of instead, and its runs go on.
        """
        if os.getpid() != self._pid:
            return  # a fork has none of the lab's threads; the lab belongs to its parent
        self.refuse_on_loop("lab.close()")
        with self._closing:
            if self._closed:
                return
            self._display.look()  # a last time, while there is something to see
            self._closed = True
        atexit.unregister(self.close)
        self._display.stop()
        if self._line is not None:
            self._line.close()
        try:
            if isinstance(self._core, Sidecar):
                self._display.freeze()
            if self._core is not None:
                self._cells.close()
                self._core.close()
        finally:
            self._display.freeze()
            self.store.close()
            self.store = Tables(self.path)  # for the handles
            with _OPENING:
                if _OPEN.get(self.path) is self:
                    del _OPEN[self.path]

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
            topology: What to run: `PopulationSearch(...)`, `WorkQueue(...)`, `Dag(...)`, or another of the eight.
            name: A name to find it by; None for the topology's own.
            tags: Words to find it by, in the `runs` table.
            budget: What the run may spend; `Budget(calls=, tokens=, usd=, seconds=)`.
            env: Names of environment variables, set in this process, that the run's plain functions, judges and
                programs get although they look like keys; without it they get none that do, and candidates never. The
                values travel to workers and reach no disk; whoever resumes the run needs them too.

        Raises:
            InvalidInput: An argument is wrong, a live run has that name, or a model could not be called.
            LabError: The lab is closed, or opened read-only.
        """
        core = self._working("start a run")
        now, live = self._clock.wall(), core.live()
        with birth(self.path, live, topology, name=name, tags=tags, budget=budget, env=env, now=now) as born:
            self._warn_of_strangers(born.plan.runs_strangers, stacklevel=3)
            runner = core.begin(*born)
        run = self._handles[born.run.run_id] = open_run(self, born.run, topology.topology, runner)
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
        core = self._working("resume a run")
        self.refuse_on_loop("lab.resume()")
        if not isinstance(trust, bool):
            raise InvalidInput("trust", f"must be True or False, got {trust!r}")
        with self._resuming:
            directory = RunDirectory(self.path / self._known_run(run_id))
            if core.is_at(directory.run_id):
                live = self.runs[directory.run_id]
                live.resume()
                return live
            found = core.resume(directory.run_id, trust=trust)
            run = self._handles[directory.run_id] = open_run(self, directory, found.topology, found.runner)
        self._warn_of_strangers(found.runs_strangers, stacklevel=3)
        _warn_of_torn(found.torn, directory.journal, stacklevel=3)
        return run

    def _warn_of_strangers(self, runs_strangers: bool, *, stacklevel: int) -> None:
        if runs_strangers and not self.isolation.is_fit_for_strangers:
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

    # -- talking ---------------------------------------------------------------------------------------------------

    def publish(self, topic: str, value: object) -> None:
        """Say something on a topic, to every task and cell that listens, now or later; the last value stays.

        Args:
            topic: Any name; it is there from its first use on.
            value: Plain data of at most 64 KiB: None, bool, int, float, str, lists and dicts of these.

        Raises:
            InvalidInput: The name or the value cannot travel.
            LabError: The lab is closed, or opened read-only.
        """
        self._talking("lab.publish()").publish(topic, value)

    def subscribe(self, topic: str, *, timeout_s: float | None = None) -> LabSubscription:
        """Listen to a topic: its last value, perhaps of an earlier run, then whatever is said from now on.

            for message in lab.subscribe("best", timeout_s=5):
                print(message.value, message.sender)

        Args:
            topic: Its name.
            timeout_s: After how many seconds of silence a loop over it ends; None: never.

        Returns:
            A subscription: loop over it (`async for` in a coroutine), or look at `.latest`; `.missed` counts what was
            said while nobody read, and is no longer kept.
        """
        return self._talking("lab.subscribe()").subscribe(topic, timeout_s)

    def send(self, to: str, value: object) -> None:
        """Put a message where one task, or one inbox, will read it; it lies there when this returns.

        Args:
            to: `<run_id>/<task_id>` of a task that has not ended, or the name of an inbox.
            value: Plain data, as for `publish`.

        Raises:
            InvalidInput: The address or the value cannot travel.
            LabError: Nobody has that address, or it takes no more.
        """
        self._talking("lab.send()").send(to, value)

    def inbox(self, name: str = "lab", *, timeout_s: float | None = None) -> LabSubscription:
        """Open an inbox, to which tasks send by its name, and loop over it as over a subscription.

        Args:
            name: Its address: tasks call `current_task().send("lab", value)`.
            timeout_s: After how many seconds of silence a loop over it ends; None: never.
        """
        return self._talking("lab.inbox()").inbox(name, timeout_s)

    def _talking(self, what: str) -> Correspondence:
        core = self._working(f"use {what}")
        self.refuse_on_loop(what)
        with self._closing:
            self._line = self._line or Correspondence(core.near, f"desk-{os.getpid()}-{secrets.token_hex(4)}/desk")
            return self._line

    # -- looking ---------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> Runs:
        """All runs of the workspace, by run_id or name, past and present."""
        return Runs(self, self._handles)

    def sql(
        self,
        query: str,
        params: Sequence[object] | dict[str, object] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> pd.DataFrame:
        """Answer one SQL statement that reads, over all runs; see `lab.tables`. Ctrl-C ends one that takes too long.

        Args:
            query: DuckDB SQL. A CSV, NDJSON or Parquet file of a run is a table too: `from "my-run/links.csv"`.
            params: Values for `?` or `$name` in the query.
            timeout_s: Seconds after which the query is given up; None for ever.

        Raises:
            InvalidInput: The query is not one reading statement, takes longer, or DuckDB refuses it.
        """
        self._check()
        return self.store.sql(query, params, timeout_s=timeout_s)

    @property
    def tables(self) -> pd.DataFrame:
        """The tables there are: name, rows, what a row is, columns, an example line."""
        self._check()
        return self.store.names()

    @property
    def dead_letters(self) -> pd.DataFrame:
        """Tasks given up because they took their workers down with them, of all runs, each with its history.

        `run.requeue()` tries those of a run again.

        Columns: run_id, task_id, kind, leaf, attempts, worker_id, finished_at, error, history (a list of attempts).
        """
        self._check()
        return self.store.frame("dead_letters")

    @property
    def endpoint(self) -> str:
        """Where workers reach the broker: `python -m epsilon_lab worker --connect <this> --key-file worker.key`.

        Workers of other machines do where the lab was opened with `bind=`; their key file lies in the workspace, at
        `lab/keys/worker.key`. For a port of all addresses (0.0.0.0), put in the host that they know this machine by.
        """
        return self._working("be reached").endpoint

    def drain(self, worker: str) -> None:
        """Let a worker on another machine finish what it has begun, and go; it is given nothing more.

        Args:
            worker: Its `worker_id`, as `lab.workers` lists it; all of that worker's children go with it.

        Raises:
            InvalidInput: There is no such worker, or it is one of the lab's own, which end with the lab.
        """
        if not is_text(worker):
            raise InvalidInput("worker", f"must be a worker_id, got {worker!r}")
        self._working("drain a worker").drain(worker)

    @property
    def workers(self) -> pd.DataFrame:
        """Who is at work: worker_id, pid, host, slots, running, last_seen (UTC)."""
        core = self._working("see its workers")
        import pandas as pd  # noqa: PLC0415 - pandas loads when someone looks

        frame = pd.DataFrame(core.workers(), columns=["worker_id", "pid", "host", "slots", "running", "last_seen"])
        frame["last_seen"] = pd.to_datetime(frame["last_seen"], unit="s")
        return frame

    @property
    def stats(self) -> pd.DataFrame:
        """What waits, what runs, and what happened since the lab was opened: a row a figure, with its meaning."""
        stats = self._working("see its statistics").stats()
        import pandas as pd  # noqa: PLC0415 - pandas loads when someone looks

        values = pd.Series([getattr(stats, name) for name in MEANINGS], dtype=object)  # counts stay ints
        return pd.DataFrame({"value": values, "meaning": MEANINGS.values()}).set_axis(pd.Index(MEANINGS, name="figure"))

    def panel(self) -> LivePanel[LabSnapshot]:
        """A live view of the whole lab: what waits, how fast it goes, who is at work, what went wrong."""
        core = self._working("be watched")
        from epsilon_lab.views.faces import lab_face  # noqa: PLC0415 - drawing loads when someone looks
        from epsilon_lab.views.live import LivePanel  # noqa: PLC0415 - as above

        def look() -> Glance | None:
            return None if self._closed or core.failure else core.glance()

        return self._display.show(LivePanel(LabObserver(str(self.path), look, self._clock.monotonic), lab_face()))

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
        if self._core is None:
            return f"<Lab {str(self.path)!r}: read only>"
        state = "closed" if self._closed else str(self._core)
        return f"<Lab {str(self.path)!r}: {state}>"

    def _repr_html_(self) -> str:
        ways = "lab.runs: its runs · lab.tables: what lab.sql(...) can ask · lab.panel(): what it is doing"
        return f'<code>{formats.escape(repr(self))}</code><div style="{formats.FAINT}">{ways}</div>'

    # -- what runs need of their lab -------------------------------------------------------------------------------

    def is_at(self, run_id: str) -> bool:
        """Whether this lab is at the run, so that it can be steered from here."""
        return self._core is not None and run_id in self._core.live()

    def wait_for_news(self, run_id: str, timeout_s: float | None) -> None:
        """Wait until a run that this process is not at may have ended, at most so many seconds; perhaps fewer."""
        if isinstance(self._core, Sidecar) and not self._closed:
            self._core.await_end(run_id, timeout_s)
        else:
            time.sleep(_LOOK_S if timeout_s is None else min(_LOOK_S, timeout_s))

    async def news(self, run_id: str) -> None:
        """As `wait_for_news`, for a coroutine."""
        if isinstance(self._core, Sidecar) and not self._closed:
            await self._core.ended(run_id)
        else:
            await asyncio.sleep(_LOOK_S)

    def steer(self, run_id: str, stimulus: Stimulus) -> bool:
        """Tell a live run something, which is on record then; False where this lab is not at it."""
        self._check()
        return self._core is not None and self._core.obey(run_id, stimulus)

    def reopen(self, run_id: str, news: Requeue | Revise | Finalise, *, trust: bool) -> Runner | None:
        """Go on with a run that is over, or was left, to take tasks up again; None: in another process."""
        self.refuse_on_loop("to take tasks of a run up again")
        with self._resuming:
            return self._working("take tasks up again").resume(run_id, trust=trust, news=news).runner

    def refuse_on_loop(self, what: str) -> None:
        """Raise where waiting would stop the lab itself."""
        if self._core is not None and threading.get_ident() in self._core.threads:
            raise LabError(f"{what} would stop the lab, since this is one of its own threads; await the run instead")

    def owns(self, run_id: str) -> bool:
        """Whether the run was born in this workspace."""
        return owns(self.path, run_id)

    def start_panel(self, run: Run) -> LivePanel[RunSnapshot]:
        """Show a run's state, kept up to date while it lasts."""
        from epsilon_lab.views.faces import run_face  # noqa: PLC0415 - drawing loads when someone looks
        from epsilon_lab.views.live import LivePanel  # noqa: PLC0415 - as above

        actions = {"pause": run.pause, "resume": run.resume, "stop": run.stop} if run.is_live_here else {}
        return self._display.show(LivePanel(run.observe, run_face(actions)))

    def start_review(self, book: CaseBook, chosen: Chosen) -> LivePanel[ReviewSnapshot]:
        """Show a decider's way through a run's cases, in the place of the one before."""
        self._check()  # a closed lab takes no verdict
        return self._display.review(book, chosen)

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise LabError(f"the lab at {str(self.path)!r} belongs to process {self._pid}; a fork cannot use it")
        if self._closed:
            raise LabError(f"the lab at {str(self.path)!r} is closed; open it again with Lab({str(self.path)!r})")
        if isinstance(self._core, Core) and (failure := self._core.failure) is not None:
            raise LabError(
                f"the lab at {str(self.path)!r} broke down ({type(failure).__name__}: {failure}); "
                f"close() it and open it again"
            ) from failure

    def _working(self, what: str) -> Core | Sidecar:
        """The core, for whoever wants something done."""
        self._check()
        if self._core is None:
            raise LabError(f"this lab only looks on and cannot {what}; open it with Lab({str(self.path)!r})")
        if isinstance(self._core, Sidecar) and self._core.failure is not None:
            raise self._core.failure
        if trouble := self._core.trouble:
            warnings.warn(trouble, RuntimeWarning, stacklevel=3)
        return self._core

    def _tell_of_stalls(self) -> None:
        """Say under a cell, once, that it kept the broker from its turns."""
        if not isinstance(self._core, Core) or self._closed or self._core.failure or os.getpid() != self._pid:
            return  # a sidecar does not stand still with this process
        stood_s = self._core.stood_still_s()
        stalled_s, self._told_s = stood_s - self._told_s, stood_s
        if stalled_s > LONG_STALL_S:
            warnings.warn_explicit(
                f"the lab stood still for {stalled_s:.1f} s: a cell held the interpreter, or this process was stopped. "
                f"Nothing expired of it, but nothing went on either; do such work in a task, "
                f"or keep the lab in a process of its own: Lab({str(self.path)!r}, broker='sidecar')",
                RuntimeWarning,
                filename="epsilon_lab",  # the line at fault is the cell above
                lineno=0,
            )


def open_labs() -> list[Lab]:
    """The labs that are at work in this process."""
    with _OPENING:
        return [lab for lab in _OPEN.values() if lab.is_open]


def _warn_of_torn(torn: int, journal: Path, *, stacklevel: int) -> None:
    if torn:
        warnings.warn(
            f"the last {torn} bytes of {journal} were lines that a crash had cut short; they were never acknowledged, "
            f"and are cut off",
            RuntimeWarning,
            stacklevel=stacklevel,
        )


def _absolute(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike) or "\0" in os.fspath(path):
        raise InvalidInput("path", f"must be a directory's path, got {path!r}")
    return Path(path).expanduser().resolve()
