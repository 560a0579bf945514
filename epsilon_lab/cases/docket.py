"""All cases of a run, and what follows from what is said about them.

Pure. What is on record is taken as it stands (`take`); what is said is checked first, and answered by the lines that
put it on record (`hear`). A run's state embeds one, which it builds as it goes, and so does whoever keeps the case book
of a run that nobody is at, out of its journal.

Verdicts about pairs may contradict each other: A is B, B is C, but A is not C. That becomes a case of its own, which
asks which of these verdicts is wrong; deciding it gives the pair that is named the other verdict, undoing that takes it
back, and a contradiction that has dissolved is withdrawn. What such a case is about are verdicts, not pairs: its key
is the list of them, each a case's id and the verdict's number.

What tasks have asked is withdrawn at a run's end where they ask it no more since they were done again; where one asks
it again, it is open again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from epsilon_lab import ids
from epsilon_lab.cases.case import DIFFERENT, SAME, Case, flagged, reworded
from epsilon_lab.cases.conflicts import Comparisons, Step
from epsilon_lab.errors import InvalidInput, NoSuchCase
from epsilon_lab.messages.cases import Decide, Flag, Rank, Retract, Take, Unsure, live
from epsilon_lab.messages.deciders import AUTHORITY, Decider, DeciderKind
from epsilon_lab.messages.events import (
    Body,
    CaseFlagged,
    CasesAsked,
    CasesRanked,
    CaseUnsure,
    CaseWithdrawn,
    VerdictGiven,
)

CONFLICT, CONFLICTS = "conflict", "conflicts"
"""The kind of a case about verdicts that contradict each other, and who flags it."""

Said = Decide | Retract | Unsure | Flag | Rank
CaseNews = Said | Take


class Heard(NamedTuple):
    """What follows from something that was said."""

    lines: list[Body]
    turned: list[VerdictGiven]
    """The verdicts that speak since, and did not before; a retraction where none does."""


class Docket:
    """Cases by id, in the order in which they were flagged.

    Args:
        run_id: The run that they are of.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self.authority: tuple[DeciderKind, ...] = AUTHORITY
        self._cases: dict[str, Case] = {}
        self._places: dict[str, int] = {}
        """Case -> how many were flagged before it."""

        self._words: dict[str, int] = {}
        """Case -> a hash of the words in which it was asked last."""

        self._own_words: dict[tuple[str, str], int] = {}
        """Case and task, by the first of its revisions -> of those in which that one asked last, where they differ."""

        self._asked: dict[str, set[str]] = {}
        self._sources: set[str] = set()
        self._pairs: dict[str, Comparisons] = {}
        """By who flagged them: what two reducers mean by `same` need not be the same."""

        self._conflicts_of: dict[str, set[str]] = {}
        """Pair -> the conflicts that name it."""

        self._unsettled: dict[str, None] = {}
        """Cases whose verdict has turned, as far as what follows from that is not looked at yet."""

        self._doubtful: dict[str, None] = {}
        """Pairs said to differ that may be contradicted since."""

    def __contains__(self, case_id: str) -> bool:
        return case_id in self._cases

    def __getitem__(self, case_id: str) -> Case:
        """A case, without its evidence.

        Raises:
            NoSuchCase: There is none of that id.
        """
        if (case := self._cases.get(case_id)) is None:
            raise NoSuchCase(self._run_id, case_id, self._cases)
        return case

    def cases(self) -> Iterable[Case]:
        """All of them, without their evidence, in the order in which they were flagged."""
        return self._cases.values()

    def is_open(self, case_id: str) -> bool:
        """Whether a case waits for its verdict."""
        return case_id in self._cases and self._cases[case_id].status == "open"

    def verdicts(self) -> dict[str, str]:
        """Case -> the verdict that speaks for it, of those that are decided."""
        return {name: last.verdict for name, case in self._cases.items() if (last := case.speaks) is not None}

    def asked(self) -> dict[str, set[str]]:
        """Task, by the first of its revisions -> the cases that it has flagged."""
        return self._asked

    def is_own(self, line: CaseFlagged | CaseWithdrawn) -> bool:
        """Whether the docket writes such a line by itself: about a conflict, or about what a task has asked."""
        if isinstance(line, CaseFlagged):
            return line.flagged_by == CONFLICTS
        return bool((case := self._cases[line.case_id]).tasks) or case.flagged_by == CONFLICTS

    def drop(self, asked: Container[str]) -> list[Body]:
        """Withdraw the open cases that tasks have asked, and neither they nor anybody outside ask now.

        Args:
            asked: Ids of those that are.
        """
        lines: list[Body] = [
            CaseWithdrawn(case_id=name, reason="nobody asks it any more")
            for name, case in self._cases.items()
            if case.status == "open" and case.tasks and "" not in case.tasks and name not in asked
        ]
        for line in lines:
            self.take(line)
        return lines

    def abridged(self, flags: Sequence[CaseFlagged]) -> tuple[CaseFlagged | CasesAsked, ...]:
        """The lines by which a task's flags go on record: in full what says anything new, and one for all the rest.

        Args:
            flags: Of one task.
        """
        new, told = list[CaseFlagged | CasesAsked](), dict[str, str | None]()
        for line in flags:
            case, asks = self._cases.get(line.case_id), ids.origin(line.task_id or "")
            words = self._own_words.get((line.case_id, asks), self._words.get(line.case_id))
            if case is None or case.status == "withdrawn" or words != _words(line):
                new.append(line)
            else:
                told[line.case_id] = line.told
        return (*new, *([CasesAsked(task_id=str(flags[0].task_id), told=told)] if told else ()))

    # -- what is on record --------------------------------------------------------------------------------------------

    def take(self, line: Body) -> list[VerdictGiven]:
        """Take in a line of the record; lines that are not about cases are passed over.

        Returns:
            The verdicts that speak since, and did not before; a retraction where none does.
        """
        match line:
            case CaseFlagged():
                self._flag(line)
            case CasesAsked():
                for case_id in filter(self.__contains__, line.told):
                    self._ask(case_id, line.task_id)
            case CaseWithdrawn() if line.case_id in self._cases:
                self._cases[line.case_id] = msgspec.structs.replace(
                    self._cases[line.case_id], status="withdrawn", reason=line.reason
                )
            case CaseUnsure() if line.case_id in self._cases:
                self._note_source(line.source)
                case = self._cases[line.case_id]
                unsure = {**case.unsure, line.decider: line.note}
                self._cases[line.case_id] = msgspec.structs.replace(case, unsure=unsure)
            case VerdictGiven() if line.case_id in self._cases:
                self._note_source(line.source)
                case = self._cases[line.case_id]
                return self._turn(case.with_verdicts((*case.verdicts, line), self.authority))
            case CasesRanked():
                self.authority = line.kinds
                ranked = [
                    case.with_verdicts(case.verdicts, line.kinds) for case in self._cases.values() if case.verdicts
                ]
                return [turned for case in ranked for turned in self._turn(case)]
        return []

    def _note_source(self, source: str) -> None:
        if source:
            self._sources.add(source)

    def _is_new(self, said: Decide | Unsure) -> bool:
        """Whether it does not come of what something else came of already."""
        return said.source not in self._sources

    def _flag(self, line: CaseFlagged) -> None:
        before, words, asks = self._cases.get(line.case_id), _words(line), ids.origin(line.task_id or "")
        if before is not None and (last := self._words[line.case_id]) != words:
            for name in map(ids.origin, before.tasks):
                self._own_words.setdefault((line.case_id, name), last)
        if (line.case_id, asks) in self._own_words:
            self._own_words[line.case_id, asks] = words
        self._words[line.case_id] = words
        if before is None:
            self._cases[line.case_id] = case = flagged(line)
            self._places[line.case_id] = len(self._places)
            for pair, _ in _named(case):
                self._conflicts_of.setdefault(pair, set()).add(case.case_id)
        else:
            self._cases[line.case_id] = case = reworded(before, line)
            if case.pair != before.pair and case.speaks is not None:
                self._compare(case, case.pair or before.pair)
        if line.task_id is not None:
            self._ask(line.case_id, line.task_id)

    def _ask(self, case_id: str, task_id: str) -> None:
        """Note who asks; an empty name for somebody outside."""
        case = self._cases[case_id]
        if task_id not in case.tasks:
            self._cases[case_id] = msgspec.structs.replace(case, tasks=(*case.tasks, task_id))
        if task_id:
            self._asked.setdefault(ids.origin(task_id), set()).add(case_id)

    def _turn(self, case: Case) -> list[VerdictGiven]:
        """Put a case in the place of what it was; tell whether its verdict has turned."""
        before, now = self._cases[case.case_id].speaks, case.speaks
        self._cases[case.case_id] = case
        if before == now:
            return []
        self._compare(case, case.pair)
        self._unsettled[case.case_id] = None
        return [case.verdicts[-1] if now is None else now]

    def _compare(self, case: Case, pair: tuple[Any, Any] | None) -> None:
        """Hold what is said of a pair against what is said of others, as long as the case is about one."""
        if pair is not None:
            said = self._pairs.setdefault(case.flagged_by, Comparisons())
            verdict = None if case.speaks is None or case.pair is None else case.speaks.verdict
            self._doubtful.update(dict.fromkeys(said.put(case.case_id, _name(pair[0]), _name(pair[1]), verdict)))

    # -- what is said -------------------------------------------------------------------------------------------------

    def check(self, news: CaseNews) -> None:
        """Refuse what is wrong.

        Raises:
            InvalidInput: There is no such case, it has no such option, the decider lacks its role, it is withdrawn, or
                decided and `force` is not set; there is no verdict to take back; or what is flagged is no case.
        """
        match news:
            case Decide():
                if self._is_new(news):
                    self[news.case_id].decide(news)
            case Unsure():
                if self._is_new(news):
                    self[news.case_id].leave(news)
            case Retract():
                case = self[news.case_id]
                case.retract(news)
                if (last := case.speaks) is not None and (conflict := _conflict_behind(last)):
                    raise InvalidInput(
                        f"case {case.case_id!r}",
                        f"was decided by deciding the conflict {conflict}",
                        f"run.cases.undo({conflict!r}) takes both back, force=True gives another verdict",
                    )
            case Flag(cases=cases):
                for line in cases:
                    _check_flag(line)

    def hear(self, news: CaseNews) -> Heard:
        """Take in what someone says, and all that follows from it; nothing does where it is wrong."""
        if isinstance(news, Take):
            each = [self.hear(decision) for decision in news.decisions]
            return Heard(
                [line for one in each for line in one.lines], [turned for one in each for turned in one.turned]
            )
        try:
            self.check(news)
        except InvalidInput:
            return Heard([], [])
        return self._heard(self._lines(news))

    def settle(self) -> Heard:
        """Catch up with what a crash has cut off: what follows from lines on record, and is not there."""
        return self._heard([])

    def _heard(self, lines: list[Body]) -> Heard:
        turned = [each for line in lines for each in self.take(line)]
        while self._unsettled or self._doubtful:
            more = self._due()
            turned += [each for line in more for each in self.take(line)]
            lines += more
        return Heard(lines, turned)

    def _lines(self, news: Said) -> list[Body]:
        match news:
            case Decide():
                return [self._cases[news.case_id].decide(news)] if self._is_new(news) else []
            case Unsure():
                line = self._cases[news.case_id].leave(news) if self._is_new(news) else None
                return [] if line is None else [line]
            case Retract():
                return [self._cases[news.case_id].retract(news)]
            case Flag(cases=cases):
                first = {line.case_id: line for line in cases[::-1]}
                return [
                    first[case_id]
                    for case_id in dict.fromkeys(line.case_id for line in cases)
                    if self._adds(first[case_id])
                ]
            case Rank(kinds=kinds):
                whole = (*kinds, *(kind for kind in AUTHORITY if kind not in kinds))
                return [CasesRanked(kinds=whole)] if whole != self.authority else []

    def _adds(self, line: CaseFlagged) -> bool:
        case = self._cases.get(line.case_id)
        return case is None or case.status == "withdrawn" or line.task_id not in case.tasks

    # -- conflicts ----------------------------------------------------------------------------------------------------

    def _due(self) -> list[Body]:
        """What follows next: first from decisions about conflicts, then of contradictions that have come or gone."""
        if conflicts := [name for name in self._unsettled if self._cases[name].flagged_by == CONFLICTS]:
            for name in conflicts:
                del self._unsettled[name]
            return [line for name in conflicts for line in self._ruling(self._cases[name])]
        lines: list[Body] = []
        concerned = {each for pair in self._unsettled for each in self._conflicts_of.get(pair, ())}
        for name in sorted(concerned, key=self._places.__getitem__):
            conflict = self._cases[name]
            if conflict.status == "open" and not self._holds(conflict):
                lines.append(CaseWithdrawn(case_id=name, reason="its verdicts contradict each other no more"))
            self._doubtful[_named(conflict)[-1][0]] = None  # another chain may do so
        self._unsettled.clear()
        if lines:
            return lines
        doubtful = sorted(self._doubtful, key=self._places.__getitem__)
        self._doubtful.clear()
        return [line for pair in doubtful for line in self._contradiction(self._cases[pair])]

    def _holds(self, conflict: Case) -> bool:
        """Whether the verdicts still speak that contradict each other."""
        speak = ((self._cases[pair].speaks, number) for pair, number in _named(conflict))
        return all(last is not None and last.number == number for last, number in speak)

    def _contradiction(self, pair: Case) -> list[Body]:
        """The case that a pair makes with those that contradict it, unless there is one."""
        known = [self._cases[name] for name in self._conflicts_of.get(pair.case_id, ())]
        known = [case for case in known if _named(case)[-1][0] == pair.case_id and self._holds(case)]
        said = self._pairs.get(pair.flagged_by)
        if said is None or any(case.status != "withdrawn" for case in known):
            return []
        if not (chain := said.chain(pair.case_id)):
            return []
        left, right = chain[0].left, chain[-1].right
        return [self._conflict([*chain, Step(pair.case_id, left, right)])]

    def _conflict(self, steps: list[Step]) -> CaseFlagged:
        """The line of a contradiction: a chain of pairs that are the same, and last the pair that differs."""
        evidence: list[dict[str, object]] = []
        options: list[str] = []
        for step in steps:
            last = self._cases[step.case_id].speaks
            assert last is not None
            says = f"{_shown(step.left)} {'=' if last.verdict == SAME else 'differs from'} {_shown(step.right)}"
            evidence.append(
                {
                    "case_id": step.case_id,
                    "says": says,
                    "verdict": last.verdict,
                    "decider_kind": last.decider_kind,
                    "decider": last.decider,
                    "note": last.note,
                }
            )
            option = f"{says} is wrong"
            options.append(f"{option} ({step.case_id})" if option in options else option)
        key = [[step.case_id, last.number] for step in steps if (last := self._cases[step.case_id].speaks) is not None]
        return CaseFlagged(
            case_id=ids.case_id(CONFLICTS, key),
            kind=CONFLICT,
            question=f"{evidence[-1]['says']}, and yet they are the same by {len(steps) - 1} other verdicts: which "
            "one is wrong?",
            options=tuple(options),
            key=key,
            evidence=evidence,
            flagged_by=CONFLICTS,
            reason=", ".join(str(each["says"]) for each in evidence),
            role=next((role for step in steps if (role := self._cases[step.case_id].role)), ""),
        )

    def _ruling(self, conflict: Case) -> list[Body]:
        """What the decision about a conflict gives to the pair that it names, and takes back from all others."""
        last, source, wanted = conflict.speaks, "", ""
        if last is not None:
            wanted = _named(conflict)[conflict.options.index(last.verdict)][0]
            source = f"{CONFLICTS}/{conflict.case_id}#{last.number}"
        by = conflict.verdicts[-1]
        lines: list[Body] = []
        for name, _ in _named(conflict):
            pair = self._cases[name]
            derived = [each for each in live(pair.verdicts) if _conflict_behind(each) == conflict.case_id]
            for stale in (each for each in derived if each.source != source):
                line = pair.taken_back(stale, _decider(by), note=by.note)
                lines.append(line)
                pair = pair.with_verdicts((*pair.verdicts, line), self.authority)
            if last is not None and name == wanted and all(each.source != source for each in derived):
                other = SAME if name == _named(conflict)[-1][0] else DIFFERENT
                lines.append(pair.given(other, _decider(last), note=last.note, source=source))
        return lines


def _named(conflict: Case) -> list[tuple[str, int]]:
    """The verdicts that a conflict is between, each a pair's case and a number, the one that differs last."""
    return [(name, number) for name, number in conflict.key] if conflict.flagged_by == CONFLICTS else []


def _conflict_behind(verdict: VerdictGiven) -> str:
    """The conflict whose decision a verdict follows from; empty where it follows from none."""
    room, _, rest = verdict.source.partition("/")
    return rest.partition("#")[0] if room == CONFLICTS else ""


def _decider(line: VerdictGiven) -> Decider:
    return Decider(line.decider, line.decider_kind, line.roles)


def _name(thing: object) -> str:
    """What a thing goes by: 1 is not the text "1"."""
    return msgspec.json.encode(thing, order="sorted").decode()


def _shown(name: str) -> str:
    thing = msgspec.json.decode(name)
    return thing if isinstance(thing, str) else name


def _words(line: CaseFlagged) -> int:
    """A hash of all that a line says about its case, and not about who asks and what he was told."""
    said = (line.kind, line.question, line.options, line.evidence, line.reason, line.role, line.score)
    return hash(msgspec.json.encode(said))


def _check_flag(line: CaseFlagged) -> None:
    what = f"case {line.key!r} of {line.flagged_by}"
    if len(set(line.options)) < 2 or not all(line.options):
        raise InvalidInput(what, f"must have two options or more, got {line.options!r}")
    if not line.question.strip():
        raise InvalidInput(what, "must ask a question")
    if line.task_id != "":
        raise InvalidInput(what, "is flagged by somebody outside, and names no task")
