"""Values that a lab runs by: frozen, with defaults that work, handed down by the composition root.

Few ever need another: a cluster whose network pauses for longer than a lease, a drill that cannot wait for one. So they
are no argument of `Lab`; `EPSILON_LEASE_S=30` in the environment of the process that opens it is the field `lease_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from epsilon_lab.errors import InvalidInput

INLINE_LIMIT = 64 * 1024
"""Bytes: a payload or output up to this size lives in the journal, a larger one in a file of the run directory."""

FURTHER_LIMIT = 100
"""Further tasks that one task may ask for."""

SEGMENT_BYTES = 64 * 1024 * 1024
"""Bytes: a journal's file of this length is full, and the next group begins another one."""

LEAF_BYTES = 512 * 1024 * 1024
"""Bytes of files that one attempt may publish, in all."""

LEAF_FILES = 10_000
"""Files that one attempt may publish."""

TAIL_LIMIT = 4_000
"""Characters of stdout and stderr kept with a failure."""

Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker's rules are tuned by."""

    lease_s: Seconds = 10.0
    """Seconds a session may be silent before its work is given to others."""

    beat_s: Seconds = 2.0
    """Seconds between a session's renewals."""

    tick_s: Seconds = 0.5
    """Seconds between the broker's looks at deadlines."""

    grace_s: Seconds = 1.0
    """Seconds a process may go on with a cancelled task before it is killed."""

    poison_limit: Count = 3
    """How many times a task may take its worker down with it before it is dead-lettered."""

    prefetch: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Tasks a worker may hold beyond its slots while nothing is known of their duration."""

    credit_max: Count = 256
    """Most tasks a worker may hold when tasks turn out to be short."""

    credit_window_s: Seconds = 0.02
    """Seconds of work that a worker may hold in advance."""

    queue_tasks: Count = 1_000_000
    """Most open tasks that the broker takes, over all runs; whoever submits more is held back."""

    queue_bytes: Count = 2**30
    """Most bytes of their payloads."""

    disk_reserve_bytes: Annotated[int, msgspec.Meta(ge=0)] = 64 * 1024 * 1024
    """Bytes that stay free on the workspace's disk for what is under way: with less left, nothing more is begun."""

    key_lifetime_s: Seconds = 300.0
    """Seconds for which the id of a settled task is remembered at least, so that a repeated submission is known."""

    adoption_grace_s: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 5.0
    """Seconds for which tasks that an earlier broker had handed out are left to the workers that may still be at them;
    those of its own end with it, and are not waited for."""

    aging: Annotated[float, msgspec.Meta(ge=0)] = 1 / 60
    """By how much a task's priority grows in a second of waiting; 0 lets larger priorities starve smaller ones."""


def broker_settings(environ: Mapping[str, str]) -> BrokerSettings:
    """Read the settings off an environment: each field is the variable `EPSILON_` and its name in capitals, if set.

    Raises:
        InvalidInput: A value is not one of that field's, or a session could not beat twice in a lease; the message
            names the variable.
    """
    found = {}
    for field in msgspec.structs.fields(BrokerSettings):
        name = f"EPSILON_{field.name.upper()}"
        if name in environ:
            try:
                found[field.name] = msgspec.convert(environ[name], field.type, strict=False)
            except msgspec.ValidationError as error:
                raise InvalidInput(name, f"must be a setting of the broker, got {environ[name]!r} ({error})") from error
    settings = BrokerSettings(**found)
    if settings.lease_s < 2 * settings.beat_s:
        raise InvalidInput(
            "EPSILON_LEASE_S",
            f"must be at least two beats, got {settings.lease_s:g} s and a beat of {settings.beat_s:g} s",
            "set EPSILON_BEAT_S too",
        )
    return settings
