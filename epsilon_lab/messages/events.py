"""The lines of a journal, one struct a type.

Events are the truth: broker state, tables, panels and resume are read from them and from nothing else. A type is
`room.verb`. Readers ignore fields and types they do not know, so that a newer lab's run opens in an older one.
"""

from __future__ import annotations

from typing import cast

import msgspec

from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import Feedback
from epsilon_lab.messages.deciders import DeciderKind
from epsilon_lab.messages.post import Message
from epsilon_lab.messages.tasks import AttemptOutcome, Event, Lane, Retry, TaskSpec
from epsilon_lab.messages.values import StoredValue, restored, stored


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all event bodies."""


class MessageLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `Message` as a journal shows it."""

    seq: int
    sender: str
    value: msgspec.Raw
    sent_at: float
    traceparent: str = ""
    epoch: int = 0
    id: str = ""


def message_line(message: Message) -> MessageLine:
    """Show a message as a journal does."""
    return MessageLine(
        seq=message.seq,
        sender=message.sender,
        value=msgspec.Raw(message.data),
        sent_at=message.sent_at,
        traceparent=message.traceparent,
        epoch=message.epoch,
        id=message.id,
    )


def message_of(line: MessageLine) -> Message:
    """Take a message back from a journal."""
    return Message(line.seq, line.sender, bytes(line.value), line.sent_at, line.traceparent, line.epoch, line.id)


# -- run. : written by the engine ---------------------------------------------------------------------------------


class RunStarted(Body, frozen=True, kw_only=True):
    """`run.started`, the first line of every run."""

    run_id: str
    topology: str
    name: str
    tags: dict[str, str] = {}
    seed: int | None = None
    config: dict[str, object] = {}
    """The topology's arguments, for people."""

    epoch: int = 0
    parent_run_id: str | None = None
    budget: Budget | None = None
    """What it may spend; None for no limit."""

    env: tuple[str, ...] = ()
    """Names of environment variables that its tasks are granted; their values are on no disk."""


class RunAdopted(Body, frozen=True, kw_only=True):
    """`run.adopted`: a lab goes on with a run that another one left; attempts that were under way are lost."""

    epoch: int
    """The adopting broker's, larger than any before it in this journal."""

    pid: int
    host: str
    torn: int = 0
    """Bytes of a group that was never committed, cut off the journal's end."""


class RunPaused(Body, frozen=True, kw_only=True):
    """`run.paused`."""


class RunResumed(Body, frozen=True, kw_only=True):
    """`run.resumed`."""


class RunExhausted(Body, frozen=True, kw_only=True):
    """`run.exhausted`: the budget of seconds was used up; nothing more is begun, what is paid for is still used."""

    reason: str


class RunStopping(Body, frozen=True, kw_only=True):
    """`run.stopping`: someone ends the run early."""

    reason: str


class RunEnded(Body, frozen=True, kw_only=True):
    """`run.ended`: the last line, unless the run was interrupted."""

    status: str
    """`completed`, `failed`, `stopped` or `interrupted`."""

    reason: str
    output: StoredValue | None = None


# -- task. : written by the broker (`waiting`: by the engine) --------------------------------------------------------


_BACKOFF = (Retry().base_s, Retry().cap_s)


class TaskLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A `TaskSpec` as a journal shows it; what is not said is as by default."""

    task_id: str
    kind: str
    lane: str
    entry: str
    payload: StoredValue
    depends_on: tuple[str, ...] = ()
    priority: int = 0
    time_limit_s: float | None = None
    retries: int = 0
    prefetch: bool = True
    backoff: tuple[float, float] = _BACKOFF
    """Of `Retry`: `base_s` and `cap_s`."""

    final: tuple[str, ...] = ()
    delay_s: float = 0
    start_within_s: float | None = None
    finish_within_s: float | None = None
    beat_within_s: float | None = None
    memory_mb: float | None = None


def task_line(task: TaskSpec) -> TaskLine:
    """Show a task as a journal does."""
    retry = task.retry
    return TaskLine(  # by position: by name it takes a microsecond, five times as long
        task.task_id,
        task.kind,
        task.lane,
        task.entry,
        stored(task.payload),
        task.depends_on,
        task.priority,
        task.time_limit_s,
        0 if retry is None else retry.limit,
        task.prefetch,
        _BACKOFF if retry is None else (retry.base_s, retry.cap_s),
        () if retry is None else retry.final,
        task.delay_s or 0,  # the very 0 that is the default: another equal one would be written down
        task.start_within_s,
        task.finish_within_s,
        task.beat_within_s,
        task.memory_mb,
    )


def task_spec(line: TaskLine) -> TaskSpec:
    """Take a task back from a journal."""
    return TaskSpec(
        task_id=line.task_id,
        kind=line.kind,
        lane=cast("Lane", line.lane),
        entry=line.entry,
        payload=restored(line.payload),
        depends_on=line.depends_on,
        priority=line.priority,
        time_limit_s=line.time_limit_s,
        retry=_retry(line),
        prefetch=line.prefetch,
        delay_s=line.delay_s,
        start_within_s=line.start_within_s,
        finish_within_s=line.finish_within_s,
        beat_within_s=line.beat_within_s,
        memory_mb=line.memory_mb,
    )


def _retry(line: TaskLine) -> Retry | None:
    if not (line.retries or line.final) and line.backoff == _BACKOFF:
        return None
    base_s, cap_s = line.backoff
    return Retry(limit=line.retries, base_s=base_s, cap_s=cap_s, final=line.final)


class TasksWaiting(Body, frozen=True, kw_only=True):
    """`task.waiting`: known, but not all of its dependencies are done."""

    tasks: tuple[TaskLine, ...]


class TasksSubmitted(Body, frozen=True, kw_only=True):
    """`task.submitted`: in the queue."""

    tasks: tuple[TaskLine, ...]


class TasksAssigned(Body, frozen=True, kw_only=True):
    """`task.assigned`: one line a batch."""

    worker_id: str
    tasks: tuple[tuple[str, int, int], ...]
    """(task_id, attempt, fence)."""


class CompletedLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One accepted result."""

    task_id: str
    attempt: int
    fence: int
    output: StoredValue
    started_at: float
    ended_at: float
    files: str = ""
    """Reference of the files it published; its commit names each of them in a line of its own."""

    further: tuple[StoredValue, ...] = ()
    """Items of further tasks that it asked for."""


class TasksCompleted(Body, frozen=True, kw_only=True):
    """`task.completed`: result and change of state in one line."""

    worker_id: str
    tasks: tuple[CompletedLine, ...]


class FailedLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt that gave no output."""

    task_id: str
    attempt: int
    fence: int
    outcome: AttemptOutcome
    error: str
    then: str
    """What became of the task: `queued` (another attempt), `failed` or `dead`."""

    delay_s: float = 0.0
    """Seconds from now before which another attempt is not begun."""

    traceback: str = ""
    stdout_tail: str = ""
    stderr_tail: str = ""
    started_at: float | None = None
    ended_at: float | None = None


class TasksFailed(Body, frozen=True, kw_only=True):
    """`task.failed`."""

    worker_id: str
    tasks: tuple[FailedLine, ...]


class TasksReleased(Body, frozen=True, kw_only=True):
    """`task.released`: back to the queue, not started as far as anyone knows, nobody blamed."""

    worker_id: str
    reason: str
    tasks: tuple[tuple[str, int, int], ...]


class TasksStale(Body, frozen=True, kw_only=True):
    """`task.stale`: answers that came too late; not applied."""

    worker_id: str
    tasks: tuple[tuple[str, int], ...]
    """(task_id, fence)."""


class TasksExpired(Body, frozen=True, kw_only=True):
    """`task.expired`: not begun in time, and not to be begun any more; they failed without an attempt."""

    tasks: tuple[tuple[str, str], ...]
    """(task_id, error)."""


class TasksAdopted(Body, frozen=True, kw_only=True):
    """`task.adopted`: a worker came back with what it had been given, and goes on with it under the same fences."""

    worker_id: str
    tasks: tuple[tuple[str, int, int], ...]
    """(task_id, attempt, fence)."""


class TasksRequeued(Body, frozen=True, kw_only=True):
    """`task.requeued`: dead letters that are tried again, their losses and failures forgiven."""

    task_ids: tuple[str, ...]


class TasksRevised(Body, frozen=True, kw_only=True):
    """`task.revised`: these are to be done again, and what depends on them; they come back as revisions."""

    feedback: dict[str, tuple[Feedback, ...]]
    """Task -> why; it names the first of its revisions."""

    verdicts: str = ""
    """The file of verdicts, by case, that these revisions are to go by; empty where they go by none."""


class TaskPrioritised(Body, frozen=True, kw_only=True):
    """`task.prioritised`: someone put a task before or behind others of its run."""

    task_id: str
    priority: int


class TasksCancelled(Body, frozen=True, kw_only=True):
    """`task.cancelled`."""

    task_ids: tuple[str, ...]
    reason: str


class MessagesSent(Body, frozen=True, kw_only=True):
    """`message.sent`: to tasks of a run, in its journal; to an inbox of the lab, in the lab's own."""

    messages: tuple[tuple[str, MessageLine], ...]
    """(task_id or inbox, message)."""


# -- artifact. , usage. : emitted by leaves and by the engine --------------------------------------------------------


class ArtifactSaved(Body, frozen=True, kw_only=True):
    """`artifact.saved`: a file of the run directory, written once or replaced as a whole."""

    path: str
    kind: str
    sha256: str
    bytes: int
    task_id: str | None = None


class Ceiling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The most that one request to a model can come to, whatever it answers."""

    prompt_tokens: int
    reply_tokens: int | None = None
    """None where nothing limits the reply."""

    prices: tuple[float, float] | None = None
    """US dollars for a token of the prompt, and of the reply; None where nobody knows them."""


class LlmCall(Body, frozen=True, kw_only=True):
    """`usage.llm_call`: one request to a model, whatever came of it.

    A line of outcome `unknown` is written before the request goes out; the later line of the same request replaces it.
    """

    task_id: str
    call: int
    """0 for the task's first request."""

    model: str
    outcome: str
    """`ok`, `timeout`, `error`, `cached` (a reply found on disk and not paid again), `refused` (the run's budget did
    not admit it, so it never went out), `unknown` (nothing came of it yet, or ever: its run was stopped or its lab
    died)."""

    prompt_ref: str
    prompt_sha256: str
    reply_ref: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    """None where the price is unknown."""

    latency_s: float | None = None
    cached: bool = False
    candidate_id: str | None = None
    trace_id: str | None = None
    error: str = ""
    request: str = ""
    """Tells this request from others of the same task and call; empty for a line that no later one replaces."""

    most: Ceiling | None = None
    """What its budget counts where tokens or price are not told."""

    span_id: str | None = None
    """What the request's `traceparent` header calls it; None for a reply that was found on disk."""


class ToolCalled(Body, frozen=True, kw_only=True):
    """`usage.tool_call`: an agent's model had a tool called."""

    task_id: str
    attempt: int
    step: int
    """0 for the model's first reply."""

    place: int
    """0 for the first call of a reply."""

    tool: str
    """As the model named it; there may be no such tool."""

    outcome: str
    """`ok`; `refused` (the tool, or the loop, said why nothing was done); `error` (it raised); `kept` (the result of an
    earlier attempt was used again)."""

    duration_s: float
    provenance: str = ""
    """Who answered: `epsilon_lab`, a function, a server of tools; empty where nobody did."""

    arguments: str = ""
    """The beginning of them."""

    result: str = ""
    """The beginning of what the model was told."""

    result_sha256: str = ""
    """Of all of that, which the transcript holds."""

    trace_id: str | None = None


# -- stage. : written by plans ---------------------------------------------------------------------------------------


class CandidateSettled(Body, frozen=True, kw_only=True):
    """`stage.candidate`: a candidate's row, complete; a later line of the same id replaces it."""

    candidate_id: str
    generation: int
    strategy: str
    """`seed`, `fresh`, `diverse` or `offspring`."""

    parent_ids: tuple[str, ...] = ()
    outcome: str = "scored"
    code_hash: str | None = None
    """SHA-256 of the normalised syntax tree (of the text, where it does not parse)."""

    score: float | None = None
    scores: dict[str, float] = {}
    feedback: dict[str, str] = {}
    error: str = ""
    traceback: str = ""
    stdout: str = ""
    checked: bool | None = None
    """True: passed its strict check; False: failed it; None: was not put to it."""

    scorer_hash: str | None = None
    duration_s: float | None = None
    cpu_s: float | None = None
    peak_mb: float | None = None
    proposer: str = ""
    prompt_ref: str | None = None
    reply_ref: str | None = None
    source_ref: str | None = None
    prompt_sha256: str | None = None
    duplicate_of: str | None = None
    staleness: int = 0
    """Results that landed after this candidate's context was built: 0 between barriers."""

    island: int = 0
    isolation: str | None = None


class GenerationClosed(Body, frozen=True, kw_only=True):
    """`stage.generation`."""

    generation: int
    best: float | None
    """Best score of the run so far that passed its check."""

    best_id: str | None
    median: float | None
    """Median score of this generation's scored candidates."""

    top: float | None
    """Best score within this generation."""

    candidates: int
    valid_share: float
    """Scored candidates over proposed ones, 0 to 1."""

    stall: int
    """Generations in a row without an improvement of at least `min_delta`."""

    elites: tuple[str, ...] = ()
    """Candidates kept, with their scores, for the next generation."""


class BriefWritten(Body, frozen=True, kw_only=True):
    """`stage.brief`: one version of a generation's brief."""

    generation: int
    version: int
    author: str
    text: str
    cited: tuple[str, ...] = ()
    """Candidate ids that the text names."""


class CandidatesRuled(Body, frozen=True, kw_only=True):
    """`stage.ruled`: what the verdicts on a search's cases make of its candidates, from here on."""

    ruled: dict[str, tuple[str, str, str]]
    """Candidate -> (verdict, case, why); those that are not named count as they were judged."""


class StageReviewed(Body, frozen=True, kw_only=True, omit_defaults=True):
    """`stage.reviewed`: a gate or a supervisor has judged what a node gave, and what follows from it."""

    node: str
    task_id: str
    """The revision that was judged."""

    verdict: str
    """`pass`, `fail`, `retry`, `split` or `reassign`."""

    reason: str = ""
    by: str
    """Who judged it; empty for the rules themselves."""

    then: str
    """`accepted`, `revised`, `split`, `reassigned` or `failed`."""

    to: str = ""
    """The worker that does it now, where it was reassigned."""

    parts: tuple[str, ...] = ()
    """The nodes that stand for it now, where it was split."""


# -- case. , verdict. : written by plans and by a run's case book, cases also by leaves --------------------------------


class CaseFlagged(Body, frozen=True, kw_only=True):
    """`case.flagged`: a question that is left to a decider. The first line of an id makes the case; later ones say who
    else asks, and open it again where it was withdrawn.
    """

    case_id: str
    kind: str
    """What it is about, in a word: `gate`."""

    question: str
    options: tuple[str, ...]
    """The verdicts there are."""

    key: object = None
    """What it is about, as JSON: a text, or a list such as that of the two things that are compared."""

    evidence: object = None
    """What a decider should see, as JSON."""

    flagged_by: str = ""
    reason: str = ""
    role: str = ""
    """The role that a decider needs; empty for none."""

    score: float | None = None
    """How urgent it is; higher comes first."""

    task_id: str | None = None
    """The task that flagged it; empty for somebody outside; None where the run's own rules did."""

    told: str | None = None
    """The verdict that its task was told, and went on with; None where there was none."""


class CaseWithdrawn(Body, frozen=True, kw_only=True):
    """`case.withdrawn`: nobody waits for its verdict any more."""

    case_id: str
    reason: str


class VerdictGiven(Body, frozen=True, kw_only=True):
    """`verdict.given`: a case is decided, or a verdict is taken back; on disk before anything follows from it, whatever
    the lab's durability. Nothing is ever deleted.
    """

    case_id: str
    number: int
    """1 for the case's first line of this type."""

    verdict: str
    """One of its options; of a retraction, that of the verdict taken back."""

    decider_kind: DeciderKind
    decider: str
    roles: tuple[str, ...] = ()
    """Those that the decider had."""

    note: str = ""
    supersedes: int | None = None
    """The number of the verdict that spoke until then; of a retraction, of the one that is taken back."""

    retracted: bool = False
    """Whether this line takes a verdict back."""

    source: str = ""
    """What it comes of: `<run_id>/<task_id>` where a task of another run gave it; a conflict's id and the number of its
    verdict where it follows from that."""


class CasesRanked(Body, frozen=True, kw_only=True):
    """`case.authority`: from now on the verdicts of these kinds of deciders weigh so; the highest first."""

    kinds: tuple[DeciderKind, ...]


class QualityChecked(Body, frozen=True, kw_only=True):
    """`stage.qa`: QA's report on a product, and who was told to mend what."""

    wave: int
    """1 for the run's first."""

    status: str
    """`pass` or `fail`."""

    summary: str = ""
    errors: tuple[dict[str, object], ...] = ()
    assigned: dict[str, tuple[str, ...]] = {}
    """Node -> ids of errors. Empty where it passed, or where nobody is left to mend anything."""


# -- lab. , worker. : in the lab's own journal -----------------------------------------------------------------------


class LabOpened(Body, frozen=True, kw_only=True):
    """`lab.opened`: a new broker epoch."""

    epoch: int
    pid: int
    host: str
    born: int | None = None
    """When the process was started, in its system's ticks since boot: its id alone may be another's later."""

    torn: int = 0
    """Bytes of a group that was never committed, cut off the journal's end."""


class LabClosed(Body, frozen=True, kw_only=True):
    """`lab.closed`."""


class LabStalled(Body, frozen=True, kw_only=True):
    """`lab.stalled`: the broker could not take its turn; all deadlines moved by as much, so nothing expired of it."""

    by_s: float


class LabDisk(Body, frozen=True, kw_only=True):
    """`lab.disk`: the workspace's disk is nearly full, and nothing more is begun; or there is room again."""

    is_short: bool
    says: str = ""


class RunBorn(Body, frozen=True, kw_only=True):
    """`lab.run`: a run belongs to this workspace, so that its pickles are no stranger's."""

    run_id: str
    is_begun: bool = True
    """Whether the lab is at it; False for one that a kernel is about to hand over to its sidecar."""


class TopicsPublished(Body, frozen=True, kw_only=True):
    """`topic.published`: the last that was said on each topic in one turn; its number counts what was said before."""

    topics: dict[str, MessageLine]


class WorkerJoined(Body, frozen=True, kw_only=True):
    """`worker.joined`."""

    worker_id: str
    pid: int
    host: str
    slots: int
    lanes: tuple[str, ...] = ()


class WorkerLeft(Body, frozen=True, kw_only=True):
    """`worker.left`."""

    worker_id: str
    reason: str


BODIES: dict[str, type[Body]] = {
    "run.started": RunStarted,
    "run.adopted": RunAdopted,
    "run.paused": RunPaused,
    "run.resumed": RunResumed,
    "run.exhausted": RunExhausted,
    "run.stopping": RunStopping,
    "run.ended": RunEnded,
    "task.waiting": TasksWaiting,
    "task.submitted": TasksSubmitted,
    "task.assigned": TasksAssigned,
    "task.completed": TasksCompleted,
    "task.failed": TasksFailed,
    "task.released": TasksReleased,
    "task.stale": TasksStale,
    "task.expired": TasksExpired,
    "task.adopted": TasksAdopted,
    "task.requeued": TasksRequeued,
    "task.revised": TasksRevised,
    "task.prioritised": TaskPrioritised,
    "task.cancelled": TasksCancelled,
    "message.sent": MessagesSent,
    "artifact.saved": ArtifactSaved,
    "usage.llm_call": LlmCall,
    "usage.tool_call": ToolCalled,
    "stage.candidate": CandidateSettled,
    "stage.generation": GenerationClosed,
    "stage.brief": BriefWritten,
    "stage.ruled": CandidatesRuled,
    "stage.qa": QualityChecked,
    "stage.reviewed": StageReviewed,
    "case.flagged": CaseFlagged,
    "case.withdrawn": CaseWithdrawn,
    "case.authority": CasesRanked,
    "verdict.given": VerdictGiven,
    "lab.opened": LabOpened,
    "lab.closed": LabClosed,
    "lab.stalled": LabStalled,
    "lab.disk": LabDisk,
    "lab.run": RunBorn,
    "topic.published": TopicsPublished,
    "worker.joined": WorkerJoined,
    "worker.left": WorkerLeft,
}
"""Every event type and its body."""

OF_CASES = ("case.", "verdict.")
"""How the types of lines begin that may be written while nobody is at the run: they say nothing about its clock."""

TYPES: dict[type[Body], str] = {body: name for name, body in BODIES.items()}


def event(body: Body) -> Event:
    """Make the frame form of an event from its body."""
    return Event(TYPES[type(body)], msgspec.to_builtins(body, builtin_types=()))
