"""What is asked of whoever performs a leaf, as they see it: decoded, complete, the same for all of them.

Values are read when someone looks at them: an input that lies in a file costs nothing to a leaf that never asks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from epsilon_lab.ids import origin
from epsilon_lab.messages.call import Call, Feedback
from epsilon_lab.messages.values import StoredValue, is_plain, restored, stored, unpack
from epsilon_lab.workspace.outputs import task_outputs

if TYPE_CHECKING:
    from epsilon_lab.agents.leaf import Leaf


class Request:
    """A leaf's work.

    Args:
        call: What was sent.
        leaf: The running task.
    """

    def __init__(self, call: Call, leaf: Leaf) -> None:
        self._call = call
        self._leaf = leaf

    def __repr__(self) -> str:
        return f"<Request of {self._leaf.task_id}>"

    @property
    def code(self) -> str:
        """SHA-256 of whoever performs it."""
        return self._call.code

    @property
    def task_id(self) -> str:
        """The task, within its run; what an agent is known by."""
        return self._leaf.task_id

    @property
    def task(self) -> str:
        """What to do, in words; empty where the item says it all."""
        return self._call.instructions

    @functools.cached_property
    def item(self) -> Any:
        """The item it is about; None where there is none."""
        return None if self._call.argument is None else self._read(self._call.argument)

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        """The outputs of what it depends on, in order, by task id, which for a revision is that of the first; within a
        team, by the names in its plan.
        """
        team = self.about.get("team")
        given = {origin(task_id): value for task_id, value in self._given()}
        if not team:
            return {name: self._read(value) for name, value in given.items()}
        given.pop(f"{team}.branch", None)
        return {name.removeprefix(f"{team}."): self._read(value) for name, value in given.items()}

    @property
    def failed(self) -> dict[str, str]:
        """What it depends on and has no output: task id -> error."""
        return {origin(task_id): error for task_id, error in self._call.failed.items()}

    @property
    def feedback(self) -> tuple[Feedback, ...]:
        """Why it is done once more, oldest first; empty the first time."""
        return self._call.feedback

    @property
    def about(self) -> dict[str, Any]:
        """What else is known of the work: role, task_type, acceptance, outputs."""
        return self._call.about

    @property
    def layers(self) -> tuple[str, ...]:
        """References of the published files that its workspace begins with, oldest first."""
        return self._call.layers

    @property
    def needs_files(self) -> tuple[str, ...]:
        """Paths in its workspace that must be files at its end."""
        return self._call.needs_files

    @property
    def verdicts(self) -> str:
        """Reference of the file of verdicts that a function's `flag` answers from; empty for none."""
        return self._call.verdicts

    @property
    def takes_tasks(self) -> bool:
        """Whether further tasks like it may be asked for."""
        return self._call.takes_tasks

    def workspace(self) -> Path:
        """Its own directory, made and filled when it is first asked for; what is changed there is published.

        Raises:
            LabError: The files it begins with are not there, or not as they were published.
        """
        return self._leaf.workspace()

    def arguments(self) -> tuple[Any, ...]:
        """What a function is called with, by the call's form."""
        match self._call.form:
            case "item":
                return (self.item,)
            case "inputs":
                return (self.inputs,)
            case "outputs":
                return (list(self.inputs.values()),)
            case "last":
                return (self._last(self.item),)
            case "record":
                return ({**self.item, "output": self._last(None)},)
            case "request":
                return (self.as_dict(),)

    def _last(self, instead: Any) -> Any:
        """The output of the last that it depends on; this where it depends on nothing."""
        inputs = self._call.inputs
        return self._read(inputs[-1][1]) if inputs else instead

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data, for functions named by entry point and for programs; it asks for the workspace."""
        return {
            "task": self.task,
            "item": self.item,
            "inputs": self.inputs,
            "failed": self.failed,
            "feedback": [msgspec.to_builtins(feedback) for feedback in self.feedback],
            "workspace": str(self.workspace()),
            "agent_id": self.task_id,
            "topics": [],
            "meta": self.about,
        }

    def text(self) -> str:
        """All of it as one text, for a model; an item that is a text and comes alone is that text.

        Half a character, as in the name of a file that is no UTF-8, cannot be sent, and is a question mark.
        """
        return "\n\n".join(self._sections()).encode("utf-8", "replace").decode()

    def _sections(self) -> Iterator[str]:
        call = self._call
        is_alone = not (call.instructions or self.inputs or call.failed or call.feedback or call.about)
        if call.instructions:
            yield call.instructions
        if call.argument is not None:
            yield _written(self.item) if is_alone else f"# Item\n{_written(self.item)}"
        for name, value in call.about.items():
            yield f"# {name.replace('_', ' ').capitalize()}\n{_written(value)}"
        for task_id, value in self.inputs.items():
            yield f"# Output of {task_id}\n{_written(value)}"
        for task_id, error in self.failed.items():
            yield f"# {task_id} failed\n{error}"
        if call.feedback:
            said = "\n".join(
                f"- {each.source}{f' {each.id}' if each.id else ''}: {each.text}" for each in call.feedback
            )
            yield f"# Feedback on what was done before\n{said}"
        if call.needs_files:
            yield "# Files to write\n" + "\n".join(f"- {path}" for path in call.needs_files)

    def _given(self) -> list[tuple[str, StoredValue]]:
        """What it depends on has given, wherever that stands."""
        call, run = self._call, self._leaf.run
        given = list(call.inputs)
        for ref in call.parts:
            given += _PART.decode(run.read_bytes(ref))
        if call.parts:  # they were written as they came
            given.sort(key=lambda pair: pair[0])
        if call.recorded:
            outputs = task_outputs(run, frozenset(call.recorded))
            given += [(task_id, stored(outputs[task_id])) for task_id in call.recorded]
        return given

    def _read(self, value: StoredValue) -> Any:
        return unpack(self._leaf.run.fetch(restored(value)))


_PART = msgspec.json.Decoder(list[tuple[str, StoredValue]])


def _written(value: Any) -> str:
    """A value as a model reads it: a text as it is, plain data as JSON, all else as Python shows it."""
    if isinstance(value, str):
        return value
    return msgspec.json.format(msgspec.json.encode(value)).decode() if is_plain(value) else repr(value)
