"""What all lines of a journal have in common."""

from __future__ import annotations

import msgspec


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all event bodies."""
