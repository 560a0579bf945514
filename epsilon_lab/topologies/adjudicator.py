"""Whoever adjudicates cases, in the leaf: what they answer is read there, so that what is no verdict is a failed row.

It stands around a function, a model, an agent or a program and gives what they give, as an `Answer`. The plan (see
adjudication.py) then sees verdicts and failures, and nothing that would have to be interpreted.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import msgspec

from epsilon_lab.agents.calling import performed
from epsilon_lab.agents.entry_point import find_function
from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.agents.llm import LLM
from epsilon_lab.agents.request import Request
from epsilon_lab.agents.work import Performer, Task, work_of
from epsilon_lab.cases.answer import Answer, read_answer
from epsilon_lab.errors import InvalidInput, LeafFailed
from epsilon_lab.messages.budget import Budget
from epsilon_lab.messages.call import Form
from epsilon_lab.messages.tasks import Lane
from epsilon_lab.topologies.quality import answering


@dataclass(frozen=True)
class Adjudicator:
    """A task that answers cases; see `Performer`."""

    who: Any
    name: str
    lane: Lane
    form: Form
    """How a function is called."""

    asks_model: bool
    time_limit_s: float | None

    @classmethod
    def of(cls, task: Task) -> Adjudicator:
        """Take what a user gave.

        Raises:
            InvalidInput: It is nothing that could be asked, or cannot travel.
        """
        work = work_of("adjudicate task", task)
        who = find_function("adjudicate task", task) if isinstance(task, str) else answering(task, Answer)
        return cls(who, work.name, work.lane, work.form, work.asks_model, work.time_limit_s)

    def validate(self, budget: Budget | None = None) -> None:
        """Refuse what can be known to fail before anything is spent.

        Raises:
            InvalidInput: A model cannot be called, a program is not there.
        """
        if isinstance(self.who, LLM | Performer):
            self.who.validate(budget)

    def perform(self, request: Request, leaf: Leaf) -> Any:
        """Answer a case; its output says which one, too.

        Raises:
            LeafFailed: The answer is no verdict, or there was none.
        """
        is_named = self.form == "request"
        said = self.who(request.as_dict()) if is_named else performed(self.who, request, leaf)
        return _awaited(said, request.item) if self.lane == "async" else _read(said, request.item)


async def _awaited(said: Awaitable[Any], case: dict[str, Any]) -> dict[str, Any]:
    return _read(await said, case)


def _read(said: object, case: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = read_answer(said, case["options"])
    except InvalidInput as error:
        raise LeafFailed(f"case {case['case_id']!r}: {error}") from error
    return {"case_id": case["case_id"], **msgspec.to_builtins(answer)}
