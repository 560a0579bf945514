"""The controls of a search: random variation of its seed program, judged as often, by the same judge.

They are a search themselves, of generations that are all `fresh` and know nothing of scores, over the same rules; so
they have the same tables, panel and resume. What counts as an evaluation is a program that was put to the judge: each
distinct program once, the seed program not counted, whatever came of it. A proposal that repeats a known program costs
none, so another is made in its place, up to `ROUNDS` times; where there are fewer programs than that to be found, the
controls end with what there is, and their reason says so.

The problem is taken from the search's run directory, as bytes: nothing is unpickled here, and nothing is needed of the
session that stated it.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec

from epsilon_lab.errors import LabError
from epsilon_lab.ids import SEED_CANDIDATE
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import Body
from epsilon_lab.search.proposing import pack_proposer
from epsilon_lab.search.random_variation import RandomVariation
from epsilon_lab.search.variation import Variation
from epsilon_lab.topologies.plan import read_rules, save_rules
from epsilon_lab.topologies.population_search import ALTERNATIVES, PopulationSearch
from epsilon_lab.topologies.search_plan import SearchPlan, SearchRules, SearchSettings, Stage, source_ref
from epsilon_lab.workspace.journal import Record
from epsilon_lab.workspace.layout import RunDirectory

ROUNDS = 12
"""How often the evaluations that duplicates left over are proposed for."""

CONTROL_OF = "control_of"
"""In the `config` of controls: the run id of the search."""

JUDGED = "scorer_hash is not null"
"""SQL on `candidates`: the program was put to the judge."""

_SEED = "problem/seed.py"


class Controls:
    """Random variation beside a search.

    Args:
        search: The search's run directory.
        name: The search's name.
        config: The search's arguments, as its row in the `runs` table has them.
        evaluations: Programs to judge.

    Raises:
        LabError: The run directory lacks what the search was played by, or cannot be read.
    """

    topology = "population_search"

    def __init__(self, search: RunDirectory, *, name: str, config: Mapping[str, Any], evaluations: int) -> None:
        self.parent_run_id = search.run_id
        self.title = f"{name} controls"
        self._search = search
        try:
            rules = read_rules(search, SearchRules)
            alternatives = msgspec.json.decode(search.read_bytes(ALTERNATIVES), type=dict[str, tuple[str, ...]])
        except (LabError, OSError, msgspec.MsgspecError) as error:
            raise LabError(
                f"run {search.run_id} can have no controls ({error}); "
                f"if another version made it, start the search again"
            ) from error
        self._alternatives = alternatives
        self._stage = rules.stage
        self._settings = SearchSettings(
            population=evaluations,
            generations=ROUNDS,
            elites=0,
            diverse=0,
            fresh=evaluations,
            top_k=1,
            patience=None,
            min_delta=0.0,
            target=None,
            wall_time_s=None,
            in_flight=None,
            seed=rules.settings.seed,
            evaluations=evaluations,
        )
        about = {key: config.get(key) for key in ("problem", "direction", "best_known")}
        settings = msgspec.structs.asdict(self._settings)
        self._config = {**about, "proposer": RandomVariation.name, CONTROL_OF: search.run_id, **settings}

    def __repr__(self) -> str:
        return f"<Controls of {self.parent_run_id}: {self._settings.evaluations} evaluations>"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"

    @property
    def seed(self) -> int:
        """The search's own."""
        return self._settings.seed

    def config(self) -> dict[str, object]:
        """The arguments, for the `runs` table."""
        return self._config

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse nothing: no model is asked."""

    def prepare(self, run: RunDirectory) -> tuple[SearchPlan, Sequence[Body]]:
        """Copy the problem from the search's run directory, with a proposer beside it.

        Raises:
            LabError: A file of the problem is missing, or is a link that leads out of the run directory.
        """
        try:
            files = sorted(path for path in self._search.locate("problem").rglob("*") if path.is_file())
            refs = [path.relative_to(self._search.path).as_posix() for path in files]
            events: list[Body] = [run.save(ref, self._search.read_bytes(ref), kind=_kind(ref)) for ref in refs]
            seed_source = self._search.read_bytes(_SEED)
        except OSError as error:
            raise LabError(f"the problem of run {self.parent_run_id} cannot be read ({error})") from error
        proposer = RandomVariation(Variation(self._alternatives, self._stage.entry))
        proposer_ref, saved = pack_proposer(proposer, run)
        events += [*saved, run.save(source_ref(SEED_CANDIDATE), seed_source, kind="source")]
        judged = ("direction", "scorers", "evaluation_limit_s", "seed_hash", "problem_ref", "entry")
        stage = Stage(
            **{name: getattr(self._stage, name) for name in judged},
            proposer_ref=proposer_ref,
            proposer=proposer.name,
            lane="process",
            brief_ref=None,
            briefed=False,
            is_paid=False,
            alternatives=self._alternatives,
        )
        events.append(save_rules(SearchRules(stage, self._settings), run))
        return SearchPlan(stage, self._settings), events

    @staticmethod
    def restore(run: RunDirectory, records: Sequence[Record]) -> SearchPlan:
        """Make the rules again, as those of any search."""
        return PopulationSearch.restore(run, records)


def _kind(ref: str) -> str:
    return {".pkl": "code", ".py": "source"}.get(PurePosixPath(ref).suffix, "problem")
