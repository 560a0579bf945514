"""Population search, as a user states it: arguments that are refused before anything is spent, and a run directory.

The rules that play it are in search_plan.py.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.work import Performer
from epsilon_lab.arguments import above_zero, number, whole
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import SEED_CANDIDATE
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import Body
from epsilon_lab.messages.tasks import Lane
from epsilon_lab.processes.container import Executor, NoEngine, check_image, image_of
from epsilon_lab.search.judging import evaluation_limit_s, pack_problem
from epsilon_lab.search.problem import Problem
from epsilon_lab.search.proposing import lane_of, limit_s, name_of, pack_proposer
from epsilon_lab.search.replay import Replay
from epsilon_lab.search.sources import code_hash
from epsilon_lab.search.variation import Variation
from epsilon_lab.topologies.manifest import make_root
from epsilon_lab.topologies.plan import read_rules, save_rules
from epsilon_lab.topologies.search_manifest import read_search
from epsilon_lab.topologies.search_plan import SearchPlan, SearchRules, SearchSettings, Stage, source_ref
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory

ALTERNATIVES = "problem/alternatives.json"
"""The problem's own alternatives: the search's proposer may not use them, its controls do."""

LARGEST_POPULATION = 100_000
"""Programs in a generation: each is a row, a file and two tasks."""


class PopulationSearch:
    """Improve a program, generation by generation.

    Args:
        problem: What is searched.
        proposer: Who writes candidates: None for the problem's own offline proposer, an `LLM`, an `Agent` or a
            `Command`, which answer as a model does, with the program in a ```python block; a `Replay`, or a function
            `(context) -> source`, plain or async. A `Command` finds the context in its `item`.
        population: Programs in a generation, kept elites included; at most `LARGEST_POPULATION`.
        generations: Most generations.
        elites: Best programs kept, with their scores.
        diverse: Proposals from one of the next best programs each.
        fresh: Proposals from the problem alone. What is left of the population comes from two parents.
        top_k: Best programs a proposer is shown.
        patience: Generations in a row without improvement after which the search ends, counted from generation 1 on
            (generation 0 sets the mark); None for never.
        min_delta: Improvement of the best score below or at which a generation counts as stalled.
        target: Score at which the search ends.
        wall_time_s: Seconds after which no more is started and the search ends.
        brief: None for the deterministic brief, an `LLM` that writes it, or a `Replay` of one.
        in_flight: Most proposals under way at once; None for as many as there is room for.
        seed: Seed of all dice.
        evaluations: Programs to judge, the seed program not counted, after which the search ends; None for no limit.
            Proposals that repeat a known program are not judged and not counted.
        executor: Where candidates run: `host`, confined as `lab.isolation` says, or `docker`, in containers as well.
        image: The containers' image: Python of this version, numpy and this package; None for the one that this
            project's Dockerfile makes.

    Raises:
        InvalidInput: An argument has a wrong type or value; nothing was spent.
    """

    topology = "population_search"
    parent_run_id: str | None = None

    def __init__(
        self,
        problem: Problem,
        proposer: Any = None,
        population: int = 8,
        generations: int = 4,
        elites: int = 2,
        diverse: int = 2,
        fresh: int = 2,
        top_k: int = 3,
        patience: int | None = 2,
        min_delta: float = 0.0,
        target: float | None = None,
        wall_time_s: float | None = None,
        brief: LLM | Replay | None = None,
        in_flight: int | None = None,
        seed: int = 17,
        evaluations: int | None = None,
        executor: Executor = "host",
        image: str | None = None,
    ) -> None:
        if not isinstance(problem, Problem):
            raise InvalidInput("problem", f"must be a Problem, got {problem!r}", "for example problems.cap_set(n=4)")
        population = whole("population", population, least=1, most=LARGEST_POPULATION)
        generations = whole("generations", generations, least=1)
        elites = whole("elites", elites, least=0)
        diverse = whole("diverse", diverse, least=0)
        fresh = whole("fresh", fresh, least=0)
        if elites + diverse + fresh > population:
            raise InvalidInput(
                "elites + diverse + fresh",
                f"{elites} + {diverse} + {fresh} is more than population={population}",
                "raise population or lower one of them",
            )
        if elites == population and generations > 1:
            raise InvalidInput("elites", f"all {elites} places are kept, so nothing new would ever be proposed")
        if brief is not None and not isinstance(brief, LLM | Replay):
            raise InvalidInput("brief", f"must be None, an LLM or a Replay, got {brief!r}")
        self.problem = problem
        self.proposer = Variation(problem.alternatives, problem.entry) if proposer is None else proposer
        self.lane: Lane = lane_of(self.proposer)
        self.settings = SearchSettings(
            population=population,
            generations=generations,
            elites=elites,
            diverse=diverse,
            fresh=fresh,
            top_k=whole("top_k", top_k, least=1),
            patience=None if patience is None else whole("patience", patience, least=1),
            min_delta=float(number("min_delta", min_delta, least=0)),
            target=None if target is None else number("target", target),
            wall_time_s=above_zero("wall_time_s", wall_time_s),
            in_flight=None if in_flight is None else whole("in_flight", in_flight, least=1),
            seed=whole("seed", seed, least=-(2**63), most=2**63 - 1),
            evaluations=None if evaluations is None else whole("evaluations", evaluations, least=1),
        )
        self.image = image_of("PopulationSearch", executor, image)
        self.brief = brief
        self._brief_task = ""
        self._output_root: str | None = None

    @classmethod
    def from_manifest(
        cls,
        path: str | Path,
        *,
        proposer: Any = None,
        brief: LLM | Replay | None = None,
        in_flight: int | None = None,
        seed: int = 17,
    ) -> PopulationSearch:
        """Read a search from a manifest: a JSON document with Epsilon's fields, all required but the payloads.

        `task_ref`: the task, a file that proposers are shown whole. Where it is JSON, its `title` names the problem,
        its `function_name` is the function that is called, and its `baseline_solution_ref` is the seed program;
        `candidate_payload` may say so instead.

        `candidate_task_template`: the problem's statement, with the task file put after it. Placeholders:
        `{input_ref}` and `{task_ref}` (the task file), `{output_ref}` (`solution.py`), `{score_field}`,
        `{score_direction}`, `{payload_json}` and `{payload_<name>}` of `candidate_payload`. What differs from candidate
        to candidate is in every prompt anyway and has no placeholder.

        `evaluation_handler`: `module:function` or `file.py:function`, called in the judge as
        `handler(output=, payload=)` with what the candidate's program returned. It never loads the candidate, which
        runs in a sandbox; there it is called with `candidate_payload.inputs`, a list of arguments (none by default).
        Its answer is a dict with `correctness_passed` (where that is false, `error` says why and there is no score),
        the field named by `score_field`, and further numbers and texts for the candidate's row.

        `evaluation_payload`: what the handler is given as `payload`, with what was measured (`seconds`, `cpu_s`,
        `peak_mb`, `baseline_seconds`, `seed`, `inputs`). Its `files` are put beside the judge alone, those of
        `candidate_payload` beside both, by their own names; its `timeout_s`, `memory_mb`, `output_mb`,
        `judge_timeout_s`, `repeats` and `scorers` are the problem's.

        `score_field`, `score_direction`, `population_size`, `elite_count`, `diversity_count`, `fresh_count`,
        `max_generations`, `patience_generations`: as `population`, `elites`, ... here. Elites are kept with their
        scores, where Epsilon proposes anew in their places. `review_top_k`: `top_k`. `min_improvement_delta`:
        `min_delta`; a generation must improve by more. `max_wall_time_seconds`: `wall_time_s`, also within a
        generation.

        `review_task_template`, with the placeholders of the other and `review_payload`: what a model that writes the
        brief is asked for besides; without `brief` it is checked and not used.

        `output_root`: where `leaderboard.json`, `leaderboard.csv`, `generation_history.json`, `best_solution.py` and
        `best_result.json` are put at the end, besides the run directory.

        All paths are below the manifest's directory.

        Args:
            path: The manifest.
            proposer: As for a search.
            brief: As for a search.
            in_flight: As for a search.
            seed: As for a search.

        Raises:
            InvalidInput: Naming the place in the document, such as `$.elite_count`. Nothing has run by then, but the
                top level of the handler's module.
        """
        found = read_search(path)
        made = cls(found.problem, proposer, brief=brief, in_flight=in_flight, seed=seed, **found.arguments)
        made._brief_task, made._output_root = found.brief_task, found.output_root
        return made

    def __repr__(self) -> str:
        s = self.settings
        return f"<PopulationSearch {self.problem.name!r}: {s.population} x {s.generations}, {name_of(self.proposer)}>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    def _alternatives(self) -> Mapping[str, Sequence[str]]:
        return self.proposer.alternatives if isinstance(self.proposer, Variation) else {}

    @property
    def title(self) -> str:
        """The problem's name."""
        return self.problem.name

    @property
    def seed(self) -> int:
        """The seed of all dice."""
        return self.settings.seed

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return {
            "problem": self.problem.name,
            "direction": self.problem.direction,
            "best_known": self.problem.best_known,
            "proposer": name_of(self.proposer),
            "brief": "deterministic" if self.brief is None else name_of(self.brief),
            **msgspec.structs.asdict(self.settings),
            **({} if self.image is None else {"image": self.image}),
        }

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse a model that cannot be called, or whose price a budget would need, before anything is spent.

        Raises:
            InvalidInput: A key is missing, a model's name is not one, or nobody knows its price; no container engine
                answers, or it has not the image.
        """
        if self.image is not None:
            try:
                check_image(self.image)
            except NoEngine as error:
                raise InvalidInput("PopulationSearch executor", str(error)) from error
        for model in (self.proposer, self.brief):
            if isinstance(model, LLM | Performer):
                model.validate(budget)

    def prepare(self, run: RunDirectory) -> tuple[SearchPlan, Sequence[Body]]:
        """Write problem, seed program and proposer into the run directory.

        Raises:
            InvalidInput: Something cannot travel, or the directory for outputs cannot be made.
        """
        if self._output_root is not None:
            make_root(self._output_root)
        problem_ref, events = pack_problem(self.problem, run, image=self.image)
        proposer_ref, saved = pack_proposer(self.proposer, run)
        events = [*events, *saved]
        brief_ref = None
        if self.brief is not None:
            brief_ref, saved = pack_proposer(self.brief, run)
            events += saved
        events.append(run.save(source_ref(SEED_CANDIDATE), self.problem.source, kind="source"))
        events.append(run.save(ALTERNATIVES, msgspec.json.encode(self.problem.alternatives), kind="problem"))
        stage = Stage(
            direction=self.problem.direction,
            scorers=self.problem.scorers,
            evaluation_limit_s=evaluation_limit_s(self.problem),
            seed_hash=code_hash(self.problem.source),
            problem_ref=problem_ref,
            proposer_ref=proposer_ref,
            proposer=name_of(self.proposer),
            lane=self.lane,
            entry=self.problem.entry,
            brief_ref=brief_ref,
            proposal_limit_s=limit_s(self.proposer),
            brief_limit_s=limit_s(self.brief),
            brief_task=self._brief_task,
            output_root=self._output_root,
            is_paid=isinstance(self.proposer, LLM) or bool(getattr(self.proposer, "asks_model", False)),
            runs_strangers=not isinstance(self.proposer, Variation),
            alternatives={name: tuple(bodies) for name, bodies in self._alternatives().items()},
        )
        events.append(save_rules(SearchRules(stage, self.settings), run))
        return SearchPlan(stage, self.settings), events

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> SearchPlan:  # noqa: ARG004 - all of it is in one file
        """Make the rules of a search again from its `plan.json`.

        Raises:
            LabError: The file is missing, or cannot be read.
        """
        rules = read_rules(run, SearchRules)
        return SearchPlan(rules.stage, rules.settings)
