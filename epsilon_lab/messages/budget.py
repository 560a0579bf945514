"""What a run may spend, as a value: stated before the start, on record with the run, kept at admission."""

from __future__ import annotations

import msgspec

from epsilon_lab.arguments import number, whole
from epsilon_lab.errors import InvalidInput

_MOST = 10**15
_MOST_SHARE = 1000


class Budget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, repr_omit_defaults=True):
    """What a run may spend; nothing beyond it is begun, and what was begun within it is finished and used.

    A request to a model is admitted before it goes out, each retry as a request of its own. Tokens and money are
    reserved at the most that the request can come to, and what is not used comes back with the reply. A request that
    fits only once others have ended waits for them; one that does not fit at all ends the run. What is on disk already
    (a reply received before, a replay) costs nothing. Calls that a function of your own makes are not seen.

    Args:
        calls: Requests to models.
        tokens: Tokens of prompts and replies together, as the provider counts them. A server that exceeds `max_tokens`
            overdraws it by as much; one that states no count is charged a token a byte.
        usd: US dollars at litellm's list prices, for models that have one.
        seconds: Seconds the run may work; while it is paused they stand still.
        share: Its share of the workers beside other runs: 2 gets two turns for one of a run that says nothing.
        cases: Flagged cases that are put before a decider, decided ones included: those of the highest score, then
            those that were flagged first. The others are rows with the status `deferred`, and can be decided all the
            same. What the run itself waits for, as at a gate, and contradictions between verdicts are not counted.

    Raises:
        InvalidInput: A field is no positive number, or none is given.
    """

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    seconds: float | None = None
    share: float | None = None
    cases: int | None = None

    def __post_init__(self) -> None:
        if not any(getattr(self, name) is not None for name in self.__struct_fields__):
            raise InvalidInput(
                "Budget", "limits nothing", "give calls=, tokens=, usd=, seconds=, share= or cases=, or leave it out"
            )
        for name in ("calls", "tokens", "cases"):
            if (value := getattr(self, name)) is not None:
                msgspec.structs.force_setattr(self, name, whole(f"Budget {name}", value, least=1, most=_MOST))
        for name in ("usd", "seconds"):
            if (value := getattr(self, name)) is not None:
                msgspec.structs.force_setattr(self, name, number(f"Budget {name}", value, least=0, above=True))
        if self.share is not None:
            share = number("Budget share", self.share, least=1 / _MOST_SHARE, most=_MOST_SHARE)
            msgspec.structs.force_setattr(self, "share", share)
