"""What a user holds shows itself in one line, and as escaped HTML."""

import pytest

from epsilon_lab import LLM, PopulationSearch, Problem, Replay, WorkQueue, problems

HOSTILE = "<script>alert(1)</script>"


def toy():
    return Problem(HOSTILE, "Return a number.", "def solve():\n    return 1\n", score=float)


@pytest.mark.parametrize(
    "thing",
    [
        toy(),
        problems.cap_set(n=4),
        PopulationSearch(toy()),
        WorkQueue([1], abs),
        LLM(HOSTILE),
        Replay({"g000-c000": HOSTILE}),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_a_public_object_shows_itself_calmly(thing):
    assert "\n" not in repr(thing)
    assert thing._repr_html_().startswith("<code>")
    assert "<script>" not in thing._repr_html_()
