"""The handles of searches: a run with candidates, and what was made of them by another scorer.

They hold no more than the handle of any run does (runs.py): each method is a line into a room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.ids import SEED_CANDIDATE
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.values import is_text
from epsilon_lab.runs import Home, Run
from epsilon_lab.search.candidate import Candidate, lineage
from epsilon_lab.search.context import Direction
from epsilon_lab.search.reranking import Reranking
from epsilon_lab.topologies.controls import CONTROL_OF, JUDGED, Controls
from epsilon_lab.topologies.engine import Tell
from epsilon_lab.topologies.rescoring import Rescoring, read_changes
from epsilon_lab.topologies.runner import Runner
from epsilon_lab.topologies.search_plan import BriefEdit
from epsilon_lab.views.curve import LIVE
from epsilon_lab.workspace.layout import RunDirectory

if TYPE_CHECKING:
    import pandas as pd

    from epsilon_lab.views.figures import ScoreFigure


class SearchRun(Run):
    """A population search, live or past."""

    @property
    def best(self) -> Candidate | None:
        """The best candidate that passed its check so far."""
        return self._first("checked")

    @property
    def leader(self) -> Candidate | None:
        """The best score so far, checked or not."""
        return self._first("true")

    @cached_property
    def direction(self) -> str:
        """`maximize` or `minimize`."""
        return str(self._row("config ->> 'direction'") or "maximize")

    def _first(self, where: str) -> Candidate | None:
        order = f"score {'asc' if self.direction == 'minimize' else 'desc'}, candidate_id <> 'seed', generation"
        return self._candidate(f"outcome = 'scored' and {where}", f"{order}, candidate_id")

    def _candidate(self, where: str, order: str | None = None, **params: object) -> Candidate | None:
        """The first candidate of which that holds; no other row is read."""
        frame = self._home.store.frame("candidates", self.run_id, where=where, order=order, limit=1, params=params)
        return None if frame.empty else Candidate(self._directory, frame.iloc[0].to_dict())

    @property
    def candidates(self) -> pd.DataFrame:
        """One row a candidate, the seed program and failed ones too; further scores in columns `score_<name>`."""
        return self.frame("candidates")

    def candidate(self, candidate_id: str) -> Candidate:
        """One candidate: source, prompt, reply, traceback, parents, diff.

        Raises:
            InvalidInput: There is none of that id.
        """
        found = self._candidate("candidate_id = $candidate", candidate=str(candidate_id))
        if found is None:
            first = self._home.store.frame("candidates", self.run_id, limit=3)
            known = ", ".join(first["candidate_id"]) or "none yet"
            raise InvalidInput(f"candidate {candidate_id!r}", f"is not in run {self.run_id}", f"it has {known} ...")
        return found

    def brief(self, generation: int, *, text: str | None = None) -> str:
        """Read a generation's brief, or rewrite it: proposals that start later see the new version.

        Args:
            generation: The generation.
            text: A new version, kept beside the old ones in the `briefs` table.

        Raises:
            InvalidInput: That generation has no brief (yet), or the text is none.
        """
        if isinstance(generation, bool) or not isinstance(generation, int):
            raise InvalidInput("generation", f"must be an int, got {generation!r}")
        rows = self._home.store.rows(
            "select text from briefs where run_id = ? and generation = ? order by version desc limit 1",
            [self.run_id, generation],
            run_id=self.run_id,
        )
        if not rows:
            raise InvalidInput(f"generation {generation}", f"has no brief in run {self.run_id} (yet)")
        if text is None:
            return str(rows[0][0])
        if not is_text(text) or not text.strip():
            raise InvalidInput("text", "must be the brief as a non-empty str of valid Unicode")
        if self.status not in LIVE:
            raise LabError(f"run {self.run_id} is {self.status}; a new brief would be read by nobody")
        self._send(Tell(BriefEdit(generation, text)))
        return text

    def finalize(self, *, since: int | None = None, ask: bool = False, trust: bool = False) -> pd.DataFrame:
        """Rank it anew by the verdicts that speak now, as `Run.finalize` does with what other runs gave.

        A candidate that is the key of a case (its id, or `["candidate", id]`) with the verdict `reject` is out of it
        (of a search that goes on, at once). Of a rescoring, `old order` keeps a candidate's old place.

        Args:
            since: None: of a search it is told what this very call changes.
            ask: Makes no difference: to rank asks nobody.
            trust: Also of a run that was born in another workspace, whose functions are a stranger's pickles.

        Returns:
            What changed, as there: the places of the candidates that verdicts are about, and who is the best.

        Raises:
            RunFailed: It failed with these verdicts, and had not without.
            InvalidInput: The run is a stranger's, or `since` is not None.
            LabError: It is paused or interrupted, or the lab only looks on. Nothing was changed then.
        """
        if since is not None:
            raise InvalidInput("since", "of a search only None will do: places in earlier rankings are not kept")
        return super().finalize(ask=ask, trust=trust)

    def _changes(self, since: int) -> Callable[[], pd.DataFrame]:  # noqa: ARG002
        return Reranking(self._directory).changes

    def lineage(self) -> pd.DataFrame:
        """Who came from whom: candidate_id, generation, strategy, parent_ids, code_hash, outcome, score."""
        return lineage(self.candidates)

    @property
    def evaluations(self) -> int:
        """Programs that were put to the judge: each distinct one once, the seed program not counted."""
        query = f"select count(*) from candidates where run_id = ? and {JUDGED} and candidate_id <> ?"  # noqa: S608
        rows = self._home.store.rows(query, [self.run_id, SEED_CANDIDATE], run_id=self.run_id)
        return int(rows[0][0])

    def controls(self, *, trust: bool = False) -> SearchRun:
        """Run random variation of the seed program beside this search, at as many evaluations; returns at once.

        It is a run of its own, named after this one, with the same problem and seed, and asks no model. Asked for again
        it is the same run, resumed where its lab had left it unfinished; one that failed or was stopped is run anew.

        Args:
            trust: Also for a search that was born in another workspace, whose problem is a stranger's pickle that the
                workers will load.

        Raises:
            LabError: The search is not over, failed, has judged nothing, is itself controls, is a stranger's, or was
                made by a version that did not keep what is needed; or the lab only looks on.
        """
        if (of := self._row(f"config ->> '{CONTROL_OF}'")) is not None:
            raise LabError(f"run {self.run_id} is the controls of {of} itself; ask that run for its controls")
        rows = self._home.store.rows(
            f"select run_id, status from runs where config ->> '{CONTROL_OF}' = ? "  # noqa: S608 - our own name
            "order by started_at desc limit 1",
            [self.run_id],
        )
        for run_id, status in rows:
            if status == "interrupted" and not self._home.read_only:
                return cast("SearchRun", self._home.resume(run_id))
            if status not in ("failed", "stopped"):
                return cast("SearchRun", self._home.runs[run_id])
        if self.status not in ("completed", "stopped"):
            first = "wait() for it first" if self.status in LIVE else "controls stand beside a search that has ended"
            raise LabError(f"run {self.run_id} is {self.status}; {first}")
        if not self.evaluations:
            raise LabError(
                f"run {self.run_id} judged no program but its seed program; there is nothing to compare with"
            )
        self._refuse_strangers("controls", trust=trust)
        config = msgspec.json.decode(self._row("config") or "{}")
        controls = Controls(self._directory, name=self.name, config=config, evaluations=self.evaluations)
        return cast("SearchRun", self._home.start(controls))

    def rescore(
        self,
        score: Callable[..., Any],
        *,
        check: Callable[..., Any] | None = None,
        judge_files: Mapping[str, str | bytes | Path] | None = None,
        direction: Direction | None = None,
        name: str | None = None,
        budget: Budget | None = None,
        trust: bool = False,
    ) -> RescoringRun:
        """Judge the distinct programs that had a score once more, by another scorer; returns at once.

        It is a run of its own with the same candidate ids, so both verdicts stand: `.changes` says who moved, and
        whoever changed places with another is a case of it. Sandbox, inputs, limits and seed are the search's.

        Args:
            score: `score(output)` or `score(output, trial)`, as of a `Problem`.
            check: The same; None keeps the problem's own, which only passes or fails then: a number by which it
                replaced the old score is not taken for the new one.
            judge_files: The same; None keeps the problem's own.
            direction: Which of the new scores are better, `maximize` or `minimize`; None: as in the search.
            name: A name to find it by; None for one made of the search's.
            budget: What the run may spend; `Budget(cases=20)` puts the twenty that moved past most others to a decider.
            trust: Also for a search that was born in another workspace, whose problem is a stranger's pickle that the
                workers will load.

        Raises:
            InvalidInput: An argument is wrong, or the scorer cannot travel.
            LabError: The search is not over, no program of it had a score, its problem cannot be read, or it is a
                stranger's; or the lab only looks on.
        """
        if (status := self.status) in LIVE:
            raise LabError(f"run {self.run_id} is {status}; wait() for it first, or stop() it")
        self._refuse_strangers("rescore", trust=trust)
        config = msgspec.json.decode(self._row("config") or "{}")
        rescoring = Rescoring(
            self._directory,
            score,
            check=check,
            judge_files=judge_files,
            direction=direction,
            name=self.name,
            config=config,
        )
        return cast("RescoringRun", self._home.start(rescoring, name=name, budget=budget))

    def _refuse_strangers(self, what: str, *, trust: bool) -> None:
        if not (trust or self._is_ours):
            raise LabError(
                f"run {self.run_id} was born in another workspace, and its problem is a pickle that workers would "
                f"load; {what}(trust=True) does so"
            )

    def plot_scores(self, ax: Any = None, *, controls: bool | None = None) -> ScoreFigure:
        """Draw best, median and every candidate; in a notebook the figure shows itself.

        Args:
            ax: A matplotlib Axes to draw into instead of a new figure.
            controls: Whether the search is drawn beside random variation of its seed program, both by the number of
                programs judged; None for where `controls()` has been run.

        Raises:
            InvalidInput: An argument has a wrong type.
            LabError: Controls are asked for and have not been run.
        """
        from epsilon_lab.views.figures import score_figure  # noqa: PLC0415 - matplotlib loads when someone draws

        if ax is not None and not hasattr(ax, "get_figure"):
            raise InvalidInput("ax", f"must be a matplotlib Axes or None, got {ax!r}")
        if controls not in (None, True, False):
            raise InvalidInput("controls", f"must be True, False or None, got {controls!r}")
        snapshot = self.observe()
        if controls and snapshot.versus is None:
            raise LabError(f"run {self.run_id} has no controls to draw; run them first: run.controls().wait()")
        return score_figure(snapshot, ax=ax, controls=snapshot.versus is not None and controls is not False)


class RescoringRun(SearchRun):
    """A search's programs, judged once more by another scorer."""

    @property
    def best(self) -> Candidate | None:
        """The first of the ranking that passed its check; some may keep their old places in it."""
        return next((self.candidate(place["candidate_id"]) for place in self.output or () if place["checked"]), None)

    @property
    def leader(self) -> Candidate | None:
        """The first of the ranking, checked or not."""
        return next((self.candidate(place["candidate_id"]) for place in self.output or ()), None)

    @property
    def changes(self) -> pd.DataFrame:
        """What became of each candidate, the best by the new scorer first: candidate_id, score_before, score_after
        (NULL: it gave none), rank_before, rank_after, moved (places up), flipped (pairs that are the other way round).

        Raises:
            LabError: The run has not ranked them (yet).
        """
        import pandas as pd  # noqa: PLC0415 - pandas loads when someone looks

        return pd.DataFrame([msgspec.structs.asdict(change) for change in read_changes(self._directory, self.status)])

    def controls(self, *, trust: bool = False) -> SearchRun:  # noqa: ARG002
        """A rescoring has none.

        Raises:
            LabError: Always.
        """
        raise LabError(f"run {self.run_id} proposed nothing; ask the search for its controls")


_SEARCHES = {"population_search": SearchRun, "rescoring": RescoringRun}


def open_run(home: Home, directory: RunDirectory, topology: str, runner: Runner | None = None) -> Run:
    """Make the handle that fits a run's topology."""
    return _SEARCHES.get(topology, Run)(home, directory, topology, runner)
