"""Values that a lab runs by: frozen, with defaults that work, handed down by the composition root."""

from __future__ import annotations

import msgspec

INLINE_LIMIT = 64 * 1024
"""Bytes: a payload or output up to this size lives in the journal, a larger one in a file of the run directory."""

TAIL_LIMIT = 4_000
"""Characters of stdout and stderr kept with a failure."""


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker's rules are tuned by."""

    lease_s: float = 10.0
    """Seconds a session may be silent before its work is given to others."""

    beat_s: float = 2.0
    """Seconds between a session's renewals."""

    tick_s: float = 0.5
    """Seconds between the broker's looks at deadlines."""

    grace_s: float = 1.0
    """Seconds a process may go on with a cancelled task before it is killed."""

    poison_limit: int = 3
    """How many times a task may take its worker down with it before it is dead-lettered."""

    prefetch: int = 1
    """Tasks a worker may hold beyond its slots while nothing is known of their duration."""

    credit_max: int = 256
    """Most tasks a worker may hold when tasks turn out to be short."""

    credit_window_s: float = 0.02
    """Seconds of work that a worker may hold in advance."""
