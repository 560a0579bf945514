"""Gates: what stands between a stage's output and whoever builds on it.

A gate is a function, an agent, a command, or a person. A function says what it thinks in the shortest way there is, a
model by a schema, a person by one of the options of a case. Whatever they say, it is a pass, a rejection with its
reason, or no verdict at all; and what is no verdict lets nothing through.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal, NamedTuple

import msgspec

from epsilon_lab.arguments import text
from epsilon_lab.errors import InvalidInput
from epsilon_lab.messages.values import Value

VERDICT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "verdict": {"type": "string", "enum": ["pass", "fail"]},
        "reason": {"type": "string", "description": "What is wrong, for whoever mends it."},
    },
    "required": ["verdict", "reason"],
    "additionalProperties": False,
}
"""What an agent answers that is a gate, as a JSON schema."""

_SHOWN = 200
"""Characters of an answer that is no verdict, in the words about it."""


class Person(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A gate that a person decides, as a case of `run.cases`; nothing but the run itself waits meanwhile.

    Args:
        question: What is asked; by default, whether the stage's output is good.
        options: The verdicts there are.
        passes: Those of them that let the output through; none given: the first. Any other has the stage done again,
            with the note that goes with it.
        role: The role that whoever decides needs; empty for none.

    Raises:
        InvalidInput: A field has a wrong type or value.
    """

    question: str = ""
    options: tuple[str, ...] = ("pass", "reject")
    passes: tuple[str, ...] = ()
    role: str = ""

    def __post_init__(self) -> None:
        text("Person question", self.question, blank=True)
        text("Person role", self.role, blank=True)
        for name in ("options", "passes"):
            given: object = getattr(self, name)
            if not isinstance(given, list | tuple):
                raise InvalidInput(f"Person {name}", f"must be a list of str, got {given!r}")
            msgspec.structs.force_setattr(self, name, tuple(text(f"Person {name}", each) for each in given))
        if len(set(self.options)) != len(self.options) or len(self.options) < 2:
            raise InvalidInput("Person options", f"must be two or more, each once, got {list(self.options)}")
        passes = self.passes or self.options[:1]
        if strangers := [each for each in passes if each not in self.options]:
            raise InvalidInput("Person passes", f"{strangers[0]!r} is not among the options {list(self.options)}")
        if len(passes) == len(self.options):
            raise InvalidInput("Person passes", "are all options there are", "a gate that nothing fails needs nobody")
        msgspec.structs.force_setattr(self, "passes", passes)


class Ruling(NamedTuple):
    """What a gate says of an output."""

    passed: bool
    reason: str
    """Why not; may be empty."""


class _Answer(msgspec.Struct, frozen=True):
    """A verdict of a model or a program; a report of quality reads as one too."""

    verdict: Literal["pass", "fail"]
    reason: str = ""


class _Report(msgspec.Struct, frozen=True):
    status: Literal["pass", "fail"]
    summary: str = ""


def ruling(output: Value | None) -> Ruling | None:
    """Read what a gate answered; None where that is no verdict.

    Args:
        output: `true` and `null` pass; `false` and a text, which is the reason, reject. An object does what its
            `verdict` says, `pass` or `fail`, with its `reason`; or its `status` with its `summary`.
    """
    match answer := said_in(output):
        case None | True:
            return Ruling(passed=True, reason="")
        case False:
            return Ruling(passed=False, reason="")
        case str():
            return Ruling(passed=False, reason=answer)
        case dict():
            try:
                if "status" in answer and "verdict" not in answer:
                    report = msgspec.convert(answer, _Report)
                    return Ruling(report.status == "pass", report.summary)
                said = msgspec.convert(answer, _Answer)
            except msgspec.ValidationError:
                return None
            return Ruling(said.verdict == "pass", said.reason)
        case _:
            return None


def said_in(output: Value | None) -> Any:
    """What a task answered, `...` where it is no JSON; a text that holds an object is that object, as models answer."""
    if output is None or output.form != "json":
        return ...
    answer = msgspec.json.decode(output.data)
    if isinstance(answer, str) and "{" in answer:
        with suppress(msgspec.DecodeError, RecursionError):
            return msgspec.json.decode(answer[answer.find("{") : answer.rfind("}") + 1])
    return answer


def shown(output: Value | None) -> str:
    """An answer that is no verdict, in the words about it."""
    if output is None:
        return "nothing"
    if output.form == "file":
        return f"more than an answer, in {output.data.decode()}"
    if output.form == "pickle":
        return "an object that is no plain data"
    said = output.data.decode("utf-8", "replace")
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]} …"
