"""What a function with a parameter `flag` is given: the way to leave a question to a decider, and to hear the answer.

A function asks, and goes on with what it has: nothing waits. Once there is a verdict, it is called again over the same
inputs, asks again, and is told. So a case must be the same one each time: it is known by who asks and what about, and
by nothing that an edit, another run or another order of events would change. Who judges what others made (a gate, a
review) is told once that is made anew, and not called again for its own question's sake: QA is.

What was flagged counts with the result of the attempt that is accepted; of one that fails, nothing is on record.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import msgspec

from epsilon_lab.agents.leaf import Leaf
from epsilon_lab.errors import InvalidInput
from epsilon_lab.ids import name_of
from epsilon_lab.messages.events import CaseFlagged
from epsilon_lab.messages.flagged import flagged
from epsilon_lab.workspace.layout import RunDirectory


def takes_flag(function: object, *named: str) -> bool:
    """Tell whether a function is to be given `flag`: it has a parameter of that name, beside those for its input, that
    is None or nothing by default.

    Args:
        function: The function, or anything else.
        named: The names by which it is given its input; none for one input by its place.
    """
    try:
        signature = inspect.signature(function)  # type: ignore[arg-type]  # what is no function says so
        signature.bind(*(() if named else (None,)), flag=None, **dict.fromkeys(named))
    except (TypeError, ValueError):
        return False
    parameter = signature.parameters.get("flag")
    return parameter is not None and (parameter.default is None or parameter.default is parameter.empty)


class Flagging:
    """`flag`, for one call of a function.

    Args:
        leaf: The running task.
        function: The one that asks.
        verdicts: Reference of the file of what is decided; empty for nothing.
    """

    def __init__(self, leaf: Leaf, function: Callable[..., Any], verdicts: str) -> None:
        self._leaf = leaf
        self._flagged_by = name_of(function)
        self._verdicts = verdicts
        self._asked: dict[str, CaseFlagged] = {}

    def __repr__(self) -> str:
        return f"<flag of {self._flagged_by}>"

    def __call__(self, **asked: Any) -> str | None:
        """Leave a question to a decider, as `reducers.Flag` says."""
        line = flagged(self._flagged_by, self._leaf.task_id, **asked)
        if self._verdicts:
            told = read_verdicts(self._leaf.run, self._verdicts).get(line.case_id)
            line = msgspec.structs.replace(line, told=told)
        first = self._asked.setdefault(line.case_id, line)
        if first is line:
            self._leaf.flags.append(line)
        elif (first.question, first.options) != (line.question, line.options):
            what = f"flag(key={line.key!r})"
            raise InvalidInput(what, "was flagged before in this call, with another question", "give it another key")
        return line.told if line.told in line.options else None  # who offers less leaves it to whoever offers that


@functools.lru_cache(maxsize=4)
def read_verdicts(run: RunDirectory, ref: str) -> dict[str, str]:
    """What was decided, by case id; a file of verdicts is written once and never changed."""
    return msgspec.json.decode(run.read_bytes(ref), type=dict[str, str])
