"""Answers on their way to the broker, many in a frame, and what becomes of one that is too large for any."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from epsilon_lab.broker.client import Peer
from epsilon_lab.errors import BadFrame
from epsilon_lab.messages.tasks import Failure, Result


def send_answers(peer: Peer, answers: Sequence[Result | Failure]) -> None:
    """Send answers in one frame; if that is too large each alone, and one that cannot be sent as a failure."""
    try:
        peer.done(
            results=tuple(answer for answer in answers if isinstance(answer, Result)),
            failures=tuple(answer for answer in answers if isinstance(answer, Failure)),
        )
    except BadFrame as error:
        if len(answers) > 1:
            for answer in answers:
                send_answers(peer, [answer])
        elif isinstance(answers[0], Result):
            send_answers(peer, [_too_large(answers[0], str(error))])
        else:
            send_answers(peer, [msgspec.structs.replace(answers[0], events=())])


def _too_large(result: Result, error: str) -> Failure:
    return Failure(
        task_id=result.task_id,
        run_id=result.run_id,
        fence=result.fence,
        outcome="failed",
        error=f"the answer with its {len(result.events)} events cannot be sent: {error}",
        started_at=result.started_at,
        ended_at=result.ended_at,
        retryable=False,
    )
