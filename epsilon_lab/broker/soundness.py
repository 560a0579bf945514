"""What a peer sends may be well formed and still break a journal; it is looked at before it gets there."""

from __future__ import annotations

import msgspec

from epsilon_lab.ids import leaf_ref
from epsilon_lab.messages.events import OF_CASES, TYPES, CaseFlagged, LlmCall
from epsilon_lab.messages.tasks import Event, Result
from epsilon_lab.messages.values import Value
from epsilon_lab.settings import FURTHER_LIMIT, INLINE_LIMIT

_RAW = msgspec.json.Decoder(msgspec.Raw)


def is_paid(event: Event) -> bool:
    """Tell whether an event speaks of something paid for, which no stale answer may lose."""
    return event.type.startswith("usage.")


def call_of(event: Event) -> LlmCall | None:
    """Read an event as the line of a request to a model; None where it is none."""
    if event.type != TYPES[LlmCall]:
        return None
    try:
        return msgspec.convert(event.body, LlmCall)
    except msgspec.ValidationError:
        return None


def is_flag(event: Event) -> bool:
    """Tell whether an event flags a case: it counts with its task's result, and with nothing else."""
    return event.type == TYPES[CaseFlagged]


def is_of_cases(event: Event) -> bool:
    """Tell whether an event says something of cases, which but for a flag is not for tasks to say."""
    return event.type.startswith(OF_CASES)


def flag_in(event: Event, task_id: str) -> CaseFlagged | str:
    """Read an event as the case that a task flags; where it is none, say why."""
    if problem := event_problem(event):
        return f"a case that it flags: {problem}"
    try:
        line = msgspec.convert(event.body, CaseFlagged)
        return line if line.task_id == task_id else msgspec.structs.replace(line, task_id=task_id)
    except msgspec.ValidationError as error:
        return f"a case that it flags: {error}"


def event_problem(event: Event) -> str:
    """Say why an event cannot be a journal line; empty where it can."""
    try:
        msgspec.json.encode(event.body)
    except (TypeError, ValueError, RecursionError) as error:
        return str(error)
    return ""


def result_problem(result: Result) -> str:
    """Say why a result cannot be recorded; empty where it can."""
    problem = value_problem(result.output)
    if result.files or result.further:  # few have any
        problem = problem or files_problem(result) or further_problem(result)
    return problem


def files_problem(result: Result) -> str:
    """Say why a result cannot publish the files it names: they are not its own attempt's; empty where it can."""
    if not result.files or result.files == leaf_ref(result.task_id, result.fence):
        return ""
    return f"its files, {result.files!r}, are not those of this attempt"


def further_problem(result: Result) -> str:
    """Say why the further tasks of a result cannot be taken; empty where they can."""
    if len(result.further) > FURTHER_LIMIT:
        return f"it asks for {len(result.further)} further tasks, more than {FURTHER_LIMIT}"
    for item in result.further:
        if item.form == "file" or len(item.data) > INLINE_LIMIT:
            return f"it asks for a further task of {len(item.data)} bytes, or of a file"
        if problem := value_problem(item):
            return problem
    return ""


def value_problem(value: Value) -> str:
    """Say why a value cannot stand in a journal line; empty where it can."""
    try:
        if value.form != "pickle":
            value.data.decode()
        if value.form == "json":
            _RAW.decode(value.data)
            return "JSON of more than one line" if b"\n" in value.data else ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)
    return ""
