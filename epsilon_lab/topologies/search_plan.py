"""The rules of a population search: many candidates, a judge, a brief, the next generation.

Everything a generation is made from stood when the last one closed, and duplicates are decided by the place of a
candidate, not by its time of arrival. That is why the same seed and the same proposals give one lineage at any
parallelism. Within a generation there is no barrier: a program is judged as soon as it is proposed.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from epsilon_lab.cases.case import Case
from epsilon_lab.errors import BudgetExhausted, ModelRefused, ends_run
from epsilon_lab.ids import SEED_CANDIDATE, origin, revised, revision
from epsilon_lab.messages.events import Body, BriefWritten, CandidateSettled, CandidatesRuled, GenerationClosed
from epsilon_lab.messages.tasks import Lane, TaskOutcome, TaskSpec
from epsilon_lab.messages.values import as_json, pack
from epsilon_lab.search.archive import Archive
from epsilon_lab.search.context import Direction, beats
from epsilon_lab.search.evaluation import EvaluateRequest, Evaluation, evaluate_task, evaluation_of, judged
from epsilon_lab.search.leaderboard import leaderboard_csv, leaderboard_json
from epsilon_lab.search.proposing import PROPOSAL_LIMIT_S, ProposeResult
from epsilon_lab.search.selection import Slot, select
from epsilon_lab.topologies.plan import Add, Copy, Emit, Export, Finish, Plan, PlanEffect, Write
from epsilon_lab.topologies.rulings import REJECT, Rule, Ruling, rejected, rule_in, rulings

PERSON = "HUMAN"
"""The author of a brief that a person rewrote."""

_RESULT = ("candidate_id", "score", "scores", "feedback", "checked", "generation", "parent_ids", "code_hash")
"""What `best_result.json` says of the best candidate."""

_NO_BEST = "# There is no best program: every candidate that passed its check is rejected.\n"

_EXPORTED = ("leaderboard.json", "leaderboard.csv", "generation_history.json", "best_solution.py")

_LIVE_LEADERBOARD = 50
"""Places kept on the leaderboard while the search runs; at the end it has all."""


class SearchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers a search runs by; see `PopulationSearch`."""

    population: int
    generations: int
    elites: int
    diverse: int
    fresh: int
    top_k: int
    patience: int | None
    min_delta: float
    target: float | None
    wall_time_s: float | None
    in_flight: int | None
    seed: int
    evaluations: int | None = None


class BriefEdit(msgspec.Struct, frozen=True, tag=True):
    """A person's version of a generation's brief."""

    generation: int
    text: str
    author: str = PERSON


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan knows of problem and proposer: names, hashes and references, nothing that runs."""

    direction: Direction
    scorers: int | None
    evaluation_limit_s: float
    seed_hash: str
    problem_ref: str
    proposer_ref: str
    proposer: str
    lane: Lane
    entry: str
    brief_ref: str | None
    brief_task: str = ""
    """What a model that writes briefs is asked for besides."""

    output_root: str | None = None
    """A directory outside the run's that the results are put into too, at the end."""

    briefed: bool = True
    """Whether a brief is written of each generation; controls have no reader of one."""

    alternatives: dict[str, tuple[str, ...]]
    """The problem's own alternatives, where the proposer may use them; another proposer is not told of them."""

    proposal_limit_s: float = PROPOSAL_LIMIT_S
    brief_limit_s: float = PROPOSAL_LIMIT_S
    is_paid: bool = False
    """Whether proposals are a model's: those under way are worth waiting for."""

    runs_strangers: bool = False
    """Whether programs are made of other than the problem's own pieces."""


class SearchRules(msgspec.Struct, frozen=True):
    """All that a search is played by, as its `plan.json` keeps it."""

    stage: Stage
    settings: SearchSettings


def source_ref(candidate_id: str) -> str:
    """Where a candidate's program lies in the run directory."""
    return f"candidates/{candidate_id}.py"


@dataclass
class _Candidate:
    """A slot of the open generation, as it fills."""

    place: int
    slot: Slot
    proposal: ProposeResult | None = None
    failure: str | None = None
    shown: CandidateSettled | None = None

    @property
    def proposed(self) -> bool:
        return self.proposal is not None or self.failure is not None


@dataclass
class _Generation:
    """The open generation."""

    number: int
    elites: tuple[str, ...]
    candidates: dict[str, _Candidate]
    incumbent: float | None
    evaluations: dict[str, Evaluation | None] = field(default_factory=dict)
    """code hash -> what judging said, None while it is under way."""

    sharing: dict[str, list[_Candidate]] = field(default_factory=dict)
    """code hash -> the candidates that have this program."""

    unproposed: int = 0
    """Slots still without a proposal or a failure. Counted, as `unjudged` is, so that an outcome costs the same however
    many candidates there are."""

    unjudged: int = 0
    """Evaluations under way."""


class SearchPlan(Plan):
    """The rules of a search."""

    def __init__(self, stage: Stage, settings: SearchSettings) -> None:
        self._stage = stage
        self._settings = settings
        self._archive = Archive(stage.direction)
        self._generation: _Generation | None = None
        self._closed: GenerationClosed | None = None
        self._history: list[dict[str, object]] = []
        self._brief_ref: str | None = None
        self._brief_versions: dict[int, int] = {}
        self._note: tuple[int, str] | None = None
        self._began = 0.0
        self._stall = 0
        self._evaluated = 0
        self._ending: tuple[str, str] | None = None
        self._exhausted: str | None = None
        self._over: tuple[str, str] | None = None
        """How the search has ended: status and reason."""

        self._names: set[str] = set()
        """Every candidate there is, also those that are still to be proposed."""

        self._ruled: dict[str, Ruling] = {}
        self._unruled: dict[str, CandidateSettled] = {}
        """Rows of candidates that are rejected, as they were judged."""

        self.reads_outputs = True
        self.runs_strangers = stage.runs_strangers
        asked = (stage.proposer_ref if stage.lane == "async" else None, stage.brief_ref)
        self.models = [ref for ref in asked if ref is not None]
        self.limits = limits = dict[str, int]()
        if settings.in_flight is not None:
            limits["propose"] = settings.in_flight
        if stage.scorers is not None:
            limits["evaluate"] = stage.scorers

    # -- the plan's four questions ---------------------------------------------------------------------------------

    def start(self, now: float) -> list[PlanEffect]:
        """Judge the seed program: a problem whose own program does not score is not worth a proposal."""
        self._began = now
        self._names.add(SEED_CANDIDATE)
        return [Add((self._evaluate_task(SEED_CANDIDATE, incumbent=None, must_check=True),), final=True)]

    def settled(self, outcome: TaskOutcome, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Take in a proposal, an evaluation or a brief."""
        kind, _, name = outcome.task_id.partition("-")
        if kind == "evaluate" and name == SEED_CANDIDATE:
            return self._seed_judged(outcome)
        if kind == "brief":
            return self._briefed(outcome)
        if kind == "evaluate" and revision(name) > 1:
            return self._checked(origin(name), outcome)
        if self._generation is None:
            return []
        effects = self._proposed(name, outcome) if kind == "propose" else self._judged(name, outcome)
        return effects + (self._end_early(outcome) or self._close_if_done())

    def tick(self, now: float) -> list[PlanEffect]:
        """End when the wall time is over."""
        limit = self._settings.wall_time_s
        if limit is None or now - self._began < limit or self._ending is not None:
            return []
        return self._cut_off("completed", f"the wall time of {limit:g} s was over")

    def exhausted(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """Ask for nothing more. What a model is at work on is paid for: it is waited for, judged and ranked."""
        if len(self._archive) and (self._stage.is_paid or self._awaits_brief):
            self._exhausted = reason
            return []
        return self._cut_off("completed", reason)

    @property
    def _awaits_brief(self) -> bool:
        """Whether the open generation is settled, and only its brief is still to come."""
        return (
            self._generation is not None
            and self._closed is not None
            and (self._closed.generation == self._generation.number)
        )

    def stop(self, reason: str, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """End with what there is."""
        return self._cut_off("stopped", reason)

    def told(self, news: object, now: float) -> list[PlanEffect]:  # noqa: ARG002
        """A person rewrote a brief; generations proposed from now on see it. Or candidates are rejected, or are not any
        more: they are ranked anew, at once, and the next selection goes by it.
        """
        match news:
            case BriefEdit():
                return self._write_brief(news.generation, news.text, news.author, ())
            case Rule() if news.ruled != self._ruled:
                return self._rule(news.ruled)
        return []

    def news_in(self, line: Body) -> BriefEdit | Rule | None:
        """A brief by a person was told, or what verdicts say about candidates."""
        if isinstance(line, BriefWritten) and line.author == PERSON:
            return BriefEdit(line.generation, line.text, line.author)
        return rule_in(line)

    def rulings(self, cases: Iterable[Case]) -> Rule | None:
        """Candidates may be rejected, the seed program too."""
        ruled = rulings(cases, self._names, (REJECT,))
        return Rule(ruled) if ruled != self._ruled else None

    def _rule(self, ruled: dict[str, Ruling]) -> list[PlanEffect]:
        turned = [name for name in sorted({*ruled, *self._ruled}) if ruled.get(name) != self._ruled.get(name)]
        before, self._ruled = self._archive.best, ruled
        effects: list[PlanEffect] = [Emit(CandidatesRuled(ruled=ruled))]
        for name in turned:
            if name in self._archive:
                effects += self._replace(self._unruled.get(name) or self._archive[name])
            elif self._generation is not None and (candidate := self._generation.candidates[name]).shown is not None:
                effects += self._show(candidate)
        if self._over is not None:
            return effects + self._finish(*self._over)
        if not len(self._archive):
            return effects
        if self._archive.best != before:  # what the others were held against
            self._stall = 0
            if self._closed is not None and self._ending is not None and self._ending[0] == "completed":
                self._ending = self._reason_to_end(self._closed)
        return effects + self._artifacts(_LIVE_LEADERBOARD)

    def _replace(self, judged: CandidateSettled) -> list[PlanEffect]:
        """Rank a candidate of a closed generation anew, by what judging said and what verdicts say."""
        row = self._as_ruled(judged)
        self._archive.replace(row)
        return [Emit(row)]

    def _as_ruled(self, row: CandidateSettled) -> CandidateSettled:
        """A row that judging gave, as it stands."""
        if (ruling := self._ruled.get(row.candidate_id)) is None:
            self._unruled.pop(row.candidate_id, None)
            return row
        self._unruled[row.candidate_id] = row
        return rejected(row, ruling)

    # -- the seed program ------------------------------------------------------------------------------------------

    def _seed_judged(self, outcome: TaskOutcome) -> list[PlanEffect]:
        evaluation = evaluation_of(outcome)
        row = self._row(
            Slot(SEED_CANDIDATE, cast("Any", "seed"), ()), evaluation, code=self._stage.seed_hash, proposer="problem"
        )
        self._archive.add(row := self._as_ruled(row))
        effects: list[PlanEffect] = [Emit(row)]
        if evaluation.outcome != "scored":
            why = f"{evaluation.outcome}: {evaluation.error}"
            return [
                *effects,
                Finish("failed", f"the seed program does not score ({why}); mend the problem and try again"),
            ]
        return effects + self._open(0)

    # -- a generation ----------------------------------------------------------------------------------------------

    def _open(self, number: int) -> list[PlanEffect]:
        s = self._settings
        selection = select(
            self._archive,
            generation=number,
            population=s.population,
            elites=s.elites,
            diverse=s.diverse,
            fresh=s.fresh,
            seed=s.seed,
        )
        slots = selection.slots if s.evaluations is None else selection.slots[: s.evaluations - self._evaluated]
        best = self._archive.best
        self._names.update(slot.candidate_id for slot in slots)
        self._generation = _Generation(
            number=number,
            elites=selection.elites,
            candidates={slot.candidate_id: _Candidate(place, slot) for place, slot in enumerate(slots)},
            unproposed=len(slots),
            incumbent=None if best is None else best.score,
        )
        shared: dict[str, object] = {
            "best": self._shown(best.candidate_id if best else SEED_CANDIDATE),
            "top": [self._shown(row.candidate_id) for row in self._archive.ranked(s.top_k)],
            "brief_ref": self._brief_ref,
            "proposer_ref": self._stage.proposer_ref,
            "problem_ref": self._stage.problem_ref,
            "seed": s.seed,
            "generation": number,
            "entry": self._stage.entry,
        }
        return [Add(tuple(self._propose_task(slot, shared) for slot in slots), final=True)]

    def _proposed(self, name: str, outcome: TaskOutcome) -> list[PlanEffect]:
        generation = cast("_Generation", self._generation)
        candidate = generation.candidates.get(name)
        if candidate is None:
            return []
        generation.unproposed -= 1
        if outcome.status != "completed" or outcome.output is None:
            candidate.failure = outcome.failure.error if outcome.failure else f"the proposal was {outcome.status}"
            if candidate.failure.startswith(BudgetExhausted.PREFIX):
                self._exhausted = candidate.failure.removeprefix(BudgetExhausted.PREFIX)
            return self._show(candidate)
        candidate.proposal = msgspec.json.decode(outcome.output.data, type=ProposeResult)
        code = candidate.proposal.code_hash
        generation.sharing.setdefault(code, []).append(candidate)
        if self._archive.twin_of(code) is not None:
            return self._show(candidate)
        if code in generation.evaluations:
            return self._show_code(code)
        generation.evaluations[code] = None
        generation.unjudged += 1
        return [Add((self._evaluate_task(name, incumbent=generation.incumbent, must_check=False),), final=True)]

    def _end_early(self, outcome: TaskOutcome) -> list[PlanEffect]:
        """End where no other proposal would fare better: a model that refuses us, a recording of another search."""
        error = outcome.failure.error if outcome.failure else ""
        if not ends_run(error):
            return []
        # What a model gave before its account was empty is an output; half of a replayed search is none.
        has_output = self._evaluated and error.startswith(ModelRefused.PREFIX)
        return self._cut_off("completed" if has_output else "failed", error)

    def _judged(self, name: str, outcome: TaskOutcome) -> list[PlanEffect]:
        generation = cast("_Generation", self._generation)
        candidate = generation.candidates.get(name)
        if candidate is None or candidate.proposal is None:
            return []
        code = candidate.proposal.code_hash
        generation.evaluations[code] = evaluation_of(outcome)
        generation.unjudged -= 1
        self._evaluated += 1
        return self._show_code(code)

    def _show_code(self, code: str) -> list[PlanEffect]:
        generation = cast("_Generation", self._generation)
        if generation.evaluations.get(code) is None:
            return []
        return [effect for candidate in generation.sharing[code] for effect in self._show(candidate)]

    def _show(self, candidate: _Candidate) -> list[PlanEffect]:
        """Emit a candidate's row as it stands, if it changed: an earlier twin may still take the score over."""
        row = self._settle_row(candidate)
        if row == candidate.shown:
            return []
        candidate.shown = row
        return [Emit(row)]

    def _settle_row(self, candidate: _Candidate) -> CandidateSettled:
        generation = cast("_Generation", self._generation)
        proposal = candidate.proposal
        if proposal is None:
            return self._row(
                candidate.slot, Evaluation(outcome="proposal_failed", error=candidate.failure or "it was cut off")
            )
        code = proposal.code_hash
        first = min(generation.sharing[code], key=lambda candidate: candidate.place)
        twin = self._archive.twin_of(code) or first.slot.candidate_id
        if twin != candidate.slot.candidate_id:
            evaluation = Evaluation(outcome="duplicate", error=f"the same program as {twin}")
        else:
            evaluation = generation.evaluations.get(code) or Evaluation(
                outcome="scorer_failed", error="it was cut off before it was judged"
            )
        return self._as_ruled(self._row(candidate.slot, evaluation, proposal=proposal, code=code, twin=twin))

    def _close_if_done(self) -> list[PlanEffect]:
        generation = cast("_Generation", self._generation)
        if generation.unproposed or generation.unjudged:
            return []
        effects = self._close()
        closed = cast("GenerationClosed", self._closed)
        failures = [c.failure for c in generation.candidates.values() if c.failure is not None]
        refused = any(failure.startswith(BudgetExhausted.PREFIX) for failure in failures)
        barren = closed.candidates and len(failures) == len(generation.candidates)
        if barren and refused and not generation.number:
            self._ending = "failed", f"{self._exhausted}; no proposal gave a program"
        elif barren and not refused:
            self._ending = (
                "failed",
                f"no proposal of generation {generation.number} gave a program; the first said: {failures[0]}",
            )
        else:
            self._ending = self._reason_to_end(closed)
        if self._stage.briefed and (self._ending is None or self._ending[0] != "failed"):
            return [*effects, Add((self._brief_task(generation),), final=True)]
        return effects + self._go_on()

    def _close(self) -> list[PlanEffect]:
        """Settle every row of the open generation, in the order of its slots, and say how it went."""
        generation = cast("_Generation", self._generation)
        effects: list[PlanEffect] = []
        before = self._archive.best
        scores: list[float] = []
        for candidate in generation.candidates.values():
            effects += self._show(candidate)
        for candidate in generation.candidates.values():
            row = cast("CandidateSettled", candidate.shown)
            self._archive.add(row)
            if row.score is not None:
                scores.append(row.score)
        best, known = _name_and_score(self._archive.best), _name_and_score(before)[1]
        improved = generation.number == 0 or (
            best[1] is not None and beats(best[1], known, self._stage.direction, by=self._settings.min_delta)
        )
        self._stall = 0 if improved else self._stall + 1
        pick = max if self._stage.direction == "maximize" else min
        self._closed = GenerationClosed(
            generation=generation.number,
            best=best[1],
            best_id=best[0],
            median=statistics.median(scores) if scores else None,
            top=pick(scores) if scores else None,
            candidates=len(generation.candidates),
            valid_share=len(scores) / max(len(generation.candidates), 1),
            stall=self._stall,
            elites=generation.elites,
        )
        self._history.append(msgspec.structs.asdict(self._closed))
        return [*effects, Emit(self._closed), *self._artifacts(_LIVE_LEADERBOARD)]

    def _reason_to_end(self, closed: GenerationClosed) -> tuple[str, str] | None:
        s = self._settings
        name, best = _name_and_score(self._archive.best)
        if s.target is not None and best is not None and not beats(s.target, best, self._stage.direction):
            return "completed", f"target {s.target:g} reached: {name} scores {best:.6g}"
        if s.evaluations is not None and self._evaluated >= s.evaluations:
            return "completed", f"all {s.evaluations} evaluations are done"
        if self._exhausted is not None:
            return "completed", self._exhausted
        if closed.generation + 1 >= s.generations:
            return "completed", f"all {s.generations} generations are done"
        if s.patience is not None and self._stall >= s.patience:
            by = f" by more than {s.min_delta:g}" if s.min_delta else ""
            return "completed", f"the best score did not improve{by} in {self._stall} generations (patience)"
        return None

    # -- brief and end ---------------------------------------------------------------------------------------------

    def _briefed(self, outcome: TaskOutcome) -> list[PlanEffect]:
        generation = cast("_Generation", self._generation)
        if outcome.status == "completed" and outcome.output is not None:
            answer = msgspec.json.decode(outcome.output.data)
            text, author, cited = answer["text"], answer["author"], tuple(answer["cited"])
        else:
            error = outcome.failure.error if outcome.failure else outcome.status
            text, author, cited = f"No brief: {error}", "lab", ()
            if end := self._end_early(outcome):
                return end
        return self._write_brief(generation.number, text, author, cited) + self._go_on()

    def _go_on(self) -> list[PlanEffect]:
        """The closed generation is behind us: end, or open the next.

        First whoever leads is put to the strict check. It was not before where it was held against a best that has
        been rejected since.
        """
        leader = self._archive.leader
        if leader is not None and not leader.checked and (self._ending is None or self._ending[0] != "failed"):
            task = self._evaluate_task(leader.candidate_id, incumbent=None, must_check=True)
            return [Add((msgspec.structs.replace(task, task_id=revised(task.task_id, 2)),), final=True)]
        if self._ending is None and self._exhausted is not None:  # while its brief was written
            self._ending = "completed", self._exhausted
        if self._ending is not None:
            return self._finish(*self._ending)
        return self._open(cast("_Generation", self._generation).number + 1)

    def _checked(self, name: str, outcome: TaskOutcome) -> list[PlanEffect]:
        """A candidate that leads was put to the strict check: it is the best, or another one leads."""
        row = self._unruled.get(name) or self._archive[name]
        effects = self._replace(judged(row, evaluation_of(outcome)))
        return [*effects, *self._artifacts(_LIVE_LEADERBOARD), *self._go_on()]

    def _write_brief(self, generation: int, text: str, author: str, cited: tuple[str, ...]) -> list[PlanEffect]:
        """Put a version of a brief down twice: under its number for good, and as the one that proposers read.

        A proposal reads when it starts, so a person's edit reaches all that have not. What a person wrote is also
        handed on at the foot of every later brief, until the person writes something else.
        """
        version = self._brief_versions.get(generation, 0) + 1
        self._brief_versions[generation] = version
        ref = f"briefs/g{generation:03d}.md"
        if generation >= max(self._brief_versions):
            self._brief_ref = ref
        shown = text
        if author == PERSON:
            self._note = (generation, text)
        elif self._note is not None:
            shown = f"{text.rstrip()}\n\n## A person's note on generation {self._note[0]}\n\n{self._note[1]}"
        brief = BriefWritten(generation=generation, version=version, author=author, text=shown, cited=cited)
        return [
            Write(f"briefs/g{generation:03d}-v{version}.md", shown, "brief"),
            Write(ref, shown, "brief"),
            Emit(brief),
        ]

    def _cut_off(self, status: str, reason: str) -> list[PlanEffect]:
        if not len(self._archive):
            without_output = "failed" if status == "completed" else status
            return [Finish(without_output, f"{reason}, before the seed program was judged")]
        generation = self._generation
        effects: list[PlanEffect] = []
        if generation is not None and not self._awaits_brief:
            for candidate in generation.candidates.values():
                if not candidate.proposed:
                    candidate.failure = f"cut off: {reason}"
            effects += self._close()
        return effects + self._finish(status, reason)

    def _finish(self, status: str, reason: str) -> list[PlanEffect]:
        self._over = status, reason
        best = self._archive.best
        output = None
        if best is None:
            reason = f"{reason}; there is no best: every candidate that passed its check is rejected"
        if best is not None:
            output = pack(
                {"candidate_id": best.candidate_id, "score": best.score, "source_ref": source_ref(best.candidate_id)}
            )
        # Written once: rewritten in each generation, it costs the more the longer the search. The table `generations`
        # has it meanwhile.
        history = msgspec.json.format(msgspec.json.encode(self._history)).decode()
        written = [*self._artifacts(None), Write("generation_history.json", history, "history")]
        return [*written, *self._exports(), Finish(status, reason, output)]

    def _exports(self) -> list[Export]:
        """Copies of the results for whoever asked for them elsewhere."""
        root, best = self._stage.output_root, self._archive.best
        if root is None:
            return []
        result = None if best is None else {name: getattr(best, name) for name in _RESULT}
        return [
            *(Export(root=root, ref=ref, source=ref) for ref in _EXPORTED),
            Export(root=root, ref="best_result.json", value=as_json(result)),
        ]

    def _artifacts(self, places: int | None) -> list[PlanEffect]:
        ranked, best = self._archive.ranked(places), self._archive.best
        return [
            Write("best_solution.py", _NO_BEST, "best")
            if best is None
            else Copy(source_ref(best.candidate_id), "best_solution.py", "best"),
            Write("leaderboard.json", leaderboard_json(ranked), "leaderboard"),
            Write("leaderboard.csv", leaderboard_csv(ranked), "leaderboard"),
        ]

    # -- rows and tasks --------------------------------------------------------------------------------------------

    def _shown(self, candidate_id: str) -> dict[str, object]:
        row = self._archive[candidate_id]
        return {
            "candidate_id": candidate_id,
            "score": row.score,
            "feedback": row.feedback,
            "strategy": row.strategy,
            "generation": row.generation,
        }

    def _propose_task(self, slot: Slot, shared: dict[str, object]) -> TaskSpec:
        payload = {
            **shared,
            "candidate_id": slot.candidate_id,
            "strategy": slot.strategy,
            "parents": [self._shown(parent) for parent in slot.parent_ids],
        }
        return TaskSpec(
            task_id=f"propose-{slot.candidate_id}",
            kind="propose",
            lane=self._stage.lane,
            entry=f"epsilon_lab.search.proposing:{'propose_async' if self._stage.lane == 'async' else 'propose'}",
            payload=pack(payload),
            time_limit_s=self._stage.proposal_limit_s,
        )

    def _evaluate_task(self, name: str, *, incumbent: float | None, must_check: bool) -> TaskSpec:
        request = EvaluateRequest(
            problem_ref=self._stage.problem_ref,
            source_ref=source_ref(name),
            seed=self._settings.seed,
            incumbent=incumbent,
            must_check=must_check,
        )
        return evaluate_task(name, request, limit_s=self._stage.evaluation_limit_s)

    def _brief_task(self, generation: _Generation) -> TaskSpec:
        rows = [cast("CandidateSettled", c.shown) for c in generation.candidates.values()]
        named = {SEED_CANDIDATE, *(parent for row in rows for parent in row.parent_ids)}
        payload = {
            "generation": generation.number,
            "direction": self._stage.direction,
            "rows": [_brief_row(row) for row in rows],
            "parents": [_brief_row(self._archive[name]) for name in sorted(named)],
            "best_id": cast("GenerationClosed", self._closed).best_id,
            "problem_ref": self._stage.problem_ref,
            "model_ref": self._stage.brief_ref,
            "alternatives": self._stage.alternatives,
            "task": self._stage.brief_task,
        }
        model = self._stage.brief_ref is not None
        return TaskSpec(
            task_id=f"brief-g{generation.number:03d}",
            kind="brief",
            lane="async" if model else "process",
            entry=f"epsilon_lab.search.briefing:{'ask' if model else 'compose'}",
            payload=pack(payload),
            time_limit_s=self._stage.brief_limit_s,
            priority=1,
        )

    def _row(
        self,
        slot: Slot,
        evaluation: Evaluation,
        *,
        proposal: ProposeResult | None = None,
        code: str | None = None,
        twin: str | None = None,
        proposer: str | None = None,
    ) -> CandidateSettled:
        seed = slot.candidate_id == SEED_CANDIDATE
        row = CandidateSettled(
            candidate_id=slot.candidate_id,
            generation=0 if self._generation is None else self._generation.number,
            strategy=slot.strategy,
            parent_ids=slot.parent_ids,
            code_hash=code,
            proposer=proposer or self._stage.proposer,
            prompt_ref=proposal.prompt_ref if proposal else None,
            reply_ref=proposal.reply_ref if proposal else None,
            prompt_sha256=proposal.prompt_sha256 if proposal else None,
            source_ref=source_ref(slot.candidate_id) if proposal or seed else None,
            duplicate_of=twin if evaluation.outcome == "duplicate" else None,
        )
        return judged(row, evaluation)


def _name_and_score(row: CandidateSettled | None) -> tuple[str | None, float | None]:
    return (None, None) if row is None else (row.candidate_id, row.score)


def _brief_row(row: CandidateSettled) -> dict[str, object]:
    return {
        "candidate_id": row.candidate_id,
        "strategy": row.strategy,
        "parents": list(row.parent_ids),
        "outcome": row.outcome,
        "score": row.score,
        "error": row.error,
        "source_ref": row.source_ref,
    }
