"""From events to rows: what a journal says, told as the tables of schema.py.

Pure, and the same rows come out however the journal is cut into pieces: a fold keeps only what a later event may still
change (open tasks, attempts whose answer may come late) and hands on each row as soon as it is touched. So reading a
journal's tail costs what the tail costs, and finished work leaves memory. Types and fields nobody here knows are
passed over, so that a newer lab's run opens in an older one.
"""

from __future__ import annotations

from typing import cast

import msgspec

from epsilon_lab import ids
from epsilon_lab.messages.cases import offered, put_off, speaking
from epsilon_lab.messages.deciders import AUTHORITY
from epsilon_lab.messages.events import (
    OF_CASES,
    READERS,
    ArtifactSaved,
    BriefWritten,
    CandidateSettled,
    CaseAsWritten,
    CasesAsked,
    CasesRanked,
    CaseUnsure,
    CaseWithdrawn,
    CompletedLine,
    FailedLine,
    GenerationClosed,
    LabClosed,
    LabOpened,
    LlmCall,
    MessageLine,
    MessagesSent,
    RunAdopted,
    RunBorn,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    StageReviewed,
    TaskLine,
    TaskPrioritised,
    TasksAdopted,
    TasksAssigned,
    TasksCancelled,
    TasksCompleted,
    TasksExpired,
    TasksFailed,
    TasksReleased,
    TasksRequeued,
    TasksRevised,
    TasksStale,
    TasksSubmitted,
    TasksWaiting,
    ToolCalled,
    TopicsPublished,
    VerdictGiven,
    WorkerJoined,
    WorkerLeft,
)
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import JOURNAL
from epsilon_lab.workspace.schema import TABLES

Row = dict[str, object]
"""Column -> value; a timestamp is wall seconds since the epoch, a JSON column is its Python object, or JSON."""

_LATE = ("lost", "expired")  # outcomes after which the answer may still come, too late

_REVIEWED = ("merge", "node", "part", "stage")  # kinds of tasks whose output may yet be refused

_NOBODY_AT_IT: Row = {"status": "queued", "worker_id": None, "started_at": None}

_WITH_ITS_RUN = "its run ended"
_INTERRUPTED = "its lab ended without ending it"


def how_to_resume(run_id: str) -> str:
    """What to do about an interrupted run."""
    return f"go on with lab.resume({run_id!r})"


class Fold:
    """The rows of one journal, a run's or the lab's own.

    Attributes:
        run_id: The run; None for the lab's journal.
        touched: table -> key -> row, since they were last drained.
        born: Runs begun since the lab was last opened (the lab's journal alone).
        lab: Who opened the lab last, unless it was closed since (the lab's journal alone).
        unread: The first event whose body does not fit its type, in words.
    """

    def __init__(self, run_id: str | None) -> None:
        self.run_id = run_id
        self._trace_id = None if run_id is None else ids.trace_id(run_id)
        self.touched: dict[str, dict[object, Row]] = {name: {} for name in TABLES}
        self.born: set[str] = set()
        self.lab: LabOpened | None = None
        self.unread: str | None = None
        self._run: Row | None = None
        self._state = ""  # what the journal says of the run; whether anyone is at it, the journal cannot know
        self._tasks: dict[str, Row] = {}
        self._dead: dict[str, Row] = {}
        self._attempts: dict[int, Row] = {}
        self._workers: dict[str, Row] = {}
        self._calls: dict[str, LlmCall] = {}
        self._cases: dict[str, Row] = {}
        self._verdicts: dict[str, list[VerdictGiven]] = {}
        self._verdict_rows: dict[tuple[str, int | None], Row] = {}
        self._authority = AUTHORITY
        self._most_cases: int | None = None
        self._reviewable: dict[str, Row] = {}
        """The last revision of each node or stage that has an output, by its first: it may be refused yet."""
        self._last_ts = 0.0

    def take(self, record: Record) -> None:
        """Fold one more event in."""
        self._take(record)
        if not record.type.startswith(OF_CASES):
            self._last_ts = record.ts

    def _take(self, record: Record) -> None:
        reader = READERS.get(record.type)
        if reader is None:
            return
        try:
            body = reader.decode(record.body)
        except msgspec.ValidationError as error:
            self.unread = self.unread or f"event {record.seq} ({record.type}) does not read: {error}"
            return
        self._apply(body, record.ts, record.seq)

    def drain(self, table: str) -> list[Row]:
        """Take a table's touched rows."""
        if table == "cases" and self._most_cases is not None and self.touched[table]:
            self._put_off(self._most_cases)
        rows = list(self.touched[table].values())
        self.touched[table] = {}
        return rows

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self._run is not None and self._state not in ("running", "paused")

    @property
    def has_cases(self) -> bool:
        """Whether someone may yet decide about something."""
        return bool(self._cases)

    def case(self, case_id: str) -> tuple[Row, tuple[VerdictGiven, ...]] | None:
        """One case and all that was decided about it; None where there is none."""
        row = self._cases.get(case_id)
        if row is None:
            return None
        evidence = msgspec.json.decode(cast(msgspec.Raw, row["evidence"]))
        return row | {"evidence": evidence}, tuple(self._verdicts.get(case_id, ()))

    def watched(self, live: bool) -> None:
        """Say whether a lab is at this run: one without an end that nobody is at was interrupted."""
        if self._run is None:
            return
        open_ended = self._state in ("running", "paused")
        status = self._state if live or not open_ended else "interrupted"
        if self._run["status"] != status:
            self._run["status"] = status
            if open_ended:
                self._run["reason"] = None if live else f"{_INTERRUPTED}; {how_to_resume(str(self.run_id))}"
                for row in self._attempts.values():
                    if row["outcome"] is None:  # a copy: a lab that comes back to the run may still have it
                        self._touch("attempts", row if live else row | {"outcome": "lost"})
                for task in self._tasks.values():
                    if task["status"] == "running":
                        self._touch("tasks", task if live else task | _NOBODY_AT_IT)
            self._touch("runs", self._run)

    def _touch(self, table: str, row: Row) -> None:
        key = TABLES[table].key
        rows = self.touched[table]
        rows[tuple(row[column] for column in key) if key else len(rows)] = row

    def _add(self, table: str, body: msgspec.Struct, **columns: object) -> None:
        """Add a row out of a body's fields of the same names; empty text becomes NULL."""
        row: Row = {}
        for column in TABLES[table].columns:
            value = columns[column] if column in columns else getattr(body, column, None)
            row[column] = None if value == "" else value
        row["run_id"] = self.run_id
        self._touch(table, row)

    def _answered(self, candidate_id: str) -> bool:
        call = self._calls.get(candidate_id)
        return call is not None and call.reply_ref is not None

    def _with_call(self, row: CandidateSettled) -> CandidateSettled:
        """Point a candidate whose proposal came to nothing to what was asked and answered all the same."""
        call = self._calls.get(row.candidate_id)
        if call is None or row.prompt_ref is not None:
            return row
        return msgspec.structs.replace(
            row, prompt_ref=call.prompt_ref, reply_ref=call.reply_ref, prompt_sha256=call.prompt_sha256
        )

    def _apply(self, body: msgspec.Struct, ts: float, seq: int) -> None:
        match body:
            case CandidateSettled():
                self._add("candidates", self._with_call(body), created_at=ts)
            case TasksCompleted():
                for done in body.tasks:
                    self._complete(done, body.worker_id, seq)
            case TasksAssigned():
                for task_id, attempt, fence in body.tasks:
                    self._assign(task_id, attempt, fence, body.worker_id, ts)
            case TasksSubmitted():
                for line in body.tasks:
                    self._submit(line, "queued", ts)
            case TasksWaiting():
                for line in body.tasks:
                    self._submit(line, "waiting", None)
            case TasksFailed():
                for failure in body.tasks:
                    self._fail(failure, body.worker_id, ts)
            case TasksReleased():
                for task_id, _, fence in body.tasks:
                    self._release(task_id, fence, body.reason, ts)
            case TasksExpired():
                for task_id, error in body.tasks:
                    self._update(task_id, status="failed", finished_at=ts, error=error)
            case TasksAdopted():
                for task_id, attempt, fence in body.tasks:
                    self._readopt(task_id, attempt, fence, body.worker_id, ts)
            case TasksRevised():
                self._go_on()
            case TasksRequeued():
                self._go_on()
                for task_id in body.task_ids:
                    self._requeue(task_id)
            case TaskPrioritised():
                self._update(body.task_id, priority=body.priority)
            case TasksStale():
                for task_id, fence in body.tasks:
                    self._late(task_id, fence, body.worker_id, ts)
            case TasksCancelled():
                for task_id in body.task_ids:
                    self._cancel(task_id, body.reason, ts)
            case TopicsPublished():
                for topic, said in body.topics.items():
                    self._say(said, ts, topic=topic)
            case MessagesSent():
                for name, said in body.messages:
                    self._say(said, ts, recipient=name if self.run_id is None else f"{self.run_id}/{name}")
            case ArtifactSaved():
                self._add("artifacts", body, created_at=ts)
            case LlmCall():
                self._add("llm_calls", body, created_at=ts, request=body.request or f"#{seq}")
                if body.candidate_id is not None and (body.reply_ref or not self._answered(body.candidate_id)):
                    self._calls[body.candidate_id] = body
            case ToolCalled():
                self._add("tool_calls", body, created_at=ts)
            case GenerationClosed():
                self._add("generations", body, closed_at=ts)
            case BriefWritten():
                self._add("briefs", body, created_at=ts)
            case CaseAsWritten():
                self._flag(body, ts)
            case CasesAsked():
                for case_id in filter(self._cases.__contains__, body.told):
                    self._ask(self._cases[case_id], body.task_id)
            case CaseWithdrawn() if body.case_id in self._cases:
                self._cases[body.case_id].update(status="withdrawn", reason=body.reason)
                self._touch("cases", self._cases[body.case_id])
            case CaseUnsure() if body.case_id in self._cases:
                case = self._cases[body.case_id]
                case["unsure"] = {**cast("dict[str, str]", case["unsure"] or {}), body.decider: body.note}
                self._touch("cases", case)
            case CasesRanked():
                self._authority = body.kinds
                for case_id in self._verdicts:
                    self._rule(case_id)
            case StageReviewed(then="failed"):
                if (task := self._reviewable.pop(body.node, None)) and task["task_id"] == body.task_id:
                    task.update(status="failed", error=body.reason or None)
                    self._touch("tasks", task)
            case VerdictGiven():
                self._decide(body, ts)
            case RunStarted():
                self._start(body, ts)
            case RunAdopted():
                self._adopt(ts)
            case RunPaused():
                self._set_state("paused")
            case RunResumed():
                self._set_state("running")
            case RunEnded():
                for task_id in list(self._tasks):
                    self._cancel(task_id, _WITH_ITS_RUN, ts)
                self._set_state(body.status, body.reason or None, ts)
            case WorkerJoined():
                self._join(body, ts)
            case WorkerLeft():
                self._leave(body.worker_id, body.reason, ts)
            case LabOpened():
                self._close_lab(ts)
                self.lab = body
            case LabClosed():
                self._close_lab(ts)
            case RunBorn(is_begun=True):
                self.born.add(body.run_id)

    # -- the run ------------------------------------------------------------------------------------------------------

    def _start(self, body: RunStarted, ts: float) -> None:
        self._run = {
            "run_id": self.run_id,  # the directory's name: a copy beside its original is a run of its own
            "topology": body.topology,
            "name": body.name,
            "tags": body.tags,
            "status": "running",
            "reason": None,
            "seed": body.seed,
            "config": body.config | ({"budget": msgspec.to_builtins(body.budget)} if body.budget else {}),
            "started_at": ts,
            "ended_at": None,
            "idle_s": 0.0,
            "parent_run_id": body.parent_run_id,
        }
        self._state = "running"
        self._most_cases = None if body.budget is None else body.budget.cases
        self._touch("runs", self._run)

    def _adopt(self, ts: float) -> None:
        """Give up what the lab before had under way, nobody knows when: attempts are lost, their tasks queued again."""
        if self._run is not None:
            idle = max(0.0, ts - self._last_ts)
            self._run.update(status=self._state, reason=None, idle_s=cast(float, self._run["idle_s"]) + idle)
            self._touch("runs", self._run)
        for row in list(self._attempts.values()):
            if row["outcome"] is None:
                self._end(row, "lost", None, error=_INTERRUPTED)
                self._touch("attempts", row)
        for task_id, task in self._tasks.items():
            if task["status"] == "running":
                self._update(task_id, **_NOBODY_AT_IT)

    def _go_on(self) -> None:
        """Something is taken up again, also where the run was over."""
        if self._state not in ("running", "paused"):
            self._set_state("running")

    def _set_state(self, state: str, reason: str | None = None, ended_at: float | None = None) -> None:
        if self._run is None:
            return
        self._state = state
        self._run.update(status=state, reason=reason, ended_at=ended_at)
        self._touch("runs", self._run)

    # -- tasks and attempts -------------------------------------------------------------------------------------------

    def _submit(self, line: TaskLine, status: str, ts: float | None) -> None:
        task: Row = dict.fromkeys(TABLES["tasks"].columns)
        task.update(
            run_id=self.run_id,
            task_id=line.task_id,
            kind=line.kind,
            leaf=line.entry,
            depends_on=line.depends_on,
            priority=line.priority,
            lane=line.lane,
            status=status,
            attempts=0,
            enqueued_at=ts,
            trace_id=self._trace_id,
        )
        self._tasks[line.task_id] = task
        self._touch("tasks", task)

    def _update(self, task_id: str, **columns: object) -> None:
        task = self._tasks.get(task_id)
        if task is None:  # settled already
            return
        task.update(columns)
        self._touch("tasks", task)
        if task["status"] == "dead":  # it may be requeued
            self._dead[task_id] = task
        if task["kind"] in _REVIEWED and task["status"] == "completed":
            self._reviewable[ids.origin(task_id)] = task
        if task["status"] not in ("waiting", "queued", "running"):
            del self._tasks[task_id]

    def _assign(self, task_id: str, attempt: int, fence: int, worker_id: str, ts: float) -> None:
        self._update(task_id, status="running", attempts=attempt, worker_id=worker_id, started_at=ts)
        row = self._attempt(task_id, fence, worker_id)
        row.update(attempt=attempt, started_at=ts, span_id=ids.span_id(str(self.run_id), task_id, attempt))

    def _readopt(self, task_id: str, attempt: int, fence: int, worker_id: str, ts: float) -> None:
        """An attempt that was given up for lost goes on."""
        row = self._attempt(task_id, fence, worker_id)
        row.update(attempt=attempt, outcome=None, ended_at=None, error=None, worker_id=worker_id)
        row["started_at"] = row["started_at"] or ts
        self._update(task_id, status="running", worker_id=worker_id, started_at=row["started_at"])

    def _requeue(self, task_id: str) -> None:
        """A dead letter is tried again."""
        task = self._dead.pop(task_id, None)
        if task is not None:
            self._tasks[task_id] = task
            self._update(task_id, **_NOBODY_AT_IT, finished_at=None, error=None)

    def _attempt(self, task_id: str, fence: int, worker_id: str) -> Row:
        """The row of an execution, touched; made where it is not known."""
        row = self._attempts.get(fence)
        if row is None:
            row = dict.fromkeys(TABLES["attempts"].columns)
            row.update(run_id=self.run_id, task_id=task_id, fence=fence, worker_id=worker_id, trace_id=self._trace_id)
            self._attempts[fence] = row
        self._touch("attempts", row)
        return row

    def _end(self, row: Row, outcome: str, ts: float | None, **columns: object) -> None:
        row.update(columns, outcome=outcome, ended_at=ts)
        if outcome not in _LATE:
            self._attempts.pop(row["fence"], None)  # type: ignore[call-overload]  # a fence is an int

    def _complete(self, done: CompletedLine, worker_id: str, seq: int) -> None:
        row = self._attempt(done.task_id, done.fence, worker_id)
        self._end(row, "completed", done.ended_at, attempt=done.attempt, started_at=done.started_at)
        self._update(
            done.task_id,
            status="completed",
            attempts=done.attempt,
            worker_id=worker_id,
            started_at=done.started_at,
            finished_at=done.ended_at,
            error=None,
            output_ref=done.output.file or f"{JOURNAL}#{seq}",
        )

    def _fail(self, failure: FailedLine, worker_id: str, ts: float) -> None:
        row = self._attempt(failure.task_id, failure.fence, worker_id)
        ended_at = failure.ended_at or ts
        self._end(
            row,
            failure.outcome,
            ended_at,
            attempt=failure.attempt,
            started_at=failure.started_at or row["started_at"],
            error=failure.error,
            traceback=failure.traceback or None,
            stdout_tail=failure.stdout_tail or None,
            stderr_tail=failure.stderr_tail or None,
        )
        again = failure.then == "queued"
        self._update(
            failure.task_id,
            status=failure.then,
            attempts=failure.attempt,
            worker_id=None if again else worker_id,
            started_at=None if again else row["started_at"],
            finished_at=None if again else ended_at,
            error=failure.error,
        )

    def _release(self, task_id: str, fence: int, reason: str, ts: float) -> None:
        if fence in self._attempts:
            row = self._attempts[fence]
            self._end(row, "lost", ts, error=reason or None)
            self._touch("attempts", row)
        self._update(task_id, **_NOBODY_AT_IT)

    def _late(self, task_id: str, fence: int, worker_id: str, ts: float) -> None:
        if fence in self._attempts:
            self._end(self._attempt(task_id, fence, worker_id), "stale", ts)

    def _cancel(self, task_id: str, reason: str, ts: float) -> None:
        if task_id in self._tasks and self._tasks[task_id]["status"] == "running":
            for row in list(self._attempts.values()):
                if row["task_id"] == task_id and row["outcome"] is None:
                    self._end(row, "cancelled", ts, error=reason or None)
                    self._touch("attempts", row)
        self._update(task_id, status="cancelled", finished_at=ts, error=reason or None)

    def _say(self, line: MessageLine, ts: float, *, topic: str | None = None, recipient: str | None = None) -> None:
        _, trace_id, span_id, _ = line.traceparent.split("-") if line.traceparent else (None, None, None, None)
        self._add("messages", line, ts=ts, topic=topic, recipient=recipient, trace_id=trace_id, span_id=span_id)

    def _flag(self, body: CaseAsWritten, ts: float) -> None:
        case = self._cases.get(body.case_id)
        evidence = body.evidence.copy()  # not a view of the whole journal
        if case is None:
            by = [] if body.task_id is None else [body.task_id]
            place = len(self._cases)
            self._add("cases", body, created_at=ts, status="open", tasks=by, place=place, evidence=evidence)
            self._cases[body.case_id] = self.touched["cases"][(self.run_id, body.case_id)]
            return
        case.update((column, getattr(body, column) or None) for column in ("kind", "question", "reason", "role"))
        case.update(evidence=evidence, score=body.score)
        case["options"] = offered(body.options, self._verdicts.get(body.case_id, ()))
        if case["status"] == "withdrawn":
            case["status"] = "open"
        self._ask(case, body.task_id)

    def _ask(self, case: Row, task_id: str | None) -> None:
        tasks = cast(list[str], case["tasks"])
        if task_id is not None and task_id not in tasks:
            tasks.append(task_id)
        self._touch("cases", case)

    def _decide(self, body: VerdictGiven, ts: float) -> None:
        self._add("verdicts", body, ts=ts, live=not body.retracted)
        self._verdicts.setdefault(body.case_id, []).append(body)
        if body.retracted and (taken_back := self._verdict_rows.get((body.case_id, body.supersedes))):
            taken_back["live"] = False
            self._touch("verdicts", taken_back)
        self._verdict_rows[body.case_id, body.number] = self.touched["verdicts"][
            (self.run_id, body.case_id, body.number)
        ]
        self._rule(body.case_id)

    def _rule(self, case_id: str) -> None:
        """Say which verdict speaks for a case."""
        if (case := self._cases.get(case_id)) is None:
            return
        last = speaking(self._verdicts[case_id], self._authority)
        case.update(
            number=None if last is None else last.number,
            verdict=None if last is None else last.verdict,
            decider_kind=None if last is None else last.decider_kind,
            decider=None if last is None else last.decider,
        )
        if last is not None:
            case["status"] = "decided"
        elif case["status"] == "decided":
            case["status"] = "open"
        self._touch("cases", case)

    def _put_off(self, most: int) -> None:
        """Say which open cases are more than a decider is asked about; which they are, each case more may change."""
        counted = {name: case for name, case in self._cases.items() if case["tasks"]}
        decided = sum(case["status"] == "decided" for case in counted.values())
        undecided = {name: case for name, case in counted.items() if case["status"] in ("open", "deferred")}
        scores = ((name, cast("float | None", case["score"])) for name, case in undecided.items())
        beyond = put_off(scores, most - decided)
        for name, case in undecided.items():
            status = "deferred" if name in beyond else "open"
            if case["status"] != status:
                case["status"] = status
                self._touch("cases", case)

    # -- the lab ------------------------------------------------------------------------------------------------------

    def _join(self, body: WorkerJoined, ts: float) -> None:
        worker: Row = dict.fromkeys(TABLES["workers"].columns)
        worker.update(
            worker_id=body.worker_id, pid=body.pid, host=body.host, slots=body.slots, lanes=body.lanes, joined_at=ts
        )
        self._workers[body.worker_id] = worker
        self._touch("workers", worker)

    def _leave(self, worker_id: str, reason: str, ts: float) -> None:
        worker = self._workers.pop(worker_id, None)
        if worker is not None:
            worker.update(left_at=ts, reason=reason or None)
            self._touch("workers", worker)

    def _close_lab(self, ts: float) -> None:
        """Let go of whoever is still there: they belonged to a lab that is no more."""
        for worker_id in list(self._workers):
            self._leave(worker_id, "its lab ended", ts)
        self.born.clear()
        self.lab = None
