"""A context becomes the same prompt every time, and a reply becomes a program or a reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.agents.prompt import prompt_sha256
from epsilon_lab.errors import ProposalFailed
from epsilon_lab.search.context import Context, PublicProblem, Shown
from epsilon_lab.search.prompts import EDITS_FROM, FEEDBACK_LIMIT, SHOWN_LIMIT, base_of, parse_reply, render

SEED = "def solve(x):\n    return x + 1\n"


def shown(name: str, source: str = SEED, score: float | None = 1.0, **more: Any) -> Shown:
    return Shown(candidate_id=name, source=source, score=score, **more)


def context(**given: Any) -> Context:
    return Context(
        **{
            "candidate_id": "g001-c002",
            "generation": 1,
            "strategy": "offspring",
            "parents": (shown("g000-c001", "A = 1\n", 2.0), shown("g000-c003", "B = 2\n", 1.5)),
            "best": shown("g000-c001", "A = 1\n", 2.0),
            "top": (shown("g000-c001", "A = 1\n", 2.0), shown("g000-c005", "C = 3\n", 1.75)),
            "brief": "## What worked\n\n- `g000-c001`",
            "problem": PublicProblem(name="plus", statement="Add one.", source=SEED, direction="maximize"),
            "seed": 17,
            **given,
        }
    )


def user(context: Context, entry: str = "solve") -> str:
    return render(context, entry=entry)[1].content


# -- a context as a prompt -------------------------------------------------------------------------------------------


def test_the_same_context_gives_the_same_prompt() -> None:
    assert prompt_sha256(render(context())) == prompt_sha256(render(context()))
    assert prompt_sha256(render(context())) != prompt_sha256(render(context(candidate_id="g001-c003")))


def test_offspring_see_parents_best_programs_and_the_brief() -> None:
    text = user(context())
    for part in (
        "Add one.",
        "higher is better",
        SEED.strip(),
        "Parent: g000-c001, score 2",
        "Parent: g000-c003, score",
    ):
        assert part in text
    assert "Among the best so far: g000-c005, score 1.75" in text
    assert "## What worked" in text
    assert "must define `solve`" in text
    assert text.count("A = 1") == 1  # parent, best and top at once, and shown once


def test_fresh_sees_the_problem_and_the_brief_alone() -> None:
    text = user(context(strategy="fresh", parents=()))
    assert "A = 1" not in text
    assert "C = 3" not in text
    assert SEED.strip() in text
    assert "## What worked" in text


def test_a_minimised_score_is_said_to_be() -> None:
    problem = PublicProblem(name="p", statement="s", source=SEED, direction="minimize")
    assert "lower is better" in user(context(problem=problem))


def test_feedback_is_shown_on_one_line_and_cut() -> None:
    parent = shown("g000-c001", feedback={"note": "two\nlines", "long": "x" * 10_000})
    text = user(context(parents=(parent,), strategy="diverse"))
    assert "- note: two lines" in text
    assert f"cut off here: {FEEDBACK_LIMIT} of 10000" in text


def test_a_huge_program_is_cut_and_said_to_be() -> None:
    text = user(context(parents=(shown("g000-c001", "x = 1\n" * 100_000),)))
    assert f"cut off here: {SHOWN_LIMIT} of 599999 characters" in text


def test_a_program_with_fences_of_its_own_stays_one_block() -> None:
    text = user(context(parents=(shown("g000-c001", 's = """\n```\nhi\n```\n"""\n'),)))
    assert '````python\ns = """\n```\nhi\n```\n"""\n````' in text


LONG = SEED + "# more\n" * EDITS_FROM


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ({"strategy": "diverse", "parents": (shown("g000-c001", LONG),)}, "g000-c001"),
        ({"strategy": "offspring", "parents": (shown("g000-c003", LONG), shown("g000-c001"))}, "g000-c003"),
        ({"strategy": "offspring", "parents": (shown("g000-c003"), shown("g000-c001", LONG))}, ""),
        ({"strategy": "fresh", "parents": (), "best": shown("g000-c001", LONG)}, ""),
    ],
)
def test_edits_are_offered_where_a_long_program_is_changed(given: dict[str, Any], base: str) -> None:
    system = render(context(**given))[0].content
    assert ("lines of" in system) == bool(base)
    assert "whole program in one ```python block" in system
    assert f"changes to {base} as edit blocks" in system or not base


# -- a reply as a program --------------------------------------------------------------------------------------------


def block(source: str, language: str = "python") -> str:
    return f"Idea.\n\n```{language}\n{source}```\n"


@pytest.mark.parametrize("language", ["python", "py", "Python", "python3", ""])
def test_the_program_is_taken_out_of_its_block(language: str) -> None:
    assert parse_reply(block(SEED, language), entry="solve") == SEED


def test_windows_line_ends_and_indentation_do_not_matter() -> None:
    text = "1. Idea\n\n   ```python\n   def solve(x):\n       return 2\n   ```\n".replace("\n", "\r\n")
    assert parse_reply(text, entry="solve") == "def solve(x):\n    return 2\n"


def test_of_several_blocks_the_last_good_one_counts() -> None:
    draft, final = SEED.replace("1", "2"), SEED.replace("1", "3")
    assert parse_reply(block(draft) + block(final), entry="solve") == final
    assert parse_reply(block(final) + block("print(solve(1))\n"), entry="solve") == final
    assert parse_reply(block(final) + block("pip install x\n", "bash") + block("3\n", ""), entry="solve") == final


def test_a_longer_fence_holds_a_shorter_one() -> None:
    source = 'def solve(x):\n    """\n```\nhi\n```\n"""\n    return x\n'
    assert parse_reply(f"````python\n{source}````\n") == source


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the reply is empty"),
        ("  \n", "the reply is empty"),
        ("I would rather not.", "no ```python block"),
        (block("x\n", "bash"), "no ```python block"),
        (block("\n"), "is empty"),
        (block("def solve(x:\n    return 1\n"), "does not parse: line 1"),
        (block("def other(x):\n    return 1\n"), r"does not define solve\(\)"),
        (block("def other():\n    def solve(): pass\n"), r"does not define solve\(\)"),
        (f"```python\n{SEED}", "not closed"),
        (block(SEED) + "```python\ndef solve(", "not closed"),
        (block("-" * 100_000 + "1\n"), "does not parse"),
        (block("x = 1\n" * 200_000), "more than 1000000"),
        (block("s = '\0'\n"), "does not parse"),
    ],
)
def test_an_unusable_reply_says_why(text: str, reason: str) -> None:
    with pytest.raises(ProposalFailed, match=reason):
        parse_reply(text, entry="solve")


def test_a_reply_cut_off_at_the_token_limit_is_refused_even_if_it_parses() -> None:
    with pytest.raises(ProposalFailed, match="raise max_tokens"):
        parse_reply(block(SEED), finish_reason="length")


def test_an_empty_reply_names_the_reason_the_model_gave() -> None:
    with pytest.raises(ProposalFailed, match="content_filter"):
        parse_reply("", finish_reason="content_filter")


@pytest.mark.parametrize(
    "source",
    [
        "solve = lambda x: x\n",
        "from math import sqrt as solve\n",
        "import solve.deep\n",
        "if True:\n    def solve(): pass\n",
        "async def solve(): pass\n",
        "class solve: pass\n",
        "solve: int = 3\n",
        "(a, solve) = 1, 2\n",
    ],
)
def test_an_entry_may_be_bound_in_any_way(source: str) -> None:
    assert parse_reply(block(source), entry="solve") == source


EDIT = "<<<<<<< SEARCH\n    return x + 1\n=======\n    return x + 9\n>>>>>>> REPLACE\n"


def test_edits_are_applied_to_the_first_parent_or_the_seed_program() -> None:
    parent = shown("g000-c001", SEED.replace("return", "y = 3\n    return"))
    assert parse_reply(EDIT, base=base_of(context(parents=(parent,)))) == parent.source.replace("+ 1", "+ 9")
    assert parse_reply(EDIT, base=base_of(context(strategy="fresh", parents=()))) == SEED.replace("+ 1", "+ 9")


def test_edits_go_before_a_program_that_is_quoted_beside_them() -> None:
    assert parse_reply(block(SEED) + EDIT, base=shown("seed")) == SEED.replace("+ 1", "+ 9")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (EDIT.replace("x + 9", "x +"), "g000-c001 with the reply's edits does not parse: line 2"),
        ("<<<<<<< SEARCH\ndef solve(x):\n=======\ndef other(x):\n>>>>>>> REPLACE\n", r"does not define solve\(\)"),
        (EDIT.replace("x + 1", "x + 2"), "not in g000-c001"),
    ],
)
def test_edits_that_make_no_program_say_why(text: str, reason: str) -> None:
    with pytest.raises(ProposalFailed, match=reason):
        parse_reply(text, entry="solve", base=shown("g000-c001", "def solve(x):\n    return x + 1\n"))


def test_edits_without_a_base_are_refused() -> None:
    with pytest.raises(ProposalFailed, match="give the whole program"):
        parse_reply(EDIT)


def outcome(text: str) -> str:
    """The program, or the reason why there is none."""
    try:
        return parse_reply(text, entry="solve")
    except ProposalFailed as error:
        return str(error)


@given(st.text() | st.text(alphabet="`~ \npython#ab", max_size=200))
def test_no_reply_breaks_the_parser(text: str) -> None:
    assert outcome(text)
