"""The case book of a run: what waits for a decision, and the way to give one.

It holds no rules and no state: it reads the tables, one case where one is meant, and tells the run what is decided; the
run refuses what is wrong. A verdict is on disk, whatever the lab's durability, before `decide` returns.
"""

from __future__ import annotations

import getpass
import html
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from epsilon_lab import formats
from epsilon_lab.arguments import number, text
from epsilon_lab.cases.agreement import Agreement, Given, agreements, confusion, said_by
from epsilon_lab.cases.case import Case
from epsilon_lab.cases.detection import detect
from epsilon_lab.cases.docket import CONFLICTS, CaseNews
from epsilon_lab.errors import InvalidInput, LabError, NoSuchCase
from epsilon_lab.messages.cases import Decide, Flag, Rank, Retract, Unsure, live
from epsilon_lab.messages.deciders import Decider, DeciderKind
from epsilon_lab.messages.events import VerdictGiven

if TYPE_CHECKING:
    import pandas as pd

    from epsilon_lab.reducers import Detector
    from epsilon_lab.workspace.tables import Tables

_LOOK_S = 0.1
"""Seconds between two looks at the tables of a run that is waited for."""

_AT_ONCE = 500
"""Cases that a run is told of in one message."""

_CASE = (
    "case_id, kind, question, options, key, evidence, flagged_by, reason, role, score, tasks, status, number, unsure"
)
_VERDICT = "case_id, number, verdict, decider_kind, decider, roles, note, supersedes, retracted, source, confidence"
_SUMMARY = "kind, status, coalesce(decider, ''), coalesce(decider_kind, '')"
_JSON = ("options", "key", "evidence", "tasks", "roles", "unsure")


class Decided(Protocol):
    """A run whose verdicts may be taken over."""

    run_id: str

    @property
    def cases(self) -> CaseBook:
        """Its case book."""
        ...


class Panel(Protocol):
    """A live view of a decider's way through cases; in a notebook it shows itself, elsewhere it is text."""

    def display(self) -> None:
        """Show it here."""
        ...

    def close(self) -> None:
        """Show its last look, for good."""
        ...


class Chosen(NamedTuple):
    """Which cases a panel goes through, and how."""

    where: str | None
    order: str | None
    blind: bool
    decider: Decider


class CaseBook:
    """The cases of one run; a mapping by case id.

    Args:
        run_id: The run.
        tables: The workspace's tables.
        tell: Tells the run what is said about its cases, and raises a `LabError` where nobody can, or it is wrong.
        ends_within: Waits for the run's end at most so many seconds, and says whether it has come.
        show: Opens a panel on cases of this book.
    """

    def __init__(
        self,
        run_id: str,
        tables: Tables,
        tell: Callable[[CaseNews], None],
        ends_within: Callable[[float], bool],
        show: Callable[[CaseBook, Chosen], Panel],
    ) -> None:
        self.run_id = run_id
        self._tables = tables
        self._tell = tell
        self._ends_within = ends_within
        self._show = show

    def __repr__(self) -> str:
        return f"<CaseBook of {self.run_id}>"

    def _repr_html_(self) -> str:
        """How many cases there are, by kind and status, and who decided them."""
        title = f"cases of {self.run_id}"
        try:
            rows = self._rows(f"{_SUMMARY}, count(*)", "true group by all", order="all")
        except LabError:  # its tables are closed
            return f"<code>{html.escape(repr(self))}</code>"
        told = formats.table(("kind", "status", "decided by", "", "cases"), rows) if rows else "none was flagged"
        way = "run.cases.panel() goes through them; run.cases.frame() has them all"
        return f'<div style="{formats.FONT};{formats.TEXT}"><b>{formats.escape(title)}</b>{told}{way}</div>'

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[str]:
        return iter([case_id for (case_id,) in self._rows("case_id")])

    def __contains__(self, case_id: object) -> bool:
        return isinstance(case_id, str) and bool(self._rows("case_id", "case_id = $case", case_id))

    def __getitem__(self, case_id: str) -> Case:
        """One case, with its verdicts.

        Raises:
            NoSuchCase: There is none of that id.
        """
        if (told := self._tables.case(self.run_id, text("case_id", case_id))) is not None:
            row, verdicts = told
            known = {name: value for name in _CASE.split(", ") if (value := row[name]) is not None}
            return msgspec.convert({**known, "verdicts": verdicts}, Case)
        if found := self._cases("case_id = $case", case_id):
            return found[0]
        raise NoSuchCase(self.run_id, case_id, self)

    @property
    def open(self) -> list[Case]:
        """Those that nobody has decided and somebody is asked about, in the order in which they were flagged."""
        return self._cases("status = 'open'")

    @property
    def deferred(self) -> list[Case]:
        """Those that nobody has decided and nobody is asked about: more than `Budget(cases=)` has room for."""
        return self._cases("status = 'deferred'")

    def verdicts(self) -> dict[str, str]:
        """Case id -> the verdict that speaks for it, of those that are decided."""
        return dict(self._rows("case_id, verdict", "verdict is not null"))

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
                raise LabError(f"run {self.run_id} is over, and nothing is left to decide; see run.cases.frame()")
            left = _LOOK_S if until is None else min(_LOOK_S, until - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"run {self.run_id} asked nothing within {timeout:g} s; it goes on")
            is_over = self._ends_within(left)  # and then a last look, for what it asked before
        return found[0]

    def frame(self, where: str | None = None, order: str | None = None) -> pd.DataFrame:
        """The table `cases`, this run's rows.

        Args:
            where: Which of them: SQL, such as `"status = 'open' and score > 0.5"`.
            order: In which order: SQL, such as `"score desc"`; None for that in which they were flagged.

        Raises:
            InvalidInput: That is no SQL; DuckDB's words are in the message.
        """
        where, order = (None if sql is None else text(name, sql) for name, sql in (("where", where), ("order", order)))
        return self._tables.frame("cases", run_id=self.run_id, where=where, order=order)

    def where(self, condition: str) -> list[Case]:
        """Those of which a condition holds, in the order in which they were flagged.

        Args:
            condition: SQL on this run's rows of the table `cases`, such as `"status = 'open' and score > 0.5"`.

        Raises:
            InvalidInput: That is no SQL; DuckDB's words are in the message.
        """
        chosen = [case_id for case_id, _ in self.chosen(text("where", condition), "place")]
        return self._cases("case_id in (select unnest($chosen::varchar[]))", chosen=chosen)

    def panel(
        self,
        where: str | None = None,
        order: str | None = None,
        *,
        blind: bool = False,
        decider: str | Decider | None = None,
    ) -> Panel:
        """Go through cases one at a time, by buttons; a click is on disk before the next case shows.

        It begins at the first that is undecided, so a panel opened anew goes on where the last one ended. One is open
        at a time for a run; in a console it is text.

        Args:
            where: Which cases, in SQL, as for `frame`; None: all but those that are deferred or withdrawn. Those come
                up that are undecided; where it finds decided ones only, those that the decider has not judged himself.
            order: In which order, in SQL; None: the most urgent first.
            blind: Whether it is not told what others have decided; those cases come up too then.
            decider: Who decides, as for `decide`.

        Raises:
            InvalidInput: An argument has a wrong type, or is no SQL, in DuckDB's words.
        """
        if not isinstance(blind, bool):
            raise InvalidInput("blind", f"must be True or False, got {blind!r}")
        where, order = (None if sql is None else text(name, sql) for name, sql in (("where", where), ("order", order)))
        return self._show(self, Chosen(where, order, blind, _whoever(decider)))

    def chosen(self, where: str, order: str) -> list[tuple[str, str]]:
        """Ids and statuses of cases, without all that `frame` reads with them.

        Raises:
            InvalidInput: That is no SQL, in DuckDB's words.
        """
        query = (
            "select case_id, status from (select * from cases where run_id = $run) as cases "  # noqa: S608 - it only reads
            f"where (\n{where}\n) order by {order}\n, place"
        )
        return [(str(name), str(status)) for name, status in self._tables.rows(query, {"run": self.run_id})]

    def judged(self, decider: str) -> list[str]:
        """Cases on which a decider has a verdict that lives; the one he gave last at the end."""
        mine = "live and decider = $who group by case_id"
        return [
            name for (name,) in self._rows("case_id", mine, table="verdicts", order="max(ts), case_id", who=decider)
        ]

    def doubted(self, decider: str) -> list[str]:
        """Cases on which a decider has said that he is unsure, in the order in which they were flagged."""
        rows = self._rows("case_id, unsure", "unsure is not null")
        return [name for name, unsure in rows if decider in msgspec.json.decode(unsure)]

    def mark(self) -> tuple[int, ...]:
        """How much is on record, so that a look tells whether there is news: verdicts first, then cases, and those of
        them that are withdrawn or deferred.
        """
        verdicts = "(select count(*) from verdicts where run_id = $run)"
        counted = "count(*), count(*) filter (status = 'withdrawn'), count(*) filter (status = 'deferred')"
        return self._rows(f"{verdicts}, {counted}", order="all")[0]

    def agreement(self) -> pd.DataFrame:
        """How far deciders agree, each two of them on the cases that both have judged.

        Each says what his latest verdict says that lives; a verdict that another was put in its place of still does.

        Returns:
            decider, other, cases (both have judged), agreed, share (agreed / cases) and kappa: Cohen's kappa,
            `(p_o - p_e) / (1 - p_e)` with `p_o` that share and `p_e` the share that chance would give two who use each
            verdict as often as these do (J. Cohen, Educational and Psychological Measurement 20, 1960, pages 37-46).
            It is NaN where it is undefined: both say one and the same verdict always. One row for each two deciders
            with a case in common.
        """
        import pandas as pd  # noqa: PLC0415 - pandas loads when someone looks

        return pd.DataFrame(agreements(said_by(self._given())), columns=list(Agreement._fields))

    def confusion(self, decider: str, other: str) -> pd.DataFrame:
        """Count the cases that two deciders have judged: a row for each verdict of the one, a column for each of the
        other's.

        Raises:
            InvalidInput: Nobody of that name has judged a case here.
        """
        import pandas as pd  # noqa: PLC0415 - pandas loads when someone looks

        said = said_by(self._given())
        for name in (decider, other):
            if name not in said:
                known = ", ".join(sorted(said)) or "nobody"
                raise InvalidInput("decider", f"{name!r} has judged no case of run {self.run_id}", f"{known} has")
        pairs = confusion(said[decider], said[other])
        verdicts = sorted({verdict for pair in pairs for verdict in pair})
        counts = [[pairs[one, another] for another in verdicts] for one in verdicts]
        return pd.DataFrame(
            counts, index=pd.Index(verdicts, name=decider), columns=pd.Index(verdicts, name=other), dtype="int64"
        )

    def decide(
        self,
        case_id: str | Case,
        verdict: str,
        *,
        note: str = "",
        decider: str | Decider | None = None,
        force: bool = False,
    ) -> Case:
        """Decide a case, whether the run goes on, was left, or is over; the verdict is on disk when this returns.

        Args:
            case_id: Which; or the case as it was looked at, and then it takes no verdict if another has come since.
            verdict: One of its options.
            note: Why; whoever does the work again is told so.
            decider: Who decides: a person's name, or a `Decider`; None for whoever runs this process.
            force: Whether it may be given although the case is decided. The earlier verdict stays on record, and goes
                on speaking where its decider weighs more (`rank`).

        Returns:
            The case, decided.

        Raises:
            InvalidInput: There is no such case, it has no such option, the decider lacks its role, it is withdrawn, or
                decided and `force` is not set. Nothing is on record then.
            LabError: This lab only looks on, or the verdict could not be put on disk.
        """
        if not isinstance(force, bool):
            raise InvalidInput("force", f"must be True or False, got {force!r}")
        return self._say(
            Decide(
                case_id=_named(case_id),
                verdict=text("verdict", verdict),
                decider=_whoever(decider),
                note=text("note", note, blank=True),
                force=force,
                number=len(case_id.verdicts) + 1 if isinstance(case_id, Case) else None,
            )
        )

    def unsure(self, case_id: str | Case, *, note: str = "", decider: str | Decider | None = None) -> Case:
        """Put on record that somebody has looked and cannot tell. It is no verdict: an open case stays open.

        Args:
            case_id: Which.
            note: Why.
            decider: Who, as for `decide`.

        Returns:
            The case; its `unsure` says who could not tell, as does the column of the table `cases`.

        Raises:
            InvalidInput: There is no such case, the decider lacks its role, or it is withdrawn.
            LabError: As for `decide`.
        """
        who, why = _whoever(decider), text("note", note, blank=True)
        return self._say(Unsure(case_id=_named(case_id), decider=who, note=why))

    def undo(self, case_id: str | Case, *, note: str = "", decider: str | Decider | None = None) -> Case:
        """Take back the verdict that speaks for a case; it stays on record, taken back. Another one that lives speaks
        then, or the case is open again.

        Args:
            case_id: Which; or the case as it was looked at, and then its verdict stays if another speaks since.
            note: Why.
            decider: Who takes it back, as for `decide`.

        Returns:
            The case as it is now.

        Raises:
            InvalidInput: There is no such case, it is not decided, the decider lacks its role, or its verdict follows
                from one about a conflict, which is to be taken back instead.
            LabError: As for `decide`.
        """
        who, why = _whoever(decider), text("note", note, blank=True)
        last = case_id.speaks if isinstance(case_id, Case) else None
        seen = None if last is None else last.number
        return self._say(Retract(case_id=_named(case_id), decider=who, note=why, number=seen))

    def rank(self, *kinds: DeciderKind) -> None:
        """Say whose verdicts weigh more than whose, from now on and for those there are: the highest first, as in
        `rank("CODE", "HUMAN", "LLM")`. Kinds that are not named come last.

        Raises:
            InvalidInput: One is no kind of decider, or named twice.
            LabError: As for `decide`.
        """
        self._tell(Rank(kinds))

    def detect(self, *detectors: Detector) -> pd.DataFrame:
        """Have detectors look at the run's tables; what they flag and was not flagged before becomes cases.

        Args:
            *detectors: Such as `reducers.SuspiciousScore()`; any callable that is given the rows of a run, dicts, and
                `flag=` (and `config=`, the run's arguments, if it takes that), and has the name of the table as its
                `.table`. Its name and the key make the case's id.

        Returns:
            The table `cases`, those that are new; empty where nothing is.

        Raises:
            InvalidInput: There is no detector, one is none, or it flags what is no case. Nothing is flagged then.
            LabError: As for `decide`.
        """
        known = set(self)
        found = detect(self.run_id, self._tables, detectors, self.verdicts())
        new = [line for line in found if line.case_id not in known]
        for begin in range(0, len(new), _AT_ONCE):
            self._tell(Flag(tuple(new[begin : begin + _AT_ONCE])))
        frame = self.frame()
        return frame[frame["case_id"].isin({line.case_id for line in new})].reset_index(drop=True)

    def adopt(self, other: Decided) -> list[str]:
        """Take over what was decided in another run about cases of the same ids that are undecided here.

        Args:
            other: The run.

        Returns:
            The ids of the cases that are decided since.

        Raises:
            InvalidInput: That is no run; or a verdict is no option of the case here, or its decider lacks the role that
                is asked here: those before it are taken over.
            LabError: As for `decide`.
        """
        if not isinstance(getattr(other, "cases", None), CaseBook):
            raise InvalidInput("other", f"must be a run, got {other!r}", "lab.runs has them by name and run id")
        undecided = dict.fromkeys(case_id for (case_id,) in self._rows("case_id", "status in ('open', 'deferred')"))
        theirs = [case for case in other.cases._cases("number is not null") if case.case_id in undecided]  # noqa: SLF001
        theirs = [case for case in theirs if case.flagged_by != CONFLICTS]  # what follows from these is theirs too
        for case in theirs:
            for given in live(case.verdicts):
                self._tell(
                    Decide(
                        case_id=case.case_id,
                        verdict=given.verdict,
                        decider=Decider(given.decider, given.decider_kind, given.roles),
                        note=given.note,
                        confidence=given.confidence,
                        force=True,
                        source=f"{other.run_id}/{case.case_id}#{given.number}",
                    )
                )
        return [case.case_id for case in theirs]

    def _say(self, news: Decide | Retract | Unsure) -> Case:
        self._tell(news)
        return self[news.case_id]

    def _cases(self, which: str = "true", case_id: str = "", **more: Any) -> list[Case]:
        """These cases, in the order in which they were flagged."""
        found = [_fields(_CASE, row) for row in self._rows(_CASE, which, case_id, **more)]
        verdicts: dict[str, list[VerdictGiven]] = {}
        if any(case["status"] != "open" or "number" in case for case in found) or case_id:
            chosen = f"select case_id from cases where run_id = $run and {which}"  # noqa: S608 - our own names
            for row in self._rows(
                _VERDICT, f"case_id in ({chosen})", case_id, table="verdicts", order="number", **more
            ):
                given = _fields(_VERDICT, row)
                verdicts.setdefault(given["case_id"], []).append(msgspec.convert(given, VerdictGiven))
        return [msgspec.convert({**case, "verdicts": tuple(verdicts.get(case["case_id"], ()))}, Case) for case in found]

    def _given(self) -> list[Given]:
        rows = self._rows("case_id, decider, verdict", "live", table="verdicts", order="ts, case_id, number")
        return [Given(*row) for row in rows]

    def _rows(
        self,
        columns: str,
        which: str = "true",
        case_id: str = "",
        *,
        table: str = "cases",
        order: str = "place",
        **more: object,
    ) -> list[tuple[Any, ...]]:
        query = f"select {columns} from {table} where run_id = $run and {which} order by {order}"  # noqa: S608 - our own names
        params: dict[str, object] = {"run": self.run_id, **({"case": case_id} if case_id else {}), **more}
        return self._tables.rows(query, params, run_id=self.run_id)


def _named(case: str | Case) -> str:
    return case.case_id if isinstance(case, Case) else text("case_id", case)


def _fields(columns: str, row: tuple[Any, ...]) -> dict[str, Any]:
    """A row as fields and values, without what is NULL."""
    told = {name: value for name, value in zip(columns.split(", "), row, strict=True) if value is not None}
    return {name: msgspec.json.decode(value) if name in _JSON else value for name, value in told.items()}


def _whoever(decider: str | Decider | None) -> Decider:
    return (
        decider
        if isinstance(decider, Decider)
        else Decider(text("decider", _whoever_runs_this() if decider is None else decider))
    )


def _whoever_runs_this() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without an entry in the system's list
        return f"user {os.getuid()}"
