"""Agreement between deciders: against a plain computation, and at its edges."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsilon_lab.cases.agreement import Given, agreements, confusion, kappa, said_by

verdicts = st.sampled_from(["same", "different", "unclear"])


def plain_kappa(one, other):
    """The formula as it stands in the paper, over two lists, in floating point."""
    n = len(one)
    observed = sum(a == b for a, b in zip(one, other, strict=True)) / n
    expected = sum(one.count(verdict) / n * other.count(verdict) / n for verdict in set(one) | set(other))
    return (observed - expected) / (1 - expected) if expected < 1 - 1e-12 else math.nan


@given(st.lists(st.tuples(verdicts, verdicts), min_size=1, max_size=40))
def test_kappa_is_the_formula(pairs):
    one, other = map(list, zip(*pairs, strict=True))
    said = {"ann": dict(enumerate(one)), "bo": dict(enumerate(other))}
    (found,) = agreements(said)
    assert (found.cases, found.agreed) == (len(pairs), sum(a == b for a, b in pairs))
    assert found.share == found.agreed / found.cases
    assert found.kappa == pytest.approx(plain_kappa(one, other), nan_ok=True)


@given(st.lists(st.tuples(verdicts, verdicts), min_size=1, max_size=40))
def test_agreement_does_not_depend_on_who_is_named_first(pairs):
    counted = confusion(*(dict(enumerate(side)) for side in zip(*pairs, strict=True)))
    turned = {(other, one): count for (one, other), count in counted.items()}
    assert kappa(counted) == pytest.approx(kappa(turned), nan_ok=True)
    assert math.isnan(kappa(counted)) or -1 <= kappa(counted) <= 1


def test_kappa_of_the_worked_example():
    """Two readers of 50 proposals who agree on 35 and say yes to 25 and 30 of them: kappa 0.4."""
    assert kappa({("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}) == pytest.approx(0.4)


def test_kappa_is_undefined_where_chance_alone_agrees_always():
    assert math.isnan(kappa({("same", "same"): 7}))
    assert math.isnan(kappa({}))
    assert kappa({("same", "different"): 7}) == 0  # each always says one thing, and not the same: defined


def test_a_decider_says_what_he_gave_last_and_is_judged_on_common_cases_alone():
    said = said_by(
        [
            Given("c1", "ann", "same"),
            Given("c1", "bo", "different"),
            Given("c1", "ann", "different"),
            Given("c2", "ann", "same"),
            Given("c3", "cy", "same"),
        ]
    )
    assert said["ann"] == {"c1": "different", "c2": "same"}
    (found,) = agreements(said)
    assert (found.decider, found.other, found.cases, found.share) == ("ann", "bo", 1, 1.0)
