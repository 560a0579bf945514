"""The case book of a run: what waits for a decision, and the way to give one.

It holds no rules and no state: it reads the tables, asks the case itself whether a decision is one, tells the live run,
and looks whether the decision is there. A verdict is on disk, whatever the lab's durability, before `decide` returns.
"""

from __future__ import annotations

import getpass
import html
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from epsilon_lab.arguments import number, text
from epsilon_lab.cases.case import Case
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.messages.cases import Decide, Decider
from epsilon_lab.messages.events import VerdictGiven

if TYPE_CHECKING:
    import pandas as pd

    from epsilon_lab.workspace.tables import Tables

_LOOK_S = 0.1
"""Seconds between two looks at the tables of a run that is waited for."""

_CASE = "case_id, kind, question, options, evidence, flagged_by, reason, role, status"
_VERDICT = "case_id, number, verdict, decider_kind, decider, note, supersedes, retracted"


class CaseBook:
    """The cases of one run; a mapping by case id.

    Args:
        run_id: The run.
        tables: The workspace's tables.
        tell: Hands a decision to the run, and raises a `LabError` where nobody is at it.
        ends_within: Waits for the run's end at most so many seconds, and says whether it has come.
    """

    def __init__(
        self, run_id: str, tables: Tables, tell: Callable[[Decide], None], ends_within: Callable[[float], bool]
    ) -> None:
        self._run_id = run_id
        self._tables = tables
        self._tell = tell
        self._ends_within = ends_within

    def __repr__(self) -> str:
        return f"<CaseBook of {self._run_id}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    def __len__(self) -> int:
        return len(self._cases())

    def __iter__(self) -> Iterator[str]:
        return iter(self._cases())

    def __contains__(self, case_id: object) -> bool:
        return case_id in self._cases()

    def __getitem__(self, case_id: str) -> Case:
        """One case, with its verdicts.

        Raises:
            InvalidInput: There is none of that id.
        """
        cases = self._cases()
        if case_id not in cases:
            known = ", ".join(list(cases)[:3]) + " ..." * (len(cases) > 3) if cases else "none"
            raise InvalidInput(f"case {case_id!r}", f"is not in run {self._run_id}", f"it has {known}")
        return cases[case_id]

    @property
    def open(self) -> list[Case]:
        """Those that nobody has decided, in the order in which they were flagged."""
        return [case for case in self._cases().values() if case.status == "open"]

    def wait(self, timeout: float | None = None) -> Case:
        """Wait until there is something to decide; Ctrl-C ends the wait, not the run.

        Args:
            timeout: Seconds to wait at most; None: as long as the run lasts.

        Returns:
            The open case that was flagged first.

        Raises:
            TimeoutError: There was none, and the run goes on.
            LabError: The run is over, and has none.
        """
        until = None if timeout is None else time.monotonic() + number("timeout", timeout, least=0)
        is_over = False
        while not (found := self.open):
            if is_over:
                raise LabError(f"run {self._run_id} is over, and nothing is left to decide; see run.cases.frame()")
            left = _LOOK_S if until is None else min(_LOOK_S, until - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"run {self._run_id} asked nothing within {timeout:g} s; it goes on")
            is_over = self._ends_within(left)  # and then a last look, for what it asked before
        return found[0]

    def frame(self) -> pd.DataFrame:
        """The table `cases`, this run's rows."""
        return self._tables.frame("cases", run_id=self._run_id)

    def decide(
        self,
        case_id: str,
        verdict: str,
        *,
        note: str = "",
        decider: str | Decider | None = None,
        force: bool = False,
    ) -> Case:
        """Decide a case of a live run; the verdict is on disk when this returns.

        Args:
            case_id: Which.
            verdict: One of its options.
            note: Why; whoever does the work again is told so.
            decider: Who decides: a person's name, or a `Decider`; None for whoever runs this process.
            force: Whether the verdict may take the place of an earlier one, which stays on record.

        Returns:
            The case, decided.

        Raises:
            InvalidInput: There is no such case, it has no such option, the decider lacks its role, or it is decided
                and `force` is not set. Nothing is on record then.
            LabError: Nobody is at the run, or someone else was quicker.
        """
        if not isinstance(force, bool):
            raise InvalidInput("force", f"must be True or False, got {force!r}")
        who = decider if isinstance(decider, Decider) else Decider(text("decider", decider or _whoever_runs_this()))
        case = self[case_id]
        said = Decide(
            case_id=case_id,
            verdict=text("verdict", verdict),
            decider=who,
            note=text("note", note, blank=True),
            force=force,
            number=len(case.verdicts) + 1,
        )
        expected = case.decide(said)
        self._tell(said)
        now = self[case_id]
        given = now.verdicts[expected.number - 1 : expected.number]
        if [(each.verdict, each.decider, each.note) for each in given] != [(verdict, who.name, note)]:
            raise LabError(f"case {case_id!r} of run {self._run_id} took no verdict: it is {now.status} by now")
        return now

    def _cases(self) -> dict[str, Case]:
        """All of them, in the order in which they were flagged."""
        verdicts: dict[str, list[VerdictGiven]] = {}
        for row in self._rows(_VERDICT, "verdicts", "case_id, number"):
            verdicts.setdefault(row["case_id"], []).append(msgspec.convert(row, VerdictGiven))
        found: dict[str, Case] = {}
        for row in self._rows(_CASE, "cases", "created_at, case_id"):
            row["options"], row["evidence"] = (msgspec.json.decode(row.get(name, "null")) for name in _JSON)
            row["verdicts"] = tuple(verdicts.get(row["case_id"], ()))
            found[row["case_id"]] = msgspec.convert(row, Case)
        return found

    def _rows(self, columns: str, table: str, order: str) -> list[dict[str, Any]]:
        """Rows as fields and values, without what is NULL."""
        query = f"select {columns} from {table} where run_id = ? order by {order}"  # noqa: S608 - our own names
        names = columns.split(", ")
        rows = self._tables.rows(query, [self._run_id], run_id=self._run_id)
        return [{name: value for name, value in zip(names, row, strict=True) if value is not None} for row in rows]


_JSON = ("options", "evidence")


def _whoever_runs_this() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without an entry in the system's list
        return f"user {os.getuid()}"
