"""Whether a failure is tried again, and after how long.

Rules have no dice: the jitter is drawn from a hash of run, task and attempt, so that a replay draws the same and tasks
that failed together draw differently. Pure.
"""

from __future__ import annotations

import hashlib

from epsilon_lab.messages.tasks import Failure, Retry

_DOUBLINGS = 60
"""Beyond these, any `base_s` worth the name is above any `cap_s`, and a float might overflow."""


def is_tried_again(retry: Retry | None, failure: Failure, failed: int) -> bool:
    """Tell whether a task that has failed so often, this time included, is tried again."""
    return (
        retry is not None
        and failure.retryable
        and failed <= retry.limit
        and not any(name in retry.final for name in failure.error_types)
    )


def pause_s(retry: Retry, run_id: str, task_id: str, attempt: int, failed: int) -> float:
    """Draw the seconds to wait after the `failed`-th failure: even from 0 to `min(cap_s, base_s * 2**(failed - 1))`."""
    most = min(retry.cap_s, retry.base_s * 2.0 ** min(failed - 1, _DOUBLINGS))
    draw = hashlib.blake2b(f"{run_id}\0{task_id}\0{attempt}".encode(), digest_size=8).digest()
    return most * int.from_bytes(draw, "big") / 2**64
