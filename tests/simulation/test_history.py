"""The checker must see each broken promise, and must not cry wolf over what at-least-once allows."""

import pytest

from epsilon_lab.simulation.history import Event, check

SOUND = "submit:a acknowledge:a start:a end:a=1 accept:a=1"


def history(text):
    """`kind:task=value` words, a second apart."""
    events = []
    for at, word in enumerate(text.split()):
        kind, _, rest = word.partition(":")
        task, _, value = rest.partition("=")
        events.append(Event(kind=kind, task=task, at=float(at), value=value))
    return events


def test_a_sound_history_breaks_no_promise():
    verdict = check(history(SOUND))
    assert verdict.broken == {}
    assert (verdict.submitted, verdict.acknowledged, verdict.accepted, verdict.executions) == (1, 1, 1, 1)
    assert "0 lost" in str(verdict)


@pytest.mark.parametrize(
    ("text", "promise"),
    [
        ("submit:a acknowledge:a start:a end:a=1", "lost"),
        (f"{SOUND} start:a end:a=2 accept:a=2", "accepted_twice"),
        (f"{SOUND} give_up:a=dead", "accepted_twice"),
        ("submit:a acknowledge:a give_up:a=dead give_up:a=failed", "accepted_twice"),
        ("start:a end:a=1 accept:a=1", "unexpected"),
        ("submit:a refuse:a start:a end:a=1 accept:a=1", "unexpected"),
        ("submit:a acknowledge:a start:a accept:a=1", "unproduced"),
        ("submit:a acknowledge:a start:a end:a=1 accept:a=2", "unproduced"),
    ],
)
def test_a_broken_promise_is_named_with_its_task(text, promise):
    verdict = check(history(text))
    assert verdict.broken == {promise: ("a",)}
    assert f"{promise}: a" in str(verdict)


@pytest.mark.parametrize(
    "text",
    [
        "submit:a start:a end:a=1 accept:a=1",  # cut off before the promise
        "submit:a",  # never promised
        "submit:a refuse:a",
        "submit:a acknowledge:a start:a start:a end:a=2 accept:a=2 end:a=1",  # a zombie comes too late
        f"{SOUND} accept:a=1",  # read twice
        "submit:a acknowledge:a give_up:a=cancelled",
    ],
)
def test_what_at_least_once_allows_is_no_broken_promise(text):
    assert check(history(text)).broken == {}


def test_what_was_executed_twice_redone_or_recovered_is_reported():
    verdict = check(history(f"{SOUND} start:a submit:b start:b end:b=1 accept:b=1"))
    assert (verdict.executed_twice, verdict.redone, verdict.recovered) == (("a",), ("a",), ("b",))
