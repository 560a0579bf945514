"""What the verdicts of a run have changed in what it gave: its outputs before and after, place by place, and why.

Both are on record, so this looks twice at what there is and keeps nothing: before a run is taken up again, and after it
has ended once more.

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
from epsilon_lab.ids import origin
from epsilon_lab.messages.call import CALL, CALL_ASYNC, call_of
from epsilon_lab.messages.events import TasksSubmitted
from epsilon_lab.messages.values import StoredValue, Value, restored
from epsilon_lab.workspace.layout import RunDirectory
from epsilon_lab.workspace.outputs import SETTLED, latest, task_outputs
from epsilon_lab.workspace.scan import START, Record, scan

if TYPE_CHECKING:
    import pandas as pd

    from epsilon_lab.workspace.tables import Tables

COLUMNS = ("task_id", "path", "before", "after", "because")

_PART = msgspec.json.Decoder(list[tuple[str, StoredValue]])


class Finalisation:
    """A run before its outputs are made again.

    Args:
        run: The run.
        tables: The workspace's tables.
        read: Makes the Python object again that a task's output is.
    """

    def __init__(self, run: RunDirectory, tables: Tables, read: Callable[[str, Value], Any]) -> None:
        self._run = run
        self._tables = tables
        self._read = read
        self._spoke = self._speaking()
        self._decided = self._verdicts()

    def changes(self) -> pd.DataFrame:
        """What is another by now: `task_id`, the `path` in its output, the value `before` and `after` (None for none),
        and `because`, a list of case ids; no rows where nothing is.
        """
        import pandas as pd  # noqa: PLC0415 - pandas loads when someone looks

        return pd.DataFrame(self._rows(), columns=list(COLUMNS), dtype=object)

    def _rows(self) -> list[tuple[str, str, Any, Any, list[str]]]:
        speaks = self._speaking()
        again = {name: task_id for name, task_id in sorted(speaks.items()) if task_id != self._spoke.get(name)}
        if not again:
            return []
        outputs = task_outputs(self._run, {*again.values(), *(self._spoke.get(name, "") for name in again)})
        blame = self._blame(again)
        rows = []
        for name, task_id in again.items():
            before, after = (self._shown(each, outputs) for each in (self._spoke.get(name, ""), task_id))
            changed = differences(before, after)
            rows += [(task_id, *change, _because(change, blame[name])) for change in changed]
        return rows

    def _shown(self, task_id: str, outputs: Mapping[str, Value]) -> Any:
        return self._read(task_id, outputs[task_id]) if task_id in outputs else None

    def _speaking(self) -> dict[str, str]:
        """The latest revision of each task that is settled, by the first."""
        query = f"select task_id from tasks where run_id = ? and status in {SETTLED}"  # noqa: S608 - our own words
        rows = latest(self._tables.rows(query, [self._run.run_id], run_id=self._run.run_id))
        return {name: str(row[0]) for name, row in rows.items()}

    def _verdicts(self) -> dict[str, str]:
        """What the run goes by, by case."""
        query = (
            "select body ->> 'verdicts' from events where run_id = ? and type = 'task.revised' "
            "and coalesce(body ->> 'verdicts', '') <> '' order by seq desc limit 1"
        )
        rows = self._tables.rows(query, [self._run.run_id], run_id=self._run.run_id)
        return msgspec.json.decode(self._run.read_bytes(rows[0][0]), type=dict[str, str]) if rows else {}

    def _blame(self, again: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Of each task that was done again the cases that it may differ for, and what they are about."""
        decided = self._verdicts()
        turned = {name for name in {*decided, *self._decided} if decided.get(name) != self._decided.get(name)}
        query = "select case_id, key, tasks from cases where run_id = ? order by case_id"
        asked: dict[str, dict[str, Any]] = {name: {} for name in again}
        for case_id, key, tasks in self._tables.rows(query, [self._run.run_id], run_id=self._run.run_id):
            for name in map(origin, msgspec.json.decode(tasks or "[]")) if case_id in turned else ():
                asked.setdefault(name, {})[case_id] = msgspec.json.decode(key or "null")
        given = self._given(again)
        for name in TopologicalSorter(given).static_order():  # what was given comes first
            for below in given.get(name, ()):
                asked[name] |= asked[below]
        return {name: dict(sorted(asked[name].items())) for name in again}

    def _given(self, again: Mapping[str, str]) -> dict[str, list[str]]:
        """Of these tasks those among them whose outputs they were given."""
        wanted, found = set(again.values()), dict[str, list[str]]()

        def take(records: list[Record]) -> None:
            for record in records:
                if record.type == "task.submitted":
                    for line in msgspec.json.decode(record.body, type=TasksSubmitted).tasks:
                        if line.task_id in wanted:
                            names = dict.fromkeys(map(origin, self._inputs(line.entry, restored(line.payload))))
                            names |= dict.fromkeys(map(origin, line.depends_on))
                            found[origin(line.task_id)] = [name for name in names if name in again]

        scan(self._run.journal, START, take)
        return found

    def _inputs(self, entry: str, payload: Value) -> list[str]:
        if entry not in (CALL, CALL_ASYNC):
            return []
        call = call_of(self._run.fetch(payload))
        parts = (pair for ref in call.parts for pair in _PART.decode(self._run.read_bytes(ref)))
        return [name for name, _ in (*call.inputs, *parts)] + list(call.recorded)


def _because(change: Difference, cases: Mapping[str, Any]) -> list[str]:
    """The cases that a change is put down to."""
    what = (names(change.path), scalars(change.before), scalars(change.after))
    here = {*map(_told, chain.from_iterable(what))} - {_told(None)}
    named = [name for name, key in cases.items() if not here.isdisjoint(map(_told, scalars(key)))]
    return named or list(cases)


def _told(scalar: object) -> tuple[type, object]:
    """1, 1.0 and True are three things."""
    return type(scalar), scalar
