"""Edit blocks change the one place they quote, or say why they do not."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.errors import ProposalFailed
from epsilon_lab.search.edits import MOST_EDITS, apply_edits, find_edits

PROGRAM = """\
def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)


def solve(values):
    total = 0
    return mean(values) + total
"""


def block(search: str, replace: str) -> str:
    return f"<<<<<<< SEARCH\n{search}=======\n{replace}>>>>>>> REPLACE\n"


def edited(text: str, source: str = PROGRAM) -> str:
    return apply_edits(source, find_edits(text), base="g000-c001")


# -- where a block belongs -------------------------------------------------------------------------------------------


def test_a_block_replaces_the_lines_it_quotes() -> None:
    text = "Idea.\n\n" + block("        total += value\n", "        total += 2 * value\n")
    assert edited(text) == PROGRAM.replace("total += value", "total += 2 * value")


def test_fences_around_blocks_do_not_matter() -> None:
    one = block("    return total / len(values)\n", "    return total\n")
    assert edited(f"```diff\n{one}```\n") == edited(one) == PROGRAM.replace(" / len(values)", "")


def test_blocks_apply_one_after_the_other() -> None:
    text = block("        total += value\n", "        total += value**2\n") + block(
        "        total += value**2\n", "        total += value**3\n"
    )
    assert edited(text) == PROGRAM.replace("total += value", "total += value**3")


def test_lines_may_be_added_and_taken_away() -> None:
    grown = edited(block("def solve(values):\n", "import math\n\n\ndef solve(values):\n"))
    assert grown == PROGRAM.replace("def solve", "import math\n\n\ndef solve")
    assert edited(block("import math\n\n\n", ""), grown) == PROGRAM


def test_lines_are_whole_lines() -> None:
    """`total = 0` is no part of `subtotal = 0`."""
    assert edited(block("total = 0\n", "total = 1\n"), "subtotal = 0\ntotal = 0\n") == "subtotal = 0\ntotal = 1\n"


@pytest.mark.parametrize(
    ("search", "replace"),
    [
        ("for value in values:  \n    total += value\n", "for value in values:\n    total -= value\n"),
        (
            "\n    for value in values:\n        total += value\n\n",
            "    for value in values:\n        total -= value\n",
        ),
        (
            "            for value in values:\n                total += value\n",
            "            for value in values:\n                total -= value\n",
        ),
    ],
    ids=["lost indentation", "blank lines", "too much indentation"],
)
def test_white_space_that_models_lose_is_given_back(search: str, replace: str) -> None:
    assert edited(block(search, replace)) == PROGRAM.replace("+= value", "-= value")


def test_lines_as_they_stand_go_before_lines_that_differ_in_white_space() -> None:
    source = "if x:\n    y = 1\ny = 1\n"
    assert edited(block("y = 1\n", "y = 2\n"), source) == "if x:\n    y = 1\ny = 2\n"


def test_an_indentation_inside_a_block_is_never_guessed() -> None:
    with pytest.raises(ProposalFailed, match="not in g000-c001"):
        edited(block("    for value in values:\n    total += value\n", "    pass\n"))


def test_windows_line_ends_of_a_program_do_not_matter() -> None:
    source = PROGRAM.replace("\n", "\r\n")
    assert "total += 3" in edited(block("        total += value\n", "        total += 3\n"), source)


# -- where it does not -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (block("    total = 1\n", "    total = 2\n"), "block 1 searches for lines that are not in g000-c001: ' "),
        (block("    total = 0\n", "    total = 2\n"), "block 1 is ambiguous: .* 2 times; quote more lines"),
        (block("", "x = 1\n"), "block 1 has an empty SEARCH part"),
        (block("\n  \n", "x = 1\n"), "block 1 has an empty SEARCH part"),
        (
            block("        total += value\n", "        pass\n")
            + block("    for value in values:\n        total += value\n", "    pass\n"),
            "block 2 overlaps an earlier one",
        ),
        (
            block("def solve(values):\n", "def mean(values):\n") + block("def mean(values):\n", "def solve(values):\n"),
            "block 2 is ambiguous",
        ),
        ("<<<<<<< SEARCH\nx\n=======\ny\n", "block 1 is not closed"),
        ("<<<<<<< SEARCH\nx\n", "block 1 is not closed"),
        ("<<<<<<< SEARCH\nx\n>>>>>>> REPLACE\n", "block 1 has no ======= lines"),
        ("<<<<<<< SEARCH\nx\n=======\ny\n=======\nz\n>>>>>>> REPLACE\n", "block 1 has 2 ======= lines"),
        ("<<<<<<< SEARCH\nx\n=======\n" + block("a\n", "b\n"), "block 1 has no >>>>>>> REPLACE"),
        (block("def solve(values):\n", "") + ">>>>>>> REPLACE\n", "without a block of its own"),
        (block("a\n", "b\n") * (MOST_EDITS + 1), "201 edit blocks, more than 200; give the whole program"),
    ],
)  # fmt: skip
def test_a_block_without_its_one_place_says_why(text: str, reason: str) -> None:
    with pytest.raises(ProposalFailed, match=reason):
        edited(text)


def test_a_text_without_blocks_has_none() -> None:
    assert find_edits("I would write <<<<<<< SEARCH, then =======.\n\n=======\nA heading\n=======\n") == []


# -- laws ------------------------------------------------------------------------------------------------------------

lines = st.lists(st.text(alphabet="ab (=:", max_size=6), max_size=12)


@given(before=lines, quoted=lines, after=lines, new=lines)
def test_an_edit_changes_its_place_and_nothing_else(
    before: list[str], quoted: list[str], after: list[str], new: list[str]
) -> None:
    quoted = [*quoted, "the only one"]
    source = "\n".join([*before, *quoted, *after])
    text = block("".join(f"{line}\n" for line in quoted), "".join(f"{line}\n" for line in new))
    assert edited(text, source) == "\n".join([*before, *new, *after])


@given(st.text(alphabet="<>= SEARCHREPLACE\nxy", max_size=300), st.text(alphabet="xy \n", max_size=50))
def test_no_text_breaks_the_parser(text: str, source: str) -> None:
    with contextlib.suppress(ProposalFailed):
        edited(text, source)
