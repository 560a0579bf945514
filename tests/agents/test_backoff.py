"""A request is sent again when it may help and costs nothing known, and not all at once."""

from __future__ import annotations

import random
import time
from email.utils import formatdate

import pytest

from epsilon_lab.agents.answer import NoAnswer, asked_wait_s
from epsilon_lab.agents.backoff import LONGEST_WAIT_S, is_passing, wait_s


@pytest.mark.parametrize(
    ("why", "passing"),
    [
        (NoAnswer("status", status=429), True),
        (NoAnswer("status", status=500), True),
        (NoAnswer("status", status=529), True),
        (NoAnswer("unreachable"), True),
        (NoAnswer("broken"), True),
        (NoAnswer("status", status=429, wait_s=LONGEST_WAIT_S), True),
        (NoAnswer("status", status=429, wait_s=LONGEST_WAIT_S + 1), False),
        (NoAnswer("status", status=400), False),
        (NoAnswer("status", status=401), False),
        (NoAnswer("timeout"), False),
        (NoAnswer("unusable"), False),
        (NoAnswer("elsewhere", status=307), False),
    ],
    ids=lambda value: f"{value.kind} {value.status} {value.wait_s}" if isinstance(value, NoAnswer) else "",
)
def test_what_is_sent_again(why: NoAnswer, passing: bool) -> None:
    assert is_passing(why) is passing


def test_waits_double_up_to_a_limit_and_a_half_of_each_is_chance() -> None:
    for attempt, most in ((0, 1.0), (1, 2.0), (3, 8.0), (30, LONGEST_WAIT_S)):
        waits = [wait_s(NoAnswer("unreachable"), attempt, random.Random(seed)) for seed in range(200)]
        assert most / 2 <= min(waits) < most * 0.55
        assert most * 0.95 < max(waits) <= most


def test_a_server_that_names_a_time_is_obeyed() -> None:
    waits = [wait_s(NoAnswer("status", status=429, wait_s=8.0), 0, random.Random(seed)) for seed in range(200)]
    assert min(waits) >= 8.0
    assert 9.5 < max(waits) <= 10.0
    assert wait_s(NoAnswer("status", status=429, wait_s=0.0), 5, random.Random(1)) == 0


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"Retry-After-Ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_the_asked_wait_is_read_in_its_forms(headers: dict[str, str], asked: float | None) -> None:
    assert asked_wait_s(headers) == asked


def test_the_asked_wait_may_be_a_date() -> None:
    found = asked_wait_s({"Retry-After": formatdate(time.time() + 100, usegmt=True)})
    assert found is not None
    assert 50 < found <= 101
    assert asked_wait_s({"Retry-After": formatdate(0, usegmt=True)}) == 0
