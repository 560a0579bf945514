"""What a run has spent, and whether it may spend more: the one place where a budget is kept.

A model's price is known only once it has answered, and many requests are in flight at once. A check of what was spent
so far would therefore let through as many requests too many as are in flight. So a request is charged the most it can
come to from the moment it is admitted, and its real price replaces that when it is told. What never answers (a crash,
a time limit) stays charged: it may have been billed.

The ledger is a fold of a run's `usage.llm_call` lines, each request as its latest line tells it, and of nothing else:
a run that is taken up again goes on with the ledger of its journal. Money is counted in whole picodollars, so that
sums are exact and do not depend on the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.events import Ceiling, LlmCall

REPLY_TOKENS = 4096
"""Most tokens of a reply where tokens or money are limited and the model has no `max_tokens` of its own."""

LEAST_REPLY_TOKENS = 256
"""A reply is not cut shorter than this to fit what is left: it would be paid for and of no use."""

_PICO = 10**12

_Key = tuple[str, int, str]


class Spent(NamedTuple):
    """A sum of requests."""

    calls: int = 0
    tokens: int = 0
    picodollars: int = 0

    @property
    def usd(self) -> float:
        """In US dollars."""
        return self.picodollars / _PICO

    def plus(self, other: Spent) -> Spent:
        """Both together."""
        return Spent(*(mine + its for mine, its in zip(self, other, strict=True)))

    def less(self, other: Spent) -> Spent:
        """The one without the other."""
        return Spent(*(mine - its for mine, its in zip(self, other, strict=True)))


class Wait(NamedTuple):
    """The request fits once others that are in flight have ended for less than they may."""


class Deny(NamedTuple):
    """The request will never fit."""

    reason: str


class Admit(NamedTuple):
    """The request may go out."""

    call: LlmCall
    """Its line, with the most that its reply may take."""


class Ledger:
    """What one run has spent of its budget.

    Args:
        budget: None where nothing is limited.
        calls: The run's `usage.llm_call` lines so far, in the order of its journal.

    Attributes:
        budget: What may be spent.
        spent: What is, requests in flight at the most they can come to.
    """

    def __init__(self, budget: Budget | None = None, calls: Iterable[LlmCall] = ()) -> None:
        self.budget = budget
        self.spent = Spent()
        self._charges: dict[_Key, Spent] = {}
        self._in_flight: dict[_Key, int] = {}
        self._closed = ""
        for call in calls:
            self.take(call)

    @property
    def weight(self) -> float:
        """How many turns at the workers its run gets for one of a run that says nothing."""
        return 1.0 if self.budget is None or self.budget.share is None else self.budget.share

    def knows(self, call: LlmCall) -> bool:
        """Tell whether this very request was admitted before."""
        return _key(call) in self._charges

    def take(self, call: LlmCall, fence: int | None = None) -> None:
        """Charge what a line says, in place of what its request was charged before.

        Args:
            call: A line on record.
            fence: The attempt that is about to send the request; None for what is not, or no longer, in flight.
        """
        key = _key(call)
        if key not in self._charges and call.outcome in ("cached", "refused"):
            return
        if not call.request:  # no later line replaces this one
            key = (*key[:2], f"#{len(self._charges)}")
        before = self._charges.get(key, _NOTHING)
        charge = self._charges[key] = _charge(call, before)
        self.spent = self.spent.less(before).plus(charge)
        self._in_flight.pop(key, None)
        if fence is not None:
            self._in_flight[key] = fence

    def land(self, is_held: Callable[[str, int], bool]) -> None:
        """Take requests for ended whose attempt has ended: nothing more will be told of them.

        Args:
            is_held: Whether a task's attempt, by its fence, is still in a worker's hands.
        """
        self._in_flight = {key: fence for key, fence in self._in_flight.items() if is_held(key[0], fence)}

    def close(self, reason: str) -> None:
        """Admit nothing more, as when the time is over."""
        self._closed = self._closed or reason

    def admit(self, call: LlmCall) -> Admit | Wait | Deny:
        """Say whether a request may go out now; `take` its line if it may.

        Args:
            call: The request's first line, which tells the most it can come to.
        """
        budget = self.budget
        if self._closed:
            return Deny(self._closed)
        if budget is None:
            return Admit(call)
        if budget.calls is not None and self.spent.calls >= budget.calls:
            return Deny(f"the budget of {_calls(budget.calls)} was used up")
        if budget.tokens is None and budget.usd is None:
            return Admit(call)
        if call.most is None:
            return Deny(f"the request to {call.model} does not say what it can come to, so its budget cannot be kept")
        if budget.usd is not None and call.most.prices is None:
            return Deny(f"nobody knows the price of {call.model}, so the budget of ${budget.usd:g} cannot be kept")
        return self._weigh(budget, call, call.most)

    def _weigh(self, budget: Budget, call: LlmCall, most: Ceiling) -> Admit | Wait | Deny:
        """Hold the most a request can come to against what is left of tokens and money."""
        ended = self.spent
        for key in self._in_flight:
            ended = ended.less(self._charges[key])
        if most.reply_tokens is None:
            room = _reply_room(budget, ended, most)
            most = msgspec.structs.replace(most, reply_tokens=max(LEAST_REPLY_TOKENS, min(room, REPLY_TOKENS)))
            call = msgspec.structs.replace(call, most=most)
        own = _charge(call, _NOTHING)
        if budget.tokens is not None and ended.tokens + own.tokens > budget.tokens:
            return _too_dear(f"{budget.tokens:,} tokens", f"{ended.tokens:,}", f"{own.tokens:,}", first=not ended.calls)
        if budget.usd is not None and ended.picodollars + own.picodollars > _pico(budget.usd):
            return _too_dear(f"${budget.usd:g}", f"${ended.usd:.4g}", f"${own.usd:.4g}", first=not ended.calls)
        after = self.spent.plus(own)
        if budget.tokens is not None and after.tokens > budget.tokens:
            return Wait()
        if budget.usd is not None and after.picodollars > _pico(budget.usd):
            return Wait()
        return Admit(call)


_NOTHING = Spent()


def _key(call: LlmCall) -> _Key:
    return call.task_id, call.call, call.request


def _charge(call: LlmCall, before: Spent) -> Spent:
    """What a request's line says it came to: as told, else the most it can be, else as before."""
    most = call.most
    told = (call.prompt_tokens, call.completion_tokens)
    bound = None if most is None or most.reply_tokens is None else (most.prompt_tokens, most.reply_tokens)
    tokens = before.tokens
    if told[0] is not None and told[1] is not None:
        tokens = told[0] + told[1]
    elif bound is not None:
        tokens = sum(bound)
    money = before.picodollars
    if call.cost_usd is not None:
        money = _pico(call.cost_usd)
    elif bound is not None and most is not None and most.prices is not None:
        money = sum(count * _pico(price) for count, price in zip(bound, most.prices, strict=True))
    return Spent(1, tokens, money)


def _too_dear(limit: str, spent: str, need: str, *, first: bool) -> Deny:
    if first:
        return Deny(f"the budget of {limit} does not pay for one request, which may take {need}")
    return Deny(f"the budget of {limit} was used up ({spent} spent, and another request may take {need})")


def _reply_room(budget: Budget, ended: Spent, most: Ceiling) -> int:
    """Tokens a reply may take at most, by what is left for good."""
    rooms = [REPLY_TOKENS]
    if budget.tokens is not None:
        rooms.append(budget.tokens - ended.tokens - most.prompt_tokens)
    if budget.usd is not None and most.prices is not None and any(most.prices):
        prompt, reply = map(_pico, most.prices)
        left = _pico(budget.usd) - ended.picodollars - most.prompt_tokens * prompt
        rooms.append(left // max(reply, 1))
    return min(rooms)


def _pico(usd: float) -> int:
    return round(usd * _PICO)


def _calls(count: int) -> str:
    return f"{count:,} call{'s' if count != 1 else ''}"
