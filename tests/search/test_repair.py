"""A malformed reply is asked for again: once, with the reason, and never when a second answer would be the same."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from epsilon_lab.agents.prompt import Message, Prompt
from epsilon_lab.agents.reply import Receipt, Reply
from epsilon_lab.errors import BudgetExhausted, LeafFailed, ModelRefused, ProposalFailed
from epsilon_lab.search.repair import SHOWN_REPLY, ask_repairing, repair_prompt

PROMPT = (Message("user", "Say a number."),)


class Model:
    """Answers in order; an exception is raised."""

    def __init__(self, *answers: str | Exception, finish_reason: str = "stop") -> None:
        self.answers, self.finish_reason = answers, finish_reason
        self.asked: list[tuple[Prompt, int]] = []

    async def ask(self, prompt: Prompt, call: int) -> Reply:
        answer = self.answers[len(self.asked)]
        self.asked.append((prompt, call))
        if isinstance(answer, Exception):
            raise answer
        receipt = Receipt(text=answer, model="m", prompt_sha256="", finish_reason=self.finish_reason)
        return Reply(call=call, prompt_ref="p", reply_ref="r", receipt=receipt)


def number(reply: Reply) -> int:
    try:
        return int(reply.text)
    except ValueError:
        raise ProposalFailed(f"{reply.text!r} is no number") from None


def asked(model: Model) -> tuple[int, Reply]:
    async def main() -> tuple[int, Reply]:
        return await ask_repairing(model.ask, PROMPT, number, form="Give digits.")

    return anyio.run(main)


def calls(model: Model) -> Sequence[int]:
    return [call for _, call in model.asked]


def test_a_good_reply_is_asked_for_once() -> None:
    model = Model("5")
    read, reply = asked(model)
    assert (read, reply.call, calls(model)) == (5, 0, [0])


def test_a_malformed_reply_is_repaired_with_reply_reason_and_form_in_view() -> None:
    model = Model("five", "5")
    read, reply = asked(model)
    assert (read, reply.call, calls(model)) == (5, 1, [0, 1])
    question, answer, told = model.asked[1][0]
    assert question == PROMPT[0]
    assert answer == Message("assistant", "five")
    assert told.role == "user"
    assert "'five' is no number" in told.content
    assert "Give digits." in told.content


def test_there_is_no_third_call() -> None:
    model = Model("five", "six", "7")
    with pytest.raises(ProposalFailed, match=r"^'five' is no number; asked once more: 'six' is no number$"):
        asked(model)
    assert calls(model) == [0, 1]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_what_would_be_answered_alike_is_not_asked_again(reason: str) -> None:
    model = Model("five", "5", finish_reason=reason)
    with pytest.raises(ProposalFailed, match=r"^'five' is no number$"):
        asked(model)
    assert calls(model) == [0]


def test_a_first_question_without_a_reply_has_no_second() -> None:
    model = Model(LeafFailed("model m: no connection"), "5")
    with pytest.raises(LeafFailed, match=r"^model m: no connection$"):
        asked(model)
    assert calls(model) == [0]


def test_a_second_question_without_a_reply_says_both() -> None:
    with pytest.raises(ProposalFailed, match=r"^'five' is no number; asked once more: model m: no connection$"):
        asked(Model("five", LeafFailed("model m: no connection")))


@pytest.mark.parametrize(
    "refusal",
    [ModelRefused(f"{ModelRefused.PREFIX}m: wrong key"), BudgetExhausted(f"{BudgetExhausted.PREFIX}3 calls")],
    ids=["model", "budget"],
)
def test_what_concerns_the_whole_run_is_not_taken_for_a_bad_reply(refusal: LeafFailed) -> None:
    with pytest.raises(LeafFailed) as caught:
        asked(Model("five", refusal))
    assert caught.value is refusal


def test_an_empty_reply_is_shown_as_one() -> None:
    """Providers refuse a message without text."""
    assert repair_prompt(PROMPT, " \n", "x", form="y")[1].content == "(no text)"


def test_a_huge_reply_is_cut() -> None:
    assert len(repair_prompt(PROMPT, "x" * 10**6, "x", form="y")[1].content) < SHOWN_REPLY + 100
