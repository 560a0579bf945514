"""A run's ledger against a provider that bills: whatever the order of asking, answering, dying, never over budget."""

import math

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from epsilon_lab import Budget
from epsilon_lab.broker.ledger import LEAST_REPLY_TOKENS, REPLY_TOKENS, Admit, Deny, Ledger, Spent, Wait
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.events import Ceiling, LlmCall

PRICES = (0.15e-6, 0.6e-6)


def asked(name="t", request="1.0", prompt=100, reply=50, prices=PRICES, **fields):
    """The first line of a request."""
    most = Ceiling(prompt_tokens=prompt, reply_tokens=reply, prices=prices)
    given = {"task_id": name, "call": 0, "model": "m", "outcome": "unknown", "prompt_ref": "p", "prompt_sha256": "0"}
    return LlmCall(**given | {"request": request, "most": most} | fields)


def answered(call, prompt=None, reply=None, outcome="ok", **fields):
    """Its last line."""
    known = {"prompt_tokens": prompt, "completion_tokens": reply, "most": None}
    if prompt is not None:
        known["cost_usd"] = prompt * PRICES[0] + reply * PRICES[1]
    return msgspec.structs.replace(call, outcome=outcome, **known | fields)


def let_out(ledger, call, fence=1):
    admitted = ledger.admit(call)
    assert isinstance(admitted, Admit), admitted
    ledger.take(admitted.call, fence)
    return admitted.call


# -- the value ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["calls", "tokens", "usd", "seconds"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "10"])
def test_a_budget_that_is_no_positive_number_is_refused_by_name(field, value):
    with pytest.raises(InvalidInput, match=f"Budget {field}"):
        Budget(**{field: value})


def test_a_budget_of_nothing_and_of_half_a_call_is_refused():
    with pytest.raises(InvalidInput, match="limits nothing"):
        Budget()
    with pytest.raises(InvalidInput, match="Budget calls"):
        Budget(calls=1.5)


def test_a_budget_is_written_and_read_as_json():
    budget = Budget(calls=np.int64(3), usd=0.5)
    assert msgspec.json.encode(budget) == b'{"calls":3,"usd":0.5}'
    assert msgspec.json.decode(b'{"calls":3,"usd":0.5}', type=Budget) == budget
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"calls":0}', type=Budget)


# -- calls -------------------------------------------------------------------------------------------------------------


def test_calls_in_flight_count():
    ledger = Ledger(Budget(calls=2))
    let_out(ledger, asked("a"))
    let_out(ledger, asked("b"))
    assert ledger.admit(asked("c")) == Deny("the budget of 2 calls was used up")


def test_a_retry_is_a_request_of_its_own_and_a_line_told_twice_is_one():
    ledger = Ledger(Budget(calls=3))
    first = let_out(ledger, asked("a", "1.0"))
    for _ in range(2):
        ledger.take(answered(first, 0, 0, "error"))
    assert ledger.knows(first)
    let_out(ledger, asked("a", "1.1"))
    assert ledger.spent.calls == 2


def test_what_is_on_disk_or_was_refused_costs_nothing():
    ledger = Ledger(Budget(calls=1))
    ledger.take(asked(outcome="cached", request="", cached=True))
    ledger.take(asked(outcome="refused"))
    assert ledger.spent == Spent()


def test_a_reply_found_after_a_crash_replaces_what_its_request_was_charged():
    ledger = Ledger(Budget(calls=5), [asked(prompt=1000)])
    ledger.take(answered(asked(prompt=1000), 10, 5, cached=True))
    assert ledger.spent == Spent(1, 15, 4_500_000)


def test_without_a_budget_everything_goes_out_and_is_counted():
    ledger = Ledger()
    call = asked(most=None)
    assert ledger.admit(call) == Admit(call)
    ledger.take(call)
    assert ledger.spent.calls == 1


# -- tokens and money --------------------------------------------------------------------------------------------------


def test_a_request_waits_while_those_in_flight_may_leave_room_and_is_denied_once_they_cannot():
    ledger = Ledger(Budget(tokens=300))
    first = let_out(ledger, asked("a"))
    let_out(ledger, asked("b"), fence=2)
    assert ledger.admit(asked("c")) == Wait()
    ledger.take(answered(first, 100, 10))
    assert ledger.admit(asked("c")) == Wait()
    ledger.land(lambda task_id, fence: False)
    denied = ledger.admit(asked("c"))
    assert isinstance(denied, Deny)
    assert denied.reason == "the budget of 300 tokens was used up (260 spent, and another request may take 150)"


def test_what_never_answered_stays_charged_at_its_most():
    ledger = Ledger(Budget(tokens=150), [asked("a")])
    assert ledger.spent.tokens == 150
    assert isinstance(ledger.admit(asked("b")), Deny)


def test_a_reply_whose_server_does_not_count_is_charged_by_its_own_ceiling_or_its_request_s():
    ledger = Ledger(Budget(tokens=10_000))
    first, second = let_out(ledger, asked("a")), let_out(ledger, asked("b"))
    ledger.take(answered(first))
    ledger.take(answered(second, most=Ceiling(prompt_tokens=100, reply_tokens=7)))
    assert ledger.spent.tokens == 150 + 107


def test_a_model_without_a_limit_is_given_one_that_fits():
    ledger = Ledger(Budget(tokens=10_000))
    assert let_out(ledger, asked("a", reply=None)).most.reply_tokens == REPLY_TOKENS
    assert let_out(ledger, asked("b", prompt=1000, reply=None), 2).most.reply_tokens == REPLY_TOKENS
    assert ledger.admit(asked("c", reply=None)) == Wait()
    ledger.land(lambda task_id, fence: False)
    assert let_out(ledger, asked("c", reply=None)).most.reply_tokens == 10_000 - 2 * REPLY_TOKENS - 1100 - 100
    assert isinstance(ledger.admit(asked("d", prompt=1, reply=None)), Wait)
    small = Ledger(Budget(tokens=100 + LEAST_REPLY_TOKENS - 1)).admit(asked(reply=None))
    assert isinstance(small, Deny)
    assert "does not pay for one request" in small.reason


def test_money_is_counted_exactly_and_free_models_cost_nothing():
    dime = asked(prompt=1, reply=0, prices=(0.1, 0.1))
    ledger = Ledger(Budget(usd=0.3))
    for name in "abc":
        ledger.take(answered(let_out(ledger, msgspec.structs.replace(dime, task_id=name)), cost_usd=0.1))
    assert ledger.spent.usd == 0.3
    assert isinstance(ledger.admit(dime), Deny)
    free = Ledger(Budget(usd=0.01))
    assert let_out(free, asked(reply=None, prices=(0.0, 0.0))).most.reply_tokens == REPLY_TOKENS


def test_a_budget_that_cannot_be_kept_lets_nothing_out():
    unpriced = Ledger(Budget(usd=1.0)).admit(asked(prices=None))
    unbounded = Ledger(Budget(tokens=1000)).admit(asked(most=None))
    assert isinstance(unpriced, Deny)
    assert "price of m" in unpriced.reason
    assert isinstance(unbounded, Deny)


def test_a_closed_ledger_admits_nothing_and_keeps_its_first_reason():
    ledger = Ledger()
    ledger.close("the time is over")
    ledger.close("again")
    assert ledger.admit(asked()) == Deny("the time is over")


class Bills(RuleBasedStateMachine):
    """A provider that bills what it likes below the ceiling, of tasks that ask, wait, retry and die."""

    @initialize(
        calls=st.none() | st.integers(1, 20),
        tokens=st.none() | st.integers(100, 2000),
        usd=st.none() | st.integers(5, 100).map(lambda cents: cents / 100),
        limit=st.none() | st.integers(1, 100),
    )
    def begin(self, calls, tokens, usd, limit):
        if calls is tokens is usd is None:
            calls = 3
        self.budget = Budget(calls=calls, tokens=tokens, usd=usd)
        self.limit = limit
        self.ledger = Ledger(self.budget)
        self.lines, self.flying, self.dead, self.billed, self.counter = [], {}, set(), {}, 0

    def put(self, call, fence=None):
        self.ledger.take(call, fence)
        self.lines.append(call)

    @rule(prompt=st.integers(1, 200), prices=st.sampled_from([(0.001, 0.002), (0.0005, 0.01), (0.0, 0.0)]))
    def ask(self, prompt, prices):
        self.counter += 1
        call = asked(f"t{self.counter}", prompt=prompt, reply=self.limit, prices=prices)
        self.ledger.land(lambda task_id, fence: fence not in self.dead)
        match self.ledger.admit(call):
            case Admit(call=granted):
                self.put(granted, self.counter)
                self.flying[self.counter] = granted
                self.billed[self.counter] = (prompt, granted.most.reply_tokens or 0, prices)
            case Wait():
                assert set(self.flying) - self.dead, "nobody is left to wait for"
            case Deny():
                self.put(msgspec.structs.replace(call, outcome="refused"))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), states_usage=st.booleans())
    def answer(self, data, states_usage):
        fence = data.draw(st.sampled_from(sorted(self.flying)))
        call = self.flying.pop(fence)
        most = call.most.reply_tokens or 0
        prompt, reply = data.draw(st.integers(0, call.most.prompt_tokens)), data.draw(st.integers(0, most))
        self.billed[fence] = (prompt, reply, call.most.prices)
        cost = prompt * call.most.prices[0] + reply * call.most.prices[1]
        told = {"prompt_tokens": prompt, "completion_tokens": reply, "cost_usd": cost} if states_usage else {}
        self.put(msgspec.structs.replace(call, outcome="ok", most=None, **told))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def die(self, data):
        """Its attempt ends without a word; the provider bills it all the same."""
        self.dead.add(data.draw(st.sampled_from(sorted(self.flying))))

    @rule()
    def crash(self):
        """The lab dies, and goes on with what its journal says."""
        spent = self.ledger.spent
        self.ledger = Ledger(self.budget, self.lines)
        assert self.ledger.spent == spent
        self.flying.clear()

    @precondition(lambda self: self.lines)
    @rule(data=st.data())
    def repeat(self, data):
        """The latest line comes twice, as after a lost session."""
        self.ledger.take(self.lines[-1], None)
        self.lines.append(self.lines[-1])
        self.flying = {fence: call for fence, call in self.flying.items() if call != self.lines[-1]}

    @invariant()
    def nothing_is_overdrawn(self):
        if not hasattr(self, "ledger"):
            return
        bills = self.billed.values()
        tokens = sum(prompt + reply for prompt, reply, _ in bills)
        usd = sum(prompt * prices[0] + reply * prices[1] for prompt, reply, prices in bills)
        assert self.ledger.spent.calls == len(bills) <= (self.budget.calls or math.inf)
        if self.budget.tokens is not None:
            assert tokens <= self.ledger.spent.tokens <= self.budget.tokens
        if self.budget.usd is not None:
            assert usd - 1e-9 <= self.ledger.spent.usd <= self.budget.usd


TestBills = Bills.TestCase
TestBills.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


@given(st.permutations(range(6)))
def test_the_sum_does_not_depend_on_the_order_of_answers(order):
    ledger = Ledger(Budget(usd=1.0))
    calls = [let_out(ledger, asked(f"t{n}", prompt=n + 1), n) for n in range(6)]
    for n in order:
        ledger.take(answered(calls[n], n + 1, n))
    assert ledger.spent == Spent(6, 36, 21 * 150_000 + 15 * 600_000)
