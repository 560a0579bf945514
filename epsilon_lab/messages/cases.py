"""Who decides a case, and what is said to a run about one.

A decision names its decider and whether that is a person, a model or a rule, because the three do not weigh the same
when a result is read later.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from epsilon_lab.arguments import text
from epsilon_lab.errors import InvalidInput

DeciderKind = Literal["HUMAN", "LLM", "CODE"]


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


class Decide(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """News to a run: a case is decided."""

    case_id: str
    verdict: str
    decider: Decider
    note: str = ""
    force: bool = False
    """Whether it may take the place of an earlier verdict."""

    number: int
    """How many verdicts the case has with this one, as far as its decider knows: of two who decide it at the very same
    time, one is refused."""
