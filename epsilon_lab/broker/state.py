"""Every rule of who runs what, as one pure function: a stimulus in, effects out.

No socket, clock, dice or file: `now` is an argument, so a test owns time, and a simulation can own everything.

    submitted ──> queued ──> assigned ──> completed | failed | dead | cancelled      (settled, and out of memory)
                    ^            │
                    └────────────┘  released (nobody's fault) · failed, timed out or lost with tries left

**Fence.** Each assignment carries a number larger than any before it. A member's answer counts only while that number
is the one it holds; anything else is stale: recorded, answered, never applied. So execution is at least once and
acceptance exactly once.

**Credit.** Work is pushed. A member holds as many tasks as it has slots, and in advance as much as `credit_window_s`
of work by the durations measured for that run and kind. The least loaded member is served first; when nothing is ready
and a member is idle, what waits behind another's long task is recalled.

**Who is to blame.** A process works in the order assigned, so the first unfinished task is the one that was running
when it died; only that one is counted (`poison_limit` times, then it is dead), and the rest go back unblamed. Failures
of the user's own code are counted apart (`retries`). Being handed out costs nothing.

**Budget.** A note that asks for a request to a model is answered by the run's ledger, in the turn in which it came, or
in a later one when requests in flight have ended. A task's time limit stands still meanwhile.

**Deadlines** are the session's lease, renewed by any frame of any of its members, and a task's time limit, from the
moment it heads its member's line. If the broker itself was late by d, all of them move by d (`Stalled`).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from typing import Literal, assert_never, get_args

import msgspec

from epsilon_lab.broker.credit import is_open, may_take, waiting, waiting_since
from epsilon_lab.broker.ledger import Admit, Deny, Wait
from epsilon_lab.broker.lines import Lines, failure_of
from epsilon_lab.broker.members import Ask, Held, Member, Run, Session, Task, WorkerRow
from epsilon_lab.broker.queue import ReadyQueue
from epsilon_lab.broker.soundness import call_of, event_problem, is_paid, value_problem
from epsilon_lab.broker.stimuli import (
    Assign,
    CancelTasks,
    CloseBudget,
    CloseRun,
    Effect,
    OpenRun,
    PauseRun,
    Received,
    Record,
    ResumeRun,
    Send,
    Settle,
    Stalled,
    Stimulus,
    Submit,
    Tick,
    Undelivered,
)
from epsilon_lab.errors import BudgetExhausted, InvalidInput
from epsilon_lab.messages.events import (
    Body,
    LlmCall,
    TasksAssigned,
    TasksCancelled,
    TasksSubmitted,
    WorkerJoined,
    WorkerLeft,
    task_line,
)
from epsilon_lab.messages.frames import (
    MAX_FRAME,
    UNKNOWN_PEER,
    Bye,
    Cancel,
    Denied,
    Done,
    Hello,
    Kill,
    Lost,
    Note,
    Recorded,
    Refused,
    Renew,
    Stale,
    Tasks,
    ToBroker,
    ToPeer,
    Welcome,
)
from epsilon_lab.messages.tasks import (
    Assignment,
    AttemptOutcome,
    Event,
    Failure,
    Lane,
    Result,
    TaskOutcome,
    TaskSpec,
)
from epsilon_lab.messages.values import Value
from epsilon_lab.settings import INLINE_LIMIT, BrokerSettings

FENCE_BITS = 40
"""A fence is `epoch << FENCE_BITS | counter`: a later broker's are larger than all of an earlier one's."""

_MOST_SLOTS = 10_000

_OUTCOMES: dict[str, AttemptOutcome] = {outcome: outcome for outcome in get_args(AttemptOutcome)}
_Final = Literal["completed", "failed", "dead", "cancelled"]


class BrokerState:
    """All that the broker knows.

    Args:
        settings: What the rules are tuned by.
        epoch: Larger than that of any broker that knew these runs before.
    """

    def __init__(self, settings: BrokerSettings, *, epoch: int) -> None:
        self._settings = settings
        self._epoch = epoch
        self._counter = 0
        self._tickets = 0
        self._queue: ReadyQueue[Task] = ReadyQueue()
        self._runs: dict[str, Run] = {}
        self._sessions: dict[str, Session] = {}
        self._effects: list[Effect] = []

    def step(self, stimulus: Stimulus, now: float) -> list[Effect]:
        """Say what follows from a stimulus, in the order in which it must be carried out.

        Args:
            stimulus: What happened.
            now: Seconds on a clock that never goes back.

        Raises:
            InvalidInput: A submission names an unknown run, a known task or an unknown lane; nothing was taken.
        """
        self._effects = []
        match stimulus:
            case Received(peer=peer, message=message):
                self._received(peer, message, now)
            case Assign():
                self._assign(now)
            case Submit(run_id=run_id, tasks=tasks):
                self._submit(run_id, tasks)
            case Tick():
                self._tick(now)
            case Stalled(by=by):
                self._stalled(by, now)
            case Undelivered():
                self._undelivered(stimulus, now)
            case CancelTasks(run_id=run_id, task_ids=task_ids, reason=reason):
                self._cancel(run_id, task_ids, reason, now)
            case OpenRun():
                self._open(stimulus)
            case PauseRun(run_id=run_id):
                self._queue.pause(run_id)
            case ResumeRun(run_id=run_id):
                self._queue.resume(run_id)
            case CloseBudget(run_id=run_id, reason=reason):
                if run_id in self._runs:
                    self._runs[run_id].ledger.close(reason)
            case CloseRun(run_id=run_id):
                self._close(run_id, now)
            case _:
                assert_never(stimulus)
        return self._effects

    @property
    def epoch(self) -> int:
        """The highest part of its fences; it grows where a run is opened that has seen a larger one."""
        return self._epoch

    def workers(self) -> list[WorkerRow]:
        """List the members that execute tasks."""
        return [member.row for member in self._members() if member.hello.slots]

    def _members(self) -> Iterable[Member]:
        for session in self._sessions.values():
            yield from session.members.values()

    def _send(self, peer: str, message: ToPeer) -> None:
        self._effects.append(Send(peer, message))

    def _record(self, run_id: str | None, body: Body | Event) -> None:
        self._effects.append(Record(run_id, body))

    # -- what submitters say ----------------------------------------------------------------------------------------

    def _open(self, opened: OpenRun) -> None:
        run = self._runs.setdefault(opened.run_id, Run(opened.run_id, opened.run_dir, opened.ledger))
        self._epoch = max(self._epoch, opened.epoch + 1)
        for left in opened.tasks:
            task = self._take(run, left.spec)
            task.attempt, task.lost, task.failed = left.attempt, left.lost, left.failed

    def _submit(self, run_id: str, tasks: tuple[TaskSpec, ...]) -> None:
        run = self._runs.get(run_id)
        if run is None:
            raise InvalidInput(f"run {run_id}", "is not open in this lab", "start or resume it first")
        seen: set[str] = set()
        for spec in tasks:
            if spec.task_id in run.known or spec.task_id in seen:
                raise InvalidInput(
                    f"task {spec.task_id}", f"was submitted to run {run_id} before", "give it its own id"
                )
            if spec.lane not in get_args(Lane):
                raise InvalidInput(f"task {spec.task_id}", f"names the unknown lane {spec.lane!r}")
            if len(spec.payload.data) > MAX_FRAME // 2:
                raise InvalidInput(
                    f"task {spec.task_id}",
                    f"has a payload of {len(spec.payload.data)} bytes",
                    f"put what exceeds {INLINE_LIMIT} bytes into a file of the run directory",
                )
            seen.add(spec.task_id)
        for spec in tasks:
            self._take(run, spec)
        if tasks:
            self._record(run_id, TasksSubmitted(tasks=tuple(map(task_line, tasks))))

    def _take(self, run: Run, spec: TaskSpec) -> Task:
        run.known.add(spec.task_id)
        self._tickets += 1
        task = run.tasks[spec.task_id] = Task(run, spec, self._tickets)
        self._enqueue(task)
        return task

    def _enqueue(self, task: Task) -> None:
        spec = task.spec
        task.holder = None
        self._queue.push(task, lane=spec.lane, run_id=task.run.run_id, priority=spec.priority, ticket=task.ticket)

    def _cancel(self, run_id: str, task_ids: tuple[str, ...] | None, reason: str, now: float) -> None:
        run = self._runs.get(run_id)
        if run is None:
            return
        ids = tuple(run.tasks) if task_ids is None else task_ids
        tasks = [run.tasks[task_id] for task_id in dict.fromkeys(ids) if task_id in run.tasks]
        if not tasks:
            return
        self._give_up(tasks, now)
        self._record(run_id, TasksCancelled(task_ids=tuple(task.spec.task_id for task in tasks), reason=reason))
        for task in tasks:
            self._settle(task, "cancelled", failure=failure_of(task, "cancelled", reason))

    def _close(self, run_id: str, now: float) -> None:
        run = self._runs.pop(run_id, None)
        if run is not None:
            self._give_up(list(run.tasks.values()), now)
            self._queue.drop(run_id)

    def _give_up(self, tasks: list[Task], now: float) -> None:
        """Take tasks from the queue and from their holders; a process that works on one has a grace to finish it."""
        cancelled: defaultdict[str, list[int]] = defaultdict(list)
        for task in tasks:
            member = task.holder
            if member is None:
                self._queue.discard(task.ticket)
                continue
            held = member.held[task.fence]
            if held.started is not None and not member.is_wide:
                held.task = None
                member.kill_at = now + self._settings.grace_s
            else:
                self._drop_place(member, task.fence, now)
                cancelled[member.peer].append(task.fence)
            task.holder = None
        for peer, fences in cancelled.items():
            self._send(peer, Cancel(fences=tuple(fences)))

    def _settle(
        self, task: Task, status: _Final, *, output: Value | None = None, failure: Failure | None = None
    ) -> None:
        del task.run.tasks[task.spec.task_id]
        self._effects.append(
            Settle(
                TaskOutcome(
                    run_id=task.run.run_id,
                    task_id=task.spec.task_id,
                    status=status,
                    output=output,
                    failure=failure,
                )
            )
        )

    # -- what peers say ---------------------------------------------------------------------------------------------

    def _received(self, peer: str, message: ToBroker, now: float) -> None:
        name = peer.partition("/")[0]
        session = self._sessions.get(name)
        member = session.members.get(peer) if session is not None else None
        if session is None or member is None:
            if isinstance(message, Hello):
                self._hello(peer, message, now)
            else:
                self._send(peer, Refused(problem=f"{UNKNOWN_PEER} {peer!r}: say hello first"))
            return
        session.heard = member.heard = now
        member.away = False
        match message:
            case Done(results=results, failures=failures):
                self._done(member, results, failures, now)
            case Note():
                self._note(member, message, now)
            case Renew():
                pass
            case Hello():
                self._hello(peer, message, now)
            case Lost():
                self._lost(member, session, message)
            case Bye():
                leaving = [member] if member.hello.lanes else list(session.members.values())
                for each in leaving:
                    self._leave(each, "left in good order")
            case _:
                assert_never(message)

    def _hello(self, peer: str, hello: Hello, now: float) -> None:
        name, slash, member_name = peer.partition("/")
        if not (name and slash and member_name and peer.isprintable()):
            self._send(peer, Refused(problem=f"peer id {peer!r} is not of the form <session>/<member>"))
            return
        if not 0 <= hello.slots <= _MOST_SLOTS or bool(hello.slots) != bool(hello.lanes):
            self._send(peer, Refused(problem=f"{hello.slots} slots for lanes {hello.lanes}: both or neither, if any"))
            return
        session = self._sessions.setdefault(name, Session(now))
        session.heard = now
        known = session.members.get(peer)
        if known is not None and known.hello.pid != hello.pid:
            self._leave(known, f"replaced by process {hello.pid}", blame="lost")
            session = self._sessions.setdefault(name, session)
            known = None
        if known is None:
            session.members[peer] = Member(peer, hello, now)
        else:
            known.hello = hello
            known.mark_started(now)
        if known is None and hello.slots:
            self._record(
                None,
                WorkerJoined(worker_id=peer, pid=hello.pid, host=hello.host, slots=hello.slots, lanes=hello.lanes),
            )
        settings = self._settings
        self._send(peer, Welcome(epoch=self._epoch, lease_s=settings.lease_s, beat_s=settings.beat_s))

    def _lost(self, boss: Member, session: Session, lost: Lost) -> None:
        member = session.members.get(lost.member)
        if boss.hello.lanes or lost.member.partition("/")[0] != boss.peer.partition("/")[0]:
            self._send(boss.peer, Refused(problem=f"{boss.peer} does not supervise {lost.member}"))
        elif member is not None and member.killed_at is not None:
            self._leave(member, lost.reason)  # we had it killed, for a task that was charged then
        elif member is not None:
            self._leave(member, lost.reason, blame=_OUTCOMES.get(lost.outcome, "crashed"), lost=lost)

    def _done(self, member: Member, results: tuple[Result, ...], failures: tuple[Failure, ...], now: float) -> None:
        lines = Lines(member.peer)
        settled: list[tuple[Task, _Final, Value | None, Failure | None]] = []
        answers: tuple[Result | Failure, ...] = (*results, *failures)
        for answer in answers:
            task = self._accept(member, answer, now)
            if task is None:
                self._stale(lines, answer)
                continue
            self._record_events(member, task.run, answer.events)
            if isinstance(answer, Result) and (problem := value_problem(answer.output)):
                answer = failure_of(
                    task, "failed", f"the worker's answer cannot be recorded: {problem}", retryable=False
                )
            if isinstance(answer, Result):
                if not member.is_wide:
                    task.run.learn(task.spec.kind, answer.ended_at - answer.started_at)
                lines.complete(task, answer)
                settled.append((task, "completed", answer.output, None))
            elif status := self._charge_failure(task, answer, lines):
                settled.append((task, status, None, answer))
        self._record_lines(lines)
        for task, status, output, failure in settled:
            self._settle(task, status, output=output, failure=failure)
        if lines.stale_fences:
            self._send(member.peer, Stale(fences=lines.stale_fences))

    def _accept(self, member: Member, answer: Result | Failure, now: float) -> Task | None:
        """Take an answer's task out of its member's hands; None where the answer is stale."""
        held = member.held.get(answer.fence)
        if held is None:
            return None
        task = held.task
        if task is not None and (task.spec.task_id, task.run.run_id) != (answer.task_id, answer.run_id):
            return None
        self._drop_place(member, answer.fence, now)
        if task is not None:
            task.holder = None
        return task

    def _stale(self, lines: Lines, answer: Result | Failure) -> None:
        lines.stale(answer)
        if run := self._runs.get(answer.run_id):
            for event in filter(is_paid, answer.events):
                self._record_event(run, event)

    def _note(self, member: Member, note: Note, now: float) -> None:
        run = self._runs.get(note.run_id)
        if run is None:
            self._send(member.peer, Refused(problem=f"run {note.run_id} is not open: its events were not recorded"))
            return
        task = run.tasks.get(note.task_id)
        is_holder = task is not None and task.holder is member and note.fence in (None, task.fence)
        events, asked = [], None
        for event in note.events:
            call = call_of(event)
            if call is not None and call.outcome == "unknown" and not (is_holder and run.ledger.knows(call)):
                asked = Ask(member.peer, note.note_id, call, now)
            elif is_holder or is_paid(event):
                events.append(event)
        self._record_events(member, run, events)
        if asked is None:
            self._effects.append(Send(member.peer, Recorded(note_id=note.note_id), note.run_id))
        elif task is not None and is_holder and asked.call.task_id == note.task_id:
            run.asks[task.fence] = asked
        else:
            self._deny(run, asked, "its task is in other hands by now")

    def _record_events(self, member: Member, run: Run, events: Iterable[Event]) -> None:
        for event in events:
            if problem := self._record_event(run, event):
                self._send(member.peer, Refused(problem=f"event {event.type!r} was not recorded: {problem}"))

    def _record_event(self, run: Run, event: Event) -> str:
        """Record an event and charge what it says was spent; say why, where it cannot be recorded."""
        if problem := event_problem(event):
            return problem
        if call := call_of(event):
            run.ledger.take(call)
        self._record(run.run_id, event)
        return ""

    # -- what models are asked ----------------------------------------------------------------------------------------

    def _answer_asks(self, run: Run, now: float) -> None:
        """Admit the requests that the run's budget allows, first come, first served."""
        run.asks = {fence: ask for fence, ask in run.asks.items() if run.is_held(ask.call.task_id, fence)}
        run.ledger.land(run.is_held)
        for fence, ask in list(run.asks.items()):
            match run.ledger.admit(ask.call):
                case Admit(call=call):
                    self._admit(run, ask, call, fence, now)
                case Deny(reason=reason):
                    self._deny(run, ask, f"{BudgetExhausted.PREFIX}{reason}")
                case Wait():
                    return
            del run.asks[fence]

    def _admit(self, run: Run, ask: Ask, call: LlmCall, fence: int, now: float) -> None:
        run.ledger.take(call, fence)
        self._record(run.run_id, call)
        granted = None if call is ask.call or call.most is None else call.most.reply_tokens
        self._effects.append(Send(ask.peer, Recorded(note_id=ask.note_id, reply_tokens=granted), run.run_id))
        holder = run.tasks[call.task_id].holder
        if holder is not None and (started := holder.held[fence].started) is not None:
            holder.held[fence].started = started + now - ask.since

    def _deny(self, run: Run, ask: Ask, reason: str) -> None:
        self._record(run.run_id, msgspec.structs.replace(ask.call, outcome="refused", error=reason))
        self._effects.append(Send(ask.peer, Denied(note_id=ask.note_id, reason=reason), run.run_id))

    # -- what becomes of an attempt -----------------------------------------------------------------------------------

    def _charge_failure(self, task: Task, failure: Failure, lines: Lines) -> _Final | None:
        """Count a failure of the task's own; its final status, or None where it is tried again."""
        task.failed += 1
        again = failure.retryable and task.failed <= task.spec.retries
        lines.fail(task, failure, then="queued" if again else "failed")
        if again:
            self._enqueue(task)
            return None
        return "failed"

    def _charge_loss(self, task: Task, failure: Failure, lines: Lines) -> _Final | None:
        """Count a worker that went down with the task; its final status, or None where it is tried again."""
        task.lost += 1
        again = task.lost < self._settings.poison_limit
        lines.fail(task, failure, then="queued" if again else "dead")
        if again:
            self._enqueue(task)
            return None
        return "dead"

    def _release(self, task: Task, lines: Lines) -> None:
        lines.release(task)
        self._enqueue(task)

    def _record_lines(self, lines: Lines, reason: str = "") -> None:
        for run_id, body in lines.records(reason):
            if run_id in self._runs:
                self._record(run_id, body)

    def _leave(
        self, member: Member, reason: str, *, blame: AttemptOutcome | None = None, lost: Lost | None = None
    ) -> None:
        """Let a member go: what it worked on is charged (unless `blame` is None), the rest is released."""
        name = member.peer.partition("/")[0]
        session = self._sessions[name]
        del session.members[member.peer]
        if not session.members:
            del self._sessions[name]
        guilty: set[int] = set()
        if blame is not None:
            known = lost.fence if lost is not None else None
            guilty = {known} if known is not None else {fence for fence, _ in member.started()}
        lines = Lines(member.peer)
        dead: list[tuple[Task, Failure]] = []
        for fence, held in member.held.items():
            task = held.task
            if task is None:
                continue
            if blame is None or fence not in guilty:
                self._release(task, lines)
                continue
            failure = failure_of(task, blame, f"worker {member.peer} was lost: {reason}")
            if lost is not None:
                tails = {"stdout_tail": lost.stdout_tail, "stderr_tail": lost.stderr_tail}
                failure = msgspec.structs.replace(failure, **tails)
            if self._charge_loss(task, failure, lines):
                dead.append((task, failure))
        self._record_lines(lines, reason)
        if member.hello.slots:
            self._record(None, WorkerLeft(worker_id=member.peer, reason=reason))
        for task, failure in dead:
            self._settle(task, "dead", failure=failure)

    def _drop_place(self, member: Member, fence: int, now: float) -> None:
        """Take a place out of a member's line; the next one is worked on from now."""
        held = member.held.pop(fence)
        member.backlog = member.backlog - held.estimate if member.held else 0.0
        if held.task is None:
            member.kill_at = None
        member.mark_started(now)

    def _undelivered(self, stimulus: Undelivered, now: float) -> None:
        session = self._sessions.get(stimulus.peer.partition("/")[0])
        member = session.members.get(stimulus.peer) if session is not None else None
        if member is None or not isinstance(stimulus.message, Tasks):
            return
        member.away = stimulus.is_gone
        self._take_back(member, [each.fence for each in stimulus.message.assignments], "could not be delivered", now)

    def _take_back(self, member: Member, fences: Iterable[int], reason: str, now: float) -> list[int]:
        """Release what a member holds under these fences, as far as it still does."""
        lines = Lines(member.peer)
        taken = []
        for fence in fences:
            held = member.held.get(fence)
            if held is not None and held.task is not None:
                task = held.task
                self._drop_place(member, fence, now)
                self._release(task, lines)
                taken.append(fence)
        self._record_lines(lines, reason)
        return taken

    # -- deadlines ----------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        for name, session in list(self._sessions.items()):
            if now - session.heard > self._settings.lease_s:
                for member in list(session.members.values()):
                    self._leave(member, f"session {name} was silent for {now - session.heard:.1f} s", blame="expired")
                continue
            for member in list(session.members.values()):
                member.away = False  # it may be connected again; the next batch will tell
                self._check_limits(member, now)

    def _check_limits(self, member: Member, now: float) -> None:
        over = [
            held.task
            for _, held in member.started()
            if held.task is not None
            and held.started is not None
            and held.task.spec.time_limit_s is not None
            and now - held.started > held.task.spec.time_limit_s
            and held.task.fence not in held.task.run.asks
        ]
        if over:
            self._time_out(member, over, now)
        if member.kill_at is not None and now >= member.kill_at:
            self._kill(member, "it did not stop a cancelled task in time", now)
        if member.killed_at is not None and now - member.killed_at > self._settings.lease_s:
            self._leave(member, "its supervisor did not say that it was killed")

    def _time_out(self, member: Member, over: list[Task], now: float) -> None:
        lines = Lines(member.peer)
        settled: list[tuple[Task, _Final, Failure]] = []
        for task in over:
            limit = task.spec.time_limit_s
            failure = failure_of(task, "timeout", f"not done within its time limit of {limit:g} s")
            if member.is_wide:
                self._drop_place(member, task.fence, now)
            else:
                member.held[task.fence].task = None
            if status := self._charge_failure(task, failure, lines):
                task.holder = None
                settled.append((task, status, failure))
        self._record_lines(lines)
        for task, status, failure in settled:
            self._settle(task, status, failure=failure)
        if member.is_wide:
            self._send(member.peer, Cancel(fences=tuple(task.fence for task in over)))
        else:
            self._kill(member, f"task {over[0].spec.task_id} exceeded its time limit", now)

    def _kill(self, member: Member, reason: str, now: float) -> None:
        if member.killed_at is None:
            member.killed_at = now
            name = member.peer.partition("/")[0]
            for boss in self._sessions[name].members.values():
                if not boss.hello.lanes:
                    self._send(boss.peer, Kill(member=member.peer, reason=reason))

    def _stalled(self, by: float, now: float) -> None:
        for session in self._sessions.values():
            session.heard = min(now, session.heard + by)
            for member in session.members.values():
                for held in member.held.values():
                    if held.started is not None:
                        held.started = min(now, held.started + by)
                if member.kill_at is not None:
                    member.kill_at += by
                if member.killed_at is not None:
                    member.killed_at = min(now, member.killed_at + by)

    # -- handing out --------------------------------------------------------------------------------------------------

    def _assign(self, now: float) -> None:
        for run in self._runs.values():
            if run.asks:
                self._answer_asks(run, now)
        batches: dict[str, tuple[Member, list[Assignment]]] = {}
        for lane in get_args(Lane):
            open_members = [member for member in self._members() if is_open(member, lane)]
            if not open_members:
                continue
            self._hand_out(lane, open_members, batches)
            if self._recall(open_members, now):
                self._hand_out(lane, open_members, batches)
        for member, assignments in batches.values():
            member.mark_started(now)
            by_run: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
            for each in assignments:
                by_run[each.run_id].append((each.task.task_id, each.attempt, each.fence))
            for run_id, tasks in by_run.items():
                self._record(run_id, TasksAssigned(worker_id=member.peer, tasks=tuple(tasks)))
            self._send(member.peer, Tasks(assignments=tuple(assignments)))

    def _hand_out(self, lane: str, members: list[Member], batches: dict[str, tuple[Member, list[Assignment]]]) -> None:
        """Give tasks to the least loaded member, one by one, as long as it may take the next."""
        heap = [(len(member.held) / member.hello.slots, place) for place, member in enumerate(members)]
        heapq.heapify(heap)
        while heap and (task := self._queue.peek(lane)) is not None:
            _, place = heap[0]
            member = members[place]
            estimate = task.run.durations.get(task.spec.kind)
            if not may_take(member, task, estimate, self._settings):
                heapq.heappop(heap)
                continue
            self._queue.pop(lane)
            batch = batches.setdefault(member.peer, (member, []))[1]
            batch.append(self._hand(member, task, estimate or 0.0))
            heapq.heapreplace(heap, (len(member.held) / member.hello.slots, place))

    def _hand(self, member: Member, task: Task, estimate: float) -> Assignment:
        self._counter += 1
        task.fence = self._epoch << FENCE_BITS | self._counter
        task.attempt += 1
        task.holder = member
        member.held[task.fence] = Held(task, estimate)
        member.backlog += estimate
        return Assignment(
            run_id=task.run.run_id, run_dir=task.run.run_dir, task=task.spec, attempt=task.attempt, fence=task.fence
        )

    def _recall(self, members: list[Member], now: float) -> bool:
        """Take back, for idle members, what waits behind tasks that have been running for long."""
        idle = sum(not member.held for member in members)
        if not idle:
            return False
        donors: list[tuple[float, Member, list[int]]] = []
        for member in members:
            since = waiting_since(member, now)
            if since is not None:
                fences = [fence for fence, task in waiting(member) if not self._queue.is_paused(task.run.run_id)]
                if fences:
                    donors.append((since, member, fences))
        recalled = False
        for _, member, fences in sorted(donors, key=lambda each: each[0]):
            taken = self._take_back(member, fences[:idle], "recalled for an idle worker", now)
            self._send(member.peer, Cancel(fences=tuple(taken)))
            idle -= len(taken)
            recalled = True
            if not idle:
                break
        return recalled
