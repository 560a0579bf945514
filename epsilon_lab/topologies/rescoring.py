"""A search's programs judged once more, by another scorer: both verdicts stand, what they disagree on becomes cases.

The distinct programs that had a score are judged again, in the same sandbox, with the same inputs, limits and seed, as
a run of its own whose table `candidates` has the same ids and another `scorer_hash`. Nothing of the search is unpickled
by the lab: the old judge's side travels inside the new one.

The search's discipline holds: the seed program first, and whoever beats it is put to the strict check. A program that
the new scorer gives no score is a row that says why; it stands behind all others, and the run goes on.

Where the two orders contradict each other, each candidate that is part of it is flagged, most urgent the one that has
passed or was passed by most others. A verdict can keep a candidate's old place, or reject it; `finalize` makes the
ranking of them.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from epsilon_lab import ids
from epsilon_lab.arguments import function
from epsilon_lab.cases.case import Case
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.ids import SEED_CANDIDATE
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import Body, CandidateSettled, CandidatesRuled, CaseFlagged
from epsilon_lab.messages.tasks import TaskOutcome, TaskSpec
from epsilon_lab.messages.values import Value
from epsilon_lab.processes.container import NoEngine, check_image
from epsilon_lab.search.archive import Archive
from epsilon_lab.search.context import Direction
from epsilon_lab.search.evaluation import EvaluateRequest, evaluate_task, evaluation_of, judged
from epsilon_lab.search.judging import evaluation_limit_s, read_docket, repack_problem
from epsilon_lab.search.leaderboard import leaderboard_csv, leaderboard_json
from epsilon_lab.search.problem import CALLS, refuse_files
from epsilon_lab.search.reordering import Change, changes
from epsilon_lab.topologies.plan import Add, Copy, Emit, Finish, Plan, PlanEffect, Write, read_rules, save_rules
from epsilon_lab.topologies.rulings import REJECT, Rule, Ruling, rejected, rule_in, rulings
from epsilon_lab.topologies.search_plan import SearchRules
from epsilon_lab.workspace.journal import Record, read_journal
from epsilon_lab.workspace.layout import RunDirectory

CHANGES = "changes.json"
"""What moved, for `run.changes`."""

NEW, OLD = "new order", "old order"
"""Options of a case about a candidate's place, beside `REJECT`."""

FLAGGED_BY = "rescore"


class RescoringRules(msgspec.Struct, frozen=True, kw_only=True):
    """All that a rescoring is played by, as its `plan.json` keeps it."""

    of: str
    """The search's run id."""

    direction: Direction
    direction_before: Direction | None = None
    """Which scores of the search were better; None where it is the same."""

    scorers: int | None
    evaluation_limit_s: float
    problem_ref: str
    seed: int
    before: tuple[CandidateSettled, ...]
    """The candidates as the search has them, the best first: what they are, and their scores."""


class Rescoring:
    """Judge a search's programs once more.

    Args:
        search: The search's run directory; another rescoring's will do as well.
        score: As of a `Problem`.
        name: The search's name.
        check: The same; None keeps the problem's own, which only passes or fails then.
        judge_files: The same; None keeps the problem's own.
        direction: The same; None keeps the problem's own.
        config: The search's arguments, as its row in the `runs` table has them.

    Raises:
        InvalidInput: An argument has a wrong type.
        LabError: The search's directory cannot be read, or no program of it had a score.
    """

    topology = "rescoring"

    def __init__(
        self,
        search: RunDirectory,
        score: Callable[..., Any],
        *,
        name: str,
        check: Callable[..., Any] | None = None,
        judge_files: Mapping[str, str | bytes | Path] | None = None,
        direction: Direction | None = None,
        config: Mapping[str, Any],
    ) -> None:
        function("rescore score", score, *CALLS["score"])
        if check is not None:
            function("rescore check", check, *CALLS["check"])
        if judge_files is not None:
            refuse_files("rescore judge_files", judge_files)
        if direction not in ("maximize", "minimize", None):
            raise InvalidInput("rescore direction", f"must be maximize, minimize or None, got {direction!r}")
        self.parent_run_id = search.run_id
        self.title = f"{name} rescored"
        self._search = search
        self._score, self._check, self._judge_files = score, check, judge_files
        try:
            self._docket = read_docket(search, "problem/public.json")
            self.seed, self._scorers = _terms(search)
            rows = _scored(search)
        except (OSError, msgspec.MsgspecError, LabError) as error:
            raise LabError(
                f"run {search.run_id} cannot be judged again: its problem cannot be read ({error})"
            ) from error
        if not rows:
            raise LabError(f"no program of run {search.run_id} had a score; there is nothing to judge again")
        archive = Archive(self._docket.direction)
        for row in rows:
            archive.add(row)
        self._before = tuple(archive.ranked())
        self._direction = direction or self._docket.direction
        # What the best known value is by the new scorer, nobody has said.
        self._config = {
            "problem": config.get("problem"),
            "direction": self._direction,
            "rescores": search.run_id,
            "of": len(rows),
        }

    def __repr__(self) -> str:
        return f"<Rescoring of {self.parent_run_id}: {len(self._before)} candidates>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return self._config

    def validate(self, budget: Budget | None = None) -> None:  # noqa: ARG002
        """Refuse where there is nothing to run programs in.

        Raises:
            InvalidInput: No container engine answers, or it has not the image that the search ran in.
        """
        if self._docket.image is not None:
            try:
                check_image(self._docket.image)
            except NoEngine as error:
                raise InvalidInput("rescore", str(error)) from error

    def prepare(self, run: RunDirectory) -> tuple[RescoringPlan, Sequence[Body]]:
        """Copy problem and programs from the search's run directory, with the new scorer.

        Raises:
            InvalidInput: The scorer cannot travel.
            LabError: A file of the search is missing.
        """
        try:
            problem_ref, docket, events = repack_problem(
                self._search,
                run,
                score=self._score,
                check=self._check,
                judge_files=self._judge_files,
                direction=self._direction,
            )
            for row in self._before:
                ref = row.source_ref or ""
                events.append(run.save(ref, self._search.read_bytes(ref), kind="source"))
        except (OSError, msgspec.MsgspecError) as error:
            raise LabError(f"the programs of run {self.parent_run_id} cannot be read ({error})") from error
        rules = RescoringRules(
            of=self.parent_run_id,
            direction=docket.direction,
            direction_before=self._docket.direction,
            scorers=self._scorers,
            evaluation_limit_s=evaluation_limit_s(docket),
            problem_ref=problem_ref,
            seed=self.seed,
            before=self._before,
        )
        events.append(save_rules(rules, run))
        return RescoringPlan(rules), events

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> RescoringPlan:  # noqa: ARG004 - all is in one file
        """Make the rules again.

        Raises:
            LabError: They are not there, or cannot be read.
        """
        return RescoringPlan(read_rules(run, RescoringRules))


class RescoringPlan(Plan):
    """The rules of a rescoring."""

    reads_outputs = True
    runs_strangers = True

    def __init__(self, rules: RescoringRules) -> None:
        self._rules = rules
        self._before = {row.candidate_id: row for row in rules.before}
        self._open = set(self._before)
        self._archive = Archive(rules.direction)
        self._ruled: dict[str, Ruling] = {}
        self._unruled: dict[str, CandidateSettled] = {}
        """Rows of candidates that are rejected, as they were judged."""

        self._reason = ""
        """Why it has ended with a ranking; empty before."""

        self._directions = rules.direction, rules.direction_before
        self.limits = {} if rules.scorers is None else {"evaluate": rules.scorers}

    def start(self, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Judge the seed program, whose score all others have to beat to be checked."""
        return self._ask([SEED_CANDIDATE]) if SEED_CANDIDATE in self._before else self._ask(list(self._before))

    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Take in what judging said of one; with the last, rank them."""
        name = outcome.task_id.partition("-")[2]
        if name not in self._open:
            return []
        self._open.discard(name)
        row = judged(self._before[name], evaluation_of(outcome))
        self._archive.add(row)
        effects: list[PlanEffect] = [Emit(row)]
        if name == SEED_CANDIDATE and self._open:
            return effects + self._ask([name for name in self._before if name in self._open])
        return effects if self._open else effects + self._finish()

    def told(self, news: object, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Candidates are rejected, or keep their old places, or do so no more: they are ranked anew."""
        if not isinstance(news, Rule) or news.ruled == self._ruled or not self._reason:
            return []
        turned = [name for name in sorted({*news.ruled, *self._ruled}) if news.ruled.get(name) != self._ruled.get(name)]
        self._ruled = news.ruled
        effects: list[PlanEffect] = [Emit(CandidatesRuled(ruled=news.ruled))]
        for name in turned:
            now_out = name in self._ruled and self._ruled[name][0] == REJECT
            if not now_out and name not in self._unruled:
                continue
            row = self._unruled.pop(name, None) or self._archive[name]
            if now_out:
                self._unruled[name] = row
                row = rejected(row, self._ruled[name])
            self._archive.replace(row)
            effects.append(Emit(row))
        return [*effects, *self._ranking(), Finish("completed", self._reason, _RANKING)]

    def news_in(self, line: Body) -> Rule | None:
        """What verdicts say about candidates."""
        return rule_in(line)

    def rulings(self, cases: Iterable[Case]) -> Rule | None:
        """What becomes of each candidate whose case is decided."""
        ruled = rulings(cases, self._before, (NEW, OLD, REJECT))
        return Rule(ruled) if ruled != self._ruled and self._reason else None

    def stop(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """End with what was judged, unranked: a part of them has no order to compare."""
        return [Finish("stopped", f"{reason}; {len(self._archive)} of {len(self._before)} programs were judged again")]

    def _ask(self, names: Sequence[str]) -> list[PlanEffect]:
        best = self._archive.best
        return [Add(tuple(self._task(name, None if best is None else best.score) for name in names), final=True)]

    def _task(self, name: str, incumbent: float | None) -> TaskSpec:
        request = EvaluateRequest(
            problem_ref=self._rules.problem_ref,
            source_ref=self._before[name].source_ref or "",
            seed=self._rules.seed,
            incumbent=incumbent,
            must_check=name == SEED_CANDIDATE,
        )
        return evaluate_task(name, request, limit_s=self._rules.evaluation_limit_s)

    def _finish(self) -> list[PlanEffect]:
        of = f"{len(self._archive.ranked())} of {len(self._before)} programs have a score"
        found = self._changes()
        if not len(self._archive.ranked()):
            first = next(iter(self._archive))
            return [Finish("failed", f"the new scorer gave no program a score; {first.candidate_id}: {first.error}")]
        cases = [Emit(self._case(change)) for change in found if change.flipped]
        self._reason = f"{of}; {len(cases)} changed places with another"
        return [
            *cases,
            Write(CHANGES, _json(found), "changes"),
            *self._ranking(),
            Finish("completed", self._reason, _RANKING),
        ]

    def _changes(self) -> list[Change]:
        before = {name: row.score for name, row in self._before.items() if row.score is not None}
        return changes(before, {row.candidate_id: row.score for row in self._archive}, *self._directions)

    def _ranking(self) -> list[PlanEffect]:
        ranked = self._ranked()
        best = next((row for row in ranked if row.checked), None)
        copy = [] if best is None else [Copy(best.source_ref or "", "best_solution.py", "best")]
        return [
            *copy,
            Write("leaderboard.json", leaderboard_json(ranked), "leaderboard"),
            Write("leaderboard.csv", leaderboard_csv(ranked), "leaderboard"),
        ]

    def _ranked(self) -> list[CandidateSettled]:
        """The candidates by the new scorer, but for those that keep their old places among them."""
        held = [name for name, (verdict, *_) in self._ruled.items() if verdict == OLD]
        rest = [row for row in self._archive.ranked() if row.candidate_id not in held]
        members = {*held, *(row.candidate_id for row in rest)}
        old_places = [name for name in self._before if name in members]
        others = iter(rest)
        return [self._archive[name] if name in held else next(others) for name in old_places]

    def _case(self, change: Change) -> CaseFlagged:
        name, row = change.candidate_id, self._archive[change.candidate_id]
        now = "none" if change.score_after is None else f"{change.score_after:.6g}"
        where = "to no place" if change.rank_after is None else f"to place {change.rank_after}"
        evidence: dict[str, object] = {**_seen(change), "source_ref": row.source_ref}
        if row.error:
            evidence["error"] = row.error
        if change.past is not None:
            other = self._before[change.past]
            after = self._archive[change.past].score
            evidence["other"] = {
                "candidate_id": change.past,
                "score_before": other.score,
                "score_after": after,
                "source_ref": other.source_ref,
            }
        return CaseFlagged(
            case_id=ids.case_id(FLAGGED_BY, name),
            kind="order",
            question=f"Is the new scorer right about {name}?",
            options=(NEW, OLD, REJECT),
            key=name,
            evidence=evidence,
            flagged_by=FLAGGED_BY,
            reason=f"it went from place {change.rank_before} {where}: {change.score_before:.6g} before, {now} now; "
            f"it changed places with {change.flipped} other{'s' * (change.flipped > 1)}",
            score=float(change.flipped),
        )


_RANKING = Value("file", b"leaderboard.json")
_EVIDENCE = ("score_before", "score_after", "rank_before", "rank_after", "moved", "flipped")


def _seen(change: Change) -> dict[str, object]:
    return {name: getattr(change, name) for name in _EVIDENCE}


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"


def read_changes(run: RunDirectory, status: str) -> list[Change]:
    """Read what a rescoring has found.

    Args:
        run: Its directory.
        status: How it stands, for the error.

    Raises:
        LabError: It has not ranked the candidates (yet).
    """
    try:
        return msgspec.json.decode(run.read_bytes(CHANGES), type=list[Change])
    except (OSError, msgspec.MsgspecError) as error:
        raise LabError(f"run {run.run_id} is {status}, and has not ranked its candidates") from error


def _terms(search: RunDirectory) -> tuple[int, int | None]:
    """The seed that programs begin with, and how many are judged at once."""
    try:
        rules = read_rules(search, SearchRules)
    except LabError:
        again = read_rules(search, RescoringRules)
        return again.seed, again.scorers
    return rules.settings.seed, rules.stage.scorers


def _scored(search: RunDirectory) -> list[CandidateSettled]:
    """The distinct programs that have a score, as the search's journal has them; what is said of them is left there."""
    rows: dict[str, CandidateSettled] = {}
    for record in read_journal(search.journal).records:
        if record.type == "stage.candidate":
            row = msgspec.json.decode(record.body, type=CandidateSettled)
            rows[row.candidate_id] = row
    return [
        CandidateSettled(**{name: getattr(row, name) for name in _KEPT})
        for row in rows.values()
        if row.outcome == "scored" and row.score is not None and row.source_ref is not None
    ]


_KEPT = (
    "candidate_id", "generation", "strategy", "parent_ids", "code_hash", "score", "checked", "proposer", "source_ref",
)  # fmt: skip
