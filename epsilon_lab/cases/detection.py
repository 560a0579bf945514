"""Detectors over a run's tables: what they flag becomes cases of the run, whether it goes on, was left or is over.

A detector sees the rows of one table, and the run's arguments where it has a parameter `config`; nothing else. The
cases that it flags are known by its name and their key. So the same detector over the same rows flags the same cases,
and those that there are already are passed over: here, and again by the run, which others may have told meanwhile.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import name_of
from epsilon_lab.messages.events import CaseFlagged
from epsilon_lab.messages.flagged import flagged
from epsilon_lab.reducers import Detector
from epsilon_lab.workspace.schema import TABLES

if TYPE_CHECKING:
    from epsilon_lab.workspace.tables import Tables


def detect(run_id: str, tables: Tables, detectors: Sequence[Detector], verdicts: dict[str, str]) -> list[CaseFlagged]:
    """Ask detectors what they find in a run's tables; each case once, in the order in which they flag them.

    Args:
        run_id: The run.
        tables: The workspace's tables.
        detectors: What looks for something.
        verdicts: Case id -> the verdict that speaks for it, which a detector is told.

    Raises:
        InvalidInput: There is no detector, one is none or reads a table that there is not, or flags what is no case.
    """
    if not detectors:
        raise InvalidInput("run.detect", "has no detector", "such as run.detect(reducers.SuspiciousScore())")
    for detector in detectors:
        if not callable(detector) or isinstance(detector, type) or getattr(detector, "table", None) not in TABLES:
            raise InvalidInput(
                f"run.detect {detector!r}",
                "is no detector: something that is called with rows and flag=, with the name of a table as its .table",
                f"the tables are {', '.join(TABLES)}",
            )
    found: dict[str, CaseFlagged] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for detector in detectors:
        if detector.table not in rows:
            rows[detector.table] = _rows(run_id, tables, detector.table)
        flag = _flag(name_of(detector), found, verdicts)
        told = {"config": _config(run_id, tables)} if _asks_config(detector) else {}
        detector(rows[detector.table], flag=flag, **told)
    return list(found.values())


def _asks_config(detector: Detector) -> bool:
    try:
        return "config" in inspect.signature(detector).parameters
    except (TypeError, ValueError):  # a builtin that does not tell
        return False


def _config(run_id: str, tables: Tables) -> dict[str, Any]:
    ((config,),) = tables.rows("select config from runs where run_id = $run", {"run": run_id}, run_id=run_id)
    return msgspec.json.decode(config, type=dict[str, Any]) if config else {}


def _flag(flagged_by: str, found: dict[str, CaseFlagged], verdicts: dict[str, str]) -> Callable[..., str | None]:
    def flag(**asked: Any) -> str | None:
        line = flagged(flagged_by, "", **asked)
        found.setdefault(line.case_id, line)
        return verdicts.get(line.case_id)

    return flag


def _rows(run_id: str, tables: Tables, table: str) -> list[dict[str, Any]]:
    columns = TABLES[table].columns
    which = "where run_id = $run" if "run_id" in columns else ""
    query = f"select {', '.join(columns)} from {table} {which} order by {TABLES[table].order}"  # noqa: S608 - our own names
    found = tables.rows(query, {"run": run_id} if which else None, run_id=run_id)
    return [
        {
            name: msgspec.json.decode(value) if kind.startswith("JSON") and value is not None else value
            for (name, kind), value in zip(columns.items(), row, strict=True)
        }
        for row in found
    ]
