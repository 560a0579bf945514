"""The handle a user holds: a run, live or past. What a search has beside that is in searches.py.

A handle holds no rules and no state of its own: each method is a line into a room. Live and past runs answer alike,
because both are read from the disk; what only a live run can do (pause, resume) says so on a past one.
"""

from __future__ import annotations

import asyncio
import html
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from epsilon_lab import ids
from epsilon_lab.agents.work import Task
from epsilon_lab.arguments import MOST, text, whole
from epsilon_lab.artifacts import Artifacts
from epsilon_lab.cases import finalisation
from epsilon_lab.cases.book import CaseBook, Chosen
from epsilon_lab.cases.docket import CaseNews
from epsilon_lab.errors import InvalidInput, LabError, RunFailed, UpToDate
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import Feedback
from epsilon_lab.messages.cases import Finalise
from epsilon_lab.messages.deciders import Decider
from epsilon_lab.messages.values import unpack
from epsilon_lab.topologies.adjudication import Adjudication
from epsilon_lab.topologies.engine import Pause, Resume, Stimulus, Stop, Tell
from epsilon_lab.topologies.itemised import Itemised
from epsilon_lab.topologies.plan import Cancel, Prioritise, Requeue, Revise, Topology
from epsilon_lab.topologies.runner import Runner
from epsilon_lab.topologies.work_queue import item_name
from epsilon_lab.views.curve import LIVE
from epsilon_lab.views.snapshot import Observer, RunSnapshot
from epsilon_lab.workspace.fold import how_to_resume
from epsilon_lab.workspace.layout import STOP, RunDirectory
from epsilon_lab.workspace.leaf_files import export_files, locate_files
from epsilon_lab.workspace.outputs import SETTLED, latest, run_output, submission_order, task_outputs
from epsilon_lab.workspace.parcel import write_parquet

if TYPE_CHECKING:
    import pandas as pd

    from epsilon_lab.reducers import Detector
    from epsilon_lab.views.live import LivePanel, StaticFrame
    from epsilon_lab.views.review import ReviewSnapshot
    from epsilon_lab.workspace.tables import Tables

_TASKS = "select task_id, status from tasks where run_id = ?"
_OF_NODES = ("dag", "supervisor")
"""Topologies whose final output says which task has it, for each of several nodes."""


_BY_AND_BY = ("map_reduce", "sharded_queue")
"""Topologies whose items become tasks some at a time."""


class Home(Protocol):
    """What a run needs of its lab."""

    @property
    def path(self) -> Path:
        """The workspace."""
        ...

    @property
    def store(self) -> Tables:
        """The workspace's tables."""
        ...

    def is_at(self, run_id: str) -> bool:
        """Whether this lab is at the run, so that it can be steered from here."""
        ...

    def wait_for_news(self, run_id: str, timeout_s: float | None) -> None:
        """Wait until a run that this process is not at may have ended, at most so many seconds; perhaps fewer."""
        ...

    async def news(self, run_id: str) -> None:
        """The same for a coroutine."""
        ...

    def steer(self, run_id: str, stimulus: Stimulus) -> bool:
        """Tell a live run something, which is on record then; False where this lab is not at it."""
        ...

    def refuse_on_loop(self, what: str) -> None:
        """Raise where waiting would stop the lab itself."""
        ...

    def owns(self, run_id: str) -> bool:
        """Whether the run was born in this workspace."""
        ...

    @property
    def runs(self) -> Mapping[str, Run]:
        """The workspace's runs."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether it only looks on."""
        ...

    def start(self, topology: Topology, *, name: str | None = None, budget: Budget | None = None) -> Run:
        """Start a run."""
        ...

    def resume(self, run_id: str) -> Run:
        """Go on with a run that its lab left unfinished."""
        ...

    def reopen(self, run_id: str, news: Requeue | Revise | Finalise, *, trust: bool) -> Runner | None:
        """Go on with a run that is over, or was left, to take tasks up again; None: in another process."""
        ...

    def start_panel(self, run: Run) -> LivePanel[RunSnapshot]:
        """Show a run's state, kept up to date while it lasts."""
        ...

    def start_review(self, book: CaseBook, chosen: Chosen) -> LivePanel[ReviewSnapshot]:
        """Show a decider's way through a run's cases, in the place of the one before."""
        ...


class Run:
    """A run, live or past.

    Attributes:
        run_id: Its id, also the name of its directory.
        topology: The topology's name.
        path: Its directory.
    """

    __epsilon_live__ = True

    def __init__(self, home: Home, directory: RunDirectory, topology: str, runner: Runner | None = None) -> None:
        self.topology = topology
        self._home = home
        self._directory = directory
        self._runner = runner
        self._seen = ""
        self._observer: tuple[Tables, Observer] | None = None
        self._panel: LivePanel[RunSnapshot] | None = None
        self.run_id = directory.run_id
        self.path = directory.path

    # -- what it is ------------------------------------------------------------------------------------------------

    def _row(self, column: str) -> Any:
        query = f"select {column} from runs where run_id = ?"  # noqa: S608 - our own names
        rows = self._home.store.rows(query, [self.run_id], run_id=self.run_id)
        return rows[0][0] if rows else None

    @property
    def name(self) -> str:
        """The name it was started under."""
        return str(self._row("name") or self.run_id)

    @property
    def status(self) -> str:
        """`running`, `paused`, `completed`, `failed`, `stopped` or `interrupted`."""
        if self._runner is not None:
            return self._runner.state.status
        self._seen = str(self._row("status") or "interrupted")
        return self._seen

    @property
    def reason(self) -> str:
        """Why it ended, one sentence; empty while it lasts."""
        if self._runner is not None:
            return self._runner.state.reason
        return str(self._row("reason") or "")

    @property
    def is_live_here(self) -> bool:
        """Whether this lab is at it, so that it can be paused and resumed from here."""
        return self._home.is_at(self.run_id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run_id}: {self._last_status}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(self.run_id)}</code> {html.escape(self._last_status)}"

    @property
    def _last_status(self) -> str:
        """Its status without a look at the disk."""
        return self._runner.state.status if self._runner is not None else self._seen or "not looked at yet"

    # -- waiting and steering --------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until the run has ended; Ctrl-C ends the wait, not the run.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            RunFailed: It failed, or its lab was closed before it ended.
            TimeoutError: It goes on.
            LabError: Called on one of the lab's own threads; `await` it there.
        """
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
            raise InvalidInput("timeout", f"must be seconds or None, got {timeout!r}")
        self._home.refuse_on_loop("run.wait()")
        if not self._has_ended_within(timeout):
            raise TimeoutError(f"run {self.run_id} is still {self.status} after {timeout:g} s; it goes on")
        return self._result()

    def _has_ended_within(self, timeout: float | None) -> bool:
        if self._runner is not None:
            try:
                self._runner.done.result(timeout)
            except FutureTimeout:
                return False
            return True
        until = None if timeout is None else time.monotonic() + timeout
        while self.is_live_here or self.status in LIVE:  # in another process; to ask it is cheaper than to read
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._home.wait_for_news(self.run_id, left)
        return True

    def __await__(self) -> Generator[Any, None, Run]:
        return self._ended().__await__()

    async def _ended(self) -> Run:
        if self._runner is not None:
            done = self._runner.done
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()
            done.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(ended.set))
            await ended.wait()
        while self.is_live_here or self.status in LIVE:  # in another process
            await self._home.news(self.run_id)
        return self._result()

    def _result(self) -> Run:
        status = self.status
        if self._panel is not None:
            self._panel.freeze()
        if status in ("failed", "interrupted"):
            raise RunFailed(self.run_id, status, self.reason)
        return self

    def stop(self) -> None:
        """End the run early with what it has, also from another process; one that has ended stays as it is.

        Raises:
            LabError: It was interrupted, so nobody is at it.
        """
        if self._home.steer(self.run_id, Stop("stopped by the user")):
            return
        if (status := self.status) in LIVE:
            (self.path / STOP).touch()
        elif status == "interrupted":
            raise LabError(f"run {self.run_id} is interrupted: nobody is at it; {how_to_resume(self.run_id)}")

    def pause(self) -> None:
        """Assign nothing more; what runs, finishes."""
        self._send(Pause())

    def resume(self) -> None:
        """Go on after a pause."""
        self._send(Resume())

    def prioritise(self, task_id: str, priority: int) -> None:
        """Put a task before others of this run (larger than their priority) or behind them.

        Waiting makes up for priority in time, at the rate of `EPSILON_AGING`. A task that is under way is put there
        when it is to be tried again.

        Raises:
            InvalidInput: The run has no such task, or it is over.
            LabError: The run is not live in this lab.
        """
        priority = whole("priority", priority, least=-MOST)
        self._check_tasks([task_id], ("waiting", "queued", "running"))
        self._send(Prioritise(task_id, priority))

    def cancel(self, *task_ids: str, reason: str = "cancelled by the user") -> None:
        """Give up tasks of this run, which goes on without them. One that is under way is asked to stop: its function
        meets a `KeyboardInterrupt`, which `finally` sees; its process is killed if it does not stop within a second.

        Raises:
            InvalidInput: The run has no such task, or it is over.
            LabError: The run is not live in this lab.
        """
        self._check_tasks(task_ids, ("waiting", "queued", "running"))
        self._send(Cancel(task_ids, text("reason", reason)))

    def requeue(self, *task_ids: str, trust: bool = False) -> None:
        """Try dead letters of this run again, with nothing behind them; a run that is over goes on for it.

        Args:
            *task_ids: Which; none for all of them.
            trust: Also of a run that was born in another workspace, whose functions are a stranger's pickles.

        Raises:
            InvalidInput: A task is not dead, none is, or the run is a stranger's.
            LabError: The lab only looks on, or the run is one whose topology has no use for a late output.
        """
        query = "select task_id from dead_letters where run_id = ? order by task_id"
        task_ids = task_ids or tuple(
            str(task_id) for (task_id,) in self._home.store.rows(query, [self.run_id], run_id=self.run_id)
        )
        if not task_ids:
            raise InvalidInput(f"run {self.run_id}", "has no dead letters", "see run.failures")
        self._check_tasks(task_ids, ("dead",))
        self._take_up(Requeue(task_ids), trust=trust)

    def rerun(
        self, tasks: Sequence[str] | str, feedback: str | Mapping[str, str] | None = None, *, trust: bool = False
    ) -> None:
        """Do tasks of this run again, and what depends on them, whatever came of them; one that is over goes on for it.

        Each comes back as a revision, a task of its own named `item-000003~2`. What the first go gave stays on record,
        but the latest revision speaks for it from its end on: also where it failed.

        Args:
            tasks: Which, by their ids with or without a revision; all of them settled. In a run that is over also items
                that were not begun.
            feedback: What to mind this time, for all or by task. An agent or a model reads it in its request, a
                function in `current_task().feedback`.
            trust: Also of a run that was born in another workspace, whose functions are a stranger's pickles.

        Raises:
            InvalidInput: A task is none of this run's or not settled, or the run is a stranger's.
            LabError: The lab only looks on, or the run is one whose topology does nothing again.
        """
        if not isinstance(tasks, Iterable):
            raise InvalidInput("tasks", f"must be a task_id or a list of some, got {tasks!r}")
        names = [tasks] if isinstance(tasks, str) else list(map(str, tasks))
        if not names:
            raise InvalidInput("tasks", "names none", "give the ids of those to do again; see run.frame('tasks')")
        known = latest(self._home.store.rows(_TASKS, [self.run_id], run_id=self.run_id))
        origins = [ids.origin(name) for name in names]
        unbegun = () if self.status in LIVE or known.keys() >= set(origins) else frozenset(self._unbegun(known))
        self._check_tasks([known.get(name, (name,))[0] for name in origins if name not in unbegun], SETTLED)
        said = feedback if isinstance(feedback, Mapping) else dict.fromkeys(names, feedback) if feedback else {}
        if stray := next((name for name in said if name not in names), None):
            raise InvalidInput(f"feedback for {stray!r}", "is for none of the tasks", "name it in tasks= too")
        reasons: dict[str, tuple[Feedback, ...]] = {
            origin: (Feedback("rerun", text("feedback", said[name])),) if name in said else ()
            for name, origin in zip(names, origins, strict=True)
        }
        self._take_up(Revise(reasons), trust=trust)

    def finalize(self, *, since: int | None = None, ask: bool = False, trust: bool = False) -> pd.DataFrame:
        """Make again what this run made of its cases, from the verdicts that speak now; without a model call.

        A task that flagged cases and went by other verdicts than these is called again over its stored inputs, as a
        revision, and so is what depends on it; the run ends again, with its new output. Nothing else is touched, and
        nothing at all where nothing is decided otherwise. A run that goes on is waited for first; one that was stopped
        is made again of what it has, and stays stopped.

        QA looks again at what was made anew, and where it has asked itself; what it finds then, nobody mends: the run
        fails. A gate or a review is told the verdicts on what it has asked once its node is made anew for another
        reason; for them alone, nothing is.

        Args:
            since: After how many earlier times, each a file in `verdicts/`: 0 tells what all verdicts together have
                changed. None: after those that went through, and not one that a crash or Ctrl-C came in the middle of.
            ask: Whether a model, an agent, a program or a person that comes behind what is made again is asked again;
                what they cost is spent. A person who is asked at a gate is waited for.
            trust: Also of a run that was born in another workspace, whose functions are a stranger's pickles.

        Returns:
            What changed: `task_id`, the `path` in its output, the value `before` and `after` (None for none), and
            `because`, a list of the ids of the cases that it is put down to.

        Raises:
            RunFailed: It failed with these verdicts, and had not without, or has again with nothing to show for it.
            InvalidInput: The run is a stranger's, or `since` is no number of calls.
            LabError: It is paused or interrupted, the lab only looks on, or a model, an agent, a program or a person
                would have to be asked and `ask` is not set. Nothing was changed then.
        """
        self._home.refuse_on_loop("run.finalize()")
        if self._home.read_only:
            raise LabError(
                f"this lab only looks on and cannot finalize run {self.run_id}; do it in the process that has the "
                f"workspace, or once that has closed it: Lab({str(self._home.path)!r})"
            )
        if self.status == "paused":
            raise LabError(f"run {self.run_id} is paused, and what it has asked may not be all; resume() it first")
        if not isinstance(ask, bool):
            raise InvalidInput("ask", f"must be True or False, got {ask!r}")
        since = finalisation.told(self._directory) if since is None else whole("since", since, least=0)
        self._has_ended_within(None)
        if (before := self.status) == "interrupted":
            raise LabError(f"run {self.run_id} is interrupted: {how_to_resume(self.run_id)}, and finalize() it then")
        changes = self._changes(since)
        try:
            self._runner = self._home.reopen(self.run_id, Finalise(ask), trust=trust)
        except UpToDate:
            return changes()
        vars(self).pop("_is_ours", None)  # whoever is trusted is no stranger from here on
        self._has_ended_within(None)
        changed = changes()
        if before == "completed" or (self.status == "failed" and changed.empty):
            self._result()
        return changed

    def _changes(self, since: int) -> Callable[[], pd.DataFrame]:
        """What was changed, once it is."""
        return lambda: finalisation.changes(self._directory, self._home.store, self._value, since=since)

    def _take_up(self, news: Requeue | Revise, *, trust: bool) -> None:
        if not self._home.steer(self.run_id, Tell(news)):
            self._runner = self._home.reopen(self.run_id, news, trust=trust)

    def adjudicate(
        self,
        task: Task,
        where: str = "status = 'open'",
        *,
        name: str | None = None,
        decider: str | Decider | None = None,
        instructions: str = "",
        budget: Budget | None = None,
        retries: int = 0,
        time_limit_s: float | None = None,
    ) -> Run:
        """Have cases of this run decided by workers, as one more run; returns at once.

        Each verdict is on record here as soon as it is accepted, whether this run is live or over: with its note and
        confidence, in the table `verdicts`. It stands beside those of others: a person's outranks it, whichever came
        first.

        Args:
            task: Who decides: a function `task(case) -> verdict`, an `Agent`, an `LLM`, a `Command`, or a function's
                name. A case is a dict: case_id, kind, question, options, evidence, reason, key, score, flagged_by. A
                verdict is one of the options, or None where the case is to stay open; or a dict with `verdict`, and as
                wanted `note` and `confidence` (0 to 1); of a model, a text that holds such an object or names one
                option. All else is a failed task, and the others go on.
            where: Which cases: a condition in SQL on this run's rows of the table `cases`.
            name: A name to find it by.
            decider: Who is on record as the decider, a name or a `Decider`; None for the task's own name: of kind LLM
                where it asks a model, else CODE.
            instructions: What a model, an agent or a program is told besides.
            budget: What the run may spend.
            retries: How often one that failed, or gave no verdict, is tried again; it is told why.
            time_limit_s: Seconds one attempt may take; None for no limit.

        Raises:
            InvalidInput: No case is so, one needs a role that the decider lacks, or an argument is wrong.
            LabError: This run cannot take verdicts from here, or the lab only looks on.
        """
        cases = self.cases.where(where)
        adjudication = Adjudication(
            cases,
            task,
            of=self.run_id,
            where=where,
            decider=decider,
            instructions=instructions,
            retries=retries,
            time_limit_s=time_limit_s,
        )
        return self._home.start(adjudication, name=name, budget=budget)

    @property
    def cases(self) -> CaseBook:
        """What is left to a decider, and what was decided: `wait()`, `panel()`, `[case_id]`, `decide()`, `frame()`."""
        return CaseBook(
            self.run_id, self._home.store, self._tell_of_cases, self._is_over_within, self._home.start_review
        )

    def detect(self, *detectors: Detector) -> pd.DataFrame:
        """Have detectors look at this run's tables, as `run.cases.detect` does: the cases that are new."""
        return self.cases.detect(*detectors)

    def _is_over_within(self, timeout: float) -> bool:
        self._home.refuse_on_loop("run.cases.wait()")
        return self._has_ended_within(timeout)

    def _tell_of_cases(self, said: CaseNews) -> None:
        self._home.refuse_on_loop("a decision about a case")
        if not self._home.steer(self.run_id, Tell(said)):
            raise LabError(
                f"this lab only looks on, and takes nothing down about the cases of run {self.run_id}; decide in the "
                f"process that has the workspace, or once that has closed it: Lab({str(self._home.path)!r})"
            )

    def _check_tasks(self, task_ids: Iterable[str], statuses: Sequence[str]) -> None:
        """Refuse what is no task of this run of these statuses."""
        known = dict(self._home.store.rows(_TASKS, [self.run_id], run_id=self.run_id))
        for task_id in task_ids:
            status = known.get(task_id) if isinstance(task_id, str) else None
            if status not in statuses:
                found = f"is {status}, not {' or '.join(statuses)}" if status else "is no task_id of this run"
                raise InvalidInput(f"task {task_id!r}", found, "see run.frame('tasks')")

    def _send(self, stimulus: Stimulus) -> None:
        if not self._home.steer(self.run_id, stimulus):
            status = self.status
            remedy = how_to_resume(self.run_id) if status == "interrupted" else "only stop() reaches it from here"
            raise LabError(f"run {self.run_id} is not live in this lab ({status}); {remedy}")

    # -- what it gave ----------------------------------------------------------------------------------------------

    def results(self, failed: Literal["raise", "none", "keep"] = "raise") -> list[Any]:
        """Leaf outputs, in the order of items, nodes or stages. Where one was done again, its latest revision that is
        settled speaks, also by failing.

        Args:
            failed: What stands for an item without output: `raise` a `RunFailed` naming the first, `none` puts None,
                `keep` puts a `LabError` that says why.

        Raises:
            RunFailed: An item has no output, and `failed` is `raise`.
        """
        return list(self._results(failed).values())

    def _results(self, failed: str) -> dict[str, Any]:
        """Leaf outputs by task id, that of a task's first revision, in order."""
        if failed not in ("raise", "none", "keep"):
            raise InvalidInput("failed", f"must be 'raise', 'none' or 'keep', got {failed!r}")
        outputs = task_outputs(self._directory)
        query = "select task_id, status, error, kind from tasks where run_id = ? and kind in ('item', 'node', 'stage')"
        rows = self._home.store.rows(query, [self.run_id], run_id=self.run_id)
        speaking = latest((row for row in rows if row[1] in SETTLED), latest(rows))
        speaking.update((name, (name, "not begun", None, "item")) for name in self._unbegun(speaking))
        order = {} if all(row[3] == "item" for row in rows) else submission_order(self._directory)
        results: dict[str, Any] = {}
        for name in sorted(speaking, key=lambda name: (order.get(name, 0), name)):
            task_id, status, error, _ = speaking[name]
            if task_id in outputs and status != "failed":  # failed all the same: a review did not let it count
                results[name] = self._value(task_id, outputs[task_id])
                continue
            why = f"task {task_id} is {status}" + (f": {error}" if error else "")
            if failed == "raise":
                way = "requeue() tries it again, " if status == "dead" else ""
                raise RunFailed(self.run_id, self.status, f"{why}; {way}results(failed='none') skips it")
            results[name] = LabError(why) if failed == "keep" else None
        return results

    def _unbegun(self, known: Mapping[str, object]) -> list[str]:
        """Items that have no task, in order, since a run of very many hands them out by and by.

        Args:
            known: The tasks that there are, by id.
        """
        if self.topology not in _BY_AND_BY:
            return []
        if sum(name.startswith("item-") for name in known) >= msgspec.json.decode(self._row("config"))["items"]:
            return []
        return [name for name in Itemised.item_ids(self._directory) if name not in known]

    @property
    def output(self) -> Any:
        """The topology's final output, None while it lasts: a search's best program; a queue's results, by item id
        where items have ids of their own; of a dag `{id: output}` of the nodes that none depends on, as far as they
        have one.
        """
        value = run_output(self._directory)
        if value is not None and self.topology in _OF_NODES:
            outputs = task_outputs(self._directory)
            return {name: self._value(name, outputs[task_id]) for name, task_id in unpack(value).items()}
        if value is not None:
            return self._value("output", value)
        if self.topology not in ("work_queue", "sharded_queue", "adjudication") or self.status != "completed":
            return None
        results = self._results("none")
        named = {name: output for task_id, output in results.items() if (name := item_name(task_id))}
        return named or list(results.values())

    @cached_property
    def _is_ours(self) -> bool:
        return self._home.owns(self.run_id)

    def _value(self, name: str, value: Any) -> Any:
        value = self._directory.fetch(value)
        if value.form == "pickle" and not self._is_ours:
            raise LabError(
                f"{name} of run {self.run_id} is a pickle, and the run was born in another workspace; "
                f"pickles of strangers are not loaded. Everything else of the run can be read"
            )
        return unpack(value)

    def files(self, task_id: str | None = None) -> dict[str, Path]:
        """The files that the run's tasks have made, where each lies in the run directory; none may be written to.

        Layers of several tasks lie over each other in the order in which these were settled: a later one wins.

        Args:
            task_id: The files as this task saw them at its end, and not those of the whole run.

        Raises:
            InvalidInput: That task has published none.
            LabError: They cannot be read.
        """
        return locate_files(self._directory, task_id)

    def export(self, directory: str | os.PathLike[str], task_id: str | None = None) -> Path:
        """Write those files, as a tree, to a directory; what else is there stays.

        Returns:
            The directory.

        Raises:
            InvalidInput: That task has published none, or a link there leads elsewhere.
            WorkspaceError: They cannot be written.
        """
        return export_files(self._directory, Path(directory), task_id)

    @property
    def artifacts(self) -> Artifacts:
        """The files on record, by path: a list of them in a cell, `["leaderboard.csv"].frame()`, `.glob("*.png")`."""
        return Artifacts(lambda: self._home.store, self._directory)

    @property
    def failures(self) -> pd.DataFrame:
        """Tasks that gave no output: task_id, kind, status, error, traceback, stdout_tail, stderr_tail, finished_at."""
        return self._home.store.failures(self.run_id)

    def frame(self, table: str) -> pd.DataFrame:
        """Read a table, this run's rows only; JSON columns are decoded."""
        return self._home.store.frame(table, run_id=self.run_id)

    def to_parquet(self, directory: str | os.PathLike[str]) -> Path:
        """Write this run's tables to a folder, `<table>.parquet` each, empty ones too; JSON columns are text.

        For pandas, DuckDB or R anywhere: `pd.read_parquet("folder/tasks.parquet")`. Written again, they are replaced.

        Raises:
            InvalidInput: It is no path, or a file of such a name is there and is none of this run's.
            WorkspaceError: It cannot be written.
        """
        return write_parquet(self._directory, directory, live=self.status in LIVE)

    # -- what it looks like ----------------------------------------------------------------------------------------

    def panel(self) -> LivePanel[RunSnapshot]:
        """A live view; in a notebook it shows itself, elsewhere it is text."""
        if self._panel is None or (self._panel.is_frozen and self.status in LIVE):  # frozen, and resumed since
            self._panel = self._home.start_panel(self)
        return self._panel

    def show(self) -> StaticFrame[RunSnapshot]:
        """One static frame."""
        from epsilon_lab.views.faces import run_face  # noqa: PLC0415 - drawing loads when someone looks
        from epsilon_lab.views.live import StaticFrame  # noqa: PLC0415 - as above

        return StaticFrame(self.observe(), run_face({}))

    def observe(self) -> RunSnapshot:
        """Look at the run: its state as one value, which every view is made from."""
        store = self._home.store
        if self._observer is None or self._observer[0] is not store:  # a closed lab's tables are opened anew
            self._observer = (store, Observer(store, self._directory))
        return self._observer[1]()

    def _ipython_display_(self) -> None:
        self.panel().display()
