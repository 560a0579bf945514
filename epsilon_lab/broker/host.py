"""The shell around the broker's rules, and the only place of this room that waits.

A turn: take the frames that have arrived, let the rules answer each, hand out what is ready, commit every journal that
was written to (one write a run), and only then send answers and tell submitters. Whatever came together leaves
together: the batch is as large as the load makes it, and there is no timer. What submitters do in answer belongs to
the same turn. Where a commit is to survive a power cut, acknowledgements and outcomes wait until the disk has it
(unsynced.py), and nothing else does: work is handed out and heard meanwhile.

A journal that cannot be written ends its own run and no other: what would have been acknowledged is withheld. A frame
that is no message is refused by name. If a turn came late (a cell that held the interpreter, a stopped process), the
socket is drained first, and then all deadlines move by as much as the broker was late.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import closing

import anyio
import anyio.to_thread

from epsilon_lab.broker.board import Room
from epsilon_lab.broker.ledger import Ledger
from epsilon_lab.broker.members import WorkerRow
from epsilon_lab.broker.porter import Porter
from epsilon_lab.broker.state import BrokerState
from epsilon_lab.broker.stats import Stats
from epsilon_lab.broker.stimuli import (
    Abandon,
    Abridge,
    Accepted,
    Assign,
    CancelTasks,
    CloseBudget,
    CloseRun,
    DiskShort,
    DrainSession,
    Due,
    Effect,
    OpenRun,
    OpenTask,
    PauseRun,
    Receipt,
    Received,
    Record,
    Reprioritise,
    Requeue,
    RestoreTopics,
    ResumeRun,
    Send,
    Serve,
    Settle,
    Stalled,
    Stimulus,
    Submit,
    Tick,
    Undelivered,
)
from epsilon_lab.broker.unsynced import Unsynced
from epsilon_lab.clock import Clock
from epsilon_lab.errors import BadFrame, InvalidInput, LabError
from epsilon_lab.messages.events import Body, LabDisk, LabStalled
from epsilon_lab.messages.frames import (
    MAX_FRAME,
    Cancel,
    Denied,
    Interrupt,
    Kill,
    Lost,
    Recorded,
    Refused,
    Tasks,
    ToBroker,
    ToPeer,
    decode_from_peer,
    encode,
)
from epsilon_lab.messages.post import Message
from epsilon_lab.messages.tasks import Event, TaskOutcome, TaskSpec
from epsilon_lab.settings import BrokerSettings
from epsilon_lab.transport.base import Listener
from epsilon_lab.workspace.journal import Journal

OnOutcomes = Callable[[list[TaskOutcome]], object]
OnFailure = Callable[[str], object]
Failed = dict[str | None, LabError]
"""Runs whose journal (None: the lab's) could not be written, and why."""

LONG_STALL_S = 1.0
"""Lateness that is put on record: below it lies what a busy machine does to anyone."""

_DUE_S = 0.005
"""Seconds after a deadline at which it is looked at: once for those that pass together."""

_DRAIN = 256
"""Frames taken in a turn, so that a flood does not put off the journal and the answers."""


class _Home:
    """Where a run's records and outcomes go."""

    def __init__(self, journal: Journal, on_outcomes: OnOutcomes, on_failure: OnFailure | None) -> None:
        self.journal = journal
        self.on_outcomes = on_outcomes
        self.on_failure = on_failure
        self.has_failed = False


class BrokerHost:
    """A broker at work. All methods belong to the thread of the loop that serves it.

    Calls take effect at once and become durable together, in the turn that follows; `flush` runs that turn now.

    Args:
        listener: Where peers reach it; the caller closes it.
        lab_journal: The lab's own journal; the caller closes it.
        settings: What the rules are tuned by.
        clock: The lab's clock.
        epoch: Larger than that of any broker that knew these runs before.
        space: Says why the disk has no room for more to be begun; empty where it has.

    Attributes:
        shortage: What `space` said last.
        lab_failure: Why the lab's own journal could not be written; None while it can.
        untold: Which run could not be told that it failed, and why, the last time.
    """

    def __init__(
        self,
        listener: Listener,
        *,
        lab_journal: Journal,
        settings: BrokerSettings,
        clock: Clock,
        epoch: int,
        space: Callable[[], str] = lambda: "",
    ) -> None:
        self.shortage = ""
        self._space = space
        self.lab_failure: str | None = None
        self.untold: str | None = None
        self._listener = listener
        self._lab_journal = lab_journal
        self._tick_s = settings.tick_s
        self._clock = clock
        self._state = BrokerState(settings, epoch=epoch)
        self._homes: dict[str, _Home] = {}
        self._touched: dict[str | None, LabError | None] = {}
        self._sends: list[Send] = []
        self._outcomes: list[TaskOutcome] = []
        self._interrupted: dict[str, str] = {}
        self._porter = Porter()
        self._is_retiring = False
        self._is_dirty = False
        self._in_turn = False
        self._unsynced = Unsynced()
        self._syncing: Unsynced | None = None
        self._has_unsynced = anyio.Event()
        self._idle: anyio.CancelScope | None = None
        self._last_turn = self._next_tick = clock.monotonic()

    # -- for submitters -----------------------------------------------------------------------------------------------

    def open_run(
        self,
        run_id: str,
        run_dir: str,
        journal: Journal,
        on_outcomes: OnOutcomes,
        on_failure: OnFailure | None = None,
        *,
        left: Sequence[OpenTask] = (),
        epoch: int = 0,
        ledger: Ledger | None = None,
        weight: float = 1.0,
        dead: Sequence[OpenTask] = (),
        remembers: bool = True,
        env: Mapping[str, str] | None = None,
        abridge: Abridge = tuple,
    ) -> None:
        """Take tasks of this run from now on.

        Args:
            run_id: The run.
            run_dir: Absolute path of its directory.
            journal: Its journal; the caller closes it, after `close_run`.
            on_outcomes: Called with tasks that were settled, once that is recorded; it may call this host.
            on_failure: Called with the reason when the run's records cannot be written. Without it the run is closed.
            left: Tasks that an earlier broker had taken and not settled: they are queued, and not recorded again.
            epoch: The largest that any broker of this run had; this one's will be larger.
            ledger: What the run may spend and has spent; None for a new run without a budget.
            weight: How many turns it gets for one of a run of weight 1.
            dead: Its dead letters, which can be requeued.
            remembers: Whether ids of settled tasks are remembered, for whoever may submit one again; it costs memory.
            env: Environment variables that its tasks in child processes are granted; they reach no disk.
            abridge: By which lines the cases that a task flags go on record; as they are, where nothing is known of it.

        Raises:
            InvalidInput: The run is open already.
        """
        if run_id in self._homes:
            raise InvalidInput(f"run {run_id}", "is open already", "close it first")
        self._homes[run_id] = _Home(journal, on_outcomes, on_failure)
        self._tell(
            OpenRun(
                run_id, run_dir, tuple(left), epoch, ledger, weight, tuple(dead), remembers, dict(env or {}), abridge
            )
        )

    def submit(self, run_id: str, tasks: Iterable[TaskSpec]) -> tuple[Receipt, ...]:
        """Queue tasks of an open run; all of them, or none. What was submitted before, just so, is only answered again.

        Raises:
            InvalidInput: The run is not open, another task has an id, or a task cannot be executed.
            QueueFull: There are too many tasks already; `room` says how many would do.
        """
        *effects, accepted = self._state.step(Submit(run_id, tuple(tasks)), self._clock.monotonic())
        assert isinstance(accepted, Accepted)
        self._absorb(effects)
        self._wake()
        return accepted.receipts

    @property
    def room(self) -> Room:
        """What may still be submitted, over all runs."""
        return self._state.room

    def reprioritise(self, run_id: str, task_id: str, priority: int) -> None:
        """Put a task before or behind others of its run; one that is settled is passed over. It is not recorded."""
        self._tell(Reprioritise(run_id, task_id, priority))

    def requeue(self, run_id: str, task_ids: Sequence[str]) -> None:
        """Try dead letters again, with nothing behind them; all of them, or none.

        Raises:
            InvalidInput: The run is not open, or a task is not dead.
        """
        self._tell(Requeue(run_id, tuple(task_ids)))

    def record(self, run_id: str | None, *bodies: Body | Event, to_disk: bool = False) -> None:
        """Put lines into a run's journal (None: the lab's), behind all that happened so far.

        Args:
            run_id: The run.
            *bodies: The lines.
            to_disk: Whether they, and all before them, are to survive a power cut, whatever the journal's durability.

        Raises:
            InvalidInput: The run is not open, or a body cannot be written as JSON.
        """
        if run_id is not None and run_id not in self._homes:
            raise InvalidInput(f"run {run_id}", "is not open in this lab", "start or resume it first")
        for body in bodies:
            self._write(run_id, body)
        if to_disk and (journal := self._journal(run_id)) is not None:
            journal.to_disk()
        self._wake()

    def restore_topics(self, last: dict[str, Message]) -> None:
        """Know what was last said on the topics of this lab before this broker."""
        self._tell(RestoreTopics(last))

    def pause(self, run_id: str) -> None:
        """Assign nothing more of this run; what is assigned, finishes."""
        self._tell(PauseRun(run_id))

    def resume(self, run_id: str) -> None:
        """Assign tasks of this run again."""
        self._tell(ResumeRun(run_id))

    def close_budget(self, run_id: str, reason: str) -> None:
        """Admit no more requests of this run to models; what is in flight is finished."""
        self._tell(CloseBudget(run_id, reason))

    def cancel(self, run_id: str, task_ids: Sequence[str] | None = None, reason: str = "") -> None:
        """Give up these tasks (None: all) of a run; settled ones are passed over."""
        self._tell(CancelTasks(run_id, None if task_ids is None else tuple(task_ids), reason))

    def drain(self, session: str) -> None:
        """Give a session nothing more; once it has finished what it has begun, its supervisor is told to go."""
        self._tell(DrainSession(session))

    def close_run(self, run_id: str) -> None:
        """Forget a run; what it still has is given up without a record. An unknown run is passed over."""
        self._tell(CloseRun(run_id))
        self._homes.pop(run_id, None)
        self._touched.pop(run_id, None)
        for batch in filter(None, (self._syncing, self._unsynced)):
            batch.forget(run_id)

    def retire(self) -> None:
        """From now on nobody is told to stop: what workers elsewhere have begun, the next broker takes up."""
        self._is_retiring = True

    def flush(self) -> None:
        """Run the turn now: commit, wait for the disk, send and tell. Within a callback the running turn does it."""
        if self._in_turn:
            return
        self._end_turn()
        while self._syncing is not None or self._unsynced.journals:
            batch, self._syncing = self._syncing or self._take_unsynced(), None
            self._end_turn(batch, batch.sync())

    @property
    def epoch(self) -> int:
        """The broker's epoch now: larger than that of any broker that knew one of its runs before."""
        return self._state.epoch

    def stood_still_s(self) -> float:
        """Seconds in all for which it could not take its turn, the one that is overdue now included."""
        late = self._clock.monotonic() - self._last_turn - self._tick_s
        return self._state.board.counts.stalled_s + (late if late > self._tick_s / 2 else 0.0)

    def stats(self) -> Stats:
        """Say how the broker stands, in numbers."""
        return self._state.stats()._replace(strangers=self._listener.strangers)

    def workers(self) -> list[WorkerRow]:
        """List who is at work; `last_seen` in wall seconds."""
        shift = self._clock.wall() - self._clock.monotonic()
        return [row._replace(last_seen=row.last_seen + shift) for row in self._state.workers()]

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Serve peers and submitters until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._keep_syncing)
            await self._take_turns()

    async def _take_turns(self) -> None:
        self._last_turn = self._next_tick = self._clock.monotonic()
        with closing(self._porter):
            while True:
                is_due = self._is_dirty or self._porter.is_busy
                patience = 0.0 if is_due else max(0.0, self._next_look() - self._clock.monotonic())
                with anyio.move_on_after(patience) as self._idle:
                    await self._listener.wait_readable()
                self._idle = None
                self._turn()

    async def _keep_syncing(self) -> None:
        """Put on disk, in a thread, whatever came together while the last sync was under way."""
        while True:
            await self._has_unsynced.wait()
            self._has_unsynced = anyio.Event()
            while self._unsynced.journals:
                batch = self._syncing = self._take_unsynced()
                failed = await self._wait_for_disk(batch)
                if self._syncing is batch:  # else someone could not wait, and has waited for the disk himself
                    self._syncing = None
                    self._end_turn(batch, failed)

    async def _wait_for_disk(self, batch: Unsynced) -> Failed:
        return await anyio.to_thread.run_sync(batch.sync)

    def _take_unsynced(self) -> Unsynced:
        batch, self._unsynced = self._unsynced, Unsynced()
        return batch

    def _turn(self) -> None:
        now = self._clock.monotonic()
        self._absorb([Send(peer, answer) for peer, answer in self._porter.serve(now)])
        late = now - self._last_turn - self._tick_s
        self._last_turn = now
        is_late = late > self._tick_s / 2
        frames = self._listener.receive(_DRAIN)
        while is_late and len(frames) % _DRAIN == 0 and (more := self._listener.receive(_DRAIN)):
            frames += more
        self._hear(frames, now)
        if is_late:
            self._absorb(self._state.step(Stalled(late), now))
        if late > LONG_STALL_S:
            self._absorb([Record(None, LabStalled(by_s=late))])
        if now >= self._next_tick:
            self._next_tick = now + self._tick_s
            self._porter.clear(now)
            self._look_for_room(now)
            self._absorb(self._state.step(Tick(), now))
            self._is_dirty = True  # time alone may have made something ready: a recall
        elif (due_at := self._state.due_at) is not None and now >= due_at + _DUE_S and len(frames) < _DRAIN:
            self._absorb(self._state.step(Due(), now))
        if (wakes_at := self._state.wakes_at) is not None and now >= wakes_at:
            self._is_dirty = True
        self._end_turn()

    def _look_for_room(self, now: float) -> None:
        """Begin nothing more while the disk is nearly full; what is under way still has room to be recorded."""
        before, self.shortage = self.shortage, self._space()
        if bool(before) != bool(self.shortage):
            self._absorb(self._state.step(DiskShort(bool(self.shortage)), now))
            self._absorb([Record(None, LabDisk(is_short=bool(self.shortage), says=self.shortage))])

    def _next_look(self) -> float:
        """When time alone calls for a turn."""
        wakes_at, due_at = self._state.wakes_at, self._state.due_at
        look = self._next_tick if wakes_at is None else min(self._next_tick, wakes_at)
        return look if due_at is None else min(look, due_at + _DUE_S)

    def _hear(self, frames: list[tuple[str, bytes]], now: float) -> None:
        """Let the rules answer each frame; word of a death comes last, behind what the dead still said."""
        messages: list[tuple[str, ToBroker]] = []
        self._is_dirty |= bool(frames)  # also a question that has no effect yet may be answered in this turn
        for peer, frame in frames:
            try:
                messages.append((peer, decode_from_peer(frame)))
            except BadFrame as error:
                self._absorb([Send(peer, Refused(problem=str(error)))])
        messages.sort(key=lambda each: isinstance(each[1], Lost))
        for peer, message in messages:
            self._absorb(self._state.step(Received(peer, message), now))

    def _tell(self, stimulus: Stimulus) -> None:
        self._absorb(self._state.step(stimulus, self._clock.monotonic()))
        self._wake()

    def _wake(self) -> None:
        self._is_dirty = True
        if self._idle is not None:
            self._idle.cancel()

    def _absorb(self, effects: list[Effect]) -> None:
        """Buffer effects until the turn ends."""
        for effect in effects:
            match effect:
                case Settle():  # first: there is one a task, and few of the others
                    self._outcomes.append(effect.outcome)
                case Record(run_id=run_id, body=body):
                    try:
                        self._write(run_id, body)
                    except LabError as error:
                        self._touched[run_id] = error
                case Send():
                    self._sends.append(effect)
                case Serve():
                    self._porter.take(effect)
                case Abandon(run_id=run_id, reason=reason):
                    self._interrupted[run_id] = reason
        if effects:
            self._is_dirty = True

    def _write(self, run_id: str | None, body: Body | Event) -> None:
        journal = self._journal(run_id)
        if journal is None:
            return  # closed in this very turn
        journal.append(self._clock.wall(), body)
        self._touched.setdefault(run_id, None)

    def _end_turn(self, synced: Unsynced | None = None, lost: Failed | None = None) -> None:
        """Hand out, commit, send, tell; again, as long as those who were told had something to say.

        Args:
            synced: What had to wait for the disk, and comes first.
            lost: Those of its journals that the disk has not taken, and why.
        """
        self._in_turn = True
        try:
            if synced is not None:
                self._release(synced.sends, synced.outcomes, lost or {})
            while self._is_dirty:
                self._absorb(self._state.step(Assign(), self._clock.monotonic()))
                self._is_dirty = False
                failed = self._commit()
                self._release(*self._safe(), failed)
                interrupted, self._interrupted = self._interrupted, {}
                for run_id, reason in interrupted.items():
                    self._fail(run_id, reason)
        finally:
            self._in_turn = False

    def _commit(self) -> Failed:
        """Write down what journals were given; those that could not be written."""
        touched, self._touched = self._touched, {}
        failed: Failed = {}
        for run_id, error in touched.items():
            journal = self._journal(run_id)
            if journal is None:
                continue
            try:
                journal.write()
            except LabError as second:
                error = error or second
            if error is not None:
                failed[run_id] = error
                continue
            if run_id is None:
                self.lab_failure = None
            if journal.is_behind:
                self._unsynced.journals[run_id] = journal
                self._has_unsynced.set()
        return failed

    def _journal(self, run_id: str | None) -> Journal | None:
        """The journal of an open run (None: the lab's)."""
        home = None if run_id is None else self._homes.get(run_id)
        if home is not None:
            return home.journal
        return self._lab_journal if run_id is None else None

    def _safe(self) -> tuple[list[Send], list[TaskOutcome]]:
        """Take what may be said now; acknowledgements and outcomes of runs that the disk is behind with wait for it."""
        sends, self._sends = self._sends, []
        outcomes, self._outcomes = self._outcomes, []
        if self._syncing is None and not self._unsynced.journals:
            return sends, outcomes
        if self._syncing is not None:
            self._unsynced.journals.update(self._syncing.journals)  # what waits now is not said before what waits there
        waiting = self._unsynced.journals
        self._unsynced.sends += [send for send in sends if _acknowledges(send, waiting)]
        self._unsynced.outcomes += [outcome for outcome in outcomes if outcome.run_id in waiting]
        return (
            [send for send in sends if not _acknowledges(send, waiting)],
            [outcome for outcome in outcomes if outcome.run_id not in waiting],
        )

    def _release(self, sends: list[Send], outcomes: list[TaskOutcome], failed: Failed) -> None:
        """Send and tell what nothing stands in the way of; runs whose records failed are told that instead."""
        self._deliver(sends, failed)
        self._settle(outcomes, failed)
        for run_id, error in failed.items():
            if run_id is None:
                self.lab_failure = str(error)
            else:
                self._fail(run_id, str(error))

    def _deliver(self, sends: list[Send], failed: Failed) -> None:
        """Send what the commit allows."""
        for send in sends:
            message = send.message
            if self._is_retiring and isinstance(message, Cancel | Interrupt | Kill):
                continue
            if _acknowledges(send, failed):
                if isinstance(message, Recorded) and send.is_promise:
                    self._send(send.peer, Denied(note_id=message.note_id, reason=str(failed[send.run_id])))
                continue
            if failed and isinstance(message, Tasks):
                withheld = tuple(each for each in message.assignments if each.run_id in failed)
                message = Tasks(assignments=tuple(each for each in message.assignments if each.run_id not in failed))
                for run_id in {each.run_id for each in withheld}:
                    self._tell(PauseRun(run_id))
                self._tell(Undelivered(send.peer, Tasks(assignments=withheld), is_gone=False))
                if not message.assignments:
                    continue
            self._send(send.peer, message)

    def _send(self, peer: str, message: ToPeer) -> None:
        frame = encode(message)
        if len(frame) > MAX_FRAME and isinstance(message, Tasks) and len(message.assignments) > 1:
            half = len(message.assignments) // 2
            self._send(peer, Tasks(assignments=message.assignments[:half]))
            self._send(peer, Tasks(assignments=message.assignments[half:]))
        elif not self._listener.send(peer, frame):
            self._tell(Undelivered(peer, message))

    def _settle(self, outcomes: list[TaskOutcome], failed: Failed) -> None:
        """Tell submitters what was settled and recorded."""
        by_run: dict[str, list[TaskOutcome]] = {}
        for outcome in outcomes:
            by_run.setdefault(outcome.run_id, []).append(outcome)
        for run_id, settled in by_run.items():
            home = self._homes.get(run_id)
            if home is None or run_id in failed:
                continue
            try:
                home.on_outcomes(settled)
            except Exception as error:  # noqa: BLE001 - a submitter's mistake ends its own run, never the broker
                self._fail(run_id, f"{type(error).__name__} in the run's own rules: {error}")

    def _fail(self, run_id: str, reason: str) -> None:
        """Tell a run, once, that it cannot go on; whoever does not listen is closed."""
        home = self._homes.get(run_id)
        if home is None or home.has_failed:
            return
        home.has_failed = True
        try:
            if home.on_failure is not None:
                home.on_failure(reason)
                return
        except Exception as error:  # noqa: BLE001 - as above
            self.untold = f"run {run_id} could not be told that it failed: {error}"
        self.close_run(run_id)


def _acknowledges(send: Send, journals: Container[str | None]) -> bool:
    """Tell whether a message speaks of what was written to one of these journals (None: the lab's)."""
    return (send.run_id is not None or send.is_promise) and send.run_id in journals
