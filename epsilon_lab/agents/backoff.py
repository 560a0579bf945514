"""When a request to a model is sent again, and after how long.

Sent again is what no answer was begun to: a refusal for the moment (HTTP 429), a failure of the server (5xx), no
connection, or one that broke. What was answered is not, nor what ran out of time: it has been paid for, as far as one
can know, and would be paid for twice. A server's failure may have been paid for as well; its row says so.

The wait doubles from one second on, and a part of it is chance, so that many callers who were refused together do not
come back together. A server that names a time is obeyed; one that names a long one is not waited for, because a task
that sleeps for an hour only looks alive.
"""

from __future__ import annotations

import random

from epsilon_lab.agents.answer import NoAnswer

LONGEST_WAIT_S = 60.0
"""Seconds between two requests; a server that asks for more is not asked again."""


def is_passing(no_answer: NoAnswer) -> bool:
    """Tell whether a request may be sent again."""
    if (no_answer.wait_s or 0.0) > LONGEST_WAIT_S:
        return False
    if no_answer.kind == "status":
        assert no_answer.status is not None
        return no_answer.status == 429 or no_answer.status >= 500
    return no_answer.kind in ("unreachable", "broken")


def wait_s(no_answer: NoAnswer, attempt: int, dice: random.Random) -> float:
    """Seconds to wait before the next request.

    Args:
        no_answer: What became of the last one.
        attempt: How many were sent before it.
        dice: Chance.
    """
    if no_answer.wait_s is not None:
        return no_answer.wait_s * (1 + dice.random() / 4)
    return min(2.0**attempt, LONGEST_WAIT_S) * (1 + dice.random()) / 2
