"""Environment variables that a run's tasks were granted: there while they run, and gone for the next run's."""

from __future__ import annotations

import os
from collections.abc import Mapping


class Grants:
    """What a child has in its environment beyond what it was born with."""

    def __init__(self) -> None:
        self._given: Mapping[str, str] | None = None
        self._before: dict[str, str | None] = {}

    def give(self, env: Mapping[str, str] | None) -> None:
        """Have these and no others, name -> value; None for none."""
        if env == self._given:
            return
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._given, self._before = env, {name: os.environ.get(name) for name in env or ()}
        os.environ.update(env or {})
