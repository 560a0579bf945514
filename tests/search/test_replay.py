"""A recording plays what it recorded to the question it was recorded for, and refuses any other."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM, aclose
from epsilon_lab.errors import InvalidInput, LeafFailed, ProposalFailed, ReplayMismatch
from epsilon_lab.messages.events import CandidateSettled, LlmCall
from epsilon_lab.messages.tasks import Event
from epsilon_lab.search.context import Context, PublicProblem
from epsilon_lab.search.proposing import (
    AnyProposer,
    ProposeResult,
    lane_of,
    pack_proposer,
    propose,
    propose_async,
)
from epsilon_lab.search.replay import Replay
from epsilon_lab.testing.model_server import Answer, ModelServer, Request, Status, Text, vary_number
from epsilon_lab.workspace.journal import Journal
from epsilon_lab.workspace.layout import RunDirectory

SEED = "def solve(x):\n    return x + 1\n"
REPLY = "```python\ndef solve(x):\n    return x + 5\n```\n"


class Search:
    """A run that proposes candidates from the seed program and journals what a lab would."""

    def __init__(self, path: Path, proposer: AnyProposer, *, statement: str = "Add.", seed: int = 17) -> None:
        self.run = RunDirectory(path)
        self.proposer, self.seed = proposer, seed
        self.run.save("candidates/seed.py", SEED, kind="source")
        problem = PublicProblem(name="plus", statement=statement, source=SEED, direction="maximize")
        self.run.save("problem/public.json", msgspec.json.encode(problem), kind="problem")
        self.ref, _ = pack_proposer(proposer, self.run)
        self.journal = Journal.open(self.run.journal)
        self.journal.append(0.0, CandidateSettled(candidate_id="seed", generation=0, strategy="seed", source_ref="x"))
        self.journal.commit()
        self.hashes: dict[str, str] = {}
        self.events: list[Event] = []

    def propose(self, *names: str) -> Search:
        anyio.run(self._propose, names)
        self.journal.commit()
        return self

    async def _propose(self, names: tuple[str, ...]) -> None:
        for name in names:
            leaf = Leaf(self.run, f"propose-{name}", 1, 1, self._record)
            best = {"candidate_id": "seed", "score": 1.0}
            payload = {
                "candidate_id": name,
                "generation": 0,
                "strategy": "diverse",
                "parents": [best],
                "best": best,
                "proposer_ref": self.ref,
                "problem_ref": "problem/public.json",
                "seed": self.seed,
                "entry": "solve",
            }
            row: dict[str, Any] = {"candidate_id": name, "generation": 0, "strategy": "diverse"}
            try:
                plain = lane_of(self.proposer) == "process"
                output = propose(payload, leaf) if plain else await propose_async(payload, leaf)
            except ReplayMismatch:
                self.journal.close()
                raise
            except LeafFailed as error:
                row |= {"outcome": "proposal_failed", "error": str(error)}
                self.hashes[name] = str(error)
            else:
                result = msgspec.convert(output, ProposeResult)
                row |= {"prompt_sha256": result.prompt_sha256, "source_ref": result.source_ref, "score": 2.0}
                self.hashes[name] = result.code_hash
            await self._record(tuple(leaf.events))
            self.journal.append(1.0, CandidateSettled(**row))
        await aclose()

    async def _record(self, events: tuple[Event, ...]) -> None:
        self.events += events
        if events:
            self.journal.append(1.0, *events)

    @property
    def rows(self) -> list[LlmCall]:
        return [msgspec.convert(one.body, LlmCall) for one in self.events if one.type == "usage.llm_call"]

    def close(self) -> Search:
        self.journal.close()
        return self


def recorded(path: Path, *answers: Answer | str) -> Search:
    """A model's run of one candidate an answer."""

    def script(request: Request) -> Answer | str:
        """A repair is answered as badly as the question was."""
        [place] = re.findall(r"This is candidate g000-c(\d+)", request.prompt)
        return answers[int(place)] if answers else vary_number(request)

    with ModelServer(script) as server:
        search = Search(path / "recorded", LLM("openai/tiny", api_base=server.url, retries=0))
        names = [f"g000-c{number:03d}" for number in range(max(len(answers), 2))]
        return search.propose(*names).close()


# -- runs of a model -------------------------------------------------------------------------------------------------


def test_a_recorded_run_plays_the_same_programs(tmp_path: Path) -> None:
    first = recorded(tmp_path)
    replay = Replay(first.run.path)
    second = Search(tmp_path / "second", replay).propose("g000-c001", "g000-c000").close()
    assert second.hashes == first.hashes
    assert repr(replay) == "<Replay: replay of recorded, 2 answers>"
    for kind in ("prompts", "replies"):
        name = f"{kind}/g000-c001-0.md"
        assert second.run.read_text(name) == first.run.read_text(name)


def test_a_call_that_was_cut_off_is_no_answer_to_play(tmp_path: Path) -> None:
    search = Search(tmp_path / "cut", LLM("openai/tiny"))
    search.journal.append(
        1.0,
        LlmCall(
            task_id="propose-g000-c000", candidate_id="g000-c000", call=0, model="m", outcome="unknown",
            prompt_ref="prompts/g000-c000-0.md", prompt_sha256="x", request="1.0",
        ),
        CandidateSettled(candidate_id="g000-c001", generation=0, strategy="fresh", outcome="proposal_failed"),
    )  # fmt: skip
    assert "1 answer" in repr(Replay(search.close().run))


def test_a_replayed_reply_is_a_row_that_cost_nothing(tmp_path: Path) -> None:
    first = recorded(tmp_path)
    second = Search(tmp_path / "second", Replay(first.run)).propose("g000-c000").close()
    [row] = second.rows
    assert (row.model, row.outcome, row.cached, row.cost_usd, row.prompt_tokens) == (
        "openai/tiny",
        "cached",
        True,
        0,
        0,
    )
    assert row.prompt_sha256 == first.rows[0].prompt_sha256


def test_a_replay_can_be_replayed(tmp_path: Path) -> None:
    first = recorded(tmp_path, REPLY, Text(REPLY, "length"))
    second = Search(tmp_path / "second", Replay(first.run.path)).propose("g000-c000", "g000-c001").close()
    third = Search(tmp_path / "third", Replay(second.run.path)).propose("g000-c000", "g000-c001").close()
    assert first.hashes == second.hashes == third.hashes


def test_failures_are_played_in_the_words_they_failed_with(tmp_path: Path) -> None:
    answers = ("no program here", "```python\ndef solve(\n```", Text(REPLY, "length"), Status(500), Status(401))
    first = recorded(tmp_path, *answers)
    names = list(first.hashes)
    second = Search(tmp_path / "second", Replay(first.run.path)).propose(*names).close()
    assert second.hashes == first.hashes
    assert len(set(first.hashes.values())) == 5


def test_another_prompt_is_a_mismatch_that_shows_where_they_part(tmp_path: Path) -> None:
    first = recorded(tmp_path)
    second = Search(tmp_path / "second", Replay(first.run.path), statement="Subtract.")
    with pytest.raises(ReplayMismatch, match=r"prompt 0 of g000-c000.*line \d+ was 'Add.' and is 'Subtract.'"):
        second.propose("g000-c000")


def test_a_candidate_without_a_record_is_a_mismatch(tmp_path: Path) -> None:
    second = Search(tmp_path / "second", Replay(recorded(tmp_path).run.path))
    with pytest.raises(ReplayMismatch, match="nothing is recorded for g000-c009"):
        second.propose("g000-c009")


def test_a_replay_travels_without_the_recording(tmp_path: Path) -> None:
    first = recorded(tmp_path)
    replay = pickle.loads(pickle.dumps(Replay(first.run.path)))
    first.run.path.rename(tmp_path / "moved")
    second = Search(tmp_path / "second", replay).propose("g000-c000").close()
    assert second.hashes["g000-c000"] == first.hashes["g000-c000"]


def test_the_last_of_several_tries_counts(tmp_path: Path) -> None:
    with ModelServer([Status(500), REPLY]) as server:
        search = Search(tmp_path / "recorded", LLM("openai/tiny", api_base=server.url, retries=0))
        search.propose("g000-c000").propose("g000-c000").close()
    second = Search(tmp_path / "second", Replay(search.run.path)).propose("g000-c000").close()
    assert second.hashes == search.hashes


def repaired(path: Path) -> Search:
    """A model's run whose first candidate took two calls."""
    with ModelServer(["no program here", REPLY]) as server:
        return Search(path / "recorded", LLM("openai/tiny", api_base=server.url)).propose("g000-c000").close()


def test_a_repaired_candidate_plays_both_its_calls(tmp_path: Path) -> None:
    first = repaired(tmp_path)
    second = Search(tmp_path / "second", Replay(first.run)).propose("g000-c000").close()
    assert second.hashes == first.hashes
    assert [(row.call, row.outcome) for row in second.rows] == [(0, "cached"), (1, "cached")]
    for name in ("prompts/g000-c000-1.md", "replies/g000-c000-1.md"):
        assert second.run.read_text(name) == first.run.read_text(name)
    third = Search(tmp_path / "third", Replay(second.run)).propose("g000-c000").close()
    assert third.hashes == first.hashes


def test_a_repair_to_another_question_is_a_mismatch(tmp_path: Path) -> None:
    """As when the words that tell a model what is wrong have changed."""
    first = repaired(tmp_path)
    (first.run.path / "replies/g000-c000-0.md").write_text("no program there")
    with pytest.raises(ReplayMismatch, match=r"prompt 1 of g000-c000 is not the recorded one: line \d+ was"):
        Search(tmp_path / "second", Replay(first.run)).propose("g000-c000")


def test_a_candidate_cut_off_before_its_repair_fails_in_its_words(tmp_path: Path) -> None:
    first = recorded(tmp_path, "no program here", "nor here")
    cut = Search(tmp_path / "cut", LLM("openai/tiny"))
    cut.run.save("replies/g000-c000-0.md", "no program here", kind="reply")
    words = "cut off: stopped by a person"
    row = CandidateSettled(
        candidate_id="g000-c000", generation=0, strategy="diverse", outcome="proposal_failed", error=words
    )
    cut.journal.append(1.0, first.rows[1], row)
    cut.close()
    second = Search(tmp_path / "second", Replay(cut.run)).propose("g000-c000").close()
    assert second.hashes["g000-c000"] == f"the reply has no ```python block; asked once more: {words}"


# -- runs of functions -----------------------------------------------------------------------------------------------


def _roll(context: Context) -> str:
    if context.candidate_id.endswith("9"):
        raise ProposalFailed("it was a nine")
    return f"def solve(x):\n    return x + {context.dice.randint(0, 10**9)}\n"


def test_a_functions_run_plays_the_same_programs_and_failures(tmp_path: Path) -> None:
    first = Search(tmp_path / "first", _roll).propose("g000-c001", "g000-c009").close()
    second = Search(tmp_path / "second", Replay(first.run.path)).propose("g000-c001", "g000-c009").close()
    assert second.hashes == first.hashes
    third = Search(tmp_path / "third", Replay(second.run.path)).propose("g000-c001", "g000-c009").close()
    assert third.hashes == first.hashes


@pytest.mark.parametrize("change", [{"seed": 18}, {"statement": "Other."}])
def test_another_context_is_a_mismatch(tmp_path: Path, change: dict[str, Any]) -> None:
    first = Search(tmp_path / "first", _roll).propose("g000-c001").close()
    second = Search(tmp_path / "second", Replay(first.run.path), **change)
    with pytest.raises(ReplayMismatch, match="candidate g000-c001 is shown something else than in replay of first"):
        second.propose("g000-c001")


# -- replies written by hand -----------------------------------------------------------------------------------------


def test_a_mapping_plays_its_replies_to_any_prompt(tmp_path: Path) -> None:
    replay = Replay({"g000-c000": REPLY, "g000-c001": ["no block"]})
    assert len(replay) == 2
    search = Search(tmp_path / "run", replay).propose("g000-c000", "g000-c001").close()
    assert search.run.read_text("candidates/g000-c000.py") == "def solve(x):\n    return x + 5\n"
    assert search.hashes["g000-c001"] == (
        "the reply has no ```python block; asked once more: no further reply is written down"
    )


def test_more_replies_than_calls_are_a_mismatch(tmp_path: Path) -> None:
    search = Search(tmp_path / "run", Replay({"g000-c000": [REPLY, REPLY]}))
    with pytest.raises(ReplayMismatch, match="2 calls are recorded for g000-c000, but 1 made"):
        search.propose("g000-c000")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3, "must be a run"),
        (None, "must be a run"),
        ({}, "holds no proposals"),
        ({"g000-c000": 3}, r"Replay source\['g000-c000'\]: must be a reply"),
        ({"g000-c000": []}, "must be a reply"),
        ("/nowhere/at/all", "is not a run directory"),
    ],
)
def test_what_is_no_recording_is_refused(source: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Replay(source)


def test_a_run_that_proposed_nothing_is_refused(tmp_path: Path) -> None:
    search = Search(tmp_path / "run", _roll).close()
    with pytest.raises(InvalidInput, match="holds no proposals"):
        Replay(search.run.path)
