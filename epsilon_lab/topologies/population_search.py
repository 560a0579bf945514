"""Population search, as a user states it: arguments that are refused before anything is spent, and a run directory.

The rules that play it are in search_plan.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from epsilon_lab.agents.llm import LLM
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import SEED_CANDIDATE
from epsilon_lab.messages.events import Body
from epsilon_lab.messages.tasks import Lane
from epsilon_lab.search.judging import evaluation_limit_s, pack_problem
from epsilon_lab.search.problem import Problem
from epsilon_lab.search.proposing import lane_of, name_of, pack_proposer
from epsilon_lab.search.replay import Replay
from epsilon_lab.search.sources import code_hash
from epsilon_lab.search.variation import Variation
from epsilon_lab.topologies.search_plan import SearchPlan, SearchSettings, Stage, source_ref
from epsilon_lab.workspace.layout import RunDirectory


class PopulationSearch:
    """Improve a program, generation by generation.

    Args:
        problem: What is searched.
        proposer: Who writes candidates: None for the problem's own offline proposer, an `LLM`, a `Replay`, or a
            function `(context) -> source`, plain or async.
        population: Programs in a generation, kept elites included.
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

    Raises:
        InvalidInput: An argument has a wrong type or value; nothing was spent.
    """

    topology = "population_search"

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
    ) -> None:
        if not isinstance(problem, Problem):
            raise InvalidInput("problem", f"must be a Problem, got {problem!r}", "for example problems.cap_set(n=4)")
        _whole("population", population, 1)
        _whole("generations", generations, 1)
        for name, count in (("elites", elites), ("diverse", diverse), ("fresh", fresh)):
            _whole(name, count, 0)
        if elites + diverse + fresh > population:
            raise InvalidInput(
                "elites + diverse + fresh",
                f"{elites} + {diverse} + {fresh} is more than population={population}",
                "raise population or lower one of them",
            )
        if elites == population and generations > 1:
            raise InvalidInput("elites", f"all {elites} places are kept, so nothing new would ever be proposed")
        _whole("top_k", top_k, 1)
        if patience is not None:
            _whole("patience", patience, 1)
        if in_flight is not None:
            _whole("in_flight", in_flight, 1)
        if isinstance(seed, bool) or not isinstance(seed, int) or not -(2**63) <= seed < 2**63:
            raise InvalidInput("seed", f"must be an int of at most 64 bits, got {seed!r}")
        _number("min_delta", min_delta, least=0.0)
        if target is not None:
            _number("target", target)
        if wall_time_s is not None:
            _number("wall_time_s", wall_time_s, least=0.0, exclusive=True)
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
            top_k=top_k,
            patience=patience,
            min_delta=float(min_delta),
            target=target,
            wall_time_s=wall_time_s,
            in_flight=in_flight,
            seed=seed,
        )
        self.brief = brief

    def __repr__(self) -> str:
        s = self.settings
        return f"<PopulationSearch {self.problem.name!r}: {s.population} x {s.generations}, {name_of(self.proposer)}>"

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
        }

    def validate(self) -> None:
        """Refuse a model that cannot be called, before anything is spent.

        Raises:
            InvalidInput: A key is missing, or a model's name is not one.
        """
        for model in (self.proposer, self.brief):
            if isinstance(model, LLM):
                model.validate()

    def prepare(self, run: RunDirectory) -> tuple[SearchPlan, Sequence[Body]]:
        """Write problem, seed program and proposer into the run directory."""
        problem_ref, events = pack_problem(self.problem, run)
        proposer_ref, saved = pack_proposer(self.proposer, run)
        events = [*events, *saved]
        brief_ref = None
        if self.brief is not None:
            brief_ref, saved = pack_proposer(self.brief, run)
            events += saved
        events.append(run.save(source_ref(SEED_CANDIDATE), self.problem.source, kind="source"))
        stage = Stage(
            direction=self.problem.direction,
            better=self.problem.better,
            scorers=self.problem.scorers,
            evaluation_limit_s=evaluation_limit_s(self.problem),
            seed_hash=code_hash(self.problem.source),
            problem_ref=problem_ref,
            proposer_ref=proposer_ref,
            proposer=name_of(self.proposer),
            lane=self.lane,
            entry=self.problem.entry,
            brief_ref=brief_ref,
            alternatives={name: tuple(bodies) for name, bodies in self._alternatives().items()},
        )
        return SearchPlan(stage, self.settings), events


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidInput(name, f"must be an int of at least {least}, got {value!r}")


def _number(name: str, value: object, *, least: float = -math.inf, exclusive: bool = False) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < least or (exclusive and value == least):  # type: ignore[operator]
        bound = "" if least == -math.inf else f" {'above' if exclusive else 'of at least'} {least:g}"
        raise InvalidInput(name, f"must be a finite number{bound}, got {value!r}")
