"""What the verdicts of a run have changed in what it gave: its outputs before and after, place by place, and why.

All of it is on record, so nothing is kept meanwhile: a finalisation begins with the line that names its file of
verdicts, and what had spoken for a task until then is what was before. Whoever asked for one may never have heard what
it changed: the lab was killed, or the wait was broken off. What counts as told is on record too: a finalisation that
has ended, with no other lab taking it up in between. What others have changed is told with what comes next.

A change is put down to cases whose verdict is another than it was: those that its task has asked about, or a task whose
output it was given. Where the key of one of them occurs in what changed, or among the names of the fields it is in,
only those whose does; so a row that is gone because two names are one is put down to that pair, and not to all that
were decided meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from graphlib import TopologicalSorter
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from epsilon_lab.cases.differences import Difference, differences, names, scalars
from epsilon_lab.errors import WorkspaceError
from epsilon_lab.ids import origin, revision
from epsilon_lab.messages.call import CALL, CALL_ASYNC, call_of
from epsilon_lab.messages.events import TaskLine, TasksRevised, TasksSubmitted
from epsilon_lab.messages.values import StoredValue, Value, restored
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.outputs import task_outputs
from epsilon_lab.workspace.scan import START, Record, scan

if TYPE_CHECKING:
    import pandas as pd

    from epsilon_lab.workspace.tables import Tables

COLUMNS = ("task_id", "path", "before", "after", "because")

_TOO_DEEP = "nested too deeply to be shown"

_PART = msgspec.json.Decoder(list[tuple[str, StoredValue]])
_SUBMITTED = msgspec.json.Decoder(TasksSubmitted)


class Finalisations:
    """Those of one run, as its journal tells of them.

    Args:
        since: After how many of them its tasks are held against what they were; None for no look at tasks.

    Attributes:
        verdicts: The file of verdicts of each.
        told: How many of them, the first ones, somebody was told of.
        before: Task, by the first of its revisions -> the one that spoke for it until then, where that is not this
            first one; empty where there was none.
        again: The same -> the latest since then, of those that were done since.
    """

    def __init__(self, since: int | None = None) -> None:
        self.verdicts: list[str] = []
        self.told = 0
        self.before: dict[str, str] = {}
        self.again: dict[str, TaskLine] = {}
        self._since = since
        self._is_taken_up = False

    def take(self, records: list[Record]) -> None:
        """Take lines, in order."""
        for record in records:
            match record.type:
                case "task.revised":
                    if ref := msgspec.json.decode(record.body, type=TasksRevised).verdicts:
                        self.verdicts.append(ref)
                        self._is_taken_up = False
                case "run.adopted":
                    self._is_taken_up = True
                case "run.ended" if not self._is_taken_up:
                    self.told = len(self.verdicts)
                case "task.submitted" | "task.waiting" if self._since is not None:
                    for line in _SUBMITTED.decode(record.body).tasks:
                        self._submit(line, self._since)

    def _submit(self, line: TaskLine, since: int) -> None:
        """A task is to be done; once the run is over it speaks, whatever became of it."""
        name, number = origin(line.task_id), revision(line.task_id)
        if len(self.verdicts) <= since:
            if number > revision(self.before.get(name, name)):
                self.before[name] = line.task_id
            return
        if number == 1:
            self.before[name] = ""
        if name not in self.again or number >= revision(self.again[name].task_id):
            self.again[name] = line


def told(run: RunDirectory) -> int:
    """How many finalisations of a run somebody was told of."""
    found = Finalisations()
    scan(run.journal, START, found.take)
    return found.told


def changes(run: RunDirectory, tables: Tables, read: Callable[[str, Value], Any], *, since: int) -> pd.DataFrame:
    """What the finalisations of a run have changed.

    Args:
        run: The run; it is over.
        tables: The workspace's tables.
        read: Makes the Python object again that a task's output is.
        since: After how many of them.

    Returns:
        `task_id`, the `path` in its output, the value `before` and `after` (None for none), and `because`, a list of
        case ids; no rows where nothing is another.

    Raises:
        WorkspaceError: A file of verdicts is gone.
    """
    import pandas as pd  # noqa: PLC0415 - pandas loads when someone looks

    found = Finalisations(since)
    scan(run.journal, START, found.take)
    again = {name: line.task_id for name, line in sorted(found.again.items())}
    before = {name: found.before.get(name, name) for name in again}
    outputs = task_outputs(run, {*before.values(), *again.values()}) if again else {}

    def compared(one: str, other: str) -> list[Difference]:
        if outputs.get(one) == outputs.get(other):  # the same bytes, also of what can only be shown by where it lies
            return []
        shown = (read(name, outputs[name]) if name in outputs else None for name in (one, other))
        try:
            return differences(*shown)
        except RecursionError:
            return [Difference("$", _TOO_DEEP, _TOO_DEEP)]

    changed = {name: compared(before[name], task_id) for name, task_id in again.items()}
    blame = _blame(run, tables, found.again, _turned(run, found.verdicts, since)) if any(changed.values()) else {}
    rows = []
    for name in filter(changed.get, again):
        because = Because(blame[name])
        rows += [(again[name], *change, because.of(change)) for change in changed[name]]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def _turned(run: RunDirectory, verdicts: list[str], since: int) -> list[str]:
    """The cases whose verdict is another than it was."""
    then, now = _verdicts(run, verdicts[since - 1]) if since else {}, _verdicts(run, verdicts[-1])
    return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))


def _verdicts(run: RunDirectory, ref: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(run.read_bytes(ref), type=dict[str, str])
    except (OSError, msgspec.MsgspecError) as error:
        why = f"{ref} of run {run.run_id}, which says what was decided, cannot be read ({error})"
        raise WorkspaceError(
            f"{why}; its outputs stand, and the next finalize() that changes any writes it again"
        ) from error


def _blame(
    run: RunDirectory, tables: Tables, again: Mapping[str, TaskLine], turned: list[str]
) -> dict[str, dict[str, Any]]:
    """Of each task that was done again the cases that it may differ for, and what they are about."""
    query = (
        "select case_id, key, tasks from cases where run_id = $run and case_id in (select unnest($turned::varchar[]))"
    )
    asked: dict[str, dict[str, Any]] = {name: {} for name in again}
    for case_id, key, tasks in tables.rows(query, {"run": run.run_id, "turned": turned}, run_id=run.run_id):
        for name in map(origin, msgspec.json.decode(tasks or "[]")):
            if name in asked:
                asked[name][case_id] = msgspec.json.decode(key or "null")
    given = {name: [each for each in _given(run, line) if each in again] for name, line in again.items()}
    for name in TopologicalSorter(given).static_order():  # what was given comes first
        for below in given[name]:
            asked[name] |= asked[below]
    return asked


def _given(run: RunDirectory, line: TaskLine) -> dict[str, None]:
    """The tasks, by their first revisions, whose outputs a task was given."""
    found = [*line.depends_on]
    if line.entry in (CALL, CALL_ASYNC):
        call = call_of(run.fetch(restored(line.payload)))
        parts = (pair for ref in call.parts for pair in _PART.decode(run.read_bytes(ref)))
        found += [*(name for name, _ in chain(call.inputs, parts)), *call.recorded]
    return dict.fromkeys(map(origin, found))


class Because:
    """The cases that a task may differ for, by what their keys hold.

    Args:
        cases: What each is about, by case id.
    """

    def __init__(self, cases: Mapping[str, Any]) -> None:
        self._all = sorted(cases)
        self._about: dict[tuple[type, object], list[str]] = {}
        for case_id in self._all:
            for scalar in {*map(_told, scalars(cases[case_id]))}:
                self._about.setdefault(scalar, []).append(case_id)

    def of(self, change: Difference) -> list[str]:
        """Those that a change is put down to; one list for all changes that may come of any of them."""
        what = chain(names(change.path), scalars(change.before), scalars(change.after))
        here = {*map(_told, what)} - {_told(None)}
        return sorted({case_id for scalar in here for case_id in self._about.get(scalar, ())}) or self._all


def _told(scalar: object) -> tuple[type, object]:
    """1, 1.0 and True are three things."""
    return type(scalar), scalar
