"""The archive ranks alike whatever the order of arrival; selection keeps elites and never draws twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.ids import candidate_id
from epsilon_lab.messages.events import CandidateSettled
from epsilon_lab.search.archive import Archive
from epsilon_lab.search.selection import select


def row(name, score, *, checked=None, generation=0, code=None, outcome="scored"):
    return CandidateSettled(
        candidate_id=name,
        generation=generation,
        strategy="fresh",
        outcome=outcome,
        score=score,
        checked=checked,
        code_hash=code or name,
    )


def filled(direction="maximize", count=9):
    archive = Archive(direction)
    archive.add(row("seed", 0.0, checked=True))
    for i in range(count):
        archive.add(row(candidate_id(0, i), float(i), checked=i == count - 1))
    return archive


@given(st.permutations(list(range(8))), st.sampled_from(["maximize", "minimize"]))
def test_ranking_does_not_depend_on_the_order_of_arrival(order, direction):
    rows = [row(f"c{i}", [3.0, 1.0, 3.0, 2.0, 2.0, 0.0, -1.0, 3.0][i], generation=i % 3) for i in range(8)]
    archive, again = Archive(direction), Archive(direction)
    for r in rows:
        archive.add(r)
    for i in order:
        again.add(rows[i])
    assert archive.ranked() == again.ranked()
    scores = [r.score for r in archive.ranked()]
    assert scores == sorted(scores, reverse=direction == "maximize")


def test_only_scored_rows_rank_and_only_checked_ones_are_best():
    archive = Archive("maximize")
    archive.add(row("a", None, outcome="crashed"))
    archive.add(row("b", 5.0))
    archive.add(row("c", 4.0, checked=True))
    assert [r.candidate_id for r in archive.ranked()] == ["b", "c"]
    assert archive.leader.candidate_id == "b"
    assert archive.best.candidate_id == "c"
    assert len(archive) == 3


def test_an_id_is_taken_in_once():
    archive = filled()
    with pytest.raises(ValueError, match="seed"):
        archive.add(row("seed", 1.0))


def test_a_twin_is_found_by_its_program_and_duplicates_are_no_twins():
    archive = Archive("minimize")
    archive.add(row("a", 1.0, code="h"))
    archive.add(row("b", None, code="h2", outcome="duplicate"))
    assert archive.twin_of("h") == "a"
    assert archive.twin_of("h2") is None


def test_generation_0_is_all_fresh():
    selection = select(filled(), generation=0, population=8, elites=2, diverse=2, fresh=2, seed=1)
    assert selection.elites == ()
    assert [slot.strategy for slot in selection.slots] == ["fresh"] * 8


def test_later_generations_keep_elites_and_fill_the_rest():
    selection = select(filled(), generation=1, population=8, elites=2, diverse=2, fresh=2, seed=1)
    assert selection.elites == ("g000-c008", "g000-c007")
    assert [slot.strategy for slot in selection.slots] == ["diverse"] * 2 + ["fresh"] * 2 + ["offspring"] * 2
    for slot in selection.slots:
        if slot.strategy == "diverse":
            assert len(slot.parent_ids) == 1
            assert slot.parent_ids[0] not in selection.elites
        if slot.strategy == "offspring":
            assert len(set(slot.parent_ids)) == 2
            assert slot.parent_ids[0] in selection.elites


@given(st.integers(1, 12), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 12))
def test_every_choice_of_numbers_gives_a_full_generation(population, elites, diverse, fresh, scored):
    if elites + diverse + fresh > population:
        return
    archive = filled(count=scored)
    selection = select(
        archive, generation=3, population=population, elites=elites, diverse=diverse, fresh=fresh, seed=5
    )
    assert len(selection.elites) + len(selection.slots) == population
    assert len({slot.candidate_id for slot in selection.slots}) == len(selection.slots)
    assert selection == select(
        archive, generation=3, population=population, elites=elites, diverse=diverse, fresh=fresh, seed=5
    )


def test_a_search_whose_candidates_all_failed_goes_on_from_the_seed():
    archive = Archive("maximize")
    archive.add(row("seed", 1.0, checked=True))
    selection = select(archive, generation=1, population=6, elites=2, diverse=1, fresh=1, seed=1)
    assert selection.elites == ("seed",)
    assert {p for slot in selection.slots for p in slot.parent_ids} == {"seed"}


def test_a_tie_with_the_seed_program_is_no_gain():
    archive = Archive("maximize")
    archive.add(row("g000-c000", 1.0, checked=True))
    archive.add(row("seed", 1.0, checked=True))
    assert archive.best.candidate_id == "seed"
