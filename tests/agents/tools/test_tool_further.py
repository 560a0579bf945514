"""Further tasks of the run, where its topology takes them."""

from __future__ import annotations

import pytest

from epsilon_lab.agents.request import Request
from epsilon_lab.agents.tools import ToolError, request_task, submit_task
from epsilon_lab.errors import InvalidInput, LabError
from epsilon_lab.messages.call import Call
from epsilon_lab.messages.values import unpack
from epsilon_lab.settings import FURTHER_LIMIT, INLINE_LIMIT

from .conftest import Hand


@pytest.fixture
def taking(hand: Hand) -> Hand:
    hand.leaf.request = Request(Call(code="", takes_tasks=True), hand.leaf)
    return hand


def test_a_task_is_asked_for_and_counts_with_the_result(taking: Hand) -> None:
    assert taking.call(submit_task, task="Count to ten.").startswith("asked for as item-000000.1, ")
    assert [unpack(item) for item in taking.leaf.further] == ["Count to ten."]


def test_a_topology_that_takes_none_is_said(hand: Hand) -> None:
    for request in (None, Request(Call(code=""), hand.leaf)):
        hand.leaf.request = request
        with pytest.raises(LabError, match="this run takes no further tasks; say in the output what is left to do"):
            hand.call(submit_task, task="x")
    with pytest.raises(ToolError, match="the lab gives its tasks to its agents itself"):
        hand.call(request_task)
    assert hand.leaf.further == ()


def test_tasks_do_not_multiply_without_end(taking: Hand) -> None:
    for _ in range(FURTHER_LIMIT):
        taking.call(submit_task, task="x")
    with pytest.raises(LabError, match="may ask for 100 further ones"):
        taking.call(submit_task, task="x")
    taking.leaf.further = ()
    with pytest.raises(InvalidInput, match="more than 65,536"):
        taking.call(submit_task, task="x" * INLINE_LIMIT)
    taking.leaf.task_id = "item-000000" + 8 * ".1"
    with pytest.raises(LabError, match="end after 8 generations"):
        taking.call(submit_task, task="x")
