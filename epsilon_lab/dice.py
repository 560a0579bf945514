"""Chance by the front door: every stream of random numbers is named by a seed and a path.

Streams with different paths are independent, and none depends on the order in which others are drawn: that is what
makes a search repeatable at any parallelism.
"""

from __future__ import annotations

import hashlib
import random


def dice(seed: int, *path: str | int) -> random.Random:
    """Make the random stream that belongs to a seed and a path, the same in every process and Python run."""
    text = "/".join([str(seed), *map(str, path)])
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))
