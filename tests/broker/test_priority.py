"""What comes before what: priority, made up for by waiting, changed by people; and the share of a run."""

import pytest

from epsilon_lab import Budget
from epsilon_lab.broker.stimuli import CloseRun, OpenRun, OpenTask, Reprioritise
from epsilon_lab.errors import InvalidInput


@pytest.fixture
def one(make_table):
    """A table with one worker that holds one task at a time."""
    table = make_table(prefetch=0, aging=0.5)
    table.join()
    return table


def order(table):
    """Execute everything; in which order it came."""
    came = []
    while given := table.assigned():
        [[task_id]] = given.values()
        came.append(task_id)
        table.done("s/w1", task_id)
    return came


@pytest.mark.parametrize(("seconds", "first"), [(9.0, "urgent"), (11.0, "patient")])
def test_waiting_makes_up_for_priority_at_the_rate_of_aging(one, seconds, first):
    one.submit("patient")
    one.now += seconds
    one.submit("urgent", priority=5)
    assert order(one)[0] == first


def test_without_aging_priority_is_absolute(make_table):
    table = make_table(prefetch=0, aging=0.0)
    table.join()
    table.submit("patient")
    table.now += 1e6
    table.submit("urgent", priority=1)
    assert order(table) == ["urgent", "patient"]


def test_priority_and_then_age(one):
    one.submit("a", "b")
    one.submit("c", priority=2)
    one.submit("d", priority=-1)
    one.now += 0.1
    one.submit("e")
    assert order(one) == ["c", "a", "b", "e", "d"]


def test_a_person_puts_a_task_before_or_behind_the_others(one):
    one.submit(*"abcd")
    assert one.step(Reprioritise("r", "d", 9)) == []
    one.step(Reprioritise("r", "a", -9))
    assert order(one) == ["d", "b", "c", "a"]


def test_a_task_that_is_not_waiting_is_put_there_when_it_comes_back(one):
    one.boss()
    one.submit("a", "b", retries=1)
    assert one.assigned() == {"s/w1": ["a"]}
    one.step(Reprioritise("r", "a", -9))
    one.fail("s/w1", "a")
    assert order(one) == ["b", "a"]
    one.submit("late", delay_s=5.0)
    one.step(Reprioritise("r", "late", 9))
    assert order(one) == []
    one.submit("c")
    one.now += 5
    assert order(one) == ["late", "c"]


@pytest.mark.parametrize(("run_id", "task_id"), [("r", "x"), ("q", "a"), ("r", "done")])
def test_what_is_not_there_is_passed_over(one, run_id, task_id):
    one.submit("done")
    order(one)
    one.submit("a")
    assert one.step(Reprioritise(run_id, task_id, 5)) == []
    assert order(one) == ["a"]


def test_a_task_keeps_age_and_priority_across_brokers(one, make_spec):
    left = (OpenTask(make_spec("old"), age_s=20.0), OpenTask(make_spec("raised"), priority=30))
    one.step(OpenRun("q", "/runs/q", left))
    one.submit("urgent", priority=9, run_id="q")
    assert order(one) == ["raised", "old", "urgent"]


def test_workers_are_shared_by_weight(one):
    one.step(CloseRun("r"))
    for run_id, weight in [("p", 3.0), ("q", 1.0)]:
        one.step(OpenRun(run_id, f"/runs/{run_id}", weight=weight))
        one.submit(*[f"{run_id}{n}" for n in range(40)], run_id=run_id)
    came = order(one)
    assert sum(name.startswith("p") for name in came[:20]) == 15
    assert sorted(came[-10:]) == sorted(f"q{n}" for n in range(30, 40))


def test_a_share_is_part_of_a_budget():
    assert Budget(share=2).share == 2
    for bad in (0, -1, 1e9, True, "2"):
        with pytest.raises(InvalidInput, match="Budget share"):
            Budget(share=bad)
