"""The lines of a journal, one struct a type.

Events are the truth: broker state, tables, panels and resume are read from them and from nothing else. A type is
`room.verb`. Readers ignore fields and types they do not know, so that a newer lab's run opens in an older one.
"""

from __future__ import annotations

import msgspec

from epsilon_lab.messages.events.artifacts import ArtifactSaved, Ceiling, LlmCall, ToolCalled
from epsilon_lab.messages.events.body import Body
from epsilon_lab.messages.events.cases import (
    CaseAsWritten,
    CaseFlagged,
    CasesAsked,
    CasesRanked,
    CaseUnsure,
    CaseWithdrawn,
    VerdictGiven,
)
from epsilon_lab.messages.events.labs import (
    LabClosed,
    LabDisk,
    LabOpened,
    LabStalled,
    RunBorn,
    WorkerJoined,
    WorkerLeft,
)
from epsilon_lab.messages.events.messages import MessageLine, MessagesSent, TopicsPublished, message_line, message_of
from epsilon_lab.messages.events.runs import (
    RunAdopted,
    RunEnded,
    RunExhausted,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopping,
)
from epsilon_lab.messages.events.stages import (
    BriefWritten,
    CandidateSettled,
    CandidatesRuled,
    GenerationClosed,
    QualityChecked,
    StageReviewed,
)
from epsilon_lab.messages.events.tasks import (
    CompletedLine,
    FailedLine,
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
    task_line,
    task_spec,
)
from epsilon_lab.messages.tasks import Event

__all__ = [
    "BODIES",
    "OF_CASES",
    "READERS",
    "TYPES",
    "ArtifactSaved",
    "Body",
    "BriefWritten",
    "CandidateSettled",
    "CandidatesRuled",
    "CaseAsWritten",
    "CaseFlagged",
    "CaseUnsure",
    "CaseWithdrawn",
    "CasesAsked",
    "CasesRanked",
    "Ceiling",
    "CompletedLine",
    "FailedLine",
    "GenerationClosed",
    "LabClosed",
    "LabDisk",
    "LabOpened",
    "LabStalled",
    "LlmCall",
    "MessageLine",
    "MessagesSent",
    "QualityChecked",
    "RunAdopted",
    "RunBorn",
    "RunEnded",
    "RunExhausted",
    "RunPaused",
    "RunResumed",
    "RunStarted",
    "RunStopping",
    "StageReviewed",
    "TaskLine",
    "TaskPrioritised",
    "TasksAdopted",
    "TasksAssigned",
    "TasksCancelled",
    "TasksCompleted",
    "TasksExpired",
    "TasksFailed",
    "TasksReleased",
    "TasksRequeued",
    "TasksRevised",
    "TasksStale",
    "TasksSubmitted",
    "TasksWaiting",
    "ToolCalled",
    "TopicsPublished",
    "VerdictGiven",
    "WorkerJoined",
    "WorkerLeft",
    "event",
    "message_line",
    "message_of",
    "task_line",
    "task_spec",
]

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
    "case.asked": CasesAsked,
    "case.withdrawn": CaseWithdrawn,
    "case.unsure": CaseUnsure,
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

READERS: dict[str, msgspec.json.Decoder[Body]] = {
    name: msgspec.json.Decoder(CaseAsWritten if body is CaseFlagged else body) for name, body in BODIES.items()
}
"""How a line is read by who only looks on; there may be tens of thousands of cases, and their evidence is of no use to
most."""

OF_CASES = ("case.", "verdict.")
"""How the types of lines begin that may be written while nobody is at the run: they say nothing about its clock."""

TYPES: dict[type[Body], str] = {body: name for name, body in BODIES.items()}


def event(body: Body) -> Event:
    """Make the frame form of an event from its body."""
    if isinstance(body, CaseFlagged):  # plain already, and there may be tens of thousands: not copied once more
        return Event(TYPES[CaseFlagged], msgspec.structs.asdict(body))
    return Event(TYPES[type(body)], msgspec.to_builtins(body, builtin_types=()))
