"""Any proposer takes the same path: context, program, check, file, hash; what is no program is a reason in a row."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from epsilon_lab.agents.agent import Agent
from epsilon_lab.agents.command import Command
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM, aclose
from epsilon_lab.errors import InvalidInput, LeafFailed, ProposalFailed
from epsilon_lab.messages.values import pack
from epsilon_lab.search.context import Context, PublicProblem
from epsilon_lab.search.proposing import (
    PROPOSAL_LIMIT_S,
    AnyProposer,
    ProposeResult,
    lane_of,
    limit_s,
    name_of,
    pack_proposer,
    propose,
    propose_async,
)
from epsilon_lab.search.replay import Proposal, Replay
from epsilon_lab.search.sources import SOURCE_LIMIT, code_hash
from epsilon_lab.search.variation import Variation
from epsilon_lab.testing.model_server import Answer, Hang, ModelServer, Status, Text, vary_number
from epsilon_lab.workspace.layout import RunDirectory

SEED = "def solve(x):\n    return x + 1\n"
PARENT = "def solve(x):\n    return x + 2\n"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run-1")
    run.save("candidates/seed.py", SEED, kind="source")
    run.save("candidates/g000-c001.py", PARENT, kind="source")
    run.save("briefs/g000-v1.md", "add more", kind="brief")
    problem = PublicProblem(name="plus", statement="Add.", source=SEED, direction="maximize")
    run.save("problem/public.json", msgspec.json.encode(problem), kind="problem")
    return run


def request(run: RunDirectory, proposer: AnyProposer, **more: object) -> dict[str, object]:
    ref, _ = pack_proposer(proposer, run)
    seed = {"candidate_id": "seed", "score": 1.0, "feedback": {}, "strategy": "seed", "generation": 0}
    parent = {"candidate_id": "g000-c001", "score": 2.0, "feedback": {"hint": "x"}, "strategy": "fresh"}
    return {
        "candidate_id": "g001-c002",
        "generation": 1,
        "strategy": "diverse",
        "parents": [parent],
        "best": parent,
        "top": [parent, seed],
        "brief_ref": "briefs/g000-v1.md",
        "proposer_ref": ref,
        "problem_ref": "problem/public.json",
        "seed": 17,
        "entry": "solve",
        **more,
    }


def leaf(run: RunDirectory) -> Leaf:
    return Leaf(run, "propose-g001-c002", 1, 1)


def proposed(run: RunDirectory, proposer: AnyProposer, **more: object) -> ProposeResult:
    """Run the propose task the way its lane does."""
    payload = request(run, proposer, **more)
    if lane_of(proposer) == "process":
        output = propose(payload, leaf(run))
    else:

        async def main() -> dict[str, object]:
            try:
                return await propose_async(payload, leaf(run))
            finally:
                await aclose()

        output = anyio.run(main)
    assert pack(output).form == "json"
    return msgspec.convert(output, ProposeResult)


# -- the path --------------------------------------------------------------------------------------------------------


def test_a_function_is_shown_the_context_and_its_program_is_kept(run: RunDirectory) -> None:
    def proposer(context: Context) -> str:
        assert (context.candidate_id, context.generation, context.strategy) == ("g001-c002", 1, "diverse")
        assert [(one.candidate_id, one.source, one.score) for one in context.parents] == [("g000-c001", PARENT, 2.0)]
        assert context.parents[0].feedback == {"hint": "x"}
        assert [one.source for one in context.top] == [PARENT, SEED]
        assert (context.best.source, context.brief, context.problem.statement) == (PARENT, "add more", "Add.")
        return f"def solve(x):\n    return x + {context.dice.randint(10, 99)}\n"

    result = proposed(run, proposer)
    source = run.read_text("candidates/g001-c002.py")
    assert result.source_ref == "candidates/g001-c002.py"
    assert result.code_hash == code_hash(source)
    assert result.proposer == "proposer"
    assert result.prompt_sha256  # of the context
    assert proposed(run, proposer).code_hash == result.code_hash  # same dice again


def test_an_async_function_takes_the_same_path(run: RunDirectory) -> None:
    async def proposer(context: Context) -> str:
        await anyio.lowlevel.checkpoint()
        return context.best.source

    assert proposed(run, proposer).code_hash == code_hash(PARENT)


def test_the_offline_proposer_takes_the_same_path(run: RunDirectory) -> None:
    assert proposed(run, Variation()).code_hash not in (code_hash(PARENT), code_hash(SEED))


class Own:
    name = "my own"

    async def propose(self, context: Context, leaf: Leaf) -> Proposal:
        ref = leaf.save("notes.md", "thought", kind="note")
        return Proposal(source=context.best.source, prompt_ref=ref)


def test_an_object_with_propose_is_given_the_leaf(run: RunDirectory) -> None:
    result = proposed(run, Own())
    assert (result.prompt_ref, result.proposer, run.read_text("notes.md")) == ("notes.md", "my own", "thought")


def test_a_context_that_user_code_changes_is_known_by_what_it_was(run: RunDirectory) -> None:
    def meddles(context: Context) -> str:
        context.parents[0].feedback["more"] = "x"
        return SEED

    def reads(context: Context) -> str:
        return SEED

    assert proposed(run, meddles).prompt_sha256 == proposed(run, reads).prompt_sha256


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "returned None; return the program's source as a str"),
        ("", "returned an empty str"),
        (" \n", "returned an empty str"),
        (b"x = 1", "returned a bytes"),
        (3, "returned a int"),
        ("x" * (SOURCE_LIMIT + 1), "1000001 characters"),
        ("x = '\ud800'", "is not text"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_program_is_a_failed_proposal(run: RunDirectory, answer: Any, words: str) -> None:
    with pytest.raises(ProposalFailed, match=words):
        proposed(run, lambda _: answer)
    assert not run.exists("candidates/g001-c002.py")


def test_a_lambda_around_a_coroutine_is_explained(run: RunDirectory) -> None:
    async def inner(context: Context) -> str:
        return SEED

    with pytest.raises(ProposalFailed, match="a coroutine of a plain function; define it with `async def`"):
        propose(request(run, lambda context: inner(context)), leaf(run))


def test_a_program_that_does_not_parse_is_the_judges_business(run: RunDirectory) -> None:
    assert proposed(run, lambda _: "def solve(").code_hash == code_hash("def solve(")


def test_an_exception_of_a_function_is_its_own(run: RunDirectory) -> None:
    def proposer(context: Context) -> str:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        proposed(run, proposer)


# -- where it runs and what it is called -----------------------------------------------------------------------------


async def _async(context: Context) -> str:
    return SEED


class _AsyncCall:
    async def __call__(self, context: Context) -> str:
        return SEED


def _plain(context: Context, more: int = 1) -> str:
    return SEED


@pytest.mark.parametrize(
    ("proposer", "lane", "name"),
    [
        (LLM("openai/tiny"), "async", "openai/tiny"),
        (Replay({"g000-c000": "x"}), "async", "replay"),
        (_plain, "process", "_plain"),
        (functools.partial(_plain, more=2), "process", "_plain"),
        (_async, "async", "_async"),
        (_AsyncCall(), "async", "_AsyncCall"),
        (Own(), "async", "my own"),
        (Variation(), "process", "Variation"),
    ],
    ids=lambda value: "",
)
def test_lane_and_name(proposer: AnyProposer, lane: str, name: str) -> None:
    assert (lane_of(proposer), name_of(proposer)) == (lane, name)


@pytest.mark.parametrize(
    ("proposer", "words"),
    [
        (3, "must be None, an LLM, an Agent, a Command, a Replay or a function"),
        ("openai/gpt", "must be None, an LLM, an Agent, a Command, a Replay or a function"),
        (LLM, "give an instance, not a class"),
        (lambda: SEED, r"cannot be called with \(context\)"),
        (lambda a, b: SEED, r"cannot be called with \(context\)"),
    ],
)
def test_what_is_no_proposer_is_refused(proposer: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        lane_of(proposer)


def test_a_slow_model_has_the_time_of_all_its_tries() -> None:
    """Two calls, each with its retries and the waits between them."""
    patient = LLM("openai/tiny", timeout_s=900, retries=2)
    assert limit_s(patient) >= 2 * 3 * 900
    assert limit_s(_plain) == limit_s(None) == PROPOSAL_LIMIT_S


def test_a_packed_proposer_lies_once_in_the_run_directory(run: RunDirectory) -> None:
    first, [saved] = pack_proposer(LLM("openai/tiny"), run)
    again, _ = pack_proposer(LLM("openai/tiny"), run)
    other, _ = pack_proposer(LLM("openai/large"), run)
    assert first == again == saved.path
    assert other != first


# -- a model ---------------------------------------------------------------------------------------------------------


def model(server: ModelServer, **more: Any) -> LLM:
    return LLM("openai/tiny", api_base=server.url, retries=0, **more)


def test_a_model_proposes_over_http(run: RunDirectory) -> None:
    with ModelServer(vary_number) as server:
        result = proposed(run, model(server))
    assert "Parent: g000-c001, score 2" in server.requests[0].prompt
    assert "must define `solve`" in server.requests[0].prompt
    assert result.proposer == "openai/tiny"
    assert result.prompt_ref == "prompts/g001-c002-0.md"
    assert result.reply_ref == "replies/g001-c002-0.md"
    assert run.read_text("candidates/g001-c002.py").startswith("def solve(x):\n    return x + ")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Text("no idea"), "no ```python block"),
        (Text("```python\ndef solve(:\n```"), "does not parse"),
        (Text("```python\nx = 1\n```"), r"does not define solve\(\)"),
        (Text("```python\ndef solve(x):\n", "length"), "raise max_tokens"),
        (Status(500), r"model openai/tiny: .* failed \(500: scripted 500\)"),
        (Hang(), "no whole answer within 0.5 s"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_bad_reply_is_a_failed_proposal_and_a_row(run: RunDirectory, answer: Answer, words: str) -> None:
    with ModelServer([answer]) as server:
        at_work = leaf(run)
        payload = request(run, model(server, timeout_s=0.5 if isinstance(answer, Hang) else 30.0))

        async def main() -> None:
            try:
                with pytest.raises(LeafFailed, match=words):
                    await propose_async(payload, at_work)
            finally:
                await aclose()

        anyio.run(main)
    rows = [event.body for event in at_work.events if event.type == "usage.llm_call"]
    expected = "timeout" if isinstance(answer, Hang) else "error" if isinstance(answer, Status) else "ok"
    asked_again = isinstance(answer, Text) and answer.finish_reason == "stop"
    assert [row["outcome"] for row in rows] == ["unknown", expected] * (2 if asked_again else 1)
    assert [row["call"] for row in rows] == [0, 0, 1, 1][: len(rows)]
    assert len({(row["call"], row["request"]) for row in rows}) == len(rows) / 2
    assert rows[0]["candidate_id"] == "g001-c002"
    assert run.exists("prompts/g001-c002-0.md")
    assert run.exists("replies/g001-c002-0.md") == (expected == "ok")


def test_a_malformed_reply_is_repaired_and_both_calls_are_on_record(run: RunDirectory) -> None:
    with ModelServer(["I would add two.", f"```python\n{PARENT}```"]) as server:
        result = proposed(run, model(server))
    assert [request.json["messages"][-2:] for request in server.requests][1] == [
        {"role": "assistant", "content": "I would add two."},
        {"role": "user", "content": run.read_text("prompts/g001-c002-1.md").split("<!-- user -->\n\n")[-1]},
    ]
    assert "the reply has no ```python block" in server.requests[1].prompt
    assert (result.prompt_ref, result.reply_ref) == ("prompts/g001-c002-1.md", "replies/g001-c002-1.md")
    assert run.read_text("replies/g001-c002-0.md") == "I would add two."
    assert run.read_text("candidates/g001-c002.py") == PARENT


def test_a_repair_that_was_received_is_not_paid_for_again(run: RunDirectory) -> None:
    """The lab dies between the second reply and the candidate's program."""
    with ModelServer(["I would add two.", f"```python\n{PARENT}```"]) as server:
        first = proposed(run, model(server))
        assert proposed(run, model(server)) == first
    assert len(server.requests) == 2


def test_edits_of_the_first_parent_make_a_whole_program(run: RunDirectory) -> None:
    edits = "<<<<<<< SEARCH\n    return x + 2\n=======\n    return x + 7\n>>>>>>> REPLACE\n"
    with ModelServer([edits]) as server:
        proposed(run, model(server))
        with pytest.raises(ProposalFailed, match="lines that are not in seed"):
            proposed(run, model(server), candidate_id="g001-c003", strategy="fresh", parents=[])
    assert run.read_text("candidates/g001-c002.py") == PARENT.replace("2", "7")


def test_an_entry_that_the_seed_program_lacks_is_not_asked_for(run: RunDirectory) -> None:
    """Such a problem runs its programs in a way of its own."""
    with ModelServer(["```python\nx = 1\n```"]) as server:
        assert proposed(run, model(server), entry="main").code_hash == code_hash("x = 1\n")
    assert "main" not in server.requests[0].prompt


def test_many_models_questions_are_under_way_at_once(run: RunDirectory) -> None:
    async def main(make: Callable[[int], dict[str, object]]) -> None:
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(propose_async, make(number), leaf(run))
            await anyio.to_thread.run_sync(server.wait_for, 6)
        await aclose()

    with ModelServer(vary_number, latency_s=0.3) as server:
        anyio.run(main, lambda number: request(run, model(server), candidate_id=f"g001-c{number:03d}"))
    assert all(run.exists(f"candidates/g001-c{number:03d}.py") for number in range(6))


# -- a program of its own ----------------------------------------------------------------------------------------------

PROGRAM = """
from epsilon_lab.agent_sdk import AgentSession

with AgentSession.from_stdio() as session:
    shown = session.item
    assert shown["candidate_id"] in session.task and shown["brief"] in session.task
    assert "Answer with one or two sentences on your idea, then the program." in session.task
    session.done({answer})
"""


def command(answer: str) -> Command:
    return Command([sys.executable, "-c", PROGRAM.replace("{answer}", answer)])


def test_a_program_is_asked_as_a_model_is_and_has_the_context_as_data(run: RunDirectory) -> None:
    wrote = command("'Two more.\\n```python\\n' + shown['best']['source'].replace('2', '4') + '```'")
    assert proposed(run, wrote).proposer == Path(sys.executable).name
    assert run.read_text("candidates/g001-c002.py") == PARENT.replace("2", "4")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("{'source': shown['best']['source']}", "returned a dict; Give the whole program in one ```python block"),
        ("shown['best']['source']", "the reply has no ```python block"),
        ("'```python\\npass\\n```'", r"does not define solve\(\)"),
    ],
)
def test_a_program_that_answers_without_one_has_failed(run: RunDirectory, answer: str, problem: str) -> None:
    with pytest.raises(ProposalFailed, match=problem):
        proposed(run, command(answer))


def test_a_program_and_an_agent_are_given_up_by_their_own_limits() -> None:
    patient = Command(["true"], timeout_s=7000)
    assert (lane_of(patient), limit_s(patient)) == ("process", patient.time_limit_s)
    agent = Agent(LLM("http/a", api_base="http://127.0.0.1:9/v1"), seconds=7000)
    assert (lane_of(agent), limit_s(agent)) == ("async", agent.time_limit_s)
