"""Who decides a case, so that whoever reads a result later knows how much a verdict weighs.

A decision names its decider and whether that is a person, a model or a rule, because the three do not weigh the same.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from epsilon_lab.arguments import text
from epsilon_lab.errors import InvalidInput

DeciderKind = Literal["HUMAN", "LLM", "CODE"]

AUTHORITY: tuple[DeciderKind, ...] = ("HUMAN", "CODE", "LLM")
"""Whose verdicts weigh more than whose, unless a run says otherwise; the highest first."""


class Decider(msgspec.Struct, frozen=True):
    """Whoever decides.

    Args:
        name: Who.
        kind: `HUMAN`, `LLM` or `CODE`.
        roles: What they may decide: a case may ask for one of these.

    Raises:
        InvalidInput: A field has a wrong type or value.
    """

    name: str
    kind: DeciderKind = "HUMAN"
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        text("Decider name", self.name)
        if self.kind not in get_args(DeciderKind):
            raise InvalidInput("Decider kind", f"must be one of {', '.join(get_args(DeciderKind))}, got {self.kind!r}")
        given: object = self.roles
        names = given if isinstance(given, list | tuple) else (given,)
        msgspec.structs.force_setattr(self, "roles", tuple(text("Decider role", name) for name in names))
