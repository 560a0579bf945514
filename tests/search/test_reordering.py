"""Rankings compared pair by pair: against counting all pairs, with ties and with scores that are gone."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.search.reordering import changes

SCORES = st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 5)), min_size=1, max_size=12)


def of(pairs, direction="maximize"):
    before = {f"c{n}": float(old) for n, (old, _) in enumerate(pairs)}
    after = {f"c{n}": None if new is None else float(new) for n, (_, new) in enumerate(pairs)}
    return {change.candidate_id: change for change in changes(before, after, direction)}


@given(SCORES, st.sampled_from(["maximize", "minimize"]))
def test_flips_are_those_of_counting_all_pairs(pairs, direction):
    found = of(pairs, direction)
    sign = 1 if direction == "maximize" else -1
    flips, partners = dict.fromkeys(found, 0), {name: set() for name in found}
    for (a, (old_a, new_a)), (b, (old_b, new_b)) in itertools.permutations(enumerate(pairs), 2):
        was_better = sign * (old_a - old_b) > 0
        if was_better and new_a is None and new_b is not None:
            flips[f"c{a}"] += 1
        if was_better and None not in (new_a, new_b) and sign * (new_a - new_b) < 0:
            for one, other in ((a, b), (b, a)):
                flips[f"c{one}"] += 1
                partners[f"c{one}"].add(f"c{other}")
    assert {name: change.flipped for name, change in found.items()} == flips
    for name, change in found.items():
        assert change.past in partners[name] or (change.past is None and not partners[name])


@given(SCORES)
def test_ranks_are_those_of_a_competition_and_come_in_order(pairs):
    found = of(pairs)
    for place, (old, new) in enumerate(pairs):
        change = found[f"c{place}"]
        assert change.rank_before == 1 + sum(other > old for other, _ in pairs)
        scored = [other for _, other in pairs if other is not None]
        assert change.rank_after == (None if new is None else 1 + sum(other > new for other in scored))
        assert change.moved == change.rank_before - (change.rank_after or len(scored) + 1)
    ranks = [change.rank_after or 99 for change in found.values()]
    assert ranks == sorted(ranks)


def test_ties_contradict_nobody():
    assert [change.flipped for change in of([(1, 2), (2, 2), (2, 3)]).values()] == [0, 0, 0]


def test_it_is_told_whom_one_has_passed():
    found = of([(9, 1), (8, 8), (7, 7), (1, 9)])
    assert {name: change.past for name, change in found.items()} == {"c0": "c3", "c1": "c0", "c2": "c0", "c3": "c0"}
    assert found["c3"].moved == 3


def test_ten_thousand_that_are_turned_round_are_compared_at_once():
    found = of([(n, -n) for n in range(10_000)])
    assert {change.flipped for change in found.values()} == {9_999}


def test_scores_that_are_better_the_other_way_round_keep_the_order():
    found = changes({"a": 3.0, "b": 2.0, "c": 1.0}, {"a": -3.0, "b": -1.0, "c": -2.0}, "minimize", "maximize")
    assert [(one.candidate_id, one.rank_before, one.rank_after, one.flipped) for one in found] == [
        ("a", 1, 1, 0),
        ("c", 3, 2, 1),
        ("b", 2, 3, 1),
    ]
