"""Somebody to ask: a `flag` that keeps what it is asked and answers what was decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from epsilon_lab.messages.values import is_plain, plain


class Decider:
    """A flag, as a leaf's is: what it is asked, by key, and the verdicts it gives."""

    def __init__(self, verdicts: Mapping[Any, str]) -> None:
        self._verdicts = verdicts
        self.asked: dict[Any, dict[str, Any]] = {}

    def __call__(self, *, key: Any, question: str, options: list[str] | tuple[str, ...], **more: Any) -> str | None:
        assert is_plain(plain(key))
        assert question
        assert more.keys() <= {"evidence", "reason", "score", "kind"}
        assert len(set(options)) == len(options) >= 2
        assert all(option.strip() for option in options)
        name = tuple(key) if isinstance(key, list) else key
        assert name not in self.asked
        self.asked[name] = {"question": question, "options": list(options), **more}
        verdict = self._verdicts.get(name)
        assert verdict is None or verdict in options
        return verdict

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decider) and self._written() == other._written()

    __hash__ = None  # type: ignore[assignment]

    def _written(self) -> bytes:
        return msgspec.json.encode([[repr(key), plain(case)] for key, case in self.asked.items()], order="sorted")


@pytest.fixture(scope="session")
def decider() -> Callable[..., Decider]:
    """Makes one, of verdicts by key; a list is a tuple there."""
    return lambda verdicts=None: Decider(verdicts or {})
