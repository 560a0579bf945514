"""What is due comes up, once, and what was forgotten leaves memory."""

import hypothesis.strategies as st
from hypothesis import given

from epsilon_lab.broker.timers import Timers


def test_what_is_due_comes_once_and_earliest_first():
    timers = Timers()
    for key, at in enumerate([3.0, 1.0, 2.0, 9.0]):
        timers.set(key, at, f"t{key}")
    assert timers.next_at == 1.0
    assert timers.due(3.0) == ["t1", "t2", "t0"]
    assert timers.due(3.0) == []
    assert timers.next_at == 9.0


def test_the_last_word_on_an_item_counts():
    timers = Timers()
    timers.set(1, 1.0, "later")
    timers.set(1, 5.0, "later")
    timers.set(2, 5.0, "sooner")
    timers.set(2, 1.0, "sooner")
    assert timers.due(1.0) == ["sooner"]
    assert timers.next_at == 5.0
    timers.forget(1)
    timers.forget(1)
    assert timers.next_at is None
    assert timers.due(9.0) == []


def test_what_was_forgotten_leaves_memory():
    """A deadline of a day must not keep a task that took a millisecond."""
    timers = Timers()
    for key in range(10_000):
        timers.set(key, 86_400.0, object())
        timers.forget(key)
    assert len(timers) == 0
    assert len(timers._heap) < 100


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 9)))), st.integers(0, 9))
def test_it_is_as_a_scan_would_have_it(changes, now):
    timers, scan = Timers(), {}
    for key, at in changes:
        if at is None:
            timers.forget(key)
            scan.pop(key, None)
        else:
            timers.set(key, at, key)
            scan[key] = at
    assert timers.next_at == min(scan.values(), default=None)
    assert sorted(timers.due(now)) == sorted(key for key, at in scan.items() if at <= now)
    assert sorted(timers) == sorted(key for key, at in scan.items() if at > now)
