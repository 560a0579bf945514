"""A brief says what the rows bear out, the same way every time, and names the candidates it rests on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM, aclose
from epsilon_lab.errors import ReplayMismatch
from epsilon_lab.messages.values import pack
from epsilon_lab.search.brief import Brief, BriefRow, Generation, brief_prompt, cited, write_brief
from epsilon_lab.search.briefing import ask, compose
from epsilon_lab.search.context import PublicProblem
from epsilon_lab.search.proposing import pack_proposer
from epsilon_lab.search.replay import Replay
from epsilon_lab.testing.model_server import Answer, ModelServer, Status, Text
from epsilon_lab.workspace.layout import RunDirectory

SEED = """\
import math


def weight(v):
    return 0


def solve(items):
    # the obvious way
    total = 0
    for item in items:
        total = total + weight(item)
    return total
"""
BETTER = SEED.replace("return 0", "return v * 2")
ALTERNATIVE = "def weight(v):\n    return math.sqrt(v)\n"


def row(name: str, score: float | None = None, source: str | None = SEED, **more: Any) -> BriefRow:
    outcome = "scored" if score is not None else more.pop("outcome", "crashed")
    return BriefRow(candidate_id=name, score=score, source=source, outcome=outcome, **{"strategy": "offspring", **more})


def generation(*rows: BriefRow, **more: Any) -> Generation:
    return Generation(
        **{
            "number": 1,
            "direction": "maximize",
            "rows": rows,
            "parents": (row("seed", 10.0, strategy="seed"), row("g000-c000", 12.0, strategy="fresh")),
            "best_id": "g000-c000",
            "seed_source": SEED,
            **more,
        }
    )


def section(brief: Brief, title: str) -> str:
    return brief.text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_what_worked_shows_score_parents_and_the_change() -> None:
    brief = write_brief(generation(row("g001-c000", 15.0, BETTER, parents=("g000-c000", "seed"))))
    worked = section(brief, "What worked")
    assert "`g001-c000` (offspring of `g000-c000`, `seed`): 12 → 15 against `g000-c000`" in worked
    assert "adds `return v * 2` and removes `return 0`" in worked
    assert brief.cited[:3] == ("g001-c000", "g000-c000", "seed")


def test_layout_and_comments_are_no_change() -> None:
    source = BETTER.replace("# the obvious way", "# another comment\n\n")
    brief = write_brief(generation(row("g001-c000", 15.0, source, parents=("g000-c000",))))
    assert "obvious" not in brief.text
    assert "another" not in brief.text


def test_a_lower_score_is_better_where_it_is_minimised() -> None:
    rows = (row("g001-c000", 9.0, BETTER, parents=("g000-c000",)), row("g001-c001", 15.0, BETTER, parents=("seed",)))
    brief = write_brief(generation(*rows, direction="minimize"))
    assert "`g001-c000`" in section(brief, "What worked")
    assert "`g001-c001`" in section(brief, "What hurt")


def test_what_hurt_shows_losses_and_groups_failures() -> None:
    rows = (
        row("g001-c000", 3.0, BETTER, parents=("g000-c000",)),
        row("g001-c001", error="IndexError: list index\nout of `range`"),
        row("g001-c002", outcome="timeout", error="10 s"),
        row("g001-c003", error="ValueError"),
        row("g001-c004", 12.0, SEED + "x = 1\n", parents=("g000-c000",)),
        row("g001-c005", outcome="proposal_failed", source=None, error="the reply is empty"),
    )
    hurt = section(write_brief(generation(*rows)), "What hurt")
    assert "`g001-c000` (offspring of `g000-c000`): 12 → 3" in hurt
    assert "2 × crashed: `g001-c001`, `g001-c003`; `g001-c001`: `IndexError: list index out of 'range'`" in hurt
    assert "1 × timeout: `g001-c002`" in hurt
    assert "1 × proposal_failed: `g001-c005`" in hurt
    assert "Changed nothing in the score: `g001-c004`" in hurt


def test_what_is_untried_is_read_off_the_programs() -> None:
    rows = (row("g001-c000", 15.0, BETTER, parents=("g000-c000",)), row("g001-c001", strategy="diverse"))
    untried = section(write_brief(generation(*rows, alternatives={"weight": [ALTERNATIVE]})), "What is untried")
    assert "`solve()`: as in the seed program in every scored candidate (`g001-c000`)" in untried
    assert "`weight()`" not in untried.split("known alternatives")[0]
    assert "1 of 1 known alternatives of `weight()`" in untried
    assert "`diverse` has not had a fair try" in untried
    assert "No scored candidate changed" in untried
    assert "imports" in untried


def test_a_used_alternative_is_not_untried() -> None:
    used = SEED.replace("def weight(v):\n    return 0\n", ALTERNATIVE)
    brief = write_brief(
        generation(row("g001-c000", 15.0, used, parents=("g000-c000",)), alternatives={"weight": [ALTERNATIVE]})
    )
    assert "known alternatives" not in brief.text


def test_a_best_program_nothing_was_made_from_is_pointed_out() -> None:
    untried = section(write_brief(generation(row("g001-c000", 9.0, BETTER, strategy="fresh"))), "What is untried")
    assert "Nothing was made from the best program yet, `g000-c000` (12)" in untried


def test_a_fresh_candidate_is_made_from_the_seed_program() -> None:
    brief = write_brief(generation(row("g001-c000", 9.0, BETTER, strategy="fresh"), best_id="seed"))
    assert "Nothing was made from" not in brief.text


def test_fresh_candidates_are_measured_against_the_seed_program() -> None:
    brief = write_brief(generation(row("g001-c000", 11.0, BETTER, strategy="fresh")))
    assert "`g001-c000` (fresh): 10 → 11 against `seed`; it adds `return v * 2`" in section(brief, "What worked")


def test_a_generation_without_a_score_still_has_a_brief() -> None:
    brief = write_brief(generation(row("g001-c000", error="boom"), parents=()))
    assert re.findall("^## (.*)$", brief.text, re.MULTILINE) == ["What worked", "What hurt", "What is untried"]
    assert brief.cited == ("g001-c000",)


def test_the_order_in_which_rows_come_does_not_matter() -> None:
    rows = [row(f"g001-c{n:03d}", float(n % 5), BETTER, parents=("g000-c000",)) for n in range(9)]
    assert write_brief(generation(*rows)).text == write_brief(generation(*rows)).text
    assert section(write_brief(generation(*rows)), "What worked") == section(
        write_brief(generation(*reversed(rows))), "What worked"
    )


def test_long_lists_stay_short() -> None:
    rows = [row(f"g001-c{n:03d}", 20.0 + n, BETTER, parents=("g000-c000",)) for n in range(40)]
    worked = section(write_brief(generation(*rows)), "What worked")
    assert worked.count("→") == 3
    assert worked.count("`g001-c") == 3 + 12
    assert "and 25 more" in worked


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fresh", "diverse", "offspring"]),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
            st.sampled_from([SEED, BETTER, "def broken(", "", "```\n`x`", "x" * 500]) | st.none(),
            st.text(max_size=40),
        ),
        max_size=6,
    )
)
def test_any_rows_give_a_brief_whose_every_line_cites(found: list[tuple[str, float | None, str | None, str]]) -> None:
    rows = [
        row(f"g001-c{n:03d}", score, source, strategy=strategy, error=error, parents=("seed",))
        for n, (strategy, score, source, error) in enumerate(found)
    ]
    brief = write_brief(generation(*rows))
    for line in brief.text.splitlines():
        if line.startswith("- ") and line != "- Nothing to report.":
            assert cited(line, [one.candidate_id for one in rows] + ["seed", "g000-c000"]), line
        assert len(line) < 3000


def test_only_known_candidates_count_as_cited() -> None:
    assert cited("g001-c001, `seed`, the seed, `g009-c009`, g001-c001", ["g001-c001", "seed"]) == ("g001-c001", "seed")


# -- the task --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run-1")
    run.save("candidates/g001-c000.py", BETTER, kind="source")
    run.save("candidates/seed.py", SEED, kind="source")
    problem = PublicProblem(name="p", statement="Weigh.", source=SEED, direction="maximize")
    run.save("problem/public.json", msgspec.json.encode(problem), kind="problem")
    return run


def payload(**more: object) -> dict[str, object]:
    scored = {"outcome": "scored", "error": ""}
    return {
        "generation": 1,
        "direction": "maximize",
        "rows": [
            {"candidate_id": "g001-c000", "strategy": "diverse", "parents": ["seed"], "score": 3.0, **scored}
            | {"source_ref": "candidates/g001-c000.py"},
            {"candidate_id": "g001-c001", "strategy": "fresh", "parents": [], "score": None, "source_ref": None}
            | {"outcome": "proposal_failed", "error": "no"},
        ],
        "parents": [
            {"candidate_id": "seed", "strategy": "seed", "parents": [], "score": 1.0, **scored}
            | {"source_ref": "candidates/seed.py"}
        ],
        "best_id": "g001-c000",
        "problem_ref": "problem/public.json",
        "model_ref": None,
        **more,
    }


def test_the_deterministic_brief_is_composed_from_the_run_directory(run: RunDirectory) -> None:
    result = compose(payload(), Leaf(run, "brief-g001", 1, 1))
    assert result["author"] == "deterministic"
    assert "`g001-c000` (diverse of `seed`): 1 → 3; it adds `return v * 2`" in str(result["text"])
    assert result["cited"] == ["g001-c000", "seed", "g001-c001"]
    assert pack(result).form == "json"


def asked(run: RunDirectory, *answers: Answer, leaf: Leaf | None = None) -> tuple[dict[str, object], str]:
    async def main(model_ref: str) -> dict[str, object]:
        result = await ask(payload(model_ref=model_ref), leaf or Leaf(run, "brief-g001", 1, 1))
        await aclose()
        return result

    with ModelServer(answers) as server:
        ref, _ = pack_proposer(LLM("openai/tiny", api_base=server.url), run)
        return anyio.run(main, ref), server.requests[0].prompt


def test_a_model_writes_the_brief_from_counts_and_programs(run: RunDirectory) -> None:
    leaf = Leaf(run, "brief-g001", 1, 1)
    result, prompt = asked(run, Text("## What worked\n\n- g001-c000 doubles"), leaf=leaf)
    assert (result["author"], result["cited"]) == ("openai/tiny", ["g001-c000"])
    assert result["text"] == "## What worked\n\n- g001-c000 doubles\n"
    assert "Weigh." in prompt
    assert "return v * 2" in prompt
    assert "proposal_failed" in prompt
    assert run.exists("replies/brief-g001-0.md")
    assert [event.body["outcome"] for event in leaf.events if event.type == "usage.llm_call"] == ["unknown", "ok"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [(Status(401), "the key was not accepted"), (Text(""), "was empty"), (Text("cut", "length"), "token limit")],
)
def test_a_failing_model_gives_way_to_the_deterministic_brief_and_is_named(
    run: RunDirectory, answer: Answer, why: str
) -> None:
    result, _ = asked(run, answer)
    assert result["text"] == compose(payload(), Leaf(run, "brief-g001", 1, 1))["text"]
    assert str(result["author"]).startswith("deterministic (")
    assert why in str(result["author"])
    assert "openai/tiny" in str(result["author"])


def test_an_empty_brief_is_asked_for_again(run: RunDirectory) -> None:
    result, _ = asked(run, Text(" "), Text("- g001-c000 doubles"))
    assert (result["text"], result["author"]) == ("- g001-c000 doubles\n", "openai/tiny")
    assert "was empty" in run.read_text("prompts/brief-g001-1.md")
    ref, _ = pack_proposer(Replay({"brief-g001": [" ", "- g001-c000 doubles"]}), run)
    again = anyio.run(ask, payload(model_ref=ref), Leaf(run, "brief-g001", 1, 1))
    assert again["text"] == result["text"]


def test_a_recorded_brief_is_played_again(run: RunDirectory) -> None:
    asked(run, Text("## What worked\n\n- g001-c000"))
    reply = run.read_text("replies/brief-g001-0.md")
    ref, _ = pack_proposer(Replay({"brief-g001": reply}), run)
    leaf = Leaf(run, "brief-g001", 1, 1)
    result = anyio.run(ask, payload(model_ref=ref), leaf)
    assert (result["text"], result["cited"]) == ("## What worked\n\n- g001-c000\n", ["g001-c000"])
    longer, _ = pack_proposer(Replay({"brief-g001": [reply, reply]}), run)
    with pytest.raises(ReplayMismatch, match="2 calls are recorded for brief-g001, but 1 made"):
        anyio.run(ask, payload(model_ref=longer), leaf)
    other, _ = pack_proposer(Replay({"brief-g002": reply}), run)
    with pytest.raises(ReplayMismatch, match="nothing is recorded for brief-g001"):
        anyio.run(ask, payload(model_ref=other), leaf)


def test_the_prompt_for_a_brief_is_deterministic() -> None:
    made = generation(row("g001-c000", 15.0, BETTER, parents=("g000-c000",)))
    assert brief_prompt(made, "Weigh.") == brief_prompt(made, "Weigh.")
